package graph

import (
	"cmp"
	"context"
	"runtime"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// Resolve brings n to clean: it checks what n was built from, and builds it if
// that has changed. If a builder of n has run, its run is returned, also with
// the error it returned; to another builder only if the result is not n's value. built says
// in any case that one has run.
//
// If ctx ends, Resolve returns at once; what is running goes on as long as
// others wait for it. If n is dead, or was marked again meanwhile, it may return
// without an error though n is not clean: the caller looks again. It is a part of what q
// is for, if that is not nil and ctx is no builder's.
func (g *Graph) Resolve(ctx context.Context, q *Request, n *Node) (r *Run, built bool, err error) {
	self := flight.From(ctx)
	s := search{g: g, ctx: ctx, self: self, of: self, root: n, q: q, asks: true}
	r, err = s.resolve()
	return r, s.built, err
}

// arrival is when a caller came: after so many calls of builders, and writes. Zero is now.
type arrival struct{ calls, writes uint64 }

// visit is a node on the way from the root to where the search is.
type visit struct {
	node  *Node
	edges *Edge  // its first edge when the way began to lead through them
	next  int32  // edges before this one were found unchanged …
	since int32  // … when the lock had been released so often
	why   *Cause // it is to be built without looking at its edges: of the end of the path, until the lock is released
}

// path is the way of a search from its root, which comes first, to where it is.
type path []visit

func (p *path) push(n *Node) { *p = append(*p, visit{node: n}) }

// pop leaves nothing behind that would keep a node alive.
func (p *path) pop() {
	last := len(*p) - 1
	(*p)[last] = visit{}
	*p = (*p)[:last]
}

// The room of a few paths is used again: a long one costs as much as the search.
const (
	maxPaths   = 16
	maxPathLen = 1 << 18
)

// begin returns a path to n. The graph is locked.
func (g *Graph) begin(n *Node) (p path) {
	if last := len(g.paths) - 1; last >= 0 {
		p, g.paths = g.paths[last], g.paths[:last]
	} else {
		p = make(path, 0, 16)
	}
	p.push(n)
	return p
}

// end is told of a path that is not used any more. The graph is locked.
func (g *Graph) end(p path) {
	if len(g.paths) < maxPaths && cap(p) <= maxPathLen {
		clear(p)
		g.paths = append(g.paths, p[:0])
	}
}

// search is what brings a node to clean.
type search struct {
	g     *Graph
	ctx   context.Context // of the caller
	self  *flight.Context // what the search is a part of
	of    *flight.Context // what it is for: the same, unless it is apart
	root  *Node
	q     *Request
	asks  bool    // the result is wanted, and not only whether what was read is still what it was
	came  arrival // of the caller
	asker *Run    // of the builder that of belongs to, if it is of the same graph

	path     path
	task     Task  // for root, made without the lock
	releases int32 // how often the lock was released
	built    bool  // a run of root was begun or waited for, or has failed before
}

// resolve does what Resolve says. The search keeps its own stack, for the graph may be deep.
func (s *search) resolve() (*Run, error) {
	g := s.g
	if s.root.owner.makes == Probed {
		s.task = s.root.owner.Type.NewTask()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.path = g.begin(s.root)
	exits := true
	defer func() {
		g.end(s.path)
		g.leave(s.q)
		if exits && s.asker != nil && runOf(s.of) == s.asker { // a builder ends the goroutine: who has asked may go on without it
			s.asker.volatile = true
		}
	}()
	r, err := s.run()
	exits = false
	return r, err
}

// run is resolve with the graph locked.
func (s *search) run() (*Run, error) {
	g, ctx := s.g, s.ctx
	if s.came == (arrival{}) {
		s.came = arrival{g.calls, g.writes}
	}
	if s.asker = runOf(s.of); s.asker != nil && s.asker.graph() != g {
		s.asker = nil
	}
	if s.asker != nil {
		s.q = s.asker.request
	}
	s.q.enter()
	if s.asker != nil && s.asks && s.of == s.self && !s.asker.mayRead(s.root) {
		return nil, ErrStale
	}
	overtaken := 0 // how often a run was superseded that was waited for
	for steps := 1; len(s.path) > 0; steps++ {
		if steps%4096 == 0 {
			s.without(runtime.Gosched)
			if err := ctx.Err(); err != nil {
				return nil, flight.Cause(ctx)
			}
		}
		top := &s.path[len(s.path)-1]
		x := top.node
		if x.clean() {
			s.path.pop()
			continue
		}
		if x.dead() {
			if len(s.path) == 1 {
				return nil, nil
			}
			s.path.pop() // whoever has read it finds out when it looks again
			s.path[len(s.path)-1].next = 0
			continue
		}
		if r := s.q.knows(x, s.of, s.asks && len(s.path) == 1); r != nil {
			err := r.failure()
			if s.final(err) {
				return s.told(r, err)
			}
			s.failed(x, err)
			continue
		}
		if top.why == nil && (x.kind == Input && x.owner.whole != nil || !x.owner.wholeClean()) {
			s.path.push(x.owner.whole)
			continue
		}
		why, known := s.check(top)
		if !known {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, flight.Cause(ctx)
		}
		if g.closed != nil {
			return nil, g.closed
		}
		r := x.run()
		if r == nil && mayLeave(ctx, s.self) {
			var err error
			s.without(func() { r, err = s.resolveApart() })
			return r, err
		}
		s.built = s.built || x == s.root
		at := uint32(0)
		var err error // of waiting, not of the builder
		switch {
		case r == nil:
			r = s.start(x, why, overtaken >= patience)
			s.without(func() { r.lead(s.self) })
		case !r.Join():
			x.supersede() // nobody wants its result
			continue
		default:
			at = r.poison
			s.without(func() { err = r.Wait(ctx) })
		}
		if circle, is := err.(*flight.CycleError); is && g.past(circle) {
			if x.run() == r {
				x.supersede()
			}
			continue // with a run that sees what there is now
		}
		if err == nil && (r.sane < at || r.Err == ErrStale || r.late(s.came)) {
			// It looked at what it had read before the caller came, and not since
			// that changed; or it was superseded and has no result.
			if r.Err == ErrStale {
				overtaken++
			}
			continue
		}
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err == nil {
			// That nobody waited for it any more says nothing to who asks now.
			if err = r.failure(); err != nil && r.Cause() == nil || r.outcome == Volatile {
				s.q.note(x, r, s.of, s.asks && len(s.path) == 1)
			}
		}
		last := len(s.path) == 1
		switch kept := err == nil && r.outcome != Volatile; {
		case kept && r.outcome == Published && !(last && s.asker == nil):
			r.release()
			if last {
				return nil, nil
			} // else it may not be clean yet, if it is of contents that are to be checked as a whole
		case last || !kept && s.final(err):
			return s.told(r, err)
		case !kept && !x.clean(): // or it was set meanwhile
			s.failed(x, err)
		}
	}
	return nil, nil
}

// check finds out whether the node of top, the end of the path, has to be built, or is being
// built, and why. If that is not known it has done what is to be done next: the path goes
// another way, or the node was found unchanged.
func (s *search) check(top *visit) (why Cause, known bool) {
	x := top.node
	switch {
	case top.why != nil:
		return *top.why, true
	case x.run() != nil || State(x.word.Load()&3) == Dirty:
		return Cause{Reason: x.why}, true
	case x.Saved() != "": // also of what is to be asked, for SameReads
		s.link(top)
		return why, false
	case x.kind == Probed && !x.Asked():
		return Cause{Reason: Asked}, true
	case int64(len(s.path)) > s.g.nodes.Load():
		// Longer than any path without a circle: records from different
		// times are mixed.
		top.why = &Cause{Reason: Unknown}
		return why, false
	}
	if top.edges != x.edges { // somebody else has built it meanwhile
		top.next = 0
	}
	if top.next == 0 {
		top.edges, top.since = x.edges, s.releases
	}
	edges := x.Edges()
	for ; int(top.next) < len(edges); top.next++ {
		e := &edges[top.next]
		if e.Node.dead() {
			s.link(top)
			top.next = 0
			return why, false
		}
		if Debug && top.since == s.releases && (!e.Node.clean() || e.Node.Stamp != e.Stamp) {
			x.assertOrder(e)
		}
		if !e.Node.clean() {
			s.path.push(e.Node)
			return why, false
		}
		if e.Node.Stamp != e.Stamp {
			return Cause{Reason: Changed, Node: e.Node}, true
		}
	}
	if top.since != s.releases { // look at all of them once more, at one instant
		top.next = 0
		return why, false
	}
	x.unchanged()
	s.path.pop()
	return why, false
}

// link brings the edges of the node of top to nodes that are alive.
func (s *search) link(top *visit) {
	s.releases++
	if err := s.g.link(s.ctx, top.node); err != nil {
		top.why = &Cause{Reason: Unknown}
	}
}

// start begins a run of x.
func (s *search) start(x *Node, why Cause, patient bool) *Run {
	if x != s.root || s.task == nil {
		s.task = x.owner.task()
	}
	if s.q == nil {
		s.q = &Request{}
		s.q.enter()
	}
	r := s.g.start(s.ctx, s.task, x, why, s.q)
	if r.patient = patient; patient {
		r.waiter = r
	} else if s.asker != nil && s.asker.patient {
		r.waiter = s.asker
	}
	s.task = nil
	return r
}

// without calls f without the lock.
func (s *search) without(f func()) {
	s.g.mu.Unlock()
	defer s.g.mu.Lock()
	s.releases++
	s.path[len(s.path)-1].why = nil // what it is about may have come right meanwhile
	At("unlocked")
	f()
	At("lock")
}

// final reports that what has become of the end of the path, which cannot be kept, is the
// end for root: it is root, or of the contents that root is a part of, without which it
// cannot be built, or needs not.
func (s *search) final(err error) bool {
	root := s.root.owner
	return len(s.path) == 1 || len(s.path) == 2 && s.path[1].node.owner.covers == root &&
		(err != nil || root.makes == Input || !s.asks)
}

// failed ends the search of n, the end of the path, which is not final: who has read it is to
// be built, as it is for its builder to say what the failure means.
func (s *search) failed(n *Node, err error) {
	s.path.pop()
	if n.owner.covers != nil && s.path[len(s.path)-1].node.owner == n.owner.covers && len(s.path) > 1 {
		s.path.pop() // an entry cannot be built by itself
	}
	switch top := &s.path[len(s.path)-1]; {
	case top.edges != top.node.edges && top.node.owner.whole != n:
		// Somebody else has built it meanwhile, and it may not have read n.
	case err == nil:
		top.why = &Cause{Unkept, n}
	default:
		top.why = &Cause{Failed, n}
	}
}

// told returns r, which has made something that cannot be kept, to the asker.
func (s *search) told(r *Run, err error) (*Run, error) {
	s.built = true
	if s.asker != nil {
		s.asker.foreign = s.asker.foreign || r.foreign
	}
	return r, err
}

// unchanged makes n clean: all that it has read is, and has the stamps that were
// read. The graph is locked, and was while that was found out.
func (n *Node) unchanged() {
	for _, e := range n.Edges() {
		if !n.joined {
			e.Node.join(n)
		} else if !e.Node.watched {
			e.Node.watched = true
		}
	}
	n.joined = true
	if Debug {
		assert(n.State() == Check && n.run() == nil, n, "I6: it has to be built, and is found unchanged")
		n.assertClean()
	}
	n.set(Clean)
}

// Verify is Resolve of nodes, one after another, as far as that takes no more than a
// look at what they have read. It returns those that are not clean then, in the memory
// of nodes.
func (g *Graph) Verify(nodes []*Node) []*Node {
	rest := nodes[:0]
	g.mu.Lock()
	defer g.mu.Unlock()
	touch(nodes)
	for _, n := range nodes {
		if !n.clean() && !n.holds() {
			rest = append(rest, n)
		}
	}
	return rest
}

// touch reads what Verify is going to look at. Nodes, edges and lists lie all over the
// memory: read one after the other for no other purpose, the processor waits for many of
// them at a time. The graph is locked.
func touch(nodes []*Node) {
	var touched uint64
	for _, n := range nodes {
		touched += n.Stamp + uint64(n.lenEdges)
	}
	for _, n := range nodes {
		if n.lenEdges > 0 {
			touched += n.edges.Stamp
		}
	}
	for _, n := range nodes {
		for _, e := range n.Edges() {
			touched += e.Node.Stamp
		}
	}
	for _, n := range nodes {
		if n.joined {
			continue
		}
		for _, e := range n.Edges() {
			if e.Node.lenAbove > 0 && *e.Node.above == n {
				touched++
			}
		}
	}
	runtime.KeepAlive(touched)
}

// holds makes n clean, if a look at what it has read is enough to say that it is. The
// graph is locked.
func (n *Node) holds() bool {
	if n.dead() || n.kind == Input || !n.owner.wholeClean() || n.run() != nil || State(n.word.Load()&3) == Dirty || n.kind == Probed && !n.Asked() || n.Saved() != "" {
		return false
	}
	for _, e := range n.Edges() {
		if !e.Node.clean() || e.Node.Stamp != e.Stamp {
			return false
		}
	}
	n.unchanged()
	return true
}

// Link brings the edges of those of nodes, which are of one owner, whose edges are as they
// were stored to nodes that are alive, as Resolve would.
func (g *Graph) Link(ctx context.Context, nodes []*Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	saved := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		if n.Saved() != "" && !n.dead() {
			saved = append(saved, n)
		}
	}
	g.link(ctx, saved...)
}

func (g *Graph) isPast(circle *flight.CycleError) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.past(circle)
}

// past reports whether a circle is of runs that need each other only because
// one, other than the last, has read what may have changed. The graph is locked.
func (g *Graph) past(circle *flight.CycleError) bool {
	for _, f := range circle.Runs[:len(circle.Runs)-1] {
		if r, ok := f.For().(*Run); ok && r.graph() == g && (r.poison != r.sane || r.superseded || r.aborted) {
			return true
		}
	}
	return false
}

// link brings the edges of nodes, of one owner, to nodes that are alive, where that is
// possible. It releases the lock meanwhile, and returns the first error.
func (g *Graph) link(ctx context.Context, nodes ...*Node) (failed error) {
	if len(nodes) == 0 {
		return nil
	}
	lists := make([]List, len(nodes))
	for i, n := range nodes {
		lists[i] = List{Node: n, Edges: n.Edges(), Saved: n.Saved()}
	}
	func() {
		g.linking.Add(1)
		defer g.linking.Add(-1)
		g.mu.Unlock()
		defer g.mu.Lock()
		nodes[0].owner.Type.Link(ctx, lists)
	}()
	for _, l := range lists {
		switch n := l.Node; {
		case n.Saved() != l.Saved || n.edges != unsafe.SliceData(l.Edges): // somebody else has replaced them
		case l.Err != nil:
			failed = cmp.Or(failed, l.Err)
		default:
			n.ahead()
			n.SetEdges(l.Linked)
			n.keep(n.Old(), "")
		}
	}
	return failed
}

// deepStack is how many builders may run on one goroutine's stack, each called
// by the one before.
const deepStack = 200

// lead executes r as a part of self.
func (r *Run) lead(self *flight.Context) {
	r.Lead(self)
	if r.Depth()%deepStack < deepStack-1 {
		r.execute()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.execute()
	}()
	<-done
}

// mayLeave reports that who calls with ctx as a part of self may leave before self ends.
func mayLeave(ctx context.Context, self *flight.Context) bool {
	if self == nil {
		return ctx.Done() != nil
	}
	return ctx != context.Context(self) && ctx.Done() != self.Done()
}

// apart is a search apart from its caller.
type apart struct {
	flight.Run
	request Request
	ended   bool // a builder may end the goroutine instead; the request knows of it
	found   *Run
	built   bool
	err     error
}

// resolveApart begins the search anew, in a goroutine of its own, for a caller who may leave
// while a builder is running. It is one for all builders that there are to run.
func (s *search) resolveApart() (*Run, error) {
	for {
		a := &apart{}
		a.Init(s.ctx, nil)
		if s.q == nil {
			s.q = &a.request
			s.q.enter() // nobody else has it yet
		}
		again := search{g: s.g, ctx: a.Context(), self: a.Context(), of: s.of, root: s.root, q: s.q, asks: s.asks, came: s.came}
		go func() {
			defer a.Finish()
			a.found, a.err = again.resolve()
			a.built, a.ended = again.built, true
		}()
		err := a.Wait(s.ctx)
		if circle, is := err.(*flight.CycleError); is && s.g.isPast(circle) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if a.ended {
			s.built = s.built || a.built
			return a.found, a.err
		}
	}
}
