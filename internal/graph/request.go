package graph

import "github.com/cacheman-go/cacheman/internal/flight"

// Request is what one call from outside has led to: the runs that it has started,
// those that they have started, and so on. It remembers which of them have come to
// nothing that could be kept, so that each who asks for that is told, and does not
// begin anew what will not come out otherwise: else two builders that ask for the
// same two below them, and those likewise, would run twice as often on each level.
type Request struct {
	failed map[*Node]*Run // the last run of each, if it failed or is volatile
	told   map[told]struct{}
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
