package cacheman

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// settle waits until limits of c are enforced.
func settle[K comparable, V any](c *Cache[K, V]) {
	for _, l := range c.limits {
		func() {
			l.wait()
			defer l.turn.Store(nil)
			l.enforce(l.ctx)
		}()
	}
}

// TestLimitOfInputs: entries that were set are deleted, the oldest first, also
// what another process has left.
func TestLimitOfInputs(t *testing.T) {
	d := newDisk()
	for _, memory := range []bool{false, true} {
		m := d.open(t, Options{})
		c := must(Register(m, fmt.Sprint("c", memory), Spec[int, string]{Limit: Limit{Entries: 100}, Memory: memory}))
		for k := range 1000 {
			ok(t, c.Set(k, "value"))
			if k%10 == 0 {
				settle(c)
				if n := c.Len(); n > 100+100/slack+1+10 {
					t.Fatalf("%d entries after %d", n, k)
				}
			}
		}
		settle(c)
		if n := c.Len(); n < 90 || n > 107 {
			t.Errorf("%d entries are left", n)
		}
		if oldest := 1000 - c.Len(); !c.Has(oldest) || c.Has(oldest-1) {
			t.Errorf("not the oldest were deleted")
		}
		equal(t, "evictions", c.Stats().Evictions, int64(1000-c.Len()))
		ok(t, m.Close())
	}
	m := d.open(t, Options{})
	c := must(Register(m, "cfalse", Spec[int, string]{Limit: Limit{Entries: 50}}))
	ok(t, c.Set(1000, "one more"))
	settle(c)
	if n := c.Len(); n > 54 || !c.Has(1000) {
		t.Errorf("%d entries after the limit was made smaller", n)
	}
}

// TestLimitOfLoaded: what is too much when it is loaded is evicted, though nothing changes.
func TestLimitOfLoaded(t *testing.T) {
	for _, limit := range []Limit{{Entries: 50}, {Bytes: 2000}} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			m := openOn(d)
			c := must(Register(m, "c", Spec[int, string]{}))
			for k := range 100 {
				ok(t, c.Set(k, strings.Repeat("x", 40)))
			}
			ok(t, m.Close())
			m = openOn(d)
			defer m.Close()
			c = must(Register(m, "c", Spec[int, string]{Limit: limit}))
			ok(t, c.Load(t.Context()))
			synctest.Wait()
			if n := c.Len(); n > 50 || n < 30 {
				t.Errorf("%d entries are left under %v", n, limit)
			}
		})
	}
}

// layersWithLimit are inputs, what was computed from each, with a limit, and what
// was computed from that.
func layersWithLimit(m *Manager, limit Limit) (in *Cache[int, int], mid, top *Cache[int, string]) {
	in = must(Register(m, "in", Spec[int, int]{}))
	mid = must(Register(m, "mid", Spec[int, string]{Limit: limit, Build: func(ctx context.Context, k int) (string, error) {
		v, err := in.Get(ctx, k)
		return strings.Repeat("x", 100) + fmt.Sprint(v/10), err
	}}))
	top = must(Register(m, "top", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
		v, err := mid.Get(ctx, k)
		return v + "!", err
	}}))
	return in, mid, top
}

// TestLimitOfBuilt: what was computed from an evicted value stays valid, also
// after a restart, and also when the value is built again and is the same.
func TestLimitOfBuilt(t *testing.T) {
	ctx := t.Context()
	for _, limit := range []Limit{{Entries: 20}, {Bytes: 3100}} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			in, mid, top := layersWithLimit(m, limit)
			const n = 30
			for k := range n {
				ok(t, in.Set(k, 10*k))
			}
			for k := range n {
				must(top.Get(ctx, k))
				if k == n/2 {
					ok(t, m.Sync(ctx))
				}
			}
			ok(t, m.Sync(ctx))
			settle(mid)
			if l := mid.Len(); l > 22 || l < 10 {
				t.Fatalf("%d values are left", l)
			}
			if limit.Entries > 0 {
				equal(t, "the oldest is left", mid.Has(0), false)
				equal(t, "why", mid.Explain(0).Why, "its value was evicted, and nothing that it was built from has changed")
			}
			wantBuilds := func(what string, ofMid, ofTop int64) {
				t.Helper()
				settle(mid)
				equal(t, what+": builds of mid", mid.Stats().Builds, ofMid)
				equal(t, what+": builds of top", top.Stats().Builds, ofTop)
			}
			wantBuilds("at first", n, n)
			ok(t, m.Close())

			m = d.open(t, Options{})
			in, mid, top = layersWithLimit(m, limit)
			ok(t, m.Load(ctx, All()))
			for k := range n {
				equal(t, "top", must(top.Get(ctx, k)), strings.Repeat("x", 100)+fmt.Sprint(k)+"!")
			}
			wantBuilds("after a restart", 0, 0)
			equal(t, "it is still evicted", mid.Has(0), false)
			equal(t, "evicted value", must(mid.Get(ctx, 0)), strings.Repeat("x", 100)+"0")
			wantBuilds("the value is wanted", 1, 0)
			must(top.Get(ctx, 0))
			wantBuilds("and was the same", 1, 0)
			equal(t, "next value is evicted", mid.Has(1), false)
			ok(t, in.Set(1, 11))
			must(top.Get(ctx, 1))
			wantBuilds("its input changed, and it did not", 2, 0)
			ok(t, in.Set(2, 30))
			must(top.Get(ctx, 2))
			wantBuilds("it changed", 3, 1)
			ok(t, mid.Invalidate(3))
			must(top.Get(ctx, 3))
			wantBuilds("it was invalidated", 4, 1)
			for k := range n {
				must(mid.Get(ctx, k))
				settle(mid)
			}
			ok(t, m.Sync(ctx))
			settle(mid)
			if l := mid.Len(); l > 22 {
				t.Errorf("%d values are left", l)
			}
		})
	}
}

// TestEvictedByAnotherVersion: what another version has built and evicted is
// compared with what this one builds.
func TestEvictedByAnotherVersion(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	for run, want := range []int64{1, 0, 1} {
		m := d.open(t, Options{})
		version := []string{"1", "2", "3"}[run]
		mid := must(Register(m, "mid", Spec[int, string]{Version: version, Build: func(context.Context, int) (string, error) {
			return strings.Repeat("x", 100) + []string{"same", "same", "other"}[run], nil
		}}))
		top := must(Register(m, "top", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
			return mid.Get(ctx, k)
		}}))
		must(top.Get(ctx, 1))
		equal(t, "builds of mid by version "+version, mid.Stats().Builds, 1)
		equal(t, "builds of top after version "+version, top.Stats().Builds, want)
		for _, r := range mid.residents(nil) {
			_, _, evicted := mid.evict(ctx, r.entry, r.age, false)
			equal(t, "evicted", evicted, true)
		}
		ok(t, m.Close())
	}
}

// TestEvictedForTwoLimits: a value that is too much for two limits at a time goes once, and what
// it has left stays.
func TestEvictedForTwoLimits(t *testing.T) {
	ctx := t.Context()
	in, mid, top := layersWithLimit(newManager(t), Limit{Bytes: 1 << 20})
	ok(t, in.Set(1, 10))
	must(top.Get(ctx, 1))
	for _, r := range mid.residents(nil) {
		for _, want := range []bool{true, false} {
			_, _, evicted := mid.evict(ctx, r.entry, r.age, false)
			equal(t, "evicted", evicted, want)
		}
	}
	must(mid.Get(ctx, 1))
	must(top.Get(ctx, 1))
	equal(t, "builds of mid", mid.Stats().Builds, 2)
	equal(t, "builds of top", top.Stats().Builds, 1)
}

// TestLimitBesideRunning: a value that takes all of the room, and cannot go for it is just being
// built, is no reason to drop what others have left.
func TestLimitBesideRunning(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	running, goOn := make(chan bool), make(chan bool)
	mid := must(Register(m, "mid", Spec[int, string]{Limit: Limit{Bytes: 5000}, Build: func(ctx context.Context, k int) (string, error) {
		n, err := in.Get(ctx, k)
		if n == 6000 {
			running <- true
			<-goOn
		}
		return strings.Repeat("x", n), err
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := mid.Get(ctx, k)
		return len(v), err
	}}))
	for k, n := range []int{5900, 100, 200} {
		ok(t, in.Set(k, n))
		must(top.Get(ctx, k))
	}
	ok(t, in.Set(0, 6000))
	done := make(chan error)
	go func() {
		_, err := top.Get(context.Background(), 0)
		done <- err
	}()
	<-running
	ok(t, m.Sync(ctx))
	settle(mid)
	equal(t, "values", mid.Len(), 1)
	close(goOn)
	ok(t, <-done)
	for k := range 3 {
		must(mid.Get(ctx, k))
		must(top.Get(ctx, k))
	}
	equal(t, "builds of top", top.Stats().Builds, 4)
}

// TestLimitWhileSaving: what values have left is not taken for as large as they were, nor values for
// as small as what they had left, while a sync is under way.
func TestLimitWhileSaving(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	var saving func()
	mid := must(Register(m, "mid", Spec[int, string]{
		Limit: Limit{Bytes: 1 << 20},
		Build: func(ctx context.Context, k int) (string, error) {
			n, err := in.Get(ctx, k)
			return strings.Repeat("x", n), err
		},
		BeforeSave: func(_ context.Context, _ int, v string) (string, error) {
			if f := saving; f != nil {
				saving = nil
				f()
			}
			return v, nil
		},
	}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := mid.Get(ctx, k)
		return len(v), err
	}}))
	sync := func() { ok(t, m.Sync(ctx)) }
	build := func(k, n int) {
		ok(t, in.Set(k, n))
		must(top.Get(ctx, k))
	}
	build(2, 2000)
	sync()
	for _, r := range mid.residents(nil) {
		mid.evict(ctx, r.entry, r.age, false)
	}
	build(1, 3000)
	build(3, 3000)
	saving = func() {
		for _, r := range mid.residents(nil) {
			if r.trace && r.size > 100 {
				t.Errorf("what a value has left counts as %d bytes", r.size)
			}
		}
	}
	sync()
	must(mid.Get(ctx, 2))
	build(3, 3001)
	saving = sync
	l := mid.limits[0]
	l.limit.Bytes = 2500
	l.bytes.Store(-1)
	settle(mid)
	if mid.Has(2) {
		t.Error("it was not evicted")
	}
	must(mid.Get(ctx, 2))
	must(top.Get(ctx, 2))
	equal(t, "builds of top", top.Stats().Builds, 4)
}

// TestLimitOfTracesInTime: it is looked in time also where values become what they leave.
func TestLimitOfTracesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := openOn(newDisk())
		defer m.Close()
		in, mid, _ := layersWithLimit(m, Limit{Entries: 16})
		for k := range 24 {
			ok(t, in.Set(k, 10*k))
			must(mid.Get(ctx, k))
			synctest.Wait()
		}
		for k := range 24 {
			ok(t, mid.Invalidate(k))
			synctest.Wait()
		}
		if n := len(mid.residents(nil)); n > 17 {
			t.Errorf("%d entries have left something", n)
		}
	})
}

// TestLimitOfTraces: what is left of evicted entries is bounded, too, and what was
// computed from those that are gone is built again when it is checked.
func TestLimitOfTraces(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	m := d.open(t, Options{})
	in, mid, top := layersWithLimit(m, Limit{Entries: 16})
	const n = 200
	for k := range n {
		ok(t, in.Set(k, 10*k))
		must(top.Get(ctx, k))
		settle(mid)
	}
	if got := len(mid.residents(nil)); got > 2*16+2 {
		t.Errorf("%d entries have left something", got)
	}
	ok(t, m.Close())
	m = d.open(t, Options{})
	_, mid, top = layersWithLimit(m, Limit{Entries: 16})
	for k := n - 1; k >= 0; k-- {
		equal(t, "top", must(top.Get(ctx, k)), strings.Repeat("x", 100)+fmt.Sprint(k)+"!")
		settle(mid)
	}
	if b := top.Stats().Builds; b < n-2*16-2 || b >= n-10 {
		t.Errorf("%d of %d were built", b, n)
	}
}

// TestLimitOfManager: one limit for all that builders have made; what was set
// is left alone.
func TestLimitOfManager(t *testing.T) {
	ctx := t.Context()
	m := newDisk().open(t, Options{Limit: Limit{Entries: 32}})
	in, mid, top := layersWithLimit(m, Limit{})
	for k := range 100 {
		ok(t, in.Set(k, 10*k))
		must(top.Get(ctx, k))
	}
	settle(mid)
	equal(t, "inputs", in.Len(), 100)
	if n := mid.Len() + top.Len(); n > 36 || n < 28 {
		t.Errorf("%d values are left", n)
	}
	equal(t, "the newest is left", mid.Has(99) && top.Has(99), true)
	equal(t, "the oldest is left", mid.Has(0) || top.Has(0), false)
	before := mid.Stats().Builds + top.Stats().Builds
	equal(t, "top", must(top.Get(ctx, 0)), strings.Repeat("x", 100)+"0!")
	settle(mid)
	if n := mid.Stats().Builds + top.Stats().Builds - before; n != 2 {
		t.Errorf("%d were built", n)
	}
}

// TestLimitRefused: limits that cannot be kept are errors.
func TestLimitRefused(t *testing.T) {
	m := newManager(t)
	limit := Limit{Entries: 1}
	all := func(context.Context) (map[int]int, error) { return nil, nil }
	for what, spec := range map[string]Spec[int, int]{
		"BuildAll":  {Limit: limit, BuildAll: all},
		"Load":      {Limit: limit, Load: all},
		"Save":      {Limit: limit, Save: func(context.Context, map[int]int) error { return nil }},
		"negative":  {Limit: Limit{Entries: -1}},
		"in memory": {Limit: Limit{Bytes: 1}, Memory: true},
	} {
		if _, err := Register(m, what, spec); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Open(t.TempDir(), Options{Limit: Limit{Bytes: -1}}); !errors.Is(err, ErrSpec) {
		t.Errorf("%v", err)
	}
}

// TestUnsavedTraces: what evicted values leave counts as what it is, also as long as it is
// not saved.
func TestUnsavedTraces(t *testing.T) {
	ctx := t.Context()
	m := newDisk().open(t, Options{Autosync: &Autosync{Off: true}})
	in, mid, top := layersWithLimit(m, Limit{Entries: 64, Bytes: 64 * 150})
	for k := range 110 {
		ok(t, in.Set(k, 10*k))
		must(top.Get(ctx, k))
		if k == 60 {
			ok(t, m.Sync(ctx))
		}
		settle(mid)
	}
	if n := mid.Len(); n < 58 || n > 70 {
		t.Errorf("%d values are left", n)
	}
	equal(t, "entries that are left, or have left something", len(mid.residents(nil)), 110)
}

// TestLimitWithoutBounds: a limit may be of any size.
func TestLimitWithoutBounds(t *testing.T) {
	d := newDisk()
	for k := range 2 {
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{Limit: Limit{Entries: math.MaxInt, Bytes: math.MaxInt64}}))
		ok(t, c.Set(k, k))
		settle(c)
		equal(t, "it is loaded to count what there is", c.Stats().Loaded && k == 1, false)
		ok(t, m.Close())
	}
}

// TestLimitBesideUnreadable: that one cache cannot be loaded does not mean that there is
// no limit for others.
func TestLimitBesideUnreadable(t *testing.T) {
	ctx := t.Context()
	bad := &unreadable{disk: newDisk()}
	spec := Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k, nil }}
	m := openOn(bad.disk)
	must(must(Register(m, "in", spec)).Get(ctx, 1))
	ok(t, m.Close())
	m = newDisk().open(t, Options{Limit: Limit{Entries: 32}})
	c := must(Register(m, "c", spec))
	spec.Store = bad
	must(Register(m, "in", spec))
	for k := range 200 {
		must(c.Get(ctx, k))
		settle(c)
	}
	if n := c.Len(); n > 36 || n < 28 {
		t.Errorf("%d values are left", n)
	}
}

// small are inputs, what was computed from each, which is small or a kept error, with a
// limit, and what was computed from that.
func small(m *Manager, limit Limit, version string) (mid, top *Cache[int, int]) {
	mid = must(Register(m, "mid", Spec[int, int]{Limit: limit, Version: version, Build: func(_ context.Context, k int) (int, error) {
		if k%3 == 0 {
			return 0, Keep(errPlanned)
		}
		return k, nil
	}}))
	top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := mid.Get(ctx, k)
		if errors.Is(err, errPlanned) || err != nil && strings.Contains(err.Error(), errPlanned.Error()) {
			return -1, nil
		}
		return v, err
	}}))
	return mid, top
}

// TestLimitOfSmall: what was computed from an evicted value stays valid if it is the
// same, however small it is, and what was computed from a kept error.
func TestLimitOfSmall(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	for run := range 2 {
		m := d.open(t, Options{})
		mid, top := small(m, Limit{Entries: 16}, "")
		ok(t, m.Load(ctx, All()))
		before := top.Stats().Builds
		for range 2 {
			for k := range 30 {
				v := must(top.Get(ctx, k))
				if k%3 > 0 {
					equal(t, "top", v, k)
				}
				if k%5 == 0 {
					mid.Get(ctx, k)
				}
				settle(mid)
			}
		}
		if n := mid.Len(); n > 17 || n < 14 {
			t.Errorf("%d values are left", n)
		}
		want := int64(30 * (1 - run))
		equal(t, "builds of top", top.Stats().Builds-before, want)
		if n := mid.Stats().Evictions; n == 0 {
			t.Error("nothing was evicted")
		}
		ok(t, m.Close())
	}
}

// TestLimitOfSmallBytes: where room is wanted, small values go as a whole, for their
// fingerprints are no smaller, and no more go than have to.
func TestLimitOfSmallBytes(t *testing.T) {
	ctx := t.Context()
	m := newDisk().open(t, Options{})
	mid, _ := small(m, Limit{Bytes: 2000}, "")
	for k := range 400 {
		mid.Get(ctx, k)
		if k%10 == 0 {
			ok(t, m.Sync(ctx))
			settle(mid)
		}
	}
	ok(t, m.Sync(ctx))
	settle(mid)
	bytes := int64(0)
	for _, r := range mid.residents(nil) {
		bytes += r.size
	}
	if bytes > 2000+2000/slack || bytes < 1500 {
		t.Errorf("%d bytes are left", bytes)
	}
	if n := mid.Len(); n < 42 {
		t.Errorf("%d values are left", n)
	}
}

// TestLimitOfOutdated: what another version has built counts, too, and is evicted
// like what this one has.
func TestLimitOfOutdated(t *testing.T) {
	ctx := t.Context()
	for _, limit := range []Limit{{Entries: 32}, {Bytes: 32 * 20}} {
		d := newDisk()
		for version := range 4 {
			m := d.open(t, Options{})
			mid, _ := small(m, limit, fmt.Sprint(version))
			for i := range 32 {
				mid.Get(ctx, 3*(100*version+i)+1)
				settle(mid)
			}
			ok(t, m.Sync(ctx))
			settle(mid)
			ok(t, m.Close())
			records, bytes := 0, int64(0)
			for r, err := range d.Load(ctx, "mid") {
				ok(t, err)
				if len(r.Value) != fingerprintSize {
					records++
				}
				bytes += int64(sizeOf(r))
			}
			if limit.Entries > 0 && records > 34 || limit.Bytes > 0 && bytes > limit.Bytes+limit.Bytes/slack {
				t.Errorf("%+v: with version %d there are %d records of %d bytes", limit, version, records, bytes)
			}
		}
	}
}

// TestLimitOfOutdatedLeavesTraces: also what was computed from values that another version
// has built, and that were evicted, stays valid if they come out the same.
func TestLimitOfOutdatedLeavesTraces(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	var mid, top *Cache[int, string]
	open := func(version string, limit Limit) (m *Manager) {
		m = d.open(t, Options{})
		mid = must(Register(m, "mid", Spec[int, string]{Version: version, Limit: limit, Build: func(_ context.Context, k int) (string, error) {
			return strings.Repeat("x", 100) + fmt.Sprint(k), nil
		}}))
		top = must(Register(m, "top", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
			return mid.Get(ctx, k)
		}}))
		return m
	}
	const n, limit = 30, 20
	m := open("1", Limit{})
	for k := range n {
		must(top.Get(ctx, k))
	}
	ok(t, m.Close())
	m = open("2", Limit{Entries: limit})
	must(mid.Get(ctx, n)) // so that there is a reason to look
	settle(mid)
	values, traces := 0, 0
	for _, r := range mid.residents(nil) {
		if r.trace {
			traces++
		} else {
			values++
		}
	}
	equal(t, "some were evicted, and none is forgotten", values <= limit && values+traces == n+1, true)
	ok(t, m.Close())
	open("2", Limit{Entries: limit})
	for k := range n {
		equal(t, "top", must(top.Get(ctx, k)), strings.Repeat("x", 100)+fmt.Sprint(k))
		settle(mid)
	}
	equal(t, "builds of mid", mid.Stats().Builds, n)
	equal(t, "builds of top", top.Stats().Builds, 0)
}

// TestLimitIsEnforcedInTime: what is edited while a limit is being enforced counts.
func TestLimitIsEnforcedInTime(t *testing.T) {
	for range 5000 {
		synctest.Test(t, func(t *testing.T) {
			m := openOn(newDisk())
			c := must(Register(m, "c", Spec[int, int]{Memory: true, Limit: Limit{Entries: 1}}))
			var wg sync.WaitGroup
			for g := range 2 {
				wg.Go(func() {
					for k := range 3 {
						c.Set(10*g+k, k)
					}
				})
			}
			wg.Wait()
			synctest.Wait()
			if n := c.Len(); n > 1 {
				t.Fatalf("%d values are left", n)
			}
			ok(t, m.Close())
		})
	}
}

// TestLimitOfWhatIsRead: a builder that reads far more than there is room for ends, and runs
// once, as do all that it needs.
func TestLimitOfWhatIsRead(t *testing.T) {
	const n = 30
	for _, limit := range []int{1, 4, 10, 20} {
		for _, of := range []string{"the Manager", "each"} {
			t.Run(fmt.Sprint(limit, " of ", of), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					opts, each := Options{Limit: Limit{Entries: limit}}, Limit{}
					if of == "each" {
						opts, each = Options{}, Limit{Entries: limit}
					}
					m := newDisk().open(t, opts)
					var runs atomic.Int64
					build := func(below *Cache[int, int], from int) func(context.Context, int) (int, error) {
						return func(ctx context.Context, k int) (int, error) {
							runs.Add(1)
							defer time.Sleep(time.Millisecond) // for the limit to be enforced
							if below == nil {
								return k, nil
							}
							sum := 0
							for i := range from {
								v, err := below.Get(ctx, k+i)
								if err != nil {
									return 0, err
								}
								sum += v
							}
							return sum, nil
						}
					}
					leaves := must(Register(m, "leaves", Spec[int, int]{Limit: each, Build: build(nil, 0)}))
					parts := must(Register(m, "parts", Spec[int, int]{Limit: each, Build: build(leaves, 1)}))
					sum := must(Register(m, "sum", Spec[int, int]{Limit: each, Build: build(parts, n)}))
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					v, err := sum.Get(ctx, 0)
					ok(t, err)
					equal(t, "sum", v, n*(n-1)/2)
					equal(t, "runs", runs.Load(), 2*n+1)

					synctest.Wait()
					must(sum.Get(t.Context(), 1)) // so that there is a reason to look again
					synctest.Wait()
					if kept := parts.Len(); kept > limit+limit/slack+1 {
						t.Errorf("%d values are there", kept)
					}
				})
			})
		}
	}
}

// TestLimitReadOnly: what a Manager that only reads has built in memory is limited.
func TestLimitReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		ok(t, openOn(d).Close())
		m := d.open(t, Options{ReadOnly: true})
		c := must(Register(m, "c", Spec[int, int]{Memory: true, Limit: Limit{Entries: 16}, Build: func(_ context.Context, k int) (int, error) {
			return k * k, nil
		}}))
		for k := range 100 {
			equal(t, "value", must(c.Get(t.Context(), k)), k*k)
		}
		synctest.Wait()
		if n := c.Len(); n > 17 {
			t.Errorf("there are %d entries", n)
		}
		equal(t, "value", must(c.Get(t.Context(), 1)), 1)
	})
}

// TestLimitHoldsUnderLoad: however fast entries are added, there are never many more than a limit allows,
// for who adds them waits for what evicts others.
func TestLimitHoldsUnderLoad(t *testing.T) {
	const limit = 1000
	builder := func(_ context.Context, k int) (int, error) { return k, nil }
	for name, spec := range map[string]Spec[int, int]{
		"set":   {Memory: true},
		"built": {Memory: true, Build: builder},
		"saved": {Build: builder},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := openOn(newDisk())
				spec.Limit = Limit{Entries: limit}
				c := must(Register(m, "c", spec))
				var wg sync.WaitGroup
				for g := range 4 {
					wg.Go(func() {
						for i := range 5 * limit {
							if k := i*4 + g; spec.Build != nil {
								must(c.Get(t.Context(), k))
							} else {
								ok(t, c.Set(k, k))
							}
							if n := c.Len(); n > limit+limit/4 {
								t.Errorf("%d values are there, %d are allowed", n, limit)
								return
							}
						}
					})
				}
				wg.Wait()
				ok(t, m.Close())
			})
		})
	}
}

// TestLimitWhoEvictsAdds: what is called while entries are evicted may add others, though it is
// what those would have to wait for.
func TestLimitWhoEvictsAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cache[int, int]
		next := 0
		m := must(Open("", Options{Store: newDisk().Store, Observe: func(e Event) {
			if e.Kind == EventEvicted && next < 1000 {
				for range 100 {
					next++
					ok(t, c.Set(next, next))
				}
			}
		}}))
		c = must(Register(m, "c", Spec[int, int]{Memory: true, Limit: Limit{Entries: 10}}))
		for k := range 20 {
			ok(t, c.Set(-k, k))
		}
		time.Sleep(time.Minute)
		if n := c.Len(); next < 1000 || n > 10 {
			t.Errorf("%d were added while others were evicted, and %d are left", next, n)
		}
		ok(t, m.Close())
	})
}

// TestLimitBatchWaitsOnce: a batch waits once for what is evicted, not for each of its writes.
func TestLimitBatchWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan bool)
		m := must(Open("", Options{Store: newDisk().Store, Observe: func(e Event) {
			if e.Kind == EventEvicted {
				<-goOn
			}
		}}))
		c := must(Register(m, "c", Spec[int, int]{Memory: true, Limit: Limit{Entries: 10}}))
		for k := range 100 {
			ok(t, c.Set(k, k))
		}
		start := time.Now()
		ok(t, c.Set(100, 100))
		equal(t, "a write takes", time.Since(start), time.Millisecond)
		ok(t, m.Batch(func(b *Batch) error {
			for k := range 1000 {
				c.SetIn(b, 1000+k, k)
			}
			return nil
		}))
		equal(t, "both take", time.Since(start), 2*time.Millisecond)
		close(goOn)
		ok(t, m.Close())
	})
}
