package store

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound is returned for a cache or a record that is not stored.
	ErrNotFound = errors.New("not stored")

	// ErrClosed is returned by all methods of a closed store.
	ErrClosed = errors.New("store is closed")

	// ErrCorrupt is wrapped by errors about bytes that are not what was
	// written.
	ErrCorrupt = errors.New("stored data is damaged")

	// ErrFormat is wrapped by errors about a store that this version of the
	// program cannot read: written by a newer one, or by another program.
	ErrFormat = errors.New("store format is not supported")

	// ErrLocked is matched by a [LockedError].
	ErrLocked = errors.New("store is in use")

	// ErrReadOnly is returned by Apply of a store that was opened for
	// reading only.
	ErrReadOnly = errors.New("store is open for reading only")

	// ErrUnfinished is wrapped by the error about opening a copy of a store
	// that was never completed: its Backup failed or was interrupted.
	ErrUnfinished = errors.New("backup is unfinished")
)

// LockedError says who holds a store that only one process may write.
type LockedError struct {
	Path  string    // what is locked
	PID   int       // the holder's process id; 0 if it left no word
	Host  string    // the holder's host name
	Since time.Time // when it took the lock
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Path)
	}
	return fmt.Sprintf("%s is in use by process %d on %s since %s",
		e.Path, e.PID, e.Host, e.Since.Format(time.RFC3339))
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }
