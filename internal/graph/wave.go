package graph

import (
	"runtime"
	"sync/atomic"
)

// wave is what one call of Mark has made doubtful: the nodes that have read what
// changes, which are its front, those that have read them, and so on. If all of
// the front is found to be unchanged, the wave settles, and all of the others are
// clean again, without a look at what they have read: whoever comes to one of
// them, by Node.clean, notes that. So a change that comes to nothing costs what
// it takes to find that out, however much lies above.
//
// A wave breaks if something on it gets another value, or is to be built for a
// reason of its own. It does not settle any more, and its nodes are checked one
// by one. Waves that meet become one, or one of them breaks.
//
// That nodes of a wave that has settled are clean means, for as long as it may
// settle:
//
//   - Each is joined. Whoever takes one from a list breaks the wave.
//   - What was followed may be followed again when it has settled: it is watched
//     then. See Node.calm.
//   - Of a node that has ceased to be clean in the course of the wave all that
//     have read it are on the wave, too, and if that led it, on the front.
//
// The graph's lock guards it.
type wave struct {
	into  *wave // the one that it has become a part of
	front int   // how many nodes of the front were not found unchanged yet
	begun bool  // some were
	broke bool
}

// root returns the wave that w is a part of by now.
func (w *wave) root() *wave {
	for w.into != nil {
		if w.into.into != nil {
			w.into = w.into.into
		}
		w = w.into
	}
	return w
}

// settled reports that all that was marked by w, which is a root, and by nothing
// since, is clean.
func (w *wave) settled() bool { return w.front == 0 && !w.broke }

// open reports that w, which is a root, may settle.
func (w *wave) open() bool { return w.front > 0 && !w.broke }

// join makes w and other, which are roots, one, and returns it.
func (w *wave) join(other *wave) *wave {
	if w != other {
		w.into = other
		other.front += w.front
		other.begun = other.begun || w.begun
		other.broke = other.broke || w.broke
	}
	return other
}

// calm sees to it that n says itself what has become of the wave that has come by
// last, if that is known.
func (n *Node) calm() {
	if n.wave == nil {
		return
	}
	w := n.wave.root()
	if w.open() {
		return
	}
	if w.settled() {
		if word := n.word.Load(); State(word&3) == marked && !n.dead() && word>>2 == n.owner.suspect && n.owner.wholeClean() {
			if Debug {
				assert(n.joined || n.lenEdges == 0, n, "I1: its wave has settled, and it is not registered")
			}
			n.set(Clean)
		}
		if State(n.word.Load()&3) == Clean {
			n.watched = n.lenAbove > 0
		}
	}
	n.wave, n.front, n.leads = nil, false, false
}

// Settle returns those of nodes that are not clean, in their memory. It does not look at what
// they have read.
func (g *Graph) Settle(nodes []*Node) []*Node {
	touched := uint64(0)
	for _, n := range nodes {
		touched += n.word.Load()
		if atomic.LoadPointer(&n.entry) != nil { // which is next to wave
			touched++
		}
	}
	runtime.KeepAlive(touched)
	rest := nodes[:0]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range nodes {
		if !n.clean() {
			rest = append(rest, n)
		}
	}
	return rest
}

// meet is told that the wave with the given root has come to n, and returns its root from
// then on. If n is on another that may settle, the two become one; but not if checking that
// has begun: what is left of it may be what nobody asks for, and it breaks.
func (n *Node) meet(root *wave) *wave {
	n.calm()
	if n.wave == nil {
		return root
	}
	other := n.wave.root()
	if other.begun {
		other.broke = true
		n.calm()
		return root
	}
	return root.join(other)
}

// isWatched is watched, also of a wave that has settled.
func (n *Node) isWatched() bool {
	n.calm()
	return n.watched
}

// diverge breaks the wave that has come by n last, if those who have read n are on it
// only because of n: it changes for another reason.
func (n *Node) diverge() {
	if n.wave != nil && !n.leads {
		if w := n.wave.root(); w.open() {
			w.broke = true
		}
		n.calm()
	}
}

// own breaks the wave that n is on, if it would become clean with it.
func (n *Node) own() {
	if n.wave == nil || State(n.word.Load()&3) != marked {
		return
	}
	if w := n.wave.root(); w.open() {
		w.broke = true
	}
	n.calm()
}
