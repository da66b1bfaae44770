package cacheman

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
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
	for n := range 100 {
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

// TestReloadWhatOthersSaved: Reload finds what others have saved of a cache since it was
// registered, also if there was nothing of it then, and the next sync leaves it there.
func TestReloadWhatOthersSaved(t *testing.T) {
	ctx := t.Context()
	spec := Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, ErrNotFound }}
	test := func(t *testing.T, m *Manager, spec Spec[int, int], other func() (*Manager, Spec[int, int])) {
		c := must(Register(m, "c", spec))
		ok(t, c.Reload(ctx))
		wantContents(t, c, map[int]int{})
		m2, spec2 := other()
		ok(t, must(Register(m2, "c", spec2)).Set(1, 1))
		ok(t, m2.Close())
		ok(t, c.Reload(ctx))
		equal(t, "1", must(c.Get(ctx, 1)), 1)
		ok(t, c.Set(2, 2))
		ok(t, c.Sync(ctx))
		ok(t, c.Reload(ctx))
		wantContents(t, c, map[int]int{1: 1, 2: 2})
		ok(t, c.InvalidateAll())
		ok(t, c.Reload(ctx))
		wantContents(t, c, map[int]int{})
		ok(t, m.Close())
		m2, spec2 = other()
		wantContents(t, must(Register(m2, "c", spec2)), map[int]int{})
		ok(t, m2.Close())
	}
	t.Run("in a store that others write", func(t *testing.T) {
		s := newSharing()
		test(t, openOn(s), spec, func() (*Manager, Spec[int, int]) { return openOn(s), spec })
	})
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		spec := spec
		spec.Store = x.s
		test(t, x.m, spec, func() (*Manager, Spec[int, int]) { return openOn(newDisk()), spec })
	})
}
