package cacheman

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Mistakes that others have made, each named after where it was reported.

// inFlight returns a cache whose first run waits, and what begins and ends that
// wait. What it builds comes from source, of which the cache knows nothing.
func inFlight(m *Manager, source *atomic.Int64) (c *Cache[int, int], began, end chan struct{}) {
	began, end = make(chan struct{}), make(chan struct{})
	var runs atomic.Int64
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v := source.Load()
		if runs.Add(1) == 1 {
			close(began)
			<-end
		}
		return int(v), nil
	}}))
	return c, began, end
}

// What is being built when it is invalidated is not kept (google/guava#1881),
// and who comes after that does not wait for it (hindsight#2315).
func TestPitfallGuava1881(t *testing.T) {
	testInFlight(t, func(c *Cache[int, int]) error { return c.Invalidate(1) })
}

func TestPitfallHindsight2315(t *testing.T) {
	testInFlight(t, func(c *Cache[int, int]) error { return c.Delete(1) })
}

// The same for a whole cache (Trino#22285).
func TestPitfallTrino22285(t *testing.T) {
	testInFlight(t, func(c *Cache[int, int]) error { return c.InvalidateAll() })
}

func testInFlight(t *testing.T, invalidate func(*Cache[int, int]) error) {
	var source atomic.Int64
	source.Store(1)
	c, began, end := inFlight(newManager(t), &source)
	early := make(chan int)
	go func() { early <- must(c.Get(context.Background(), 1)) }()
	<-began
	source.Store(2)
	ok(t, invalidate(c))
	equal(t, "beside the first run", must(c.Get(t.Context(), 1)), 2)
	close(end)
	<-early
	equal(t, "after it", must(c.Get(t.Context(), 1)), 2)
}

// That something was not there is not remembered for ever (cacheops#478).
func TestPitfallCacheops478(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if errors.Is(err, ErrNotFound) {
			return 0, ErrNotFound
		}
		return v, err
	}}))
	for range 2 {
		if _, err := c.Get(t.Context(), 1); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	ok(t, in.Set(1, 5))
	equal(t, "c", must(c.Get(t.Context(), 1)), 5)
	ok(t, in.Delete(1))
	ok(t, m.Sync(t.Context())) // forgets the input
	ok(t, in.Set(1, 6))
	equal(t, "c", must(c.Get(t.Context(), 1)), 6)
}

// An invalidation of something derived reaches what is above it (salsa#246).
func TestPitfallSalsa246(t *testing.T) {
	m := newManager(t)
	source := 1
	below := must(Register(m, "below", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return source, nil }}))
	above := must(Register(m, "above", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return below.Get(ctx, k) }}))
	equal(t, "above", must(above.Get(t.Context(), 1)), 1)
	source = 2
	ok(t, below.Invalidate(1))
	equal(t, "above", must(above.Get(t.Context(), 1)), 2)
	source = 3
	ok(t, below.InvalidateAll())
	equal(t, "above", must(above.Get(t.Context(), 1)), 3)
}

// A run that fails leaves nothing behind that looks up to date (salsa#101).
func TestPitfallSalsa101(t *testing.T) {
	m := newManager(t)
	fail := false
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if fail {
			return 0, errOracle
		}
		return v, err
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	ok(t, in.Set(1, 2))
	fail = true
	if _, err := top.Get(t.Context(), 1); !errors.Is(err, errOracle) {
		t.Fatal(err)
	}
	fail = false
	equal(t, "top", must(top.Get(t.Context(), 1)), 2)
}

// Builders that need each other in two runs end with an error (openfga#1335).
func TestPitfallOpenfga1335(t *testing.T) {
	m := newManager(t)
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, 1-k) }}))
	for range 100 {
		errs := make(chan error)
		for k := range 2 {
			go func() {
				_, err := c.Get(context.Background(), k)
				errs <- err
			}()
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrCycle) {
				t.Fatal(err)
			}
		}
	}
}

// An entry that came out as before is not built again at every later change
// (picante compares a dependency's stamp with the older one of the entry).
func TestPitfallPicanteBackdating(t *testing.T) {
	m := newManager(t)
	builds := 0
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		v, err := in.Get(ctx, k)
		return v / 100, err
	}}))
	for i := range 10 {
		ok(t, in.Set(1, i))
		equal(t, "c", must(c.Get(t.Context(), 1)), 0)
		for j := range 10 {
			ok(t, in.Set(2, j))
			must(c.Get(t.Context(), 1))
		}
		equal(t, "builds", builds, i+1)
	}
}

// Of many inputs only what reads the one that changed is built (bazel#29946).
func TestPitfallBazel29946(t *testing.T) {
	m := newManager(t)
	builds := 0
	env := must(Register(m, "env", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		return env.Get(ctx, k)
	}}))
	const n = 1000
	for k := range n {
		ok(t, env.Set(k, k))
		must(c.Get(t.Context(), k))
	}
	ok(t, env.Set(7, 70))
	for k := range n {
		must(c.Get(t.Context(), k))
	}
	equal(t, "builds", builds, n+1)
}

// Reading something again costs no edge (wcharczuk/go-incr).
func TestPitfallDuplicateEdges(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 2}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		sum := 0
		for range 1000 {
			sum += must(in.Get(ctx, 1)) + must(in.Get(ctx, 2))
		}
		return sum, nil
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 3000)
	equal(t, "edges", len(c.table.Load().shard(1).entries[1].node.Edges()), 2)
}

// A caller who leaves does not take the result from those who wait with it.
func TestPitfallLeaderCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var source atomic.Int64
		source.Store(1)
		c, began, end := inFlight(newManager(t), &source)
		ctx, cancel := context.WithCancel(t.Context())
		left, got := make(chan error), make(chan int)
		go func() {
			_, err := c.Get(ctx, 1)
			left <- err
		}()
		<-began
		go func() { got <- must(c.Get(t.Context(), 1)) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(end)
		equal(t, "for the other", <-got, 1)
	})
}

// A builder that panics is an error, and runs again.
func TestPitfallBuilderPanics(t *testing.T) {
	m := newManager(t)
	fail := true
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if fail {
			panic("planned")
		}
		return 1, nil
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	_, err := top.Get(t.Context(), 1)
	if _, is := errors.AsType[*PanicError](err); !is {
		t.Fatal(err)
	}
	fail = false
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
}

// Above a builder that fails, each runs once, and not twice as often as the one
// below.
func TestFailingChain(t *testing.T) {
	m := newManager(t)
	builds, fail := 0, false
	const n = 100
	in := must(Register(m, "in", Spec[int, int]{}))
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		if k > 0 {
			return c.Get(ctx, k-1)
		}
		if fail {
			return 0, errOracle
		}
		return in.Get(ctx, 0)
	}}))
	ok(t, in.Set(0, 1))
	must(c.Get(t.Context(), n-1))
	ok(t, in.Set(0, 2))
	builds, fail = 0, true
	if _, err := c.Get(t.Context(), n-1); !errors.Is(err, errOracle) {
		t.Fatal(err)
	}
	equal(t, "builds", builds, n)
}

// What was read directly and through a cache in memory, at different times, is
// two edges after a restart.
func TestEdgesThroughMemory(t *testing.T) {
	d := newDisk()
	open := func() (in, half, c *Cache[int, int], m *Manager) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		half = must(Register(m, "half", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			return v / 2, err
		}}))
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			h, err := half.Get(ctx, k)
			if err != nil {
				return 0, err
			}
			v, err := in.Get(ctx, k)
			return 100*h + v, err
		}}))
		return in, half, c, m
	}
	in, half, c, m := open()
	ok(t, in.Set(1, 2))
	equal(t, "c", must(c.Get(t.Context(), 1)), 102)
	ok(t, in.Set(1, 3))
	equal(t, "half", must(half.Get(t.Context(), 1)), 1)
	ok(t, m.Close())
	_, _, c, _ = open()
	equal(t, "c", must(c.Get(t.Context(), 1)), 103)
}

// Above a builder that fails, each runs once also when the search loads contents
// on its way that another version has saved.
func TestFailingAboveAnotherVersion(t *testing.T) {
	d := newDisk()
	version := "1"
	var built []string
	open := func() (low, top *Cache[int, int], m *Manager) {
		m = d.open(t, Options{})
		builder := func(name string, build func(ctx context.Context, k int) (int, error)) func(context.Context, int) (int, error) {
			return func(ctx context.Context, k int) (int, error) {
				built = append(built, name)
				return build(ctx, k)
			}
		}
		old := version == "1"
		low = must(Register(m, "low", Spec[int, int]{Version: version, Build: builder("low", func(ctx context.Context, k int) (int, error) {
			if old {
				return 1, nil
			}
			return 0, errOracle
		})}))
		half := must(Register(m, "half", Spec[int, int]{Memory: true, Build: builder("half", low.Get)}))
		top = must(Register(m, "top", Spec[int, int]{Build: builder("top", half.Get)}))
		return low, top, m
	}
	_, top, m := open()
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	ok(t, m.Invalidate(Only("half"))) // so that it is not flattened
	ok(t, m.Close())
	version = "2"
	_, top, _ = open()
	built = nil
	if _, err := top.Get(t.Context(), 1); !errors.Is(err, errOracle) {
		t.Fatal(err)
	}
	equal(t, "built", strings.Join(built, " "), "half low top")
}

// What was set and invalidated before the contents were loaded has never been
// seen: what is built then is compared with what was saved.
func TestSetAndInvalidatedBeforeLoad(t *testing.T) {
	d := newDisk()
	builds := 0
	open := func() (low, top *Cache[int, int], m *Manager) {
		m = d.open(t, Options{})
		low = must(Register(m, "low", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return 4, nil }}))
		top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			builds++
			return low.Get(ctx, k)
		}}))
		return low, top, m
	}
	_, top, m := open()
	equal(t, "top", must(top.Get(t.Context(), 1)), 4)
	ok(t, m.Close())
	low, top, _ := open()
	ok(t, low.Set(1, 5))
	ok(t, low.Invalidate(1))
	equal(t, "top", must(top.Get(t.Context(), 1)), 4)
	equal(t, "builds", builds, 1)
}

// What is written by hand to a cache in memory, or invalidated, is not forgotten
// by what was computed through it: neither when that happens after a restart, nor
// when a restart follows.
func TestWrittenByHandInMemory(t *testing.T) {
	for _, c := range []struct {
		what  string
		write func(m *Manager, half *Cache[int, int]) error
		want  int // at once
	}{
		{"Set", func(m *Manager, half *Cache[int, int]) error { return half.Set(1, 7) }, 7},
		{"Update", func(m *Manager, half *Cache[int, int]) error {
			_, err := half.Update(1, func(int, bool) (int, bool) { return 7, true })
			return err
		}, 7},
		{"Batch", func(m *Manager, half *Cache[int, int]) error {
			return m.Batch(func(b *Batch) error { half.SetIn(b, 1, 7); return nil })
		}, 7},
		{"Invalidate", func(m *Manager, half *Cache[int, int]) error { return half.Invalidate(1) }, 2},
		{"Delete", func(m *Manager, half *Cache[int, int]) error { return half.Delete(1) }, 2},
		{"InvalidateAll", func(m *Manager, half *Cache[int, int]) error { return half.InvalidateAll() }, 2},
		{"Clear", func(m *Manager, half *Cache[int, int]) error { return half.Clear() }, 2},
		{"Touch", func(m *Manager, half *Cache[int, int]) error { return m.Touch(Only("root")) }, 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := newDisk()
			source, builds := 1, 0 // of which half knows nothing
			open := func() (half, top *Cache[int, int], m *Manager) {
				m = d.open(t, Options{})
				must(Register(m, "root", Spec[int, int]{}))
				in := must(Register(m, "in", Spec[int, int]{}))
				half = must(Register(m, "half", Spec[int, int]{Memory: true, DependsOn: []string{"root"}, Build: func(ctx context.Context, k int) (int, error) {
					in.Get(ctx, k)
					return source, nil
				}}))
				top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
					builds++
					return half.Get(ctx, k)
				}}))
				return half, top, m
			}
			_, top, m := open()
			equal(t, "top", must(top.Get(t.Context(), 1)), 1)
			equal(t, "top", must(top.Get(t.Context(), 2)), 1)
			ok(t, m.Close())

			half, top, m := open() // written after a restart
			equal(t, "after a restart", must(top.Get(t.Context(), 1)), 1)
			equal(t, "builds", builds, 2)
			source = 2
			ok(t, c.write(m, half))
			equal(t, "written after a restart", must(top.Get(t.Context(), 1)), c.want)
			ok(t, half.Invalidate(1))
			equal(t, "invalidated", must(top.Get(t.Context(), 1)), 2)
			ok(t, m.Sync(t.Context()))
			source = 3
			ok(t, c.write(m, half)) // before a restart, and not read again
			ok(t, m.Close())
			_, top, m = open()
			equal(t, "written before a restart", must(top.Get(t.Context(), 1)), 3)
			ok(t, m.Close())
			builds = 0
			_, top, _ = open()
			equal(t, "after another", must(top.Get(t.Context(), 1)), 3)
			equal(t, "builds", builds, 0)
		})
	}
}

// An observer is told why keys are looked at again: they stand for no dependency.
func TestKeysChangeObserved(t *testing.T) {
	var reasons []string
	m := newDisk().open(t, Options{Observe: func(e Event) {
		if e.Kind == EventBuilt && strings.HasSuffix(e.Cache, "in") {
			reasons = append(reasons, e.Reason)
		}
	}})
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		keys, err := in.CollectKeys(ctx)
		return len(keys), err
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 0)
	reasons = nil
	ok(t, in.Set(1, 1))
	equal(t, "c", must(c.Get(t.Context(), 1)), 1)
	equal(t, "reasons", strings.Join(reasons, "; "), "keys were added or removed")
}

// Of two builders each needs the other, but never at once: an input says which.
// One that has read the old value waits for one that reads the new one.
func TestCircleOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
		end := make(chan struct{})
		var c *Cache[int, int]
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			which, err := in.Get(ctx, 1)
			if err == nil && which == k {
				return c.Get(ctx, 3-k)
			}
			if which == 1 {
				<-end
			}
			return which, err
		}}))
		var got sync.WaitGroup
		for k := 2; k > 0; k-- {
			got.Go(func() {
				v, err := c.Get(context.Background(), k)
				if v != 2 || err != nil {
					t.Errorf("c[%d] is %d, %v", k, v, err)
				}
			})
			synctest.Wait()
		}
		ok(t, in.Set(1, 2))
		close(end)
		got.Wait()
	})
}
