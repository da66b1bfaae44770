package cacheman

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
)

// sharing is a store that several Managers may have open.
type sharing struct {
	*disk
	mu sync.Mutex
}

func newSharing() *sharing { return &sharing{disk: newDisk()} }

func (s *sharing) Redescribe(ctx context.Context, cache string, change func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos, err := s.Caches(ctx)
	if err != nil {
		return err
	}
	var old []byte
	for _, info := range infos {
		if info.Cache == cache {
			old = bytes.Clone(info.Description)
		}
	}
	return s.Apply(ctx, func(yield func(store.Op, error) bool) {
		yield(store.Op{Kind: store.Describe, Cache: cache, Value: change(old)}, nil)
	})
}

// TestStampsAreReserved: a Manager that has used half of its stamps gets others, which no
// other Manager has, of all stores that it shares.
func TestStampsAreReserved(t *testing.T) {
	first, second := newSharing(), newSharing()
	open := func() (*Manager, *Cache[int, int]) {
		m := must(Open("", Options{Store: first, Autosync: &Autosync{Off: true}}))
		t.Cleanup(func() { m.Close() })
		return m, must(Register(m, "c", Spec[int, int]{}))
	}
	within := func(m *Manager, stores ...store.Sharer) {
		t.Helper()
		equal(t, "stores", len(m.stamps.limits), len(stores))
		for _, s := range stores {
			if rev, limit := m.graph.Revision(), m.stamps.limits[s]; limit < rev+stampsAtOnce/2 || limit > rev+stampsAtOnce {
				t.Errorf("the revision is %d, the limit %d", rev, limit)
			}
		}
	}
	a, c := open()
	within(a, first)
	b, _ := open()
	within(b, first)
	if a.stamps.limits[first] > b.graph.Revision() {
		t.Errorf("one has stamps up to %d, the other from %d on", a.stamps.limits[first], b.graph.Revision())
	}

	a.graph.Raise(a.stamps.limits[first] - stampsAtOnce/4)
	ok(t, c.Set(1, 1))
	ok(t, a.Sync(t.Context()))
	within(a, first)
	if b.stamps.limits[first] > a.graph.Revision() {
		t.Errorf("one has stamps up to %d, the other from %d on", b.stamps.limits[first], a.graph.Revision())
	}

	// The other store is far ahead.
	ok(t, second.Redescribe(t.Context(), revisions, func([]byte) []byte { return markOf(1 << 50).Value }))
	must(Register(a, "elsewhere", Spec[int, int]{Store: second}))
	within(a, first, second)
}

// TestLaterWriteWins: what another Manager has written since is replaced also by what a
// Manager has in memory already, and by the deletion of what it does not know of.
func TestLaterWriteWins(t *testing.T) {
	for name, write := range map[string]func(c *Cache[int, int]){
		"one by one": func(c *Cache[int, int]) {
			must(0, c.Set(1, 1))
			must(0, c.Delete(2))
			must(0, c.Delete(3))
		},
		"in a batch": func(c *Cache[int, int]) {
			must(0, c.m.Batch(func(b *Batch) error {
				c.SetIn(b, 1, 1)
				c.DeleteIn(b, 2)
				c.DeleteIn(b, 3)
				return nil
			}))
		},
		"all": func(c *Cache[int, int]) {
			must(0, c.Clear())
			must(0, c.Set(1, 1))
		},
		"updated": func(c *Cache[int, int]) {
			must(c.Update(1, func(v int, _ bool) (int, bool) { return v, true }))
			for k := 2; k <= 3; k++ {
				must(c.Update(k, func(int, bool) (int, bool) { return 0, false }))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSharing()
			open := func() (*Manager, *Cache[int, int]) {
				m := must(Open("", Options{Store: s, Autosync: &Autosync{Off: true}}))
				t.Cleanup(func() { m.Close() })
				return m, must(Register(m, "c", Spec[int, int]{}))
			}
			a, ac := open()
			ok(t, ac.SetAll(maps.All(map[int]int{1: 1, 3: 3})))
			ok(t, ac.Delete(3))
			ok(t, a.Sync(t.Context()))
			b, bc := open()
			ok(t, bc.SetAll(maps.All(map[int]int{1: 2, 2: 2, 3: 2})))
			ok(t, b.Sync(t.Context()))
			write(ac)
			ok(t, a.Sync(t.Context()))
			_, after := open()
			wantContents(t, after, map[int]int{1: 1})
		})
	}
}

// What is set again while it is being saved is saved again.
func TestSetAgainWhileSaving(t *testing.T) {
	s := newSharing()
	a := openOn(s)
	defer a.Close()
	c := must(Register(a, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	s.before = func() { ok(t, c.Set(1, 1)) }
	ok(t, a.Sync(t.Context()))
	s.before = nil
	b := openOn(s)
	defer b.Close()
	bc := must(Register(b, "c", Spec[int, int]{}))
	ok(t, bc.Set(1, 2))
	ok(t, b.Sync(t.Context()))
	ok(t, a.Sync(t.Context()))
	ok(t, bc.Reload(t.Context()))
	wantContents(t, bc, map[int]int{1: 1})
}

// TestSavedAgainWithOthers: a Manager that saves all of a cache again, for it was deleted, leaves alone what
// another has set meanwhile, also where a builder has found nothing before.
func TestSavedAgainWithOthers(t *testing.T) {
	ctx, s := t.Context(), newSharing()
	a, b := openOn(s), openOn(s)
	defer b.Close()
	defer a.Close()
	c := must(Register(a, "c", Spec[int, int]{}))
	out := must(Register(a, "out", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) { return c.Contains(ctx, k) }}))
	each := must(Register(a, "each", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	ok(t, c.Set(1, 1))
	must(out.Get(ctx, 2))
	if _, err := each.Get(ctx, 2); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	ok(t, a.Sync(ctx))
	ok(t, c.DeleteSaved(ctx))
	ok(t, must(Register(b, "c", Spec[int, int]{})).Set(2, 2))
	ok(t, b.Sync(ctx))
	ok(t, a.Sync(ctx))
	if got := savedIn(s.disk, "c"); !maps.Equal(got, map[int]int{1: 1, 2: 2}) {
		t.Errorf("there is %v", got)
	}
}

// TestInvalidatedAndReloadedBesideOthers: an invalidation that is saved, with another cache, deletes nothing that another Manager
// sets afterwards, also if the cache was reloaded in between.
func TestInvalidatedAndReloadedBesideOthers(t *testing.T) {
	ctx, s := t.Context(), newSharing()
	a, b := openOn(s), openOn(s)
	defer b.Close()
	defer a.Close()
	c, other := must(Register(a, "c", Spec[int, int]{})), must(Register(a, "other", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	ok(t, a.Sync(ctx))
	ok(t, c.InvalidateAll())
	ok(t, c.Reload(ctx))
	ok(t, other.Sync(ctx))
	ok(t, must(Register(b, "c", Spec[int, int]{})).Set(2, 2))
	ok(t, b.Sync(ctx))
	ok(t, c.Set(3, 3))
	ok(t, a.Sync(ctx))
	if got := savedIn(s.disk, "c"); !maps.Equal(got, map[int]int{2: 2, 3: 3}) {
		t.Errorf("there is %v", got)
	}
}

// TestRegisteredAfterOthersSaved: a cache has what another Manager has saved of it before it was
// registered, also if that was after this Manager was opened.
func TestRegisteredAfterOthersSaved(t *testing.T) {
	ctx := t.Context()
	s := newSharing()
	a, b := openOn(s), openOn(s)
	ok(t, must(Register(b, "c", Spec[int, int]{})).Set(1, 1))
	ok(t, b.Sync(ctx))
	c := must(Register(a, "c", Spec[int, int]{}))
	wantContents(t, c, map[int]int{1: 1})
	ok(t, c.Set(2, 2))
	ok(t, a.Close())
	ok(t, b.Close())
	wantContents(t, must(Register(openOn(s), "c", Spec[int, int]{})), map[int]int{1: 1, 2: 2})
}

// TestSavedAfterOthersDropped: what a Manager saves of a cache is described, and of one that is built as a whole
// it is all, also if another has invalidated it since it was looked at. Who saves nothing of it leaves alone what is
// said there of another's.
func TestSavedAfterOthersDropped(t *testing.T) {
	type opened struct {
		m       *Manager
		in, all *Cache[int, int]
	}
	for name, save := range map[string]func(a, b opened) (more map[int]int){
		"built": func(_, b opened) map[int]int {
			must(b.all.Get(t.Context(), 1))
			return nil
		},
		"set": func(_, b opened) map[int]int {
			ok(t, b.all.Set(3, 3))
			return map[int]int{3: 3}
		},
		"nothing": func(a, b opened) map[int]int {
			ok(t, b.all.Reload(t.Context()))
			must(a.all.Get(t.Context(), 1))
			ok(t, a.m.Sync(t.Context()))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s, builds := t.Context(), newSharing(), 0
			open := func() (o opened) {
				o.m = openOn(s)
				t.Cleanup(func() { o.m.Close() })
				o.in = must(Register(o.m, "in", Spec[int, int]{}))
				o.all = must(Register(o.m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
					builds++
					v, err := o.in.Get(ctx, 1)
					return map[int]int{1: v, 2: v}, err
				}}))
				return o
			}
			a := open()
			ok(t, a.in.Set(1, 1))
			must(a.all.Get(ctx, 1))
			ok(t, a.m.Sync(ctx))
			b := open()
			if name == "set" {
				ok(t, b.all.Load(ctx))
			}
			ok(t, a.all.InvalidateAll())
			ok(t, a.m.Sync(ctx))
			more := save(a, b)
			ok(t, b.m.Sync(ctx))

			c := open()
			builds = 0
			for v := 1; v <= 2; v++ {
				ok(t, c.in.Set(1, v))
				want := map[int]int{1: v, 2: v}
				if v == 1 {
					maps.Copy(want, more)
				}
				if got := must(c.all.Collect(ctx)); !maps.Equal(got, want) {
					t.Errorf("of %d it is %v, not %v", v, got, want)
				}
				equal(t, "builds", builds, v-1)
			}
		})
	}
}

// TestBuiltAsWholeBesideOthers: contents that one Manager has built as a whole are built anew when they are stale, also if
// another, which has not looked at them, has saved something of the cache since: an entry, or that it has nothing of it.
func TestBuiltAsWholeBesideOthers(t *testing.T) {
	for name, write := range map[string]func(c *Cache[int, int]) (more map[int]int){
		"set": func(c *Cache[int, int]) map[int]int {
			ok(t, c.Set(3, 3))
			return map[int]int{3: 3}
		},
		"nothing": func(c *Cache[int, int]) map[int]int {
			ok(t, c.DeleteSaved(t.Context()))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s, builds := t.Context(), newSharing(), 0
			open := func() (m *Manager, in, all *Cache[int, int]) {
				m = openOn(s)
				t.Cleanup(func() { m.Close() })
				in = must(Register(m, "in", Spec[int, int]{}))
				return m, in, must(Register(m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
					builds++
					v, err := in.Get(ctx, 1)
					return map[int]int{v: v}, err
				}}))
			}
			a, in, all := open()
			b, _, other := open()
			more := write(other)
			ok(t, in.Set(1, 1))
			must(all.Collect(ctx))
			ok(t, a.Sync(ctx))
			ok(t, b.Sync(ctx))
			for v := 1; v <= 2; v++ {
				_, in, all := open()
				builds = 0
				ok(t, in.Set(1, v))
				want := map[int]int{v: v}
				if v == 1 {
					maps.Copy(want, more)
				}
				if got := must(all.Collect(ctx)); !maps.Equal(got, want) {
					t.Errorf("of %d it is %v, not %v", v, got, want)
				}
				equal(t, "builds", builds, v-1)
			}
		})
	}
}

// TestUpgradedBesideOthers: what was saved under another Version is forgotten, or migrated, once: a Manager that
// was opened before another had done so, and has not read it, finds what that has saved.
func TestUpgradedBesideOthers(t *testing.T) {
	for name, want := range map[string]map[int]int{
		"forgotten": {2: 2, 3: 3},
		"migrated":  {1: 10, 2: 2, 3: 3},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := t.Context(), newSharing()
			open := func(version string) (*Manager, *Cache[int, int]) {
				m := openOn(s)
				t.Cleanup(func() { m.Close() })
				spec := Spec[int, int]{Version: version}
				if name == "migrated" {
					spec.Migrate = func(_ context.Context, _ Saved, _ int, data []byte) (int, error) {
						v, err := must(codec.For[int]()).Decode(data)
						return 10 * v, err
					}
				}
				return m, must(Register(m, "c", spec))
			}
			old, c := open("1")
			ok(t, c.Set(1, 1))
			ok(t, old.Close())
			a, ofA := open("2")
			b, ofB := open("2")
			ok(t, ofA.Set(2, 2))
			ok(t, a.Sync(ctx))
			ok(t, ofB.Set(3, 3))
			ok(t, b.Sync(ctx))
			wantContents(t, ofB, want)
			_, after := open("2")
			wantContents(t, after, want)
		})
	}
}
