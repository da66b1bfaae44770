package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"unsafe"
)

type signed interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64
}

type unsigned interface {
	~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// width is the number of bytes that an I is stored in: its own size, but 8
// where that size depends on the machine.
func width[I signed | unsigned](kind reflect.Kind) int {
	switch kind {
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		return 8
	}
	var i I
	return int(unsafe.Sizeof(i))
}

// intCodec stores big-endian two's complement with the sign bit flipped, which
// sorts as the numbers do.
func intCodec[I signed]() Codec[I] {
	size := width[I](reflect.TypeFor[I]().Kind())
	name := fmt.Sprintf("int%d", 8*size)
	flip := uint64(1) << (8*size - 1)
	return Codec[I]{
		Name: name,
		Append: func(dst []byte, v I) ([]byte, error) {
			return appendBig(dst, uint64(v)^flip, size), nil
		},
		Decode: func(src []byte) (I, error) {
			if len(src) != size {
				return 0, errLength(name, len(src), size)
			}
			shift := 64 - 8*size
			wide := int64((bigEndian(src)^flip)<<shift) >> shift
			if int64(I(wide)) != wide {
				return 0, fmt.Errorf("codec: %d is too large for int on this machine", wide)
			}
			return I(wide), nil
		},
	}
}

func uintCodec[U unsigned]() Codec[U] {
	size := width[U](reflect.TypeFor[U]().Kind())
	name := fmt.Sprintf("uint%d", 8*size)
	return Codec[U]{
		Name: name,
		Append: func(dst []byte, v U) ([]byte, error) {
			return appendBig(dst, uint64(v), size), nil
		},
		Decode: func(src []byte) (U, error) {
			if len(src) != size {
				return 0, errLength(name, len(src), size)
			}
			wide := bigEndian(src)
			if uint64(U(wide)) != wide {
				return 0, fmt.Errorf("codec: %d is too large for uint on this machine", wide)
			}
			return U(wide), nil
		},
	}
}

// float64Codec stores every bit of v, a NaN's payload and the sign of zero
// included, such that bytes sort as numbers do.
func float64Codec() Codec[float64] {
	const sign = 1 << 63
	return Codec[float64]{
		Name: "float64",
		Append: func(dst []byte, v float64) ([]byte, error) {
			return appendBig(dst, orderFloat(math.Float64bits(v), sign), 8), nil
		},
		Decode: func(src []byte) (float64, error) {
			if len(src) != 8 {
				return 0, errLength("float64", len(src), 8)
			}
			return math.Float64frombits(unorderFloat(bigEndian(src), sign)), nil
		},
	}
}

// float32Codec is float64Codec for 32 bits.
func float32Codec() Codec[float32] {
	const sign = 1 << 31
	return Codec[float32]{
		Name: "float32",
		Append: func(dst []byte, v float32) ([]byte, error) {
			return appendBig(dst, uint64(uint32(orderFloat(uint64(math.Float32bits(v)), sign))), 4), nil
		},
		Decode: func(src []byte) (float32, error) {
			if len(src) != 4 {
				return 0, errLength("float32", len(src), 4)
			}
			return math.Float32frombits(uint32(unorderFloat(bigEndian(src), sign))), nil
		},
	}
}

// orderFloat maps the bits of floats to integers in the same order: the bits
// of a negative one are inverted, of any other the sign bit is set.
func orderFloat(bits, sign uint64) uint64 {
	if bits&sign != 0 {
		return ^bits
	}
	return bits | sign
}

// unorderFloat is the inverse of orderFloat.
func unorderFloat(bits, sign uint64) uint64 {
	if bits&sign != 0 {
		return bits &^ sign
	}
	return ^bits
}

func boolCodec() Codec[bool] {
	return Codec[bool]{
		Name: "bool",
		Append: func(dst []byte, v bool) ([]byte, error) {
			if v {
				return append(dst, 1), nil
			}
			return append(dst, 0), nil
		},
		Decode: func(src []byte) (bool, error) {
			if len(src) != 1 {
				return false, errLength("bool", len(src), 1)
			}
			if src[0] > 1 {
				return false, fmt.Errorf("codec: bool is %d", src[0])
			}
			return src[0] == 1, nil
		},
	}
}

// appendBig appends the low size bytes of v, the most significant first.
func appendBig(dst []byte, v uint64, size int) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return append(dst, b[8-size:]...)
}

// bigEndian reads up to eight bytes, the most significant first.
func bigEndian(src []byte) (v uint64) {
	for _, b := range src {
		v = v<<8 | uint64(b)
	}
	return v
}
