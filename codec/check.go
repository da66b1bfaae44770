package codec

import (
	"cmp"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// check walks through t and all types in it as CBOR would. It fails at the
// first that cannot be stored or would lose data unnoticed.
func check(t reflect.Type) error {
	c := checker{root: t, state: make(map[reflect.Type]bool)}
	return c.check(t, "")
}

type checker struct {
	root  reflect.Type
	state map[reflect.Type]bool // true while the type is being checked, false after
}

var (
	cborMarshaler   = reflect.TypeFor[cbor.Marshaler]()
	cborUnmarshaler = reflect.TypeFor[cbor.Unmarshaler]()

	// cborOwn are the types that the CBOR package treats by itself.
	cborOwn = map[reflect.Type]bool{
		reflect.TypeFor[time.Time]():        true,
		reflect.TypeFor[big.Int]():          true,
		reflect.TypeFor[cbor.RawMessage]():  true,
		reflect.TypeFor[cbor.ByteString]():  true,
		reflect.TypeFor[cbor.SimpleValue](): true,
	}
)

// check checks t, which is found at path in the root.
func (c *checker) check(t reflect.Type, path string) error {
	if _, seen := c.state[t]; seen {
		return nil
	}
	c.state[t] = true
	defer func() { c.state[t] = false }()

	if cborOwn[t] {
		return nil
	}
	if p := reflect.PointerTo(t); t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		if p.Implements(cborMarshaler) {
			if !p.Implements(cborUnmarshaler) {
				return c.unsupported(path, t, "it has MarshalCBOR but no UnmarshalCBOR")
			}
			if err := promotedCBOR(t); err != nil {
				return c.unsupported(path, t, err.Error())
			}
			return nil
		}
		ok, err := marshalsBinary(t)
		if err != nil {
			return c.unsupported(path, t, err.Error())
		}
		if ok {
			if !p.Implements(binaryMarshaler) {
				return c.unsupported(path, t, "it has AppendBinary but no MarshalBinary, which is needed within another type")
			}
			if err := promotedMarshal(t); err != nil {
				return c.unsupported(path, t, err.Error())
			}
			return nil
		}
	}

	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return c.unsupported(path, t, "it has a meaning in this process only")
	case reflect.Uintptr:
		return c.unsupported(path, t, "it can be stored by itself only")
	case reflect.Complex64, reflect.Complex128:
		return c.unsupported(path, t, "complex numbers are not supported")
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return c.unsupported(path, t, "which type to decode into would not be known")
		}
		return nil
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer && c.state[t.Elem()] {
			return c.unsupported(path, t, "it points to nothing but pointers")
		}
		return c.check(t.Elem(), path)
	case reflect.Slice, reflect.Array:
		return c.check(t.Elem(), path+"[]")
	case reflect.Map:
		if err := c.check(t.Key(), path+"[key]"); err != nil {
			return err
		}
		if err := c.checkKey(t.Key(), path+"[key]"); err != nil {
			return err
		}
		return c.check(t.Elem(), path+"[]")
	case reflect.Struct:
		return c.checkStruct(t, path)
	}
	return nil
}

// checkKey checks t, whose values are keys or parts of keys in a map: two that
// differ must not come back as one, and each as the same.
func (c *checker) checkKey(t reflect.Type, path string) error {
	switch t.Kind() {
	case reflect.Pointer:
		return c.unsupported(path, t, "a pointer as key would not come back as the same")
	case reflect.Array:
		return c.checkKey(t.Elem(), path+"[]")
	case reflect.Struct:
		if encodesItself(t) {
			return nil
		}
		for f := range t.Fields() {
			at := path + "." + f.Name
			if f.Name == "_" {
				continue // == does not look at it
			}
			if !storedField(f) {
				return c.unsupported(at, f.Type, "keys may differ by it, and it is not stored")
			}
			if err := c.checkKey(f.Type, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// encodesItself reports whether values of t are not encoded by their kind.
func encodesItself(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	return cborOwn[t] || p.Implements(cborMarshaler) || p.Implements(binaryMarshaler)
}

// storedField reports whether the CBOR of a struct has f, or what f embeds.
func storedField(f reflect.StructField) bool {
	elem := f.Type
	if elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	return fieldTag(f) != "-" && (f.IsExported() || f.Anonymous && elem.Kind() == reflect.Struct)
}

// fieldTag is the tag that says how f is stored.
func fieldTag(f reflect.StructField) string {
	return cmp.Or(f.Tag.Get("cbor"), f.Tag.Get("json"))
}

// promotedCBOR is promoted for the methods of the CBOR package.
func promotedCBOR(t reflect.Type) error {
	p := reflect.PointerTo(t)
	onPtr, _ := p.MethodByName("MarshalCBOR")
	onValue, _ := t.MethodByName("MarshalCBOR")
	if err := promoted(t, cborMarshaler, onPtr, onValue); err != nil {
		return err
	}
	onPtr, _ = p.MethodByName("UnmarshalCBOR")
	onValue, _ = t.MethodByName("UnmarshalCBOR")
	return promoted(t, cborUnmarshaler, onPtr, onValue)
}

func (c *checker) checkStruct(t reflect.Type, path string) error {
	f := fields{names: make(map[string]string), embedding: map[reflect.Type]bool{t: true}}
	err := c.checkFields(&f, t, path)
	if err == nil && len(f.names) == 0 && f.hidden {
		err = c.unsupported(path, t, "it has no exported field that would be stored; "+
			"give it MarshalBinary and UnmarshalBinary, or leave it out with a tag `cbor:\"-\"`")
	}
	return err
}

// fields is what is known of a struct and of the structs that it embeds, whose
// fields are stored as if they were its own.
type fields struct {
	names     map[string]string     // where the field is that is stored under a name
	embedding map[reflect.Type]bool // the structs on the way to where checkFields is
	hidden    bool                  // there are fields that are not stored
}

func (c *checker) checkFields(into *fields, t reflect.Type, path string) error {
	for f := range t.Fields() {
		at := path + "." + f.Name
		elem := f.Type
		if f.Anonymous && elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		embedded := f.Anonymous && elem.Kind() == reflect.Struct
		if f.Name == "_" {
			continue
		}
		if !storedField(f) {
			into.hidden = true
			continue
		}
		if !f.IsExported() && elem != f.Type {
			return c.unsupported(at, f.Type, "a pointer to an unexported struct that is embedded could not be set")
		}
		name, options, _ := strings.Cut(fieldTag(f), ",")
		if embedded && name == "" {
			if into.embedding[elem] {
				return c.unsupported(at, f.Type, "it embeds itself")
			}
			into.embedding[elem] = true
			before := len(into.names)
			if err := c.checkFields(into, elem, at); err != nil {
				return err
			}
			delete(into.embedding, elem)
			if elem.NumField() > 0 && len(into.names) == before {
				return c.unsupported(at, f.Type, "it is embedded and none of its fields would be stored; "+
					"leave it out with a tag `cbor:\"-\"`")
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		if slices.Contains(strings.Split(options, ","), "keyasint") {
			n, err := strconv.Atoi(name)
			if err != nil {
				return c.unsupported(at, f.Type, "its tag has keyasint and no number")
			}
			name = fmt.Sprint(n, ",keyasint") // 01 is 1, and neither is the string "1"
		}
		if other, taken := into.names[name]; taken {
			return c.unsupported(at, f.Type, "it would be stored under the same name as "+other)
		}
		into.names[name] = strings.TrimPrefix(at, ".")
		if err := c.check(f.Type, at); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) unsupported(path string, t reflect.Type, reason string) error {
	return unsupported(c.root, path, t, reason)
}

// unsupported is the error for a type, found at path in root, that cannot be
// stored.
func unsupported(root reflect.Type, path string, t reflect.Type, reason string) error {
	if path == "" {
		return fmt.Errorf("codec: %v cannot be stored: %s", root, reason)
	}
	return fmt.Errorf("codec: %v cannot be stored: %s is %v: %s", root, strings.TrimPrefix(path, "."), t, reason)
}
