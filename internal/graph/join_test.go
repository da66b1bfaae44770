package graph

import (
	"context"
	"testing"
	"testing/synctest"
)

// pair is two inputs and what is built from them: the double of the first, whatever
// the second is.
type pair struct {
	g         *Graph
	in, out   *Node
	second    *Node
	input     int
	double    int
	published func() // called once, when a run has published and is not over
}

func newPair() *pair {
	p := &pair{g: New(), input: 1}
	p.g.Lock()
	defer p.g.Unlock()
	o := p.g.NewOwner(p, Derived)
	p.in, p.out = o.newNode(Input, Clean, p.g.Next()), o.newNode(Derived, Dirty, 0)
	p.second = o.newNode(Input, Clean, p.g.Next())
	return p
}

// set gives the first input another value.
func (p *pair) set(v int) {
	p.g.Lock()
	defer p.g.Unlock()
	p.input = v
	p.change(p.in)
}

// change notes that n, an input, has another value. The graph is locked.
func (p *pair) change(n *Node) {
	p.g.Mark(n)
	n.SetInput(p.g.Next())
}

// get returns what is built.
func (p *pair) get(ctx context.Context) (int, error) {
	for {
		p.g.Lock()
		v, clean := p.double, p.out.State() == Clean
		p.g.Unlock()
		if clean {
			return v, nil
		}
		run, _, err := p.g.Resolve(ctx, nil, p.out)
		if run != nil || err != nil {
			return run.Task().(*doubling).v, err
		}
	}
}

func (p *pair) Name(*Node) string { return "double" }
func (p *pair) NewTask() Task     { return &doubling{pair: p} }
func (p *pair) Link(_ context.Context, lists []List) {
	for i := range lists {
		lists[i].Linked = lists[i].Edges
	}
}

type doubling struct {
	Run
	*pair
	v int
}

func (d *doubling) Base() *Run       { return &d.Run }
func (d *doubling) Reset()           {}
func (d *doubling) Start(*Node)      {}
func (d *doubling) Keeps(error) bool { return false }
func (d *doubling) Done()            {}

func (d *doubling) Build(ctx context.Context) error {
	f := FrameOf(ctx)
	for _, n := range []*Node{d.in, d.second} {
		for f.Read(n) == Doubtful {
			if !f.Recheck() {
				return ErrStale
			}
		}
	}
	d.g().Lock()
	defer d.g().Unlock()
	d.v = 2 * d.input
	return nil
}

func (d *doubling) g() *Graph { return d.pair.g }

func (d *doubling) Publish() Outcome {
	outcome := d.commit()
	if f := d.published; f != nil && outcome == Published {
		d.published = nil
		f()
	}
	return outcome
}

func (d *doubling) commit() Outcome {
	d.g().Lock()
	defer d.g().Unlock() // also if an assertion fails
	outcome := d.Verdict()
	if outcome == Published {
		d.Commit(d.v == d.double, false, Derived)
		d.double = d.v
	}
	return outcome
}

// TestJoinAfterPublishing: a run has published, and is not over yet, when an
// input changes. Who comes after that does not get what the run has made.
func TestJoinAfterPublishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		late := make(chan int, 1)
		p.published = func() {
			p.set(2)
			go func() {
				v, err := p.get(context.Background())
				if err != nil {
					t.Error(err)
				}
				late <- v
			}()
			synctest.Wait()
		}
		if v, err := p.get(context.Background()); v != 2 || err != nil {
			t.Errorf("who came before the change got %d, %v", v, err)
		}
		if v := <-late; v != 4 {
			t.Errorf("who came after the change got %d", v)
		}
	})
}
