package codec_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
)

// decodes checks that src gives an error, or a value that, once encoded, comes
// back as itself: its encoding is the same again.
func decodes[T any](t *testing.T, c codec.Codec[T], src []byte) (canonical []byte) {
	t.Helper()
	kept := bytes.Clone(src)
	v, err := c.Decode(src)
	if !bytes.Equal(src, kept) {
		t.Fatalf("%s: Decode changed its input", c.Name)
	}
	if err != nil {
		return nil
	}
	first, err := c.Append(nil, v)
	if err != nil {
		return nil // such as a time that has no textual form
	}
	again, err := c.Decode(bytes.Clone(first))
	if err != nil {
		t.Fatalf("%s: %x was encoded for %#v and cannot be decoded: %v", c.Name, first, v, err)
	}
	second, err := c.Append(nil, again)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%s: %x, then %x, %v", c.Name, first, second, err)
	}
	return first
}

func must[T any](c codec.Codec[T], err error) codec.Codec[T] {
	if err != nil {
		panic(err)
	}
	return c
}

func FuzzSimple(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x01", "\x80\x00", "\x7f\xff\xff\xff\xff\xff\xff\xff", "1234", "12345678"} {
		f.Add([]byte(seed))
	}
	str, num, flag, float := must(codec.For[string]()), must(codec.For[int32]()), must(codec.For[bool]()), must(codec.For[float64]())
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, got := range [][]byte{decodes(t, str, src), decodes(t, num, src), decodes(t, flag, src), decodes(t, float, src)} {
			if got != nil && !bytes.Equal(got, src) {
				t.Fatalf("%x was decoded and encoded as %x", src, got)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	c := must(codec.Key[triple]())
	for _, k := range []triple{{}, {A: "a", B: "\x00\x01", F: -1}, {A: "\xff\x00", F: 1e9}} {
		b, err := c.Append(nil, k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x02"))
	last := must(codec.Key[pair]())
	f.Fuzz(func(t *testing.T, src []byte) {
		if got := decodes(t, last, src); got != nil && !bytes.Equal(got, src) {
			t.Fatalf("%x was decoded and encoded as %x", src, got)
		}
		decodes(t, c, src) // not the same bytes: -0 is read as 0
	})
}

func FuzzCBOR(f *testing.F) {
	c := must(codec.For[person]())
	for _, p := range []person{{}, {Name: "a", Friends: []*person{nil, {Age: 1}}, Any: []any{1, "x", map[int]any{1: nil}}}} {
		b, err := c.Append(nil, p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x9b\x00\x00\x00\x7f\xff\xff\xff\xff"))
	f.Add(bytes.Repeat([]byte{0x81}, 2000))
	anything := must(codec.For[any]())
	f.Fuzz(func(t *testing.T, src []byte) {
		decodes(t, c, src)
		anything.Decode(src) // cannot panic; what an any holds need not come back
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,null,"\ud800"]}`))
	f.Add([]byte(`[1e999]`))
	c := codec.JSON[map[string][]json.Number]()
	f.Fuzz(func(t *testing.T, src []byte) { decodes(t, c, src) })
}
