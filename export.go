package cacheman

import (
	"context"
	"errors"
	"io"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Export writes what is saved, after a Sync, to w: lines of JSON that Import
// reads, also into another kind of store, and that other programs can read. What
// is saved meanwhile may be part of it. Caches with a Store or hooks of their
// own are not.
func (m *Manager) Export(ctx context.Context, w io.Writer) error {
	if err := m.Sync(ctx); err != nil {
		return err
	}
	ctx, done := m.untilClosed(ctx)
	defer done()
	return wrap(ctx, "export", "", nil, ended(ctx, store.Export(ctx, w, m.store)))
}

// Import makes the directory dir, which must be empty or not exist, one that
// holds what Export wrote. If r is damaged, nothing of it is there. Use
// store.Import for another kind of store.
func Import(ctx context.Context, dir string, r io.Reader) error {
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		return &Error{Op: "import", Err: err}
	}
	return wrap(ctx, "import", "", nil, errors.Join(store.Import(ctx, s, r), s.Close()))
}
