package graph

import (
	"slices"
	"testing"
)

// The list of a node's readers does not grow with what has ever read it
// (bazelbuild/bazel#3549, mobx#711: reverse edges that ate the memory).
func TestPitfallBazel3549(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(&pair{}, Derived)
	in := o.newNode(Input, Clean, g.Next())
	other := o.newNode(Input, Clean, g.Next())
	const readers = 50
	for round := range 10000 { // each reads the one or the other, as long as that does not change
		y := o.newNode(Derived, Dirty, 0)
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

// TestLongLists: a long list is kept when it is followed if at least half of it was clean,
// and emptied otherwise; what is dead is not listed any more.
func TestLongLists(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o, gone := g.NewOwner(&pair{}, Derived), g.NewOwner(&pair{}, Derived)
	in := o.newNode(Input, Clean, g.Next())
	readers := make([]*Node, 100)
	clean := func(nodes []*Node) {
		for _, y := range nodes {
			if y.SetEdges([]Edge{{in, in.Stamp}}); !slices.Contains(in.readers(), y) {
				in.join(y)
			}
			in.watched, y.joined = true, true
			y.set(Clean)
		}
	}
	change := func() {
		g.Mark(in)
		in.SetInput(g.Next())
		for i, y := range readers {
			if y.State() == Clean || y.joined != slices.Contains(in.readers(), y) {
				t.Fatalf("node %d is %v, joined: %v, of %d that are listed", i, y.State(), y.joined, len(in.readers()))
			}
		}
	}
	for i := range readers {
		of := o
		if i >= 80 {
			of = gone
		}
		readers[i] = of.newNode(Derived, Dirty, 0)
	}
	for _, step := range []struct{ cleaned, listed int }{{100, 100}, {50, 100}, {49, 0}, {100, 100}} {
		clean(readers[:step.cleaned])
		change()
		if n := len(in.readers()); n != step.listed {
			t.Errorf("of 100 nodes %d were clean, and %d are listed", step.cleaned, n)
		}
	}
	clean(readers[:80])
	gone.Replace()
	if change(); len(in.readers()) != 80 {
		t.Errorf("20 of 100 are dead, and %d are listed", len(in.readers()))
	}
}

// TestStraysAreDropped: a list that is full loses what does not read the node any more, which
// is listed where it reads, and passes for that.
func TestStraysAreDropped(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(&pair{}, Derived)
	in, other := o.newNode(Input, Clean, g.Next()), o.newNode(Input, Clean, g.Next())
	reader := func(on *Node) *Node {
		y := o.newNode(Derived, Check, 0)
		y.SetEdges([]Edge{{on, on.Stamp}})
		y.holds()
		return y
	}
	y := reader(in)
	y.set(Check)
	y.SetEdges([]Edge{{other, other.Stamp}})
	y.holds()
	for range 2 * few {
		reader(in)
	}
	if slices.Contains(in.readers(), y) {
		t.Error("it is listed yet")
	}
	if !y.joined || !slices.Contains(other.readers(), y) {
		t.Error("it does not pass for registered")
	}
}
