package cacheman

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cacheman-go/cacheman/codec"
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
			return 0, errPlanned
		}
		return v, err
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	ok(t, in.Set(1, 2))
	fail = true
	if _, err := top.Get(t.Context(), 1); !errors.Is(err, errPlanned) {
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

	// Nor does it where many are read, in the order of before or another.
	many := must(Register(m, "many", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v := must(in.Get(ctx, 1))
		for i := range 100 {
			for range 2 {
				in.Get(ctx, 10+(i+v/2)%100)
			}
		}
		return v, nil
	}}))
	for v := range 5 {
		ok(t, in.Set(1, v))
		equal(t, "many", must(many.Get(t.Context(), 1)), v)
		equal(t, "edges", len(many.table.Load().shard(1).entries[1].node.Edges()), 101)
	}
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

// Nobody who comes just as a run ends waits for ever (salsa#474: a wake-up that
// was lost between looking and waiting).
func TestPitfallSalsa474(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return k, nil }}))
	for k := range 500 {
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				if v, err := c.Get(context.Background(), k); v != k || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		callers.Wait()
	}
}

// A writer who waits does not stop the reads of a builder that it would have to
// wait for (salsa#75).
func TestPitfallSalsa75(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}}))
		hold := make(chan struct{})
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			a, err := in.Get(ctx, 1)
			if err != nil {
				return 0, err
			}
			<-hold
			b, err := in.Get(ctx, 2)
			return 10*a + b, err
		}}))
		go c.Get(context.Background(), 1)
		synctest.Wait()
		writes := []func() error{
			func() error { return in.Set(1, 2) },
			func() error { return in.Set(2, 2) },
			func() error {
				return m.Batch(func(b *Batch) error { in.SetIn(b, 1, 3); in.SetIn(b, 2, 3); return nil })
			},
			func() error { return m.Invalidate(Only("c")) },
		}
		for _, write := range writes {
			go func() {
				if err := write(); err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		close(hold)
		synctest.Wait()
		a, _ := in.Peek(1)
		b, _ := in.Peek(2)
		equal(t, "c", must(c.Get(t.Context(), 1)), 10*a+b)
	})
}

// A change at the bottom reaches the top through caches that have not changed
// otherwise (Hugo#8863, #10090, #12296), also if what is between is gone
// (Hugo#13331: with a value that was evicted, what depended on it was forgotten).
func TestPitfallHugo12296(t *testing.T) { testHugo(t, func(*Cache[int, int]) error { return nil }) }

func TestPitfallHugo13331(t *testing.T) {
	testHugo(t, func(c *Cache[int, int]) error { return c.Invalidate(1) })
	testHugo(t, func(c *Cache[int, int]) error { return c.InvalidateAll() })
	testHugo(t, func(c *Cache[int, int]) error { return c.Delete(1) })
}

func testHugo(t *testing.T, evict func(*Cache[int, int]) error) {
	t.Helper()
	d := newDisk()
	open := func() (m *Manager, in, half, page *Cache[int, int]) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		half = must(Register(m, "half", Spec[int, int]{Memory: true, Build: in.Get}))
		code := must(Register(m, "code", Spec[int, int]{Build: half.Get}))
		page = must(Register(m, "page", Spec[int, int]{Build: code.Get}))
		return m, in, half, page
	}
	m, in, half, page := open()
	for v := range 4 {
		ok(t, in.Set(1, v))
		equal(t, "page", must(page.Get(t.Context(), 1)), v)
		ok(t, evict(half))
		if v%2 == 1 {
			ok(t, m.Close())
			m, in, half, page = open()
		}
	}
	ok(t, evict(half))
	ok(t, in.Set(1, 9))
	equal(t, "page", must(page.Get(t.Context(), 1)), 9)
}

// What changes outside while nobody is looking is found after a restart
// (next.js#93251, onyx#12272: configuration that a persistent cache did not see).
func TestPitfallNext93251(t *testing.T) {
	outside := 1
	d := newDisk()
	open := func() (m *Manager, c *Cache[int, int]) {
		m = d.open(t, Options{})
		config := must(Register(m, "config", Spec[int, int]{Probe: func(context.Context, int, int, bool) (int, error) { return outside, nil }}))
		return m, must(Register(m, "c", Spec[int, int]{Build: config.Get}))
	}
	m, c := open()
	equal(t, "c", must(c.Get(t.Context(), 1)), 1)
	ok(t, m.Close())
	outside = 2
	_, c = open()
	equal(t, "c", must(c.Get(t.Context(), 1)), 2)
}

// What nobody asked for since something below has changed is not lost: if in the
// end everything below is as it was, it is not built (bazel#29965).
func TestPitfallBazel29965(t *testing.T) {
	d := newDisk()
	builds := 0
	open := func() (m *Manager, in, c *Cache[int, int]) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		half := must(Register(m, "half", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			return v / 100, err
		}}))
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			builds++
			return half.Get(ctx, k)
		}}))
		return m, in, c
	}
	m, in, c := open()
	for k := range 3 {
		ok(t, in.Set(k, 1))
		must(c.Get(t.Context(), k))
	}
	for v := range 10 { // only one of them is asked for
		for k := range 3 {
			ok(t, in.Set(k, v))
		}
		must(c.Get(t.Context(), 0))
		if v == 5 {
			ok(t, m.Close())
			m, in, c = open()
		}
	}
	for k := range 3 {
		must(c.Get(t.Context(), k))
	}
	equal(t, "builds", builds, 3)
}

// What is not read any more is no dependency any more (MobX#2377).
func TestPitfallMobX2377(t *testing.T) {
	m := newManager(t)
	builds := 0
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 1, 1: 10, 2: 20}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		which, err := in.Get(ctx, 0)
		if err != nil {
			return 0, err
		}
		return in.Get(ctx, which)
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 10)
	ok(t, in.Set(0, 2))
	equal(t, "c", must(c.Get(t.Context(), 1)), 20)
	ok(t, in.Set(1, 11))
	equal(t, "c", must(c.Get(t.Context(), 1)), 20)
	equal(t, "builds", builds, 2)
	equal(t, "dependents of what is not read", len(in.Explain(1).Dependents), 0)
	ok(t, in.Set(2, 21))
	equal(t, "c", must(c.Get(t.Context(), 1)), 21)
}

// What a builder reads in several goroutines is built at once (dune#5549, #7251).
func TestPitfallDune5549(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		const n = 4
		meet := make(chan struct{}, n)
		all := make(chan struct{})
		part := must(Register(m, "part", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			meet <- struct{}{}
			<-all
			return k, nil
		}}))
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			var parts sync.WaitGroup
			var sum atomic.Int64
			for k := range n {
				parts.Go(func() { sum.Add(int64(must(part.Get(ctx, k)))) })
			}
			parts.Wait()
			return int(sum.Load()), nil
		}}))
		got := make(chan int, 1)
		go func() { got <- must(c.Get(context.Background(), 1)) }()
		synctest.Wait()
		equal(t, "builders at once", len(meet), n)
		close(all)
		equal(t, "c", <-got, 6)
	})
}

// A key that was forgotten and comes again is not taken for what it was
// (salsa#904: what depended on a slot that was reused passed for verified).
func TestPitfallSalsa904(t *testing.T) {
	d := newDisk()
	open := func() (m *Manager, in, c *Cache[int, int]) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		return m, in, must(Register(m, "c", Spec[int, int]{Build: in.Get}))
	}
	m, in, c := open()
	for v := range 6 {
		ok(t, in.Set(1, v))
		equal(t, "c", must(c.Get(t.Context(), 1)), v)
		ok(t, in.Delete(1))
		ok(t, m.Sync(t.Context()))
		ok(t, in.Set(2, 100)) // takes whatever place is free
		ok(t, in.Delete(2))
		if v%2 == 1 {
			ok(t, m.Close())
			m, in, c = open()
		}
	}
	if v, err := c.Get(t.Context(), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("%d, %v", v, err)
	}
}

// What cannot be decoded is built anew and saved, and is not found damaged at
// every start (next.js#96091, #96093).
func TestPitfallNext96093(t *testing.T) {
	d := newDisk()
	builds, damaged, bad := 0, 0, false
	ints := must(codec.For[int]())
	open := func() (*Manager, *Cache[int, int]) {
		m := d.open(t, Options{Observe: func(e Event) {
			if e.Kind == EventDamaged {
				damaged++
			}
		}})
		return m, must(Register(m, "c", Spec[int, int]{
			Build: func(context.Context, int) (int, error) { builds++; return 7, nil },
			Codec: codec.Codec[int]{Name: "own", Append: ints.Append, Decode: func(src []byte) (int, error) {
				if bad {
					return 0, errPlanned
				}
				return ints.Decode(src)
			}},
		}))
	}
	m, c := open()
	must(c.Get(t.Context(), 1))
	ok(t, m.Close())
	bad = true
	m, c = open()
	equal(t, "c", must(c.Get(t.Context(), 1)), 7)
	equal(t, "builds", builds, 2)
	equal(t, "damaged", damaged, 1)
	bad = false
	ok(t, m.Close())
	_, c = open()
	equal(t, "c", must(c.Get(t.Context(), 1)), 7)
	equal(t, "builds", builds, 2)
	equal(t, "damaged", damaged, 1)
}

// Equal values have equal bytes, whatever the order in which a map gives its
// keys (Rust 1.52.1: fingerprints that were not stable).
func TestPitfallRust1521(t *testing.T) {
	m := newManager(t)
	builds := 0
	in := must(Register(m, "in", Spec[int, int]{}))
	mid := must(Register(m, "mid", Spec[int, map[string]int]{Build: func(ctx context.Context, k int) (map[string]int, error) {
		all := map[string]int{}
		for i := range 100 {
			all[strings.Repeat("k", i)] = i
		}
		_, err := in.Get(ctx, k)
		return all, err
	}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		all, err := mid.Get(ctx, k)
		return len(all), err
	}}))
	for v := range 20 {
		ok(t, in.Set(1, v))
		must(c.Get(t.Context(), 1))
	}
	equal(t, "builds", builds, 1)
}

// A builder may need other keys of its own cache, in any shard, while others
// write to it (caffeine#160, #712, #771, #1489; guava#3602, #6845).
func TestPitfallCaffeine712(t *testing.T) {
	m := newManager(t)
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if k == 0 {
			return 1, nil
		}
		v, err := c.Get(ctx, k-1)
		return v + 1, err
	}}))
	const n = 300
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range n {
				k := (i*(g+1) + g) % n
				if v, err := c.Get(context.Background(), k); v != k+1 || err != nil {
					t.Errorf("c[%d] is %d, %v", k, v, err)
				}
				if err := c.Set(n+k, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// After a failure an entry hears of changes as before (go-incr#22: with an error
// and another attempt it was lost).
func TestPitfallGoIncr22(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if v%2 == 1 {
			return 0, errPlanned
		}
		return v, err
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: c.Get}))
	for v := range 6 {
		ok(t, in.Set(1, v))
		for range 2 {
			got, err := top.Get(t.Context(), 1)
			if v%2 == 1 && !errors.Is(err, errPlanned) || v%2 == 0 && (err != nil || got != v) {
				t.Fatalf("top is %d, %v with %d", got, err, v)
			}
		}
	}
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
			return 0, errPlanned
		}
		return in.Get(ctx, 0)
	}}))
	ok(t, in.Set(0, 1))
	must(c.Get(t.Context(), n-1))
	ok(t, in.Set(0, 2))
	builds, fail = 0, true
	if _, err := c.Get(t.Context(), n-1); !errors.Is(err, errPlanned) {
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
			return 0, errPlanned
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
	if _, err := top.Get(t.Context(), 1); !errors.Is(err, errPlanned) {
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

// What was computed through a cache in memory is built anew when that has another version, as
// if it were saved, and not otherwise.
func TestVersionInMemory(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	built := ""
	run := func(name, version string, value int) {
		t.Helper()
		m := d.open(t, Options{})
		in := must(Register(m, "in", Spec[int, int]{}))
		half := must(Register(m, name, Spec[int, int]{Memory: true, Version: version, Build: func(ctx context.Context, k int) (int, error) {
			n, err := in.Get(ctx, k)
			return n + len(version), err
		}}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			built += "top "
			return half.Get(ctx, k)
		}}))
		above := must(Register(m, "above", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			built += "above "
			return top.Get(ctx, k)
		}}))
		ok(t, in.Set(1, value))
		equal(t, "value", must(above.Get(ctx, 1)), value+len(version))
		ok(t, m.Close())
	}
	for _, c := range []struct {
		name    string
		version string
		value   int
		built   string
	}{
		{"half", "", 1, "above top "},
		{"half", "", 1, ""},
		{"half", "v", 1, "top above "},
		{"half", "v", 1, ""},
		{"half", "w", 1, "top "},
		{"half", "w", 1, ""},
		{"half", "w", 2, "top above "},
		{"half", "", 2, "top above "},
		{"half", "w", 2, "top above "},
		{"other", "v", 2, "top "},
		{"other", "w", 2, "top "},
		{"other", "w", 2, ""},
	} {
		built = ""
		run(c.name, c.version, c.value)
		equal(t, fmt.Sprintf("built in version %q", c.version), built, c.built)
	}
}

// So it is if the cache has another name when it is written to, or is saved, or has no
// builder any more.
func TestWrittenByHandElsewhere(t *testing.T) {
	ctx := t.Context()
	for _, now := range []string{"as it was", "renamed", "saved", "without a builder", "off"} {
		t.Run(now, func(t *testing.T) {
			d := newDisk()
			open := func(now string) (in, half, top *Cache[int, int], m *Manager) {
				m = d.open(t, Options{})
				in = must(Register(m, "in", Spec[int, int]{}))
				name, spec := "half", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}
				switch now {
				case "renamed":
					name, spec.Formerly = "other", []string{"half"}
				case "saved":
					spec.Memory = false
				case "without a builder":
					spec.Build = nil
				case "off":
					spec.Off = true
				}
				half = must(Register(m, name, spec))
				top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return half.Get(ctx, k) }}))
				return in, half, top, m
			}
			in, _, top, m := open("as it was")
			ok(t, in.Set(1, 1))
			equal(t, "top", must(top.Get(ctx, 1)), 1)
			ok(t, m.Close())
			if now != "saved" && now != "without a builder" {
				_, _, top, m = open(now)
				equal(t, "top after a restart", must(top.Get(ctx, 1)), 1)
				equal(t, "builds", top.Stats().Builds, 0)
				ok(t, m.Close())
			}
			_, half, top, _ := open(now)
			ok(t, half.Set(1, 7))
			if now != "off" { // then it is forgotten
				equal(t, "top after a write", must(top.Get(ctx, 1)), 7)
			}
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

// TestPointersToPlainValues: they are compared by what they point to, without
// being encoded.
func TestPointersToPlainValues(t *testing.T) {
	type point struct {
		X, Y int
		Name string
	}
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, *point]{Memory: true}))
	builds := 0
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		p, err := c.Get(ctx, k)
		if err != nil || p == nil {
			return 0, err
		}
		return p.X, nil
	}}))
	for i, step := range []struct {
		p      *point
		builds int
	}{{&point{1, 2, "a"}, 1}, {&point{1, 2, "a"}, 1}, {&point{1, 3, "a"}, 2}, {&point{1, 3, "b"}, 3}, {nil, 4}, {nil, 4}, {&point{}, 5}} {
		ok(t, c.Set(1, step.p))
		must(top.Get(t.Context(), 1))
		equal(t, fmt.Sprint("builds after step ", i), builds, step.builds)
	}
	p, q := &point{1, 2, "a"}, &point{1, 2, "a"}
	if n := testing.AllocsPerRun(100, func() { c.equal(p, q) }); n > 0 {
		t.Errorf("a comparison allocates %v times", n)
	}
}
