package cacheman

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// sums registers inputs, and entries that are built of two of them or of each
// other, and counts what is built.
func sums(t *testing.T, m *Manager, memory bool) (in, sum *Cache[int, int], builds *int) {
	t.Helper()
	builds = new(int)
	in = must(Register(m, "in", Spec[int, int]{}))
	sum = must(Register(m, "sum", Spec[int, int]{
		Memory: memory,
		Build: func(ctx context.Context, i int) (int, error) {
			*builds++
			a, err1 := in.Get(ctx, i)
			if i == 0 || err1 != nil {
				return a, err1
			}
			b, err2 := sum.Get(ctx, i-1)
			return a + b, err2
		},
	}))
	return in, sum, builds
}

// openDir opens a Manager on a directory, to be closed at the end of the test.
func openDir(t *testing.T, dir string, opts Options) *Manager {
	t.Helper()
	m := must(Open(dir, opts))
	t.Cleanup(func() {
		for fault := range m.Check() {
			t.Error(fault)
		}
		m.Close()
	})
	return m
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	w := openDir(t, dir, Options{})
	in, sum, _ := sums(t, w, false)
	for i := range 5 {
		ok(t, in.Set(i, i))
	}
	equal(t, "sum", must(sum.Get(t.Context(), 3)), 6)
	ok(t, w.Sync(t.Context()))

	r := openDir(t, dir, Options{ReadOnly: true})
	in, sum, builds := sums(t, r, false)
	equal(t, "sum", must(sum.Get(t.Context(), 3)), 6)
	equal(t, "builders", *builds, 0)
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10) // in memory
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	equal(t, "builders", *builds, 1)
	ctx := t.Context()
	for what, err := range map[string]error{
		"Set":           in.Set(1, 2),
		"Delete":        in.Delete(1),
		"Clear":         in.Clear(),
		"Invalidate":    in.Invalidate(1),
		"InvalidateAll": in.InvalidateAll(),
		"Touch":         in.Touch(),
		"DeleteSaved":   in.DeleteSaved(ctx),
		"Rebuild":       sum.Rebuild(ctx),
		"Batch":         r.Batch(func(b *Batch) error { in.SetIn(b, 1, 2); return nil }),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := in.Update(1, func(int, bool) (int, bool) { return 2, true }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Update: %v", err)
	}
	equal(t, "1", must(in.Get(ctx, 1)), 1)
	ok(t, r.Sync(ctx)) // there is nothing to save
	ok(t, sum.Reload(ctx))
	equal(t, "dirty", sum.Stats().Dirty, 0)
	ok(t, r.Close())

	if _, err := Open(filepath.Join(dir, "none"), Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if _, err := w.Follow(ctx); err == nil {
		t.Error("a writer can follow")
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	win, wsum, _ := sums(t, w, false)
	for i := range 5 {
		ok(t, win.Set(i, i))
	}
	ok(t, w.Sync(t.Context()))

	r := openDir(t, dir, Options{ReadOnly: true})
	in, sum, builds := sums(t, r, false)
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	equal(t, "builders", *builds, 5)
	if changed := must(r.Follow(t.Context())); len(changed) > 0 {
		t.Errorf("%q changed", changed)
	}

	ok(t, win.Set(2, 12))
	equal(t, "sum", must(wsum.Get(t.Context(), 1)), 1)
	if changed := must(r.Follow(t.Context())); len(changed) > 0 {
		t.Errorf("%q changed, though nothing was saved", changed)
	}
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	ok(t, w.Sync(t.Context()))
	if changed := must(r.Follow(t.Context())); !slices.Equal(changed, []string{"in", "sum"}) {
		t.Errorf("%q changed", changed)
	}
	*builds = 0
	equal(t, "in", must(in.Get(t.Context(), 2)), 12)
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 20)
	equal(t, "builders", *builds, 3)

	ok(t, win.InvalidateAll())
	ok(t, w.Sync(t.Context()))
	must(r.Follow(t.Context()))
	if _, err := sum.Get(t.Context(), 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("the sum of nothing: %v", err)
	}
}

// TestFollowRandom: after Follow a reader has what the writer saved, though both
// build, and give stamps to what they build.
func TestFollowRandom(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		w := must(Open(dir, Options{Autosync: &Autosync{Off: true}}))
		win, wsum, _ := sums(t, w, false)
		const n = 12
		for i := range n {
			ok(t, win.Set(i, i))
		}
		ok(t, w.Sync(t.Context()))
		r := must(Open(dir, Options{ReadOnly: true}))
		r.partialFrom, r.readCost = rng.Int64N(2)*1000, 0
		_, sum, _ := sums(t, r, rng.IntN(2) == 0)
		saved := make([]int, n)
		for i := range saved {
			saved[i] = i
		}
		now := slices.Clone(saved)
		for range 60 {
			switch i := rng.IntN(n); rng.IntN(5) {
			case 0, 1:
				now[i] = rng.IntN(3)
				ok(t, win.Set(i, now[i]))
			case 2:
				must(wsum.Get(t.Context(), i))
			case 3:
				ok(t, w.Sync(t.Context()))
				must(r.Follow(t.Context()))
				copy(saved, now)
			case 4:
				want := 0
				for _, v := range saved[:i+1] {
					want += v
				}
				equal(t, "sum", must(sum.Get(t.Context(), i)), want)
			}
		}
		for fault := range r.Check() {
			t.Error(fault)
		}
		ok(t, errors.Join(r.Close(), w.Close()))
	}
}

func TestFollowEvery(t *testing.T) {
	dir := t.TempDir()
	w := openDir(t, dir, Options{})
	win, _, _ := sums(t, w, false)
	ok(t, win.Set(1, 1))
	ok(t, w.Sync(t.Context()))
	followed := make(chan Event, 100)
	r := openDir(t, dir, Options{ReadOnly: true, FollowEvery: time.Millisecond, Observe: func(e Event) {
		if e.Kind == EventFollowed {
			followed <- e
		}
	}})
	in, _, _ := sums(t, r, false)
	equal(t, "1", must(in.Get(t.Context(), 1)), 1)
	ok(t, win.Set(1, 2))
	ok(t, w.Sync(t.Context()))
	if e := <-followed; e.Cache != "in" || e.Err != nil {
		t.Errorf("%+v", e)
	}
	equal(t, "1", must(in.Get(t.Context(), 1)), 2)
}

func TestOpenWait(t *testing.T) {
	dir := t.TempDir()
	first := must(Open(dir, Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenWait(ctx, dir, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that has ended: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := OpenWait(ctx, dir, Options{}); !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is open: %v", err)
	}
	go first.Close()
	second := must(OpenWait(t.Context(), dir, Options{}))
	ok(t, second.Close())
}

func TestBackup(t *testing.T) {
	m := openDir(t, t.TempDir(), Options{})
	in, sum, _ := sums(t, m, false)
	for i := range 5 {
		ok(t, in.Set(i, i))
	}
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	to := filepath.Join(t.TempDir(), "copy")
	ok(t, m.Backup(t.Context(), to))
	ok(t, in.Set(4, 100)) // is not in it

	c := openDir(t, to, Options{})
	_, sum, builds := sums(t, c, false)
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	equal(t, "builders", *builds, 0)

	ok(t, os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o600))
	if err := m.Backup(t.Context(), to); err == nil {
		t.Error("a backup into a directory that is not empty")
	}
	if err := newManager(t).Backup(t.Context(), filepath.Join(t.TempDir(), "copy")); err == nil {
		t.Error("a store that cannot copy itself has done so")
	}
}

// TestFollowReadsOneByOne: whether it is worth while to load everything is found out anew
// after each Follow.
func TestFollowReadsOneByOne(t *testing.T) {
	dir := t.TempDir()
	w := openDir(t, dir, Options{})
	out := must(Register(w, "c", Spec[int, int]{}))
	const n = 2 * partialFrom
	for k := range n {
		ok(t, out.Set(k, k))
	}
	ok(t, w.Sync(t.Context()))
	r := openDir(t, dir, Options{ReadOnly: true})
	c := must(Register(r, "c", Spec[int, int]{}))
	for i := range n / readCost {
		equal(t, "value", must(c.Get(t.Context(), i)), i)
	}
	equal(t, "loaded", c.Stats().Loaded, false)
	for i := range 3 {
		ok(t, out.Set(1, -i))
		ok(t, w.Sync(t.Context()))
		must(r.Follow(t.Context()))
		equal(t, "value", must(c.Get(t.Context(), 1)), -i)
		equal(t, "loaded after Follow", c.Stats().Loaded, false)
	}
}

// TestCompact: what was written over and deleted takes no room any more.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	m := openDir(t, dir, Options{})
	c := must(Register(m, "c", Spec[int, []byte]{}))
	const n, size = 200, 4 << 10
	noise := rand.New(rand.NewPCG(1, 2))
	for range 3 { // the last of three values of each key counts
		for k := range n {
			v := make([]byte, size)
			for i := range v {
				v[i] = byte(noise.Uint32())
			}
			ok(t, c.Set(k, v))
		}
		ok(t, m.Sync(t.Context()))
	}
	used := func() (bytes int64) {
		for _, e := range must(os.ReadDir(dir)) {
			bytes += must(e.Info()).Size()
		}
		return bytes
	}
	before := used()
	ok(t, m.Compact(t.Context()))
	if after := used(); before < 3*n*size || after > n*size*5/4 {
		t.Errorf("%d bytes before, %d after", before, after)
	}

	r := openDir(t, dir, Options{ReadOnly: true})
	equal(t, "entries", must(Register(r, "c", Spec[int, []byte]{})).Len(), n)
	if err := r.Compact(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("reading only: %v", err)
	}
	ok(t, m.Close())
	if err := m.Compact(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestFollowDeclaredDependents: what was built here in a cache that is declared to depend on
// another is built anew when that has changed, whether anything of it is saved or not.
func TestFollowDeclaredDependents(t *testing.T) {
	for _, memory := range []bool{false, true} {
		for _, onChange := range []bool{false, true} {
			dir := t.TempDir()
			type caches struct{ a, each, all, other *Cache[int, int] }
			register := func(m *Manager) (c caches) {
				c.a = must(Register(m, "a", Spec[int, int]{}))
				c.other = must(Register(m, "other", Spec[int, int]{}))
				value := func() int { v, _ := c.a.Peek(1); return v }
				spec := Spec[int, int]{Memory: memory}
				if onChange {
					spec.DependsOnChange = []string{"a"}
				} else {
					spec.DependsOn = []string{"a"}
				}
				spec.BuildAll = func(context.Context) (map[int]int, error) { return map[int]int{1: value()}, nil }
				c.all = must(Register(m, "all", spec))
				spec.BuildAll = nil
				spec.Build = func(context.Context, int) (int, error) { return value(), nil }
				c.each = must(Register(m, "each", spec))
				return c
			}
			w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
			r, out := (*Manager)(nil), register(w)
			var in caches
			for v := range 3 {
				if !onChange {
					ok(t, out.a.InvalidateAll())
				}
				ok(t, out.a.Set(1, v))
				ok(t, w.Sync(t.Context()))
				if r == nil {
					r = openDir(t, dir, Options{ReadOnly: true})
					in = register(r)
				} else if changed := must(r.Follow(t.Context())); !slices.Equal(changed, []string{"a", "all", "each"}) {
					t.Errorf("%q changed", changed)
				}
				for _, c := range []*Cache[int, int]{in.each, in.all} {
					equal(t, c.Name(), must(c.Get(t.Context(), 1)), v)
				}
				ok(t, out.other.Set(1, v))
				ok(t, w.Sync(t.Context()))
				must(r.Follow(t.Context()))
				for _, c := range []*Cache[int, int]{in.each, in.all} {
					must(c.Get(t.Context(), 1))
					equal(t, c.Name()+" was built", int(c.Stats().Builds), v+1)
				}
			}
		}
	}
}

// TestCauseOfEnd: whatever ends early because its ctx has ended returns the cause of that.
func TestCauseOfEnd(t *testing.T) {
	dir := t.TempDir()
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	c := must(Register(w, "c", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 1, nil }}))
	ok(t, c.Set(1, 1))
	ok(t, w.Sync(t.Context()))
	ok(t, c.Set(2, 2))
	r := openDir(t, dir, Options{ReadOnly: true})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for name, f := range map[string]func() error{
		"Follow":      func() error { _, err := r.Follow(ctx); return err },
		"Sync":        func() error { return w.Sync(ctx) },
		"Get":         func() error { _, err := c.Get(ctx, 3); return err },
		"Build":       func() error { return c.Build(ctx) },
		"Rebuild":     func() error { return c.Rebuild(ctx) },
		"Reload":      func() error { return c.Reload(ctx) },
		"Backup":      func() error { return w.Backup(ctx, t.TempDir()) },
		"Compact":     func() error { return w.Compact(ctx) },
		"DeleteSaved": func() error { return c.DeleteSaved(ctx) },
		"Deregister":  func() error { return w.Deregister(ctx, Only("c")) },
	} {
		if err := f(); err != cause {
			t.Errorf("%s returns %v", name, err)
		}
	}
}

// TestStampsAfterLoss: when all that a directory had is lost, what others still have of it, a
// reader that stays open and another store, does not pass for computed from what comes after.
func TestStampsAfterLoss(t *testing.T) {
	dir, elsewhere := t.TempDir(), newDisk()
	register := func(m *Manager, of Spec[int, string]) (in, out *Cache[int, string]) {
		in = must(Register(m, "in", Spec[int, string]{}))
		of.Build = func(ctx context.Context, k int) (string, error) { return in.Get(ctx, k) }
		return in, must(Register(m, "out", of))
	}
	write := func(v string) {
		m := must(Open(dir, Options{}))
		must(Register(m, "in", Spec[int, string]{})).Set(1, v)
		ok(t, m.Close())
	}
	write("old")
	m := must(Open(dir, Options{}))
	_, out := register(m, Spec[int, string]{Store: elsewhere})
	equal(t, "built", must(out.Get(t.Context(), 1)), "old")
	ok(t, m.Close())
	r := must(Open(dir, Options{ReadOnly: true}))
	defer r.Close()
	_, here := register(r, Spec[int, string]{})
	equal(t, "built by the reader", must(here.Get(t.Context(), 1)), "old")

	for _, name := range must(filepath.Glob(filepath.Join(dir, "[Mjs]*"))) {
		ok(t, os.WriteFile(name, []byte("damaged"), 0o666))
	}
	write("new")
	must(r.Follow(t.Context()))
	equal(t, "built by the reader", must(here.Get(t.Context(), 1)), "new")
	m = must(Open(dir, Options{}))
	defer m.Close()
	_, out = register(m, Spec[int, string]{Store: elsewhere})
	equal(t, "built", must(out.Get(t.Context(), 1)), "new")
}

// TestReloadElsewhere: contents that are built as a whole and kept elsewhere, in a store that shows by and by what
// another process saves there, are what is saved there now, and are built anew when that has become stale.
func TestReloadElsewhere(t *testing.T) {
	dir, elsewhere, builds := t.TempDir(), t.TempDir(), 0
	register := func(m *Manager, s store.Store) (in, all *Cache[int, int]) {
		in = must(Register(m, "in", Spec[int, int]{}))
		return in, must(Register(m, "all", Spec[int, int]{Store: s, BuildAll: func(ctx context.Context) (map[int]int, error) {
			builds++
			v, err := in.Get(ctx, 1)
			return map[int]int{1: v}, err
		}}))
	}
	s := must(logstore.Open(elsewhere, logstore.Options{}))
	defer s.Close()
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	in, ofWriter := register(w, s)
	ok(t, w.Sync(t.Context()))

	reader := must(logstore.OpenReader(elsewhere, logstore.Options{}))
	defer reader.Close()
	r := openDir(t, dir, Options{ReadOnly: true})
	_, all := register(r, reader)
	for v := range 4 {
		ok(t, in.Set(1, v))
		if v != 2 {
			must(ofWriter.Get(t.Context(), 1))
		}
		ok(t, w.Sync(t.Context()))
		must(reader.Refresh(t.Context(), nil))
		must(r.Follow(t.Context()))
		ok(t, all.Reload(t.Context()))
		builds = 0
		equal(t, "value", must(all.Get(t.Context(), 1)), v)
		equal(t, "builds", builds, map[int]int{2: 1}[v])
	}
}

// TestFollowKeptElsewhere: what is declared to depend on another cache, and kept elsewhere than that, is as it is saved now
// after Follow, and built if what is saved is from before a change; so it is for a reader that is opened then.
func TestFollowKeptElsewhere(t *testing.T) {
	for _, place := range []string{"hooks", "store", "values"} {
		t.Run(place, func(t *testing.T) {
			dir, elsewhere, hook, fail := t.TempDir(), t.TempDir(), map[int]int(nil), false
			register := func(m *Manager, s store.Store) (in, out, last *Cache[int, int]) {
				in = must(Register(m, "in", Spec[int, int]{}))
				spec := Spec[int, int]{Store: s, DependsOnChange: []string{"in"}, Build: func(context.Context, int) (int, error) {
					v, _ := in.Peek(1)
					return v, nil
				}}
				if place == "hooks" {
					spec.Load = func(context.Context) (map[int]int, error) { return maps.Clone(hook), nil }
					spec.Save = func(_ context.Context, contents map[int]int) error {
						if fail {
							return errPlanned
						}
						hook = contents
						return nil
					}
				}
				out = must(Register(m, "out", spec))
				last = must(Register(m, "last", Spec[int, int]{DependsOn: []string{"out"}, Build: func(context.Context, int) (int, error) {
					return out.Get(context.Background(), 1) // not tracked
				}}))
				return in, out, last
			}
			open := func(reads bool) (s store.Store) {
				switch place {
				case "values":
					s = must(csvstore.Open(elsewhere, csvstore.Options{}))
				case "store":
					if reads {
						s = must(logstore.OpenReader(elsewhere, logstore.Options{}))
					} else {
						s = must(logstore.Open(elsewhere, logstore.Options{}))
					}
				default:
					return nil
				}
				t.Cleanup(func() { s.Close() })
				return s
			}
			s := open(false)
			if s != nil {
				s = failing{s, &fail}
			}
			w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
			in, out, last := register(w, s)
			change := func(v int) {
				ok(t, in.Set(1, v))
				must(out.Get(t.Context(), 1))
				must(last.Get(t.Context(), 1))
			}
			change(1)
			ok(t, w.Sync(t.Context()))
			theirs := open(true)
			r := openDir(t, dir, Options{ReadOnly: true})
			_, mine, mineToo := register(r, theirs)
			for v := 1; v < 6; v++ {
				if fail = v%2 == 0; v > 1 {
					change(v)
				}
				if err := w.Sync(t.Context()); (err != nil) != fail {
					t.Fatal(err)
				}
				if f, is := theirs.(store.Follower); is {
					must(f.Refresh(t.Context(), nil))
				}
				must(r.Follow(t.Context()))
				before := mine.Stats().Builds
				equal(t, "after Follow", must(mine.Get(t.Context(), 1)), v)
				equal(t, "after Follow, further on", must(mineToo.Get(t.Context(), 1)), v)
				ok(t, mine.Reload(t.Context()))
				equal(t, "after Reload", must(mine.Get(t.Context(), 1)), v)
				if !fail {
					equal(t, "builds of what is saved", mine.Stats().Builds, before)
				}
				another := openDir(t, dir, Options{ReadOnly: true})
				_, out, last := register(another, open(true))
				equal(t, "for another reader, further on", must(last.Get(t.Context(), 1)), v)
				equal(t, "for another reader", must(out.Get(t.Context(), 1)), v)
			}
			fail = false
		})
	}
}

// TestFollowAheadOfStore: what is kept in a store of its own that does not show yet what the Manager's store is about is
// not served.
func TestFollowAheadOfStore(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	register := func(m *Manager, s store.Store) (in, out *Cache[int, int]) {
		t.Cleanup(func() { s.Close() })
		in = must(Register(m, "in", Spec[int, int]{}))
		return in, must(Register(m, "out", Spec[int, int]{Store: s, DependsOnChange: []string{"in"}, Build: func(context.Context, int) (int, error) {
			v, _ := in.Peek(1)
			return v, nil
		}}))
	}
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	in, out := register(w, must(logstore.Open(elsewhere, logstore.Options{})))
	save := func(v int) {
		ok(t, in.Set(1, v))
		must(out.Get(t.Context(), 1))
		ok(t, w.Sync(t.Context()))
	}
	save(0)
	s := must(logstore.OpenReader(elsewhere, logstore.Options{}))
	r := openDir(t, dir, Options{ReadOnly: true})
	_, mine := register(r, s)
	equal(t, "value", must(mine.Get(t.Context(), 1)), 0)
	for v := 1; v < 4; v++ {
		save(v)
		if v == 3 {
			must(s.Refresh(t.Context(), nil))
		}
		must(r.Follow(t.Context()))
		equal(t, "value", must(mine.Get(t.Context(), 1)), v)
		equal(t, "builds", mine.Stats().Builds, int64(min(v, 2)))
	}
}

// failing is a store that fails when it is told to.
type failing struct {
	store.Store
	fail *bool
}

func (s failing) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	if *s.fail {
		return errPlanned
	}
	return s.Store.Apply(ctx, ops)
}

// TestFollowRecognizes: what a reader has found in files that its Manager's notes were older than does not count as set by
// hand any more when it has gone on.
func TestFollowRecognizes(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	register := func(m *Manager) (in, out *Cache[int, int]) {
		s := must(csvstore.Open(files, csvstore.Options{}))
		t.Cleanup(func() { s.Close() })
		in = must(Register(m, "in", Spec[int, int]{}))
		return in, must(Register(m, "out", Spec[int, int]{Store: s, Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
	}
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	in, out := register(w)
	save := func(v int) {
		ok(t, in.Set(1, v))
		must(out.Get(t.Context(), 1))
		ok(t, w.Sync(t.Context()))
	}
	save(1)
	r := openDir(t, dir, Options{ReadOnly: true})
	_, mine := register(r)
	save(2)
	must(mine.Get(t.Context(), 1))
	for v := 2; v < 5; v++ {
		must(r.Follow(t.Context()))
		equal(t, "value", must(mine.Get(t.Context(), 1)), v)
		save(v + 1)
	}
}

// TestFollowFormerlyElsewhere: who only reads, and has another name for a cache that has a store of its own, finds what is
// saved there under the old one by and by, unless that is from before a change of what it depends on.
func TestFollowFormerlyElsewhere(t *testing.T) {
	dir, elsewhere, fail := t.TempDir(), t.TempDir(), false
	register := func(m *Manager, s store.Store, name string, formerly ...string) (in, out *Cache[int, int]) {
		in = must(Register(m, "in", Spec[int, int]{}))
		return in, must(Register(m, name, Spec[int, int]{Store: s, DependsOnChange: []string{"in"}, Formerly: formerly, Build: func(context.Context, int) (int, error) {
			v, _ := in.Peek(1)
			return v, nil
		}}))
	}
	s := must(logstore.Open(elsewhere, logstore.Options{}))
	t.Cleanup(func() { s.Close() })
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	in, out := register(w, failing{s, &fail}, "old")
	ok(t, w.Sync(t.Context()))
	theirs := must(logstore.OpenReader(elsewhere, logstore.Options{}))
	t.Cleanup(func() { theirs.Close() })
	r := openDir(t, dir, Options{ReadOnly: true})
	_, mine := register(r, theirs, "new", "old")
	for v := range 4 {
		ok(t, in.Set(1, v))
		must(out.Get(t.Context(), 1))
		fail = v%2 == 1
		if err := w.Sync(t.Context()); (err != nil) != fail {
			t.Fatal(err)
		}
		must(theirs.Refresh(t.Context(), nil))
		must(r.Follow(t.Context()))
		for range 2 {
			equal(t, "value", must(mine.Get(t.Context(), 1)), v)
			ok(t, mine.Reload(t.Context()))
		}
		if v == 0 {
			equal(t, "builds", mine.Stats().Builds, 0)
		}
	}
	fail = false
}

// TestReloadOfDependents: what is declared to depend on a cache in a store of its own is built anew by who only reads, when
// that shows something else and was read again.
func TestReloadOfDependents(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for _, memory := range []bool{false, true} {
		register := func(m *Manager, s store.Store) (in, all *Cache[int, int]) {
			t.Cleanup(func() { s.Close() })
			in = must(Register(m, "in", Spec[int, int]{Store: s}))
			return in, must(Register(m, "all", Spec[int, int]{Memory: memory, DependsOnChange: []string{"in"}, BuildAll: func(ctx context.Context) (map[int]int, error) {
				v, err := in.Get(context.Background(), 1) // not tracked
				return map[int]int{1: v}, err
			}}))
		}
		w := must(Open(dir, Options{Autosync: &Autosync{Off: true}}))
		s := must(logstore.Open(elsewhere, logstore.Options{}))
		in, ofWriter := register(w, s)
		ok(t, in.Set(1, 0))
		must(ofWriter.Get(t.Context(), 1))
		ok(t, w.Sync(t.Context()))
		theirs := must(logstore.OpenReader(elsewhere, logstore.Options{}))
		r := openDir(t, dir, Options{ReadOnly: true})
		mine, all := register(r, theirs)
		for v := range 3 {
			ok(t, in.Set(1, v))
			must(ofWriter.Get(t.Context(), 1))
			ok(t, w.Sync(t.Context()))
			must(r.Follow(t.Context()))
			must(all.Get(t.Context(), 1)) // of what is shown yet
			must(theirs.Refresh(t.Context(), nil))
			ok(t, mine.Reload(t.Context()))
			equal(t, "value", must(all.Get(t.Context(), 1)), v)
		}
		ok(t, errors.Join(w.Close(), s.Close()))
	}
}
