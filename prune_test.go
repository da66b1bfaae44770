package cacheman

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
)

// without returns how many entries c has in memory, and how many of them have no value.
func (c *Cache[K, V]) without() (entries, without int) {
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		entries += len(s.entries)
		without += len(s.entries) - s.live
		s.mu.RUnlock()
	}
	return entries, without
}

// pruneAll takes out of c what nobody needs.
func (c *Cache[K, V]) pruneAll() {
	t := c.table.Load()
	for i := range t.shards {
		c.pruneNow(t, &t.shards[i])
	}
}

// pruneEarly is pruneFrom for these tests.
const pruneEarly = 4

// openPruning opens a Manager that prunes early.
func openPruning(s store.Store) *Manager {
	m := openOn(s)
	m.pruneFrom = pruneEarly
	return m
}

// mostWithout is how many entries without a value a cache may have of which nobody needs any.
const mostWithout = manyShards * (pruneEarly + 1)

// TestKeysThatGo has keys come and go: of those that have gone nothing is left, in memory or in the
// store, whatever was computed from them and in whatever order they go.
func TestKeysThatGo(t *testing.T) {
	t.Parallel()
	const n, live = 1500, 50
	for _, memory := range []bool{false, true} {
		for _, order := range []string{"in d top", "top d in", "d top in", "in top d"} {
			t.Run(fmt.Sprint(order, " memory ", memory), func(t *testing.T) {
				t.Parallel()
				st := newDisk()
				m := openPruning(st)
				defer m.Close()
				in := must(Register(m, "in", Spec[int, int]{Memory: memory}))
				d := must(Register(m, "d", Spec[int, int]{Memory: memory, Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
				top := must(Register(m, "top", Spec[int, int]{Memory: memory, Build: func(ctx context.Context, k int) (int, error) { return d.Get(ctx, k) }}))
				caches := map[string]*Cache[int, int]{"in": in, "d": d, "top": top}
				var names [3]string
				fmt.Sscan(order, &names[0], &names[1], &names[2])
				for i := range n {
					in.Set(i, i)
					equal(t, "top", must(top.Get(t.Context(), i)), i)
					for _, name := range names {
						if i >= live {
							caches[name].Delete(i - live)
						}
					}
					if i%100 == 0 {
						ok(t, m.Sync(t.Context()))
					}
				}
				ok(t, m.Sync(t.Context()))
				for name, c := range caches {
					equal(t, "len of "+name, c.Len(), live)
					if entries, without := c.without(); without > 2*mostWithout { // half of them wait for a sync
						t.Errorf("%s has %d entries of which %d have no value", name, entries, without)
					}
				}
				if !memory {
					for range 3 { // what is found out to be of no use is deleted by the sync that follows
						for _, c := range caches {
							c.pruneAll()
						}
						ok(t, m.Sync(t.Context()))
					}
					for name := range caches {
						equal(t, "records of "+name, records(t, st, name), live)
					}
				}
				for fault := range m.Check() {
					t.Error(fault)
				}
			})
		}
	}
}

// records returns how many records the store has of a cache.
func records(t *testing.T, st store.Store, cache string) (n int) {
	t.Helper()
	for _, err := range st.Load(t.Context(), cache) {
		ok(t, err)
		n++
	}
	return n
}

// TestAbsentKeysThatGo has a builder ask for other keys, that are not there, each time.
func TestAbsentKeysThatGo(t *testing.T) {
	t.Parallel()
	const n, each = 200, 10
	for _, memory := range []bool{false, true} {
		m := openPruning(newDisk())
		defer m.Close()
		in := must(Register(m, "in", Spec[int, int]{Memory: memory}))
		now := must(Register(m, "now", Spec[int, int]{Memory: memory}))
		d := must(Register(m, "d", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			i := must(now.Get(ctx, 0))
			for j := range each {
				if _, err := in.Get(ctx, i*each+j); !errors.Is(err, ErrNotFound) {
					return i, err
				}
			}
			return -i, nil
		}}))
		for i := range n {
			now.Set(0, i)
			equal(t, "nothing is there", must(d.Get(t.Context(), 0)), -i)
		}
		if entries, without := in.without(); without > mostWithout {
			t.Errorf("there are %d entries of which %d have no value", entries, without)
		}
		in.Set(n*each-1, 1) // the last that was asked for
		equal(t, "something is there", must(d.Get(t.Context(), 0)), n-1)
	}
}

// TestFailedKeysThatGo asks for keys that cannot be built.
func TestFailedKeysThatGo(t *testing.T) {
	t.Parallel()
	m := openPruning(newDisk())
	defer m.Close()
	d := must(Register(m, "d", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, errors.New("no") }}))
	for i := range 2000 {
		if _, err := d.Get(t.Context(), i); err == nil {
			t.Fatal("it was built")
		}
	}
	if entries, _ := d.without(); entries > mostWithout {
		t.Errorf("there are %d entries", entries)
	}
}

// TestFailsOnceHoweverMany has one call lead to a failure, then to many others, and then to the
// first again: that is not tried again, however many entries there are without a value.
func TestFailsOnceHoweverMany(t *testing.T) {
	t.Parallel()
	m := openPruning(newDisk())
	defer m.Close()
	tried := make(map[int]int)
	bad := must(Register(m, "bad", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) {
		tried[k]++
		return 0, errors.New("no")
	}}))
	mid := must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		bad.Get(ctx, k)
		return k, nil
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		for i := range 25 * pruneEarly {
			mid.Get(ctx, i)
		}
		for i := range 25 * pruneEarly {
			bad.Get(ctx, i)
		}
		return k, nil
	}}))
	top.Get(t.Context(), 0)
	for k, n := range tried {
		if n != 1 {
			t.Fatalf("%d was tried %d times", k, n)
		}
	}
	equal(t, "tried", len(tried), 25*pruneEarly)
}

// TestManyAbsentLinked has an entry that has asked for many keys that are not there: after a restart
// it is found valid, though each of them is looked up before anybody needs it.
func TestManyAbsentLinked(t *testing.T) {
	t.Parallel()
	st := newDisk()
	builds := 0
	for range 2 {
		m := openPruning(st)
		in := must(Register(m, "in", Spec[int, int]{}))
		d := must(Register(m, "d", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			builds++
			for i := range 25 * pruneEarly {
				in.Get(ctx, i)
			}
			return 1, nil
		}}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		equal(t, "it", must(d.Get(ctx, 0)), 1)
		cancel()
		ok(t, m.Close())
	}
	equal(t, "builds", builds, 1)
}

// TestWhatIsReadStays has entries invalidated that others were computed from, and many that nothing was:
// when the former come out as they were, nothing else is built, also after a restart, and also if they
// were invalidated after it and what was computed from them has not been looked at.
func TestWhatIsReadStays(t *testing.T) {
	t.Parallel()
	const n = 12 * pruneEarly
	for _, memory := range []bool{false, true} {
		st := newDisk()
		var m *Manager
		var d, top *Cache[int, int]
		built := 0
		open := func() {
			m = openPruning(st)
			d = must(Register(m, "d", Spec[int, int]{Memory: memory, Build: func(_ context.Context, k int) (int, error) { return k % 7, nil }}))
			top = must(Register(m, "top", Spec[int, int]{Memory: memory, Build: func(ctx context.Context, k int) (int, error) {
				built++
				return d.Get(ctx, k)
			}}))
		}
		invalidate := func() {
			ok(t, d.Load(t.Context()))
			for k := range n {
				ok(t, d.Invalidate(k))
			}
			for k := n; k < 20*n; k++ { // nothing is computed from these
				must(d.Get(t.Context(), k))
				ok(t, d.Invalidate(k))
			}
		}
		get := func(when string, want int) {
			built = 0
			for k := range n {
				equal(t, "top", must(top.Get(t.Context(), k)), k%7)
			}
			equal(t, "built "+when, built, want)
		}
		open()
		get("at first", n)
		invalidate()
		get("after they were invalidated", 0)
		if !memory {
			invalidate()
			ok(t, m.Close())
			open()
			get("after a restart", 0)
			ok(t, m.Close())
			open()
			invalidate()
			get("when they were invalidated after a restart", 0)
			ok(t, m.Close())
			open()
			invalidate()
			ok(t, m.Close())
			open()
			get("when they were invalidated between two restarts", 0)
		}
		ok(t, m.Close())
	}
}

// TestReloadedStillReads has entries invalidated when what was computed from them has been read anew
// from the store, and was not looked at since it was marked.
func TestReloadedStillReads(t *testing.T) {
	t.Parallel()
	m := openPruning(newDisk())
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{}))
	d := must(Register(m, "d", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return k, errOf(in.Get(ctx, k)) }}))
	built := 0
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		built++
		return d.Get(ctx, k)
	}}))
	ok(t, in.Set(1, 1))
	must(top.Get(t.Context(), 1))
	ok(t, m.Sync(t.Context()))
	ok(t, in.Set(1, 2))
	ok(t, top.Reload(t.Context()))
	ok(t, d.Invalidate(1))
	built = 0
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	equal(t, "built", built, 0)
}

// TestEvictedUnread has entries evicted: of those that nobody has read nothing is left.
func TestEvictedUnread(t *testing.T) {
	t.Parallel()
	m := openOn(newDisk())
	defer m.Close()
	d := must(Register(m, "d", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k, nil }}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return d.Get(ctx, k) }}))
	must(d.Get(t.Context(), 1))
	must(top.Get(t.Context(), 2))
	for _, r := range d.residents(nil) {
		_, left, evicted := d.evict(t.Context(), r.entry, r.age, false)
		equal(t, "evicted", evicted, true)
		equal(t, "something is left", left > 0, r.entry.(*entry[int, int]).key == 2)
	}
	equal(t, "left", len(d.residents(nil)), 1)
	ok(t, m.Sync(t.Context()))
	entries, _ := d.without()
	equal(t, "in the table", entries, 1)
}

// TestSavedIsNotNeeded deletes entries and prunes before that is saved: what waited for it does not count as
// needed afterwards, or each time twice as many would come together.
func TestSavedIsNotNeeded(t *testing.T) {
	t.Parallel()
	m := openOn(newDisk())
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{}))
	d := must(Register(m, "d", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
	for k := range 10 {
		ok(t, in.Set(k, k))
		must(d.Get(t.Context(), k))
		ok(t, in.Delete(k))
	}
	in.pruneAll()
	needed := &in.table.Load().shards[0].needed
	equal(t, "waiting", *needed, 10)
	ok(t, m.Sync(t.Context()))
	equal(t, "needed", *needed, 0)
}

func errOf[T any](_ T, err error) error { return err }

// TestForgottenOnlyWhereNobodyReads looks at single entries.
func TestForgottenOnlyWhereNobodyReads(t *testing.T) {
	t.Parallel()
	m := openPruning(newDisk())
	defer m.Close()
	d := must(Register(m, "d", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k, nil }}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return d.Get(ctx, k) }}))
	remembered := func(k int) (is bool) {
		_, s := d.rlock(k)
		defer s.mu.RUnlock()
		m.graph.Lock()
		defer m.graph.Unlock()
		if e := s.entries[k]; e != nil {
			_, is = e.old()
		}
		return is
	}
	must(d.Get(t.Context(), 1))
	must(top.Get(t.Context(), 2))
	must(top.Get(t.Context(), 3))
	for k := 1; k <= 3; k++ {
		ok(t, d.Invalidate(k))
	}
	equal(t, "not read", remembered(1), false)
	equal(t, "read", remembered(2), true)
	ok(t, top.Invalidate(3))
	d.pruneAll()
	equal(t, "read by what is still there", remembered(2), true)
	ok(t, m.Sync(t.Context()))
	equal(t, "why", d.Explain(1).Why, "it was invalidated")
	equal(t, "read by what was invalidated", remembered(3), false)
}
