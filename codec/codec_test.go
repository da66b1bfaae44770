package codec_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/codec"
)

type (
	named    string
	namedB   []byte
	count    int
	small    int8
	ratio    float32
	digest   [4]byte
	nothing  struct{}
	flags    uint16
	onValue  struct{ n byte }
	onPtr    struct{ n byte }
	appender struct{ n byte }
	toPtr    *onPtr
)

func (v onValue) MarshalBinary() ([]byte, error)         { return []byte{v.n}, nil }
func (v *onValue) UnmarshalBinary(b []byte) error        { return one(&v.n, b) }
func (v *onPtr) MarshalBinary() ([]byte, error)          { return []byte{v.n}, nil }
func (v *onPtr) UnmarshalBinary(b []byte) error          { return one(&v.n, b) }
func (v appender) AppendBinary(b []byte) ([]byte, error) { return append(b, v.n), nil }
func (v *appender) UnmarshalBinary(b []byte) error       { return one(&v.n, b) }

func one(n *byte, b []byte) error {
	if len(b) != 1 {
		return errors.New("not one byte")
	}
	*n = b[0]
	return nil
}

type person struct {
	Name    string
	Age     int `json:"age"`
	Friends []*person
	Tags    map[string]int
	Born    time.Time
	Balance *big.Int
	Home    netip.Addr
	Data    []byte
	Ratio   float64
	Own     onPtr
	Any     any
}

// roundTrip checks that v comes back, that the codec is called name, and that
// Append appends.
func roundTrip[T any](t *testing.T, name string, v T) {
	t.Helper()
	c, err := codec.For[T]()
	if err != nil {
		t.Errorf("For[%T]: %v", v, err)
		return
	}
	if c.Name != name {
		t.Errorf("For[%T] is %q, want %q", v, c.Name, name)
	}
	check(t, c, v)
}

func check[T any](t *testing.T, c codec.Codec[T], v T) {
	t.Helper()
	b, err := c.Append([]byte("before"), v)
	if err != nil {
		t.Errorf("Append(%#v): %v", v, err)
		return
	}
	src, ok := bytes.CutPrefix(b, []byte("before"))
	if !ok {
		t.Errorf("Append(%#v) did not append: %q", v, b)
	}
	kept := bytes.Clone(src)
	got, err := c.Decode(src)
	if err != nil {
		t.Errorf("Decode(Append(%#v)): %v", v, err)
	}
	if !reflect.DeepEqual(got, v) {
		t.Errorf("got %#v, want %#v", got, v)
	}
	if !bytes.Equal(src, kept) {
		t.Errorf("Decode changed its input for %#v", v)
	}
}

func TestForRoundTrip(t *testing.T) {
	roundTrip(t, "raw", "")
	roundTrip(t, "raw", "h\xff\x00llo")
	roundTrip(t, "raw", named("x"))
	roundTrip(t, "raw", []byte{0, 1})
	roundTrip(t, "raw", []byte{})
	roundTrip(t, "raw", namedB("abc"))
	roundTrip(t, "bytes[4]", digest{1, 2, 3, 4})
	roundTrip(t, "bool", true)
	roundTrip(t, "bool", false)
	for _, n := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64} {
		roundTrip(t, "int64", n)
		roundTrip(t, "int64", int(n))
		roundTrip(t, "int64", count(n))
		roundTrip(t, "int64", time.Duration(n))
		roundTrip(t, "int32", int32(n))
		roundTrip(t, "int16", int16(n))
		roundTrip(t, "int8", int8(n))
		roundTrip(t, "int8", small(n))
		roundTrip(t, "uint64", uint64(n))
		roundTrip(t, "uint64", uint(n))
		roundTrip(t, "uint64", uintptr(n))
		roundTrip(t, "uint32", uint32(n))
		roundTrip(t, "uint16", flags(n))
		roundTrip(t, "uint8", uint8(n))
	}
	for _, f := range []float64{0, -1.5, math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64} {
		roundTrip(t, "float64", f)
		roundTrip(t, "float32", float32(f))
		roundTrip(t, "float32", ratio(f))
	}
	roundTrip(t, "empty", struct{}{})
	roundTrip(t, "empty", nothing{})

	roundTrip(t, "binary", onValue{1})
	roundTrip(t, "binary", onPtr{2})
	roundTrip(t, "binary", appender{3})
	roundTrip(t, "binary-pointer", &onValue{4})
	roundTrip(t, "binary-pointer", &onPtr{5})
	roundTrip(t, "binary-pointer", (*onPtr)(nil))
	roundTrip(t, "binary-pointer", toPtr(&onPtr{6})) // which has no methods itself
	roundTrip(t, "binary-pointer", toPtr(nil))
	roundTrip(t, "binary", time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC))
	roundTrip(t, "binary", netip.MustParseAddr("2001:db8::1"))
	u, _ := url.Parse("https://example.org/a?b=c")
	roundTrip(t, "binary-pointer", u)
	roundTrip(t, "binary", struct{ onValue }{onValue{1}}) // nothing is left out

	roundTrip(t, "cbor", person{
		Name: "h\xffllo", Age: -3, Friends: []*person{{Name: "b", Friends: []*person{}}, nil},
		Tags: map[string]int{"x": 1}, Born: time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC),
		Balance: new(big.Int).Lsh(big.NewInt(1), 200), Home: netip.MustParseAddr("::1"),
		Data: []byte{}, Ratio: math.Pi, Own: onPtr{7},
		Any: map[string]any{"a": []any{int64(1), "x", 1.5, nil, map[string]any{}}},
	})
	roundTrip(t, "cbor", person{})
	roundTrip(t, "cbor", (*person)(nil))
	roundTrip(t, "cbor", []string(nil))
	roundTrip(t, "cbor", []string{})
	roundTrip(t, "cbor", map[digest][]byte{{1}: nil, {2}: {}})
	roundTrip(t, "cbor", map[string]int(nil))
	roundTrip(t, "cbor", map[string]int{})
	roundTrip(t, "cbor", map[onPtr]int{{1}: 2})
	roundTrip(t, "cbor", map[triple]int{{A: "a", B: "b"}: 1, {A: "a", F: 1}: 2})
	roundTrip(t, "cbor", map[struct {
		pair
		At time.Time
	}]int{{pair{"a", 1}, time.Unix(5, 0).UTC()}: 2})
	roundTrip(t, "cbor", [2]float64{1, math.Copysign(0, -1)})
	roundTrip(t, "cbor", new(int))
	roundTrip(t, "cbor", (*int)(nil))
	roundTrip(t, "cbor", *new(any))
	roundTrip[any](t, "cbor", int64(5))
	roundTrip[any](t, "cbor", new(big.Int).SetUint64(math.MaxUint64))
	roundTrip[any](t, "cbor", time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC))
	roundTrip[any](t, "cbor", map[any]any{int64(1): map[any]any{"a": true}})
	roundTrip(t, "cbor", struct {
		person
		Extra int
	}{person{Name: "in"}, 3})
}

func TestForKeepsEveryBit(t *testing.T) {
	c64, _ := codec.For[float64]()
	for _, bits := range []uint64{1 << 63, 0x7ff8000000000001, 0x7ff0000000000001, 0xfff8000000000123} {
		b, _ := c64.Append(nil, math.Float64frombits(bits))
		if v, err := c64.Decode(b); err != nil || math.Float64bits(v) != bits {
			t.Errorf("%x came back as %x, %v", bits, math.Float64bits(v), err)
		}
	}
	c32, _ := codec.For[ratio]()
	for _, bits := range []uint32{1 << 31, 0x7fc00001, 0x7f800001} {
		b, _ := c32.Append(nil, ratio(math.Float32frombits(bits)))
		if v, err := c32.Decode(b); err != nil || math.Float32bits(float32(v)) != bits {
			t.Errorf("%x came back as %x, %v", bits, math.Float32bits(float32(v)), err)
		}
	}
}

func TestCBORIsDeterministic(t *testing.T) {
	c, err := codec.For[map[string]int]()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{"a": 1, "b": 2, "cc": 3, "d": 4, "e": 5}
	first, _ := c.Append(nil, m)
	for range 50 {
		if again, _ := c.Append(nil, m); !bytes.Equal(first, again) {
			t.Fatalf("%x, then %x", first, again)
		}
	}
}

// TestCBORSurvivesFieldChanges: fields come and go, and old data stays.
func TestCBORSurvivesFieldChanges(t *testing.T) {
	type before struct {
		A, Gone int
	}
	type after struct {
		A, New int
	}
	old, _ := codec.For[before]()
	cur, _ := codec.For[after]()
	b, _ := old.Append(nil, before{A: 1, Gone: 2})
	if v, err := cur.Decode(b); err != nil || v != (after{A: 1}) {
		t.Errorf("got %+v, %v", v, err)
	}
}

type tree struct {
	Left, Right *tree
	M           map[string]*tree
}

func TestCBORDepth(t *testing.T) {
	c, err := codec.For[tree]()
	if err != nil {
		t.Fatal(err)
	}
	chain := func(n int) (v tree) {
		for range n {
			inner := v
			v = tree{Left: &inner}
		}
		return v
	}
	check(t, c, chain(999))
	if _, err := c.Append(nil, chain(1001)); err == nil {
		t.Error("a chain of 1001 was encoded")
	}
	var loop tree
	loop.M = map[string]*tree{"": &loop}
	if _, err := c.Append(nil, loop); err == nil {
		t.Error("a value that contains itself was encoded")
	}
}

// node has a way back, which is not stored.
type node struct {
	Name   string
	Below  []*node
	Ring   ring
	above  *node
	Marked *node `json:"-"`
}

// ring is stored by its methods, which do not go round.
type ring struct{ next *ring }

func (ring) MarshalBinary() ([]byte, error) { return []byte{1}, nil }

func (r *ring) UnmarshalBinary([]byte) error {
	r.next = r
	return nil
}

// TestCBORCircleNotStored: what is not stored may lead back.
func TestCBORCircleNotStored(t *testing.T) {
	c, err := codec.For[node]()
	if err != nil {
		t.Fatal(err)
	}
	top := node{Name: "top"}
	top.Below = []*node{{Name: "below", above: &top, Marked: &top}}
	top.Ring.next = &top.Ring
	b, err := c.Append(nil, top)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Decode(b); err != nil || v.Name != "top" || len(v.Below) != 1 || v.Below[0].Name != "below" || v.Ring.next == nil {
		t.Errorf("got %+v, %v", v, err)
	}
}

// TestCBORInterfaces: what an interface{} holds is stored if it will come back.
func TestCBORInterfaces(t *testing.T) {
	c, err := codec.For[any]()
	if err != nil {
		t.Fatal(err)
	}
	nested := func(n int) (v any) {
		v = int64(1)
		for range n {
			v = []any{v}
		}
		return v
	}
	check(t, c, nested(999))
	check(t, c, any(map[string]any{"a": map[string]any{"b": []any{nil, "c"}}}))
	list, dict := make([]any, 1), map[string]any{}
	list[0], dict["dict"] = list, dict
	var pointer any
	pointer = &pointer
	var pointers endless
	pointers = &pointers
	key := &struct{ M map[any]int }{}
	key.M = map[any]int{key: 1}
	for what, v := range map[string]any{
		"nested too deep":             nested(1001),
		"a list that contains itself": list, "a map that contains itself": dict,
		"a pointer to itself": pointer, "pointers": pointers, "a key that contains itself": key,
		"a nil key": map[any]any{nil: 1}, "a time as key": map[any]any{time.Unix(1, 0).UTC(): 1},
		"times as keys":   map[time.Time]int{time.Unix(1, 0).UTC(): 1},
		"an array as key": map[any]int{[1]int{1}: 1}, "bytes as key": []any{map[digest]int{{}: 1}},
	} {
		if b, err := c.Append(nil, v); err == nil {
			back, err := c.Decode(b)
			t.Errorf("%s was encoded, and comes back as %v, %v", what, back, err)
		}
	}
	typed, err := codec.For[map[any]int]()
	if err != nil {
		t.Fatal(err)
	}
	check(t, typed, map[any]int{nil: 1, "a": 2, int64(3): 3, time.Unix(1, 0).UTC(): 4})
	if _, err := typed.Append(nil, map[any]int{[1]int{1}: 1}); err == nil {
		t.Error("an array as key was encoded")
	}
}

// TestCBORTimes: the text of a time has the minutes of its offset, and no more,
// so it would come back as another instant.
func TestCBORTimes(t *testing.T) {
	c, err := codec.For[map[string][]time.Time]()
	if err != nil {
		t.Fatal(err)
	}
	at := func(offset int) map[string][]time.Time {
		return map[string][]time.Time{"a": {time.Date(1890, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", offset))}}
	}
	if b, err := c.Append(nil, at(53*60+28)); err == nil {
		v, err := c.Decode(b)
		t.Errorf("%v was encoded, and comes back as %v, %v", at(53*60+28), v, err)
	}
	b, err := c.Append(nil, at(53*60))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Decode(b); err != nil || !v["a"][0].Equal(at(53 * 60)["a"][0]) {
		t.Errorf("%v comes back as %v, %v", at(53*60), v, err)
	}
	zero := time.Time{}.In(time.FixedZone("LMT", 53*60+28)) // is none, wherever it is
	if _, err := c.Append(nil, map[string][]time.Time{"a": {zero}}); err != nil {
		t.Error(err)
	}
}

type (
	endless  *endless
	half     struct{ N int }
	shadowed struct {
		Inner
		X int
	}
	Inner   struct{ X, Y int }
	stamped struct {
		time.Time
		Extra int
	}
	ownStamped struct {
		time.Time
		Extra int
	}
	halfCBOR struct{ N int }
	OwnCBOR  struct{ n byte }
	withCBOR struct {
		OwnCBOR
		Extra int
	}
	decodesEmbedded struct {
		onPtr
		Extra int
	}
	appendsOwn struct {
		onPtr
		Extra int
	}
)

func (v OwnCBOR) MarshalCBOR() ([]byte, error)           { return []byte{v.n}, nil }
func (v *OwnCBOR) UnmarshalCBOR(b []byte) error          { return one(&v.n, b) }
func (decodesEmbedded) MarshalBinary() ([]byte, error)   { return []byte{9}, nil }
func (appendsOwn) AppendBinary(b []byte) ([]byte, error) { return append(b, 9), nil }
func (v *appendsOwn) UnmarshalBinary([]byte) error       { v.Extra = 9; return nil }
func (half) MarshalBinary() ([]byte, error)              { return nil, nil }
func (halfCBOR) MarshalCBOR() ([]byte, error)            { return []byte{0}, nil }
func (ownStamped) MarshalBinary() ([]byte, error)        { return []byte{9}, nil }
func (ownStamped) AppendBinary(b []byte) ([]byte, error) { return append(b, 9), nil }
func (s *ownStamped) UnmarshalBinary(b []byte) error     { s.Extra = 9; return nil }

func refuse[T any](t *testing.T, words ...string) {
	t.Helper()
	_, err := codec.For[T]()
	refused(t, reflect.TypeFor[T](), err, words)
}

func refuseKey[K comparable](t *testing.T, words ...string) {
	t.Helper()
	_, err := codec.Key[K]()
	refused(t, reflect.TypeFor[K](), err, words)
}

func refused(t *testing.T, typ reflect.Type, err error, words []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%v was not refused", typ)
		return
	}
	for _, w := range append(words, typ.String()) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: %v: no word of %q", typ, err, w)
		}
	}
}

func TestForRefuses(t *testing.T) {
	refuse[chan int](t)
	refuse[func()](t)
	refuse[complex64](t)
	refuse[error](t)
	refuse[struct{ A []map[string]chan int }](t, "A[][] is chan int")
	refuse[struct{ A struct{ F func() } }](t, "A.F is func()")
	refuse[map[complex128]int](t, "[key] is complex128")
	refuse[struct{ E []error }](t, "E[] is error")
	refuse[struct{ _, x int }](t, "no exported field")
	refuse[struct{ In struct{ x int } }](t, "In is struct", "no exported field")
	refuse[struct{ B strings.Builder }](t, "B is strings.Builder")
	refuse[endless](t, "pointers")
	refuse[half](t, "UnmarshalBinary")
	refuse[*half](t, "UnmarshalBinary")
	refuse[[]half](t, "[] is codec_test.half", "UnmarshalBinary")
	refuse[[]halfCBOR](t, "UnmarshalCBOR")
	refuse[[]appender](t, "no MarshalBinary")
	refuse[shadowed](t, "X", "same name as Inner.X")
	refuse[stamped](t, "embeds")
	refuse[[]stamped](t, "embeds")
	refuse[struct{ A []uintptr }](t, "A[] is uintptr")
	refuse[[]withCBOR](t, "MarshalCBOR", "embeds")
	refuse[decodesEmbedded](t, "UnmarshalBinary", "embeds")
	refuse[[]appendsOwn](t, "MarshalBinary", "embeds")
	refuse[map[*int]int](t, "pointer as key")
	refuse[map[[2]struct{ P *int }]int](t, "[key][].P is *int", "pointer as key")
	refuse[map[struct{ A, b int }]int](t, "[key].b is int", "not stored")
	refuse[map[struct {
		A int
		B int `json:"-"`
	}]int](t, "[key].B is int", "not stored")
	refuse[struct {
		A int `cbor:"a"`
		B int `json:"a"`
	}](t, "same name as A")
	refuse[struct {
		A int `cbor:"1,keyasint"`
		B int `cbor:"01,keyasint"`
	}](t, "same name as A")
	refuse[struct {
		A int `cbor:"one,keyasint"`
	}](t, "A is int", "keyasint")
	roundTrip(t, "cbor", struct {
		A int `cbor:"1,keyasint"`
		B int `cbor:"1"`
	}{1, 2})
	roundTrip(t, "binary", ownStamped{Extra: 9})
	roundTrip(t, "cbor", []OwnCBOR{{3}})
	roundTrip(t, "cbor", struct{ OwnCBOR }{OwnCBOR{3}}) // nothing is left out
	roundTrip(t, "cbor", struct {
		A int
		B chan int `cbor:"-"`
	}{A: 1})
}

func TestDecodeErrors(t *testing.T) {
	bad(t, "x", codec.For[int64])
	bad(t, "", codec.For[uint8])
	bad(t, "\x02", codec.For[bool])
	bad(t, "123", codec.For[digest])
	bad(t, "1", codec.For[struct{}])
	bad(t, "\x02x", codec.For[*onPtr])
	bad(t, "", codec.For[person])
	bad(t, "\xa0\x00", codec.For[person]) // something after the end
	bad(t, "\x80", codec.For[person])
	bad(t, "\xa2\x61A\x01\x61A\x02", codec.For[map[string]int])
	bad(t, "ab\x00", codec.Key[struct{ A, B string }])
	bad(t, "ab\x00\x02", codec.Key[struct{ A, B string }])
	bad(t, "\x00", codec.Key[struct{ A int16 }])
	bad(t, "\x00\x00\x00", codec.Key[struct{ A int16 }])
	nan, _ := codec.For[float64]()
	b, _ := nan.Append(nil, math.NaN())
	bad(t, string(b), codec.Key[float64])
}

func bad[T any](t *testing.T, src string, of func() (codec.Codec[T], error)) {
	t.Helper()
	c, err := of()
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Decode([]byte(src)); err == nil {
		t.Errorf("%q decoded as %#v", src, v)
	}
}

// TestHostileLengths: what a length claims is not allocated before it is
// known to be there.
func TestHostileLengths(t *testing.T) {
	c, err := codec.For[person]()
	if err != nil {
		t.Fatal(err)
	}
	slice, _ := codec.For[[]int64]()
	dict, _ := codec.For[map[int]string]()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, head := range []string{"\x9a\x7f\xff\xff\xff", "\x9b\x00\x00\x00\x7f\xff\xff\xff\xff", "\xba\x7f\xff\xff\xff",
		"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff", "\x7a\x7f\xff\xff\xff"} {
		_, err1 := c.Decode([]byte(head))
		_, err2 := slice.Decode([]byte(head))
		_, err3 := dict.Decode([]byte(head))
		if err1 == nil || err2 == nil || err3 == nil {
			t.Errorf("%x was decoded", head)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	noAllocs(t, "a string", codec.For[string])
	noAllocs(t, named("x"), codec.For[named])
	noAllocs(t, []byte("x"), codec.For[[]byte])
	noAllocs(t, namedB("x"), codec.For[namedB])
	noAllocs(t, 1<<30, codec.For[int])
	noAllocs(t, count(1<<30), codec.For[count])
	noAllocs(t, flags(7), codec.For[flags])
	noAllocs(t, 1.5, codec.For[float64])
	noAllocs(t, ratio(1.5), codec.For[ratio])
	noAllocs(t, 1.5, codec.Key[float64])
	noAllocs(t, true, codec.For[bool])
	noAllocs(t, digest{1}, codec.For[digest])
	noAllocs(t, nothing{}, codec.For[nothing])
}

func noAllocs[T any](t *testing.T, v T, of func() (codec.Codec[T], error)) {
	t.Helper()
	c, err := of()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Append(buf, v); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("Append of %T allocates %v times", v, n)
	}
}

func TestDecodedBytesHaveNoRoom(t *testing.T) {
	c, _ := codec.For[[]byte]()
	src := []byte("abcdef")
	v, _ := c.Decode(src[:3])
	if _ = append(v, 'X'); string(src) != "abcdef" {
		t.Errorf("appending to a decoded value wrote over %q", src)
	}
}

func TestJSON(t *testing.T) {
	c := codec.JSON[map[string][]int]()
	check(t, c, map[string][]int{"a": {1}, "b": nil})
	if _, err := c.Decode([]byte(`{} x`)); err == nil {
		t.Error("trailing bytes were accepted")
	}
	if _, err := codec.JSON[chan int]().Append(nil, nil); err == nil {
		t.Error("a channel was encoded")
	}
}

var errOwn = errors.New("own")

type failing struct{ X int }

func (failing) MarshalBinary() ([]byte, error) { return nil, errOwn }
func (*failing) UnmarshalBinary([]byte) error  { return errOwn }

func TestOwnErrors(t *testing.T) {
	c, _ := codec.For[failing]()
	if _, err := c.Append(nil, failing{}); !errors.Is(err, errOwn) {
		t.Errorf("Append: %v", err)
	}
	if _, err := c.Decode(nil); !errors.Is(err, errOwn) {
		t.Errorf("Decode: %v", err)
	}
	in, _ := codec.For[[]failing]()
	if _, err := in.Append(nil, []failing{{}}); !errors.Is(err, errOwn) {
		t.Errorf("Append within: %v", err)
	}
}
