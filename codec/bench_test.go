package codec_test

import (
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/codec"
)

// record is what encodings are compared with elsewhere, too.
type record struct {
	ID      int
	Name    string
	Tags    []string
	Weights []float64
	Time    time.Time
}

var sample = record{
	ID:      123456,
	Name:    "a name of some length",
	Tags:    []string{"one", "two", "three"},
	Weights: []float64{1.1, 2.2, 3.3, 4.4, 5.5, 6.6, 7.7, 8.8},
	Time:    time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC),
}

func benchmark[T any](b *testing.B, name string, v T, c codec.Codec[T]) {
	enc, err := c.Append(nil, v)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, len(enc))
	b.Run(name+"/append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(enc)))
		for b.Loop() {
			if _, err := c.Append(buf, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(enc)))
		for b.Loop() {
			if _, err := c.Decode(enc); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	benchmark(b, "cbor", sample, must(codec.For[record]()))
	benchmark(b, "json", sample, codec.JSON[record]())
	benchmark(b, "string", "0123456789abcdef", must(codec.For[string]()))
	benchmark(b, "int", 123456, must(codec.For[int]()))
	benchmark(b, "named", count(123456), must(codec.For[count]()))
	benchmark(b, "time", sample.Time, must(codec.For[time.Time]()))
	benchmark(b, "key-string", "0123456789abcdef", must(codec.Key[string]()))
	benchmark(b, "key-struct", pair{"a name", 5}, must(codec.Key[pair]()))
}
