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
// the error it returned; to another builder only if the result is not n's value.
//
// If ctx ends, Resolve returns at once; what is running goes on as long as
// others wait for it. If n is dead, or was marked again meanwhile, it may return
// without an error though n is not clean: the caller looks again.
func (g *Graph) Resolve(ctx context.Context, n *Node) (*Run, error) {
	return g.ResolveFor(ctx, nil, n)
}

// ResolveFor is Resolve for a part of what q is for, which is not a builder.
func (g *Graph) ResolveFor(ctx context.Context, q *Request, n *Node) (*Run, error) {
	self := flight.From(ctx)
	return g.resolve(ctx, self, self, n, q, true, arrival{})
}

// arrival is when a caller came: after so many calls of builders, and writes. Zero is now.
type arrival struct{ calls, writes uint64 }

// visit is a node on the way from the root to where the search is.
type visit struct {
	node  *Node
	next  int32  // edges before this one were found unchanged …
	since int32  // … when the lock had been released so often
	why   *Cause // it is to be built without looking at its edges
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

// resolve does what Resolve says for of, as a part of self, which is the same unless the
// search is apart. asks says that of wants the result, and not only to find out whether
// what it had asked for is still what it was. The search keeps its own stack, for the
// graph may be deep.
func (g *Graph) resolve(ctx context.Context, self, of *flight.Context, root *Node, q *Request, asks bool, came arrival) (*Run, error) {
	releases, steps := int32(0), 0
	overtaken := 0 // how often a run was superseded that was waited for
	var task Task  // for root, made without the lock
	if root.owner.makes == Probed {
		task = root.owner.Type.NewTask()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	stack := g.begin(root)
	defer func() { g.end(stack) }()
	if came == (arrival{}) {
		came = arrival{g.calls, g.writes}
	}
	without := func(f func()) {
		g.mu.Unlock()
		defer g.mu.Lock()
		releases++
		At("unlocked")
		f()
		At("lock")
	}
	// final says that what has become of the top, which cannot be kept, is the end
	// for root: it is root, or of the contents that root is a part of, without which
	// it cannot be built, or needs not.
	final := func(err error) bool {
		return len(stack) == 1 || len(stack) == 2 && stack[1].node.owner.covers == root.owner &&
			(err != nil || root.owner.makes == Input || !asks)
	}
	// failed ends the search of the top, which is not final: who has read it is to
	// be built, as it is for its builder to say what the failure means.
	failed := func(n *Node, err error) {
		stack.pop()
		if n.owner.covers != nil && stack[len(stack)-1].node.owner == n.owner.covers && len(stack) > 1 {
			stack.pop() // an entry cannot be built by itself
		}
		why := &Cause{Failed, n}
		if err == nil {
			why.Reason = Unkept
		}
		stack[len(stack)-1].why = why
	}
	asker := runOf(of)
	if asker != nil && asker.graph() != g {
		asker = nil
	}
	if asker != nil {
		q = asker.request
	}
	// told returns r, which has made something that cannot be kept, to the asker.
	told := func(r *Run, err error) (*Run, error) {
		if asker != nil {
			asker.foreign = asker.foreign || r.foreign
		}
		return r, err
	}
search:
	for len(stack) > 0 {
		if steps++; steps%4096 == 0 {
			without(runtime.Gosched)
			if err := ctx.Err(); err != nil {
				return nil, flight.Cause(ctx)
			}
		}
		top := &stack[len(stack)-1]
		x := top.node
		if x.clean() {
			stack.pop()
			continue
		}
		if x.dead() {
			if len(stack) == 1 {
				return nil, nil
			}
			stack.pop() // whoever has read it finds out when it looks again
			stack[len(stack)-1].next = 0
			continue
		}
		if r := q.knows(x, of, asks && len(stack) == 1); r != nil {
			err := r.failure()
			if final(err) {
				return told(r, err)
			}
			failed(x, err)
			continue
		}
		if top.why == nil && (x.kind == Input && x.owner.whole != nil || !x.owner.wholeClean()) {
			stack.push(x.owner.whole)
			continue
		}
		why := Cause{Reason: x.why}
		if x.run() == nil && top.why == nil && State(x.word.Load()&3) != Dirty && (x.kind != Probed || x.Asked()) {
			if int64(len(stack)) > g.nodes.Load() {
				// Longer than any path without a circle: records from different
				// times are mixed.
				top.why = &Cause{Reason: Unknown}
				continue
			}
			if x.Saved() != "" {
				releases++
				if err := g.link(ctx, x); err != nil {
					top.why = &Cause{Reason: Unknown}
				}
				continue
			}
			if top.next == 0 {
				top.since = releases
			}
			why = Cause{}
			edges := x.Edges()
			for ; int(top.next) < len(edges); top.next++ {
				e := &edges[top.next]
				if e.Node.dead() {
					releases++
					if err := g.link(ctx, x); err != nil {
						top.why = &Cause{Reason: Unknown}
					}
					top.next = 0
					continue search
				}
				if Debug && top.since == releases && (!e.Node.clean() || e.Node.Stamp != e.Stamp) {
					x.assertOrder(e)
				}
				if !e.Node.clean() {
					stack.push(e.Node)
					continue search
				}
				if e.Node.Stamp != e.Stamp {
					why = Cause{Reason: Changed, Node: e.Node}
					break
				}
			}
			if why.Node == nil {
				if top.since != releases { // look at all of them once more, at one instant
					top.next = 0
					continue
				}
				x.unchanged()
				stack.pop()
				continue
			}
		} else if top.why != nil {
			why = *top.why
		} else if x.kind == Probed && State(x.word.Load()&3) != Dirty && !x.Asked() {
			why = Cause{Reason: Asked}
		}

		if err := ctx.Err(); err != nil {
			return nil, flight.Cause(ctx)
		}
		if g.closed != nil {
			return nil, g.closed
		}
		r := x.run()
		if r == nil && mayLeave(ctx, self) {
			var err error
			without(func() { r, err = g.apart(ctx, of, root, q, asks, came) })
			return r, err
		}
		at := uint32(0)
		var err error // of waiting, not of the builder
		switch {
		case r == nil:
			if x != root || task == nil {
				task = x.owner.task()
			}
			if q == nil {
				q = &Request{}
			}
			r = g.start(ctx, task, x, why, q)
			if r.patient = overtaken >= patience; r.patient {
				r.waiter = r
			} else if asker != nil && asker.patient {
				r.waiter = asker
			}
			task = nil
			without(func() { r.lead(self) })
		case !r.Join():
			x.supersede() // nobody wants its result
			continue
		default:
			at = r.poison
			without(func() { err = r.Wait(ctx) })
		}
		if circle, is := err.(*flight.CycleError); is && g.past(circle) {
			if x.run() == r {
				x.supersede()
			}
			continue // with a run that sees what there is now
		}
		if err == nil && (r.sane < at || r.Err == ErrStale || r.late(came)) {
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
				q.note(x, r, of, asks && len(stack) == 1)
			}
		}
		last := len(stack) == 1
		switch kept := err == nil && r.outcome != Volatile; {
		case kept && r.outcome == Published && !(last && asker == nil):
			r.release()
			if last {
				return nil, nil
			}
		case last || !kept && final(err):
			return told(r, err)
		case !kept:
			failed(x, err)
		}
	}
	return nil, nil
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
	if n.dead() || n.kind == Input || !n.owner.wholeClean() || n.run() != nil || State(n.word.Load()&3) != Check || n.kind == Probed && !n.Asked() || n.Saved() != "" {
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
		g.mu.Unlock()
		defer g.mu.Lock()
		nodes[0].owner.Type.Link(ctx, lists)
	}()
	for _, l := range lists {
		if n := l.Node; l.Err != nil {
			failed = cmp.Or(failed, l.Err)
		} else if n.Saved() == l.Saved && n.edges == unsafe.SliceData(l.Edges) { // nobody else has replaced them
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

// search is a resolve apart from its caller.
type search struct {
	flight.Run
	request Request
	ended   bool // a builder may end the goroutine instead; the request knows of it
	found   *Run
	err     error
}

// apart is resolve in a goroutine of its own, for a caller who may leave while a builder
// is running. It is one for all builders that there are to run.
func (g *Graph) apart(ctx context.Context, of *flight.Context, root *Node, q *Request, asks bool, came arrival) (*Run, error) {
	for {
		s := &search{}
		s.Init(ctx, nil)
		if q == nil {
			q = &s.request
		}
		go func() {
			defer s.Finish()
			s.found, s.err = g.resolve(s.Context(), s.Context(), of, root, q, asks, came)
			s.ended = true
		}()
		err := s.Wait(ctx)
		if circle, is := err.(*flight.CycleError); is && g.isPast(circle) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.ended {
			return s.found, s.err
		}
	}
}
