package cacheman

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

func explained(t *testing.T) (d *disk, open func() (in, mid, top *Cache[string, int])) {
	d = newDisk()
	return d, func() (in, mid, top *Cache[string, int]) {
		m := d.open(t, Options{})
		in = must(Register(m, "in", Spec[string, int]{}))
		mid = must(Register(m, "mid", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			n, err := in.Get(ctx, k)
			return n / 10, err
		}}))
		top = must(Register(m, "top", Spec[string, int]{Build: mid.Get}))
		in.Set("k", 1)
		return in, mid, top
	}
}

func TestExplain(t *testing.T) {
	_, open := explained(t)
	in, mid, top := open()
	want := func(c *Cache[string, int], state EntryState, why string) Explanation {
		t.Helper()
		x := c.Explain("k")
		equal(t, c.Name(), fmt.Sprint(x.State, ": ", x.Why), fmt.Sprint(state, ": ", why))
		return x
	}
	want(in, Clean, "it was set")
	want(mid, Absent, "nobody has set or built it")
	must(top.Get(t.Context(), "k"))
	x := want(mid, Clean, "nothing that it was built from has changed")
	if len(x.Dependencies) != 1 || x.Dependencies[0] != (Dependency{"in", "k", 1, 1, Clean, false}) || len(x.Dependents) != 1 || x.Dependents[0] != (Reached{"top", "k", 1}) {
		t.Errorf("%+v", x)
	}
	in.Set("k", 2)
	want(mid, Check, `in["k"] has changed`)
	x = want(top, Check, `mid["k"] may have changed`)
	equal(t, "text", x.String()[:len(`top["k"]: check: mid["k"] may have changed`)], `top["k"]: check: mid["k"] may have changed`)
	must(top.Get(t.Context(), "k"))
	want(top, Clean, "nothing that it was built from has changed")
	ok(t, mid.Invalidate("k"))
	want(mid, Dirty, "it was invalidated")
	must(top.Get(t.Context(), "k"))
	ok(t, in.m.Close())
	_, _, top = open()
	ok(t, top.Load(t.Context()))
	x = want(top, Check, `mid["k"] may have changed`) // in["k"] was set anew
	if len(x.Dependencies) != 1 || x.Dependencies[0].Cache != "mid" || x.Dependencies[0].Key != "k" {
		t.Errorf("%+v", x)
	}
}

// TestExplainMany: of what was built from thousands of entries the text shows some.
func TestExplainMany(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	const n = 1000
	for k := range n {
		ok(t, in.Set(k, k))
	}
	all := must(Register(m, "all", Spec[int, int]{Build: func(ctx context.Context, count int) (sum int, err error) {
		for k := range count {
			v, err := in.Get(ctx, k)
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	}}))
	must(all.Get(t.Context(), n))
	ok(t, in.Set(n-1, 0))
	x := all.Explain(n)
	equal(t, "dependencies", len(x.Dependencies), n)
	lines := strings.Split(strings.TrimSpace(x.String()), "\n")
	equal(t, "lines", len(lines), 2+shownAtMost+1)
	equal(t, "the last", lines[len(lines)-1], fmt.Sprintf("  └─ … and %d more, of which 1 changed", n-shownAtMost))
	must(all.Get(t.Context(), shownAtMost))
	lines = strings.Split(strings.TrimSpace(all.Explain(shownAtMost).String()), "\n")
	equal(t, "lines of few", len(lines), 2+shownAtMost)
	equal(t, "the last of few", lines[len(lines)-1], fmt.Sprintf("  └─ in[%d]: clean", shownAtMost-1))
}

// named is a key whose name is in a cache.
type named struct {
	n     int
	names *Cache[int, string]
}

func (k named) String() string {
	name, _ := k.names.Get(context.Background(), k.n)
	return name
}

// Explain asks a key how it is called without any lock held.
func TestExplainKeyThatReads(t *testing.T) {
	m := newManager(t)
	names := must(Register(m, "names", Spec[int, string]{Build: func(_ context.Context, n int) (string, error) {
		return fmt.Sprint("no. ", n), nil
	}}))
	in := must(Register(m, "in", Spec[named, int]{Memory: true}))
	c := must(Register(m, "c", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
		return in.Get(ctx, named{k, names})
	}}))
	ok(t, in.Set(named{1, names}, 1))
	must(c.Get(t.Context(), 1))
	ok(t, in.Set(named{1, names}, 2))
	equal(t, "why", c.Explain(1).Why, "in[no. 1] has changed")
}

func TestPlan(t *testing.T) {
	_, open := explained(t)
	in, mid, top := open()
	must(top.Get(t.Context(), "k"))
	want := []Reached{{"mid", "k", 1}, {"top", "k", 2}}
	if got := in.Plan("k"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := top.Plan("k"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if mid.Explain("k").State != Clean {
		t.Error("a plan has changed something")
	}
}

// TestPlanOfKeys: what was computed from which keys there are would have to be checked as well.
func TestPlanOfKeys(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	size := must(Register(m, "size", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return in.Count(ctx) }}))
	ok(t, in.Set(1, 1))
	must(size.Get(ctx, 0))
	want := []Reached{{"keys of in", Single{}, 1}, {"number of in", Single{}, 2}, {"size", 0, 3}}
	for _, k := range []int{1, 2} { // one that would go, and one that would come
		if got := in.Plan(k); !slices.Equal(got, want) {
			t.Errorf("of %d: %v", k, got)
		}
	}
	equal(t, "of none", len(in.Plan()), 0)
	ok(t, in.Invalidate(1))
	equal(t, "state", size.Explain(0).State, Check)
	equal(t, "of what is marked already", len(in.Plan(1)), 0)
}

// TestPlanOfDeclared: a cache that depends on changes goes with them.
func TestPlanOfDeclared(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	mid := must(Register(m, "mid", Spec[int, int]{DependsOnChange: []string{"in"}, Build: func(_ context.Context, k int) (int, error) { return k, nil }}))
	must(Register(m, "last", Spec[int, int]{DependsOn: []string{"mid"}}))
	top := must(Register(m, "top", Spec[int, int]{Build: mid.Get}))
	ok(t, in.Set(1, 1))
	must(top.Get(ctx, 5))
	want := []Reached{{"mid", nil, 1}, {"last", nil, 1}, {"mid", 5, 1}, {"top", 5, 2}}
	if got := in.Plan(1); !slices.Equal(got, want) {
		t.Error(got)
	}
	ok(t, in.Set(1, 2))
	equal(t, "entries", mid.Len(), 0)
	equal(t, "state", top.Explain(5).State, Check)
}

// TestCheckFindsFaults breaks invariants on purpose, one at a time.
func TestCheckFindsFaults(t *testing.T) {
	for name, spoil := range map[string]func(in, top *entry[string, int]){
		"stamp":  func(in, top *entry[string, int]) { in.node.Stamp++ },
		"future": func(in, top *entry[string, int]) { top.node.Stamp += 1000 },
		"entry":  func(in, top *entry[string, int]) { graph.SetEntry(in.node, top) },
		"edges":  func(in, top *entry[string, int]) { in.node.SetEdges([]graph.Edge{{Node: top.node}}) },
		"absent": func(in, top *entry[string, int]) { top.kind = absent },
		"dead":   func(in, top *entry[string, int]) { top.node.Forget() },
	} {
		t.Run(name, func(t *testing.T) {
			m := must(Open("", Options{Store: newDisk()}))
			defer m.Close()
			in := must(Register(m, "in", Spec[string, int]{}))
			top := must(Register(m, "top", Spec[string, int]{Build: in.Get}))
			in.Set("k", 1)
			must(top.Get(t.Context(), "k"))
			for fault := range m.Check() {
				t.Fatal(fault)
			}
			a, b := in.table.Load().shard("k").entries["k"], top.table.Load().shard("k").entries["k"]
			spoil(a, b)
			n := 0
			for fault := range m.Check() {
				n++
				if !errors.Is(fault, ErrInvariant) {
					t.Error(fault)
				}
			}
			if n == 0 {
				t.Error("nothing was found")
			}
		})
	}
}

// TestCheckAfterDeregister: what others have read of a cache that is not registered any
// more, or is again, is no fault.
func TestCheckAfterDeregister(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	check := func(when string) {
		t.Helper()
		for fault := range m.Check() {
			t.Errorf("%s: %v", when, fault)
		}
	}
	in := must(Register(m, "in", Spec[int, int]{}))
	ok(t, in.Set(1, 1))
	var mid *Cache[int, int]
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		n, err := mid.Count(ctx) // a cache of its own
		if err != nil {
			return 0, err
		}
		v, err := mid.Get(ctx, k)
		return n + v, err
	}}))
	for i := range 3 {
		mid = must(Register(m, "mid", Spec[int, int]{Build: in.Get}))
		check("registered")
		must(top.Get(ctx, 1))
		check("read")
		ok(t, m.Deregister(ctx, Only("mid")))
		check("deregistered")
		ok(t, in.Set(1, 2+i/2))
		check("changed")
	}
	// It is not blind for that.
	s := mid.table.Load().shard(1)
	graph.SetEntry(s.entries[1].node, new(entry[int, int]))
	n := 0
	for range m.Check() {
		n++
	}
	equal(t, "faults found", n > 0, true)
	graph.SetEntry(s.entries[1].node, s.entries[1])
}

// TestCheckWhileForgetting: what was forgotten since Check has seen it, by a sync that
// ended, is no fault.
func TestCheckWhileForgetting(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		in.Get(ctx, k)
		return k, nil
	}}))
	ok(t, in.Set(1, 1))
	must(top.Get(t.Context(), 1))
	ok(t, in.Delete(1))
	m.gate.Lock()
	defer m.gate.Unlock()
	nodes := in.check(nil, func(_ any, what string) { t.Error(what) })
	nodes = top.check(nodes, func(_ any, what string) { t.Error(what) })
	s := in.table.Load().shard(1)
	s.mu.Lock() // as finish does
	equal(t, "forgotten", s.entries[1].forget(), true)
	s.mu.Unlock()
	m.graph.Lock()
	m.graph.Check(nodes, func(_ *graph.Node, what string, _ *graph.Node) { t.Error(what) })
	m.graph.Unlock()
	delete(s.entries, 1)
	s.dirty = nil
}

// TestExplainWhole: an entry of contents that are built as a whole is what that is, and comes
// from what that was built from.
func TestExplainWhole(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	all := must(Register(m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		v, err := in.Get(ctx, 1)
		return map[int]int{1: v}, err
	}}))
	said := func() string { return fmt.Sprint(all.Explain(1).State, ": ", all.Explain(1).Why) }
	for i := range 2 {
		ok(t, in.Set(1, i))
		if i > 0 {
			equal(t, "after a change", said(), "check: in[1] has changed")
		}
		must(all.Get(t.Context(), 1))
		equal(t, "state", said(), "clean: nothing that it was built from has changed")
		equal(t, "input", all.Explain(1).Input, false)
		equal(t, "dependencies", fmt.Sprint(all.Explain(1).Dependencies), fmt.Sprint([]Dependency{{"in", 1, in.Explain(1).Stamp, in.Explain(1).Stamp, Clean, false}}))
	}
	ok(t, all.Set(2, 2))
	equal(t, "state of another", fmt.Sprint(all.Explain(2).Why, ", ", all.Explain(2).Input), "it was set, true")
	ok(t, in.Set(1, 2))
	equal(t, "state of another, after a change", all.Explain(2).Why, wholeInDoubt)
}

// TestPlanOfWhole: what was computed from entries that a BuildAll has made would have to be
// checked as well.
func TestPlanOfWhole(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[string, int]{}))
	all := must(Register(m, "all", Spec[string, int]{BuildAll: func(ctx context.Context) (map[string]int, error) {
		n, err := in.Get(ctx, "k")
		return map[string]int{"a": n, "b": n}, err
	}}))
	top := must(Register(m, "top", Spec[string, int]{Build: all.Get}))
	ok(t, in.Set("k", 1))
	must(top.Get(ctx, "a"))
	want := []Reached{{"all", nil, 1}, {"all", "a", 2}, {"top", "a", 3}}
	if got := in.Plan("k"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// TestExplainInDoubt: an entry that was in doubt, of which nothing that it was built from turned
// out to have changed, is clean if it was marked, and otherwise is not said to have been built from
// what was replaced.
func TestExplainInDoubt(t *testing.T) {
	_, open := explained(t)
	in, mid, top := open()
	must(top.Get(t.Context(), "k"))
	in.Set("k", 2)
	must(mid.Get(t.Context(), "k")) // the same
	x := top.Explain("k")
	equal(t, "why, of what was marked", fmt.Sprint(x.State, ": ", x.Why), "clean: nothing that it was built from has changed")
	ok(t, in.m.Sync(t.Context()))
	ok(t, in.Reload(t.Context()))
	must(mid.Get(t.Context(), "k")) // the same
	x = top.Explain("k")
	equal(t, "why", fmt.Sprint(x.State, ": ", x.Why), "check: what it was built from was in doubt, and has not changed")
	equal(t, "changed", x.Dependencies[0].Changed, false)
}

// TestExplainDependents: dependents are listed once each, in whatever order they have read, and
// not those that may be stale because other contents were replaced.
func TestExplainDependents(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	later := must(Register(m, "later", Spec[int, int]{}))
	other := must(Register(m, "other", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (n int, err error) {
		if l, _ := later.Get(ctx, k); l > 0 {
			other.Get(ctx, k)
		}
		return in.Get(ctx, 0)
	}}))
	ok(t, in.Set(0, 1))
	const n = 30
	for i := range 2 {
		for k := range n {
			ok(t, later.Set(k, i))
			must(c.Get(ctx, k))
		}
		equal(t, "dependents", len(in.Explain(0).Dependents), n)
		equal(t, "planned", len(in.Plan(0)), n)
	}
	ok(t, other.Clear())
	equal(t, "state", c.Explain(0).State, Check)
	equal(t, "dependents in doubt", len(in.Explain(0).Dependents), 0)
}

// TestExplainInput: only what was set, or has no builder, is an input.
func TestExplainInput(t *testing.T) {
	_, open := explained(t)
	in, mid, _ := open()
	equal(t, "without a builder", in.Explain("none").Input, true)
	equal(t, "not built yet", mid.Explain("k").Input, false)
	must(mid.Get(t.Context(), "k"))
	equal(t, "built", mid.Explain("k").Input, false)
	ok(t, mid.Set("other", 1))
	equal(t, "set", mid.Explain("other").Input, true)
}

// TestExplainLoaded: of what was loaded it is said what has changed, as far as that is known
// without reading anything.
func TestExplainLoaded(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	world := 1
	open := func() (m *Manager, asked, in, sum *Cache[string, int]) {
		m = d.open(t, Options{})
		asked = must(Register(m, "asked", Spec[string, int]{Probe: func(context.Context, string, int, bool) (int, error) { return world, nil }}))
		in = must(Register(m, "in", Spec[string, int]{}))
		sum = must(Register(m, "sum", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			n, err1 := asked.Get(ctx, k)
			i, err2 := in.Get(ctx, k)
			return n + i, errors.Join(err1, err2)
		}}))
		return m, asked, in, sum
	}
	m, _, in, sum := open()
	ok(t, in.Set("k", 1))
	must(sum.Get(ctx, "k"))
	ok(t, m.Close())
	want := func(why string, states ...EntryState) {
		t.Helper()
		x := sum.Explain("k")
		equal(t, "why", fmt.Sprint(x.State, ": ", x.Why), "check: "+why)
		for i, d := range x.Dependencies {
			equal(t, fmt.Sprint("dependency ", i), fmt.Sprint(d.Key, ": ", d.State), fmt.Sprint("k: ", states[i]))
		}
	}
	const loaded = "it was loaded, and what it was built from was not looked at yet"

	m, _, in, sum = open()
	want(loaded, Check, Check)
	ok(t, m.Refresh(ctx, nil))
	want(loaded, Clean, Check)
	ok(t, in.Load(ctx))
	want(loaded, Clean, Clean)
	ok(t, in.Set("k", 2))
	want(`in["k"] has changed`, Clean, Clean)
	ok(t, in.Delete("k"))
	want(`in["k"] has changed`, Clean, Clean)
	ok(t, m.Close())

	world = 2
	m, _, _, sum = open()
	want(loaded, Check, Check)
	ok(t, m.Refresh(ctx, nil))
	want(`asked["k"] has changed`, Clean, Check)
}

// TestExplanationText: the text has no figures that are not known.
func TestExplanationText(t *testing.T) {
	x := Explanation{Cache: "c", Key: 1, State: Clean, Why: "why", Stamp: 2, Revision: 3, Dependents: []Reached{{"d", 1, 1}}}
	equal(t, "text", x.String(), "c[1]: clean: why\n  changed at revision 2 of 3\n  1 entry was built from it\n")
	x.Built, x.Took, x.Dependents = 2, time.Second, append(x.Dependents, x.Dependents...)
	equal(t, "text", x.String(), "c[1]: clean: why\n  changed at revision 2 of 3, built at 2 in 1s\n  2 entries were built from it\n")
}

// TestExplainKeys: what is known of the keys of a cache comes from that, not from the world outside.
func TestExplainKeys(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	for range 2 {
		var all told
		m := must(Open("", Options{Store: d, Observe: all.observe}))
		a := must(Register(m, "a", Spec[int, int]{}))
		sum := must(Register(m, "sum", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			entries, err := a.Collect(ctx)
			return len(entries), err
		}}))
		ok(t, a.Set(1, 1))
		equal(t, "sum", must(sum.Get(ctx, 0)), 1)
		if text := sum.Explain(0).String(); strings.Contains(text, "world outside") {
			t.Errorf("explained: %s", text)
		}
		for _, e := range all.events {
			if strings.Contains(e.Reason, "world outside") {
				t.Errorf("event: %+v", e)
			}
		}
		ok(t, m.Close())
	}
}

// TestExplainPath: the reason may be far below.
func TestExplainPath(t *testing.T) {
	d := newDisk()
	asks := 0
	outside := 1
	open := func() (m *Manager, in, chain *Cache[int, int]) {
		m = d.open(t, Options{})
		probe := must(Register(m, "probe", Spec[int, int]{Probe: func(context.Context, int, int, bool) (int, error) {
			asks++
			return outside, nil
		}}))
		in = must(Register(m, "in", Spec[int, int]{}))
		chain = must(Register(m, "chain", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			if k > 0 {
				return must(Lookup[int, int](m, "chain")).Get(ctx, k-1)
			}
			if _, err := in.Get(ctx, 99); !isNone(err) { // there is none, and stays none
				return 0, errPlanned
			}
			n, err := in.Get(ctx, 0)
			if err != nil {
				return 0, err
			}
			p, err := probe.Get(ctx, 7)
			return n*1000 + p, err
		}}))
		return m, in, chain
	}
	path := func(x Explanation) string {
		var b strings.Builder
		for _, d := range x.Path {
			fmt.Fprintf(&b, "%s[%v] %s %v, ", d.Cache, d.Key, d.State, d.Changed)
		}
		return strings.TrimSuffix(b.String(), ", ")
	}
	m, in, chain := open()
	ok(t, in.Set(0, 1))
	equal(t, "value", must(chain.Get(t.Context(), 3)), 1001)
	equal(t, "path", path(chain.Explain(3)), "")

	ok(t, in.Set(0, 2))
	x := chain.Explain(3)
	equal(t, "path", path(x), "chain[2] check false, chain[1] check false, chain[0] check false, in[0] clean true")
	if text := x.String(); !strings.Contains(text, fmt.Sprintf("\n  because of chain[2] ← chain[1] ← chain[0] ← in[0], which changed at revision %d\n", x.Path[3].Stamp)) {
		t.Errorf("%s", text)
	}
	equal(t, "path", path(chain.Explain(0)), "in[0] clean true")
	equal(t, "value", must(chain.Get(t.Context(), 20)), 2001)

	ok(t, chain.Invalidate(17))
	x = chain.Explain(20)
	equal(t, "path", path(x), "chain[19] check false, chain[18] check false, chain[17] dirty false")
	equal(t, "value", must(chain.Get(t.Context(), 20)), 2001)
	ok(t, m.Close())

	m, in, chain = open()
	equal(t, "path", path(chain.Explain(2)), "chain[1] check false, chain[0] check false, probe[7] check false") // not asked yet
	before := asks
	ok(t, m.Refresh(t.Context(), nil))
	equal(t, "asks", asks, before+1)
	x = chain.Explain(2)
	equal(t, "path", path(x), "")
	equal(t, "why", x.Why, "it was loaded, and what it was built from was not looked at yet")
	ok(t, in.Set(0, 3))
	x = chain.Explain(20)
	equal(t, "length", len(x.Path), 21)
	equal(t, "why", x.Why, "chain[19] may have changed")
	if text := x.String(); !strings.Contains(text, "because of chain[19] ← chain[18] ← chain[17] ← chain[16] ← … ← chain[2] ← chain[1] ← chain[0] ← in[0], which changed") {
		t.Errorf("%s", text)
	}
	equal(t, "value", must(chain.Get(t.Context(), 20)), 3001)
	ok(t, m.Close())

	outside = 5
	m, _, chain = open()
	ok(t, m.Refresh(t.Context(), nil))
	x = must(m.Explain("chain", 1))
	equal(t, "path", path(x), "chain[0] check false, probe[7] clean true")
	equal(t, "value", must(chain.Get(t.Context(), 1)), 3005)
	equal(t, "state", must(m.Explain("chain", 1)).State, Clean)
	if _, err := m.Explain("chain", "1"); !errors.Is(err, ErrType) {
		t.Errorf("got %v", err)
	}
	if _, err := m.Explain("change", 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestExplainPathReadTwice: what has not changed for one of its readers may have for another.
func TestExplainPathReadTwice(t *testing.T) {
	_, open := explained(t)
	in, mid, top := open()
	register := func() *Cache[string, int] {
		return must(Register(in.m, "both", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			a, err := mid.Get(ctx, k)
			if err != nil {
				return 0, err
			}
			b, err := in.Get(ctx, k)
			return a + b, err
		}}))
	}
	both := register()
	must(both.Get(t.Context(), "k"))
	ok(t, in.Set("k", 2))
	must(top.Get(t.Context(), "k")) // mid has seen it, and is the same
	ok(t, in.m.Close())
	m := in.m.opts.Store.(*disk).open(t, Options{})
	in = must(Register(m, "in", Spec[string, int]{}))
	mid = must(Register(m, "mid", Spec[string, int]{Build: in.Get}))
	both = register()
	x := both.Explain("k")
	equal(t, "why", x.Why, `in["k"] has changed`)
	equal(t, "path", fmt.Sprint(x.Path), fmt.Sprintf("[{in k 1 %d clean true}]", x.Path[0].Stamp))
}

// TestExplainPathWasAbsent: the reason is what was not there when it was read, and may not be there
// again.
func TestExplainPathWasAbsent(t *testing.T) {
	d := newDisk()
	open := func() (in, mid, top *Cache[string, int]) {
		m := d.open(t, Options{})
		in = must(Register(m, "in", Spec[string, int]{}))
		mid = must(Register(m, "mid", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			v, err := in.Get(ctx, k)
			if v == 1 {
				err = ErrNotFound
			}
			return v, err
		}}))
		top = must(Register(m, "top", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			v, err := mid.Get(ctx, k)
			if isNone(err) {
				return -1, nil
			}
			return v, err
		}}))
		return in, mid, top
	}
	in, mid, top := open()
	ok(t, in.Set("k", 1))
	equal(t, "value", must(top.Get(t.Context(), "k")), -1)
	ok(t, in.Set("k", 2))
	equal(t, "value", must(mid.Get(t.Context(), "k")), 2)
	stamp := mid.Explain("k").Stamp
	ok(t, in.m.Close())
	_, mid, top = open()
	x := top.Explain("k")
	equal(t, "why", x.Why, "it was loaded, and what it was built from was not looked at yet")
	equal(t, "path", fmt.Sprint(x.Path), fmt.Sprintf("[{mid k 0 %d check false}]", stamp))
	must(mid.Get(t.Context(), "k"))
	x = top.Explain("k")
	equal(t, "why", x.Why, `mid["k"] has changed`)
	equal(t, "path", fmt.Sprint(x.Path), fmt.Sprintf("[{mid k 0 %d clean true}]", stamp))
}

// TestExplainPathDoubtful: what has changed is the reason, also if it may have changed once more since.
func TestExplainPathDoubtful(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[string, int]{}))
	mid := must(Register(m, "mid", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		if _, err := in.Get(ctx, "none"); !isNone(err) {
			return 0, err
		}
		return in.Get(ctx, k)
	}}))
	top := must(Register(m, "top", Spec[string, int]{Build: mid.Get}))
	ok(t, in.Set("k", 1))
	must(top.Get(t.Context(), "k"))
	seen := mid.Explain("k").Stamp
	ok(t, in.Set("k", 2))
	must(mid.Get(t.Context(), "k"))
	ok(t, in.Delete("none")) // marks, and changes nothing
	x := top.Explain("k")
	equal(t, "path", fmt.Sprint(x.Path), fmt.Sprintf("[{mid k %d %d check true}]", seen, mid.Explain("k").Stamp))
}
