package cacheman

import (
	"context"
	"maps"
	"slices"

	"github.com/cacheman-go/cacheman/store"
)

// Compact makes what is saved take no more room than its entries need. The default store
// does so by itself, in the background, when its journal has grown; Compact is for a time
// that suits better, such as before the directory is packed up. It does not save: call
// Sync before. Reads, writes and syncs go on meanwhile. If ctx ends it stops early, and
// nothing is lost. Stores that are no store.Compactor are left as they are. With ReadOnly
// it fails with ErrReadOnly.
func (m *Manager) Compact(ctx context.Context) error {
	if m.opts.ReadOnly {
		return &Error{Op: "compact", Err: ErrReadOnly}
	}
	m.gate.RLock()
	closed, stores := m.closed, slices.Collect(maps.Keys(m.lanes))
	m.gate.RUnlock()
	if closed {
		return &Error{Op: "compact", Err: ErrClosed}
	}
	outer := ctx
	ctx, done := m.untilClosed(ctx)
	defer done()
	var errs errorList
	for _, s := range stores {
		if c, ok := s.(store.Compactor); ok {
			errs.add(c.Compact(ctx))
		}
	}
	return wrap(outer, "compact", "", nil, ended(ctx, errs.join()))
}
