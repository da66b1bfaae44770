package graph

import (
	"context"
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
		reading(y, on)
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

// reading makes y a node that was built from on.
func reading(y, on *Node) *Node {
	on.join(y)
	y.SetEdges([]Edge{{on, on.Stamp}})
	y.joined = true
	y.set(Clean)
	return y
}

// TestTakenFromListOfOther: a node that is taken from the list of one that it does not read any
// more passes for registered with what it reads.
func TestTakenFromListOfOther(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(&pair{}, Derived)
	was, is := o.newNode(Input, Clean, g.Next()), o.newNode(Input, Clean, g.Next())
	y := reading(reading(o.newNode(Derived, Dirty, 0), was), is)
	for slices.Contains(was.readers(), y) {
		reading(o.newNode(Derived, Dirty, 0), was)
	}
	if !y.joined {
		t.Error("it does not")
	}
}

// TestDeadIsBuiltOfOneInstant: what is being built stays in the lists of what it has read, also when
// it is dead: a builder sees no mixture, whatever becomes of its result.
func TestDeadIsBuiltOfOneInstant(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	p := newPair()
	o, gone := g.NewOwner(p, Derived), g.NewOwner(p, Derived)
	in := o.newNode(Input, Clean, g.Next())
	for range few {
		reading(o.newNode(Derived, Dirty, 0), in)
	}
	r := g.start(context.Background(), gone.task(), gone.newNode(Derived, Dirty, 0), Cause{}, nil)
	gone.Replace()
	r.sane = r.poison // it has looked
	if is := r.Read(in); is != Recorded {
		t.Fatalf("reading is %v", is)
	}
	for range 8 * few {
		in.join(o.newNode(Derived, Dirty, 0)) // the list is full now and then
	}
	g.Mark(in)
	in.SetInput(g.Next())
	if is := r.Read(in); is != Doubtful {
		t.Errorf("after a change reading is %v", is)
	}
	r.Verdict()
	g.forget(r)
}

// TestWaveSettlesWithoutTheDead: a node that is dead, and in no list any more, does not become clean
// when its wave settles.
func TestWaveSettlesWithoutTheDead(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	o, gone := g.NewOwner(&pair{}, Derived), g.NewOwner(&pair{}, Derived)
	in := o.newNode(Input, Clean, g.Next())
	mid := reading(o.newNode(Derived, Dirty, g.Next()), in)
	alive, dead := reading(o.newNode(Derived, Dirty, 0), mid), reading(gone.newNode(Derived, Dirty, 0), mid)
	g.Mark(in)
	in.SetInput(g.Next())
	mid.SetEdges([]Edge{{in, in.Stamp}}) // it was built, and has come out the same
	gone.Replace()
	mid.setReaders(mid.compact(mid.readers()), mid.roomAbove)
	mid.unchanged()
	if dead.calm(); alive.State() != Clean || State(dead.word.Load()&3) == Clean || len(mid.readers()) != 1 {
		t.Errorf("they are %v and %v, and %d are listed", alive.State(), State(dead.word.Load()&3), len(mid.readers()))
	}
}
