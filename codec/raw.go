package codec

import (
	"fmt"
	"reflect"
	"unsafe"
)

// bytesCodec stores a slice as it is. What Decode returns is src itself, with
// no room to append into; nil comes back empty.
func bytesCodec() Codec[[]byte] {
	return Codec[[]byte]{
		Name: "raw",
		Append: func(dst []byte, v []byte) ([]byte, error) {
			return append(dst, v...), nil
		},
		Decode: func(src []byte) ([]byte, error) {
			if src == nil {
				return []byte{}, nil
			}
			return src[:len(src):len(src)], nil
		},
	}
}

// stringCodec stores a string as it is, valid UTF-8 or not. What Decode
// returns shares memory with src, which is why nobody may change src.
func stringCodec() Codec[string] {
	return Codec[string]{
		Name: "raw",
		Append: func(dst []byte, v string) ([]byte, error) {
			return append(dst, v...), nil
		},
		Decode: func(src []byte) (string, error) {
			return unsafe.String(unsafe.SliceData(src), len(src)), nil
		},
	}
}

// arrayCodec stores an array of n bytes.
func arrayCodec[T any](n int) Codec[T] {
	name := fmt.Sprintf("bytes[%d]", n)
	return Codec[T]{
		Name: name,
		Append: func(dst []byte, v T) ([]byte, error) {
			return append(dst, reflect.ValueOf(&v).Elem().Bytes()...), nil
		},
		Decode: func(src []byte) (T, error) {
			var v T
			if len(src) != n {
				return v, errLength(name, len(src), n)
			}
			copy(reflect.ValueOf(&v).Elem().Bytes(), src)
			return v, nil
		},
	}
}

// emptyCodec stores a type that has only one value.
func emptyCodec[T any]() Codec[T] {
	return Codec[T]{
		Name:   "empty",
		Append: func(dst []byte, _ T) ([]byte, error) { return dst, nil },
		Decode: func(src []byte) (v T, err error) {
			if len(src) != 0 {
				err = errLength("empty", len(src), 0)
			}
			return v, err
		},
	}
}
