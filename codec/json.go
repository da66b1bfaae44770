package codec

import "encoding/json"

// JSON returns a codec that stores values as encoding/json does, named
// "json": readable, portable, and larger and slower than what [For] chooses.
// Nothing is checked beforehand; a type that cannot be stored gives an error
// when a value of it is encoded, and what encoding/json leaves out is lost.
func JSON[T any]() Codec[T] {
	return Codec[T]{
		Name: "json",
		Append: func(dst []byte, v T) ([]byte, error) {
			b, err := json.Marshal(v)
			return append(dst, b...), err
		},
		Decode: func(src []byte) (v T, err error) {
			err = json.Unmarshal(src, &v)
			return v, err
		},
	}
}
