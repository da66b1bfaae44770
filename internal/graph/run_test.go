package graph

import (
	"context"
	"testing"
)

// TestEqualValueKeepsStamp: I3, also with something between that is another.
func TestEqualValueKeepsStamp(t *testing.T) {
	p := newPair()
	var stamps []uint64
	for _, v := range []int{1, 1, 2, 2, 1} {
		p.set(v)
		if got, err := p.get(context.Background()); got != 2*v || err != nil {
			t.Fatalf("the double of %d is %d, %v", v, got, err)
		}
		stamps = append(stamps, p.out.Stamp)
	}
	if stamps[1] != stamps[0] || stamps[3] != stamps[2] {
		t.Errorf("equal values have other stamps: %v", stamps)
	}
	if stamps[2] == stamps[1] || stamps[4] == stamps[3] || stamps[4] == stamps[0] {
		t.Errorf("other values have the same stamps: %v", stamps)
	}
}

// TestFirstChangeIsTheReason: I7. Of two edges that have changed, the one that was
// read first is the reason why the builder runs.
func TestFirstChangeIsTheReason(t *testing.T) {
	p := newPair()
	if _, err := p.get(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, changed := range [][]*Node{{p.in}, {p.second}, {p.in, p.second}, {p.second, p.in}} {
		p.g.Lock()
		for _, n := range changed {
			p.change(n)
		}
		p.g.Unlock()
		want := p.in
		if len(changed) == 1 {
			want = changed[0]
		}
		run, _, err := p.g.Resolve(context.Background(), nil, p.out)
		if err != nil {
			t.Fatal(err)
		}
		if why := run.Why; why.Reason != Changed || why.Node != want {
			t.Errorf("with %d changed, the reason is %v of %p, not of %p", len(changed), why.Reason, why.Node, want)
		}
	}
}
