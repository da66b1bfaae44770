package graph

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// ErrStale is what a builder gets from a read after something it read before has
// changed. Whatever it returns then is dropped, and it runs again.
var ErrStale = errors.New("what was read before has changed; the builder will run again")

// Task builds one node, once. A Run belongs to it.
type Task interface {
	// Base returns the run, which is part of the task.
	Base() *Run
	// Start says that the task is to build n. The graph is locked.
	Start(n *Node)
	// Reset makes a task that has published its result ready to be started again. The
	// graph is locked.
	Reset()
	// Build calls the builder; it may be called again. No lock is held.
	Build(ctx context.Context) error
	// Publish takes the locks of the entry, and if Run.Verdict says so calls
	// Run.Commit and puts the value into the entry. No lock is held. It is not
	// called for an error, unless Keeps says that it is a result.
	Publish() Outcome
	// Keeps reports whether an error of Build is a result like any other.
	Keeps(err error) bool
	// Done is called when the run is over, before its callers go on.
	Done()
}

// Run is a run of a builder.
type Run struct {
	flight.Run
	Err  error         // what Build returned last
	Why  Cause         // why it runs
	Took time.Duration // of all calls of the builder; the task's

	owner   *Owner // of node; always the same
	node    *Node
	task    Task
	request *Request
	again   atomic.Bool // it has read what its node was built from, in the same order, so far; changed with the graph locked

	// Guarded by the graph's lock:

	extra      extra // of node, while this is its run
	edges      []Edge
	index      map[*Node]struct{} // of edges, once there are many
	writes     uint64             // those of the graph when the builder was called
	call       uint64             // and which of the graph's calls of builders that was
	began      uint64             // the revision at which it was called for the first time
	missed     *Node
	waiter     *Run   // see Node.Patient
	poison     uint32 // counts writes to what was read
	sane       uint32 // the poison at which the edges were last found unchanged
	at         int32  // in the graph's list of runs
	outcome    Outcome
	misses     uint8 // how often missed was not clean when it was to be read
	moved      bool  // edges are not those that the node had
	open       bool  // reads are recorded
	aborted    bool  // an edge has changed: the builder is to run again
	volatile   bool  // it has read something that cannot be recorded
	foreign    bool  // that is of another graph
	superseded bool  // it is no longer its node's
	patient    bool  // writers are to wait for it
	shown      bool  // a writer may have it, without having joined
}

// Outcome says what became of a run.
type Outcome uint8

const (
	Unfinished = Outcome(iota)
	Published  // its result is the node's value
	Poisoned   // something it has read may have changed
	Superseded // the node was set, invalidated or removed meanwhile
	Volatile   // its result is right but cannot be kept
	Error      // it failed
)

// Outcome returns what became of a finished run.
func (r *Run) Outcome() Outcome { return r.outcome }

// Exited reports whether Publish has ended the goroutine that it was called in. It
// is for Done.
func (r *Run) Exited() bool { return r.outcome == Error && r.Err == nil }

// SameReads reports whether the builder has read what its node was built from, in the same
// order and with the same stamps. The graph is locked.
func (r *Run) SameReads() bool {
	return r.node.Saved() == "" && slices.Equal(r.edges, r.node.Edges())
}

// Task returns the task that r belongs to.
func (r *Run) Task() Task { return r.task }

func (r *Run) graph() *Graph { return r.owner.g }

// Node returns the node that r builds.
func (r *Run) Node() *Node { return r.node }

// Name implements flight.Named.
func (r *Run) Name() string { return r.node.owner.Type.Name(r.node) }

// failure returns the error of a finished run, unless that is a result.
func (r *Run) failure() error {
	if r.outcome == Error {
		return r.Err
	}
	return nil
}

// start makes t the run of n, for q. The graph is locked.
func (g *Graph) start(ctx context.Context, t Task, n *Node, why Cause, q *Request) *Run {
	t.Start(n)
	r := t.Base()
	if r.owner == nil { // others may be looking at that of a run that is used again
		r.owner, r.task = n.owner, t
	}
	r.Init(ctx, r)
	r.node, r.Why, r.request = n, why, q
	q.enter()
	r.open, r.began = true, g.Revision()
	r.called()
	r.repeats(n.lenEdges > 0)
	n.ahead()
	n.setRun(r)
	r.at = int32(len(g.running))
	if g.running = append(g.running, r); r.at == 0 {
		building.Add(1)
	}
	return r
}

// called notes that the builder is called from here on. The graph is locked.
func (r *Run) called() {
	g := r.graph()
	g.calls++
	r.writes, r.call = g.writes, g.calls
	r.volatile, r.foreign = false, false
}

// repeats notes whether r has read, so far, what its node was built from. The graph is locked.
func (r *Run) repeats(so bool) {
	if r.again.Load() != so { // which is seldom, and costs less than to store it
		r.again.Store(so)
	}
}

// late reports that r, which has finished, has seen too little for who came then: it was called
// before, and what it has read that cannot be recorded may have changed before they
// came. The graph is locked.
func (r *Run) late(came arrival) bool {
	return r.volatile && r.call <= came.calls && (r.writes < came.writes || r.foreign)
}

// stale reports that the builder of r is to be told ErrStale. The graph is locked.
func (r *Run) stale() bool {
	if r.superseded && r.open { // writes do not poison it any more
		r.aborted = true
	}
	return r.aborted
}

// mayRead reports whether r may have n brought to clean, to read it. The graph is locked.
func (r *Run) mayRead(n *Node) bool {
	if r.stale() {
		return false
	}
	if n.clean() {
		return true
	}
	if r.missed != n {
		r.missed, r.misses = n, 0
	}
	if r.misses++; r.misses > patience {
		r.misses = 0
		r.patient = true
	}
	return true
}

// forget takes r from the runs. The graph is locked.
func (g *Graph) forget(r *Run) {
	g.leave(r.request)
	if Debug {
		assert(g.running[r.at] == r, r.node, "its run is listed in another place")
	}
	last := int32(len(g.running) - 1)
	g.running[r.at] = g.running[last]
	g.running[r.at].at = r.at
	g.running[last] = nil
	if g.running = g.running[:last]; last == 0 {
		building.Add(-1)
	}
}

// maxSpare is how many runs of a cache are kept to be used again, of those that
// have finished. Most builders are run one after the other.
const maxSpare = 16

// task returns a task of o. The graph is locked.
func (o *Owner) task() Task {
	last := len(o.spare) - 1
	if last < 0 {
		return o.Type.NewTask()
	}
	t := o.spare[last]
	o.spare = o.spare[:last]
	return t
}

// release keeps r, which has published its result, to be used again, unless
// somebody else may have it. The graph is locked.
func (r *Run) release() {
	o := r.owner
	if r.shown || len(o.spare) == maxSpare || !r.Alone() {
		return
	}
	r.Drop()
	r.Err, r.Why, r.Took, r.node, r.request = nil, Cause{}, 0, nil, nil
	r.edges, r.index, r.extra = nil, nil, extra{}
	r.missed, r.misses, r.waiter = nil, 0, nil
	r.poison, r.sane, r.outcome = 0, 0, Unfinished
	r.moved, r.open, r.aborted, r.superseded, r.patient = false, false, false, false, false
	r.task.Reset()
	o.spare = append(o.spare, r.task)
}

const fewEdges = 24

func (r *Run) record(n *Node) {
	// If it is what the node has read before, at the same place, it is in the
	// list already; and as long as all is, nothing comes twice.
	y, i := r.node, len(r.edges)
	same := i < int(y.lenEdges) && y.Edges()[i].Node == n
	if (!same || r.moved) && r.known(n) {
		return
	}
	if same && y.joined {
		n.watched = true
	} else {
		n.join(y)
	}
	if !same {
		r.moved = true
		r.repeats(false)
	}
	if r.edges == nil { // most read as much as before
		r.edges = make([]Edge, 0, cmp.Or(int(y.lenEdges), 4))
	}
	r.edges = append(r.edges, Edge{n, n.Stamp})
	if r.index != nil {
		r.index[n] = struct{}{}
	}
}

// known reports that n is among the edges.
func (r *Run) known(n *Node) bool {
	if r.index == nil && len(r.edges) < fewEdges {
		return slices.ContainsFunc(r.edges, func(e Edge) bool { return e.Node == n })
	}
	if r.index == nil {
		r.index = make(map[*Node]struct{}, 4*fewEdges)
		for _, e := range r.edges {
			r.index[e.Node] = struct{}{}
		}
	}
	_, known := r.index[n]
	return known
}

// recheck is Frame.Recheck with the graph locked; the lock is released meanwhile.
func (r *Run) recheck() bool {
	for !r.aborted && r.poison != r.sane && !r.superseded {
		at, settled := r.poison, true
		edges := r.edges // reads by other goroutines of the builder append
		for _, e := range edges {
			if e.Node.dead() {
				r.aborted = true
				return false
			}
			if !e.Node.clean() {
				settled = false
				run, err := r.look(e.Node)
				if err != nil || run != nil && run.outcome == Volatile { // it has no stamp any more
					r.aborted = true
					return false
				}
			}
			if e.Node.Stamp != e.Stamp {
				r.aborted = true
				return false
			}
		}
		if settled { // all was seen in one critical section
			for _, e := range edges {
				e.Node.join(r.node)
			}
			r.sane = at
		}
	}
	if r.open && r.poison != r.sane { // superseded, and yet reading: there is no use in going on
		r.aborted = true
	}
	return !r.aborted
}

// look brings n, which r has read, to clean, without the lock: a builder may end the
// goroutine.
func (r *Run) look(n *Node) (*Run, error) {
	g := r.graph()
	g.mu.Unlock()
	defer g.mu.Lock()
	At("recheck")
	s := search{g: g, ctx: r.Context(), self: r.Context(), of: r.Context(), root: n}
	run, err := s.resolve()
	At("rechecked")
	return run, err
}

// Verdict notes that the builder has returned, and decides whether its result is
// published. The graph is locked.
func (r *Run) Verdict() Outcome {
	r.open = false
	switch {
	case r.aborted:
		return Poisoned
	case r.superseded || r.node.run() != r || r.node.dead():
		return Superseded
	case r.poison != r.sane:
		return Poisoned
	case r.volatile:
		return Volatile
	}
	return Published
}

// Commit publishes the result of r, as Verdict has said in the same critical
// section: the node has its new stamp when it returns, and the caller puts the
// value into the entry before it releases its lock. same says that the value equals
// the one that the entry had, absent that there is none. The graph is locked.
func (r *Run) Commit(same, absent bool, kind Kind) {
	n := r.node
	if Debug {
		r.assertPublished()
	}
	stamp := n.Stamp
	if absent {
		stamp = 0
	} else if !same || stamp == 0 {
		stamp = r.graph().Next()
	}
	if stamp != n.Stamp {
		r.graph().Mark(n)
	}
	if Debug {
		n.assertChange(stamp)
		n.assertSame(stamp, same, absent)
	}
	n.Stamp, n.Built = stamp, r.graph().Revision()
	r.handOver()
	n.extra = nil
	n.kind = kind
	n.why = Missing
	n.set(Clean)
	if r.poison != r.sane || // what it has read was computed from n, or is of a cache that has read contents that were
		r.writes != r.graph().writes && !n.owner.wholeClean() { // the contents were clean when it began
		r.graph().Mark(n)
		n.set(Check)
	}
	if Debug && n.clean() {
		n.assertClean()
	}
}

// Settle is Commit for the node of contents as a whole, which are replaced in the same
// critical section, because that takes other locks. If something that they were
// built from may have changed since Verdict, the node is not clean. The graph is locked.
func (r *Run) Settle() {
	n := r.node
	n.advance()
	n.Stamp = r.graph().Next()
	n.keep(n.Old(), "")
	n.Built, n.why = n.Stamp, Missing
	n.kind = Derived
	r.handOver()
	if n.joined = r.poison == r.sane; n.joined {
		n.set(Clean)
	} else {
		n.set(Check)
	}
}

// handOver gives the node of r the edges of r, with which it is registered, and ends
// that r is its run.
func (r *Run) handOver() {
	n := r.node
	strays := n.strays || n.lenEdges > 0 && (r.moved || len(r.edges) != int(n.lenEdges))
	if len(r.edges) < cap(r.edges) {
		r.edges = append(make([]Edge, 0, len(r.edges)), r.edges...)
	}
	n.SetEdges(r.edges)
	n.joined, n.strays = true, strays
	n.SetTook(r.Took)
	r.moved = false
	n.setRun(nil)
	r.graph().forget(r)
	r.owner.tally.add(r.Took, false)
}

// Needed reports that a builder that is running has read n, or that n was built since it
// began: if it were to be built anew for every node that one reads, and each were
// forgotten for another, the builder would never end. The graph is locked.
func (g *Graph) Needed(n *Node) bool {
	return slices.ContainsFunc(g.running, func(r *Run) bool { return n.Built > r.began || r.known(n) })
}

// Edges returns what r has read. The graph is locked.
func (r *Run) Edges() []Edge { return r.edges }

// patience is how often a builder is begun again before writers are asked to
// wait for it, and yield how long they do at most: a builder that waits for one
// of them must not hold it up for ever.
const (
	patience = 3
	yield    = time.Second
)

// Yield waits until r is finished, or for a second. No lock is held.
func (r *Run) Yield() {
	ctx, cancel := context.WithTimeout(context.Background(), yield)
	defer cancel()
	if r.Join() {
		r.Wait(ctx)
	}
	g := r.graph()
	g.mu.Lock()
	r.patient = false
	g.mu.Unlock()
}

// execute runs the builder of r until it has seen a consistent state of what
// it read, and publishes what it made.
//
//go:noinline
func (r *Run) execute() {
	g := r.graph()
	defer func() { // the builder may have ended the goroutine
		defer r.Finish() // who observes what is done may, too
		if r.outcome != Published {
			r.fail()
		}
		r.task.Done()
	}()
	for attempt := 1; ; attempt++ {
		r.outcome = Error
		r.Err = r.task.Build(r.Context())
		At("built")
		for failed := r.Err != nil && !r.task.Keeps(r.Err); ; {
			if !failed {
				if r.outcome = r.task.Publish(); r.outcome != Poisoned {
					return
				}
			}
			outcome, err := r.outcome, r.Err
			r.outcome, r.Err = Error, ErrStale // should a builder end the goroutine meanwhile
			settled := r.settled()
			r.outcome, r.Err = outcome, err
			if !settled {
				break
			}
			if failed {
				return
			}
		}
		g.mu.Lock()
		superseded := r.superseded
		g.mu.Unlock()
		At("not published")
		if superseded || r.Over() { // nobody is to get what it makes
			r.outcome = Error
			if superseded || r.Err == nil || errors.Is(r.Err, ErrStale) {
				r.Err = ErrStale
			}
			return
		}
		g.mu.Lock()
		r.edges, r.index = nil, nil
		r.node.strays = r.node.strays || r.moved
		r.aborted, r.open = false, true
		r.sane = r.poison
		r.called()
		r.patient = attempt >= patience
		g.mu.Unlock()
	}
}

// fail ends that r, which has published nothing, is the run of its node.
func (r *Run) fail() {
	g, n := r.graph(), r.node
	g.mu.Lock()
	defer g.mu.Unlock()
	r.open = false // if the builder has ended the goroutine
	if n.run() == r {
		n.setRun(nil)
	}
	failed := r.failure() != nil && r.Err != ErrStale || r.Exited()
	if failed && !r.Over() || r.outcome == Volatile {
		r.request.note(n, r, nil, false) // before somebody else begins anew
	}
	if r.moved { // what it has read is dropped
		n.strays = true
	}
	g.forget(r)
	if r.Err != ErrStale { // or nobody gets what it has made
		r.owner.tally.add(r.Took, failed)
	}
}

// Withdraw is called by the builder of r when it finds that its node may need no building: who waits
// for it looks again.
func (r *Run) Withdraw() {
	g := r.graph()
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.node.run() == r {
		r.node.supersede()
	}
	r.aborted = true
}

// settled notes that the builder has returned, and reports whether all that it has
// read is unchanged.
func (r *Run) settled() bool {
	g := r.graph()
	g.mu.Lock()
	defer g.mu.Unlock()
	r.open = false
	return r.recheck()
}
