package graph

import "github.com/cacheman-go/cacheman/internal/flight"

// Request is what one call from outside has led to: the runs that it has started,
// those that they have started, and so on. It remembers which of them have come to
// nothing that could be kept, so that each who asks for that is told, and does not
// begin anew what will not come out otherwise: else two builders that ask for the
// same two below them, and those likewise, would run twice as often on each level.
//
// The graph's lock guards it.
type Request struct {
	failed map[*Node]*Run // the last run of each, if it failed or is volatile
	told   map[told]struct{}
	parts  int // searches and runs that are parts of it, and whoever has begun it; while there are any, what has failed is not forgotten
}

// Begin returns a request that several calls of Resolve are to be a part of. It is
// to be ended.
func (g *Graph) Begin() *Request {
	return &Request{parts: 1}
}

// End ends a request that was begun.
func (g *Graph) End(q *Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave(q)
}

// enter notes that there is a part more of q.
func (q *Request) enter() {
	if q != nil {
		q.parts++
	}
}

// leave notes that a part of q is over.
func (g *Graph) leave(q *Request) {
	if q == nil {
		return
	}
	if q.parts--; q.parts == 0 && q.failed != nil {
		delete(g.failing, q)
	}
}

// mayBeTold reports that somebody may yet ask for n, and be told that it has failed. The graph
// is locked.
func (g *Graph) mayBeTold(n *Node) bool {
	for q := range g.failing {
		if q.failed[n] != nil {
			return true
		}
	}
	return false
}

// told says that a run has been told of a failure. Should it ask again, it means
// to try again.
type told struct {
	asker *flight.Context
	node  *Node
}

// note remembers that r, a run of n, has come to nothing that can be kept. asks
// says that the asker is told so now. The graph is locked.
func (q *Request) note(n *Node, r *Run, asker *flight.Context, asks bool) {
	if q == nil {
		return // it was begun by another, for nobody below
	}
	if q.failed == nil {
		q.failed, q.told = make(map[*Node]*Run), make(map[told]struct{})
	}
	r.graph().failing[q] = struct{}{}
	q.failed[n] = r
	if asks {
		q.told[told{asker, n}] = struct{}{}
	}
}

// knows returns the run of n that has come to nothing, if there is no reason why
// another should come to something. asks says that the asker is told so now. The graph
// is locked.
func (q *Request) knows(n *Node, asker *flight.Context, asks bool) *Run {
	if q == nil || q.failed == nil {
		return nil
	}
	r := q.failed[n]
	if r == nil || r.writes != r.graph().writes || n.run() != nil {
		return nil
	}
	if asks {
		if _, again := q.told[told{asker, n}]; again {
			return nil
		}
		q.told[told{asker, n}] = struct{}{}
	}
	return r
}
