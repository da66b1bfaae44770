package cacheman

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store/memstore"
)

// A builder that runs again mostly reads what it has read before, in the same order: that
// is not looked up. What it reads is right also where it goes on otherwise.
func TestReadAgain(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[string, int]{}))
	list := must(Register(m, "list", Spec[Single, string]{}))
	runs := 0
	all := must(Register(m, "all", Spec[Single, string]{Build: func(ctx context.Context, _ Single) (string, error) {
		runs++
		names, err := list.Get(ctx, Single{})
		if err != nil {
			return "", err
		}
		var read []string
		for name := range strings.FieldsSeq(names) {
			v, err := in.Get(ctx, name)
			if isNone(err) {
				v = -1
			} else if err != nil {
				return "", err
			}
			read = append(read, name+"="+string(rune('0'+v)))
		}
		return strings.Join(read, " "), nil
	}}))
	set := func(what string) {
		for s := range strings.FieldsSeq(what) {
			name, v, _ := strings.Cut(s, "=")
			ok(t, in.Set(name, int(v[0]-'0')))
		}
	}
	set("a=1 b=2 c=3")
	for i, step := range []struct{ names, set, want string }{
		{names: "a b c", want: "a=1 b=2 c=3"},
		{set: "a=2", want: "a=2 b=2 c=3"},
		{set: "c=4", want: "a=2 b=2 c=4"},
		{names: "a c b", want: "a=2 c=4 b=2"},             // another order
		{names: "b", want: "b=2"},                         // fewer
		{names: "a b c", want: "a=2 b=2 c=4"},             // more
		{names: "a a b c c", want: "a=2 a=2 b=2 c=4 c=4"}, // twice
		{set: "b=5", want: "a=2 a=2 b=5 c=4 c=4"},
		{names: "a x c", want: "a=2 x=/ c=4"}, // what is not there
		{set: "x=7", want: "a=2 x=7 c=4"},
		{set: "a=3 x=8 c=5", want: "a=3 x=8 c=5"},
	} {
		if step.names != "" {
			ok(t, list.Set(Single{}, step.names))
		}
		set(step.set)
		equal(t, "value", must(all.Get(t.Context(), Single{})), step.want)
		equal(t, "runs", runs, i+1)
		equal(t, "value", must(all.Get(t.Context(), Single{})), step.want)
		equal(t, "runs", runs, i+1)
	}
	before, again := in.Stats(), in.owner.Tally().Repeated
	ok(t, in.Set("a", 4))
	must(all.Get(t.Context(), Single{}))
	after := in.Stats()
	equal(t, "not looked up", in.owner.Tally().Repeated-again, 3)
	equal(t, "hits", after.Hits-before.Hits, 3)
	equal(t, "misses", after.Misses-before.Misses, 0)
}

// So it is when the entries have moved to a larger table, or were replaced.
func TestReadAgainMoved(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	base := 0
	whole := must(Register(m, "whole", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) {
		return map[int]int{1: base, 2: base}, nil
	}}))
	other := must(Register(m, "other", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		return v * 10, err
	}}))
	sum := must(Register(m, "sum", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (sum int, err error) {
		for k := 1; k <= 2; k++ {
			for _, c := range []*Cache[int, int]{in, other, whole} {
				v, err := c.Get(ctx, k)
				if err != nil {
					return 0, err
				}
				sum += v
			}
		}
		return sum, nil
	}}))
	want := func(v int) {
		t.Helper()
		equal(t, "sum", must(sum.Get(t.Context(), Single{})), v)
	}
	ok(t, in.Set(1, 1))
	ok(t, in.Set(2, 2))
	want(33)
	for k := range 3 * growAt { // in grows
		ok(t, in.Set(k+10, k))
	}
	for k := range 3 * growAt { // so does other
		must(other.Get(t.Context(), k+10))
	}
	ok(t, in.Set(1, 3))
	want(55)
	ok(t, in.Set(2, 4))
	want(77)
	base = 100
	ok(t, whole.InvalidateAll())
	want(277)
	ok(t, other.InvalidateAll())
	ok(t, in.Set(2, 5))
	want(288)
	ok(t, in.Clear())
	ok(t, in.Set(1, 1))
	ok(t, in.Set(2, 1))
	want(222)
}

// What was loaded is decoded beside builders that read it again.
func TestReadAgainDecoded(t *testing.T) {
	d := &disk{Store: memstore.New()}
	const n = 200
	open := func() (*Manager, *Cache[int, int], *Cache[Single, int]) {
		m := openOn(d)
		in := must(Register(m, "in", Spec[int, int]{}))
		return m, in, must(Register(m, "sum", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (sum int, err error) {
			for k := range n {
				v, err := in.Get(ctx, k)
				if err != nil {
					return 0, err
				}
				sum += v
			}
			return sum, nil
		}}))
	}
	m, in, sum := open()
	for k := range n {
		ok(t, in.Set(k, 1))
	}
	equal(t, "sum", must(sum.Get(t.Context(), Single{})), n)
	ok(t, m.Close())
	for round := range 10 {
		m, in, sum := open()
		must(sum.Get(t.Context(), Single{})) // is as it was, and nothing is decoded for that
		ok(t, in.Set(0, round+2))
		for k := range n - 1 { // so that no lock but the graph's is taken
			in.Peek(k)
		}
		var wg sync.WaitGroup
		wg.Go(func() { in.Peek(n - 1) })
		equal(t, "sum", must(sum.Get(t.Context(), Single{})), n+round+1)
		wg.Wait()
		equal(t, "values", len(slices.Collect(in.Values())), n)
		ok(t, m.Close())
	}
}

// TestMissOfTheWhole: a read for which BuildAll has to run is a miss, also in a builder.
func TestMissOfTheWhole(t *testing.T) {
	m := newManager(t)
	whole := must(Register(m, "whole", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) {
		return map[int]int{1: 1}, nil
	}}))
	outer := must(Register(m, "outer", Spec[int, int]{Build: whole.Get}))
	for _, c := range []*Cache[int, int]{whole, outer} {
		before := whole.Stats()
		must(c.Get(t.Context(), 1))
		ok(t, whole.InvalidateAll())
		ok(t, outer.InvalidateAll())
		must(c.Get(t.Context(), 1))
		after := whole.Stats()
		equal(t, c.Name()+": hits", after.Hits-before.Hits, 0)
		equal(t, c.Name()+": misses", after.Misses-before.Misses, 2)
		ok(t, whole.InvalidateAll())
	}
}
