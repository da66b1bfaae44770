// Package codec turns Go values into bytes and back.
//
// [For] chooses the encoding of a cache's values by their type, [Key] the
// encoding of its keys. Both look at the type once and return functions that
// do no more than encode, so ask for a codec once and keep it.
//
// # What For chooses
//
//   - A type with its own MarshalBinary or AppendBinary, and UnmarshalBinary,
//     on the value or on the pointer, is encoded by these: "binary".
//     A pointer to such a type gets one byte more, to tell nil: "binary-pointer".
//   - Strings and slices of bytes are their bytes: "raw". Arrays of bytes too:
//     "bytes[32]".
//   - Booleans and numbers have a fixed width, in an order in which sorted
//     bytes are sorted numbers: "bool", "int64", "uint8", "float64". int and
//     uint are stored as 64 bits on every machine.
//   - A struct without fields is nothing: "empty".
//   - Everything else is deterministic CBOR (RFC 8949, section 4.2): "cbor".
//     [CBOR] says what it keeps and what it does not.
//
// A named type is encoded as the type it is made of, so naming a type later
// does not make stored data unreadable.
//
// The functions of a Codec may be called concurrently. A panic in a method of
// a user's type is not recovered here.
package codec

import (
	"fmt"
	"reflect"
	"unsafe"
)

// Codec turns values of T into bytes and back. A Codec made by hand must keep
// the promises written at its fields.
type Codec[T any] struct {
	// Name says how the bytes are to be read. It is stored with the data, and
	// data stored under another name is not given to Decode. It must be
	// changed whenever the bytes change their meaning.
	Name string

	// Schema is a fingerprint of what the values look like, if their type
	// says more than Name does. It is stored with the data, too: what was
	// built when it was another is built again.
	Schema string

	// Append appends the encoding of v to dst and returns the longer slice.
	// It keeps neither. Equal values should give equal bytes, as far as that
	// is possible: a value whose bytes changed counts as changed. On an error
	// what it returns must not be used, and dst's contents are as before, but
	// not the bytes between its length and its capacity.
	Append func(dst []byte, v T) ([]byte, error)

	// Decode returns the value that Append wrote. It owns src from then on:
	// the value may keep parts of it, so nobody may change it. Decode itself
	// never does. Bytes that Append cannot have written give an error or some
	// value, but no panic, and cost no more memory than is proportional to
	// their number.
	Decode func(src []byte) (T, error)
}

// For returns the default codec for values of T; the package comment says
// which it is.
//
// The error says which type cannot be stored and where it is within T:
// channels, functions, unsafe pointers, complex numbers, uintptr within another
// type, interfaces with methods, types that can be encoded but not decoded,
// structs of which nothing, or not everything that looks stored, would be, and
// maps with keys that would not come back as the same.
//
// Values come back equal to what they were, with these exceptions: a nil slice
// of bytes comes back empty where T is a slice of bytes, and what [CBOR] says.
func For[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if c, ok, err := ownMethods[T](t); ok || err != nil {
		return c, err
	}
	if c, ok := simple[T](t); ok {
		return c, nil
	}
	return CBOR[T]()
}

// simple returns the codec of a type whose kind has one.
func simple[T any](t reflect.Type) (Codec[T], bool) {
	if c := basic(t); c != nil {
		return as[T](c), true
	}
	switch {
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8:
		return arrayCodec[T](t.Len()), true
	case t.Kind() == reflect.Struct && t.NumField() == 0:
		return emptyCodec[T](), true
	}
	return Codec[T]{}, false
}

// alike is a Codec[B], of a B that any type it is returned for is made of: that is
// of the same kind and, if a slice, with elements of the same kind.
type alike *Codec[struct{}]

// basic returns the codec of the type that t is made of, or nil if there is none.
func basic(t reflect.Type) alike {
	switch t.Kind() {
	case reflect.String:
		return hide(stringCodec())
	case reflect.Bool:
		return hide(boolCodec())
	case reflect.Int:
		return hide(intCodec[int]())
	case reflect.Int8:
		return hide(intCodec[int8]())
	case reflect.Int16:
		return hide(intCodec[int16]())
	case reflect.Int32:
		return hide(intCodec[int32]())
	case reflect.Int64:
		return hide(intCodec[int64]())
	case reflect.Uint:
		return hide(uintCodec[uint]())
	case reflect.Uint8:
		return hide(uintCodec[uint8]())
	case reflect.Uint16:
		return hide(uintCodec[uint16]())
	case reflect.Uint32:
		return hide(uintCodec[uint32]())
	case reflect.Uint64:
		return hide(uintCodec[uint64]())
	case reflect.Uintptr:
		return hide(uintCodec[uintptr]())
	case reflect.Float32:
		return hide(float32Codec())
	case reflect.Float64:
		return hide(float64Codec())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return hide(bytesCodec())
		}
	}
	return nil
}

func hide[B any](c Codec[B]) alike { return alike(unsafe.Pointer(&c)) }

// as makes c one of T. Values of T are passed and returned as those of the type it is
// made of are, so the functions can be called as they are: a named type costs nothing,
// and nothing of this is compiled for each T.
func as[T any](c alike) Codec[T] { return *(*Codec[T])(unsafe.Pointer(c)) }

// errLength is returned for an encoding of fixed size that has another one.
func errLength(name string, got, want int) error {
	return fmt.Errorf("codec: %s is %d bytes long, not %d", name, got, want)
}
