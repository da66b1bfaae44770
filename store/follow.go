package store

import "context"

// A Follower is a read-only Store whose contents another Store, mostly that
// of another process, may be changing. It shows them as they were at one
// instant and stays there until it is told to go on. Its Apply returns
// [ErrReadOnly].
type Follower interface {
	// Refresh goes on to the present: every batch whose Apply returned
	// before Refresh was called shows afterwards. It returns the names of
	// the caches that may have changed, in order, and none if nothing did.
	//
	// If it fails, what shows is what showed before, or a later state; the
	// names are those of the caches that differ.
	Refresh(ctx context.Context) (changed []string, err error)
}
