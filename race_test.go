package cacheman

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestNoStaleReads: writers, readers, builders and invalidations side by side.
// A Get that begins after a Set has returned never gives anything older, not
// even through two builders; and when all is quiet, everything is what its
// inputs say.
func TestNoStaleReads(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	m := newManager(t)
	ctx := context.Background()
	in := must(Register(m, "in", Spec[int, int]{}))
	double := must(Register(m, "double", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		return 2 * v, err
	}}))
	sum := must(Register(m, "sum", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		a, err := double.Get(ctx, k)
		if err != nil {
			return 0, err
		}
		b, err := in.Get(ctx, k)
		if err == nil && a != 2*b {
			t.Errorf("a builder has seen %d and %d", a, b)
		}
		return a + b, err
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
				} else if err == nil && v < 3*before {
					t.Errorf("%d is older than %d", v, 3*before)
				}
				if v, _ := in.Get(ctx, k); v < before {
					t.Errorf("%d is older than %d", v, before)
				}
			}
		})
	}
	others.Go(func() {
		for i := 0; !over.Load(); i++ {
			var err error
			switch k := i % keys; i % 3 {
			case 0:
				err = double.Invalidate(k)
			case 1:
				err = sum.Invalidate(k)
			case 2:
				err = double.InvalidateAll()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	over.Store(true)
	others.Wait()
	for k := range keys {
		equal(t, "sum", must(sum.Get(ctx, k)), 3*rounds)
	}
}
