package cacheman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// network registers int caches for edges "dependent<upstream" (or "<<" for on
// change), each holding {1: 1}.
func network(t *testing.T, m *Manager, names string, edges ...string) map[string]*Cache[int, int] {
	t.Helper()
	caches := make(map[string]*Cache[int, int])
	for name := range strings.FieldsSeq(names) {
		caches[name] = must(Register(m, name, Spec[int, int]{}))
	}
	for _, e := range edges {
		if a, b, onChange := strings.Cut(e, "<<"); onChange {
			ok(t, m.DependOnChange(a, b))
		} else {
			a, b, _ := strings.Cut(e, "<")
			ok(t, m.Depend(a, b))
		}
	}
	for _, c := range caches {
		ok(t, c.SetAll(func(yield func(int, int) bool) { yield(1, 1) }))
	}
	for _, c := range caches { // setting has dropped those that depend on change
		ok(t, c.Set(1, 1))
	}
	return caches
}

// full returns the names of the caches that hold something.
func full(caches map[string]*Cache[int, int]) string {
	var names []string
	for name, c := range caches {
		if c.Len() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestDescriptionsAreJSON: however they are made.
func TestDescriptionsAreJSON(t *testing.T) {
	plain := 0
	for _, text := range []string{"", "map[string]*a/b.T", "v1", `a"b`, `a\b`, "a<b>", "é", "\x7f", "a\nb", "\u2028", "\xff"} {
		for i := range 64 {
			some := func(bit int) string {
				if i&(1<<bit) != 0 {
					return text
				}
				return "x y"
			}
			d := description{Format: i, Type: some(0), Version: some(1), KeyCodec: some(2), Codec: some(3), Schema: some(4)}
			if i&32 != 0 {
				d.Unbuilt = i&1 != 0
				d.Whole = []byte(some(2))
				if i&3 == 3 {
					d.DependsOn = []dependency{{Cache: text}}
				}
			}
			if _, is := d.appendPlain(nil); is {
				plain++
			}
			equal(t, "description", string(d.encode()), string(must(json.Marshal(d))))
			if text != "\xff" {
				again := must(parseDescription(d.encode()))
				equal(t, "type", again.Type, d.Type)
			}
		}
	}
	if plain < 100 {
		t.Errorf("%d descriptions were made without package json", plain)
	}
}

func TestVerbsAndDependents(t *testing.T) {
	const names = "root mid left right low other"
	edges := []string{"mid<root", "left<mid", "right<mid", "low<left", "low<right"}
	tests := []struct {
		name string
		do   func(m *Manager, root *Cache[int, int]) error
		full string
	}{
		{"set", func(_ *Manager, c *Cache[int, int]) error { return c.Set(1, 2) }, "left low mid other right root"},
		{"delete", func(_ *Manager, c *Cache[int, int]) error { return c.Delete(1) }, "left low mid other right"},
		{"invalidate a key", func(_ *Manager, c *Cache[int, int]) error { return c.Invalidate(1) }, "left low mid other right"},
		{"invalidate", func(_ *Manager, c *Cache[int, int]) error { return c.InvalidateAll() }, "other"},
		{"touch", func(_ *Manager, c *Cache[int, int]) error { return c.Touch() }, "other root"},
		{"rebuild", func(_ *Manager, c *Cache[int, int]) error { return c.Rebuild(context.Background()) }, "other"},
		{"reload", func(_ *Manager, c *Cache[int, int]) error { return c.Reload(context.Background()) }, "left low mid other right"},
		{"clear", func(_ *Manager, c *Cache[int, int]) error { return c.Clear() }, "left low mid other right"},
		{"invalidate two", func(m *Manager, _ *Cache[int, int]) error { return m.Invalidate(Only("left", "other")) }, "mid right root"},
		{"touch all", func(m *Manager, _ *Cache[int, int]) error { return m.Touch(All()) }, "left low mid other right root"},
		{"invalidate all", func(m *Manager, _ *Cache[int, int]) error { return m.Invalidate(All()) }, ""},
		{"reload with dependents", func(m *Manager, _ *Cache[int, int]) error {
			return m.Reload(context.Background(), WithDependents("mid"))
		}, "other root"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newManager(t)
			caches := network(t, m, names, edges...)
			ok(t, test.do(m, caches["root"]))
			equal(t, "caches that hold something", full(caches), test.full)
		})
	}
}

func TestDependOnChange(t *testing.T) {
	writes := map[string]func(c *Cache[int, int]) error{
		"set":    func(c *Cache[int, int]) error { return c.Set(2, 2) },
		"delete": func(c *Cache[int, int]) error { return c.Delete(1) },
		"update": func(c *Cache[int, int]) error {
			_, err := c.Update(1, func(int, bool) (int, bool) { return 2, true })
			return err
		},
		"clear":      func(c *Cache[int, int]) error { return c.Clear() },
		"invalidate": func(c *Cache[int, int]) error { return c.Invalidate(1) },
		"touch":      func(c *Cache[int, int]) error { return c.Touch() },
		"reload":     func(c *Cache[int, int]) error { return c.Reload(context.Background()) },
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			caches := network(t, m, "root mid low plain", "mid<<root", "low<mid", "plain<root")
			for _, n := range []string{"mid", "low", "plain"} { // root was set last by chance
				ok(t, caches[n].Set(1, 1))
			}
			ok(t, write(caches["root"]))
			for _, n := range []string{"mid", "low"} {
				equal(t, n, caches[n].Len(), 0)
			}
			if (name == "touch") == (caches["plain"].Len() == 1) {
				t.Error("a dependent that is not on change was treated as one, or the reverse")
			}
			checkSaved(t, d, m, caches["root"], caches["mid"], caches["low"], caches["plain"])
		})
	}
	t.Run("a delete of nothing", func(t *testing.T) {
		caches := network(t, newManager(t), "root mid", "mid<<root")
		caches["mid"].Set(1, 1)
		ok(t, caches["root"].Delete(99))
		equal(t, "mid", caches["mid"].Len(), 1)
	})
}

// TestBuildIsNoChange: that an entry is built on demand does not invalidate the
// cache for which it is built.
func TestBuildIsNoChange(t *testing.T) {
	m := newManager(t)
	files := must(Register(m, "files", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k * k, nil }}))
	sums := must(Register(m, "sums", Spec[int, int]{
		DependsOnChange: []string{"files"},
		Build: func(ctx context.Context, k int) (sum int, err error) {
			for i := range k {
				v, err := files.Get(ctx, i)
				if err != nil {
					return 0, err
				}
				sum += v
			}
			return sum, nil
		},
	}))
	equal(t, "sum", must(sums.Get(t.Context(), 4)), 14)
	equal(t, "sum", must(sums.Get(t.Context(), 4)), 14)
	equal(t, "builds", sums.Stats().Builds, 1)
	ok(t, files.Invalidate(2))
	equal(t, "sum", must(sums.Get(t.Context(), 4)), 14)
	equal(t, "builds", sums.Stats().Builds, 2)
}

func TestCircularDependents(t *testing.T) {
	m := newManager(t)
	caches := network(t, m, "a b c d", "a<b", "b<c", "c<a", "d<b", "d<d")
	ok(t, caches["b"].InvalidateAll())
	equal(t, "caches that hold something", full(caches), "")
	caches = network(t, newManager(t), "a b", "a<<b", "b<<a")
	ok(t, caches["a"].Set(1, 7))
	equal(t, "caches that hold something", full(caches), "a")
}

// TestInvalidationIsOneBatch: the invalidation of a cache and of everything
// that depends on it is in one batch of the store; a crash after it revives
// nothing.
func TestInvalidationIsOneBatch(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	caches := network(t, m, "root mid low", "mid<root", "low<mid")
	ok(t, m.Sync(t.Context()))
	ok(t, caches["root"].InvalidateAll())
	before := d.count()
	ok(t, m.Sync(t.Context()))
	equal(t, "batches", d.count()-before, 1)
	drops := 0
	for _, op := range d.ops {
		if op.Kind == store.Drop {
			drops++
		}
	}
	equal(t, "drops", drops, 3)
	m2 := (&disk{Store: d.Store}).open(t, Options{}) // m is not closed: it crashed
	for name := range caches {
		wantContents(t, must(Register(m2, name, Spec[int, int]{})), map[int]int{})
	}
}

// TestDependentsNotRegistered: dependents that this run of the program does not
// register are invalidated all the same.
func TestDependentsNotRegistered(t *testing.T) {
	for _, how := range []string{"invalidate", "set"} {
		t.Run(how, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			caches := network(t, m, "root mid low", "mid<<root", "low<mid")
			caches["mid"].Set(1, 1)
			caches["low"].Set(1, 1)
			ok(t, m.Close())

			m = d.open(t, Options{})
			root := must(Register(m, "root", Spec[int, int]{}))
			if how == "set" {
				ok(t, root.Set(5, 5))
			} else {
				ok(t, root.InvalidateAll())
			}
			ok(t, m.Close())

			m = d.open(t, Options{})
			for _, name := range []string{"mid", "low"} {
				wantContents(t, must(Register(m, name, Spec[int, int]{})), map[int]int{})
			}
		})
	}
}

// TestDependentsOfRenamed: what is declared of a cache is declared of it under another name,
// also in runs that register neither it nor its dependents.
func TestDependentsOfRenamed(t *testing.T) {
	for _, test := range []struct{ renaming, later string }{ // what is registered; the last is invalidated
		{"root mid2", ""},
		{"root mid2", "root"},
		{"root mid2", "low root"},
		{"root low mid2", "root"},
		{"mid2", ""},
		{"mid2", "root"},
		{"mid2", "low mid2"},
		{"mid2 root", "root mid2"},
	} {
		for _, loaded := range []bool{false, true} {
			d := newDisk()
			m := d.open(t, Options{})
			network(t, m, "root mid low", "mid<root", "low<mid")
			ok(t, m.Close())
			run := func(register string, invalidates bool) {
				t.Helper()
				m := d.open(t, Options{})
				var last *Cache[int, int]
				for name := range strings.FieldsSeq(register) {
					spec := Spec[int, int]{}
					if name == "mid2" {
						spec.Formerly = []string{"mid"}
					}
					last = must(Register(m, name, spec))
					if loaded {
						equal(t, name+" before", last.Len(), 1)
					}
				}
				if invalidates {
					ok(t, last.InvalidateAll())
					for _, name := range m.Names() {
						if c := must(Lookup[int, int](m, name)); name != "root" {
							equal(t, name+" afterwards", c.Len(), 0)
						}
					}
				}
				ok(t, m.Close())
			}
			run(test.renaming, test.later == "")
			if test.later != "" {
				run(test.later, true)
			}
			m = d.open(t, Options{})
			c := must(Register(m, "mid2", Spec[int, int]{Formerly: []string{"mid"}}))
			wantContents(t, c, map[int]int{})
			wantContents(t, must(Register(m, "low", Spec[int, int]{})), map[int]int{})
		}
	}
}

// TestDependencyOfRenamed: a dependency that is declared for a cache under its new name is saved
// though nobody has looked at its contents.
func TestDependencyOfRenamed(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	network(t, m, "a b")
	ok(t, m.Close())
	m = d.open(t, Options{})
	a := must(Register(m, "a", Spec[int, int]{}))
	must(Register(m, "b2", Spec[int, int]{Formerly: []string{"b"}, DependsOn: []string{"a"}}))
	ok(t, m.Deregister(t.Context(), Only("b2")))
	ok(t, a.InvalidateAll())
	wantContents(t, must(Register(m, "b2", Spec[int, int]{Formerly: []string{"b"}})), map[int]int{})
}

// TestTouchedCircleOfRenamed: a cache that is touched is not its own dependent under the name
// that it had before.
func TestTouchedCircleOfRenamed(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	network(t, m, "a b", "a<b", "b<a")
	ok(t, m.Close())
	m = d.open(t, Options{})
	a := must(Register(m, "a2", Spec[int, int]{Formerly: []string{"a"}}))
	b := must(Register(m, "b", Spec[int, int]{}))
	ok(t, a.Touch())
	wantContents(t, a, map[int]int{1: 1})
	wantContents(t, b, map[int]int{})
}

// TestDependencyDeclaredLater: a dependency that is declared for contents which
// were saved before is stored even if they do not change.
func TestDependencyDeclaredLater(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	network(t, m, "root edge")
	ok(t, m.Close())
	m = d.open(t, Options{})
	must(Register(m, "root", Spec[int, int]{}))
	must(Register(m, "edge", Spec[int, int]{DependsOn: []string{"root"}}))
	ok(t, m.Close())
	m = d.open(t, Options{})
	ok(t, must(Register(m, "root", Spec[int, int]{})).InvalidateAll())
	ok(t, m.Close())
	m = d.open(t, Options{})
	wantContents(t, must(Register(m, "edge", Spec[int, int]{})), map[int]int{})
}

// TestLongChain: a hundred thousand caches in a row, and no recursion.
func TestLongChain(t *testing.T) {
	const n = 100_000
	d := newDisk()
	m := d.open(t, Options{})
	caches := make([]*Cache[int, int], n)
	for i := range caches {
		spec := Spec[int, int]{}
		if i > 0 {
			spec.DependsOn = []string{fmt.Sprint(i - 1)}
		}
		caches[i] = must(Register(m, fmt.Sprint(i), spec))
		caches[i].Set(1, 1)
	}
	ok(t, m.Sync(t.Context()))
	ok(t, caches[0].InvalidateAll())
	for i, c := range caches {
		if c.Len() != 0 {
			t.Fatalf("cache %d is still full", i)
		}
	}
	ok(t, m.Rebuild(t.Context(), WithDependents("0")))
	ok(t, m.Reload(t.Context(), All()))
	ok(t, m.Deregister(t.Context(), WithDependents("0")))
}

// TestUpstreamFirst checks the order against its definition, for graphs without
// circles, and that circles lose nobody.
func TestUpstreamFirst(t *testing.T) {
	m := newManager(t)
	network(t, m, "a b c d e f", "a<b", "b<c", "a<c", "d<a", "d<e")
	slots := must(m.resolve("test", All(), false))
	place := make(map[string]int)
	for i, s := range slots {
		place[s.name] = i
	}
	for _, e := range []string{"a<b", "b<c", "a<c", "d<a", "d<e"} {
		a, b, _ := strings.Cut(e, "<")
		if place[a] < place[b] {
			t.Errorf("%s comes before %s, on which it depends", a, b)
		}
	}
	equal(t, "caches", len(slots), 6)
	ok(t, m.Depend("c", "d"))
	ok(t, m.Depend("f", "f"))
	equal(t, "caches with circles", len(must(m.resolve("test", All(), false))), 6)
}

// TestRebuildOrder: rebuilding with dependents builds upstream first, each
// cache once, and saves.
func TestRebuildOrder(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	var mu sync.Mutex
	var built []string
	all := func(name string) func(context.Context) (map[int]int, error) {
		return func(context.Context) (map[int]int, error) {
			mu.Lock()
			defer mu.Unlock()
			built = append(built, name)
			return map[int]int{1: len(built)}, nil
		}
	}
	must(Register(m, "z root", Spec[int, int]{BuildAll: all("root")}))
	must(Register(m, "y left", Spec[int, int]{BuildAll: all("left"), DependsOn: []string{"z root"}}))
	must(Register(m, "x right", Spec[int, int]{BuildAll: all("right"), DependsOn: []string{"z root"}}))
	low := must(Register(m, "a low", Spec[int, int]{BuildAll: all("low"), DependsOn: []string{"y left", "x right"}}))
	ok(t, m.Rebuild(t.Context(), WithDependents("z root")))
	if len(built) != 4 || built[0] != "root" || built[3] != "low" {
		t.Fatalf("built %v", built)
	}
	checkSaved(t, d, m, low)
	built = nil
	must(Register(m, "keys", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k * 10, nil }, DependsOn: []string{"z root"}}))
	keys := must(Lookup[int, int](m, "keys"))
	must(keys.Get(t.Context(), 3))
	keys.Set(4, 1)
	ok(t, keys.Rebuild(t.Context()))
	wantContents(t, keys, map[int]int{3: 30, 4: 40})
	equal(t, "others built", len(built), 0)
}

func TestDependencyErrors(t *testing.T) {
	m := newManager(t)
	must(Register(m, "a", Spec[int, int]{}))
	for _, err := range []error{m.Depend("a", "typo"), m.Depend("typo", "a"), m.Invalidate(Only("typo")), m.Sync(t.Context(), Only("typo"))} {
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "typo") {
			t.Errorf("got %v", err)
		}
	}
	_, err := Register(m, "b", Spec[int, int]{DependsOn: []string{"typo"}})
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"typo"`) {
		t.Errorf("got %v", err)
	}
	equal(t, "registered", fmt.Sprint(m.Names()), "[a]")
}

// TestReloadInMemory: of a cache in memory nothing is left by Reload, which is a change.
func TestReloadInMemory(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Memory: true}))
	n := must(RegisterValue(m, "n", Spec[Single, int]{DependsOnChange: []string{"in"}, Build: func(context.Context, Single) (int, error) {
		return in.Len(), nil
	}}))
	ok(t, in.Set(1, 1))
	equal(t, "number", must(n.Get(t.Context())), 1)
	ok(t, in.Reload(t.Context()))
	equal(t, "number after Reload", must(n.Get(t.Context())), 0)
	ok(t, in.Reload(t.Context()))
	must(n.Get(t.Context()))
	equal(t, "builds", n.Stats().Builds, 2)
}
