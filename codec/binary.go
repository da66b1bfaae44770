package codec

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
)

var (
	binaryAppender    = reflect.TypeFor[encoding.BinaryAppender]()
	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// ownMethods returns a codec that uses T's own methods, if it has any.
func ownMethods[T any](t reflect.Type) (c Codec[T], ok bool, err error) {
	elem := t
	if t.Kind() == reflect.Pointer {
		elem = t.Elem()
	}
	if ok, err = marshalsBinary(elem); !ok {
		if err != nil {
			err = unsupported(t, "", elem, err.Error())
		}
		return c, false, err
	}
	if elem != t {
		return binaryPointer[T](elem), true, nil
	}
	return Codec[T]{
		Name: "binary",
		Append: func(dst []byte, v T) ([]byte, error) {
			return appendBinary(dst, &v)
		},
		Decode: func(src []byte) (T, error) {
			var v T
			err := any(&v).(encoding.BinaryUnmarshaler).UnmarshalBinary(src)
			return v, err
		},
	}, true, nil
}

// binaryPointer is the codec of T, a pointer to elem. A nil pointer is
// nothing, another one a byte 1 and then what elem's methods make of it.
func binaryPointer[T any](elem reflect.Type) Codec[T] {
	pointer := reflect.PointerTo(elem) // which T need not be, only made of: then T has no methods
	return Codec[T]{
		Name: "binary-pointer",
		Append: func(dst []byte, v T) ([]byte, error) {
			if reflect.ValueOf(&v).Elem().IsNil() {
				return dst, nil
			}
			return appendBinary(append(dst, 1), reflect.ValueOf(v).Convert(pointer).Interface())
		},
		Decode: func(src []byte) (v T, err error) {
			if len(src) == 0 {
				return v, nil
			}
			if src[0] != 1 {
				return v, errors.New("codec: binary-pointer starts with another byte than 1")
			}
			p := reflect.New(elem)
			if err := p.Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(src[1:]); err != nil {
				return v, err
			}
			return p.Convert(reflect.TypeFor[T]()).Interface().(T), nil
		},
	}
}

// appendBinary appends what the methods of p, a pointer, make of its value.
func appendBinary(dst []byte, p any) ([]byte, error) {
	if a, ok := p.(encoding.BinaryAppender); ok {
		return a.AppendBinary(dst)
	}
	b, err := p.(encoding.BinaryMarshaler).MarshalBinary()
	return append(dst, b...), err
}

// marshalsBinary reports whether t has methods that encode and decode it, and
// fails if it has only half of them, or has them from a field it embeds, so
// that they know nothing of its other fields.
func marshalsBinary(t reflect.Type) (bool, error) {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return false, nil
	}
	p := reflect.PointerTo(t)
	appends, marshals := p.Implements(binaryAppender), p.Implements(binaryMarshaler)
	if !appends && !marshals {
		return false, nil
	}
	if !p.Implements(binaryUnmarshaler) {
		return false, errors.New("it has MarshalBinary or AppendBinary but no UnmarshalBinary")
	}
	if appends {
		onPtr, _ := p.MethodByName("AppendBinary")
		onValue, _ := t.MethodByName("AppendBinary")
		if err := promoted(t, binaryAppender, onPtr, onValue); err != nil {
			return false, err
		}
	} else if err := promotedMarshal(t); err != nil {
		return false, err
	}
	onPtr, _ := p.MethodByName("UnmarshalBinary")
	onValue, _ := t.MethodByName("UnmarshalBinary")
	if err := promoted(t, binaryUnmarshaler, onPtr, onValue); err != nil {
		return false, err
	}
	return true, nil
}

// promotedMarshal is promoted for MarshalBinary.
func promotedMarshal(t reflect.Type) error {
	onPtr, _ := reflect.PointerTo(t).MethodByName("MarshalBinary")
	onValue, _ := t.MethodByName("MarshalBinary")
	return promoted(t, binaryMarshaler, onPtr, onValue)
}

// promoted returns an error if t has the one method of an interface from a
// field that it embeds, and other fields, of which that knows nothing. onPtr
// and onValue are the method of *t and, if it has it, of t. Callers look them up
// by constant names: otherwise the linker would keep every method there is.
func promoted(t, of reflect.Type, onPtr, onValue reflect.Method) error {
	if t.Kind() == reflect.Struct && t.NumField() > 1 && embeds(t, of) &&
		generated(onPtr) && (!onValue.Func.IsValid() || generated(onValue)) {
		return fmt.Errorf("its %s is that of a field it embeds and would leave out the other fields; "+
			"give the field a name, or the type methods of its own", onPtr.Name)
	}
	return nil
}

// embeds reports whether a field that t embeds implements an interface.
func embeds(t, iface reflect.Type) bool {
	for f := range t.Fields() {
		if f.Anonymous {
			p := f.Type
			if p.Kind() != reflect.Pointer && p.Kind() != reflect.Interface {
				p = reflect.PointerTo(p)
			}
			if p.Implements(iface) {
				return true
			}
		}
	}
	return false
}

// generated reports whether the compiler wrote m, as it does to promote a
// method from an embedded field.
func generated(m reflect.Method) bool {
	fn := runtime.FuncForPC(m.Func.Pointer())
	if fn == nil {
		return false
	}
	file, _ := fn.FileLine(fn.Entry())
	return strings.HasSuffix(file, "<autogenerated>")
}
