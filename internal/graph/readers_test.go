package graph

import "testing"

// The list of a node's readers does not grow with what has ever read it
// (bazelbuild/bazel#3549, mobx#711: reverse edges that ate the memory).
func TestPitfallBazel3549(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(&pair{}, Derived)
	in := o.NewNode(nil, Input, Clean, g.Next())
	other := o.NewNode(nil, Input, Clean, g.Next())
	const readers = 50
	for round := range 10000 { // each reads the one or the other, as long as that does not change
		y := o.NewNode(nil, Derived, Dirty, 0)
		on := in
		if round%3 == 0 {
			on = other
		}
		on.join(y)
		y.SetEdges([]Edge{{on, on.Stamp}})
		y.joined = true
		y.set(Clean)
		if round%readers == 0 {
			for _, n := range []*Node{in, other} {
				g.Mark(n)
				n.SetInput(g.Next())
			}
		}
		if n := max(len(in.readers()), len(other.readers())); n > 2*readers {
			t.Fatalf("%d nodes are listed in round %d", n, round)
		}
	}
}
