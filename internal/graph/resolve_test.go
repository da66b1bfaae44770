package graph

import (
	"context"
	"errors"
	"testing"
)

// TestPathsKeepNothing: the room of a search is used again, and keeps no node alive.
func TestPathsKeepNothing(t *testing.T) {
	g := New()
	g.Lock()
	defer g.Unlock()
	n := g.NewOwner(&pair{}, Derived).newNode(Derived, Dirty, 0)
	p := g.begin(n)
	for range 100 {
		p.push(n)
	}
	for range 50 {
		p.pop()
	}
	room := cap(p)
	g.end(p)
	p = g.begin(n)
	if cap(p) != room {
		t.Errorf("there is room for %d, not %d", cap(p), room)
	}
	for i, v := range p[1:room] {
		if v != (visit{}) {
			t.Fatalf("visit %d is still there", i+1)
		}
	}
	for range maxPathLen {
		p.push(n)
	}
	if g.end(p); len(g.paths) != 0 {
		t.Error("a very long path is kept")
	}
}

// TestReasonMayPass: a node that was to be built because what it has read had failed is not, if
// that has come right while the lock was released.
func TestReasonMayPass(t *testing.T) {
	g, in, above := layers(2, 1)
	read, n := above[0][0], above[1][0]
	g.Lock()
	defer g.Unlock()
	g.closed = errors.New("a builder is to be run")
	setInput(in) // and the wave does not settle, for nobody asks for the other
	s := search{g: g, ctx: context.Background(), root: n, asks: true}
	s.path = g.begin(n)
	s.check(&s.path[0])
	s.failed(read, errFails)
	s.without(func() {
		g.Lock()
		defer g.Unlock()
		same(read)
	})
	if r, err := s.run(); r != nil || err != nil || s.built || !n.clean() {
		t.Errorf("got %v and %v; it was built: %v; it is %v", r, err, s.built, n.State())
	}
}

// TestReasonOfOther: that something fails is no reason to build a node that has read it once, and
// was built by somebody else meanwhile.
func TestReasonOfOther(t *testing.T) {
	g, in, above := layers(3, 1)
	read, other, unasked, n := above[0][0], above[0][1], above[0][2], above[1][0]
	g.Lock()
	defer g.Unlock()
	g.closed = errors.New("a builder is to be run")
	setInput(in)
	same(unasked)
	s := search{g: g, ctx: context.Background(), root: n, asks: true}
	s.path = g.begin(n)
	s.check(&s.path[0]) // which leads to read
	same(other)
	n.SetEdges([]Edge{{other, other.Stamp}})
	same(n)
	setInput(in)
	same(other)
	s.failed(read, errFails)
	if r, err := s.run(); r != nil || err != nil || s.built || !n.clean() {
		t.Errorf("got %v and %v; it was built: %v; it is %v", r, err, s.built, n.State())
	}
}

// TestOrderOfOther: what a node has read is checked from the first on, if somebody else has built it
// meanwhile.
func TestOrderOfOther(t *testing.T) {
	g, in, above := layers(4, 1)
	first, second, third, other, n := above[0][0], above[0][1], above[0][2], above[0][3], above[1][0]
	g.Lock()
	defer g.Unlock()
	g.closed = errors.New("a builder is to be run")
	n.SetEdges([]Edge{{first, first.Stamp}, {second, second.Stamp}})
	same(n)
	setInput(in)
	same(first)
	s := search{g: g, ctx: context.Background(), root: n, asks: true}
	s.path = g.begin(n)
	s.check(&s.path[0]) // which leads to second
	s.without(func() {
		g.Lock()
		defer g.Unlock()
		n.SetEdges([]Edge{{other, other.Stamp}, {second, second.Stamp}, {third, third.Stamp}})
		same(second)
	})
	if _, err := s.run(); err != g.closed || s.path[len(s.path)-1].node != other {
		t.Errorf("got %v on the way to another than the first that it has read now", err)
	}
}

// unlinked is a cache of which what was read cannot be found, once somebody else has found it.
type unlinked struct {
	pair
	first func()
}

func (u *unlinked) Link(_ context.Context, lists []List) {
	u.first()
	for i := range lists {
		lists[i].Err = errFails
	}
}

// TestLinkedByOther: that it cannot be found out what a node was built from is no reason to build
// it, if somebody else has found out meanwhile.
func TestLinkedByOther(t *testing.T) {
	g := New()
	u := &unlinked{}
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(u, Derived)
	in, n := o.newNode(Input, Clean, g.Next()), o.newNode(Derived, Check, 0)
	for _, meanwhile := range []bool{false, true} {
		n.Restore(Derived, "what was stored")
		u.first = func() {
			g.Lock()
			defer g.Unlock()
			if meanwhile {
				n.SetEdges([]Edge{{in, in.Stamp}})
				n.keep(nil, "")
			}
		}
		if err := g.link(context.Background(), n); (err == nil) != meanwhile || len(n.Edges()) > 0 != meanwhile {
			t.Errorf("somebody else has: %v: there are %d edges, and %v", meanwhile, len(n.Edges()), err)
		}
	}
}
