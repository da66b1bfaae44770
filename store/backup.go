package store

import "context"

// A Backuper is a Store that can be copied while it is in use.
type Backuper interface {
	// Backup writes a copy of the store, as it is at one instant after the
	// call, to the directory dir, which it makes if it does not exist and
	// which must be empty. Reads and batches go on meanwhile. The copy is
	// durable once Backup has returned nil. It is a store like the original
	// and is opened in the same way; what remains of a Backup that failed or
	// was interrupted is not, see [ErrUnfinished].
	Backup(ctx context.Context, dir string) error
}
