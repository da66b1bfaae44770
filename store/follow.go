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
	// If there are any, and with is not nil, it is called once, when all is
	// read and nothing of it shows yet, with these names and what Caches will
	// list. It is to call show, which switches all caches at one instant, without
	// I/O; thus something else can be switched with them. If it does not, that is
	// done when it returns. It must call no other method of the Follower before show.
	//
	// If Refresh fails, what shows is what showed before, or a later state; the
	// names are those of the caches that differ.
	Refresh(ctx context.Context, with func(changed []string, caches []Info, show func())) (changed []string, err error)
}
