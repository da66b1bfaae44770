package cacheman

import (
	"context"
	"errors"

	"github.com/cacheman-go/cacheman/store"
)

// Backup writes a copy of what is saved, after a Sync, to the directory dir,
// which is made if it does not exist and must be empty. Reads, writes and syncs
// go on meanwhile; the copy is that of one instant, and durable when Backup
// returns nil. Open opens it like the original, but not what is left of a Backup
// that failed: that is ErrUnfinished. Caches with a Store or hooks of their own
// are not part of it.
func (m *Manager) Backup(ctx context.Context, dir string) error {
	b, ok := m.store.(store.Backuper)
	if !ok {
		return &Error{Op: "backup", Err: errors.New("the store cannot copy itself")}
	}
	if err := m.Sync(ctx); err != nil {
		return err
	}
	ctx, done := m.untilClosed(ctx)
	defer done()
	return wrap(ctx, "backup", "", nil, ended(ctx, b.Backup(ctx, dir)))
}
