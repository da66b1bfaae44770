package codec_test

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"testing"
	"time"
	"unique"

	"github.com/cacheman-go/cacheman/codec"
)

type pair struct {
	Name string
	N    int16
}

type triple struct {
	A, B string
	F    float64
	_    int
	In   struct{ C [2]bool }
}

func keyRoundTrip[K comparable](t *testing.T, name string, keys ...K) {
	t.Helper()
	c, err := codec.Key[K]()
	if err != nil {
		t.Errorf("Key[%T]: %v", keys[0], err)
		return
	}
	if c.Name != name {
		t.Errorf("Key[%T] is %q, want %q", keys[0], c.Name, name)
	}
	for _, k := range keys {
		check(t, c, k)
	}
}

func TestKeyRoundTrip(t *testing.T) {
	keyRoundTrip(t, "raw", "", "a\x00b", named2("x"))
	keyRoundTrip(t, "raw", named("x"))
	keyRoundTrip(t, "int64", -1, 0, math.MaxInt)
	keyRoundTrip(t, "float32", ratio(-1), 0, 1)
	keyRoundTrip(t, "bytes[4]", digest{1})
	keyRoundTrip(t, "empty", struct{}{})
	keyRoundTrip(t, "(raw,int16)", pair{"", 0}, pair{"\x00", -1}, pair{"a\x00\x01\xff", 7})
	keyRoundTrip(t, "(raw,raw,float64,(bool[2]))", triple{A: "a", B: "\x00", F: -2.5}, triple{})
	keyRoundTrip(t, "raw[2]", [2]string{"a", "b\x00"}, [2]string{})
	keyRoundTrip(t, "binary", netip.MustParseAddr("10.0.0.1"), netip.Addr{})
	keyRoundTrip(t, "(binary,int64)", struct {
		A netip.Addr
		N int
	}{netip.MustParseAddr("fe80::1%eth0"), 5})
	keyRoundTrip(t, "((raw,int16),raw)", struct {
		pair
		S string
	}{pair{"x", 1}, "y"})
	keyRoundTrip(t, "(binary,int64)", struct {
		onValue // whose methods a field that is not exported has to lend
		N       int
	}{onValue{7}, 5})
}

func named2(s string) string { return s }

func TestKeyRefuses(t *testing.T) {
	refuseKey[*int](t)
	refuseKey[any](t)
	refuseKey[chan int](t)
	refuseKey[complex128](t)
	refuseKey[time.Time](t, "pointer inside")
	refuseKey[url.URL](t, "User is *url.Userinfo")
	refuseKey[unique.Handle[string]](t)
	refuseKey[struct{ A struct{ B *int } }](t, "A.B is *int")
	refuseKey[struct{ A [2]any }](t, "A[] is interface {}")
	refuseKey[struct{ A, b int }](t, "unexported")
}

func TestKeyFloats(t *testing.T) {
	c, _ := codec.Key[float64]()
	in, _ := codec.Key[struct{ F float32 }]()
	if _, err := c.Append(nil, math.NaN()); err == nil {
		t.Error("NaN is a key")
	}
	if _, err := in.Append(nil, struct{ F float32 }{float32(math.NaN())}); err == nil {
		t.Error("NaN is in a key")
	}
	zero, _ := c.Append(nil, 0)
	minus, _ := c.Append(nil, math.Copysign(0, -1))
	if !bytes.Equal(zero, minus) {
		t.Errorf("0 is %x, -0 is %x", zero, minus)
	}
}

// sorted checks that bytes compare as keys do, for all pairs of keys.
func sorted[K comparable](t *testing.T, compare func(a, b K) int, keys ...K) {
	t.Helper()
	c, err := codec.Key[K]()
	if err != nil {
		t.Fatal(err)
	}
	encoded := make([][]byte, len(keys))
	for i, k := range keys {
		if encoded[i], err = c.Append(nil, k); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range keys {
		for j, b := range keys {
			want, got := compare(a, b), bytes.Compare(encoded[i], encoded[j])
			if got != want || (a == b) != (got == 0) {
				t.Errorf("%#v and %#v compare %d, their bytes %d", a, b, want, got)
			}
		}
	}
}

func TestKeyOrder(t *testing.T) {
	sorted(t, cmp.Compare[int64], math.MinInt64, -256, -1, 0, 1, 255, 256, math.MaxInt64)
	sorted(t, cmp.Compare, small(-128), -1, 0, 1, 127)
	sorted(t, cmp.Compare[uint32], 0, 1, 255, 256, math.MaxUint32)
	sorted(t, cmp.Compare, math.Inf(-1), -1e300, -1.5, -1, -1e-300, math.Copysign(0, -1), 0, 1e-300, 1, 1.5, 1e300, math.Inf(1))
	sorted(t, cmp.Compare, "", "\x00", "\x00\x01", "\x00\xff", "a", "a\x00", "aa", "b", "\xff")
	comparePairs := func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.N, b.N))
	}
	var pairs []pair
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		name := make([]byte, r.IntN(4))
		for i := range name {
			name[i] = []byte{0, 1, 0xfe, 0xff}[r.IntN(4)]
		}
		pairs = append(pairs, pair{string(name), int16(r.IntN(3) - 1)})
	}
	sorted(t, comparePairs, pairs...)
}
