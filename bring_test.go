package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// bringing is a cache of inputs, one of their halves, and one of what those add up to.
type bringing struct {
	m           *Manager
	in          *Cache[string, int]
	halves, sum *Cache[string, int]
	mu          sync.Mutex
	built       map[string]int
	fail        string // the builder that fails
}

func newBringing(t *testing.T, d *disk) *bringing {
	b := &bringing{m: d.open(t, Options{Autosync: &Autosync{Off: true}}), built: map[string]int{}}
	b.in = must(Register(b.m, "in", Spec[string, int]{}))
	b.halves = must(Register(b.m, "halves", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		if err := b.count("half of " + k); err != nil {
			return 0, err
		}
		v, err := b.in.Get(ctx, k)
		if errors.Is(err, ErrNotFound) {
			err = ErrNotFound
		}
		return v / 2, err
	}}))
	b.sum = must(Register(b.m, "sum", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		if err := b.count("sum of " + k); err != nil {
			return 0, err
		}
		s := 0
		for _, r := range k {
			v, err := b.halves.Get(ctx, string(r))
			if err != nil {
				return 0, err
			}
			s += v
		}
		return s, nil
	}}))
	return b
}

func (b *bringing) count(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.built[what]++
	if what == b.fail {
		return errors.New("it fails")
	}
	return nil
}

// wants checks what was built since it was called last.
func (b *bringing) wants(t *testing.T, what string, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	for k, n := range b.built {
		got = append(got, slices.Repeat([]string{k}, n)...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: built were %q, want %q", what, got, want)
	}
	clear(b.built)
}

func (b *bringing) fill(t *testing.T) {
	t.Helper()
	for i, k := range []string{"a", "b", "c", "d"} {
		ok(t, b.in.Set(k, 10*(i+1)))
	}
	for _, k := range []string{"ab", "bc", "cd"} {
		must(b.sum.Get(t.Context(), k))
	}
	clear(b.built)
}

// TestBuild: exactly what has changed is built, once, also what is needed in caches
// that were not named; reads that follow build nothing.
func TestBuild(t *testing.T) {
	d := newDisk()
	b := newBringing(t, d)
	b.fill(t)
	ok(t, b.m.Build(t.Context(), All(), nil))
	b.wants(t, "nothing has changed")

	ok(t, b.in.Set("b", 21)) // half of it is the same
	ok(t, b.m.Build(t.Context(), All(), nil))
	b.wants(t, "an input has changed", "half of b")

	ok(t, b.in.Set("b", 30))
	ok(t, b.in.Set("d", 50))
	ok(t, b.halves.Build(t.Context()))
	b.wants(t, "one cache", "half of b", "half of d")
	ok(t, b.sum.Build(t.Context()))
	b.wants(t, "the other", "sum of ab", "sum of bc", "sum of cd")

	ok(t, b.in.Set("b", 40))
	ok(t, b.sum.Build(t.Context()))
	b.wants(t, "what the cache needs of another", "half of b", "sum of ab", "sum of bc")
	wantContents(t, b.sum, map[string]int{"ab": 25, "bc": 35, "cd": 40})

	ok(t, b.m.Close())
	again := newBringing(t, d)
	ok(t, again.m.Build(t.Context(), All(), nil))
	again.wants(t, "after a restart")
	equal(t, "state", again.sum.Explain("ab").State, Clean)
	ok(t, again.in.Set("a", 12))
	ok(t, again.m.Build(t.Context(), Only("sum"), nil))
	again.wants(t, "a change after a restart", "half of a", "sum of ab")
}

// TestBuildOfLost: what was computed from a cache that is not there after a restart is
// built, though nothing says that it has changed.
func TestBuildOfLost(t *testing.T) {
	d := newDisk()
	first := newBringing(t, d)
	first.fill(t)
	ok(t, first.m.Close())
	m := d.open(t, Options{Autosync: &Autosync{Off: true}})
	var built atomic.Int64
	halves := must(Register(m, "halves", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		built.Add(1)
		return 1, nil
	}}))
	ok(t, halves.Build(t.Context()))
	equal(t, "built", built.Load(), 4)
	wantContents(t, halves, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1})
}

// TestBuildLeavesAlone: entries that were set stay, and what was deleted or has never
// been asked for is not made.
func TestBuildLeavesAlone(t *testing.T) {
	b := newBringing(t, newDisk())
	b.fill(t)
	ok(t, b.sum.Set("ab", 1))
	ok(t, b.sum.Delete("bc"))
	ok(t, b.in.Set("b", 40))
	ok(t, b.in.Set("e", 1))
	ok(t, b.m.Build(t.Context(), All(), nil))
	b.wants(t, "set and deleted", "half of b")
	wantContents(t, b.sum, map[string]int{"ab": 1, "cd": 35})
	wantContents(t, b.halves, map[string]int{"a": 5, "b": 20, "c": 15, "d": 20})
}

// TestBuildLeavesDeleted: what was deleted before another version built it is not built,
// also after a further restart.
func TestBuildLeavesDeleted(t *testing.T) {
	for _, none := range []bool{false, true} {
		for _, batch := range []bool{false, true} {
			for _, synced := range []bool{false, true} {
				d := newDisk()
				built := 0
				open := func(version string) (*Manager, *Cache[int, int]) {
					m := d.open(t, Options{Autosync: &Autosync{Off: true}})
					return m, must(Register(m, "c", Spec[int, int]{Version: version, Build: func(ctx context.Context, k int) (int, error) {
						if built++; none {
							return 0, ErrNotFound
						}
						return k, nil
					}}))
				}
				m, c := open("1")
				c.Get(t.Context(), 1)
				ok(t, m.Close())
				m, c = open("2")
				if synced {
					ok(t, m.Sync(t.Context()))
				}
				if batch {
					ok(t, m.Batch(func(b *Batch) error { c.DeleteIn(b, 1); return nil }))
				} else {
					ok(t, c.Delete(1))
				}
				ok(t, m.Close())
				_, c = open("2")
				built = 0
				ok(t, c.Build(t.Context()))
				if built != 0 {
					t.Errorf("none %v, in a batch %v, synced %v: it was built", none, batch, synced)
				}
			}
		}
	}
}

// TestBuildFailures: what fails is reported, and the others are built. What several
// need that fails is called once.
func TestBuildFailures(t *testing.T) {
	b := newBringing(t, newDisk())
	b.fill(t)
	b.fail = "half of b"
	for _, k := range []string{"a", "b", "c", "d"} {
		ok(t, b.in.Set(k, 100))
	}
	ok(t, b.in.Delete("d"))
	ok(t, b.sum.Delete("cd"))
	must(b.sum.Get(t.Context(), "ac"))
	ok(t, b.halves.Delete("d"))
	if _, err := b.halves.Get(t.Context(), "d"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	b.wants(t, "before", "half of a", "half of c", "half of d", "sum of ac")
	ok(t, b.in.Set("c", 90))
	err := b.sum.Build(t.Context())
	e, is := errors.AsType[*Error](err)
	if !is || e.Op != "build" || e.Cache != "halves" || e.Key != "b" {
		t.Fatalf("the error is %v", err)
	}
	if n := strings.Count(err.Error(), "it fails"); n != 2 {
		t.Errorf("%d entries could not be built: %v", n, err)
	}
	b.wants(t, "one fails", "half of b", "half of c", "sum of ab", "sum of bc", "sum of ac")
	ok(t, b.m.Build(t.Context(), Only("in"), nil))

	if err := b.m.Build(t.Context(), Only("some"), nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("of an unknown cache: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := b.m.Build(ctx, All(), nil); err == nil || err.Error() != "enough" {
		t.Errorf("with a ctx that has ended: %v", err)
	}
	inner := must(Register(b.m, "inner", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		return 0, b.m.Build(ctx, All(), nil)
	}}))
	if _, err := inner.Get(t.Context(), "k"); !errors.Is(err, ErrInBuilder) {
		t.Errorf("in a builder: %v", err)
	}
	ok(t, b.m.Close())
	if err := b.m.Build(t.Context(), All(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("when it is closed: %v", err)
	}
}

// TestBuildFailsOnce: whoever comes when a builder has just failed is told so, also
// if those who have called it do not know yet.
func TestBuildFailsOnce(t *testing.T) {
	sideBySide(t)
	synctest.Test(t, func(t *testing.T) {
		m := must(Open("", Options{Store: newDisk(), Observe: func(e Event) {
			if e.Kind == EventBuildFailed && e.Cache == "middle" {
				time.Sleep(time.Minute)
			}
		}}))
		defer m.Close()
		in := must(Register(m, "in", Spec[int, int]{}))
		runs, fails := 0, false
		middle := must(Register(m, "middle", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			if runs++; fails {
				return 0, errors.New("it fails")
			}
			return in.Get(ctx, 1)
		}}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			if err != nil {
				return 0, err
			}
			if k == 2 {
				time.Sleep(time.Second) // the other has failed meanwhile
			}
			w, err := middle.Get(ctx, 0)
			return v + w, err
		}}))
		for k := range 3 {
			ok(t, in.Set(k, k))
		}
		must(top.Get(t.Context(), 1))
		must(top.Get(t.Context(), 2))
		runs, fails = 0, true
		for k := range 3 {
			ok(t, in.Set(k, 10+k))
		}
		if err := top.Build(t.Context()); err == nil {
			t.Error("it has succeeded")
		}
		equal(t, "runs", runs, 1)
	})
}

// TestBuildProgress: it is told of all that is looked at, and can be stopped.
func TestBuildProgress(t *testing.T) {
	const n = 3000
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 1}}))
	var ran atomic.Int64
	out := must(Register(m, "out", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		ran.Add(1)
		v, err := in.Get(ctx, 0)
		return v + k, err
	}}))
	for k := range n {
		must(out.Get(t.Context(), k))
	}
	ok(t, in.Set(0, 2))
	ran.Store(0)
	ctx, stop := context.WithCancel(t.Context())
	if err := m.Build(ctx, All(), func(done, total int) {
		if total != n {
			t.Errorf("%d of %d", done, total)
		}
		stop()
	}); err != context.Canceled || ran.Load() == 0 || ran.Load() == n {
		t.Errorf("when it is stopped: %v, %d runs", err, ran.Load())
	}
	var last atomic.Int64
	ok(t, m.Build(t.Context(), All(), func(done, total int) {
		if done == total {
			last.Store(int64(total))
		}
	}))
	if left := last.Load(); left == 0 || left >= n || ran.Load() < n || ran.Load() > n+100 { // some were under way
		t.Errorf("%d were left, and there were %d runs in all", left, ran.Load())
	}
}

// TestBuildProgressSettles: what is clean again because nothing below it has changed is
// looked at once, like all others.
func TestBuildProgressSettles(t *testing.T) {
	const n = 20
	b := newBringing(t, newDisk())
	for k := range n {
		b.in.Set(fmt.Sprint(k), 2*k)
		must(b.sum.Get(t.Context(), fmt.Sprint(k)))
	}
	for k := range 10 { // each has one digit: its half and its sum are in doubt
		b.in.Set(fmt.Sprint(k), 2*k+1)
	}
	last := 0
	ok(t, b.m.Build(t.Context(), All(), func(done, total int) {
		if done <= last || done > total {
			t.Errorf("%d of %d, after %d", done, total, last)
		}
		last = done
	}))
	equal(t, "looked at", last, n+10)
}

// TestBuildWhole: contents that are built as a whole are brought up to date, and what
// was computed from them.
func TestBuildWhole(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 1}}))
	whole := must(Register(m, "whole", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		v, err := in.Get(ctx, 0)
		return map[int]int{1: v, 2: 2 * v}, err
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := whole.Get(ctx, k)
		return 10 * v, err
	}}))
	ok(t, m.Build(t.Context(), Only("whole"), nil))
	wantContents(t, whole, map[int]int{1: 1, 2: 2})
	must(top.Get(t.Context(), 2))
	ok(t, in.Set(0, 5))
	ok(t, m.Build(t.Context(), All(), nil))
	wantContents(t, whole, map[int]int{1: 5, 2: 10})
	wantContents(t, top, map[int]int{2: 100})
}

// TestBuildWhileItChanges: entries that are set, invalidated and replaced meanwhile
// are no older afterwards than when it was called.
func TestBuildWhileItChanges(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	out := must(Register(m, "out", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
		v, err := in.Get(ctx, k%10)
		return fmt.Sprint(k, " of ", v), err
	}}))
	for k := range 10 {
		ok(t, in.Set(k, 0))
	}
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range 200 {
				k := (7*i + g) % 40
				switch i % 5 {
				case 0:
					ok(t, in.Set(k%10, i))
				case 1:
					ok(t, out.Invalidate(k))
				case 2:
					must(out.Get(t.Context(), k))
				case 3:
					ok(t, m.Build(t.Context(), All(), nil))
				case 4:
					if i%50 == 4 {
						ok(t, out.InvalidateAll())
					}
				}
			}
		})
	}
	wg.Wait()
	ok(t, m.Build(t.Context(), All(), nil))
	for k, v := range maps.Collect(out.All()) {
		if want := fmt.Sprint(k, " of ", must(in.Get(t.Context(), k%10))); v != want {
			t.Errorf("%d is %q, want %q", k, v, want)
		}
	}
}

// TestBuildWaits: with an entry that somebody else is building it waits for that.
func TestBuildWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := must(Open("", Options{Store: newDisk()}))
		defer m.Close()
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 1}}))
		var ran atomic.Int64
		goOn := make(chan struct{}, 1)
		out := must(Register(m, "out", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			ran.Add(1)
			<-goOn
			return in.Get(ctx, 0)
		}}))
		goOn <- struct{}{}
		must(out.Get(t.Context(), 1))
		ok(t, in.Set(0, 2))
		go out.Get(context.Background(), 1)
		synctest.Wait()
		done := make(chan error)
		go func() { done <- m.Build(context.Background(), All(), nil) }()
		synctest.Wait()
		goOn <- struct{}{}
		ok(t, <-done)
		equal(t, "runs", ran.Load(), 2)
	})
}

// TestInOrder: nodes are in the order in which they were built, however that is
// distributed, and all are there.
func TestInOrder(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 20_000} {
		for name, built := range map[string]func(i int) uint64{
			"dense":    func(i int) uint64 { return uint64(i) * 7 % 20_011 },
			"the same": func(int) uint64 { return 5 },
			"far":      func(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 },
			"one far": func(i int) uint64 {
				if i == n/2 {
					return math.MaxUint64
				}
				return uint64(n - i)
			},
		} {
			parts := make([][]doubtful, 3)
			left := make(map[*graph.Node]uint64)
			for i := range n {
				d := doubtful{new(graph.Node), built(i)}
				parts[i%3] = append(parts[i%3], d)
				left[d.node] = d.built
			}
			last := uint64(0)
			for _, node := range inOrder(parts) {
				b, there := left[node]
				if !there || b < last {
					t.Fatalf("%d, %s: %d after %d, there: %t", n, name, b, last, there)
				}
				last = b
				delete(left, node)
			}
			equal(t, "nodes that are missing", len(left), 0)
		}
	}
}

// TestBuildOfRestored: what was stored of many entries leads to what they were built from:
// after a restart nothing is built, and after a change what has read it.
func TestBuildOfRestored(t *testing.T) {
	const n = 400
	d := newDisk()
	var in, c *Cache[int, int]
	var runs atomic.Int64
	reads := func(k int) [3]int { return [3]int{k, k * 7 % n, (k + 1) % n} }
	open := func() *Manager {
		m := d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (sum int, err error) {
			runs.Add(1)
			for _, from := range reads(k) {
				v, err := in.Get(ctx, from)
				if err != nil {
					return 0, err
				}
				sum += v
			}
			return sum, nil
		}}))
		return m
	}
	build := func(m *Manager, want int) {
		t.Helper()
		runs.Store(0)
		ok(t, m.Build(t.Context(), All(), nil))
		equal(t, "builders that ran", int(runs.Load()), want)
		for k := range n {
			sum := 0
			for _, from := range reads(k) {
				sum += must(in.Get(t.Context(), from))
			}
			equal(t, "value", must(c.Get(t.Context(), k)), sum)
		}
		equal(t, "builders that ran", int(runs.Load()), want)
	}
	m := open()
	for k := range n {
		ok(t, in.Set(k, 10*k))
	}
	for k := range n {
		must(c.Get(t.Context(), k))
	}
	ok(t, m.Close())
	m = open()
	build(m, 0)
	ok(t, in.Set(35, 1))
	readers := 0
	for k := range n {
		if r := reads(k); slices.Contains(r[:], 35) {
			readers++
		}
	}
	build(m, readers)
}

// TestBuildGoesOn: errors that are results are none of Build's, and a builder that ends its
// goroutine keeps it from nothing else.
func TestBuildGoesOn(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	ok(t, in.Set(0, 1))
	const n = 3 * bringAtOnce
	exits := false
	var runs atomic.Int64
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		runs.Add(1)
		v, err := in.Get(ctx, 0)
		switch {
		case err != nil || v == 1:
			return v, err
		case k == 0 && exits:
			runtime.Goexit()
		case k == 1 || k == n-1:
			return 0, Keep(errPlanned)
		case k == 2 || k == n-2:
			return 0, ErrNotFound
		}
		return v, nil
	}}))
	for k := range n {
		must(c.Get(ctx, k))
	}
	ok(t, in.Set(0, 2))
	runs.Store(0)
	ok(t, c.Build(ctx))
	equal(t, "runs", runs.Load(), n)

	// What is replaced meanwhile is asked for anew.
	ok(t, in.Set(0, 3))
	replaced := false
	ok(t, m.Build(ctx, Only("c"), func(int, int) {
		if !replaced {
			replaced = true
			ok(t, m.Invalidate(Only("c")))
		}
	}))

	for k := range n {
		c.Get(ctx, k)
	}
	ok(t, in.Set(0, 4))
	exits = true
	runs.Store(0)
	err := c.Build(ctx)
	if _, is := errors.AsType[*PanicError](err); !is {
		t.Errorf("got %v", err)
	}
	if e, is := errors.AsType[*Error](err); !is || e.Cache != "c" {
		t.Errorf("%v does not name the cache", err)
	}
	equal(t, "runs", runs.Load(), n)
}
