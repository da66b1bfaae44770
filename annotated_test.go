package cacheman

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/jsonstore"
)

// valuesStore is a store that keeps values only, and survives the Managers that use it.
type valuesStore struct {
	store.Store
	applies int
	fail    error
	after   func() // called when a batch has been written
}

// Caps says that it is atomic, as a store of one file would be: with what is kept elsewhere it is not.
func (s *valuesStore) Caps() store.Caps {
	caps := s.Store.Caps()
	caps.Atomic = true
	return caps
}

func (s *valuesStore) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	s.applies++
	if s.fail != nil {
		return s.fail
	}
	err := s.Store.Apply(ctx, ops)
	if s.after != nil {
		s.after()
	}
	return err
}

// valuesOnly runs a test with each store that keeps values only.
func valuesOnly(t *testing.T, test func(t *testing.T, x *annotatedRun)) {
	for name, open := range map[string]func(dir string) (store.Store, error){
		"csv":  func(dir string) (store.Store, error) { return csvstore.Open(dir, csvstore.Options{}) },
		"json": func(dir string) (store.Store, error) { return jsonstore.Open(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := must(open(dir))
			t.Cleanup(func() { s.Close() })
			x := &annotatedRun{t: t, d: newDisk(), s: &valuesStore{Store: s}, version: "1", name: "double", runs: map[string]int{}, dir: dir}
			x.open()
			test(t, x)
		})
	}
}

// annotatedRun is a program of three caches: numbers and their doubles are where only values
// are kept, sums of the doubles in the Manager's own store.
type annotatedRun struct {
	t       *testing.T
	dir     string
	d       *disk
	s       *valuesStore
	m       *Manager
	version string
	name    string // of the cache of doubles, and what it was before
	before  []string
	runs    map[string]int // of builders
	in      *Cache[string, int]
	double  *Cache[string, int]
	sum     *Cache[string, int]
}

func (x *annotatedRun) open() {
	x.m = x.d.open(x.t, Options{Autosync: &Autosync{Off: true}})
	x.in = must(Register(x.m, "in", Spec[string, int]{Store: x.s}))
	x.double = must(Register(x.m, x.name, Spec[string, int]{Store: x.s, Version: x.version, Formerly: x.before, Build: func(ctx context.Context, k string) (int, error) {
		x.runs["double "+k]++
		v, err := x.in.Get(ctx, k)
		if v < 0 {
			return 0, Keep(errPlanned)
		}
		return 2 * v, err
	}}))
	x.registerSum()
}

// registerSum registers the sums of two doubles.
func (x *annotatedRun) registerSum() {
	x.sum = must(Register(x.m, "sum", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		x.runs["sum "+k]++
		one, err1 := x.double.Get(ctx, k[:1])
		two, err2 := x.double.Get(ctx, k[1:])
		return one + two, errors.Join(err1, err2)
	}}))
}

func (x *annotatedRun) reopen() {
	x.t.Helper()
	ok(x.t, x.m.Close())
	x.open()
}

// want asks for a sum, and says which builders have to run.
func (x *annotatedRun) want(k string, sum int, runs ...string) {
	x.t.Helper()
	clear(x.runs)
	v, err := x.sum.Get(x.t.Context(), k)
	ok(x.t, err)
	equal(x.t, k, v, sum)
	x.wantRuns(runs...)
}

func (x *annotatedRun) wantRuns(runs ...string) {
	x.t.Helper()
	want := map[string]int{}
	for _, r := range runs {
		want[r] = 1
	}
	if !maps.Equal(x.runs, want) {
		x.t.Fatalf("builders that ran: %v, want %v", x.runs, want)
	}
}

// TestValuesOnly: where a store keeps values only, what they were built from is kept beside
// them: a restart is no change, and what has changed is built again, and nothing else.
func TestValuesOnly(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		for i, k := range []string{"a", "b", "c"} {
			ok(t, x.in.Set(k, i+1))
		}
		x.want("ab", 6, "double a", "double b", "sum ab")
		x.want("bc", 10, "double c", "sum bc")
		x.reopen()
		x.want("ab", 6)
		x.want("bc", 10)
		equal(t, "written for nothing", x.s.applies, 1)
		x.reopen()
		ok(t, x.in.Set("c", 4))
		x.want("ab", 6)
		x.want("bc", 12, "double c", "sum bc")
		x.reopen()
		x.want("ab", 6)
		x.want("bc", 12)
		ok(t, x.double.Invalidate("a")) // and comes out the same
		x.reopen()
		x.want("ab", 6, "double a")
		x.version = "2"
		x.reopen()
		x.want("ab", 6, "double a", "double b")
		x.reopen()
		x.want("ab", 6)
		ok(t, x.double.Set("a", 100)) // by hand
		x.want("ab", 104, "sum ab")
		x.reopen()
		ok(t, x.in.Set("a", 5))
		x.want("ab", 104)
		x.name, x.before = "twice", []string{"double"}
		x.reopen()
		x.want("ab", 104)
		x.want("bc", 12, "double c")
		x.reopen()
		x.want("bc", 12)
	})
}

// TestValuesOnlyResults: that there is no value, and errors that are kept, are results there, too.
func TestValuesOnlyResults(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		get := func(k string, want error, runs ...string) {
			t.Helper()
			clear(x.runs)
			if _, err := x.double.Get(t.Context(), k); !errors.Is(err, want) && fmt.Sprint(err) != fmt.Sprint(want) {
				var kept *KeptError
				if !errors.As(err, &kept) || kept.Text != want.Error() {
					t.Fatal(err)
				}
			}
			x.wantRuns(runs...)
		}
		ok(t, x.in.Set("n", -1))
		get("a", ErrNotFound, "double a")
		get("n", errPlanned, "double n")
		x.reopen()
		get("a", ErrNotFound)
		get("n", errPlanned)
		ok(t, x.in.Set("a", 1))
		ok(t, x.in.Set("n", 1))
		get("a", nil, "double a")
		get("n", nil, "double n")
		x.reopen()
		get("a", nil)
		get("n", nil)
		ok(t, x.in.Delete("a"))
		get("a", ErrNotFound, "double a")
		x.reopen()
		get("a", ErrNotFound)
	})
}

// TestValuesEdited: what somebody else has written to the files is new, once, and only that.
func TestValuesEdited(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		for i, k := range []string{"a", "b", "c"} {
			ok(t, x.in.Set(k, i+1))
		}
		x.want("ab", 6, "double a", "double b", "sum ab")
		x.want("bc", 10, "double c", "sum bc")
		ok(t, x.m.Close())
		edit := func(cache, key, value string) {
			t.Helper()
			must(0, x.s.Store.Apply(t.Context(), given([]store.Op{{Kind: store.Put, Cache: cache, Key: []byte(key), Value: []byte(value)}})))
		}
		record := func(cache, key string) string {
			for rec, err := range x.s.Store.Load(t.Context(), cache) {
				if ok(t, err); string(rec.Key) == key {
					return string(rec.Value)
				}
			}
			t.Fatalf("%s has no %s", cache, key)
			return ""
		}
		var keys []string
		for rec, err := range x.s.Store.Load(t.Context(), "in") {
			ok(t, err)
			keys = append(keys, string(rec.Key))
		}
		equal(t, "keys", len(keys), 3)
		three := record("in", "c")
		edit("in", "a", three)
		x.open()
		x.want("bc", 10)
		x.want("ab", 10, "double a", "sum ab")
		applies := x.s.applies
		x.reopen()
		equal(t, "one more for the double", x.s.applies, applies+1)
		x.want("ab", 10)
		x.want("bc", 10)
		ok(t, x.m.Close())
		edit("double", "b", three) // which is 3, and stays until it is invalidated
		x.open()
		x.want("ab", 9, "sum ab")
		ok(t, x.in.Set("b", 9))
		x.want("ab", 9)
		ok(t, x.double.Invalidate("b"))
		x.want("ab", 24, "double b", "sum ab")
		ok(t, x.m.Close())
		must(0, x.s.Store.Apply(t.Context(), given([]store.Op{{Kind: store.Delete, Cache: "double", Key: []byte("a")}})))
		x.open() // what was built and is gone was evicted, so to say
		x.want("ab", 24)
		must(x.double.Get(t.Context(), "a"))
		x.want("ab", 24)
		ok(t, x.m.Close())
		// Somebody has put back what it was once, in the same form.
		edit("in", "a", record("in", "a"))
		x.open()
		x.want("ab", 24)
	})
}

// TestValuesAdopted: files that were there before are not written because they are read, and
// what has read from them is not built again after a restart.
func TestValuesAdopted(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		ok(t, x.in.Set("a", 1))
		ok(t, x.in.Set("b", 2))
		ok(t, x.m.Close())
		x.d = newDisk() // of which nothing is known there
		before := readFiles(t, x.dir)
		applies := x.s.applies
		x.open()
		x.want("ab", 6, "double a", "double b", "sum ab")
		ok(t, x.m.Sync(t.Context(), Only("in")))
		equal(t, "written", x.s.applies, applies)
		if now := readFiles(t, x.dir); !maps.Equal(now, before) {
			t.Errorf("the files have changed: %q, %q", before, now)
		}
		x.reopen()
		x.want("ab", 6)
	})
}

func readFiles(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	for _, e := range must(os.ReadDir(dir)) {
		if !e.IsDir() {
			all[e.Name()] = string(must(os.ReadFile(filepath.Join(dir, e.Name()))))
		}
	}
	return all
}

// TestValuesHalfSaved: a process dies, or saving fails, between what is written to the one
// store and to the other. What comes is right, and what fails is saved the next time.
func TestValuesHalfSaved(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		ok(t, x.in.Set("b", 2))
		for i, n := range []int{1, 10, 1, 7} {
			for _, at := range []string{"values", "notes"} {
				for _, dies := range []bool{false, true} {
					ok(t, x.in.Set("a", n))
					must(x.sum.Get(t.Context(), "ab"))
					ok(t, x.m.Sync(t.Context()))
					ok(t, x.in.Set("a", n+100))
					x.want("ab", 2*n+204, "double a", "sum ab")
					if at == "values" {
						x.s.fail = errPlanned
					} else {
						x.s.after = func() { x.d.setFail(errPlanned) }
					}
					if err := x.m.Sync(t.Context(), Only("in", "double")); !errors.Is(err, errPlanned) {
						t.Fatal(i, at, err)
					}
					if dies {
						x.d.setFail(errPlanned)
						x.s.fail = errPlanned
						x.d, x.s = &disk{Store: x.d.Store}, &valuesStore{Store: x.s.Store}
						x.open()
					} else {
						x.d.setFail(nil)
						x.s.fail, x.s.after = nil, nil
					}
					a := must(x.in.Get(t.Context(), "a"))
					if !dies {
						equal(t, "a", a, n+100)
					}
					for range 2 {
						equal(t, "double", must(x.double.Get(t.Context(), "a")), 2*a)
						equal(t, "sum", must(x.sum.Get(t.Context(), "ab")), 2*a+4)
						x.reopen()
					}
					x.want("ab", 2*a+4)
				}
			}
		}
	})
}

// hookRun is a program of three caches: numbers that a hook loads, their doubles, which hooks
// load and save, and sums of these in the Manager's own store.
type hookRun struct {
	annotatedRun
	data  map[string]int // what there is to load
	saved map[string]int // what was saved
	saves int
	fail  func() error // called when something has been saved
}

func newHookRun(t *testing.T) *hookRun {
	x := &hookRun{data: map[string]int{"a": 1, "b": 2, "c": 3}}
	x.t, x.d, x.version, x.runs = t, newDisk(), "1", map[string]int{}
	x.open()
	return x
}

func (x *hookRun) open() {
	x.m = x.d.open(x.t, Options{Autosync: &Autosync{Off: true}})
	x.in = must(Register(x.m, "in", Spec[string, int]{Load: func(context.Context) (map[string]int, error) { return maps.Clone(x.data), nil }}))
	x.double = must(Register(x.m, "double", Spec[string, int]{
		Version: x.version,
		Load: func(context.Context) (map[string]int, error) {
			if x.saved == nil {
				return nil, ErrNotFound
			}
			return maps.Clone(x.saved), nil
		},
		Save: func(_ context.Context, all map[string]int) error {
			x.saves++
			x.saved = all
			if x.fail != nil {
				return x.fail()
			}
			return nil
		},
		Build: func(ctx context.Context, k string) (int, error) {
			x.runs["double "+k]++
			v, err := x.in.Get(ctx, k)
			return 2 * v, err
		},
	}))
	x.registerSum()
}

func (x *hookRun) reopen() {
	x.t.Helper()
	ok(x.t, x.m.Close())
	x.open()
}

// TestHooks: what hooks load is what it was, if it is the same, and what it was built from
// is known.
func TestHooks(t *testing.T) {
	x := newHookRun(t)
	x.want("ab", 6, "double a", "double b", "sum ab")
	x.want("bc", 10, "double c", "sum bc")
	x.reopen()
	equal(t, "saves", x.saves, 1)
	x.want("ab", 6)
	x.want("bc", 10)
	x.reopen()
	equal(t, "saves", x.saves, 1)
	x.data["c"] = 4
	x.reopen()
	x.want("ab", 6)
	x.want("bc", 12, "double c", "sum bc")
	ok(t, x.m.Sync(t.Context(), Only("double")))
	equal(t, "notes", len(x.d.ops), 1) // on what was built, and no others
	x.reopen()
	equal(t, "saves", x.saves, 2)
	x.want("bc", 12)
	x.version = "2"
	x.reopen()
	x.want("ab", 6, "double a", "double b")
	x.reopen()
	x.want("ab", 6)
	x.want("bc", 12, "double c")
	ok(t, x.m.Sync(t.Context()))
	x.saved["a"] = 100 // somebody else has
	x.reopen()
	x.want("ab", 104, "sum ab")
	x.data["a"] = 7
	x.reopen()
	x.want("ab", 104)
	ok(t, x.double.Invalidate("a"))
	x.want("ab", 18, "double a", "sum ab")
	x.reopen()
	x.want("ab", 18)
	ok(t, x.double.InvalidateAll())
	x.reopen()
	x.want("ab", 18, "double a", "double b", "sum ab")
	x.reopen()
	x.want("ab", 18)
}

// TestHooksReadElsewhere: notes on what a hook has loaded are saved also if nothing else is,
// in the Manager's own store.
func TestHooksReadElsewhere(t *testing.T) {
	d, other, runs := newDisk(), newDisk(), 0
	for range 3 {
		m := d.open(t, Options{})
		in := must(Register(m, "in", Spec[int, int]{Load: func(context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil }}))
		c := must(Register(m, "c", Spec[int, int]{Store: other, Build: func(ctx context.Context, k int) (int, error) {
			runs++
			return in.Get(ctx, k)
		}}))
		equal(t, "c", must(c.Get(t.Context(), 1)), 1)
		ok(t, c.Sync(t.Context()))
		ok(t, m.Close())
		equal(t, "runs", runs, 1)
	}
}

// TestHooksHalfSaved: a process dies, or saving fails, between the Save hook and what is kept
// beside it.
func TestHooksHalfSaved(t *testing.T) {
	x := newHookRun(t)
	for i, n := range []int{1, 10, 1, 7} {
		for _, at := range []string{"hook", "notes"} {
			for _, dies := range []bool{false, true} {
				x.data["a"] = n
				x.reopen()
				must(x.sum.Get(t.Context(), "ab"))
				x.data["a"] = n + 100
				x.reopen()
				x.want("ab", 2*n+204, "double a", "sum ab")
				x.fail = func() error {
					if at == "hook" {
						return errPlanned
					}
					x.d.setFail(errPlanned)
					return nil
				}
				if err := x.m.Sync(t.Context(), Only("double")); !errors.Is(err, errPlanned) {
					t.Fatal(i, at, err)
				}
				if dies {
					x.d.setFail(errPlanned)
					saved := maps.Clone(x.saved)
					x.fail = func() error { x.saved = saved; return errPlanned }
					dead := x.m
					x.d = &disk{Store: x.d.Store}
					x.data["a"] = n + 200
					x.open()
					dead.Close()
					x.fail = nil
				} else {
					x.d.setFail(nil)
					x.fail = nil
				}
				a := must(x.in.Get(t.Context(), "a"))
				for range 2 {
					equal(t, "double", must(x.double.Get(t.Context(), "a")), 2*a)
					equal(t, "sum", must(x.sum.Get(t.Context(), "ab")), 2*a+4)
					x.reopen()
				}
				x.want("ab", 2*a+4)
			}
		}
	}
}

// TestValuesEditedAndReloaded: what somebody else has written is new once, also if the files are
// read again before anything is saved.
func TestValuesEditedAndReloaded(t *testing.T) {
	valuesOnly(t, func(t *testing.T, x *annotatedRun) {
		for i, k := range []string{"a", "b", "c"} {
			ok(t, x.in.Set(k, i+1))
		}
		x.want("ab", 6, "double a", "double b", "sum ab")
		ok(t, x.m.Sync(t.Context()))
		value := func(k string) (v []byte) {
			for rec, err := range x.s.Store.Load(t.Context(), "in") {
				if ok(t, err); string(rec.Key) == k {
					v = rec.Value
				}
			}
			return v
		}
		ok(t, x.s.Store.Apply(t.Context(), given([]store.Op{{Kind: store.Put, Cache: "in", Key: []byte("a"), Value: value("c")}})))
		ok(t, x.in.Reload(t.Context()))
		x.want("ab", 10, "double a", "sum ab")
		for range 2 {
			ok(t, x.in.Reload(t.Context()))
			x.want("ab", 10)
		}
		x.reopen()
		x.want("ab", 10)
		ok(t, x.in.Reload(t.Context()))
		x.want("ab", 10)
	})
}

// TestValuesUnchanged: a run that changes nothing saves nothing.
func TestValuesUnchanged(t *testing.T) {
	d, dir := newDisk(), t.TempDir()
	synced := 0
	run := func(do func(*Cache[string, string])) {
		s := must(csvstore.Open(dir, csvstore.Options{}))
		m := d.open(t, Options{Observe: func(e Event) {
			if e.Kind == EventSynced {
				synced++
			}
		}})
		do(must(Register(m, "c", Spec[string, string]{Store: s})))
		ok(t, m.Close())
		ok(t, s.Close())
	}
	run(func(c *Cache[string, string]) { ok(t, c.Set("k", "v")) })
	read := func(c *Cache[string, string]) { equal(t, "k", must(c.Get(t.Context(), "k")), "v") }
	run(read) // what it was built from, which is nothing, may be noted
	synced = 0
	run(read)
	equal(t, "saved", synced, 0)
}
