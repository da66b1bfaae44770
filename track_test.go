package cacheman

import (
	"context"
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
