// Package flight runs a function once for any number of callers who want its
// result, and finds out when such runs wait for each other in a circle.
//
// A run belongs to none of its callers. Its context carries the values of the
// first caller's but not its cancellation: it is cancelled when the last caller
// has left. The context also carries the run itself, so that a caller who is
// part of another run is known as such; from that the graph of who waits for
// whom is made, and a wait that would close a circle is refused instead of
// lasting for ever.
package flight

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// mu guards the waits of every Run. It is one for the whole process, because a
// circle may pass through any number of managers. Only callers who are part of
// a run themselves take it, and never while they hold another lock.
var mu sync.Mutex

// Run is one execution of a function.
type Run struct {
	name    func() string
	done    chan struct{}
	cancel  context.CancelCauseFunc
	callers atomic.Int64 // 0 = abandoned: nobody may join any more
	waits   []*Run       // the runs this one waits for, one for each of its waiting goroutines
}

type key struct{}

// New returns a run with one caller, and the context its function is to be
// called with. name is asked for only when it is to be shown.
func New(ctx context.Context, name func() string) (*Run, context.Context) {
	r := &Run{name: name, done: make(chan struct{})}
	r.callers.Store(1)
	ctx, r.cancel = context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), key{}, r))
	return r, ctx
}

// Join adds a caller. It reports false if the run was abandoned: its context
// is cancelled, and its result is of no use to anybody.
func (r *Run) Join() bool {
	for n := r.callers.Load(); n > 0; n = r.callers.Load() {
		if r.callers.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// Cancel cancels the context of the run.
func (r *Run) Cancel(cause error) { r.cancel(cause) }

// Finish ends the run: its callers go on. What they are to find must have been
// written before.
func (r *Run) Finish() {
	close(r.done)
	r.cancel(nil)
}

// Wait blocks a caller who has joined until the run is finished, and returns
// nil. If ctx ends first, the caller leaves with the cause of that; if waiting
// could never end, with a *CycleError. The last caller to leave cancels the run.
func (r *Run) Wait(ctx context.Context) error {
	self, _ := ctx.Value(key{}).(*Run)
	if self != nil {
		if err := r.enter(self); err != nil {
			r.leave()
			return err
		}
		defer r.exit(self)
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.leave()
		return context.Cause(ctx)
	}
}

func (r *Run) leave() {
	if r.callers.Add(-1) == 0 {
		r.cancel(context.Canceled)
	}
}

// enter records that self waits for r, unless r waits for self already,
// directly or through others.
func (r *Run) enter(self *Run) error {
	mu.Lock()
	path := r.pathTo(self)
	if path == nil {
		self.waits = append(self.waits, r)
	}
	mu.Unlock()
	if path == nil {
		return nil
	}
	names := []string{self.name()}
	for _, step := range path {
		names = append(names, step.name())
	}
	return &CycleError{Path: names}
}

func (r *Run) exit(self *Run) {
	mu.Lock()
	i := slices.Index(self.waits, r)
	self.waits = slices.Delete(self.waits, i, i+1)
	mu.Unlock()
}

// pathTo returns the runs from r to target along who waits for whom, both
// included, or nil. It keeps its own stack, for the path may be long.
func (r *Run) pathTo(target *Run) []*Run {
	if r != target && len(r.waits) == 0 {
		return nil // the usual case: r has just begun
	}
	from := map[*Run]*Run{r: nil}
	for stack := []*Run{r}; len(stack) > 0; {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if at == target {
			var path []*Run
			for ; at != nil; at = from[at] {
				path = append(path, at)
			}
			slices.Reverse(path)
			return path
		}
		for _, next := range at.waits {
			if _, seen := from[next]; !seen {
				from[next] = at
				stack = append(stack, next)
			}
		}
	}
	return nil
}

// CycleError says that runs wait for each other in a circle.
type CycleError struct {
	Path []string // names of the runs; the first is also the last
}

func (e *CycleError) Error() string {
	return "needs itself: " + strings.Join(e.Path, " → ")
}
