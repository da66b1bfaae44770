package cacheman

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// Once all keys of a cache were looked at, those that come and go are, and no others.
func TestKeysAreFollowed(t *testing.T) {
	m := newManager(t)
	keys := must(codec.Key[int]())
	encode := keys.Append
	var encoded atomic.Int64
	keys.Append = func(dst []byte, k int) ([]byte, error) {
		encoded.Add(1)
		return encode(dst, k)
	}
	in := must(Register(m, "in", Spec[int, int]{Memory: true, KeyCodec: keys}))
	n := must(RegisterValue(m, "n", Spec[Single, int]{Memory: true, Build: func(ctx context.Context, _ Single) (int, error) {
		return in.Count(ctx)
	}}))
	const many = 5000
	for k := range many {
		ok(t, in.Set(k, k))
	}
	equal(t, "count", must(n.Get(t.Context())), many)
	encoded.Store(0)
	for k := range 100 {
		ok(t, in.Set(many+k, k))
		equal(t, "count", must(n.Get(t.Context())), many+k+1)
	}
	for k := range 50 {
		ok(t, in.Delete(k))
		ok(t, in.Delete(k))
	}
	ok(t, in.Set(0, 0))
	equal(t, "count", must(n.Get(t.Context())), many+51)
	if e := encoded.Load(); e > 200 && !graph.Debug {
		t.Errorf("%d keys were encoded for 151 that came or went", e)
	}
	for k := range many { // so many that to look at all is no more
		ok(t, in.Set(2*many+k, k))
		if n := len(in.keyLog.changes); n > many/4+100 {
			t.Fatalf("%d changes are kept", n)
		}
	}
	equal(t, "count", must(n.Get(t.Context())), 2*many+51)
	encoded.Store(0)
	ok(t, in.Clear())
	equal(t, "count", must(n.Get(t.Context())), 0)
	ok(t, in.Set(1, 1))
	equal(t, "count", must(n.Get(t.Context())), 1)
	if e := encoded.Load(); e > 2 && !graph.Debug {
		t.Errorf("%d keys were encoded of an empty cache", e)
	}
}

// A key that comes while all are added up is not missed, then or later.
func TestKeysChangeMeanwhile(t *testing.T) {
	m := newManager(t)
	keys := must(codec.Key[int]())
	encode := keys.Append
	var meanwhile atomic.Pointer[func()]
	keys.Append = func(dst []byte, k int) ([]byte, error) {
		if do := meanwhile.Swap(nil); do != nil {
			(*do)()
		}
		return encode(dst, k)
	}
	in := must(Register(m, "in", Spec[int, int]{Memory: true, KeyCodec: keys}))
	n := must(RegisterValue(m, "n", Spec[Single, int]{Memory: true, Build: func(ctx context.Context, _ Single) (int, error) {
		return in.Count(ctx)
	}}))
	set := func(k int) func() {
		return func() { // on another goroutine than that of the builder, which must not
			var other sync.WaitGroup
			other.Go(func() { ok(t, in.Set(k, k)) })
			other.Wait()
		}
	}
	ok(t, in.Set(0, 0))
	for k := 1; k < 20; k++ {
		if k%5 == 0 {
			ok(t, in.Clear())
			ok(t, in.Set(0, 0))
		}
		do := set(2 * k)
		meanwhile.Store(&do)
		ok(t, in.Set(2*k+1, k))
		must(n.Get(t.Context()))
		meanwhile.Store(nil)
		equal(t, "count", must(n.Get(t.Context())), in.Len())
	}
}

// The digest that follows the keys is that of all keys, whatever makes them come and go,
// also while somebody asks for it.
func TestDigestFollows(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	even := func(_ context.Context, k int) (int, error) {
		if k%2 == 1 {
			return 0, ErrNotFound
		}
		return k, nil
	}
	caches := []*Cache[int, int]{
		must(Register(m, "set", Spec[int, int]{})),
		must(Register(m, "built", Spec[int, int]{Build: even})),
		must(Register(m, "memory", Spec[int, int]{Memory: true, Build: even})),
		must(Register(m, "limited", Spec[int, int]{Build: even, Limit: Limit{Entries: 20}})),
	}
	of := func(c *Cache[int, int]) digest {
		return must(c.followKeys(func() (digest, error) { return c.digestOf(c.Keys()) }))
	}
	check := func(c *Cache[int, int]) {
		t.Helper()
		for { // until nothing was evicted meanwhile
			d := of(c)
			all := must(c.digestOf(c.Keys()))
			if of(c) == d {
				equal(t, c.Name(), d, all)
				return
			}
		}
	}
	change := func(rng *rand.Rand, c *Cache[int, int]) error {
		k := rng.IntN(60)
		switch rng.IntN(14) {
		case 0, 1, 2:
			return c.Set(k, k)
		case 3, 4:
			return c.Delete(k)
		case 5, 6, 7:
			if _, err := c.Get(context.Background(), k); !isNone(err) {
				return err
			}
		case 8:
			return c.Invalidate(k)
		case 9:
			_, err := c.Update(k, func(v int, ok bool) (int, bool) { return v + 1, ok })
			return err
		case 10, 11:
			return m.Batch(func(b *Batch) error {
				for range 10 {
					c.SetIn(b, rng.IntN(60), 1)
					c.DeleteIn(b, rng.IntN(60))
				}
				return nil
			})
		case 12:
			return m.Sync(context.Background())
		case 13:
			if rng.IntN(5) == 0 {
				return c.Clear()
			}
			if rng.IntN(5) == 0 {
				return c.Reload(context.Background())
			}
		}
		return nil
	}
	for _, c := range caches {
		must(c.CollectKeys(t.Context()))
		must(must(keysOf(&c.core)).Get(t.Context(), Single{}))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	followed := 0
	for i := range 4000 {
		c := caches[rng.IntN(len(caches))]
		ok(t, change(rng, c))
		if c.keyLog.known && i%3 == 0 {
			followed++
			check(c)
		}
		of(c)
	}
	if followed < 300 {
		t.Errorf("%d times only", followed)
	}
	var others sync.WaitGroup
	for i := range uint64(3) {
		others.Go(func() {
			rng := rand.New(rand.NewPCG(i, 3))
			for range 3000 {
				if err := change(rng, caches[rng.IntN(len(caches))]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 300 {
		for _, c := range caches {
			must(must(keysOf(&c.core)).Get(t.Context(), Single{}))
			of(c)
		}
	}
	others.Wait()
	for _, c := range caches {
		check(c)
	}
}
