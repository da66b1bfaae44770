package cacheman

import (
	"context"
	"iter"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
)

// What is here is about what comes while something is saved, or cannot be loaded before.

// unreadable is a disk from which one cache cannot be loaded.
type unreadable struct {
	*disk
	fail error
}

func (f *unreadable) Load(ctx context.Context, name string) iter.Seq2[store.Record, error] {
	if f.fail != nil && name == "in" {
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, f.fail) }
	}
	return f.disk.Load(ctx, name)
}

// A table has grown out of the one that is being saved.
func TestReloadWhileSaving(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	c.Set(1, 2)
	reloaded := make(chan error, 1)
	d.before = func() {
		c.grow()
		go func() { reloaded <- c.Reload(context.Background()) }()
		time.Sleep(100 * time.Millisecond)
	}
	ok(t, m.Sync(t.Context()))
	d.before = nil
	ok(t, <-reloaded)
	v, _ := c.Peek(1)
	m2 := must(Open("", Options{Store: &disk{Store: d.Store}, ReadOnly: true}))
	defer m2.Close()
	saved, _ := must(Register(m2, "c", Spec[int, int]{})).Peek(1)
	equal(t, "saved and in memory", v, saved)
}

// Likewise, and it cannot be saved.
func TestReloadWhileSavingFails(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	// a failed sync of a Clear, of a table that has grown, then Reload
	ok(t, c.Clear())
	c.Set(2, 2)
	d.setFail(errPlanned)
	reloaded := make(chan error, 1)
	d.before = func() {
		c.grow()
		go func() { reloaded <- c.Reload(context.Background()) }()
		time.Sleep(100 * time.Millisecond)
	}
	m.Sync(t.Context()) // it fails
	ok(t, <-reloaded)
	d.before = nil
	d.setFail(nil)
	ok(t, m.Sync(t.Context()))
	mem := maps.Collect(c.All())
	m2 := must(Open("", Options{Store: &disk{Store: d.Store}, ReadOnly: true}))
	defer m2.Close()
	saved := maps.Collect(must(Register(m2, "c", Spec[int, int]{})).All())
	if !maps.Equal(mem, saved) {
		t.Fatalf("in memory %v, saved %v", mem, saved)
	}
}

// What is being dropped is not read again.
func TestReloadWhileDropping(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, c.InvalidateAll())
	reloaded := make(chan error, 1)
	d.before = func() {
		go func() { reloaded <- c.Reload(context.Background()) }()
		time.Sleep(100 * time.Millisecond)
	}
	ok(t, m.Sync(t.Context()))
	d.before = nil
	ok(t, <-reloaded)
	if v, had := c.Peek(1); had {
		t.Fatalf("what was invalidated is %d", v)
	}
}

// What could not be loaded is not taken for what is saved now.
func TestMigratedLater(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	f := &unreadable{disk: d, fail: errPlanned}
	m = must(Open("", Options{Store: f, Autosync: &Autosync{Off: true}}))
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{Version: "2", Migrate: func(context.Context, Saved, int, []byte) (int, error) { return 10, nil }}))
	in.Set(2, 2)
	m.Sync(t.Context()) // it fails
	f.fail = nil
	v, _ := in.Peek(1)
	equal(t, "migrated", v, 10)
}

// Nor is it lost if it has another name.
func TestInheritedLater(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	f := &unreadable{disk: d, fail: errPlanned}
	m = must(Open("", Options{Store: f, Autosync: &Autosync{Off: true}}))
	spec := Spec[int, int]{Formerly: []string{"in"}}
	c := must(Register(m, "new", spec))
	c.Set(2, 2)
	m.Close() // it fails
	f.fail = nil
	m = must(Open("", Options{Store: f, Autosync: &Autosync{Off: true}}))
	defer m.Close()
	c = must(Register(m, "new", spec))
	v, _ := c.Peek(1)
	equal(t, "inherited", v, 1)
}

// Close loads what a hook needs to save.
func TestHookAtClose(t *testing.T) {
	for range 20 {
		m := must(Open("", Options{Store: newDisk(), Autosync: &Autosync{Off: true}}))
		saved := map[int]int{1: 1}
		c := must(Register(m, "c", Spec[int, int]{
			Load: func(ctx context.Context) (map[int]int, error) { return maps.Clone(saved), ctx.Err() },
			Save: func(_ context.Context, all map[int]int) error { saved = all; return nil },
		}))
		c.Set(2, 2)
		ok(t, m.Close())
		equal(t, "entries", len(saved), 2)
	}
}

// A Set that comes while a sync begins is not saved alone.
func TestSetWhileHookSaves(t *testing.T) {
	for i := range 2000 {
		m := must(Open("", Options{Store: newDisk(), Autosync: &Autosync{Off: true}}))
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
