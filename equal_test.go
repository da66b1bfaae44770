package cacheman

import (
	"fmt"
	"testing"
	"unsafe"
)

// TestEqualPointers: what pointers point to is compared as == would, also where it has bytes that
// == does not look at.
func TestEqualPointers(t *testing.T) {
	type small struct{ X, Y bool }
	type dense struct {
		A uint32
		B int32
		C [4]small
	}
	type padded struct {
		A bool
		B int64
	}
	type named struct {
		A int
		B string
	}
	testEqualPointers(t, 1, 2)
	testEqualPointers(t, [3]uint16{1, 2, 3}, [3]uint16{1, 2, 4})
	testEqualPointers(t, struct{}{})
	testEqualPointers(t, dense{}, dense{A: 1}, dense{B: 1}, dense{C: [4]small{3: {Y: true}}})
	testEqualPointers(t, named{}, named{B: "b"}, named{B: "c"})
	testEqualPointers(t, padded{}, padded{A: true}, padded{B: 1})
	sameBut(t, withByte(padded{}, 4, 0), withByte(padded{}, 4, 1))
	sameBut(t, withByte([1]padded{}, 4, 0), withByte([1]padded{}, 4, 1))
}

func testEqualPointers[V comparable](t *testing.T, values ...V) {
	t.Helper()
	c := must(Register(newManager(t), "c", Spec[int, *V]{Memory: true}))
	for i, a := range values {
		for j, b := range values {
			equal(t, fmt.Sprintf("%+v equals %+v", a, b), c.equal(&a, &b), i == j)
		}
		equal(t, fmt.Sprintf("%+v equals nil", a), c.equal(&a, nil) || c.equal(nil, &a), false)
	}
	equal(t, fmt.Sprintf("nil of %T equals nil", values), c.equal(nil, nil), true)
}

// withByte returns v with a byte of its memory set.
func withByte[V any](v V, at uintptr, b byte) *V {
	p := &v
	*(*byte)(unsafe.Add(unsafe.Pointer(p), at)) = b
	return p
}

func sameBut[V comparable](t *testing.T, a, b *V) {
	t.Helper()
	c := must(Register(newManager(t), "c", Spec[int, *V]{Memory: true}))
	equal(t, fmt.Sprintf("%+v equals what differs in what == ignores", *a), c.equal(a, b), true)
}
