package cacheman

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestTracked: what a builder reads is what its entry depends on: exactly that
// is built again, as far as it has changed, also after a restart.
func TestTracked(t *testing.T) {
	d := newDisk()
	var built []string
	type world struct {
		m           *Manager
		text        *Cache[string, string]
		words, best *Cache[string, int]
	}
	open := func(version string) (w world) {
		w.m = d.open(t, Options{})
		w.text = must(Register(w.m, "text", Spec[string, string]{}))
		w.words = must(Register(w.m, "words", Spec[string, int]{Version: version, Build: func(ctx context.Context, k string) (int, error) {
			built = append(built, "words "+k)
			s, err := w.text.Get(ctx, k)
			return len(strings.Fields(s)), err
		}}))
		w.best = must(Register(w.m, "best", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			built = append(built, "best "+k)
			a, err := w.words.Get(ctx, "a")
			if err != nil {
				return 0, err
			}
			b, err := w.words.Get(ctx, "b")
			return max(a, b), err
		}}))
		return w
	}
	want := func(w world, n int, runs ...string) {
		t.Helper()
		equal(t, "best", must(w.best.Get(t.Context(), "x")), n)
		equal(t, "built", strings.Join(built, ", "), strings.Join(runs, ", "))
		built = nil
	}
	w := open("1")
	w.text.Set("a", "one two")
	w.text.Set("b", "one")
	want(w, 2, "best x", "words a", "words b")
	want(w, 2)
	w.text.Set("c", "unrelated")
	want(w, 2)
	w.text.Set("b", "one two three")
	want(w, 3, "words b", "best x")
	w.text.Set("b", "three words again")
	want(w, 3, "words b")
	ok(t, w.m.Close())
	w = open("1")
	want(w, 3)
	w.text.Set("a", "one two three four")
	want(w, 4, "words a", "best x")
	ok(t, w.m.Close())
	w = open("2")
	want(w, 4, "words a", "words b")
	ok(t, w.text.Delete("b"))
	if _, err := w.best.Get(t.Context(), "x"); err == nil {
		t.Error("a deleted input is still there")
	}
	w.text.Set("b", "1 2 3 4 5")
	built = nil
	want(w, 5, "words b", "best x")
	ok(t, w.words.Invalidate("a"))
	want(w, 5, "words a")
	ok(t, w.text.InvalidateAll())
	w.text.Set("a", "one two three four")
	w.text.Set("b", "1 2 3 4 5")
	want(w, 5, "words a", "words b")
}

// TestContainsAnyKey: keys whose type is an interface, also nil.
func TestContainsAnyKey(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[any, int]{Memory: true}))
	builds := 0
	has := must(Register(m, "has", Spec[int, string]{Memory: true, Build: func(ctx context.Context, _ int) (string, error) {
		builds++
		var all []bool
		for _, k := range []any{nil, 1, "1", [1]int{1}} {
			has, err := in.Contains(ctx, k)
			if err != nil {
				return "", err
			}
			all = append(all, has)
		}
		return fmt.Sprint(all), nil
	}}))
	want := func(what string, n int) {
		t.Helper()
		equal(t, "what there is", must(has.Get(t.Context(), 0)), what)
		equal(t, "builds", builds, n)
	}
	want("[false false false false]", 1)
	ok(t, in.Set(nil, 1))
	want("[true false false false]", 2)
	ok(t, in.Set("1", 1))
	want("[true false true false]", 3)
	ok(t, in.Set(2, 1))
	ok(t, in.Set("1", 2))
	want("[true false true false]", 3)
	ok(t, in.Delete(nil))
	ok(t, in.Set([1]int{1}, 1))
	want("[false false true true]", 4)
}

// TestContainsAfterRestart: what was read of the presence of a key comes back with it.
func TestContainsAfterRestart(t *testing.T) {
	type point struct{ X, Y int }
	d := newDisk()
	builds := 0
	open := func() (in *Cache[point, int], has *Cache[int, bool], m *Manager) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[point, int]{}))
		has = must(Register(m, "has", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) {
			builds++
			return in.Contains(ctx, point{k, k})
		}}))
		return in, has, m
	}
	in, has, m := open()
	ok(t, in.Set(point{1, 1}, 1))
	equal(t, "1", must(has.Get(t.Context(), 1)), true)
	equal(t, "2", must(has.Get(t.Context(), 2)), false)
	ok(t, m.Close())

	in, has, _ = open()
	equal(t, "1", must(has.Get(t.Context(), 1)), true)
	equal(t, "2", must(has.Get(t.Context(), 2)), false)
	equal(t, "builds", builds, 2)
	ok(t, in.Set(point{1, 1}, 2))
	ok(t, in.Set(point{2, 2}, 2))
	equal(t, "1", must(has.Get(t.Context(), 1)), true)
	equal(t, "2", must(has.Get(t.Context(), 2)), true)
	equal(t, "builds", builds, 3)
}

// TestBuilderCountsItself: an entry that is built of how many there are in its cache, and is one more then,
// is built again when it is asked for, and then stays. Another is stale when it comes.
func TestBuilderCountsItself(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Count(ctx) }}))
	for i, want := range []int{0, 1, 1} {
		equal(t, "the first", must(c.Get(ctx, 1)), want)
		equal(t, "builds", int(c.Stats().Builds), min(i+1, 2))
	}
	equal(t, "another", must(c.Get(ctx, 2)), 1)
	equal(t, "another", must(c.Get(ctx, 2)), 2)
	equal(t, "the first", must(c.Get(ctx, 1)), 2)
	equal(t, "builds", int(c.Stats().Builds), 5)
}
