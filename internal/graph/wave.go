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
// If something on it gets another value those that have read that are of the front,
// too, and so is what is to be built for a reason of its own. Waves that meet
// become one. Where that would cost too much, or be of no use, a wave breaks: it
// does not settle any more, and its nodes are checked one by one.
//
// That nodes of a wave that has settled are clean means, for as long as it may
// settle:
//
//   - Each is joined. Whoever takes one from a list breaks the wave.
//   - What was followed may be followed again when it has settled: it is watched
//     then. See Node.calm.
//   - Of a node that is on the wave, those that have read it and would be clean with a
//     wave are on this one, and on its front if the node has changed: then it leads
//     them, or it is where the wave began, and on none.
//
// The graph's lock guards it.
type wave struct {
	into  *wave // the one that it has become a part of
	front int   // how many nodes of the front have not been found clean yet
	added int   // how many may have come to the front since it began
	begun bool  // some have been found clean
	broke bool
}

// maxAdded is how many nodes may come to the front of a wave later: where so much changes
// there will hardly be much that does not.
const maxAdded = 1000

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

// join makes w and other, which are roots, one, and returns it; checking has begun of neither.
func (w *wave) join(other *wave) *wave {
	if w != other {
		w.into = other
		other.front += w.front
		other.added += w.added
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

// Unsettled returns those of nodes that are not clean, in their memory. It does not look at what
// they have read.
func (g *Graph) Unsettled(nodes []*Node) []*Node {
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

// advance is told that n, which is not watched, is going to change: those that have read it, and
// are on the wave that has come by it last, are of its front.
func (n *Node) advance() {
	if n.wave == nil || n.leads {
		return
	}
	if w := n.wave.root(); w.open() {
		if w.added += int(n.lenAbove); w.added <= maxAdded {
			for _, y := range n.readers() {
				y.ahead()
			}
			n.leads = true
			return
		}
		w.broke = true
	}
	n.calm()
}

// ahead makes n, if it would become clean with its wave, one of the front of that.
func (n *Node) ahead() {
	if n.wave != nil && n.Marked() { // the rest is not inlined
		n.goAhead()
	}
}

func (n *Node) goAhead() {
	w := n.wave.root()
	if !w.open() {
		n.calm()
		return
	}
	n.set(Check)
	if n.front = !n.dead(); n.front { // one that is dead may be adopted, or never be looked at again
		w.front++
	}
}
