package cacheman

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/jsonstore"
)

// heldStore is a disk on which one cache is read slowly.
type heldStore struct {
	*disk
	slow    string
	read    chan bool // one has been read
	written chan bool // a batch has been written since it was looked at last
}

func (s *heldStore) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for rec, err := range s.disk.Load(ctx, cache) {
			if !yield(rec, err) {
				return
			}
		}
		if cache == s.slow {
			s.slow = ""
			s.read <- true
			<-s.written
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
	}
}

func (s *heldStore) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	err := s.disk.Apply(ctx, ops)
	select {
	case s.written <- true:
	default:
	}
	return err
}

// TestReloadWhileSyncEnds: what was read before a sync has been written is not put in place after it.
func TestReloadWhileSyncEnds(t *testing.T) {
	s := &heldStore{disk: newDisk(), read: make(chan bool), written: make(chan bool, 1)}
	m := openOn(s)
	defer m.Close()
	var caches []*Cache[int, int]
	for i := range 1000 {
		caches = append(caches, must(Register(m, fmt.Sprint("c", i), Spec[int, int]{})))
	}
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for n := range rounds {
		for _, c := range caches {
			ok(t, c.Set(1, 2*n))
		}
		ok(t, m.Sync(t.Context()))
		<-s.written
		s.slow = "c0"
		done := make(chan error)
		go func() { done <- caches[0].Reload(context.Background()) }()
		<-s.read
		for _, c := range caches {
			ok(t, c.Set(1, 2*n+1))
		}
		ok(t, m.Sync(t.Context()))
		ok(t, <-done)
		v, _ := caches[0].Peek(1)
		equal(t, "saved", v, 2*n+1)
	}
}

// TestReloadInvalidatedHook: a Reload does not bring back what was invalidated and a hook is yet to delete.
func TestReloadInvalidatedHook(t *testing.T) {
	x := newHookRun(t)
	x.saved = map[string]int{"a": 100}
	equal(t, "a", must(x.double.Get(t.Context(), "a")), 100)
	ok(t, x.double.InvalidateAll())
	ok(t, x.double.Reload(t.Context()))
	equal(t, "a", must(x.double.Get(t.Context(), "a")), 2)
	x.reopen()
	equal(t, "a", must(x.double.Get(t.Context(), "a")), 2)
}

// TestReadWhatOthersSaved: what others have saved of a cache since it was registered is found,
// also if there was nothing of it then. The next sync leaves it there, it is there when the
// cache is registered anew, and an invalidation removes it.
func TestReadWhatOthersSaved(t *testing.T) {
	ctx := t.Context()
	test := func(t *testing.T, open func() *Manager, spec Spec[int, int], before, synced bool) {
		m := open()
		defer m.Close()
		c := must(Register(m, "c", spec))
		if before {
			ok(t, c.Reload(ctx))
			wantContents(t, c, map[int]int{})
		}
		m2 := open()
		ok(t, must(Register(m2, "c", spec)).Set(1, 1))
		ok(t, m2.Close())
		if before {
			ok(t, c.Reload(ctx))
		}
		equal(t, "1", must(c.Get(ctx, 1)), 1)
		want := map[int]int{1: 1}
		if synced {
			ok(t, c.Set(2, 2))
			ok(t, c.Sync(ctx))
			ok(t, c.Reload(ctx))
			want[2] = 2
			wantContents(t, c, want)
		}
		ok(t, m.Deregister(ctx, Only("c")))
		c = must(Register(m, "c", spec))
		equal(t, "1, registered anew", must(c.Get(ctx, 1)), 1)
		wantContents(t, c, want)
		ok(t, c.InvalidateAll())
		ok(t, c.Reload(ctx))
		wantContents(t, c, map[int]int{})
		ok(t, m.Close())
		m2 = open()
		wantContents(t, must(Register(m2, "c", spec)), map[int]int{})
		ok(t, m2.Close())
	}
	spec := Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, ErrNotFound }}
	for _, synced := range []bool{false, true} {
		for _, before := range []bool{false, true} { // it was read when there was nothing
			t.Run(fmt.Sprintf("in a store that others write, read before %v, synced %v", before, synced), func(t *testing.T) {
				s := newSharing()
				test(t, func() *Manager { return openOn(s) }, spec, before, synced)
			})
		}
		valuesOnly(t, func(t *testing.T, x *annotatedRun) { // others write it while nobody has it open
			spec := spec
			spec.Store = x.s
			test(t, func() *Manager { return openOn(newDisk()) }, spec, true, synced)
		})
		t.Run(fmt.Sprintf("in the Manager's own store, synced %v", synced), func(t *testing.T) {
			dir := t.TempDir()
			test(t, func() *Manager { return openOn(must(jsonstore.Open(dir))) }, spec, true, synced)
		})
	}
}

// TestInvalidateWhatOthersSaved: what was read of what others have saved is invalidated with
// what it depends on, also while it is not registered.
func TestInvalidateWhatOthersSaved(t *testing.T) {
	s := newSharing()
	open := func() (*Manager, *Cache[int, int]) {
		m := openOn(s)
		must(Register(m, "in", Spec[int, int]{}))
		return m, must(Register(m, "c", Spec[int, int]{DependsOn: []string{"in"}}))
	}
	m, c := open()
	m2, c2 := open()
	ok(t, c2.Set(1, 1))
	ok(t, m2.Close())
	equal(t, "1", must(c.Get(t.Context(), 1)), 1)
	ok(t, m.Deregister(t.Context(), Only("c")))
	ok(t, m.Invalidate(Only("in")))
	ok(t, m.Close())
	m, c = open()
	wantContents(t, c, map[int]int{})
	ok(t, m.Close())
}
