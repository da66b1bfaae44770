package codec

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// maxDepth is how deeply arrays, maps and structs may be nested within a
// value. Decoding takes stack for each level, and a value that contains itself
// would be encoded without end.
const maxDepth = 1000

// CBOR returns the codec that [For] chooses for composite types, named "cbor":
// deterministic CBOR, a struct being a map from the names of its fields. Tags
// "cbor" or else "json" rename, omit or number fields as in
// github.com/fxamacker/cbor. Fields may be added to and removed from a struct
// without making stored data unreadable: what is missing is zero, what is
// unknown is ignored.
//
// Types with MarshalCBOR and UnmarshalCBOR or with MarshalBinary and
// UnmarshalBinary are encoded by these, wherever they occur. The error is that
// of [For].
//
// Values come back equal to what they were, nil and empty slices and maps
// included, except that
//   - unexported fields, and those tagged "-", come back zero, and what
//     "omitempty" left out comes back nil;
//   - a pointer to something nil, or to the zero time, comes back as nil, and
//     pointers to the same thing come back as pointers to copies of it;
//   - a time has its instant and its offset, not the name of its zone, nor its
//     monotonic reading; years must be from 0 to 9999, and offsets whole
//     minutes, or Append refuses it;
//   - a NaN has no payload;
//   - within an interface{}, integers come back as int64, or *big.Int if they
//     are too large, floats as float64, slices and arrays as []any, bytes as
//     []byte, and structs and maps as map[string]any, or all as map[any]any
//     if a map among them has a key that is not a string. Keys that are neither
//     strings, booleans nor numbers are refused by Append there.
//
// Values nested more than 1000 deep, and such as contain themselves, are refused
// by Append.
func CBOR[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	if err := check(t); err != nil {
		return Codec[T]{}, err
	}
	shape := shapeOf(t)
	return Codec[T]{
		Name:   "cbor",
		Schema: schemaOf(t),
		Append: func(dst []byte, v T) ([]byte, error) {
			if err := shape.check(reflect.ValueOf(&v).Elem(), maxDepth, false); err != nil {
				return dst, fmt.Errorf("codec: %v %w", t, err)
			}
			buf := bytes.NewBuffer(dst)
			if err := encMode.MarshalToBuffer(&v, buf); err != nil {
				return dst, err
			}
			return buf.Bytes(), nil
		},
		Decode: func(src []byte) (T, error) {
			var v T
			err := decMode.Unmarshal(src, &v)
			if err != nil {
				// Rare, so the types are not searched for an interface
				// beforehand: perhaps a map in it has other keys than strings.
				var again T
				if decModeAnyKeys.Unmarshal(src, &again) == nil {
					return again, nil
				}
			}
			return v, err
		},
	}, nil
}

var encMode = func() cbor.UserBufferEncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	o.TimeTag = cbor.EncTagRequired // so that a time in an interface{} comes back as one
	mode, err := o.UserBufferEncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

var (
	decMode        = decodingInto(reflect.TypeFor[map[string]any]())
	decModeAnyKeys = decodingInto(reflect.TypeFor[map[any]any]())
)

// decodingInto returns a mode that decodes maps in an interface{} to m.
// Lengths need no limit: the input is checked to be as long as it claims
// before anything is allocated.
func decodingInto(m reflect.Type) cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   maxDepth + 1, // the last may be a tag, as of a time
		MaxArrayElements:  1<<31 - 1,
		MaxMapPairs:       1<<31 - 1,
		IndefLength:       cbor.IndefLengthForbidden,
		IntDec:            cbor.IntDecConvertSignedOrBigInt,
		BigIntDec:         cbor.BigIntDecodePointer,
		DefaultMapType:    m,
		UTF8:              cbor.UTF8DecodeInvalid, // a string may hold any bytes
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}
