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

// BenchmarkRebuild has a change go through entries, each computed from the one before, or
// all from one and another from all of them; a time is that of one entry.
func BenchmarkRebuild(b *testing.B) {
	const n = 10_000
	for _, shape := range []string{"chain", "fanout"} {
		b.Run(shape, func(b *testing.B) {
			m := must(Open("", Options{Store: newDisk(), Autosync: &Autosync{Off: true}}))
			b.Cleanup(func() { m.Close() })
			in := must(Register(m, "in", Spec[int, uint64]{Memory: true}))
			var c *Cache[int, uint64]
			c = must(Register(m, "c", Spec[int, uint64]{Memory: true, Build: func(ctx context.Context, k int) (uint64, error) {
				if k == 0 || k < n && shape == "fanout" {
					return in.Get(ctx, 0)
				}
				sum, from := uint64(0), k-1
				if k == n && shape == "fanout" {
					from = 0
				}
				for i := from; i < k; i++ {
					v, err := c.Get(ctx, i)
					if err != nil {
						return 0, err
					}
					sum += v
				}
				return sum, nil
			}}))
			v := uint64(0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%(n+1) > 0 {
					continue
				}
				v++
				in.Set(0, v)
				if _, err := c.Get(b.Context(), n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
