package graph

import "testing"

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
