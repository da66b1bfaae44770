package graph

import (
	"context"
	"testing"
	"testing/synctest"
)

// pair is an input and what is built from it: its double.
type pair struct {
	g         *Graph
	in, out   *Node
	input     int
	double    int
	published func() // called once, when a run has published and is not over
}

func newPair() *pair {
	p := &pair{g: New(), input: 1}
	p.g.Lock()
	defer p.g.Unlock()
	o := p.g.NewOwner(p, false)
	p.in, p.out = o.NewNode(nil, Input, Clean, p.g.Next()), o.NewNode(nil, Derived, Dirty, 0)
	return p
}

// set gives the input another value.
func (p *pair) set(v int) {
	p.g.Lock()
	defer p.g.Unlock()
	p.g.Mark(p.in)
	p.input = v
	p.in.SetInput(p.g.Next())
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
		run, err := p.g.Resolve(ctx, p.out)
		if run != nil || err != nil {
			return run.Task().(*doubling).v, err
		}
	}
}

func (p *pair) Name(*Node) string { return "double" }
func (p *pair) NewTask() Task     { return &doubling{pair: p} }
func (p *pair) Link(_ context.Context, _ *Node, edges []Edge, _ string) ([]Edge, error) {
	return edges, nil
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
	for f := FrameOf(ctx); f.Read(d.in) == Doubtful; {
		if !f.Recheck() {
			return ErrStale
		}
	}
	d.g().Lock()
	defer d.g().Unlock()
	d.v = 2 * d.input
	return nil
}

func (d *doubling) g() *Graph { return d.pair.g }

func (d *doubling) Publish() Outcome {
	d.g().Lock()
	outcome := d.Commit(false, false, Derived)
	if outcome == Published {
		d.double = d.v
	}
	d.g().Unlock()
	if f := d.published; f != nil && outcome == Published {
		d.published = nil
		f()
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
