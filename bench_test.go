package cacheman

import (
	"context"
	"fmt"
	"testing"
)

func benchCache(b *testing.B, n int) (*Cache[string, []byte], []string) {
	m, err := Open("", Options{Store: newDisk(), Autosync: &Autosync{Off: true}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	c := must(Register(m, "c", Spec[string, []byte]{Memory: true, Build: func(context.Context, string) ([]byte, error) { return nil, nil }}))
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15)
		c.Set(keys[i], make([]byte, 8))
	}
	return c, keys
}

func BenchmarkPeek(b *testing.B) {
	c, keys := benchCache(b, 100_000)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		c.Peek(keys[i%len(keys)])
	}
}

func BenchmarkGet(b *testing.B) {
	c, keys := benchCache(b, 100_000)
	ctx := b.Context()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		c.Get(ctx, keys[i%len(keys)])
	}
}

func BenchmarkOverwrite(b *testing.B) {
	c, keys := benchCache(b, 100_000)
	v := make([]byte, 8)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		c.Set(keys[i%len(keys)], v)
	}
}

func BenchmarkBuild(b *testing.B) {
	c, _ := benchCache(b, 1)
	ctx := b.Context()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		c.Get(ctx, fmt.Sprint(i))
	}
}
