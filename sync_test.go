package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
)

// TestSyncCostFollowsChange: a sync writes what changed since the last one and
// no more.
func TestSyncCostFollowsChange(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	a := must(Register(m, "a", Spec[int, int]{}))
	b := must(Register(m, "b", Spec[int, int]{}))
	for i := range 1000 {
		a.Set(i, i)
	}
	b.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	equal(t, "ops", len(d.ops), 1001+2) // with two descriptions
	equal(t, "batches", d.count(), 1)
	ok(t, m.Sync(t.Context()))
	equal(t, "batches", d.count(), 1)
	a.Set(7, 8)
	a.Set(7, 9)
	b.Delete(1)
	a.Delete(2000)
	ok(t, m.Sync(t.Context()))
	equal(t, "ops", fmt.Sprint(d.ops), fmt.Sprint([]store.Op{{Kind: store.Put, Cache: "a"}, {Kind: store.Delete, Cache: "b"}}))
	st := a.Stats()
	if st.Dirty != 0 || st.Edits != 0 || st.Syncs != 2 || st.LastSync.IsZero() {
		t.Errorf("statistics are wrong: %+v", st)
	}
	checkTable(t, a)
	checkTable(t, b)
}

// TestSyncIsOneInstant: what changes while a batch is being written is not in
// it, in any cache, and is in the next.
func TestSyncIsOneInstant(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	a := must(Register(m, "a", Spec[int, int]{}))
	b := must(Register(m, "b", Spec[int, int]{}))
	for i := range 3000 {
		a.Set(i, 1)
		b.Set(i, 1)
	}
	d.before = func() {
		for i := range 3000 {
			switch i % 3 {
			case 0:
				a.Set(i, 2)
			case 1:
				a.Delete(i)
			}
			b.Set(i, 2)
		}
		b.Clear()
		b.Set(1, 3)
	}
	ok(t, m.Sync(t.Context()))
	d.before = nil
	now := newDisk()
	now.Store = d.Store
	m2 := now.open(t, Options{})
	for _, name := range []string{"a", "b"} {
		c := must(Register(m2, name, Spec[int, int]{}))
		equal(t, "entries of "+name, c.Len(), 3000)
		for k, v := range c.All() {
			if v != 1 {
				t.Fatalf("%s[%d] is %d in a batch that was taken before", name, k, v)
			}
		}
	}
	checkSaved(t, d, m, a, b)
	checkTable(t, a)
	checkTable(t, b)
}

// checkSaved syncs m and compares what a new Manager finds with caches.
func checkSaved(t *testing.T, d *disk, m *Manager, caches ...*Cache[int, int]) {
	t.Helper()
	ok(t, m.Sync(t.Context()))
	m2 := (&disk{Store: d.Store}).open(t, Options{})
	for _, c := range caches {
		wantContents(t, must(Register(m2, c.Name(), Spec[int, int]{})), maps.Collect(c.All()))
	}
}

// TestFailedSync: nothing is lost, neither what was in the batch nor what came
// after it, and the error names what happened.
func TestFailedSync(t *testing.T) {
	d := newDisk()
	full := errors.New("no space left on device")
	var failed atomic.Int64
	m := d.open(t, Options{Observe: func(e Event) {
		if e.Kind == EventSyncFailed && errors.Is(e.Err, full) {
			failed.Add(1)
		}
	}})
	a := must(Register(m, "a", Spec[int, int]{}))
	b := must(Register(m, "b", Spec[int, int]{}))
	for i := range 2000 {
		a.Set(i, 1)
	}
	b.Set(1, 1)
	checkSaved(t, d, m, a, b)
	a.Set(1, 2)
	a.Delete(2)
	b.Clear()
	b.Set(2, 2)
	d.setFail(full)
	d.before = func() { a.Set(1, 3); a.Set(5, 3); a.Set(2, 7); b.Set(3, 3) }
	if err := m.Sync(t.Context()); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	d.before = nil
	equal(t, "events", failed.Load(), 1)
	if st := b.Stats(); !errors.Is(st.LastError, full) || st.SyncErrors != 1 || st.Edits == 0 {
		t.Errorf("statistics are wrong: %+v", st)
	}
	if err := m.Sync(t.Context()); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	d.setFail(nil)
	checkSaved(t, d, m, a, b)
	wantContents(t, b, map[int]int{2: 2, 3: 3})
	checkTable(t, a)
	checkTable(t, b)
}

// TestFailedSyncThenClear: what a failed batch had taken does not come back
// after the contents were replaced.
func TestFailedSyncThenClear(t *testing.T) {
	for _, replace := range []string{"Clear", "Invalidate", "Reload"} {
		t.Run(replace, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			a := must(Register(m, "a", Spec[int, int]{}))
			a.Set(1, 1)
			checkSaved(t, d, m, a)
			a.Set(1, 2)
			a.Set(2, 2)
			d.setFail(errors.New("no"))
			m.Sync(t.Context())
			d.setFail(nil)
			want := map[int]int{}
			switch replace {
			case "Clear":
				ok(t, a.Clear())
			case "Invalidate":
				ok(t, a.InvalidateAll())
			case "Reload":
				ok(t, a.Reload(t.Context()))
				want[1] = 1
			}
			wantContents(t, a, want)
			checkSaved(t, d, m, a)
		})
	}
}

// TestUnencodable: a value that does not encode is reported with its cache and
// key, does not hinder others, and what was saved of it before does not come
// back as if it were current.
func TestUnencodable(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	bad := errors.New("cannot")
	c := must(Register(m, "c", Spec[string, string]{BeforeSave: func(_ context.Context, k, v string) (string, error) {
		switch v {
		case "bad":
			return v, bad
		case "panic":
			panic(bad)
		}
		return v, nil
	}}))
	c.Set("x", "1")
	c.Set("y", "1")
	ok(t, m.Sync(t.Context()))
	c.Set("x", "bad")
	c.Set("y", "panic")
	c.Set("z", "3")
	err := m.Sync(t.Context())
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), `c["x"]`) || !strings.Contains(err.Error(), `c["y"]`) {
		t.Fatalf("got %v", err)
	}
	equal(t, "unsaved", c.Stats().Dirty, 2)
	m2 := (&disk{Store: d.Store}).open(t, Options{})
	wantContents(t, must(Register(m2, "c", Spec[string, string]{})), map[string]string{"z": "3"})
	c.Set("x", "4")
	c.Set("y", "5")
	ok(t, m.Sync(t.Context()))
	m3 := (&disk{Store: d.Store}).open(t, Options{})
	wantContents(t, must(Register(m3, "c", Spec[string, string]{})), map[string]string{"x": "4", "y": "5", "z": "3"})
	checkTable(t, c)
}

// TestInvalidateThenFailedSync: an invalidation that could not be saved is
// saved by the next sync, and until then is not forgotten in memory.
func TestInvalidateThenFailedSync(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, c.InvalidateAll())
	no := errors.New("no")
	d.setFail(no)
	if err := m.Sync(t.Context()); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	d.setFail(nil)
	ok(t, c.Reload(t.Context()))
	wantContents(t, c, map[int]int{})
	checkSaved(t, d, m, c)
}

// TestGrowDuringSave: a cache that outgrows its shard while it is being saved
// keeps what was being saved, whether or not that succeeds.
func TestGrowDuringSave(t *testing.T) {
	for _, fail := range []error{nil, errors.New("no")} {
		for _, late := range []bool{false, true} { // when all has been given to the store
			d := newDisk()
			m := d.open(t, Options{})
			c := must(Register(m, "c", Spec[int, int]{}))
			c.Set(-1, -1)
			ok(t, m.Sync(t.Context()))
			c.Clear()
			for i := range 10 {
				c.Set(i, 1)
			}
			grow := func() {
				for i := range 2 * growAt {
					c.Set(100+i, 2)
				}
			}
			if d.before = grow; late {
				d.before, d.after = nil, grow
			}
			d.setFail(fail)
			if err := m.Sync(t.Context()); !errors.Is(err, fail) {
				t.Fatalf("got %v", err)
			}
			d.before, d.after = nil, nil
			d.setFail(nil)
			equal(t, "entries", c.Len(), 10+2*growAt)
			checkSaved(t, d, m, c)
			checkTable(t, c)
		}
	}
}

// TestAutosync follows the clock through the rules of the default.
func TestAutosync(t *testing.T) {
	tests := []struct {
		name  string
		auto  *Autosync
		edits int
		after time.Duration // of all edits made at once; 0 = at once, < 0 = never
	}{
		{"10 000 at once", nil, 10_000, 0},
		{"9 999 after a minute", nil, 9_999, time.Minute},
		{"10 after a minute", nil, 10, time.Minute},
		{"9 after five minutes", nil, 9, 5 * time.Minute},
		{"1 after five minutes", nil, 1, 5 * time.Minute},
		{"every second", &Autosync{Every: time.Second}, 1, time.Second},
		{"off", &Autosync{Off: true}, 20_000, -1},
		{"own rules, many", &Autosync{Rules: []Rule{{3, 10 * time.Second}, {2, time.Minute}}}, 3, 0},
		{"own rules, two", &Autosync{Rules: []Rule{{3, 10 * time.Second}, {2, time.Minute}}}, 2, 10 * time.Second},
		{"own rules, too few", &Autosync{Rules: []Rule{{3, 10 * time.Second}, {2, time.Minute}}}, 1, time.Minute},
	}
	for _, test := range tests {
		for _, perCache := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, perCache), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDisk()
					opts, spec := Options{Autosync: test.auto}, Spec[int, int]{}
					if perCache {
						opts.Autosync, spec.Autosync = nil, test.auto
					}
					m := d.open(t, opts)
					c := must(Register(m, "c", spec))
					for i := range test.edits {
						c.Set(i%100, i)
					}
					synctest.Wait()
					if test.after > 0 {
						equal(t, "saves at once", d.count(), 0)
						time.Sleep(test.after - time.Millisecond)
						synctest.Wait()
						equal(t, "saves just before", d.count(), 0)
						time.Sleep(time.Millisecond)
						synctest.Wait()
					}
					if test.after < 0 {
						time.Sleep(time.Hour)
						equal(t, "saves", d.count(), 0)
						ok(t, m.Close())
					}
					equal(t, "saves", d.count(), 1)
					equal(t, "unsaved", c.Stats().Edits, 0)
					time.Sleep(time.Hour)
					equal(t, "saves without edits", d.count(), 1)
				})
			})
		}
	}
}

// TestAutosyncOldestCounts: later edits do not put off what earlier ones are due.
func TestAutosyncOldestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		c := must(Register(d.open(t, Options{}), "c", Spec[int, int]{}))
		for range 9 { // one a second, then every 40: none of the bursts makes ten
			c.Set(1, 1)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			equal(t, "saves", d.count(), 0)
		}
		time.Sleep(30*time.Second + time.Millisecond) // the first is five minutes old
		synctest.Wait()
		equal(t, "saves", d.count(), 1)
	})
}

// TestAutosyncRetries: a failed save is tried again with growing pauses, and
// nothing waits for ever.
func TestAutosyncRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := d.open(t, Options{Autosync: &Autosync{Every: time.Second}})
		c := must(Register(m, "c", Spec[int, int]{}))
		d.setFail(errors.New("no"))
		c.Set(1, 1)
		time.Sleep(time.Second)
		var at []time.Duration
		last, start := 0, time.Now()
		for range 300 {
			synctest.Wait()
			if n := d.count(); n > last {
				last = n
				at = append(at, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		equal(t, "tries at", fmt.Sprint(at), "[0s 1s 3s 7s 15s 31s 1m3s 2m3s 3m3s 4m3s]")
		d.setFail(nil)
		c.Set(2, 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "unsaved", c.Stats().Edits, 0)
		m2 := (&disk{Store: d.Store}).open(t, Options{})
		wantContents(t, must(Register(m2, "c", Spec[int, int]{})), map[int]int{1: 1, 2: 2})
		tries := d.count()
		c.Set(3, 3) // the pause is over
		time.Sleep(time.Second)
		synctest.Wait()
		equal(t, "saves", d.count(), tries+1)
	})
}

// TestSlowSaveStopsNobody: while a save is under way, readers and writers go on,
// and no second save begins.
func TestSlowSaveStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{}))
		let := make(chan bool)
		var under, most atomic.Int64
		d.before = func() {
			most.Store(max(most.Load(), under.Add(1)))
			<-let
			under.Add(-1)
		}
		c.Set(1, 1)
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- m.Sync(context.Background()) }()
		}
		synctest.Wait()
		c.Set(1, 2)
		equal(t, "read meanwhile", must(c.Get(t.Context(), 1)), 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a sync that waits ignored its ctx: %v", err)
		}
		close(let)
		for range 3 {
			ok(t, <-done)
		}
		equal(t, "saves at the same time", most.Load(), 1)
		d.before = nil
		checkSaved(t, d, m, c)
	})
}

// TestPartialSyncKeepsInvalidationsWhole: a sync of one cache saves the
// invalidations of all, for they belong together.
func TestPartialSyncKeepsInvalidationsWhole(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	root := must(Register(m, "root", Spec[int, int]{}))
	edge := must(Register(m, "edge", Spec[int, int]{DependsOn: []string{"root"}}))
	other := must(Register(m, "other", Spec[int, int]{}))
	root.Set(1, 1)
	edge.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, root.InvalidateAll())
	root.Set(1, 2)
	other.Set(1, 1)
	ok(t, other.Sync(t.Context()))
	m2 := (&disk{Store: d.Store}).open(t, Options{})
	wantContents(t, must(Register(m2, "root", Spec[int, int]{})), map[int]int{})
	wantContents(t, must(Register(m2, "edge", Spec[int, int]{})), map[int]int{})
	wantContents(t, must(Register(m2, "other", Spec[int, int]{})), map[int]int{1: 1})
	checkSaved(t, d, m, root, edge, other)
}

// TestFailedSyncIsTriedAgain: a Sync that failed is tried again after a second, however long
// the rules would wait, unless autosync is off.
func TestFailedSyncIsTriedAgain(t *testing.T) {
	for _, off := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{Autosync: &Autosync{Off: off}})
			c := must(Register(m, "c", Spec[int, int]{}))
			ok(t, c.Set(1, 1))
			d.setFail(errPlanned)
			d.before = func() { c.Set(2, 2) }
			if err := m.Sync(t.Context()); !errors.Is(err, errPlanned) {
				t.Fatalf("got %v", err)
			}
			equal(t, "edits", c.Stats().Edits, 2)
			d.setFail(nil)
			d.before = nil
			time.Sleep(firstRetry - time.Millisecond)
			synctest.Wait()
			equal(t, "tries before", d.count(), 1)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			want := map[int]int{1: 1, 2: 2}
			if off {
				want = map[int]int{}
			}
			if got := savedIn(d, "c"); !maps.Equal(got, want) {
				t.Errorf("saved: %v", got)
			}
		})
	}
}

// TestUnencodableIsTriedAgain: a value that cannot be encoded is tried again with growing
// pauses, and puts off nothing else.
func TestUnencodableIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk().open(t, Options{Autosync: &Autosync{Every: 10 * time.Second}})
		var mu sync.Mutex
		var all []time.Duration // guarded by mu
		tries := func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		start := time.Now()
		c := must(Register(m, "c", Spec[int, int]{BeforeSave: func(_ context.Context, k, v int) (int, error) {
			if v == 0 {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, time.Since(start))
				return v, errPlanned
			}
			return v, nil
		}}))
		other := must(Register(m, "other", Spec[int, int]{}))
		ok(t, c.Set(1, 0))
		time.Sleep(3 * time.Minute)
		equal(t, "tries at", fmt.Sprint(tries()), "[10s 11s 13s 17s 25s 41s 1m13s 2m13s]")
		st := c.Stats()
		if !errors.Is(st.LastError, errPlanned) || st.SyncErrors != 8 || st.Edits != 1 || st.Dirty != 1 {
			t.Errorf("statistics are wrong: %+v", st)
		}
		ok(t, c.Set(2, 2))
		ok(t, other.Set(1, 1))
		time.Sleep(10*time.Second - time.Millisecond)
		equal(t, "tries", len(tries()), 8)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		equal(t, "tries", len(tries()), 9)
		equal(t, "unsaved of c", c.Stats().Edits, 1)
		equal(t, "unsaved of the other", other.Stats().Edits, 0)
	})
}

// TestUnencodableKeyDeleted: that a key was deleted which cannot be encoded at the moment is
// saved once, and not after the key was set again.
func TestUnencodableKeyDeleted(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	fails := 0
	keys := must(codec.Key[int]())
	encode := keys.Append
	keys.Append = func(dst []byte, k int) ([]byte, error) {
		if fails--; fails >= 0 {
			return dst, errPlanned
		}
		return encode(dst, k)
	}
	c := must(Register(m, "c", Spec[int, int]{KeyCodec: keys}))
	ok(t, c.Set(1, 1))
	ok(t, m.Sync(t.Context()))
	ok(t, c.Delete(1))
	fails = 1
	if err := m.Sync(t.Context()); !errors.Is(err, errPlanned) {
		t.Fatalf("got %v", err)
	}
	checkTable(t, c)
	ok(t, c.Set(1, 2))
	fails = 1
	m.Sync(t.Context())
	ok(t, m.Sync(t.Context()))
	wantContents(t, c, savedIn(d, "c"))
}
