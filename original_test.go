package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/csvstore"
)

// TestOriginal has one subtest for each of the fifty tests of the Python
// library that this one began as, and says the same in its own words. Where
// the meaning differs on purpose, a comment says why.
//
// Throughout, the original's "load" is Reload, its "load or build" is Load,
// and its "invalidate", which only read the last saved file again, is Reload
// too: our Invalidate cannot be undone.
func TestOriginal(t *testing.T) {
	for _, b := range original {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.test(t)
		})
	}
}

var original = []struct {
	name string
	test func(*testing.T)
}{
	{"B01_never_saved_starts_empty", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		c.load()
		c.holds(entries{})
		f.equal("last error", c.Stats().LastError, error(nil))
	}},

	{"B02_saved_contents_come_back", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		c.set("a", 1)
		c.set("b", 2)
		c.sync()
		c.reload()
		c.holds(entries{"a": 1, "b": 2})
		f.reopen()
		f.cache("c", spec{}).holds(entries{"a": 1, "b": 2})
	}},

	{"B03_saving_again_overwrites", func(t *testing.T) {
		c := open(t).cache("c", spec{})
		c.set("a", 1)
		c.sync()
		c.set("a", 2)
		c.sync()
		c.reload()
		c.holds(entries{"a": 2})
	}},

	{"B04_reload_drops_what_is_unsaved", func(t *testing.T) {
		c := open(t).cache("c", spec{})
		c.set("a", 1)
		c.sync()
		c.set("a", 2)
		c.set("b", 2)
		for range 2 {
			c.reload()
			c.holds(entries{"a": 1})
		}
		c.sync() // what was dropped is not saved later
		c.saved(entries{"a": 1})
	}},

	{"B05_deleting_what_is_saved_leaves_memory", func(t *testing.T) {
		c := open(t).cache("c", spec{})
		c.set("a", 1)
		c.sync()
		c.deleteSaved()
		c.saved(nil)
		c.holds(entries{"a": 1})
		c.rebuild()
		c.holds(entries{})
	}},

	{"B06_deleting_all_that_is_saved", func(t *testing.T) {
		f := open(t)
		caches := []cache{f.cache("c", spec{}), f.cache("d", spec{})}
		for _, c := range caches {
			c.set(c.Name(), 1)
		}
		f.ok(f.m.Sync(f.ctx()))
		f.ok(f.m.DeleteSaved(f.ctx(), cacheman.All()))
		for _, c := range caches {
			c.saved(nil)
			c.holds(entries{c.Name(): 1})
		}
		f.ok(f.m.Rebuild(f.ctx(), cacheman.All()))
		for _, c := range caches {
			c.holds(entries{})
		}
	}},

	{"B07_registered_with_contents", func(t *testing.T) {
		registeredWithContents(open(t), cacheman.Only("c"), "c")
	}},

	{"B08_registered_with_contents_deregister_all", func(t *testing.T) {
		registeredWithContents(open(t), cacheman.All(), "c", "d")
	}},

	{"B09_contents_given_at_registration", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		c.set("saved", 1)
		f.deregister("c")
		c = f.cache("c", spec{Contents: entries{"a": 1, "b": 2}})
		c.holds(entries{"a": 1, "b": 2})
		c.set("b", 3)
		c.set("c", 4)
		c.holds(entries{"a": 1, "b": 3, "c": 4})
	}},

	{"B10_load_hook_replaces_the_default", func(t *testing.T) {
		f := open(t)
		f.cache("c", spec{}).set("saved", 1)
		f.deregister("c")
		builds := 0
		c := f.cache("c", spec{
			Load:     func(context.Context) (entries, error) { return entries{"hook": 1}, nil },
			BuildAll: counting(&builds),
		})
		c.reload()
		c.holds(entries{"hook": 1})
		c.rebuild()
		c.holds(entries{"built": 1})
		c.reload()
		c.holds(entries{"hook": 1})
	}},

	{"B11_builder_of_the_whole_contents", func(t *testing.T) {
		builds := 0
		c := open(t).cache("c", spec{BuildAll: counting(&builds)})
		c.rebuild()
		c.holds(entries{"built": 1})
		c.saved(entries{"built": 1})
		c.set("a", 1)
		c.sync()
		c.reload()
		c.holds(entries{"built": 1, "a": 1})
		c.rebuild()
		c.holds(entries{"built": 2})
		c.saved(entries{"built": 2})
	}},

	{"B12_save_hook", func(t *testing.T) {
		f := open(t)
		var saves []entries
		c := f.cache("c", spec{Save: func(_ context.Context, contents entries) error {
			saves = append(saves, contents)
			return nil
		}})
		c.load()
		c.set("a", 1)
		c.set("b", 2)
		c.set("gone", 3)
		f.ok(c.Delete("gone"))
		c.holds(entries{"a": 1, "b": 2})
		c.Stats()
		f.equal("saves before the first sync", len(saves), 0)
		c.sync()
		f.equal("saves", fmt.Sprint(saves), "[map[a:1 b:2]]")
		c.sync() // nothing changed
		f.equal("saves", len(saves), 1)
		c.set("c", 3)
		f.equal("saves", len(saves), 1)
		f.deregister("c")
		f.equal("saves", fmt.Sprint(saves[1:]), "[map[a:1 b:2 c:3]]")
	}},

	{"B13_delete_hook", func(t *testing.T) {
		f := open(t)
		deletes := 0
		c := f.cache("c", spec{Delete: func(context.Context) error { deletes++; return nil }})
		c.set("a", 1)
		f.ok(c.Delete("never there"))
		c.sync()
		c.reload()
		f.equal("deletes before", deletes, 0)
		c.deleteSaved()
		f.equal("deletes", deletes, 1)
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{})
	}},

	{"B14_post_processor_on_load_and_build", func(t *testing.T) {
		f := open(t)
		calls := 0
		c := f.cache("c", spec{
			BuildAll: func(context.Context) (entries, error) { return entries{"a": 1}, nil },
			AfterLoad: func(_ context.Context, _ string, v int) (int, error) {
				calls++
				return v * 10, nil
			},
		})
		c.load()
		c.holds(entries{"a": 10})
		f.equal("calls after the build", calls, 1)
		c.sync()
		f.equal("calls after the save", calls, 1)
		c.saved(entries{"a": 10})
		c.reload()
		c.holds(entries{"a": 100}) // ours runs when a value is first read
		f.equal("calls after the load", calls, 2)
	}},

	{"B15_pre_processor_on_save", func(t *testing.T) {
		f := open(t)
		var calls []string
		c := f.cache("c", spec{
			BuildAll: func(context.Context) (entries, error) { return entries{"a": 1}, nil },
			BeforeSave: func(_ context.Context, k string, v int) (int, error) {
				calls = append(calls, fmt.Sprint(k, v))
				return v, nil
			},
		})
		c.load()
		c.holds(entries{"a": 1})
		f.equal("calls before the save", len(calls), 0)
		c.sync()
		f.equal("calls", fmt.Sprint(calls), "[a1]")
		c.reload()
		c.set("b", 2)
		f.equal("calls", fmt.Sprint(calls), "[a1]")
		c.sync() // ours saves what changed, so only that is processed
		f.equal("calls", fmt.Sprint(calls), "[a1 b2]")
	}},

	{"B16_validator_that_refuses_leads_to_a_build", func(t *testing.T) {
		f := open(t)
		f.cache("c", spec{}).set("a", 1)
		f.deregister("c")
		builds, asked := 0, ""
		c := f.cache("c", spec{
			BuildAll: counting(&builds),
			Validate: func(_ context.Context, contents entries) error {
				asked += fmt.Sprint(contents)
				return errors.New("refused")
			},
		})
		c.load()
		c.holds(entries{"built": 1})
		f.equal("asked about", asked, "map[a:1]")
		c.sync()
		c.saved(entries{"built": 1})
	}},

	{"B17_save_and_delete_with_dependents", func(t *testing.T) {
		f := open(t)
		root, dep, other := f.cache("root", spec{}), f.cache("dep", dependsOn("root")), f.cache("other", spec{})
		for _, c := range []cache{root, dep, other} {
			c.set("a", 1)
		}
		f.ok(f.m.Sync(f.ctx(), cacheman.WithDependents("root")))
		root.saved(entries{"a": 1})
		dep.saved(entries{"a": 1})
		other.saved(nil)
		other.sync()
		f.ok(f.m.DeleteSaved(f.ctx(), cacheman.WithDependents("root")))
		root.saved(nil)
		dep.saved(nil)
		other.saved(entries{"a": 1})
		for _, c := range []cache{root, dep, other} {
			c.holds(entries{"a": 1})
		}
	}},

	{"B18_reload_and_rebuild_with_dependents", func(t *testing.T) {
		f := open(t)
		var rootBuilds, depBuilds, otherBuilds int
		root := f.cache("root", spec{BuildAll: counting(&rootBuilds)})
		dep := f.cache("dep", spec{BuildAll: counting(&depBuilds), DependsOn: []string{"root"}})
		other := f.cache("other", spec{BuildAll: counting(&otherBuilds)})
		for _, c := range []cache{root, dep, other} {
			c.load()
			c.sync()
			c.set("unsaved", 1)
		}
		f.ok(f.m.Reload(f.ctx(), cacheman.WithDependents("root")))
		root.holds(entries{"built": 1})
		dep.holds(entries{"built": 1})
		other.holds(entries{"built": 1, "unsaved": 1})
		f.ok(f.m.Rebuild(f.ctx(), cacheman.WithDependents("root")))
		f.equal("builds of root, dep, other", fmt.Sprint(rootBuilds, depBuilds, otherBuilds), "2 2 1")
		root.holds(entries{"built": 2})
		dep.holds(entries{"built": 2})
		other.holds(entries{"built": 1, "unsaved": 1})
		// Ours: what depends on a rebuilt cache is stale in any case. Outside
		// of the scope it is built when it is asked for.
		root.rebuild()
		f.equal("builds of dep", depBuilds, 2)
		dep.holds(entries{})
		dep.load()
		dep.holds(entries{"built": 3})
	}},

	{"B19_deregister_with_dependents", func(t *testing.T) {
		f := open(t)
		root, dep, other := f.cache("root", spec{}), f.cache("dep", dependsOn("root")), f.cache("other", spec{})
		for _, c := range []cache{root, dep, other} {
			c.set("a", 1)
		}
		f.ok(f.m.Deregister(f.ctx(), cacheman.WithDependents("root")))
		f.equal("registered", fmt.Sprint(f.m.Names()), "[other]")
		root.saved(entries{"a": 1})
		dep.saved(entries{"a": 1})
		if err := dep.Set("b", 1); !errors.Is(err, cacheman.ErrClosed) {
			t.Fatalf("Set on a deregistered dependent: %v", err)
		}
	}},

	{"B20_deregister_all", func(t *testing.T) {
		f := open(t)
		caches := []cache{f.cache("c", spec{}), f.cache("d", spec{}), f.cache("e", spec{Memory: true})}
		f.ok(f.m.Deregister(f.ctx(), cacheman.All()))
		f.equal("registered", len(f.m.Names()), 0)
		for _, c := range caches {
			if _, err := cacheman.Lookup[string, int](f.m, c.Name()); !errors.Is(err, cacheman.ErrUnknown) {
				t.Fatalf("Lookup of %s: %v", c.Name(), err)
			}
		}
	}},

	{"B21_save_reaches_grandchildren", func(t *testing.T) {
		f := open(t)
		root, dep, grand := f.cache("root", spec{}), f.cache("dep", dependsOn("root")), f.cache("grand", dependsOn("dep"))
		for _, c := range []cache{root, dep, grand} {
			c.set("a", 1)
		}
		root.sync()
		root.saved(entries{"a": 1})
		grand.saved(nil)
		f.ok(f.m.Sync(f.ctx(), cacheman.WithDependents("root")))
		dep.saved(entries{"a": 1})
		grand.saved(entries{"a": 1})
	}},

	{"B22_non_persistent_writes_no_file", func(t *testing.T) {
		f := open(t)
		before := f.files()
		c := f.cache("c", spec{Memory: true})
		c.set("a", 1)
		c.sync()
		f.ok(f.m.Sync(f.ctx()))
		c.saved(nil)
		f.equal("files", f.files(), before)
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{})
	}},

	{"B23_background_save", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		c.set("a", 1)
		f.ok(<-c.inBackground())
		c.set("a", 2)
		c.reload()
		c.holds(entries{"a": 1})
	}},

	{"B24_fifty_background_saves", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		want := make(entries)
		var saves []<-chan error
		for i := range 51 { // none of them is waited for
			for k := range 20 {
				want[fmt.Sprint(k)] = i
				c.set(fmt.Sprint(k), i)
			}
			saves = append(saves, c.inBackground())
		}
		for _, saved := range saves {
			f.ok(<-saved)
		}
		c.saved(want) // which fails if anything is damaged
		c.reload()
		c.holds(want)
	}},

	{"B25_each_hook_alone", eachHookAlone},

	{"B26_made_directly_not_persistent", func(t *testing.T) {
		c := open(t).cache("c", spec{Memory: true})
		c.set("a", 1)
		c.sync()
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{})
	}},

	{"B27_made_directly_persistent", func(t *testing.T) {
		c := open(t).cache("c", spec{})
		c.set("a", 1)
		c.sync()
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{"a": 1})
	}},

	{"B28_contents_that_are_a_list", func(t *testing.T) {
		f := open(t)
		v, err := cacheman.RegisterValue(f.m, "list", cacheman.Spec[cacheman.Single, []string]{
			Build: func(context.Context, cacheman.Single) ([]string, error) { return []string{"built"}, nil },
		})
		f.ok(err)
		holds := func(want ...string) {
			t.Helper()
			if got, ok := v.Peek(); !ok || !slices.Equal(got, want) {
				t.Fatalf("the list is %v, %v; want %v", got, ok, want)
			}
		}
		edit := func(s string) {
			t.Helper()
			// Ours may be read by others at any time, so that "in place" is
			// one step of the cache and not of the list.
			_, err := v.Update(func(list []string, _ bool) ([]string, bool) { return append(list, s), true })
			f.ok(err)
		}
		f.ok(v.Set([]string{"a"}))
		edit("b")
		f.ok(v.Sync(f.ctx()))
		edit("unsaved")
		holds("a", "b", "unsaved")
		f.ok(v.Reload(f.ctx()))
		holds("a", "b")
		f.ok(v.Rebuild(f.ctx()))
		holds("built")
		f.ok(v.Reload(f.ctx()))
		holds("built")
	}},

	{"B29_loaded_when_made", func(t *testing.T) {
		f := open(t)
		f.cache("c", spec{}).set("a", 1)
		f.reopen()
		c := f.cache("c", spec{Eager: true})
		f.equal("entries before any read", c.Stats().Entries, 1)
		c.holds(entries{"a": 1})
		f.reopen()
		c = f.cache("c", spec{}) // ours reads at first use unless told otherwise, so that starting costs nothing
		f.equal("loaded", c.Stats().Loaded, false)
		c.holds(entries{"a": 1})
	}},

	{"B30_built_when_made", func(t *testing.T) {
		f := open(t)
		builds := 0
		c := f.cache("c", spec{Eager: true, BuildAll: counting(&builds)})
		f.equal("builds", builds, 1)
		c.holds(entries{"built": 1})
		f.reopen()
		f.cache("c", spec{Eager: true, BuildAll: counting(&builds)}).holds(entries{"built": 1})
		f.equal("builds", builds, 1)
	}},

	{"B31_ending_a_cache_saves_it", func(t *testing.T) {
		f := open(t)
		c, d := f.cache("c", spec{}), f.cache("d", spec{})
		c.set("a", 1)
		d.set("a", 2)
		c.saved(nil)
		f.deregister("c")
		c.saved(entries{"a": 1})
		d.saved(nil)
		f.reopen()
		f.cache("d", spec{}).holds(entries{"a": 2})
	}},

	{"B32_saved_at_the_end_of_a_scope", func(t *testing.T) {
		dir := t.TempDir()
		within := func(do func(c *cacheman.Cache[string, int])) {
			m, err := cacheman.Open(dir, cacheman.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			c, err := cacheman.Register(m, "c", spec{})
			if err != nil {
				t.Fatal(err)
			}
			do(c)
		}
		within(func(c *cacheman.Cache[string, int]) { c.Set("a", 1) })
		within(func(c *cacheman.Cache[string, int]) {
			if v, ok := c.Peek("a"); !ok || v != 1 {
				t.Fatalf("after the scope: %v, %v", v, ok)
			}
		})
	}},

	{"B33_membership", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{Build: func(context.Context, string) (int, error) { return 7, nil }})
		c.set("a", 0)
		f.equal("a is in", c.Has("a"), true)
		f.equal("b is in", c.Has("b"), false) // and was not built
		f.equal("length", c.Len(), 1)
		f.ok(c.Delete("a"))
		f.equal("a is in", c.Has("a"), false)
	}},

	{"B34_save_wipe_load", func(t *testing.T) {
		f := open(t)
		c := f.cache("c", spec{})
		c.set("a", 1)
		c.sync()
		f.ok(c.Clear())
		c.holds(entries{})
		c.reload()
		c.holds(entries{"a": 1})
	}},

	{"B35_reload_one", func(t *testing.T) {
		f := open(t)
		c, d := f.cache("c", spec{}), f.cache("d", spec{})
		for _, c := range []cache{c, d} {
			c.set("a", 1)
			c.sync()
			c.set("a", 2)
		}
		c.reload()
		c.holds(entries{"a": 1})
		d.holds(entries{"a": 2})
		// Ours: what is invalidated, and not only reloaded, does not come
		// back from disk.
		f.ok(c.InvalidateAll())
		c.reload()
		c.holds(entries{})
	}},

	{"B36_delete_saved_then_load", func(t *testing.T) {
		f := open(t)
		builds := 0
		c := f.cache("c", spec{BuildAll: func(context.Context) (entries, error) { builds++; return nil, nil }})
		c.set("a", 1)
		c.sync()
		c.deleteSaved()
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{})
		f.equal("builds", builds, 0)
		c.load()
		c.holds(entries{})
		f.equal("builds", builds, 1)
	}},

	{"B37_invalidate_and_rebuild_replaces_what_is_saved", func(t *testing.T) {
		f := open(t)
		builds := 0
		c := f.cache("c", spec{BuildAll: counting(&builds)})
		c.set("a", 1)
		c.sync()
		c.saved(entries{"a": 1})
		f.ok(c.InvalidateAll())
		c.holds(entries{})
		c.sync()
		c.saved(nil)
		c.rebuild()
		c.holds(entries{"built": 1})
		c.saved(entries{"built": 1})
		c.reload()
		c.holds(entries{"built": 1})
	}},

	{"B38_load_or_build", func(t *testing.T) {
		f := open(t)
		builds := 0
		c := f.cache("c", spec{BuildAll: counting(&builds)})
		c.load()
		c.holds(entries{"built": 1})
		c.set("a", 1)
		f.deregister("c")
		c = f.cache("c", spec{BuildAll: counting(&builds)})
		c.load()
		c.holds(entries{"built": 1, "a": 1})
		f.equal("builds", builds, 1)
	}},

	{"B39_validators", func(t *testing.T) {
		f := open(t)
		builds := 0
		var verdict func() error
		c := f.cache("c", spec{
			BuildAll: counting(&builds),
			Validate: func(context.Context, entries) error { return verdict() },
		})
		load := func(v func() error, want entries) {
			t.Helper()
			verdict = v
			c.reload()
			c.load()
			c.holds(want)
			c.set("a", 1)
			c.sync()
		}
		c.set("a", 1)
		c.sync()
		load(func() error { return errors.New("refused") }, entries{"built": 1})
		load(func() error { return nil }, entries{"built": 1, "a": 1})
		load(func() error { panic("failed") }, entries{"built": 2})
	}},

	{"B40_everything_with_dependents", func(t *testing.T) {
		f := open(t)
		builds := make([]int, 3)
		var caches []cache
		for i, name := range []string{"root", "dep", "grand"} {
			s := spec{BuildAll: counting(&builds[i])}
			if i > 0 {
				s.DependsOn = []string{caches[i-1].Name()}
			}
			caches = append(caches, f.cache(name, s))
		}
		each := func(do func(c cache)) {
			for _, c := range caches {
				do(c)
			}
		}
		scope := cacheman.WithDependents("root")

		each(func(c cache) { c.set("a", 1) })
		f.ok(f.m.Sync(f.ctx(), scope))
		each(func(c cache) { c.saved(entries{"a": 1}) })

		each(func(c cache) { f.ok(c.Clear()) }) // load
		f.ok(f.m.Reload(f.ctx(), scope))
		each(func(c cache) { c.holds(entries{"a": 1}) })

		each(func(c cache) { c.set("a", 2) }) // reload
		f.ok(f.m.Reload(f.ctx(), scope))
		each(func(c cache) { c.holds(entries{"a": 1}) })

		f.ok(f.m.DeleteSaved(f.ctx(), scope))
		each(func(c cache) { c.saved(nil) })
		each(func(c cache) { c.holds(entries{"a": 1}) })

		f.ok(f.m.Reload(f.ctx(), scope)) // finds nothing
		each(func(c cache) { c.holds(entries{}) })
		f.ok(f.m.Load(f.ctx(), scope)) // load or build
		f.equal("builds", fmt.Sprint(builds), "[1 1 1]")
		each(func(c cache) { c.holds(entries{"built": 1}) })

		f.ok(f.m.Rebuild(f.ctx(), scope))
		f.equal("builds", fmt.Sprint(builds), "[2 2 2]")
		each(func(c cache) { c.holds(entries{"built": 2}) })
		each(func(c cache) { c.saved(entries{"built": 2}) })
	}},

	{"B41_pre_processor_changes_what_is_saved", func(t *testing.T) {
		c := open(t).cache("c", spec{BeforeSave: tenfold})
		c.set("a", 1)
		c.sync()
		c.holds(entries{"a": 1})
		c.saved(entries{"a": 10})
		c.reload()
		c.holds(entries{"a": 10})
	}},

	{"B42_post_processor_changes_what_is_loaded", func(t *testing.T) {
		c := open(t).cache("c", spec{AfterLoad: tenfold})
		c.set("a", 1)
		c.sync()
		c.holds(entries{"a": 1})
		c.reload()
		c.holds(entries{"a": 10})
		c.sync() // being loaded is not a change
		c.saved(entries{"a": 1})
	}},

	{"B43_autosync", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := open(t)
			builds := 0
			c := f.cache("c", spec{BuildAll: counting(&builds), Autosync: &cacheman.Autosync{Every: time.Second}})
			f.basics(c)
			c.set("a", 1)
			time.Sleep(time.Second)
			c.syncs(2) // one in basics, one of its own
			c.saved(entries{"built": 2, "a": 1})
		})
	}},

	{"B44_autosync_rules", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t).cache("c", autosync(3, 10*time.Second, 2, time.Minute))
			autosyncRules(c)
		})
	}},

	// Ours has no dates to forge: an edit is as old as the monotonic clock
	// says. What is left of the behaviour is which edits a rule looks at.
	{"B45_edits_outside_the_window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			// Too old: saved when the window ends, so not counted any more.
			f := open(t)
			c := f.cache("c", autosync(3, 10*time.Second))
			c.set("a", 1)
			c.set("b", 1)
			time.Sleep(10 * time.Second)
			c.syncs(1)
			c.set("c", 1)
			c.set("d", 1)
			c.syncs(1) // 4 edits in a little more than 10 s, but 2 are saved
			c.edits(2)
			c.set("e", 1)
			c.syncs(2)

			// Too young: in the future, as seen from a rule's window.
			d := f.cache("d", autosync(100, 10*time.Second, 2, time.Minute))
			d.set("a", 1)
			d.set("b", 1)
			time.Sleep(10*time.Second - 1)
			d.syncs(0)
			time.Sleep(time.Nanosecond)
			d.syncs(1)
		})
	}},

	{"B46_the_window_moves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t).cache("c", autosync(3, 10*time.Second))
			// Edits at 0, 6, 12, … s: never three within ten. Ours saves the
			// two at the window's end instead of forgetting them.
			for i := range int64(10) {
				c.set("a", int(i))
				c.syncs(i / 2)
				c.edits(1 + i%2)
				time.Sleep(6 * time.Second)
			}
			c.syncs(5)
			time.Sleep(1000 * 24 * time.Hour)
			c.syncs(5)
			c.set("a", 1)
			c.set("a", 2)
			c.syncs(5)
			c.set("a", 3)
			c.syncs(6)
			c.set("a", 4)
			time.Sleep(1000 * 24 * time.Hour) // with an edit under way
			c.syncs(7)
			c.edits(0)
			c.saved(entries{"a": 4})
		})
	}},

	{"B47_csv", func(t *testing.T) {
		f, csv := openCSV(t, csvstore.Options{})
		builds := 0
		c := f.cache("c", csv.with(spec{BuildAll: counting(&builds)}))
		f.basics(c)
		c.sync()
		csv.holds("built,2\n")
		c.set("a, b", 1)
		c.sync()
		csv.holds("\"a, b\",1\nbuilt,2\n")
		c.deleteSaved()
		csv.holds("")
		c.holds(entries{"a, b": 1, "built": 2})
	}},

	{"B48_csv_with_its_own_rows", func(t *testing.T) {
		type city struct {
			Name, Country string
		}
		keys, err1 := codec.Key[city]()
		values, err2 := codec.For[float64]()
		o := csvstore.Options{Header: []string{"country", "name", "millions"}, Comma: ';'}
		o.Row, o.Entry = csvstore.Rows(keys, values,
			func(c city, millions float64) []string {
				return []string{c.Country, c.Name, strconv.FormatFloat(millions, 'f', -1, 64)}
			},
			func(row []string) (city, float64, error) {
				millions, err := strconv.ParseFloat(row[2], 64)
				return city{Country: row[0], Name: row[1]}, millions, err
			})
		f, csv := openCSV(t, o)
		f.ok(errors.Join(err1, err2))
		c, err := cacheman.Register(f.m, "c", cacheman.Spec[city, float64]{Store: csv.store, KeyCodec: keys, Codec: values})
		f.ok(err)
		f.ok(c.Set(city{"Paris", "FR"}, 2.1))
		f.ok(c.Set(city{"Paris", "US"}, 0.025))
		f.ok(c.Sync(f.ctx()))
		csv.holds("country;name;millions\nFR;Paris;2.1\nUS;Paris;0.025\n")
		f.ok(c.Clear())
		f.ok(c.Reload(f.ctx()))
		want := map[city]float64{{"Paris", "FR"}: 2.1, {"Paris", "US"}: 0.025}
		if got := maps.Collect(c.All()); !maps.Equal(got, want) {
			t.Fatalf("loaded %v, want %v", got, want)
		}
		f.ok(os.WriteFile(csv.path, []byte("country;name;millions\nIT;Roma;2.75\n"), 0o600))
		f.ok(c.Reload(f.ctx()))
		want = map[city]float64{{"Roma", "IT"}: 2.75}
		if got := maps.Collect(c.All()); !maps.Equal(got, want) {
			t.Fatalf("loaded %v, want %v", got, want)
		}
	}},

	{"B49_csv_with_autosync", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, csv := openCSV(t, csvstore.Options{})
			builds := 0
			c := f.cache("c", csv.with(spec{BuildAll: counting(&builds), Autosync: &cacheman.Autosync{Every: time.Second}}))
			f.basics(c)
			c.set("a", 1)
			csv.holds("")
			time.Sleep(time.Second)
			c.syncs(2)
			csv.holds("a,1\nbuilt,2\n")
		})
	}},

	{"B50_csv_with_autosync_rules", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, csv := openCSV(t, csvstore.Options{})
			autosyncRules(f.cache("c", csv.with(autosync(3, 10*time.Second, 2, time.Minute))))
			csv.holds("a,5\nb,5\nc,1\n")
		})
	}},
}

// registeredWithContents is B07 and B08: caches of the given names are
// registered with contents, and end by being deregistered as scope.
func registeredWithContents(f *fixture, scope cacheman.Scope, names ...string) {
	f.Helper()
	calls := 0
	errLoad, errBuild := errors.New("load failed"), errors.New("build failed")
	s := spec{
		Contents: entries{"a": 1},
		Load:     func(context.Context) (entries, error) { calls++; return nil, errLoad },
		BuildAll: func(context.Context) (entries, error) { calls++; return nil, errBuild },
		Validate: func(context.Context, entries) error { calls++; return nil },
		Delete:   func(context.Context) error { calls++; return nil },
		AfterLoad: func(_ context.Context, _ string, v int) (int, error) {
			calls++
			return v, nil
		},
	}
	for _, name := range names {
		c := f.cache(name, s)
		c.load()
		c.holds(entries{"a": 1})
	}
	f.equal("calls of hooks", calls, 0)
	for _, name := range names {
		c := f.lookup(name)
		if err := c.Reload(f.ctx()); !errors.Is(err, errLoad) {
			f.Fatalf("Reload with a Load hook that fails: %v", err)
		}
		c.holds(entries{"a": 1})
	}
	f.ok(f.m.Deregister(f.ctx(), scope))
	for _, name := range names {
		c := f.cache(name, spec{})
		c.holds(entries{"a": 1})
		c.rebuild()
		c.holds(entries{})
	}
	// A failing builder last: ours does not bring back what it was to replace.
	f.ok(f.m.Deregister(f.ctx(), scope))
	for _, name := range names {
		c := f.cache(name, s)
		if err := c.Rebuild(f.ctx()); !errors.Is(err, errBuild) {
			f.Fatalf("Rebuild with a builder that fails: %v", err)
		}
	}
}

// eachHookAlone is B25: one script, with what is saved and loaded in it when
// one hook is given, and how often that is called.
func eachHookAlone(t *testing.T) {
	calls := 0
	contents := func(context.Context) (entries, error) { calls++; return entries{"hook": 7}, nil }
	process := func(ctx context.Context, k string, v int) (int, error) { calls++; return tenfold(ctx, k, v) }
	for _, hook := range []struct {
		name            string
		spec            spec
		saved, reloaded entries
		calls           int
	}{
		{"none", spec{}, entries{"a": 1}, entries{"a": 1}, 0},
		{"Load", spec{Load: contents}, entries{"hook": 7, "a": 1}, entries{"hook": 7}, 2},
		{"Save", spec{Save: func(context.Context, entries) error { calls++; return nil }},
			nil, entries{}, 2}, // to delete, it is called with nothing
		{"Delete", spec{Delete: func(context.Context) error { calls++; return nil }},
			entries{"a": 1}, entries{"a": 1}, 1},
		{"Validate", spec{Validate: func(context.Context, entries) error { calls++; return nil }},
			entries{"a": 1}, entries{"a": 1}, 1},
		{"BuildAll", spec{BuildAll: contents}, entries{"hook": 7, "a": 1}, entries{"hook": 7, "a": 1}, 1},
		{"Build", spec{Build: func(context.Context, string) (int, error) { calls++; return 7, nil }},
			entries{"hook": 7, "a": 1}, entries{"hook": 7, "a": 1}, 1},
		{"BeforeSave", spec{BeforeSave: process}, entries{"a": 10}, entries{"a": 10}, 1},
		{"AfterLoad", spec{AfterLoad: process}, entries{"a": 1}, entries{"a": 10}, 1},
	} {
		t.Run(hook.name, func(t *testing.T) {
			calls = 0
			f := open(t)
			c := f.cache("c", hook.spec)
			_, err := c.Get(f.ctx(), "hook")
			if _, ok := hook.saved["hook"]; !ok && !errors.Is(err, cacheman.ErrNotFound) || ok && err != nil {
				t.Fatalf("Get: %v", err)
			}
			c.set("a", 1)
			c.sync()
			c.saved(hook.saved)
			c.reload()
			c.holds(hook.reloaded)
			c.deleteSaved()
			c.saved(nil)
			c.holds(hook.reloaded)
			f.equal("calls", calls, hook.calls)
		})
	}
}

// autosyncRules is B44 and B50. The rules of c are: 3 edits at once; 2 when the
// older is 10 s old; and, which is ours, one when it is 60 s old, for nothing
// is to be left unsaved.
func autosyncRules(c cache) {
	c.t.Helper()
	// Not enough edits, then enough.
	c.set("a", 1)
	c.set("b", 1)
	c.syncs(0)
	c.set("c", 1)
	c.syncs(1)
	c.edits(0)

	// Loading clears the counters, and the timer that goes by them.
	c.set("a", 2)
	c.set("b", 2)
	c.edits(2)
	c.reload()
	c.edits(0)
	c.set("a", 3)
	c.syncs(1)
	time.Sleep(time.Minute - 1)
	c.syncs(1)
	time.Sleep(time.Nanosecond)
	c.syncs(2)

	// Too thin for the first rule: the second catches them …
	c.set("a", 4)
	time.Sleep(9 * time.Second)
	c.set("b", 4)
	c.syncs(2)
	time.Sleep(time.Second)
	c.syncs(3)

	// … also when the older is beyond the first rule's window already.
	c.set("a", 5)
	time.Sleep(50 * time.Second)
	c.syncs(3)
	c.set("b", 5)
	c.syncs(4)
	c.edits(0)
}

type (
	spec    = cacheman.Spec[string, int]
	entries = map[string]int
)

func dependsOn(names ...string) spec { return spec{DependsOn: names} }

// autosync returns a spec with rules made of pairs of edits and within.
func autosync(edits int, within time.Duration, more ...any) spec {
	rules := []cacheman.Rule{{Edits: edits, Within: within}}
	for i := 0; i < len(more); i += 2 {
		rules = append(rules, cacheman.Rule{Edits: more[i].(int), Within: more[i+1].(time.Duration)})
	}
	return spec{Autosync: &cacheman.Autosync{Rules: rules}}
}

// counting returns a builder of contents that tell how often it ran.
func counting(builds *int) func(context.Context) (entries, error) {
	return func(context.Context) (entries, error) {
		*builds++
		return entries{"built": *builds}, nil
	}
}

func tenfold(_ context.Context, _ string, v int) (int, error) { return v * 10, nil }

// fixture is a test with a Manager on a directory of its own.
type fixture struct {
	*testing.T
	m *cacheman.Manager
}

func open(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t}
	f.open(t.TempDir())
	t.Cleanup(func() {
		if err := f.m.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) open(dir string) {
	f.Helper()
	m, err := cacheman.Open(dir, cacheman.Options{Observe: func(e cacheman.Event) {
		if e.Kind == cacheman.EventDamaged || e.Kind == cacheman.EventSyncFailed {
			f.Errorf("%s: %s %s %v", e.Kind, e.Cache, e.Reason, e.Err)
		}
	}})
	f.ok(err)
	f.m = m
}

// reopen closes the Manager and opens its directory again.
func (f *fixture) reopen() {
	f.Helper()
	f.ok(f.m.Close())
	f.open(f.m.Dir())
}

func (f *fixture) ctx() context.Context { return f.Context() }

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if got != want {
		f.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (f *fixture) cache(name string, s spec) cache {
	f.Helper()
	c, err := cacheman.Register(f.m, name, s)
	f.ok(err)
	return cache{c, f}
}

func (f *fixture) lookup(name string) cache {
	f.Helper()
	c, err := cacheman.Lookup[string, int](f.m, name)
	f.ok(err)
	return cache{c, f}
}

func (f *fixture) deregister(name string) {
	f.Helper()
	f.ok(f.m.Deregister(f.ctx(), cacheman.Only(name)))
}

// csvFile is the file of a cache named c in a CSV store.
type csvFile struct {
	t     *fixture
	store *csvstore.Store
	path  string
}

func openCSV(t *testing.T, o csvstore.Options) (*fixture, csvFile) {
	t.Helper()
	dir := t.TempDir()
	s, err := csvstore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) // after the Manager
	f := open(t)
	return f, csvFile{f, s, filepath.Join(dir, "c.csv")}
}

// with returns s with the store, and values that people can read.
func (c csvFile) with(s spec) spec {
	s.Store, s.Codec = c.store, codec.JSON[int]()
	return s
}

// holds checks what is in the file; "" stands for no file.
func (c csvFile) holds(want string) {
	c.t.Helper()
	got, err := os.ReadFile(c.path)
	if want == "" && !errors.Is(err, fs.ErrNotExist) || want != "" && err != nil || string(got) != want {
		c.t.Fatalf("%s: %q, %v; want %q", c.path, got, err, want)
	}
}

// files returns the directory's files with what is in them.
func (f *fixture) files() string {
	f.Helper()
	var all strings.Builder
	f.ok(fs.WalkDir(os.DirFS(f.m.Dir()), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(os.DirFS(f.m.Dir()), path)
		fmt.Fprintf(&all, "%s: %q\n", path, data)
		return err
	}))
	return all.String()
}

// basics takes a new cache whose contents are built by counting through setting,
// saving, loading, deleting, and loading or building. It leaves what was built
// second, unsaved.
func (f *fixture) basics(c cache) {
	f.Helper()
	c.load()
	c.holds(entries{"built": 1})
	c.set("a", 1)
	c.sync()
	c.set("a", 2)
	c.reload()
	c.holds(entries{"built": 1, "a": 1})
	c.deleteSaved()
	c.holds(entries{"built": 1, "a": 1})
	c.reload()
	c.holds(entries{})
	c.load()
	c.holds(entries{"built": 2})
}

// cache is a cache with its test, to which failures are reported.
type cache struct {
	*cacheman.Cache[string, int]
	t *fixture
}

func (c cache) set(k string, v int) { c.t.Helper(); c.t.ok(c.Set(k, v)) }
func (c cache) load()               { c.t.Helper(); c.t.ok(c.Load(c.t.ctx())) }
func (c cache) sync()               { c.t.Helper(); c.t.ok(c.Sync(c.t.ctx())) }
func (c cache) reload()             { c.t.Helper(); c.t.ok(c.Reload(c.t.ctx())) }
func (c cache) rebuild()            { c.t.Helper(); c.t.ok(c.Rebuild(c.t.ctx())) }
func (c cache) deleteSaved()        { c.t.Helper(); c.t.ok(c.DeleteSaved(c.t.ctx())) }

// inBackground syncs in a goroutine and returns where the result will be.
func (c cache) inBackground() <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Sync(c.t.ctx()) }()
	return done
}

// holds checks the contents in memory.
func (c cache) holds(want entries) {
	c.t.Helper()
	if got := maps.Collect(c.All()); !maps.Equal(got, want) || c.Len() != len(want) {
		c.t.Fatalf("%s holds %v, Len %d; want %v", c.Name(), got, c.Len(), want)
	}
}

// saved checks the contents in the directory, as somebody else would find them
// who got a copy of it; nil stands for none.
func (c cache) saved(want entries) {
	c.t.Helper()
	f := &fixture{T: c.t.T}
	dir := f.TempDir()
	f.ok(os.CopyFS(dir, os.DirFS(c.t.m.Dir())))
	f.open(dir)
	defer f.m.Close()
	nothing := false
	copied := f.cache(c.Name(), spec{BuildAll: func(context.Context) (entries, error) {
		nothing = true
		return nil, nil
	}})
	copied.load()
	got := maps.Collect(copied.All())
	if nothing != (want == nil) || !maps.Equal(got, want) {
		c.t.Fatalf("%s is saved as %v (nothing: %v), want %v", c.Name(), got, nothing, want)
	}
}

// syncs checks how often c was saved so far, in a bubble, with nothing running.
func (c cache) syncs(want int64) {
	c.t.Helper()
	synctest.Wait()
	c.t.equal("saves of "+c.Name(), c.Stats().Syncs, want)
}

// edits checks how many edits of c count for autosync.
func (c cache) edits(want int64) {
	c.t.Helper()
	c.t.equal("unsaved edits of "+c.Name(), c.Stats().Edits, want)
}
