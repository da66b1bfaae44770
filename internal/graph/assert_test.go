//go:build cachemandebug

package graph

import (
	"context"
	"strings"
	"testing"
)

// TestAssertions: with the tag, what breaks an invariant is found at once.
func TestAssertions(t *testing.T) {
	defer func(exit func(string)) { broken = exit }(broken)
	broken = func(what string) { panic(what) }
	for name, test := range map[string]struct {
		breaks func(p *pair)
		want   string
	}{
		"no lock": {func(p *pair) {
			p.g.Unlock()
			defer p.g.Lock()
			p.g.Mark(p.in)
		}, "not locked"},
		"no mark":   {func(p *pair) { p.in.SetInput(p.g.Next()) }, "not marked"},
		"old stamp": {func(p *pair) { p.g.Mark(p.in); p.in.Stamp = p.g.Next(); p.in.SetInput(1) }, "I2"},
		"no stamp":  {func(p *pair) { p.g.Mark(p.in); p.in.SetInput(p.g.Revision() + 1) }, "I2"},
		"changed":   {func(p *pair) { p.in.Stamp++; p.out.assertClean() }, "I1"},
		"new stamp": {func(p *pair) { p.out.assertSame(p.g.Next(), true, false) }, "I3"},
		"the same":  {func(p *pair) { p.out.assertSame(p.out.Stamp, false, false) }, "I2"},
		"nothing":   {func(p *pair) { p.out.assertSame(p.out.Stamp, true, true) }, "I3"},
		"order":     {func(p *pair) { p.in.Stamp++; p.out.assertOrder(&p.out.Edges()[1]) }, "I7"},
		"unlisted":  {func(p *pair) { p.in.lenAbove = 0; p.out.assertClean() }, "I1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair()
			if _, err := p.get(context.Background()); err != nil {
				t.Fatal(err)
			}
			p.g.Lock()
			defer p.g.Unlock()
			defer func() {
				if what, _ := recover().(string); !strings.Contains(what, test.want) {
					t.Errorf("it says %q", what)
				}
			}()
			test.breaks(p)
		})
	}
}
