package cacheman

import (
	"context"
	"errors"
	"testing"
)

// What is here is about entries that move to another table, of a cache that grows or
// is read as a whole, while somebody has the table that they were in before. That
// nobody reads the old one together with what the graph says now is shown by the
// programs named "moves" of TestInterleavings.

// moving is a cache, saved in a store, of which an entry was read by a builder.
func moving(t *testing.T) (d *disk, m *Manager, in, out *Cache[int, int]) {
	t.Helper()
	d = newDisk()
	m = openOn(d)
	t.Cleanup(func() {
		for fault := range m.Check() {
			t.Error(fault)
		}
		m.Close()
	})
	in = must(Register(m, "in", Spec[int, int]{}))
	out = must(Register(m, "out", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if errors.Is(err, ErrNotFound) {
			return -1, nil
		}
		return v, err
	}}))
	in.Set(1, 1)
	equal(t, "what is built", must(out.Get(t.Context(), 1)), 1)
	return d, m, in, out
}

// What is written is what there was at the cut, and not an old value with the stamp
// of a new one, which would pass for that after a crash.
func TestMoveWhileSaving(t *testing.T) {
	d, _, in, _ := moving(t)
	stamp := in.Explain(1).Stamp
	d.before = func() {
		in.grow()
		in.Set(1, 2)
	}
	if err := in.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := must(Open("", Options{Store: &disk{Store: d.Store}, ReadOnly: true}))
	defer m.Close()
	then := must(Register(m, "in", Spec[int, int]{}))
	v, _ := then.Peek(1)
	equal(t, "value", v, 1)
	equal(t, "stamp", then.Explain(1).Stamp, stamp)
	d.before = nil
	ok(t, in.Sync(t.Context()))
	equal(t, "value that was set while saving", savedIn(d, "in")[1], 2)
}

// A deletion that was saved leaves no trace, but what was set in its place meanwhile
// is what the graph knows.
func TestMoveWhileSavingDeletion(t *testing.T) {
	d, m, in, out := moving(t)
	in.Delete(1)
	d.before = func() {
		in.grow()
		in.Set(1, 2)
	}
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for fault := range m.Check() {
		t.Fatal(fault)
	}
	equal(t, "what is built", must(out.Get(t.Context(), 1)), 2)
}
