// Package flight runs a function once for any number of callers who want its
// result, and finds out when such runs wait for each other in a circle.
//
// A run belongs to none of its callers. Its function gets a context with the values
// of the first caller's but not its cancellation: it ends when the last caller
// has left. The context also says who is calling: a caller who is part of
// another run is known as such, and from that the graph of who waits for whom
// is made. A wait that would close a circle is refused instead of lasting for
// ever.
package flight

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mu guards who waits for whom, and how runs end. It is one for the whole
// process, because a circle may pass through any number of managers. Nothing is
// taken while it is held, and no function of a caller is called.
var mu sync.Mutex

// Run is one execution of a function.
type Run struct {
	name    Named        // what the run is for; nil: not shown
	ctx     *Context     // what the function is called with
	callers atomic.Int64 // 0 = abandoned: nobody may join any more
	leader  *Run         // the run whose goroutine executes this one, if any; guarded by mu
	rare    *rare        // nil as long as there is nothing in it; guarded by mu
	waits   []*Run       // the runs this one waits for or leads, one for each of its goroutines; guarded by mu
	depth   int32        // how many leaders there are above
	over    atomic.Bool  // the context has ended; not set if that has no run any more

	finished bool // the function has returned; guarded by mu
	leads    bool // leader counts among the callers; guarded by mu
}

// Context is what the function of a run is called with. It is apart from the run,
// for the function may have given it to others who keep it, and runs are many and
// used again; see Run.Alone.
type Context struct {
	run    atomic.Pointer[Run] // nil if it has finished and nothing hangs on it; becomes that with mu held
	values context.Context     // of the first caller
}

// rare is what few runs have.
type rare struct {
	done  chan struct{} // closed when finished; made when somebody waits
	ended chan struct{} // closed when the context ends; made when somebody asks
	cause error         // why the context ended, once it has; nil if only because of finished
	after map[*func()]struct{}
}

// Named is what a run can be called after.
type Named interface{ Name() string }

type key struct{}

// New returns a run with one caller, and the context its function is to be
// called with. name is asked only when it is to be shown.
func New(ctx context.Context, name Named) (*Run, *Context) {
	r := &Run{}
	r.Init(ctx, name)
	return r, r.ctx
}

// Init is New for a Run that is part of something else. One that is Alone may be
// used again, for the same name.
func (r *Run) Init(ctx context.Context, name Named) {
	if outer, ok := ctx.(*Context); ok {
		ctx = outer.values // however deep runs are nested
	}
	if r.name == nil { // others may be looking at that of a run that is used again
		r.name = name
	}
	r.ctx = &Context{values: ctx}
	r.ctx.run.Store(r)
	if r.callers.Load() != 1 { // as it is if r is used again
		r.callers.Store(1)
	}
	r.depth, r.finished, r.leads = 0, false, false
}

// Context returns what the function of r is called with.
func (r *Run) Context() *Context { return r.ctx }

// From returns the context of the run that ctx belongs to, or nil.
func From(ctx context.Context) *Context {
	c, ok := ctx.(*Context) // the usual case
	if !ok {
		c, _ = ctx.Value(key{}).(*Context)
	}
	return c
}

// Run returns the run of c, or nil if that is over. What it returns may be over the
// next moment, and used for something else: who looks at more than its name calls
// Run once more under a lock that is held when runs are used again.
func (c *Context) Run() *Run { return c.run.Load() }

// Deadline implements context.Context: there is none.
func (c *Context) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	mu.Lock()
	defer mu.Unlock()
	r := c.run.Load()
	if r == nil {
		return past
	}
	if r.more().ended == nil {
		r.rare.ended = make(chan struct{})
		if r.over.Load() {
			close(r.rare.ended)
		}
	}
	return r.rare.ended
}

// past is the channel of contexts without a run.
var past = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Err implements context.Context.
func (c *Context) Err() error {
	if r := c.run.Load(); r == nil || r.over.Load() {
		return context.Canceled
	}
	return nil
}

// Cause returns why the context ended, or nil if it has not, or there is no more
// to say than that it did.
func (c *Context) Cause() error {
	mu.Lock()
	defer mu.Unlock()
	if r := c.run.Load(); r != nil {
		return r.why()
	}
	return nil
}

// Value implements context.Context: the context itself, or what the first
// caller's context has.
func (c *Context) Value(k any) any {
	if k == (key{}) {
		return c
	}
	if c.values.Done() == nil {
		return c.values.Value(k)
	}
	return context.WithoutCancel(c.values).Value(k)
}

// AfterFunc arranges for f to be called in a goroutine of its own when the
// context has ended; package context uses it for contexts derived from c.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	mu.Lock()
	defer mu.Unlock()
	r := c.run.Load()
	if r == nil || r.over.Load() {
		go f()
		return func() bool { return false }
	}
	if r.more().after == nil {
		r.rare.after = make(map[*func()]struct{})
	}
	more := r.rare
	more.after[&f] = struct{}{}
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		_, waiting := more.after[&f]
		delete(more.after, &f)
		return waiting
	}
}

// Cause returns why the context of r ended, or nil.
func (r *Run) Cause() error {
	mu.Lock()
	defer mu.Unlock()
	return r.why()
}

// why is Cause with mu held.
func (r *Run) why() error {
	if r.rare == nil {
		return nil
	}
	return r.rare.cause
}

// more returns r.rare, which is made if need be. mu is held.
func (r *Run) more() *rare {
	if r.rare == nil {
		r.rare = &rare{}
	}
	return r.rare
}

// Over reports that the context of r has ended.
func (r *Run) Over() bool { return r.over.Load() }

// Join adds a caller. It reports false if the run was abandoned: its context
// has ended, and its result is of no use to anybody.
func (r *Run) Join() bool {
	for n := r.callers.Load(); n > 0; n = r.callers.Load() {
		if r.callers.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// Cancel ends the context of the run.
func (r *Run) Cancel(cause error) {
	mu.Lock()
	defer mu.Unlock()
	r.end(cause)
}

// end ends the context of r, and those of the runs that r leads and nobody else
// waits for, and so on, which have not finished. mu is held.
func (r *Run) end(cause error) {
	for stack := []*Run{r}; len(stack) > 0; cause = cmp.Or(cause, context.Canceled) {
		r := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if r.over.Swap(true) {
			continue
		}
		if cause != nil {
			r.more().cause = cause
		}
		if r.rare != nil {
			if r.rare.ended != nil {
				close(r.rare.ended)
			}
			for f := range r.rare.after {
				go (*f)()
			}
			r.rare.after = nil
		}
		for _, w := range r.waits {
			if w.leader == r && w.leads {
				w.leads = false
				if w.callers.Add(-1) == 0 {
					stack = append(stack, w)
				}
			}
		}
	}
}

// Finish ends the run: its callers go on. What they are to find must have been
// written before.
func (r *Run) Finish() {
	mu.Lock()
	defer mu.Unlock()
	r.finished = true
	if r.rare == nil && len(r.waits) == 0 {
		r.ctx.run.Store(nil) // the usual case
	} else {
		if r.rare != nil && r.rare.done != nil {
			close(r.rare.done)
		}
		r.end(nil)
	}
	if r.leader != nil {
		r.leader.forget(r)
		r.leader = nil
	}
}

// Alone reports that r has finished, and that nobody but its first caller has it
// or will get it, who may use it again.
func (r *Run) Alone() bool { return r.ctx.run.Load() == nil && r.callers.Load() == 1 }

// Drop lets go of what r, which is Alone, was begun with, until it is used again.
func (r *Run) Drop() { r.ctx = nil }

// Lead says that the first caller of r, which is part of the run of self if that
// is not nil, is going to execute it. If self ends, that caller leaves r.
func (r *Run) Lead(self *Context) {
	if self == nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	leader := self.run.Load()
	if leader == nil {
		r.leave()
		return
	}
	r.leader, r.leads = leader, true
	r.depth = leader.depth + 1
	leader.waits = append(leader.waits, r)
	if leader.over.Load() {
		r.leads = false
		if r.callers.Add(-1) == 0 {
			r.end(cmp.Or(leader.why(), context.Canceled))
		}
	}
}

// Depth is how many runs there are, one executing the next, above r.
func (r *Run) Depth() int { return int(r.depth) }

// For returns what r is for, as New was told.
func (r *Run) For() Named { return r.name }

// forget takes other from what r waits for. mu is held.
func (r *Run) forget(other *Run) {
	if i := slices.Index(r.waits, other); i >= 0 {
		last := len(r.waits) - 1
		r.waits[i], r.waits[last] = r.waits[last], nil
		r.waits = r.waits[:last]
	}
}

// Wait blocks a caller who has joined until the run is finished, and returns
// nil. If ctx ends first, the caller leaves with the cause of that; if waiting
// could never end, with a *CycleError. The last caller to leave ends the run's
// context.
func (r *Run) Wait(ctx context.Context) error {
	from := From(ctx)
	mu.Lock()
	if r.finished {
		mu.Unlock()
		return nil
	}
	var self *Run
	if from != nil {
		self = from.run.Load()
	}
	if self != nil {
		if path := r.pathTo(self); path != nil {
			r.leave()
			for _, step := range path {
				step.more() // it is in the error, so it is not used again
			}
			mu.Unlock()
			return circle(self, path)
		}
		self.waits = append(self.waits, r)
	}
	if r.more().done == nil {
		r.rare.done = make(chan struct{})
	}
	done := r.rare.done
	mu.Unlock()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = Cause(ctx)
	}
	mu.Lock()
	if err != nil {
		r.leave()
	}
	if self != nil {
		self.forget(r)
	}
	mu.Unlock()
	return err
}

// Cause is context.Cause, which cannot tell why a Run ended.
func Cause(ctx context.Context) error {
	if err := context.Cause(ctx); err == nil || err != context.Canceled {
		return err
	}
	if c := From(ctx); c != nil {
		if cause := c.Cause(); cause != nil {
			return cause
		}
	}
	return context.Canceled
}

// leave takes one caller away. mu is held.
func (r *Run) leave() {
	if r.callers.Add(-1) == 0 {
		r.end(context.Canceled)
	}
}

// pathTo returns the runs from r to target along who waits for whom, both
// included, or nil. It keeps its own stack, for the path may be long. mu is
// held.
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

// circle names the runs of a circle that self would close.
func circle(self *Run, path []*Run) *CycleError {
	var names []string
	for _, step := range append([]*Run{self}, path...) {
		if step.name != nil {
			names = append(names, step.name.Name())
		}
	}
	return &CycleError{Path: names, Runs: path}
}

// CycleError says that runs wait for each other in a circle.
type CycleError struct {
	Path []string // names of the runs; the first is also the last
	Runs []*Run   // that would have been waited for; the last is the one that would have waited
}

func (e *CycleError) Error() string {
	return "needs itself: " + strings.Join(e.Path, " → ")
}
