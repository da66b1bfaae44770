package graph

import (
	"testing"
	"time"
)

// TestLateReader: who was about to read for a builder when that returned reads
// nothing for the one whose run is in its place.
func TestLateReader(t *testing.T) {
	p := newPair()
	g := p.g
	start := func() *doubling {
		d := p.out.owner.task().(*doubling)
		g.start(t.Context(), d, p.out, Cause{}, nil)
		return d
	}
	end := func(d *doubling) {
		p.out.setRun(nil)
		g.forget(&d.Run)
		d.outcome = Published
		d.Finish()
		d.release()
	}
	g.Lock()
	d := start()
	f := FrameOf(d.Context())
	reading := make(chan Reading)
	go func() { reading <- f.Read(p.in) }()
	time.Sleep(10 * time.Millisecond) // it waits for the lock now; if not the test shows nothing
	end(d)
	again := start()
	g.Unlock()
	if got := <-reading; got != Untracked {
		t.Errorf("it was told %d", got)
	}
	if again != d {
		t.Error("the run was not used again")
	}
	g.Lock()
	if len(again.edges) > 0 {
		t.Error("it has read for another")
	}
	end(again)
	g.Unlock()
}
