package graph

import "fmt"

// Above returns the nodes that have read n, each once, as far as they are clean or being
// built. The graph is locked.
func (n *Node) Above() (above []*Node) {
	seen := make(map[*Node]bool)
	for _, y := range n.readers() {
		if !seen[y] && (y.clean() || y.run() != nil) && y.reads(n) {
			seen[y] = true
			above = append(above, y)
		}
	}
	return above
}

// Why returns why n is to be built, if it is Dirty. The graph is locked.
func (n *Node) Why() Cause { return Cause{Reason: n.why} }

// Building reports whether a builder of n is running. The graph is locked.
func (n *Node) Building() bool { return n.run() != nil }

// Doubtful returns the first edge of n whose node may have changed since n was
// built, or -1. The graph is locked.
func (n *Node) Doubtful() int {
	for i, e := range n.Edges() {
		if !e.Node.clean() || e.Node.Stamp != e.Stamp {
			return i
		}
	}
	return -1
}

// Check verifies the invariants of all nodes of the graph, which are given, and
// calls fault for each that does not hold; on is the dependency that it is about, if
// there is one. That those which entries have are not dead is for their caches to
// verify, under the locks of the entries. The graph is locked.
func (g *Graph) Check(nodes []*Node, fault func(n *Node, what string, on *Node)) {
	type pair struct{ below, above *Node }
	registered := make(map[pair]bool)
	for _, n := range nodes {
		for _, y := range n.readers() {
			registered[pair{n, y}] = true
		}
	}
	fronts := make(map[*wave]int)
	for _, n := range nodes {
		if n.front && !n.dead() {
			fronts[n.wave.root()]++
		}
	}
	for _, n := range nodes {
		if n.dead() {
			continue // it was forgotten since it was collected
		}
		if n.Stamp > g.Revision() && !g.shared.Load() {
			fault(n, fmt.Sprintf("I2: it has stamp %d, the revision is %d", n.Stamp, g.Revision()), nil)
		}
		if n.kind == Input && n.lenEdges > 0 {
			fault(n, "an input has dependencies", nil)
		}
		if !n.clean() && State(n.word.Load()&3) != Clean && n.watched {
			fault(n, "it is not clean, and somebody who has read it may be", nil)
		}
		if n.joined {
			for _, e := range n.Edges() {
				if !registered[pair{e.Node, n}] && !e.Node.dead() {
					fault(n, "it passes for registered with a dependency, and is not", e.Node)
				}
			}
		}
		if n.front {
			if w := n.wave.root(); fronts[w] > w.front {
				fault(n, fmt.Sprintf("I8: its wave waits for %d nodes, and has %d", w.front, fronts[w]), nil)
			}
		}
		if !n.clean() && State(n.word.Load()&3) == marked && n.wave != nil && n.wave.root().open() {
			for _, e := range n.Edges() {
				d := e.Node
				switch on := d.wave != nil && d.wave.root() == n.wave.root(); {
				case n.word.Load()>>2 != n.owner.suspect:
					// It does not become clean with its wave.
				case d.dead() || d.Stamp != e.Stamp:
					fault(n, "I8: its wave may settle, and a dependency has changed", d)
				case !on && !(d.clean() && d.isWatched()):
					fault(n, "I8: its wave may settle, and a dependency is not clean, or not watched", d)
				case !registered[pair{d, n}]:
					fault(n, "I8: its wave may settle, and it is not registered with a dependency", d)
				}
			}
		}
		if !n.clean() || n.kind == Input {
			continue
		}
		for _, e := range n.Edges() {
			d := e.Node
			switch {
			case d.dead():
				fault(n, "I1: it is clean, but a dependency is dead", d)
			case !d.clean():
				fault(n, "I1: it is clean, but a dependency is not", d)
			case d.Stamp != e.Stamp:
				fault(n, fmt.Sprintf("I1: it was built from stamp %d of a dependency, which has %d", e.Stamp, d.Stamp), d)
			case !d.isWatched() || !registered[pair{d, n}]:
				fault(n, "I1: it is not registered with a dependency", d)
			}
		}
	}
	for _, r := range g.running {
		if !r.superseded && r.node.run() != r {
			fault(r.node, "I5: a run is not its node's, and does not know it", nil)
		}
	}
}
