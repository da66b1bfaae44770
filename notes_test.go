package cacheman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
)

// TestNotesReadOnly: who only reads has nothing to note.
func TestNotesReadOnly(t *testing.T) {
	dir := t.TempDir()
	ok(t, must(Open(dir, Options{})).Close())
	m := must(Open(dir, Options{ReadOnly: true}))
	in := must(Register(m, "in", Spec[string, int]{Load: func(context.Context) (map[string]int, error) { return map[string]int{"a": 1}, nil }}))
	equal(t, "a", must(in.Get(t.Context(), "a")), 1)
	ok(t, m.Sync(t.Context()))
	ok(t, m.Close())
}

// TestNotesOfReload: what a Load hook gives again is what it was, also before that is saved, and
// is noted once.
func TestNotesOfReload(t *testing.T) {
	x := newHookRun(t)
	x.want("ab", 6, "double a", "double b", "sum ab")
	for range 10 {
		ok(t, x.in.Reload(t.Context()))
		x.want("ab", 6)
	}
	data := x.data
	x.data = nil
	ok(t, x.in.Reload(t.Context()))
	x.data = data
	ok(t, x.in.Reload(t.Context()))
	wantContents(t, x.in, data)
	equal(t, "notes", len(x.m.noteLater.take()), 3)
}

// TestNotesOfOldReading: what was read and dropped is not noted over what was saved meanwhile.
func TestNotesOfOldReading(t *testing.T) {
	d, saved := newDisk(), map[string]int{"a": 2} // of which nothing is known
	var pause func()
	open := func() (in, c *Cache[string, int]) {
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		in = must(Register(m, "in", Spec[string, int]{}))
		c = must(Register(m, "c", Spec[string, int]{
			Load: func(context.Context) (map[string]int, error) { return maps.Clone(saved), nil },
			Save: func(_ context.Context, all map[string]int) error { saved = all; return nil },
			Build: func(ctx context.Context, k string) (int, error) {
				v, err := in.Get(ctx, k)
				return 2 * v, err
			},
			AfterLoad: func(_ context.Context, _ string, v int) (int, error) {
				if f := pause; f != nil {
					pause = nil
					f()
				}
				return v, nil
			},
		}))
		return in, c
	}
	in, c := open()
	ok(t, in.Set("a", 1))
	ok(t, c.Load(t.Context()))
	c.m.noteLater.take()
	pause = func() {
		ok(t, c.Invalidate("a"))
		equal(t, "a", must(c.Get(t.Context(), "a")), 2)
		ok(t, c.m.Sync(t.Context()))
	}
	ok(t, c.Reload(t.Context()))
	ok(t, c.m.Close())
	in, c = open()
	ok(t, in.Set("a", 5))
	equal(t, "a", must(c.Get(t.Context(), "a")), 10)
}

// TestNotesGo: notes on what somebody else has removed do not stay.
func TestNotesGo(t *testing.T) {
	x := newHookRun(t)
	for i := range 20 {
		x.data = map[string]int{fmt.Sprint("k", i): i}
		ok(t, x.in.Load(t.Context()))
		x.reopen()
	}
	equal(t, "notes", len(must(x.m.readNotes(t.Context(), "in"))), 1)
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		for i := range 20 {
			k := fmt.Sprint("k", i)
			ok(t, x.in.Set(k, i))
			ok(t, x.m.Close())
			ok(t, x.s.Store.Apply(t.Context(), given([]store.Op{{Kind: store.Delete, Cache: "in", Key: []byte(k)}})))
			x.open()
		}
		equal(t, "notes", len(must(x.m.readNotes(t.Context(), "in"))), 1)
	})
}

// pausedStore is one with something to do at the end of Load.
type pausedStore struct {
	*valuesStore
	atEnd func()
}

func (s *pausedStore) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for rec, err := range s.valuesStore.Load(ctx, cache) {
			if !yield(rec, err) {
				return
			}
		}
		if s.atEnd != nil {
			s.atEnd()
		}
	}
}

// TestValuesReadWhileSaved: what was read before a sync, and dropped, is not taken for what there is.
func TestValuesReadWhileSaved(t *testing.T) {
	s := &pausedStore{valuesStore: &valuesStore{Store: must(csvstore.Open(t.TempDir(), csvstore.Options{}))}}
	d := newDisk()
	open := func() *Cache[string, int] {
		return must(Register(d.open(t, Options{Autosync: &Autosync{Off: true}}), "in", Spec[string, int]{Store: s}))
	}
	c := open()
	ok(t, c.Set("a", 1))
	ok(t, c.Sync(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	s.atEnd = func() {
		s.atEnd = nil
		ok(t, c.Set("a", 2))
		ok(t, c.Sync(t.Context()))
		cancel()
	}
	if err := c.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ok(t, c.Set("a", 1))
	ok(t, c.m.Close())
	equal(t, "a", must(open().Get(t.Context(), "a")), 1)
}

// TestValuesNone: that there is nothing is a result also where there is nothing else.
func TestValuesNone(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		ok(t, x.in.Set("n", 1))
		must(x.double.Get(t.Context(), "n"))
		ok(t, x.m.Sync(t.Context()))
		ok(t, x.double.InvalidateAll())
		x.double.Get(t.Context(), "a")
		x.reopen()
		clear(x.runs)
		if _, err := x.double.Get(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		x.wantRuns()
	})
}

// TestHooksRenamed: what was saved under another name is recognized, too.
func TestHooksRenamed(t *testing.T) {
	d, saved, runs := newDisk(), map[string]int{}, 0
	open := func(name string, before ...string) (*Cache[string, int], *Cache[string, int]) {
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		in := must(Register(m, "input", Spec[string, int]{}))
		return in, must(Register(m, name, Spec[string, int]{
			Formerly: before,
			Load:     func(context.Context) (map[string]int, error) { return maps.Clone(saved), nil },
			Save:     func(_ context.Context, all map[string]int) error { saved = all; return nil },
			Build: func(ctx context.Context, k string) (int, error) {
				runs++
				v, err := in.Get(ctx, k)
				return 2 * v, err
			},
		}))
	}
	in, c := open("old")
	ok(t, in.Set("a", 1))
	ok(t, in.Set("b", 1))
	equal(t, "a", must(c.Get(t.Context(), "a")), 2)
	equal(t, "b", must(c.Get(t.Context(), "b")), 2)
	ok(t, c.m.Close())
	in, c = open("new", "old")
	equal(t, "a", must(c.Get(t.Context(), "a")), 2)
	equal(t, "runs", runs, 2)
	ok(t, in.Set("a", 5))
	equal(t, "a", must(c.Get(t.Context(), "a")), 10)
	ok(t, c.m.Close())
	in, c = open("new")
	ok(t, in.Set("b", 5))
	equal(t, "b", must(c.Get(t.Context(), "b")), 10)
	equal(t, "a", must(c.Get(t.Context(), "a")), 10)
	equal(t, "runs", runs, 4)
}

// TestHooksDeleteSaved: what is noted goes with what was saved.
func TestHooksDeleteSaved(t *testing.T) {
	x := newHookRun(t)
	if _, err := x.double.Get(t.Context(), "n"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.double.DeleteSaved(t.Context()))
	x.reopen()
	clear(x.runs)
	x.double.Get(t.Context(), "n")
	x.wantRuns("double n")
}

// TestHooksHalfSavedOthers: what has not changed is recognized also if a process dies between
// the Save hook and the notes, and notes that nobody reads are not made.
func TestHooksHalfSavedOthers(t *testing.T) {
	x := newHookRun(t)
	x.want("ab", 6, "double a", "double b", "sum ab")
	x.reopen()
	x.data["c"] = 4
	x.want("bc", 12, "double c", "sum bc")
	x.fail = func() error { x.d.setFail(errPlanned); return nil }
	if err := x.m.Sync(t.Context()); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	saved, dead := maps.Clone(x.saved), x.m
	dead.Close()
	x.saved, x.fail = saved, nil
	x.d = &disk{Store: x.d.Store}
	x.open()
	x.want("ab", 6)
	x.want("bc", 12, "double c", "sum bc")
	out := must(Register(x.m, "out", Spec[string, int]{Save: func(context.Context, map[string]int) error { return nil }}))
	ok(t, out.Set("a", 1))
	ok(t, out.Sync(t.Context()))
	equal(t, "notes", len(must(x.m.readNotes(t.Context(), "out"))), 0)
}

// TestValuesRenamedHalf: a Reload after a sync that has renamed the file, and failed then.
func TestValuesRenamedHalf(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		ok(t, x.in.Set("a", 1))
		equal(t, "a", must(x.double.Get(t.Context(), "a")), 2)
		ok(t, x.double.Set("b", 100)) // by hand
		x.name, x.before = "twice", []string{"double"}
		x.reopen()
		ok(t, x.double.Load(t.Context()))
		x.s.after = func() { x.d.setFail(errPlanned) }
		if err := x.m.Sync(t.Context()); !errors.Is(err, errPlanned) {
			t.Fatal(err)
		}
		x.d.setFail(nil)
		x.s.after = nil
		ok(t, x.double.Reload(t.Context()))
		for range 2 {
			equal(t, "b", must(x.double.Get(t.Context(), "b")), 100)
			equal(t, "a", must(x.double.Get(t.Context(), "a")), 2)
			x.reopen()
		}
	})
}

// TestValuesHalfDeleted: what a DeleteSaved that failed may have deleted is unsaved.
func TestValuesHalfDeleted(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		ok(t, x.in.Set("a", 1))
		ok(t, x.m.Sync(t.Context()))
		x.s.after = func() { x.d.setFail(errPlanned) }
		if err := x.in.DeleteSaved(t.Context()); !errors.Is(err, errPlanned) {
			t.Fatal(err)
		}
		x.d.setFail(nil)
		x.s.after = nil
		x.reopen()
		equal(t, "a", must(x.in.Get(t.Context(), "a")), 1)
	})
	x := newHookRun(t)
	x.want("ab", 6, "double a", "double b", "sum ab")
	ok(t, x.m.Sync(t.Context()))
	x.fail = func() error { x.d.setFail(errPlanned); return nil }
	if err := x.double.DeleteSaved(t.Context()); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	x.d.setFail(nil)
	x.fail = nil
	x.reopen()
	x.want("ab", 6)
	must(x.double.Get(t.Context(), "a"))
	x.wantRuns()
}

// TestNotesImported: notes are exported and imported like records.
func TestNotesImported(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	s := must(csvstore.Open(t.TempDir(), csvstore.Options{}))
	runs := 0
	var exported bytes.Buffer
	for _, dir := range []string{dir, to} {
		m := must(Open(dir, Options{}))
		in := must(Register(m, "in", Spec[string, int]{Store: s}))
		c := must(Register(m, "c", Spec[string, int]{Store: s, Build: func(ctx context.Context, k string) (int, error) {
			runs++
			return in.Get(ctx, k)
		}}))
		ok(t, in.Set("a", 1))
		equal(t, "a", must(c.Get(t.Context(), "a")), 1)
		equal(t, "runs", runs, 1)
		if exported.Len() == 0 {
			ok(t, m.Export(t.Context(), &exported))
			ok(t, Import(t.Context(), to, &exported))
			exported.WriteByte('\n')
		}
		ok(t, m.Close())
		for err := range CheckDir(t.Context(), dir) {
			t.Error(err)
		}
	}
}
