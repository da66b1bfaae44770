package cacheman

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// wide is a value whose encoded form is longer than its fingerprint.
type wide [5]int

func widen(v int) wide { return wide{v, 1 << 30, 1 << 30, 1 << 30, 1 << 30} }

// TestNoStaleReads: writers, readers, builders and invalidations side by side.
// A Get that begins after a Set has returned never gives anything older, not
// even through two builders; and when all is quiet, everything is what its
// inputs say.
func TestNoStaleReads(t *testing.T) {
	noStaleReads(t, func(i int, double, sum *Cache[int, wide]) error {
		switch k := i % 4; i % 3 {
		case 0:
			return double.Invalidate(k)
		case 1:
			return sum.Invalidate(k)
		}
		return double.InvalidateAll()
	})
}

// TestNoStaleReadsEvicted is TestNoStaleReads with evictions in place of
// invalidations.
func TestNoStaleReadsEvicted(t *testing.T) {
	noStaleReads(t, func(i int, double, sum *Cache[int, wide]) error {
		for _, r := range sum.residents(double.residents(nil)) {
			r.c.typed.evict(context.Background(), r.entry, r.age, i%3 == 0)
		}
		return nil
	})
}

// noStaleReads calls disturb, with 0 and so on, while others write and read.
func noStaleReads(t *testing.T, disturb func(i int, double, sum *Cache[int, wide]) error) {
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	m := newManager(t)
	ctx := context.Background()
	in := must(Register(m, "in", Spec[int, int]{}))
	double := must(Register(m, "double", Spec[int, wide]{Build: func(ctx context.Context, k int) (wide, error) {
		v, err := in.Get(ctx, k)
		return widen(2 * v), err
	}}))
	sum := must(Register(m, "sum", Spec[int, wide]{Build: func(ctx context.Context, k int) (wide, error) {
		a, err := double.Get(ctx, k)
		if err != nil {
			return wide{}, err
		}
		b, err := in.Get(ctx, k)
		if err == nil && a[0] != 2*b {
			t.Errorf("a builder has seen %d and %d", a[0], b)
		}
		return widen(a[0] + b), err
	}}))
	const keys = 4
	var written [keys]atomic.Int64
	for k := range keys {
		ok(t, in.Set(k, 0))
	}
	var writers, others sync.WaitGroup
	var over atomic.Bool
	for k := range keys {
		writers.Go(func() {
			for v := 1; v <= rounds; v++ {
				if err := in.Set(k, v); err != nil {
					t.Error(err)
				}
				written[k].Store(int64(v))
			}
		})
	}
	for r := range 4 {
		others.Go(func() {
			for i := 0; !over.Load(); i++ {
				k := (i + r) % keys
				before := int(written[k].Load())
				v, err := sum.Get(ctx, k)
				if err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				} else if err == nil && v[0] < 3*before {
					t.Errorf("%d is older than %d", v[0], 3*before)
				}
				if v, _ := in.Get(ctx, k); v < before {
					t.Errorf("%d is older than %d", v, before)
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; !over.Load(); i++ {
			if err := disturb(i, double, sum); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	over.Store(true)
	others.Wait()
	for k := range keys {
		equal(t, "sum", must(sum.Get(ctx, k))[0], 3*rounds)
	}
}

// TestKeysComeAndGo: keys that were there only for a moment, or half of a batch, are in no
// list that a builder makes something of: what it has read is the same afterwards as before.
func TestKeysComeAndGo(t *testing.T) {
	if graph.Debug {
		t.Skip("it would take minutes; TestKeysListed stops at the places in question")
	}
	const stay = 1200
	for _, how := range []string{"CollectKeys", "Collect"} {
		t.Run(how, func(t *testing.T) {
			m := newManager(t)
			in := must(Register(m, "in", Spec[int, int]{}))
			top := must(Register(m, "top", Spec[int, [2]int]{Build: func(ctx context.Context, _ int) (n [2]int, err error) {
				if how == "Collect" {
					all, err := in.Collect(ctx)
					return [2]int{len(all), len(all)}, err
				}
				keys, err := in.CollectKeys(ctx)
				if err == nil {
					n[0] = len(keys)
					n[1], err = in.Count(ctx)
				}
				return n, err
			}}))
			for k := range stay {
				ok(t, in.Set(k, 1))
			}
			var stop atomic.Bool
			var writer sync.WaitGroup
			defer writer.Wait()
			defer stop.Store(true)
			writer.Go(func() {
				for !stop.Load() {
					must(0, m.Batch(func(b *Batch) error { in.SetIn(b, -1, 1); in.SetIn(b, -2, 1); return nil }))
					must(0, m.Batch(func(b *Batch) error { in.DeleteIn(b, -1); in.DeleteIn(b, -2); return nil }))
				}
			})
			rounds := 100
			if testing.Short() || how == "Collect" {
				rounds = 10
			}
			for range rounds {
				ok(t, top.Invalidate(0))
				if n := must(top.Get(t.Context(), 0)); n != [2]int{stay, stay} && n != [2]int{stay + 2, stay + 2} {
					t.Fatalf("%d keys, of which there are %d", n[0], n[1])
				}
			}
		})
	}
}

// TestKeysFasterThanAddedUp: a builder that reads which keys there are comes to an end, though they
// come and go faster than anybody could add them up: who adds or removes one waits then.
func TestKeysFasterThanAddedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := must(codec.Key[int]())
		fast := slow.Append
		slow.Append = func(dst []byte, k int) ([]byte, error) {
			time.Sleep(time.Millisecond)
			return fast(dst, k)
		}
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{Memory: true, KeyCodec: slow}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			keys, err := in.CollectKeys(ctx)
			return len(keys), err
		}}))
		const stay = 10
		for k := range stay {
			ok(t, in.Set(k, 1))
		}
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				must(0, in.Set(-1, 1))
				must(0, in.Delete(-1))
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n, err := top.Get(ctx, 0)
		if err != nil || n != stay && n != stay+1 {
			t.Errorf("%d keys, %v", n, err)
		}
		close(stop)
		<-stopped
	})
}
