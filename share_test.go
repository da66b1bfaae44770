package cacheman

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// sharing is a store that several Managers may have open.
type sharing struct {
	*memstore.Store
	mu sync.Mutex
}

func newSharing() *sharing { return &sharing{Store: memstore.New()} }

func (s *sharing) Close() error { return nil } // others have it

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
