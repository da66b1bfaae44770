package codec

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Key returns the codec for keys. As a key is looked up by its bytes, two keys
// have the same bytes exactly if they are equal (==), and bytes sort as the
// keys they stand for do: numbers by value, strings by their bytes, structs
// and arrays by their first difference.
//
// Strings, booleans, numbers, arrays of bytes and the empty struct are encoded
// as by [For], except that -0 becomes 0, which it is equal to, and that NaN,
// which is not even equal to itself, is an error. A struct is encoded field by
// field, and an array element by element; the name lists their types, as in
// "(raw,int64)". Methods of the type are used only where it has unexported
// fields, as netip.Addr does.
//
// The error says which type cannot be in a key and where it is within K:
// everything that For does not store, pointers, interfaces, and structs with
// unexported fields and no methods. A type that hides a pointer, as time.Time
// does, is refused even if it has methods: values that are not equal would
// have the same bytes. Use t.UnixNano() or a formatted time instead.
func Key[K comparable]() (Codec[K], error) {
	t := reflect.TypeFor[K]()
	switch t.Kind() {
	case reflect.Float32:
		return as[K](hide(keyFloat(float32Codec()))), nil
	case reflect.Float64:
		return as[K](hide(keyFloat(float64Codec()))), nil
	}
	if c, ok := simple[K](t); ok {
		return c, nil
	}
	p, err := partOf(t, t, "")
	if err != nil {
		return Codec[K]{}, err
	}
	return Codec[K]{
		Name: p.name,
		Append: func(dst []byte, k K) ([]byte, error) {
			return p.append(dst, reflect.ValueOf(&k).Elem(), true)
		},
		Decode: func(src []byte) (K, error) {
			var k K
			rest, err := p.decode(src, reflect.ValueOf(&k).Elem(), true)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("codec: key has %d bytes too many", len(rest))
			}
			return k, err
		},
	}, nil
}

// keyFloat makes base fit for keys: one zero, and no NaN.
func keyFloat[F float32 | float64](base Codec[F]) Codec[F] {
	return Codec[F]{
		Name: base.Name,
		Append: func(dst []byte, v F) ([]byte, error) {
			if v != v {
				return dst, errNaN
			}
			return base.Append(dst, v+0) // -0 + 0 is 0
		},
		Decode: func(src []byte) (F, error) {
			v, err := base.Decode(src)
			if err == nil && v != v {
				err = errNaN
			}
			return v + 0, err
		},
	}
}

var errNaN = errors.New("codec: NaN cannot be a key")

// part is the codec of a component of a key. A component that has no fixed
// size is terminated, unless it is the last of the whole key.
type part struct {
	name   string
	append func(dst []byte, v reflect.Value, last bool) ([]byte, error)
	decode func(src []byte, v reflect.Value, last bool) (rest []byte, err error)
}

// partOf returns the part for t, which is found at path in root.
func partOf(root, t reflect.Type, path string) (part, error) {
	switch t.Kind() {
	case reflect.String:
		return stringPart(), nil
	case reflect.Bool:
		return fixedPart(boolCodec()), nil
	case reflect.Int:
		return fixedPart(intCodec[int]()), nil
	case reflect.Int8:
		return fixedPart(intCodec[int8]()), nil
	case reflect.Int16:
		return fixedPart(intCodec[int16]()), nil
	case reflect.Int32:
		return fixedPart(intCodec[int32]()), nil
	case reflect.Int64:
		return fixedPart(intCodec[int64]()), nil
	case reflect.Uint:
		return fixedPart(uintCodec[uint]()), nil
	case reflect.Uint8:
		return fixedPart(uintCodec[uint8]()), nil
	case reflect.Uint16:
		return fixedPart(uintCodec[uint16]()), nil
	case reflect.Uint32:
		return fixedPart(uintCodec[uint32]()), nil
	case reflect.Uint64:
		return fixedPart(uintCodec[uint64]()), nil
	case reflect.Uintptr:
		return fixedPart(uintCodec[uintptr]()), nil
	case reflect.Float32:
		return fixedPart(keyFloat(float32Codec())), nil
	case reflect.Float64:
		return fixedPart(keyFloat(float64Codec())), nil
	case reflect.Array:
		return arrayPart(root, t, path)
	case reflect.Struct:
		return structPart(root, t, path)
	}
	return part{}, unsupported(root, path, t, "it cannot be a key or a part of one")
}

// fixedPart is the part for a type made of B, whose encodings are all of one
// size.
func fixedPart[B any](base Codec[B]) part {
	var zero B
	b, _ := base.Append(nil, zero)
	size := len(b)
	return part{
		name: base.Name,
		append: func(dst []byte, v reflect.Value, _ bool) ([]byte, error) {
			return base.Append(dst, *(*B)(v.Addr().UnsafePointer()))
		},
		decode: func(src []byte, v reflect.Value, _ bool) ([]byte, error) {
			if len(src) < size {
				return src, errShort
			}
			b, err := base.Decode(src[:size])
			if err == nil {
				*(*B)(v.Addr().UnsafePointer()) = b
			}
			return src[size:], err
		},
	}
}

func stringPart() part {
	return part{
		name: "raw",
		append: func(dst []byte, v reflect.Value, last bool) ([]byte, error) {
			if last {
				return append(dst, v.String()...), nil
			}
			return appendTerminated(dst, v.String()), nil
		},
		decode: func(src []byte, v reflect.Value, last bool) (rest []byte, err error) {
			if !last {
				src, rest, err = cutTerminated(src)
			}
			v.SetString(string(src))
			return rest, err
		},
	}
}

// methodsPart is the part for t, which encodes itself.
func methodsPart(t reflect.Type) part {
	// Through an embedded struct that is not exported, v gives no Interface.
	self := func(v reflect.Value) any { return reflect.NewAt(t, v.Addr().UnsafePointer()).Interface() }
	return part{
		name: "binary",
		append: func(dst []byte, v reflect.Value, last bool) ([]byte, error) {
			if last {
				return appendBinary(dst, self(v))
			}
			b, err := appendBinary(nil, self(v))
			return appendTerminated(dst, string(b)), err
		},
		decode: func(src []byte, v reflect.Value, last bool) (rest []byte, err error) {
			if !last {
				if src, rest, err = cutTerminated(src); err != nil {
					return nil, err
				}
			}
			return rest, self(v).(encoding.BinaryUnmarshaler).UnmarshalBinary(src)
		},
	}
}

func arrayPart(root, t reflect.Type, path string) (part, error) {
	elem, err := partOf(root, t.Elem(), path+"[]")
	if err != nil {
		return part{}, err
	}
	n := t.Len()
	return part{
		name: fmt.Sprintf("%s[%d]", elem.name, n),
		append: func(dst []byte, v reflect.Value, last bool) (_ []byte, err error) {
			for i := 0; i < n && err == nil; i++ {
				dst, err = elem.append(dst, v.Index(i), last && i == n-1)
			}
			return dst, err
		},
		decode: func(src []byte, v reflect.Value, last bool) (_ []byte, err error) {
			for i := 0; i < n && err == nil; i++ {
				src, err = elem.decode(src, v.Index(i), last && i == n-1)
			}
			return src, err
		},
	}, nil
}

func structPart(root, t reflect.Type, path string) (part, error) {
	var parts []part
	var names []string
	var index []int
	for f := range t.Fields() {
		if f.Name == "_" {
			continue // == does not look at it
		}
		if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) {
			return opaquePart(root, t, path)
		}
		p, err := partOf(root, f.Type, path+"."+f.Name)
		if err != nil {
			return part{}, err
		}
		parts, names, index = append(parts, p), append(names, p.name), append(index, f.Index[0])
	}
	return part{
		name: "(" + strings.Join(names, ",") + ")",
		append: func(dst []byte, v reflect.Value, last bool) (_ []byte, err error) {
			for i := 0; i < len(parts) && err == nil; i++ {
				dst, err = parts[i].append(dst, v.Field(index[i]), last && i == len(parts)-1)
			}
			return dst, err
		},
		decode: func(src []byte, v reflect.Value, last bool) (_ []byte, err error) {
			for i := 0; i < len(parts) && err == nil; i++ {
				src, err = parts[i].decode(src, v.Field(index[i]), last && i == len(parts)-1)
			}
			return src, err
		},
	}, nil
}

// opaquePart is the part for a struct whose fields are not all exported.
func opaquePart(root, t reflect.Type, path string) (part, error) {
	ok, err := marshalsBinary(t)
	switch {
	case err != nil:
		return part{}, unsupported(root, path, t, err.Error())
	case !ok:
		return part{}, unsupported(root, path, t, "it has unexported fields, by which keys may differ, and no MarshalBinary")
	case pointsSomewhere(t):
		return part{}, unsupported(root, path, t, "it has a pointer inside, so values that are not equal may have the same bytes")
	}
	return methodsPart(t), nil
}

// pointsSomewhere reports whether comparing two values of t may compare
// pointers. A unique.Handle does, but as its values' equals.
func pointsSomewhere(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Chan, reflect.UnsafePointer:
		return true
	case reflect.Array:
		return pointsSomewhere(t.Elem())
	case reflect.Struct:
		if t.PkgPath() == "unique" {
			return false
		}
		for f := range t.Fields() {
			if f.Name != "_" && pointsSomewhere(f.Type) {
				return true
			}
		}
	}
	return false
}

var errShort = errors.New("codec: key ends too early")

// appendTerminated appends s such that its end can be found and that the order
// is kept: a zero becomes 00 FF, and 00 01 is the end.
func appendTerminated(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, s[i])
		if s[i] == 0 {
			dst = append(dst, 0xFF)
		}
	}
	return append(dst, 0, 1)
}

// cutTerminated is the inverse of appendTerminated. It returns what follows
// the end as rest.
func cutTerminated(src []byte) (s, rest []byte, err error) {
	for i := 0; ; {
		n := bytes.IndexByte(src[i:], 0)
		if n < 0 || i+n+1 == len(src) {
			return nil, nil, errShort
		}
		s = append(s, src[i:i+n]...)
		i += n + 2
		switch src[i-1] {
		case 1:
			return s, src[i:], nil
		case 0xFF:
			s = append(s, 0)
		default:
			return nil, nil, errors.New("codec: key has a zero that is neither a byte nor an end")
		}
	}
}
