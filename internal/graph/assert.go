package graph

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
)

// What is here costs nothing unless Debug is set: it is called only if that is,
// which the compiler knows.

// Hook is called by At, if Debug is set.
var Hook func(point string)

// At is called where the engine holds no lock and others may come between.
func At(point string) {
	if Debug && Hook != nil {
		Hook(point)
	}
}

// broken is told that an invariant does not hold, and ends the program. A panic would not be seen: in a
// builder it becomes the builder's error, and whoever goes on waits for the lock that is held.
var broken = func(what string) {
	fmt.Fprintf(os.Stderr, "%s\n\n%s", what, debug.Stack())
	os.Exit(2)
}

// assert calls broken with what was to hold, unless it does.
func assert(holds bool, n *Node, what string) {
	if !holds {
		name := "the graph"
		if n != nil {
			name = n.owner.Type.Name(n)
		}
		broken(fmt.Sprintf("graph: %s: %s", name, what))
	}
}

// assertEntry: all entries of o are of one type, which EntryOf relies on.
func (o *Owner) assertEntry(t reflect.Type) {
	if !o.entries.CompareAndSwap(nil, t) && o.entries.Load() != t {
		broken(fmt.Sprintf("graph: an entry is of type %v, where others are of %v", t, o.entries.Load()))
	}
}

// assertLocked: who changes nodes holds the graph's lock.
func (g *Graph) assertLocked() {
	if g.mu.TryLock() {
		g.mu.Unlock()
		broken("graph: it is not locked")
	}
}

// assertClean: n may become, or is, clean (I1, I6). Long lists are looked at in
// Check only.
func (n *Node) assertClean() {
	n.owner.g.assertLocked()
	assert(!n.dead(), n, "it is dead, and becomes clean")
	assert(n.joined || n.lenEdges == 0, n, "I1: it is not registered")
	for _, e := range n.Edges() {
		d := e.Node
		assert(d.clean(), n, "I1: a dependency is not clean")
		assert(d.Stamp == e.Stamp, n, "I1: a dependency has another stamp")
		assert(d.isWatched(), n, "I1: a dependency is not watched")
		assert(d.lenAbove > 1000 || slices.Contains(d.readers(), n), n, "I1: a dependency does not list it")
	}
}

// assertChange: n may get stamp (I2), and what was computed from it was marked.
func (n *Node) assertChange(stamp uint64) {
	g := n.owner.g
	g.assertLocked()
	assert(stamp <= g.Revision() || g.shared.Load(), n, "I2: its stamp was not issued")
	assert(stamp == 0 || stamp >= n.Stamp || g.shared.Load(), n, "I2: its stamp is older than the one before")
	n.assertMarked(stamp == n.Stamp)
}

// assertSame: n, which was built, may get stamp: if its value is the same, it keeps
// the one that it has (I3), and else it gets another (I2).
func (n *Node) assertSame(stamp uint64, same, absent bool) {
	switch {
	case absent:
		assert(stamp == 0, n, "I3: there is no value, and it gets a stamp")
	case same && n.Stamp != 0:
		assert(stamp == n.Stamp, n, "I3: its value is the same, and its stamp is not")
	default:
		assert(stamp != n.Stamp, n, "I2: its value is another, and its stamp is not")
	}
}

// assertOrder: e, an edge of n that is not unchanged, is the first of those (I7). The
// lock was not released since the ones before it were looked at.
func (n *Node) assertOrder(e *Edge) {
	edges := n.Edges()
	if len(edges) > 1000 {
		return
	}
	for i := range edges {
		d := &edges[i]
		if d == e {
			return
		}
		assert(d.Node.clean() && d.Node.Stamp == d.Stamp, n, "I7: an edge is looked at before another that was read earlier")
	}
}

// assertMarked: nothing that was computed from n is clean, unless its value stays.
func (n *Node) assertMarked(same bool) {
	if same {
		return
	}
	assert(!n.watched && (n.wave == nil || n.leads || !n.wave.root().open()), n, "it is changed, and was not marked")
	if n.lenAbove > 1000 {
		return
	}
	for _, y := range n.readers() {
		assert(!y.clean() || !y.reads(n), y, "it is clean, and what it was built from was marked")
	}
}

// assertInstant: all that r has read is current (I4).
func (r *Run) assertInstant() {
	r.graph().assertLocked()
	if len(r.edges) > 1000 {
		return
	}
	for _, e := range r.edges {
		assert(e.Node.clean() && e.Node.Stamp == e.Stamp, r.node, "I4: what it has read is not of one instant")
	}
}

// assertPublished: r was its node's and not poisoned (I5).
func (r *Run) assertPublished() {
	assert(r.node.run() == r && !r.superseded && !r.aborted && r.poison == r.sane, r.node, "I5: its run may not publish")
	r.assertInstant()
}
