package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
)

func TestNames(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	names := []string{
		"a/b", "../../etc/passwd", "..", ".", "a\x00b", " ", "CON", "a", "A", "ö", "名前", "اسم",
		strings.Repeat("x", 300), strings.Repeat("x", 299) + "y", "a\nb", `"`, `\`, "🙂", strings.Repeat("é", 2000),
	}
	for i, name := range names {
		must(Register(m, name, Spec[int, int]{})).Set(1, i)
	}
	ok(t, m.Close())
	m = d.open(t, Options{})
	for i, name := range names {
		wantContents(t, must(Register(m, name, Spec[int, int]{})), map[int]int{1: i})
	}
	for _, name := range []string{"", "a\xffb", strings.Repeat("x", 4097)} {
		if _, err := Register(m, name, Spec[int, int]{}); !errors.Is(err, ErrSpec) {
			t.Errorf("%.10q: %v", name, err)
		}
	}
}

func TestRegisterErrors(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[string, int]{}))
	_, err := Register(m, "c", Spec[string, []byte]{})
	if !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "map[string]int") || !strings.Contains(err.Error(), "map[string][]uint8") {
		t.Errorf("another type: %v", err)
	}
	if _, err := Register(m, "c", Spec[string, int]{}); !errors.Is(err, ErrRegistered) {
		t.Errorf("twice: %v", err)
	}
	if got := must(Lookup[string, int](m, "c")); got != c {
		t.Error("Lookup found another cache")
	}
	_, err = Lookup[int, int](m, "c")
	if !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "map[string]int") || !strings.Contains(err.Error(), "map[int]int") {
		t.Errorf("another type: %v", err)
	}
	if _, err := Lookup[int, int](m, "x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := Register(m, "f", Spec[string, func()]{}); !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "func()") {
		t.Errorf("a function as value: %v", err)
	}
	if _, err := Register(m, "f", Spec[string, func()]{Memory: true}); err != nil {
		t.Errorf("a function as value in memory: %v", err)
	}
	specs := []Spec[string, int]{
		{Memory: true, Save: func(context.Context, map[string]int) error { return nil }},
		{Memory: true, Store: memstore.New()},
		{Save: func(context.Context, map[string]int) error { return nil }, Store: memstore.New()},
		{Autosync: &Autosync{Every: -1}},
		{Autosync: &Autosync{Every: 1, Rules: ClassicRules()}},
		{Autosync: &Autosync{Rules: []Rule{{0, 1}}}},
	}
	for i, spec := range specs {
		if _, err := Register(m, fmt.Sprint(i), spec); !errors.Is(err, ErrSpec) {
			t.Errorf("specification %d: %v", i, err)
		}
	}
	if _, err := Open("x", Options{Store: memstore.New()}); !errors.Is(err, ErrSpec) {
		t.Errorf("a directory and a store: %v", err)
	}
}

// TestUseAfterClose: everything answers ErrClosed, or nothing.
func TestUseAfterClose(t *testing.T) {
	for _, how := range []string{"Close", "Deregister"} {
		t.Run(how, func(t *testing.T) {
			m := newManager(t)
			c := must(Register(m, "c", Spec[string, int]{Build: func(context.Context, string) (int, error) { return 1, nil }}))
			c.Set("a", 1)
			if how == "Close" {
				ok(t, m.Close())
			} else {
				ok(t, m.Deregister(t.Context(), Only("c")))
			}
			_, getErr := c.Get(t.Context(), "b")
			_, updateErr := c.Update("a", func(int, bool) (int, bool) { return 1, true })
			errs := map[string]error{
				"Get": getErr, "Update": updateErr, "Set": c.Set("a", 2), "Delete": c.Delete("a"), "Clear": c.Clear(),
				"Invalidate": c.Invalidate("a"), "Load": c.Load(t.Context()), "Reload": c.Reload(t.Context()),
			}
			if how == "Close" {
				_, regErr := Register(m, "d", Spec[string, int]{})
				_, lookErr := Lookup[string, int](m, "c")
				more := map[string]error{
					"Register": regErr, "Lookup": lookErr, "InvalidateAll": c.InvalidateAll(), "Touch": c.Touch(),
					"Sync": c.Sync(t.Context()), "Rebuild": c.Rebuild(t.Context()), "DeleteSaved": c.DeleteSaved(t.Context()),
					"Manager.Sync": m.Sync(t.Context()), "Deregister": m.Deregister(t.Context(), All()),
				}
				maps.Copy(errs, more)
			}
			for name, err := range errs {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, ok := c.Peek("a"); ok || c.Has("a") {
				t.Error("a closed cache gives values")
			}
			wantContents(t, c, map[string]int{})
			c.Stats()
			m.Stats()
		})
	}
}

func TestCloseTwiceAndConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{}))
		c.Set(1, 1)
		no := errors.New("no")
		d.setFail(no)
		d.before = func() { time.Sleep(time.Second) }
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := m.Close(); !errors.Is(err, no) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := m.Shutdown(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait got %v", err)
		}
		wg.Wait()
		if err := m.Close(); !errors.Is(err, no) {
			t.Errorf("got %v", err)
		}
		equal(t, "saves", d.count(), 1)
	})
}

// TestCloseSaves: also what was set while autosync is off or was far away, of
// all caches, in one batch.
func TestCloseSaves(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	must(Register(m, "a", Spec[int, int]{})).Set(1, 1)
	must(Register(m, "b", Spec[int, int]{Autosync: &Autosync{Off: true}})).Set(2, 2)
	must(Register(m, "m", Spec[int, int]{Memory: true})).Set(3, 3)
	ok(t, m.Close())
	equal(t, "batches", d.count(), 1)
	m = d.open(t, Options{})
	wantContents(t, must(Register(m, "a", Spec[int, int]{})), map[int]int{1: 1})
	wantContents(t, must(Register(m, "b", Spec[int, int]{})), map[int]int{2: 2})
	wantContents(t, must(Register(m, "m", Spec[int, int]{})), map[int]int{})
}

// TestHangingHook: a Save hook that lasts until its ctx ends holds up only its
// own cache, and Shutdown with a limit ends it.
func TestHangingHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := d.open(t, Options{Autosync: &Autosync{Every: time.Second}})
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		bad := must(Register(m, "bad", Spec[int, int]{Save: func(ctx context.Context, _ map[int]int) error { return hang(ctx) }}))
		good := must(Register(m, "good", Spec[int, int]{}))
		bad.Set(1, 1)
		good.Set(1, 1)
		time.Sleep(2 * time.Second)
		equal(t, "unsaved", good.Stats().Edits, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := bad.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		good.Set(2, 2)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		m2 := (&disk{Store: d.Store}).open(t, Options{})
		wantContents(t, must(Register(m2, "good", Spec[int, int]{})), map[int]int{1: 1, 2: 2})
	})
}

// TestFailingHooks: every hook, failing and panicking; the error names the
// cache and keeps its cause, and nothing is lost.
func TestFailingHooks(t *testing.T) {
	boom := errors.New("boom")
	for _, panics := range []bool{false, true} {
		fail := func() error {
			if panics {
				panic(boom)
			}
			return boom
		}
		t.Run(fmt.Sprintf("panics=%v", panics), func(t *testing.T) {
			m := newManager(t)
			check := func(name string, err error) {
				t.Helper()
				if !errors.Is(err, boom) || !strings.Contains(err.Error(), " "+name) {
					t.Errorf("%s: %v", name, err)
				}
			}
			load := must(Register(m, "load", Spec[int, int]{Load: func(context.Context) (map[int]int, error) { return nil, fail() }}))
			load.Set(1, 1)
			if v, ok := load.Peek(1); !ok || v != 1 {
				t.Error("what was set is not seen while loading fails")
			}
			check("load", load.Load(t.Context()))
			check("load", load.Reload(t.Context()))
			_, err := load.Get(t.Context(), 2)
			check("load", err)
			save := must(Register(m, "save", Spec[int, int]{Save: func(context.Context, map[int]int) error { return fail() }}))
			save.Set(1, 1)
			check("save", save.Sync(t.Context()))
			equal(t, "unsaved", save.Stats().Edits, 1)
			del := must(Register(m, "del", Spec[int, int]{Delete: func(context.Context) error { return fail() }}))
			del.Set(1, 1)
			ok(t, del.Sync(t.Context()))
			check("del", del.DeleteSaved(t.Context()))
			all := must(Register(m, "all", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) { return nil, fail() }}))
			check("all", all.Load(t.Context()))
			check("all", all.Rebuild(t.Context()))
			_, err = Register(m, "eager", Spec[int, int]{Eager: true, BuildAll: func(context.Context) (map[int]int, error) { return nil, fail() }})
			check("eager", err)
			if _, err := Register(m, "eager", Spec[int, int]{}); err != nil {
				t.Errorf("a failed registration keeps the name: %v", err)
			}
			after := must(Register(m, "after", Spec[int, int]{
				AfterLoad: func(context.Context, int, int) (int, error) { return 0, fail() },
				Build:     func(context.Context, int) (int, error) { return 1, nil },
			}))
			_, err = after.Get(t.Context(), 1)
			check("after", err)
		})
	}
}

// TestLoadFails: contents that cannot be loaded are built if they can be; if
// not, a save of the whole contents does not overwrite them.
func TestLoadFails(t *testing.T) {
	m := newManager(t)
	boom := errors.New("boom")
	fails := true
	load := func(context.Context) (map[int]int, error) {
		if fails {
			return nil, boom
		}
		return map[int]int{1: 1}, nil
	}
	built := must(Register(m, "built", Spec[int, int]{Load: load, BuildAll: func(context.Context) (map[int]int, error) { return map[int]int{1: 5}, nil }}))
	equal(t, "built", must(built.Get(t.Context(), 1)), 5)

	var saved map[int]int
	whole := must(Register(m, "whole", Spec[int, int]{Load: load, Save: func(_ context.Context, c map[int]int) error { saved = c; return nil }}))
	whole.Set(2, 2)
	if err := whole.Sync(t.Context()); !errors.Is(err, boom) || saved != nil {
		t.Fatalf("%v, saved %v", err, saved)
	}
	fails = false
	ok(t, whole.Sync(t.Context()))
	equal(t, "saved", fmt.Sprint(saved), "map[1:1 2:2]")
}

// TestUndecodable: values that no longer decode are misses with a reason, and
// are built again.
func TestUndecodable(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	c := must(Register(m, "c", Spec[string, string]{Codec: codec.JSON[string]()}))
	c.Set("a", "text")
	c.Set("b", "text")
	ok(t, m.Close())

	var damaged []Event
	observe := func(e Event) {
		if e.Kind == EventDamaged || e.Kind == EventInvalidated {
			damaged = append(damaged, e)
		}
	}
	m = d.open(t, Options{Observe: observe})
	n := must(Register(m, "c", Spec[string, int]{Codec: codec.JSON[int](), Build: func(context.Context, string) (int, error) { return 7, nil }}))
	equal(t, "built", must(n.Get(t.Context(), "a")), 7)
	if _, ok := n.Peek("b"); ok || n.Len() != 1 {
		t.Error("an undecodable value is there")
	}
	if len(damaged) != 2 || damaged[0].Cache != "c" || damaged[0].Key != "a" || damaged[0].Err == nil {
		t.Errorf("events: %+v", damaged)
	}
	ok(t, m.Close())
	m = d.open(t, Options{})
	n = must(Register(m, "c", Spec[string, int]{Codec: codec.JSON[int]()}))
	equal(t, "built again and saved", must(n.Get(t.Context(), "a")), 7)
	ok(t, m.Close())

	// Another codec: nothing can be read, and nothing is mixed.
	damaged = nil
	m = d.open(t, Options{Observe: observe})
	f := must(Register(m, "c", Spec[string, float64]{}))
	wantContents(t, f, map[string]float64{})
	if len(damaged) != 1 || !strings.Contains(damaged[0].Reason, "json") {
		t.Errorf("events: %+v", damaged)
	}
	f.Set("z", 1)
	ok(t, m.Close())
	m = d.open(t, Options{})
	wantContents(t, must(Register(m, "c", Spec[string, float64]{})), map[string]float64{"z": 1})
}

// TestOwnStore: caches with a store of their own are saved there and nowhere
// else, and the Manager does not close it.
func TestOwnStore(t *testing.T) {
	d, own := newDisk(), memstore.New()
	m := d.open(t, Options{})
	must(Register(m, "c", Spec[int, int]{Store: own})).Set(1, 1)
	must(Register(m, "d", Spec[int, int]{Store: own})).Set(2, 2)
	ok(t, m.Close())
	equal(t, "batches of the Manager's store", d.count(), 0)
	m = d.open(t, Options{})
	c := must(Register(m, "c", Spec[int, int]{Store: own}))
	wantContents(t, c, map[int]int{1: 1})
	ok(t, c.DeleteSaved(t.Context()))
	infos := must(own.Caches(t.Context()))
	if len(infos) != 2 || infos[0].Cache != revisions || infos[1].Cache != "d" {
		t.Errorf("the store has %v", infos)
	}
}

// TestDirectory: the default store, a whole life.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	m := must(Open(dir, Options{}))
	equal(t, "directory", m.Dir(), dir)
	c := must(Register(m, "c", Spec[string, []int]{}))
	c.Set("a", []int{1, 2})
	_, err := Open(dir, Options{})
	locked, isLocked := errors.AsType[*store.LockedError](err)
	if !errors.Is(err, ErrLocked) || !isLocked || locked.PID != os.Getpid() || locked.Since.IsZero() {
		t.Errorf("a second Manager: %v", err)
	}
	ok(t, m.Close())
	m = must(Open(dir, Options{}))
	c = must(Register(m, "c", Spec[string, []int]{}))
	equal(t, "after a restart", fmt.Sprint(must(c.Get(t.Context(), "a"))), "[1 2]")
	ok(t, m.Close())

	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as directory: %v", err)
	}
}

func TestDefaultDirectory(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, home)
	}
	m := must(Open("", Options{Program: "example.org/tool"}))
	defer m.Close()
	if rel, err := filepath.Rel(home, m.Dir()); err != nil || !filepath.IsLocal(rel) || !strings.HasSuffix(filepath.ToSlash(rel), "example.org/tool") {
		t.Errorf("the directory is %s", m.Dir())
	}
	if _, err := Open("", Options{Program: "../up"}); err == nil {
		t.Error("a program name led out of the cache directory")
	}
	m2 := must(Open("", Options{}))
	defer m2.Close()
	if !strings.HasPrefix(m2.Dir(), home) {
		t.Errorf("the directory is %s", m2.Dir())
	}
}

// TestMovedCache: what a place has of a cache that has been kept elsewhere since
// is out of date, and does not come back.
func TestMovedCache(t *testing.T) {
	var hooked map[string]int
	hook := Spec[string, int]{
		Save: func(_ context.Context, c map[string]int) error { hooked = c; return nil },
		Load: func(context.Context) (map[string]int, error) { return hooked, nil },
	}
	for name, elsewhere := range map[string]Spec[string, int]{"hook": hook, "store": {Store: memstore.New()}} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			m := d.open(t, Options{})
			begin := func(spec Spec[string, int]) *Cache[string, int] { return must(Register(m, "c", spec)) }
			end := func() { ok(t, m.Deregister(t.Context(), Only("c"))) }
			begin(Spec[string, int]{}).Set("old", 1)
			end()
			c := begin(elsewhere)
			wantContents(t, c, map[string]int{})
			c.Set("there", 2)
			end()
			c = begin(Spec[string, int]{})
			wantContents(t, c, map[string]int{})
			c.Set("new", 3)
			end()
			ok(t, m.Close())
			m = d.open(t, Options{})
			wantContents(t, begin(Spec[string, int]{}), map[string]int{"new": 3})
		})
	}
}

// TestFailedEagerLeavesNothing: a registration that failed leaves no dependency.
func TestFailedEagerLeavesNothing(t *testing.T) {
	m := newManager(t)
	up := must(Register(m, "up", Spec[int, int]{}))
	boom := errors.New("boom")
	_, err := Register(m, "c", Spec[int, int]{DependsOn: []string{"up"}, Eager: true, BuildAll: func(context.Context) (map[int]int, error) {
		return nil, boom
	}})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, up.InvalidateAll())
	wantContents(t, c, map[int]int{1: 1})
}

// TestReloadEndedContext: a Reload that does not take place changes nothing.
func TestReloadEndedContext(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{c.Reload(ctx), m.Reload(ctx, All())} {
		if err != context.Canceled {
			t.Errorf("got %v", err)
		}
	}
	wantContents(t, c, map[int]int{1: 1})
}

// TestCloseEndsHooks: hooks that are running see their ctx end when the Manager
// is closed, whoever called them; their callers get ErrClosed, and what is
// unsaved is saved all the same.
func TestCloseEndsHooks(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, hook := range []string{"BuildAll", "Load", "reload", "BeforeSave", "Delete"} {
		t.Run(hook, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				m := d.open(t, Options{Autosync: &Autosync{Off: true}})
				once := true
				spec := Spec[int, int]{}
				call := func(c *Cache[int, int]) error { return c.Load(context.Background()) }
				switch hook {
				case "BuildAll":
					spec.BuildAll = func(ctx context.Context) (map[int]int, error) { return nil, hang(ctx) }
				case "Load", "reload":
					spec.Load = func(ctx context.Context) (map[int]int, error) { return nil, hang(ctx) }
					if hook == "reload" {
						call = func(c *Cache[int, int]) error { return c.Reload(context.Background()) }
					}
				case "BeforeSave":
					spec.BeforeSave = func(ctx context.Context, _, v int) (int, error) {
						if once {
							once = false
							return v, hang(ctx)
						}
						return v, nil
					}
					call = func(c *Cache[int, int]) error { return c.Sync(context.Background()) }
				case "Delete":
					spec.Delete = hang
					call = func(c *Cache[int, int]) error { return c.DeleteSaved(context.Background()) }
				}
				c := must(Register(m, "c", spec))
				other := must(Register(m, "other", Spec[int, int]{}))
				c.Set(1, 1)
				result := make(chan error, 1)
				go func() { result <- call(c) }()
				synctest.Wait()
				other.Set(1, 1)
				ok(t, m.Close())
				if err := <-result; !errors.Is(err, ErrClosed) {
					t.Errorf("got %v", err)
				}
				m = d.open(t, Options{})
				wantContents(t, must(Register(m, "other", Spec[int, int]{})), map[int]int{1: 1})
			})
		})
	}
}

// How many records there are may not be known before they are loaded: then the
// table is divided when it turns out that they are many. Several entries are unsaved
// then, since a version that is not the one that saved them has nothing built.
func TestLoadOfUnknownNumber(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, growAt, growAt + 1, 3 * growAt} {
		want := map[int]int{}
		for i := range n {
			want[i] = i * i
		}
		d := newDisk()
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{}))
		ok(t, c.SetAll(maps.All(want)))
		ok(t, m.Sync(t.Context()))
		equal(t, "known records", c.slot.records, -1)
		ok(t, c.Reload(t.Context()))
		checkTable(t, c)
		wantContents(t, c, want)
		equal(t, "shards", len(c.table.Load().shards), shardsFor(n))
		ok(t, m.Close())

		m = d.open(t, Options{})
		b := must(Register(m, "c", Spec[int, int]{
			Version: "2",
			Build:   func(context.Context, int) (int, error) { return -1, nil },
		}))
		b.slot.records = -1
		b.state.Store(stateUnloaded)
		ok(t, b.Load(t.Context()))
		checkTable(t, b)
		equal(t, "entries", b.Len(), 0)
		ok(t, m.Close())
	}
}

// A batch deletes an entry and sets it to the value that it had.
func TestBatchDeletesAndSets(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return k, nil }}))
	must(c.Get(t.Context(), 1))
	ok(t, m.Batch(func(b *Batch) error {
		c.DeleteIn(b, 1)
		c.SetIn(b, 1, 1)
		return nil
	}))
	equal(t, "len", c.Len(), 1)
}

// TestErrorsOfNotes: what is written to a cache in memory fails as that, though there is
// something to note before; see hand.go.
func TestErrorsOfNotes(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{Memory: true, Build: func(context.Context, int) (int, error) { return 1, nil }}))
	ok(t, m.Close())
	for want, err := range map[string]error{
		"cacheman: set c[1]: closed":        c.Set(1, 1),
		"cacheman: delete c[1]: closed":     c.Delete(1),
		"cacheman: invalidate c[1]: closed": c.Invalidate(1),
		"cacheman: clear c: closed":         c.Clear(),
		"cacheman: invalidate: closed":      c.InvalidateAll(),
		"cacheman: batch: closed":           m.Batch(func(b *Batch) error { c.SetIn(b, 1, 1); return nil }),
	} {
		if !errors.Is(err, ErrClosed) || err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

// TestErrorsBesideOthers: what a store answers says which operation it was, also beside what is
// said of entries, and on which cache, if it was for one.
func TestErrorsBesideOthers(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{BeforeSave: func(context.Context, int, int) (int, error) { return 0, errors.New("unlucky") }}))
	hook := must(Register(m, "hook", Spec[int, int]{
		Load: func(context.Context) (map[int]int, error) { return nil, ErrNotFound },
		Save: func(context.Context, map[int]int) error { return nil },
	}))
	ok(t, c.Set(1, 1))
	d.setFail(errPlanned)
	equal(t, "sync", m.Sync(t.Context()).Error(), "cacheman: sync c[1]: unlucky\ncacheman: sync: planned")
	equal(t, "notes", hook.DeleteSaved(t.Context()).Error(), "cacheman: delete hook: planned")
	m.Close()
}

// TestStatsGoOn: the counts of reads are since the cache was registered.
func TestStatsGoOn(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{}))
	reads := uint64(0)
	for what, replace := range map[string]func() error{
		"InvalidateAll": c.InvalidateAll,
		"Clear":         c.Clear,
		"Reload":        func() error { return c.Reload(t.Context()) },
	} {
		ok(t, c.Set(1, 1))
		c.Peek(1)
		c.Peek(-1)
		reads++
		ok(t, replace())
		st := c.Stats()
		equal(t, "hits after "+what, st.Hits, reads)
		equal(t, "misses after "+what, st.Misses, reads)
	}
}

// TestDeleteSavedUnread: what cannot be read is not deleted, for it would be lost; what is
// beside it is.
func TestDeleteSavedUnread(t *testing.T) {
	ctx := t.Context()
	bad := &unreadable{disk: newDisk()}
	m := openOn(bad)
	for _, name := range []string{"in", "other"} {
		ok(t, must(Register(m, name, Spec[int, int]{})).Set(1, 1))
	}
	ok(t, m.Close())
	m = openOn(bad)
	in, other := must(Register(m, "in", Spec[int, int]{})), must(Register(m, "other", Spec[int, int]{}))
	if err := m.DeleteSaved(ctx, All()); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
	wantContents(t, other, map[int]int{1: 1})
	bad.mended.Store(true)
	wantContents(t, in, map[int]int{1: 1})
	equal(t, "saved", fmt.Sprint(savedIn(bad.disk, "in"), savedIn(bad.disk, "other")), "map[1:1] map[]")
	ok(t, m.Sync(ctx))
	equal(t, "saved again", fmt.Sprint(savedIn(bad.disk, "other")), "map[1:1]")
	ok(t, m.Close())
}

// TestLongNames: whatever name is accepted, the keys of the cache can be depended on.
func TestLongNames(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	if _, err := Register(m, strings.Repeat("x", maxName+1), Spec[int, int]{}); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
	c := must(Register(m, strings.Repeat("x", maxName), Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	top := must(Register(m, "top", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) {
		_, err1 := c.CollectKeys(ctx)
		_, err2 := c.Count(ctx)
		has, err3 := c.Contains(ctx, k)
		return has, errors.Join(err1, err2, err3)
	}}))
	has, err := top.Get(ctx, 1)
	if err != nil {
		t.Fatalf("%.200v", err)
	}
	equal(t, "it has 1", has, true)
	ok(t, m.Sync(ctx))
}

// TestDeleteUndecodable: what cannot be decoded, and is deleted, does not come back when it
// can.
func TestDeleteUndecodable(t *testing.T) {
	ctx := t.Context()
	for _, derives := range []bool{false, true} {
		d := newDisk()
		fails := false
		spec := Spec[int, int]{AfterLoad: func(_ context.Context, _, v int) (int, error) {
			if fails {
				return 0, errPlanned
			}
			return v, nil
		}}
		if derives {
			spec.Build = func(context.Context, int) (int, error) { return 7, nil }
		}
		m := openOn(d)
		c := must(Register(m, "c", spec))
		for k := range 3 {
			if derives {
				must(c.Get(ctx, k))
			} else {
				ok(t, c.Set(k, 7))
			}
		}
		ok(t, m.Close())
		m = openOn(d)
		c = must(Register(m, "c", spec))
		fails = true
		for k := range 3 {
			equal(t, "it is there", c.Has(k), false)
		}
		ok(t, c.Delete(1))
		ok(t, m.Batch(func(b *Batch) error { c.DeleteIn(b, 2); return nil }))
		fails = false
		checkTable(t, c)
		ok(t, m.Close())
		m = openOn(d)
		wantContents(t, must(Register(m, "c", spec)), map[int]int{0: 7})
		ok(t, m.Close())
	}
}

// TestRebuildAndResults: that there is no value, and a kept error, are results of a rebuild.
func TestRebuildAndResults(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	results := []error{nil, nil, nil}
	c := must(Register(m, "c", Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return k, results[k] }}))
	for k := range 3 {
		must(c.Get(ctx, k))
	}
	results[1], results[2] = ErrNotFound, Keep(errPlanned)
	ok(t, c.Rebuild(ctx))
	wantContents(t, c, map[int]int{0: 0})
	results[0] = errPlanned
	if err := c.Rebuild(ctx); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
}

// sliceStore is a store that cannot be told from others.
type sliceStore struct {
	*memstore.Store
	x any
}

// TestStoresAreCompared: a store that has no hash is an error.
func TestStoresAreCompared(t *testing.T) {
	s := sliceStore{Store: memstore.New(), x: []int{1}}
	if _, err := Open("", Options{Store: s}); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
	if _, err := Register(newManager(t), "c", Spec[int, int]{Store: s}); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
}

// TestLoadsOneByOne: of one cache there are never two loads at once, whoever asks for them.
func TestLoadsOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var running, loads atomic.Int64
		c := must(Register(m, "c", Spec[int, int]{Load: func(ctx context.Context) (map[int]int, error) {
			if n := running.Add(1); n > 1 {
				t.Errorf("%d loads at once", n)
			}
			defer running.Add(-1)
			loads.Add(1)
			time.Sleep(time.Second)
			return map[int]int{1: 1}, nil
		}}))
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if i == 1 {
					ok(t, c.Load(t.Context()))
				} else {
					ok(t, c.Reload(t.Context()))
				}
			})
			synctest.Wait()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := c.Reload(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait got %v", err)
		}
		wg.Wait()
		wantContents(t, c, map[int]int{1: 1})
	})
}
