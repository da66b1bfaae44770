package cacheman

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Each test here fails when one mechanism of the engine is taken out; proof/mutate
// does that, with few other files, so that it is quick.

// heldBack returns inputs and what is built of two of them. The first run waits
// between the two reads; second is the error of the second read then.
func heldBack(t *testing.T) (in, c *Cache[int, int], second *error, began, end chan struct{}) {
	m := newManager(t)
	in = must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}}))
	began, end, second = make(chan struct{}), make(chan struct{}), new(error)
	runs := 0
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		a, err := in.Get(ctx, 1)
		if err != nil {
			a = -1
		}
		first := false
		if runs++; runs == 1 {
			first = true
			close(began)
			<-end
		}
		b, err := in.Get(ctx, 2)
		if first {
			*second = err
		}
		if err != nil {
			b = -1
		}
		return 10*a + b, nil
	}}))
	return in, c, second, began, end
}

// TestBuilderSeesOneInstant: when something changes that a builder has read, its
// next read says so, and what it makes of the mixture is dropped.
func TestBuilderSeesOneInstant(t *testing.T) {
	for name, test := range map[string]struct {
		change func(in *Cache[int, int]) error
		want   int
	}{
		"Set":           {func(in *Cache[int, int]) error { return in.Set(1, 2) }, 21},
		"Delete":        {func(in *Cache[int, int]) error { return in.Delete(1) }, -9},
		"Clear":         {func(in *Cache[int, int]) error { return in.Clear() }, -11},
		"InvalidateAll": {func(in *Cache[int, int]) error { return in.InvalidateAll() }, -11},
		"Batch": {func(in *Cache[int, int]) error {
			return in.m.Batch(func(b *Batch) error {
				in.SetIn(b, 1, 3)
				in.SetIn(b, 2, 3)
				return nil
			})
		}, 33},
	} {
		t.Run(name, func(t *testing.T) {
			in, c, second, began, end := heldBack(t)
			got := make(chan int, 1)
			go func() { got <- must(c.Get(context.Background(), 1)) }()
			<-began
			ok(t, test.change(in))
			close(end)
			equal(t, "c", <-got, test.want)
			if !errors.Is(*second, ErrStale) {
				t.Errorf("the builder went on to read, with the error %v", *second)
			}
			equal(t, "c", must(c.Get(t.Context(), 1)), test.want)
		})
	}
}

// TestChangeWhilePublishing: something changes when the builder has returned and
// its result is being compared. It is not published.
func TestChangeWhilePublishing(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	comparing := func() {}
	c := must(Register(m, "c", Spec[int, int]{
		Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) },
		Equal: func(a, b int) bool {
			comparing()
			return a == b
		},
	}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 1)
	ok(t, in.Set(1, 2))
	comparing = func() {
		comparing = func() {}
		set := make(chan error)
		go func() { set <- in.Set(1, 3) }()
		ok(t, <-set)
	}
	equal(t, "c", must(c.Get(t.Context(), 1)), 3)
}

// TestSetWhileBuilding: what is set while its builder runs stays, also if the
// builder reads nothing after that.
func TestSetWhileBuilding(t *testing.T) {
	m := newManager(t)
	began, end := make(chan struct{}), make(chan struct{})
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		close(began)
		<-end
		return 1, nil
	}}))
	got := make(chan int, 1)
	go func() { got <- must(c.Get(context.Background(), 1)) }()
	<-began
	ok(t, c.Set(1, 7))
	close(end)
	<-got
	equal(t, "c", must(c.Get(t.Context(), 1)), 7)
}

// TestSupersededRunSeesNoMixture: an entry is invalidated while it is built, and
// then something changes that its builder has read. Whoever waits for that gets
// no mixture.
func TestSupersededRunSeesNoMixture(t *testing.T) {
	in, c, second, began, end := heldBack(t)
	got := make(chan int, 1)
	go func() { got <- must(c.Get(context.Background(), 1)) }()
	<-began
	ok(t, c.Invalidate(1))
	ok(t, in.Set(1, 3))
	ok(t, in.Set(2, 3))
	close(end)
	equal(t, "c", <-got, 33)
	if !errors.Is(*second, ErrStale) {
		t.Errorf("the builder went on to read, with the error %v", *second)
	}
}

// TestAbsenceIsOlder: an input that is gone has a smaller stamp than the one that
// was read, and that is a change.
func TestAbsenceIsOlder(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	c := must(Register(m, "c", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) {
		_, err := in.Get(ctx, k)
		return err == nil, nil
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), true)
	ok(t, in.Delete(1))
	equal(t, "c", must(c.Get(t.Context(), 1)), false)
}

// TestBatchReachesWhatIsBuilt: a batch concerns what was computed from its writes.
func TestBatchReachesWhatIsBuilt(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 2}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		return must(in.Get(ctx, 1)) + must(in.Get(ctx, 2)), nil
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 3)
	ok(t, m.Batch(func(b *Batch) error {
		in.SetIn(b, 1, 10)
		in.SetIn(b, 2, 20)
		return nil
	}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 30)
}

// TestCheckedInOrder: what was read because of something is not brought up to
// date when that has changed.
func TestCheckedInOrder(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 1, 1: 1}}))
	builds := 0
	below := must(Register(m, "below", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		return in.Get(ctx, k)
	}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		switch which, err := in.Get(ctx, 0); {
		case err != nil || which == 0:
			return 0, err
		default:
			return below.Get(ctx, which)
		}
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 1)
	ok(t, in.Set(0, 0))
	ok(t, in.Set(1, 2))
	equal(t, "c", must(c.Get(t.Context(), 1)), 0)
	equal(t, "builds of what is not needed any more", builds, 1)
}

// TestCheckedAtOneInstant: while one dependency is brought up to date another
// changes, which was found unchanged before.
func TestCheckedAtOneInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}}))
		began, end := make(chan struct{}), make(chan struct{})
		runs := 0
		half := must(Register(m, "half", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			if k == 2 {
				if runs++; runs == 2 {
					close(began)
					<-end
				}
				v = 0
			}
			return v, err
		}}))
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			return must(half.Get(ctx, 1)) + must(half.Get(ctx, 2)), nil
		}}))
		equal(t, "c", must(c.Get(t.Context(), 1)), 1)
		ok(t, in.Set(2, 2))
		got := make(chan int, 1)
		go func() { got <- must(c.Get(context.Background(), 1)) }()
		<-began
		ok(t, in.Set(1, 5))
		close(end)
		<-got
		equal(t, "c", must(c.Get(t.Context(), 1)), 5)
	})
}

// TestEqualResultStopsChange: what comes out as before concerns nobody above.
func TestEqualResultStopsChange(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	half := must(Register(m, "half", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		return v / 100, err
	}}))
	builds := 0
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		return half.Get(ctx, k)
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 0)
	ok(t, in.Set(1, 2))
	equal(t, "c", must(c.Get(t.Context(), 1)), 0)
	equal(t, "builds", builds, 1)
}

// TestAskedWhenTold: the world outside is asked when somebody says that it may have
// changed, and not because what a probe has read was built and came out as before.
func TestAskedWhenTold(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	half := must(Register(m, "half", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		return v / 100, err
	}}))
	world := 1
	probe := must(Register(m, "probe", Spec[int, int]{Probe: func(ctx context.Context, k, _ int, _ bool) (int, error) {
		v, err := half.Get(ctx, k)
		return world + v, err
	}}))
	equal(t, "probe", must(probe.Get(t.Context(), 1)), 1)
	world = 2
	ok(t, in.Set(1, 2))
	equal(t, "probe, not told", must(probe.Get(t.Context(), 1)), 1)
	probe.Recheck(1)
	equal(t, "probe, told", must(probe.Get(t.Context(), 1)), 2)
	world = 3
	probe.Recheck()
	ok(t, in.Set(1, 3))
	equal(t, "probe, told of all", must(probe.Get(t.Context(), 1)), 3)
}

// TestInvalidatedIsBuilt: what was invalidated is built, though nothing that it
// was computed from has changed.
func TestInvalidatedIsBuilt(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
	source := 1
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		return source + v, err
	}}))
	equal(t, "c", must(c.Get(t.Context(), 1)), 2)
	source = 10
	equal(t, "c", must(c.Get(t.Context(), 1)), 2)
	ok(t, c.Invalidate(1))
	equal(t, "c", must(c.Get(t.Context(), 1)), 11)
}

// TestFailingLadder: a failure that those above it make do without costs each builder
// one run, however many ways lead to it; and who asks again is not put off with the
// last failure.
func TestFailingLadder(t *testing.T) {
	m := newManager(t)
	builds, tries := 0, 0
	const depth = 16
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		builds++
		if k < 2 {
			return 0, errPlanned
		}
		sum := 1
		for _, below := range []int{k/2*2 - 2, k/2*2 - 1} {
			if v, err := c.Get(ctx, below); err == nil {
				sum = (sum + v) % 1000
			}
		}
		return sum, nil
	}}))
	for range 2 { // nothing of that is kept
		builds = 0
		got := must(c.Get(t.Context(), 2*depth))
		want := 1
		for range depth - 1 {
			want = (1 + 2*want) % 1000
		}
		equal(t, "the top", got, want)
		equal(t, "builds", builds, 2*depth+1)
	}

	again := must(Register(m, "again", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if k == 0 {
			if tries++; tries < 4 {
				return 0, errPlanned
			}
			return 7, nil
		}
		for range 9 {
			if v, err := must(Lookup[int, int](m, "again")).Get(ctx, 0); err == nil {
				return v, nil
			}
		}
		return 0, errPlanned
	}}))
	equal(t, "who tries again", must(again.Get(t.Context(), 1)), 7)
	equal(t, "tries", tries, 4)
}

// TestSeenClean: an entry that was seen to be clean is looked at again once something
// of its cache was marked.
func TestSeenClean(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}}))
	c := must(Register(m, "c", Spec[int, int]{Build: in.Get}))
	get := func(k, want int) {
		t.Helper()
		for range 2 { // the second is seen to be clean because nothing was marked since
			if v, err := c.Get(t.Context(), k); v != want || err != nil {
				t.Fatalf("c[%d] = %d, %v, want %d", k, v, err, want)
			}
		}
	}
	get(1, 1)
	get(2, 1)
	in.Set(1, 5)
	get(2, 1)
	get(1, 5)
	in.Clear() // doubtful at once
	in.Set(1, 6)
	in.Set(2, 7)
	get(1, 6)
	get(2, 7)
}

// TestInvalidatedAndRestarted: what was invalidated is built after a restart, and
// is the same to what was computed from it if it comes out as it was.
func TestInvalidatedAndRestarted(t *testing.T) {
	d := newDisk()
	source := 1
	open := func() (m *Manager, c, top *Cache[int, int]) {
		m = d.open(t, Options{})
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return source, nil }}))
		top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
		return m, c, top
	}
	m, c, top := open()
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	for _, want := range []int{1, 2} {
		ok(t, c.Invalidate(1))
		ok(t, m.Close())
		builds := int64(want - source)
		source = want
		m, c, top = open()
		equal(t, "there", c.Has(1), false)
		equal(t, "top", must(top.Get(t.Context(), 1)), want)
		equal(t, "builds of c", c.Stats().Builds, 1)
		equal(t, "builds of top", top.Stats().Builds, builds)
	}
}

// TestStampsAfterCrash: no stamp that is saved is given to another value after a
// restart, also if nothing was saved at the end.
func TestStampsAfterCrash(t *testing.T) {
	d := newDisk()
	open := func() (m *Manager, in, c *Cache[int, int]) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
		return m, in, c
	}
	m, in, c := open()
	ok(t, in.Set(1, 1))
	equal(t, "c", must(c.Get(t.Context(), 1)), 1)
	ok(t, m.Sync(t.Context()))
	d = &disk{Store: d.Store} // the process is gone
	_, in, c = open()
	ok(t, in.Set(1, 2))
	equal(t, "c", must(c.Get(t.Context(), 1)), 2)
}

// TestStampsAcrossStores: a builder whose results are in a store of their own has read
// what was lost with the process. That is not taken for what is set afterwards, whenever
// the cache of the builder is registered again.
func TestStampsAcrossStores(t *testing.T) {
	for _, memory := range []bool{false, true} { // the input is not saved at all
		for _, lost := range []bool{false, true} { // nothing is left of the Manager's own store
			for _, when := range []string{"before the write", "after the write", "and not read", "in the run after"} {
				if lost && (when == "and not read" || when == "in the run after") {
					continue // there is no telling
				}
				t.Run(fmt.Sprintf("memory %v, lost %v, %s", memory, lost, when), func(t *testing.T) {
					d, own := newDisk(), newDisk()
					var m *Manager
					var in *Cache[int, int]
					open := func() {
						m = must(Open("", Options{Store: d, Autosync: &Autosync{Off: true}}))
						in = must(Register(m, "in", Spec[int, int]{Memory: memory}))
					}
					register := func() *Cache[int, int] {
						return must(Register(m, "c", Spec[int, int]{Store: own, Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
					}
					open()
					ok(t, m.Sync(t.Context()))
					c := register()
					ok(t, in.Set(1, 1))
					equal(t, "c", must(c.Get(t.Context(), 1)), 1)
					ok(t, c.Sync(t.Context()))
					d, own = &disk{Store: d.Store}, &disk{Store: own.Store} // the process is gone
					if lost {
						d = newDisk()
					}
					open()
					if when == "before the write" {
						c = register()
					}
					ok(t, in.Set(1, 2))
					switch when {
					case "after the write":
						c = register()
					case "and not read":
						register()
						fallthrough
					case "in the run after":
						ok(t, m.Close())
						open()
						if memory {
							ok(t, in.Set(1, 2))
						}
						c = register()
					}
					equal(t, "c, later", must(c.Get(t.Context(), 1)), 2)
				})
			}
		}
	}
}

// TestOtherVersionIsBuilt: what another version of a builder has made is not
// served, though nothing that it was computed from has changed.
func TestOtherVersionIsBuilt(t *testing.T) {
	d := newDisk()
	for version, want := range []int{1, 2} {
		m := d.open(t, Options{})
		in := must(Register(m, "in", Spec[int, int]{}))
		ok(t, in.Set(1, 1))
		c := must(Register(m, "c", Spec[int, int]{Version: string(rune('a' + version)), Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			return v + version, err
		}}))
		equal(t, "c", must(c.Get(t.Context(), 1)), want)
		ok(t, m.Close())
	}
}

// TestStampsOfReaders: what a read-only Manager has built and what the writer
// builds later never have the same stamp.
func TestStampsOfReaders(t *testing.T) {
	dir := t.TempDir()
	open := func(readOnly bool) (m *Manager, mid, top *Cache[int, int]) {
		m = must(Open(dir, Options{ReadOnly: readOnly, Autosync: &Autosync{Off: true}}))
		t.Cleanup(func() { m.Close() })
		in := must(Register(m, "in", Spec[int, int]{}))
		if !readOnly {
			ok(t, in.Set(1, 1))
		}
		mid = must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
		top = must(Register(m, "top", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) { return mid.Get(ctx, k) }}))
		return m, mid, top
	}
	w, wmid, _ := open(false)
	ok(t, w.Sync(t.Context()))
	r, mid, top := open(true)
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	equal(t, "mid", must(mid.Get(t.Context(), 1)), 1)
	ok(t, wmid.Set(1, 99)) // with the stamp that the reader would have used next
	ok(t, w.Sync(t.Context()))
	must(r.Follow(t.Context()))
	equal(t, "top", must(top.Get(t.Context(), 1)), 99)
}

// TestChangeWhileReading: an input changes at the very moment at which a builder
// reads it. What is built does not pass for what the new value makes.
func TestChangeWhileReading(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	reads := make(chan struct{}, 1000)
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		reads <- struct{}{}
		return in.Get(ctx, k)
	}}))
	for k := range 100 {
		ok(t, in.Set(k, 1))
		set := make(chan error)
		go func() {
			<-reads
			set <- in.Set(k, 2)
		}()
		must(c.Get(t.Context(), k))
		ok(t, <-set)
		equal(t, "c", must(c.Get(t.Context(), k)), 2)
		for len(reads) > 0 {
			<-reads
		}
	}
}

// TestSeenChange: who has seen a change sees it also in what is built from it.
func TestSeenChange(t *testing.T) {
	const rounds = 300
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 0}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
	var over atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !over.Load() {
				seen, _ := in.Peek(1)
				if v, err := c.Get(context.Background(), 1); err != nil || v < seen {
					t.Errorf("who has seen %d gets %d, %v", seen, v, err)
					return
				}
			}
		})
	}
	for v := 1; v <= rounds; v++ {
		ok(t, in.Set(1, v))
	}
	over.Store(true)
	readers.Wait()
	equal(t, "c", must(c.Get(t.Context(), 1)), rounds)
}

// TestCircleOfThePast: of two builders each needs the other, but never at once:
// an input says which. One that has read the old value waits for one that reads the new one.
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

// evictedLayers are an input, what was computed from it, with a value that was
// evicted, and what was computed from that.
func evictedLayers(t *testing.T, fail *bool) (in *Cache[int, int], mid *Cache[int, [5]int], top *Cache[int, int]) {
	m := newManager(t)
	in = must(Register(m, "in", Spec[int, int]{}))
	mid = must(Register(m, "mid", Spec[int, [5]int]{Build: func(ctx context.Context, k int) ([5]int, error) {
		v, err := in.Get(ctx, k)
		if *fail {
			err = errPlanned
		}
		return [5]int{v, 1 << 30, 1 << 30, 1 << 30, 1 << 30}, err
	}}))
	top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := mid.Get(ctx, k)
		return v[0], err
	}}))
	ok(t, in.Set(1, 1))
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	for _, r := range mid.residents(nil) {
		_, _, evicted := mid.evict(t.Context(), r.entry, r.age, false)
		equal(t, "evicted", evicted, true)
	}
	equal(t, "there", mid.Has(1), false)
	return in, mid, top
}

// TestEvictedAndWanted: a value that is built again after it was evicted is the
// same to what was computed from it, and until then nothing is built.
func TestEvictedAndWanted(t *testing.T) {
	fail := false
	_, mid, top := evictedLayers(t, &fail)
	must(top.Get(t.Context(), 1))
	equal(t, "builds of mid", mid.Stats().Builds, 1)
	equal(t, "value", must(mid.Get(t.Context(), 1))[0], 1)
	must(top.Get(t.Context(), 1))
	equal(t, "builds of mid", mid.Stats().Builds, 2)
	equal(t, "builds of top", top.Stats().Builds, 1)
}

// TestEvictedAndFailed: while a value that was evicted cannot be built, changes
// below it reach what was computed from it.
func TestEvictedAndFailed(t *testing.T) {
	fail := false
	in, mid, top := evictedLayers(t, &fail)
	fail = true
	if _, err := mid.Get(t.Context(), 1); err == nil {
		t.Fatal("it was built")
	}
	ok(t, in.Set(1, 2))
	fail = false
	equal(t, "top", must(top.Get(t.Context(), 1)), 2)
}
