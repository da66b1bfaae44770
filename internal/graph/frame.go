package graph

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// building counts the graphs that have runs.
var building atomic.Int64

// Frame is how a builder that is running is seen by what its ctx is given to.
// Once it has returned there is nothing that it reads any more.
type Frame flight.Context

// FrameOf returns the frame of the builder that ctx belongs to, or nil if there is
// none, or no builder is running any more. To ask ctx costs as much as a read.
func FrameOf(ctx context.Context) *Frame {
	if building.Load() == 0 {
		return nil
	}
	return frameOf(ctx)
}

func frameOf(ctx context.Context) *Frame { // so that the rest is inlined
	c := flight.From(ctx)
	if runOf(c) == nil {
		return nil
	}
	return (*Frame)(c)
}

// runOf returns the run that c, which may be nil, belongs to, or nil. Unless its
// graph is locked it may be over at once, and then be another's.
func runOf(c *flight.Context) *Run {
	if c == nil {
		return nil
	}
	f := c.Run()
	if f == nil {
		return nil
	}
	r, _ := f.For().(*Run)
	return r
}

// lock locks the graph of f, and returns the run, or nil with nothing locked if
// that is over.
func (f *Frame) lock() *Run {
	c := (*flight.Context)(f)
	r := runOf(c)
	if r == nil {
		return nil
	}
	r.graph().mu.Lock()
	if c.Run() == nil {
		r.graph().mu.Unlock()
		return nil
	}
	return r
}

// Owner returns the cache of what f builds, or nil if that is over.
func (f *Frame) Owner() *Owner {
	if r := runOf((*flight.Context)(f)); r != nil {
		return r.owner
	}
	return nil
}

// Reading is the result of Frame.Read.
type Reading uint8

const (
	Recorded  = Reading(iota) // the node's value can be copied now
	Untracked                 // likewise; the builder has returned already
	NotClean                  // Resolve the node with the ctx of the builder, and try again
	Doubtful                  // call Recheck, and try again
	Stale                     // the builder is to be told ErrStale
)

// Read records that the builder of f reads n. The caller holds the lock of n's
// entry, and copies the value before it releases that.
func (f *Frame) Read(n *Node) Reading {
	r := f.lock()
	if r == nil {
		return Untracked
	}
	defer r.graph().mu.Unlock()
	return r.Read(n)
}

// Next returns the run of f, with the graph locked, and the node that its builder is going to
// read if it goes on as it did when that of the run was built last: most do. Whoever
// finds that so needs not look for the entry. If there is no such node, or it is of another
// cache than o, Next returns nil, and nothing is locked.
func (f *Frame) Next(o *Owner) (*Run, *Node) {
	r := runOf((*flight.Context)(f))
	if r == nil || !r.again.Load() {
		return nil, nil
	}
	if r = f.lock(); r == nil {
		return nil, nil
	}
	if at := len(r.edges); at < int(r.node.lenEdges) {
		if n := r.node.Edges()[at].Node; n.owner == o {
			return r, n
		}
	}
	r.graph().mu.Unlock()
	return nil, nil
}

// Read is Frame.Read with the graph locked, which is enough for a value that is not changed
// without that.
func (r *Run) Read(n *Node) Reading {
	g := r.graph()
	switch {
	case n.owner.g != g:
		// The other graph's lock guards n, so only the fast test is allowed.
		r.volatile, r.foreign = true, true
		return Untracked
	case r.stale():
		return Stale
	case !n.clean():
		return NotClean
	case !r.open:
		return Untracked
	case r.poison != r.sane:
		return Doubtful
	}
	r.record(n)
	if Debug {
		r.assertInstant()
	}
	return Recorded
}

// Volatile notes that the builder of f has read something that cannot be
// recorded: its result is given to its callers, and not kept.
func (f *Frame) Volatile() {
	if r := f.lock(); r != nil {
		r.volatile = true
		r.missed = nil // it has been told of
		r.graph().mu.Unlock()
	}
}

// Recheck finds out whether anything that the builder of f has read has changed. If
// so it returns false, and the builder will run again.
func (f *Frame) Recheck() bool {
	r := f.lock()
	if r == nil {
		return true
	}
	defer r.graph().mu.Unlock()
	return r.recheck()
}

// InBuilder reports whether the calling goroutine is executing a builder, by
// looking at its stack, up to a few dozen frames. It costs a microsecond, or
// nothing while no builder is running.
func InBuilder() bool {
	if building.Load() == 0 {
		return false
	}
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if f.Func != nil && f.Func.Name() == executeName {
			return true
		}
		if !more {
			return false
		}
	}
}

const executeName = "github.com/cacheman-go/cacheman/internal/graph.(*Run).execute"
