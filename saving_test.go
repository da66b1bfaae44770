package cacheman

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
)

// What is here is about what comes while something is saved, or cannot be loaded before.

// unreadable is a disk from which one cache cannot be loaded, until it is mended.
type unreadable struct {
	*disk
	mended atomic.Bool
	tried  atomic.Int32 // how often that has failed
}

func (f *unreadable) Load(ctx context.Context, name string) iter.Seq2[store.Record, error] {
	if !f.mended.Load() && name == "in" {
		f.tried.Add(1)
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, errPlanned) }
	}
	return f.disk.Load(ctx, name)
}

// reloadMeanwhile syncs m, and reloads c while the store has the batch.
func reloadMeanwhile(t *testing.T, d *disk, c *Cache[int, int], before func()) (synced error) {
	t.Helper()
	reloaded := make(chan error, 1)
	d.before = func() {
		before()
		go func() { reloaded <- c.Reload(context.Background()) }()
		synctest.Wait() // it waits for the batch
	}
	synced = c.m.Sync(context.Background())
	d.before = nil
	ok(t, <-reloaded)
	return synced
}

// A table has grown out of the one that is being saved.
func TestReloadWhileSaving(t *testing.T) {
	for _, fails := range []error{nil, errPlanned} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			m := openOn(d)
			defer m.Close()
			c := must(Register(m, "c", Spec[int, int]{}))
			c.Set(1, 1)
			ok(t, m.Sync(t.Context()))
			ok(t, c.Clear())
			c.Set(2, 2)
			d.setFail(fails)
			if err := reloadMeanwhile(t, d, c, c.grow); !errors.Is(err, fails) {
				t.Fatal(err)
			}
			d.setFail(nil)
			ok(t, m.Sync(t.Context()))
			wantContents(t, c, savedIn(d, "c"))
		})
	}
}

// What is being dropped is not read again.
func TestReloadWhileDropping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		defer m.Close()
		c := must(Register(m, "c", Spec[int, int]{}))
		c.Set(1, 1)
		ok(t, m.Sync(t.Context()))
		ok(t, c.InvalidateAll())
		ok(t, reloadMeanwhile(t, d, c, func() {}))
		wantContents(t, c, map[int]int{})
	})
}

// What could not be loaded is not taken for what is saved now.
func TestMigratedLater(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	f := &unreadable{disk: d}
	m = openOn(f)
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{Version: "2", Migrate: func(context.Context, Saved, int, []byte) (int, error) { return 10, nil }}))
	in.Set(2, 2)
	if err := m.Sync(t.Context()); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	f.mended.Store(true)
	v, _ := in.Peek(1)
	equal(t, "migrated", v, 10)
}

// Autosync tries again to load it.
func TestAutosyncTriesToLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
		ok(t, m.Close())
		f := &unreadable{disk: d}
		m = must(Open("", Options{Store: f}))
		defer m.Close()
		in := must(Register(m, "in", Spec[int, int]{Version: "2", Migrate: func(context.Context, Saved, int, []byte) (int, error) { return 10, nil }}))
		in.Set(2, 2)
		time.Sleep(time.Hour)
		equal(t, "unsaved while it cannot be loaded", in.Stats().Dirty, 1)
		f.mended.Store(true)
		time.Sleep(time.Hour)
		equal(t, "unsaved afterwards", in.Stats().Dirty, 0)
	})
}

// What cannot be loaded, and so not saved, does not concern a Sync of others. Of itself it is
// told like any failure.
func TestSyncOfOthers(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	ok(t, must(Register(m, "in", Spec[int, int]{})).Set(1, 1))
	ok(t, m.Close())
	var events []Event
	m = must(Open("", Options{Store: &unreadable{disk: d}, Autosync: &Autosync{Off: true}, Observe: func(e Event) {
		if e.Kind == EventSyncFailed {
			events = append(events, e)
		}
	}}))
	migrate := func(context.Context, Saved, int, []byte) (int, error) { return 0, nil }
	in := must(Register(m, "in", Spec[int, int]{Version: "2", Migrate: migrate}))
	b := must(Register(m, "b", Spec[int, int]{}))
	ok(t, in.Set(2, 2))
	ok(t, b.Set(2, 2))
	ok(t, b.Sync(t.Context()))
	ok(t, m.Deregister(t.Context(), Only("b")))
	equal(t, "events", len(events), 0)
	if err := m.Sync(t.Context()); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
	equal(t, "events", len(events), 1)
	equal(t, "errors", in.Stats().SyncErrors, 1)
	if err := m.Close(); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
}

// Nor is it lost if it has another name.
func TestInheritedLater(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	f := &unreadable{disk: d}
	m = openOn(f)
	spec := Spec[int, int]{Formerly: []string{"in"}}
	c := must(Register(m, "new", spec))
	c.Set(2, 2)
	if err := m.Close(); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	equal(t, "tries", f.tried.Load(), 1) // later it would be told that all is being closed
	f.mended.Store(true)
	m = openOn(f)
	defer m.Close()
	c = must(Register(m, "new", spec))
	v, _ := c.Peek(1)
	equal(t, "inherited", v, 1)
}

// Nor is what is registered while a sync is loading something else.
func TestRegisterWhileMigrating(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "a", Spec[int, int]{})).Set(1, 1)
	must(Register(m, "b", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	ten := func(context.Context, Saved, int, []byte) (int, error) { return 10, nil }
	var b *Cache[int, int]
	a := must(Register(m, "a", Spec[int, int]{Version: "2", Migrate: func(context.Context, Saved, int, []byte) (int, error) {
		b = must(Register(m, "b", Spec[int, int]{Version: "2", Migrate: ten}))
		b.Set(2, 2)
		return 10, nil
	}}))
	a.Set(2, 2)
	ok(t, m.Sync(t.Context()))
	wantContents(t, b, map[int]int{1: 10, 2: 2})
}

// Close loads what a hook needs to save.
func TestHookAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openOn(newDisk())
		saved := map[int]int{1: 1}
		c := must(Register(m, "c", Spec[int, int]{
			Load: func(ctx context.Context) (map[int]int, error) {
				time.Sleep(time.Second)
				return maps.Clone(saved), ctx.Err()
			},
			Save: func(_ context.Context, all map[int]int) error { saved = all; return nil },
		}))
		c.Set(2, 2)
		ok(t, m.Close())
		equal(t, "entries", len(saved), 2)
	})
}

// TestHookEvent: the event says how many entries the Save hook got.
func TestHookEvent(t *testing.T) {
	saved := 0
	m := newDisk().open(t, Options{Observe: func(e Event) {
		if e.Kind == EventSynced {
			saved += e.Count
		}
	}})
	c := must(Register(m, "c", Spec[int, int]{Save: func(_ context.Context, all map[int]int) error {
		clear(all)
		return nil
	}}))
	ok(t, c.SetAll(maps.All(map[int]int{1: 1, 2: 2})))
	ok(t, m.Sync(t.Context()))
	equal(t, "entries", saved, 2)
}

// A Set that comes while a sync begins is not saved alone.
func TestSetWhileHookSaves(t *testing.T) {
	for i := range 2000 {
		m := openOn(newDisk())
		saved, saves := map[int]int{1: 1}, 0
		c := must(Register(m, "c", Spec[int, int]{
			Load: func(ctx context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil },
			Save: func(_ context.Context, all map[int]int) error { saved = all; saves++; return nil },
		}))
		var wg sync.WaitGroup
		wg.Go(func() { c.Sync(context.Background()) })
		wg.Go(func() { c.Set(2, 2) })
		wg.Wait()
		if saves > 0 && len(saved) != 2 {
			t.Fatalf("at attempt %d it saved %v", i, saved)
		}
		c.Sync(context.Background())
		m.Close()
	}
}

// TestDeletedWhileReloading: what is deleted while it is read is either not there then,
// or saved again.
func TestDeletedWhileReloading(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	m := openOn(d)
	ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
	ok(t, m.Close())

	m = openOn(d)
	var c *Cache[int, int]
	during := func() error { return nil }
	c = must(Register(m, "c", Spec[int, int]{Validate: func(context.Context, map[int]int) error { return during() }}))
	ok(t, c.Load(ctx))
	during = func() error {
		during = func() error { return nil }
		return c.DeleteSaved(ctx)
	}
	ok(t, c.Reload(ctx))
	ok(t, m.Sync(ctx))
	want := maps.Collect(c.All())
	ok(t, m.Close())
	if got := savedIn(d, "c"); !maps.Equal(got, want) {
		t.Errorf("saved: %v, in memory: %v", got, want)
	}
}

// TestFailedSyncOfDeleted: contents that were deleted from the store, and that a Sync could
// not save again, are saved by Close.
func TestFailedSyncOfDeleted(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	ok(t, m.Sync(ctx))
	ok(t, c.DeleteSaved(ctx))
	d.setFail(errPlanned)
	if err := m.Sync(ctx); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
	d.setFail(nil)
	ok(t, m.Close())
	if got := savedIn(d, "c"); !maps.Equal(got, map[int]int{1: 1}) {
		t.Errorf("saved: %v", got)
	}
}

// TestStorePanics: a store that panics is one that fails, and nothing is lost.
func TestStorePanics(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	d.before = func() { panic(errPlanned) }
	for range 2 {
		if err := m.Sync(t.Context()); !errors.Is(err, errPlanned) {
			t.Errorf("got %v", err)
		}
	}
	d.before = nil
	ok(t, m.Close())
	if got := savedIn(d, "c"); !maps.Equal(got, map[int]int{1: 1}) {
		t.Errorf("saved: %v", got)
	}
}

// TestSavingExits: who ends the goroutine while something is being saved, as t.Fatal does,
// has not saved it: it is unsaved again, and the next one saves it.
func TestSavingExits(t *testing.T) {
	armed := false
	exit := func() {
		if armed {
			armed = false
			runtime.Goexit()
		}
	}
	ints := must(codec.For[int]())
	keys := must(codec.Key[int]())
	saved := map[int]int{}
	save := func(_ context.Context, all map[int]int) error { saved = all; return nil }
	for name, spec := range map[string]Spec[int, int]{
		"Save":       {Save: func(ctx context.Context, all map[int]int) error { exit(); return save(ctx, all) }},
		"Delete":     {Save: save, Delete: func(context.Context) error { exit(); return nil }},
		"delete":     {Delete: func(context.Context) error { exit(); return nil }},
		"before":     {Save: save, BeforeSave: func(_ context.Context, _, v int) (int, error) { exit(); return v, nil }},
		"BeforeSave": {BeforeSave: func(_ context.Context, _, v int) (int, error) { exit(); return v, nil }},
		"Codec": {Codec: codec.Codec[int]{Name: ints.Name, Decode: ints.Decode, Append: func(dst []byte, v int) ([]byte, error) {
			exit()
			return ints.Append(dst, v)
		}}},
		"KeyCodec": {KeyCodec: codec.Codec[int]{Name: keys.Name, Decode: keys.Decode, Append: func(dst []byte, k int) ([]byte, error) {
			exit()
			return keys.Append(dst, k)
		}}},
		"Apply": {},
	} {
		for _, lanes := range []int{1, 2} {
			t.Run(fmt.Sprint(name, lanes), func(t *testing.T) {
				ctx := t.Context()
				clear(saved)
				d := newDisk()
				if name == "Apply" {
					d.after = exit
				}
				failed := 0
				m := must(Open("", Options{Store: d, Autosync: &Autosync{Off: true}, Observe: func(e Event) {
					if e.Kind == EventSyncFailed {
						failed++
					}
				}}))
				if lanes > 1 {
					ok(t, must(Register(m, "other", Spec[int, int]{Store: newDisk()})).Set(1, 1))
				}
				c := must(Register(m, "c", spec))
				ok(t, c.InvalidateAll()) // for Delete
				ok(t, c.Set(1, 2))
				returned := false
				var err error
				done := make(chan struct{})
				armed = true
				go func() {
					defer close(done)
					err = m.Sync(ctx)
					returned = true
				}()
				<-done
				if exit, is := errors.AsType[*PanicError](err); returned && (!is || exit.Value != nil) {
					t.Errorf("it has returned %v", err)
				}
				equal(t, "failures told", failed, 1)
				equal(t, "unsaved", c.Stats().Dirty, 1)
				equal(t, "edits", c.Stats().Edits > 0, true)
				equal(t, "failures counted", c.Stats().SyncErrors, 1)
				ok(t, m.Sync(ctx))
				equal(t, "unsaved later", c.Stats().Dirty, 0)
				if spec.Save == nil {
					saved = savedIn(d, "c")
				}
				if !maps.Equal(saved, map[int]int{1: 2}) {
					t.Errorf("saved: %v", saved)
				}
				checkTable(t, c)
				ok(t, c.Reload(ctx))
				ok(t, m.Close())
			})
		}
	}
}

// TestAutosyncExits: what autosync has not saved for that reason it saves later.
func TestAutosyncExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := must(Open("", Options{Store: d}))
		defer m.Close()
		d.before = exitOnce()
		c := must(Register(m, "c", Spec[int, int]{}))
		ok(t, c.Set(1, 1))
		time.Sleep(time.Hour)
		equal(t, "failures", c.Stats().SyncErrors, 1)
		equal(t, "unsaved", c.Stats().Dirty, 0)
	})
}

// TestCloseExits: a Close whose goroutine was ended has closed the Manager, and what it
// could not save is an error for those who call it as well.
func TestCloseExits(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	d.before = runtime.Goexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Close()
	}()
	<-done
	if _, is := errors.AsType[*PanicError](m.Close()); !is {
		t.Errorf("got %v", m.Close())
	}
	if _, err := c.Get(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestDeregisterExits: a cache that could not be saved for that reason is as it was.
func TestDeregisterExits(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 1))
	d.before = exitOnce()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Deregister(t.Context(), Only("c"))
	}()
	<-done
	ok(t, c.Set(1, 2))
	ok(t, m.Close())
	if got := savedIn(d, "c"); !maps.Equal(got, map[int]int{1: 2}) {
		t.Errorf("saved: %v", got)
	}
}

// exitOnce returns what ends the goroutine of the first who calls it.
func exitOnce() func() {
	var called atomic.Bool
	return func() {
		if !called.Swap(true) {
			runtime.Goexit()
		}
	}
}
