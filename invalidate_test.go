package cacheman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
)

// remains is a program with an input, mid, which is computed from that and from
// something that is not tracked, and top, which is computed from mid.
type remains struct {
	t       *testing.T
	d       store.Store
	partial bool // entries are read one by one, …
	load    bool // … or all at the start

	// Of mid:
	source  func(k int) (string, error)
	given   bool // it has no builder
	version string
	codec   codec.Codec[string]
	limit   Limit
	memory  bool

	m          *Manager
	in         *Cache[int, int]
	mid, top   *Cache[int, string]
	mids, tops int // runs
}

func newRemains(t *testing.T) *remains {
	return &remains{t: t, d: newDisk(), source: func(int) (string, error) { return "mid", nil }}
}

// open opens the store again, as if what was not synced were lost.
func (x *remains) open() {
	x.t.Helper()
	if d, is := x.d.(*disk); is {
		d = &disk{Store: d.Store}
		x.d, x.m = d, d.open(x.t, Options{})
	} else {
		x.m = must(Open("", Options{Store: x.d}))
	}
	if x.partial {
		x.m.partialFrom, x.m.readCost = 0, 0
	}
	x.in = must(Register(x.m, "in", Spec[int, int]{}))
	spec := Spec[int, string]{Version: x.version, Codec: x.codec, Limit: x.limit, Memory: x.memory}
	if !x.given {
		spec.Build = func(ctx context.Context, k int) (string, error) {
			x.mids++
			if _, err := x.in.Get(ctx, k); err != nil && !errors.Is(err, ErrNotFound) {
				return "", err
			}
			return x.source(k)
		}
	}
	x.mid = must(Register(x.m, "mid", spec))
	x.top = must(Register(x.m, "top", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
		x.tops++
		v, err := x.mid.Get(ctx, k)
		if err != nil {
			v = "no " + shown(err)
		}
		return v, nil
	}}))
	if x.load {
		ok(x.t, x.m.Load(x.t.Context(), All()))
	}
}

// shown is what a builder sees of an error, also after a restart.
func shown(err error) string {
	if kept, is := errors.AsType[*KeptError](err); is {
		return kept.Text
	}
	if errors.Is(err, ErrNotFound) {
		return "value"
	}
	return "luck"
}

// want reads what was computed from mid, and counts what was built.
func (x *remains) want(what string, k, mids, tops int, v string) {
	x.t.Helper()
	x.mids, x.tops = 0, 0
	got, err := x.top.Get(x.t.Context(), k)
	if err != nil || got != v || x.mids != mids || x.tops != tops {
		x.t.Errorf("%s: %q, %v by %d runs for mid and %d for top, want %q by %d and %d", what, got, err, x.mids, x.tops, v, mids, tops)
	}
}

// gone checks that mid has nothing.
func (x *remains) gone(what string) {
	x.t.Helper()
	equal(x.t, what+": Has", x.mid.Has(1), false)
	equal(x.t, what+": Len", x.mid.Len(), 0)
	equal(x.t, what+": keys", len(slices.Collect(x.mid.Keys())), 0)
	wantContents(x.t, x.mid, map[int]string{})
}

// record returns what is saved of an entry of mid.
func (x *remains) record() (rec store.Record, ok bool) {
	for rec, err := range x.d.Load(x.t.Context(), "mid") {
		if err == nil {
			return rec, true
		}
	}
	return rec, false
}

// removals are the ways to take a value from one key.
var removals = map[string]func(x *remains) error{
	"Invalidate": func(x *remains) error { return x.mid.Invalidate(1) },
	"Delete":     func(x *remains) error { return x.mid.Delete(1) },
	"DeleteIn":   func(x *remains) error { return x.m.Batch(func(b *Batch) error { x.mid.DeleteIn(b, 1); return nil }) },
	"Update": func(x *remains) error {
		_, err := x.mid.Update(1, func(string, bool) (string, bool) { return "", false })
		return err
	},
	"twice": func(x *remains) error {
		return errors.Join(x.mid.Invalidate(1), x.m.Sync(x.t.Context()), x.mid.Delete(1))
	},
	"set before": func(x *remains) error { return errors.Join(x.mid.Set(1, "mid"), x.mid.Delete(1)) },
}

// TestInvalidatedAndReopened: what is invalidated is built, and if it comes out as it
// was, what was computed from it stays valid: without a restart, after one, and
// after a crash.
func TestInvalidatedAndReopened(t *testing.T) {
	for how, remove := range removals {
		for _, when := range []string{"loaded", "not loaded", "partial", "built before"} {
			for _, end := range []string{"nothing", "sync", "reopen", "crash", "reopen twice"} {
				t.Run(how+", "+when+", "+end, func(t *testing.T) {
					for _, change := range []bool{false, true} {
						x := newRemains(t)
						x.partial = when == "partial"
						x.open()
						ok(t, x.in.Set(1, 1))
						x.want("at first", 1, 1, 1, "mid")
						if when != "built before" {
							ok(t, x.m.Close())
							x.load = when == "loaded"
							x.open()
						}
						ok(t, remove(x))
						if end != "nothing" {
							ok(t, x.m.Sync(t.Context()))
						}
						switch end {
						case "crash":
							x.open()
						case "reopen", "reopen twice":
							ok(t, x.m.Close())
							x.open()
						}
						x.gone(end)
						equal(t, "why", x.mid.Explain(1).Why, "it was invalidated")
						if end == "reopen twice" {
							ok(t, x.m.Close())
							x.open()
						}
						if change {
							x.source = func(int) (string, error) { return "other", nil }
							x.want("it changed", 1, 1, 1, "other")
						} else {
							x.want("it is the same", 1, 1, 0, "mid")
						}
						x.want("nothing is left to do", 1, 0, 0, must(x.top.Get(t.Context(), 1)))
						ok(t, x.m.Close())
						x.open()
						x.want("after a restart", 1, 0, 0, must(x.top.Get(t.Context(), 1)))
					}
				})
			}
		}
	}
}

// lacks says that there is no value, and why.
func lacks(why string) error { return fmt.Errorf("no %s: %w", why, ErrNotFound) }

// TestInvalidatedResults: the same for what a builder says instead of a value.
func TestInvalidatedResults(t *testing.T) {
	result := func(v string, err error) func(int) (string, error) {
		return func(int) (string, error) { return v, err }
	}
	for what, test := range map[string]struct {
		first, then func(int) (string, error)
		top         string
		tops        int
	}{
		"the same error": {result("", Keep(errors.New("luck"))), result("", Keep(errors.New("luck"))), "no luck", 0},
		"another error":  {result("", Keep(errors.New("luck"))), result("", Keep(errors.New("hope"))), "no hope", 1},
		"error, value":   {result("", Keep(errors.New("luck"))), result("luck", nil), "luck", 1},
		"value, error":   {result("luck", nil), result("", Keep(errors.New("luck"))), "no luck", 1},
		"still nothing":  {result("", ErrNotFound), result("", ErrNotFound), "no value", 0},
		"nothing, value": {result("", ErrNotFound), result("v", nil), "v", 1},
		"value, nothing": {result("v", nil), result("", ErrNotFound), "no value", 1},
		"still no luck":  {result("", lacks("luck")), result("", lacks("luck")), "no no luck: not found", 0},
		"lacks, nothing": {result("", lacks("luck")), result("", ErrNotFound), "no value", 1},
		"lacks, error":   {result("", lacks("luck")), result("", Keep(errors.New("luck"))), "no luck", 1},
		"lacks, value":   {result("", lacks("luck")), result("v", nil), "v", 1},
		"value, lacks":   {result("v", nil), result("", lacks("luck")), "no no luck: not found", 1},
		"nothing, error": {result("", ErrNotFound), result("", Keep(errors.New("luck"))), "no luck", 1},
	} {
		for _, reopen := range []bool{false, true} {
			for _, partial := range []bool{false, true} {
				for _, memory := range []bool{false, true} {
					if memory && (reopen || partial) {
						continue
					}
					t.Run(fmt.Sprintf("%s, reopened %v, partial %v, in memory %v", what, reopen, partial, memory), func(t *testing.T) {
						x := newRemains(t)
						x.partial, x.memory, x.source = partial, memory, test.first
						x.open()
						must(x.top.Get(t.Context(), 1))
						ok(t, x.mid.Invalidate(1))
						ok(t, x.m.Sync(t.Context()))
						if reopen {
							x.open()
						}
						x.gone("invalidated")
						x.source = test.then
						x.want("then", 1, 1, test.tops, test.top)
						x.want("again", 1, 0, 0, test.top)
					})
				}
			}
		}
	}
}

// TestInvalidatedAndFailed: an error that is not kept changes nothing of that.
func TestInvalidatedAndFailed(t *testing.T) {
	x := newRemains(t)
	x.open()
	x.want("at first", 1, 1, 1, "mid")
	ok(t, x.mid.Invalidate(1))
	ok(t, x.m.Close())
	x.open()
	x.source = func(int) (string, error) { return "", errors.New("luck") }
	if _, err := x.mid.Get(t.Context(), 1); err == nil {
		t.Fatal("it was built")
	}
	ok(t, x.m.Close())
	x.open()
	x.source = func(int) (string, error) { return "mid", nil }
	x.want("later", 1, 1, 0, "mid")
}

// TestInvalidatedAsAWhole: what is invalidated or cleared as a whole leaves
// nothing, and takes with it what was left of single entries.
func TestInvalidatedAsAWhole(t *testing.T) {
	for what, remove := range map[string]func(x *remains) error{
		"InvalidateAll": func(x *remains) error { return x.mid.InvalidateAll() },
		"Clear":         func(x *remains) error { return x.mid.Clear() },
	} {
		for _, first := range []bool{false, true} {
			x := newRemains(t)
			x.open()
			x.want("at first", 1, 1, 1, "mid")
			if first {
				ok(t, x.mid.Invalidate(1))
				ok(t, x.m.Sync(t.Context()))
			}
			ok(t, remove(x))
			ok(t, x.m.Close())
			if rec, is := x.record(); is {
				t.Errorf("%s: it has left %v", what, rec)
			}
			x.open()
			x.want(what, 1, 1, 1, "mid")
		}
	}
}

// TestInvalidatedByVersions: what one version has built and another has
// invalidated is compared with what a third builds.
func TestInvalidatedByVersions(t *testing.T) {
	for _, partial := range []bool{false, true} {
		x := newRemains(t)
		x.partial = partial
		x.open()
		x.want("at first", 1, 1, 1, "mid")
		for _, version := range []string{"2", "3", ""} {
			ok(t, x.m.Close())
			x.version = version
			x.open()
			ok(t, x.mid.Invalidate(1))
			x.gone("version " + version)
		}
		x.want("in the end", 1, 1, 0, "mid")

		// A kept error is compared, too.
		x.source = func(int) (string, error) { return "", Keep(errors.New("luck")) }
		ok(t, x.mid.Invalidate(1))
		x.want("an error", 1, 1, 1, "no luck")
		ok(t, x.m.Close())
		x.version = "4"
		x.open()
		x.want("the same in another version", 1, 1, 0, "no luck")
	}
}

// TestInvalidatedWithoutBuilder: what is left of an entry is nothing to a cache
// without a builder, and to one with a builder again what it was.
func TestInvalidatedWithoutBuilder(t *testing.T) {
	for _, partial := range []bool{false, true} {
		x := newRemains(t)
		x.partial = partial
		x.open()
		x.want("at first", 1, 1, 1, "mid")
		ok(t, x.mid.Invalidate(1))
		ok(t, x.m.Close())
		x.given = true
		x.open()
		x.gone("without a builder")
		if _, err := x.mid.Get(t.Context(), 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("without a builder there is %v", err)
		}
		ok(t, x.m.Close())
		x.given = false
		x.open()
		x.want("with one", 1, 1, 0, "mid")
	}
}

// TestInvalidatedInStoreOfValues: a store that keeps values only has nothing of an
// entry that has none.
func TestInvalidatedInStoreOfValues(t *testing.T) {
	x := newRemains(t)
	x.d = must(csvstore.Open(t.TempDir(), csvstore.Options{}))
	x.open()
	x.source = func(k int) (string, error) {
		switch k {
		case 2:
			return "", ErrNotFound
		case 3:
			return "", Keep(errors.New("luck"))
		}
		return "mid", nil
	}
	for k := range 4 {
		x.mid.Get(t.Context(), k)
	}
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.mid.Invalidate(1))
	ok(t, x.m.Sync(t.Context()))
	var values []string
	for rec, err := range x.d.Load(t.Context(), "mid") {
		ok(t, err)
		values = append(values, string(rec.Value))
	}
	if !slices.Equal(values, []string{"mid"}) {
		t.Errorf("there is %q", values)
	}
	ok(t, x.m.Close())
}

// TestInvalidatedNotEncodable: of a value that cannot be encoded any more nothing
// is left, and that is no error.
func TestInvalidatedNotEncodable(t *testing.T) {
	x := newRemains(t)
	broken := false
	x.codec = codec.Codec[string]{
		Name: "fails",
		Append: func(dst []byte, v string) ([]byte, error) {
			if broken {
				return dst, errors.New("planned")
			}
			return append(dst, v...), nil
		},
		Decode: func(src []byte) (string, error) { return string(src), nil },
	}
	x.open()
	x.want("at first", 1, 1, 1, "mid")
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.mid.Invalidate(1))
	broken = true
	ok(t, x.m.Sync(t.Context()))
	if rec, is := x.record(); is {
		t.Errorf("there is %v", rec)
	}
	broken = false
	x.open()
	x.want("after a crash", 1, 1, 1, "mid")
}

// TestInvalidatedAndFollowed: a reader finds neither the value nor anything newer
// than what the writer knows.
func TestInvalidatedAndFollowed(t *testing.T) {
	dir := t.TempDir()
	mids, tops := 0, 0
	open := func(readOnly bool) (m *Manager, mid, top *Cache[int, int]) {
		m = must(Open(dir, Options{ReadOnly: readOnly, Autosync: &Autosync{Off: true}}))
		t.Cleanup(func() { m.Close() })
		mid = must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { mids++; return 1, nil }}))
		top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { tops++; return mid.Get(ctx, k) }}))
		return m, mid, top
	}
	w, wmid, wtop := open(false)
	must(wtop.Get(t.Context(), 1))
	ok(t, w.Sync(t.Context()))
	r, rmid, rtop := open(true)
	equal(t, "top", must(rtop.Get(t.Context(), 1)), 1)
	ok(t, wmid.Invalidate(1))
	ok(t, w.Sync(t.Context()))
	must(r.Follow(t.Context()))
	equal(t, "there", rmid.Has(1), false)
	mids, tops = 0, 0
	equal(t, "top", must(rtop.Get(t.Context(), 1)), 1)
	equal(t, "runs for mid", mids, 1)
	equal(t, "runs for top", tops, 0)
	ok(t, w.Close())
	for fault := range CheckDir(t.Context(), dir) {
		t.Error(fault)
	}
}

// TestInvalidatedAndCopied: a backup and an export have what is left.
func TestInvalidatedAndCopied(t *testing.T) {
	dir, mids, tops := t.TempDir(), 0, 0
	open := func(dir string) (m *Manager, mid, top *Cache[int, int]) {
		m = must(Open(dir, Options{Autosync: &Autosync{Off: true}}))
		t.Cleanup(func() { m.Close() })
		mid = must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { mids++; return 1, nil }}))
		top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { tops++; return mid.Get(ctx, k) }}))
		return m, mid, top
	}
	m, mid, top := open(dir + "/first")
	must(top.Get(t.Context(), 1))
	ok(t, m.Sync(t.Context()))
	ok(t, mid.Invalidate(1))
	ok(t, m.Backup(t.Context(), dir+"/backup"))
	var out strings.Builder
	ok(t, m.Export(t.Context(), &out))
	ok(t, Import(t.Context(), dir+"/imported", strings.NewReader(out.String())))
	for _, copied := range []string{"/backup", "/imported"} {
		for fault := range CheckDir(t.Context(), dir+copied) {
			t.Error(fault)
		}
		_, mid, top := open(dir + copied)
		equal(t, "there", mid.Has(1), false)
		mids, tops = 0, 0
		equal(t, "top", must(top.Get(t.Context(), 1)), 1)
		equal(t, "runs for mid", mids, 1)
		equal(t, "runs for top", tops, 0)
	}
}

// TestInvalidatedAndReloaded: Reload finds what was saved of an invalidation, and
// one that was not saved is undone.
func TestInvalidatedAndReloaded(t *testing.T) {
	x := newRemains(t)
	x.open()
	x.want("at first", 1, 1, 1, "mid")
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.mid.Invalidate(1))
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.mid.Reload(t.Context()))
	x.gone("reloaded")
	x.want("then", 1, 1, 0, "mid")
	ok(t, x.m.Sync(t.Context()))
	ok(t, x.mid.Invalidate(1))
	ok(t, x.mid.Reload(t.Context()))
	equal(t, "there", x.mid.Has(1), true)
	x.want("undone", 1, 0, 0, "mid")
}

// TestInvalidatedSet: what is set after an invalidation is what there is.
func TestInvalidatedSet(t *testing.T) {
	x := newRemains(t)
	x.open()
	x.want("at first", 1, 1, 1, "mid")
	ok(t, x.mid.Invalidate(1))
	ok(t, x.m.Close())
	x.open()
	ok(t, x.mid.Set(1, "set"))
	x.want("it was set", 1, 0, 1, "set")
	ok(t, x.m.Close())
	x.open()
	equal(t, "there", must(x.mid.Get(t.Context(), 1)), "set")
	x.want("after a restart", 1, 0, 0, "set")
}

// TestInvalidatedWhileSaving: an entry that is invalidated, or built again, while
// it is saved is saved as it was, and then as it is.
func TestInvalidatedWhileSaving(t *testing.T) {
	x := newRemains(t)
	x.open()
	x.want("at first", 1, 1, 1, "mid")
	d := x.d.(*disk)
	d.before = func() {
		d.before = nil
		ok(t, x.mid.Invalidate(1))
	}
	ok(t, x.m.Sync(t.Context()))
	rec, _ := x.record()
	equal(t, "what was saved", string(rec.Value), "mid")
	d.before = func() {
		d.before = nil
		x.want("while it is saved", 1, 1, 0, "mid")
	}
	ok(t, x.m.Sync(t.Context()))
	rec, _ = x.record()
	equal(t, "what was saved", string(rec.Value), fingerprint([]byte("mid")))
	ok(t, x.m.Sync(t.Context()))
	rec, _ = x.record()
	equal(t, "what was saved", string(rec.Value), "mid")
}

// TestInvalidatedCosts: what is left of an entry is no more than 40 bytes and its
// key, whatever it was computed from.
func TestInvalidatedCosts(t *testing.T) {
	x := newRemains(t)
	x.source = func(int) (string, error) { return strings.Repeat("x", 10000), nil }
	x.open()
	must(x.top.Get(t.Context(), 1))
	ok(t, x.mid.Invalidate(1))
	ok(t, x.m.Close())
	rec, _ := x.record()
	if n := len(rec.Value) + len(rec.Meta); n == 0 || n > 40 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestInvalidatedLimit: what is left of invalidated entries is subject to a Limit.
func TestInvalidatedLimit(t *testing.T) {
	for _, limit := range []Limit{{Entries: 16}, {Bytes: 4000}} {
		x := newRemains(t)
		x.limit = limit
		x.open()
		for k := range 200 {
			must(x.top.Get(t.Context(), k))
			ok(t, x.m.Sync(t.Context()))
			ok(t, x.mid.Invalidate(k))
			ok(t, x.m.Sync(t.Context()))
			settle(x.mid)
		}
		if n := len(x.mid.residents(nil)); n > 80 || n < 10 {
			t.Errorf("%v: %d entries have left something", limit, n)
		}
		ok(t, x.m.Close())
		x.open()
		x.want("the newest", 199, 1, 0, "mid")
		x.want("the oldest", 0, 1, 1, "mid")
	}
}

// TestEvictedInput: of a value that was set nothing is left when it is evicted,
// not even in memory, and what a builder makes in its place is another.
func TestEvictedInput(t *testing.T) {
	for _, memory := range []bool{false, true} {
		x := newRemains(t)
		x.memory = memory
		x.open()
		ok(t, x.mid.Set(1, "mid"))
		x.want("at first", 1, 0, 1, "mid")
		for _, r := range x.mid.residents(nil) {
			_, _, evicted := x.mid.evict(t.Context(), r.entry, r.age, false)
			equal(t, "evicted", evicted, true)
		}
		equal(t, "what is left", len(x.mid.residents(nil)), 0)
		x.want("then", 1, 1, 1, "mid")
	}
}

// TestInvalidatedAndRenamed: what is left of an entry goes with its cache, also if
// it is invalidated before that is loaded under its new name.
func TestInvalidatedAndRenamed(t *testing.T) {
	for _, early := range []bool{false, true} {
		d, tops := newDisk(), 0
		open := func(name string, formerly ...string) (m *Manager, mid, top *Cache[int, int]) {
			m = d.open(t, Options{})
			mid = must(Register(m, name, Spec[int, int]{Formerly: formerly, Build: func(ctx context.Context, k int) (int, error) { return 1, nil }}))
			top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				tops++
				return mid.Get(ctx, k)
			}}))
			return m, mid, top
		}
		m, mid, top := open("old")
		must(top.Get(t.Context(), 1))
		if !early {
			ok(t, mid.Invalidate(1))
		}
		ok(t, m.Close())
		m, mid, _ = open("new", "old")
		if early {
			ok(t, mid.Invalidate(1))
		} else {
			equal(t, "entries", mid.Len(), 0)
		}
		ok(t, m.Close())
		_, mid, top = open("new", "old")
		equal(t, "entries", mid.Len(), 0)
		tops = 0
		equal(t, "top", must(top.Get(t.Context(), 1)), 1)
		equal(t, "runs for mid", mid.Stats().Builds, 1)
		equal(t, "runs for top", tops, 0)
	}
}

// TestEqualBeforeLoadingDeclared: nor is it one for a cache that is declared to depend on changes; nor is the deletion of
// what is not there.
func TestEqualBeforeLoadingDeclared(t *testing.T) {
	d := newDisk()
	builds := 0
	open := func() (m *Manager, in, up *Cache[int, int]) {
		m = d.open(t, Options{Autosync: &Autosync{Off: true}})
		in = must(Register(m, "in", Spec[int, int]{}))
		up = must(Register(m, "up", Spec[int, int]{DependsOnChange: []string{"in"}, BuildAll: func(context.Context) (map[int]int, error) {
			builds++
			v, _ := in.Peek(1)
			return map[int]int{1: v}, nil
		}}))
		return m, in, up
	}
	m, in, up := open()
	ok(t, in.Set(1, 7))
	equal(t, "up", must(up.Get(t.Context(), 1)), 7)
	ok(t, m.Close())
	for name, write := range map[string]func(in *Cache[int, int]) error{
		"set":     func(in *Cache[int, int]) error { return in.Set(1, 7) },
		"deleted": func(in *Cache[int, int]) error { return in.Delete(2) },
		"batch": func(in *Cache[int, int]) error {
			return in.m.Batch(func(b *Batch) error { in.SetIn(b, 1, 7); in.DeleteIn(b, 2); return nil })
		},
	} {
		builds = 0
		m, in, up = open()
		ok(t, write(in))
		equal(t, "up", must(up.Get(t.Context(), 1)), 7)
		equal(t, "builds, "+name, builds, 0)
		ok(t, m.Close())
	}
	m, in, up = open()
	ok(t, in.Set(1, 8))
	equal(t, "up", must(up.Get(t.Context(), 1)), 8)
	ok(t, m.Close())
}

// TestEqualBeforeLoading: what is set to what it was, before anybody has read the cache, is no
// change, also if it is saved before that.
func TestEqualBeforeLoading(t *testing.T) {
	for name, set := range map[string]func(c *Cache[int, int]) error{
		"set": func(c *Cache[int, int]) error { return c.Set(1, 7) },
		"batch": func(c *Cache[int, int]) error {
			return c.m.Batch(func(b *Batch) error { c.SetIn(b, 1, 7); return nil })
		},
		"set all": func(c *Cache[int, int]) error { return c.SetAll(maps.All(map[int]int{1: 7, 2: 8})) },
		"update": func(c *Cache[int, int]) error {
			_, err := c.Update(1, func(int, bool) (int, bool) { return 7, true })
			return err
		},
		"twice": func(c *Cache[int, int]) error { return cmp.Or(c.Set(1, 8), c.Set(1, 7)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			runs := 0
			open := func() (m *Manager, in, up *Cache[int, int]) {
				m = d.open(t, Options{Autosync: &Autosync{Off: true}})
				in = must(Register(m, "in", Spec[int, int]{}))
				up = must(Register(m, "up", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
					runs++
					return in.Get(ctx, k)
				}}))
				return m, in, up
			}
			m, in, up := open()
			ok(t, in.Set(1, 7))
			equal(t, "up", must(up.Get(t.Context(), 1)), 7)
			ok(t, m.Close())

			for _, save := range []func(m *Manager) error{
				func(m *Manager) error { return m.Sync(t.Context()) },
				func(m *Manager) error { return nil }, // by Close
			} {
				m, in, _ = open()
				ok(t, set(in))
				ok(t, save(m))
				ok(t, m.Close())
				m, _, up = open()
				equal(t, "up", must(up.Get(t.Context(), 1)), 7)
				equal(t, "runs", runs, 1)
				ok(t, m.Close())
			}
		})
	}
}

// TestEqualMeanwhile: what is set to what it is, is no change, also if that came to be only while
// values were compared: the contents are just being loaded, or grow, or another has set the same.
func TestEqualMeanwhile(t *testing.T) {
	for name, set := range map[string]func(c *Cache[int, int], k, v int) error{
		"set": (*Cache[int, int]).Set,
		"batch": func(c *Cache[int, int], k, v int) error {
			return c.m.Batch(func(b *Batch) error { c.SetIn(b, k, v); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			runs := 0
			var comparing func() // values
			open := func() (m *Manager, in, up *Cache[int, int]) {
				called := func() {
					if f := comparing; f != nil {
						comparing = nil
						f()
					}
				}
				m = d.open(t, Options{Autosync: &Autosync{Off: true}})
				in = must(Register(m, "in", Spec[int, int]{
					Equal:     func(a, b int) bool { called(); return a == b },
					AfterLoad: func(ctx context.Context, k, v int) (int, error) { called(); return v, nil },
				}))
				up = must(Register(m, "up", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
					runs++
					a, err1 := in.Get(ctx, 1)
					b, err2 := in.Get(ctx, 2)
					return a + b, cmp.Or(err1, err2)
				}}))
				return m, in, up
			}
			m, in, up := open()
			ok(t, set(in, 1, 7))
			ok(t, set(in, 2, 8))
			want := func(v, n int) {
				t.Helper()
				equal(t, "up", must(up.Get(t.Context(), 0)), v)
				equal(t, "runs", runs, n)
			}
			want(15, 1)
			comparing = func() {
				ok(t, set(in, 1, 9))
				want(17, 2)
			}
			ok(t, set(in, 1, 9))
			want(17, 2)
			ok(t, m.Close())

			m, in, up = open()
			ok(t, set(in, 1, 9))
			comparing = func() { ok(t, set(in, 2, 8)) }
			want(17, 2)
			ok(t, m.Close())

			_, in, up = open()
			ok(t, set(in, 1, 9))
			comparing = func() {
				for k := range 2 * growAt {
					ok(t, set(in, 3+k, k))
				}
			}
			want(17, 2)
		})
	}
}

// TestInvalidatedInMemory: what an earlier run has saved of a cache that is in memory now, or is off, goes when that is invalidated.
func TestInvalidatedInMemory(t *testing.T) {
	for name, spec := range map[string]Spec[int, int]{"in memory": {Memory: true}, "off": {Off: true}} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
			ok(t, m.Close())
			m = d.open(t, Options{})
			ok(t, must(Register(m, "c", spec)).InvalidateAll())
			ok(t, m.Close())
			equal(t, "entries", len(savedIn(d, "c")), 0)
		})
	}
}
