package cacheman

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// What is here is about caches that are deregistered, and perhaps registered again.

// A load that ends afterwards does not revive the cache.
func TestLoadAfterDeregister(t *testing.T) {
	m := newManager(t)
	began, goOn := make(chan int), make(chan int)
	c := must(Register(m, "c", Spec[int, int]{Load: func(context.Context) (map[int]int, error) {
		close(began)
		<-goOn
		return map[int]int{1: 1}, nil
	}}))
	done := make(chan error)
	go func() { done <- c.Load(context.Background()) }()
	<-began
	ok(t, m.Deregister(t.Context(), Only("c")))
	close(goOn)
	<-done
	if v, err := c.Get(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Fatalf("a deregistered cache: %v, %v", v, err)
	}
}

// Nor does it take the contents of one that has another name now.
func TestHeirDeregistered(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "old", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	m = openOn(d)
	began, goOn := make(chan int), make(chan int)
	var once sync.Once
	spec := Spec[int, int]{Formerly: []string{"old"}, Validate: func(context.Context, map[int]int) error {
		once.Do(func() {
			close(began)
			<-goOn
		})
		return nil
	}}
	c := must(Register(m, "new", spec))
	done := make(chan error)
	go func() { done <- c.Load(context.Background()) }()
	<-began
	ok(t, m.Deregister(t.Context(), Only("new")))
	close(goOn)
	<-done
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	c = must(Register(m, "new", spec))
	v, _ := c.Peek(1)
	equal(t, "value of the renamed cache", v, 1)
}

// What was to be saved in one place is saved in another.
func TestRegisteredElsewhere(t *testing.T) {
	d, other := newDisk(), newDisk()
	m := openOn(d)
	must(Register(m, "up", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{DependsOn: []string{"up"}}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, m.Deregister(t.Context(), Only("c")))
	ok(t, m.Invalidate(Only("up")))
	c = must(Register(m, "c", Spec[int, int]{Store: other}))
	c.Set(2, 2)
	ok(t, c.Sync(t.Context()))
	ok(t, m.Sync(t.Context()))
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	c = must(Register(m, "c", Spec[int, int]{Store: other}))
	v, _ := c.Peek(2)
	equal(t, "what was saved", v, 2)
}

// What was invalidated while nobody had it is not given by hooks.
func TestRegisteredAgainWithHooks(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	must(Register(m, "up", Spec[int, int]{}))
	var saved map[int]int
	spec := Spec[int, int]{
		Load:      func(context.Context) (map[int]int, error) { return saved, nil },
		Save:      func(_ context.Context, all map[int]int) error { saved = all; return nil },
		DependsOn: []string{"up"},
	}
	c := must(Register(m, "c", spec))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, m.Deregister(t.Context(), Only("c")))
	ok(t, m.Invalidate(Only("up")))
	c = must(Register(m, "c", spec))
	if v, had := c.Peek(1); had {
		t.Errorf("what was invalidated is %d", v)
	}
	c.Set(2, 2)
	ok(t, m.Sync(t.Context()))
	equal(t, "what was saved", saved[2], 2)
}

// It is registered while its invalidation is being saved.
func TestRegisterWhileDropping(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "up", Spec[int, int]{}))
	must(Register(m, "c", Spec[int, int]{DependsOn: []string{"up"}})).Set(1, 1)
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	must(Register(m, "up", Spec[int, int]{}))
	ok(t, m.Invalidate(Only("up")))
	var c *Cache[int, int]
	d.before = func() {
		c = must(Register(m, "c", Spec[int, int]{DependsOn: []string{"up"}}))
		c.Load(context.Background())
	}
	ok(t, m.Sync(t.Context()))
	d.before = nil
	if v, had := c.Peek(1); had {
		t.Fatalf("what was invalidated is %d", v)
	}
}

// Keys and their number are those of the cache that has the name now.
func TestFacetsAgain(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{}))
	n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Count(ctx) }}))
	has := must(Register(m, "has", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) { return in.Contains(ctx, k) }}))
	in.Set(1, 1)
	equal(t, "number", must(n.Get(t.Context(), 1)), 1)
	equal(t, "has", must(has.Get(t.Context(), 2)), false)
	ok(t, m.Deregister(t.Context(), Only("in")))
	in = must(Register(m, "in", Spec[int, int]{}))
	in.Set(2, 2)
	if v, err := n.Get(t.Context(), 1); err != nil || v != 2 {
		t.Errorf("number: %v, %v", v, err)
	}
	if v, err := n.Get(t.Context(), 2); err != nil || v != 2 {
		t.Errorf("number, asked first now: %v, %v", v, err)
	}
	if v, err := has.Get(t.Context(), 2); err != nil || !v {
		t.Errorf("has: %v, %v", v, err)
	}
	if v, err := has.Get(t.Context(), 1); err != nil || !v {
		t.Errorf("has, asked first now: %v, %v", v, err)
	}
}

// And so are values.
func TestDependentAgain(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	defer m.Close()
	must(Register(m, "in", Spec[int, int]{}))
	out := must(Register(m, "out", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		in, err := Lookup[int, int](m, "in")
		if err != nil {
			return 0, err
		}
		return in.Get(ctx, k)
	}}))
	in := must(Lookup[int, int](m, "in"))
	in.Set(1, 1)
	equal(t, "out", must(out.Get(t.Context(), 1)), 1)
	ok(t, m.Deregister(t.Context(), Only("in")))
	in = must(Register(m, "in", Spec[int, int]{}))
	in.Set(1, 2)
	equal(t, "out", must(out.Get(t.Context(), 1)), 2)
}

// Two deregister a cache that has a limit.
func TestDeregisterTwice(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	c := must(Register(m, "c", Spec[int, int]{Limit: Limit{Entries: 10}}))
	c.Set(1, 1)
	entered, goOn := make(chan bool), make(chan bool)
	var once sync.Once
	d.before = func() { once.Do(func() { close(entered); <-goOn }) }
	done := make(chan error, 2)
	deregister := func() { done <- m.Deregister(context.Background(), Only("c")) }
	go deregister()
	<-entered
	go deregister()
	time.Sleep(100 * time.Millisecond) // it waits for the first now; if not the test shows nothing
	close(goOn)
	for range 2 {
		select {
		case <-done: // one of them finds it gone
		case <-time.After(time.Minute):
			t.Fatal("it hangs")
		}
	}
}

// A cache comes back from another store, and the first save fails.
func TestMovedBack(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "c", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Deregister(t.Context(), Only("c")))
	must(Register(m, "c", Spec[int, int]{Store: memstore.New()}))
	ok(t, m.Deregister(t.Context(), Only("c")))
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(2, 2)
	d.setFail(errPlanned)
	d.before = func() { c.Set(3, 3) }
	m.Sync(t.Context()) // it fails
	d.setFail(nil)
	d.before = nil
	ok(t, m.Sync(t.Context()))
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	c = must(Register(m, "c", Spec[int, int]{}))
	wantContents(t, c, map[int]int{2: 2, 3: 3})
}

// A handle of before does not register what stands for the keys of the cache that has
// its place.
func TestFacetsOfDeregistered(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Count(ctx) }}))
	has := must(Register(m, "has", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) { return in.Contains(ctx, k) }}))
	ok(t, m.Deregister(ctx, Only("in")))
	if _, err := n.Get(ctx, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("number: %v", err)
	}
	if _, err := has.Get(ctx, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("has: %v", err)
	}
	in = must(Register(m, "in", Spec[int, int]{}))
	for k := 1; k < 3; k++ {
		ok(t, in.Set(k, k))
		if v, err := n.Get(ctx, 1); err != nil || v != k {
			t.Errorf("number: %v, %v", v, err)
		}
		if v, err := has.Get(ctx, k); err != nil || !v {
			t.Errorf("has: %v, %v", v, err)
		}
	}
}

// So it is with one that was registered in vain.
func TestFacetsOfFailedEager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := openOn(newDisk())
		n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			return must(Lookup[int, int](m, "in")).Count(ctx)
		}}))
		goOn, done := make(chan int), make(chan error)
		go func() {
			_, err := Register(m, "in", Spec[int, int]{Eager: true, Load: func(context.Context) (map[int]int, error) {
				<-goOn
				return nil, errors.New("not this time")
			}})
			done <- err
		}()
		synctest.Wait()
		counted := make(chan error)
		go func() {
			_, err := n.Get(ctx, 1)
			counted <- err
		}()
		synctest.Wait()
		close(goOn)
		if err1, err2 := <-done, <-counted; err1 == nil || err2 == nil {
			t.Errorf("%v, %v", err1, err2)
		}
		in := must(Register(m, "in", Spec[int, int]{}))
		for k := 1; k < 3; k++ {
			ok(t, in.Set(k, k))
			if v, err := n.Get(ctx, 1); err != nil || v != k {
				t.Errorf("number: %v, %v", v, err)
			}
		}
		ok(t, m.Close())
	})
}

// TestDeregisterBesideFailing: who deregisters a cache and fails does not open it again for writes
// while another does, which would lose them.
func TestDeregisterBesideFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		c := must(Register(m, "c", Spec[int, int]{}))
		ok(t, c.Set(1, 1))
		wait := make(chan struct{})
		d.before = func() { <-wait }
		first, second := make(chan error), make(chan error)
		go func() { first <- m.Deregister(context.Background(), Only("c")) }()
		synctest.Wait() // it is saving
		ctx, cancel := context.WithCancel(context.Background())
		go func() { second <- m.Deregister(ctx, Only("c")) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := c.Set(2, 2); !errors.Is(err, ErrClosed) {
			t.Errorf("Set: %v", err)
		}
		close(wait)
		ok(t, <-first)
		d.before = nil
		ok(t, m.Close())
	})
}

// TestInvalidatedWhileDeregistering: an invalidation that is accepted while a cache is
// deregistered is saved before that is gone.
func TestInvalidatedWhileDeregistering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		saved := map[int]int{}
		hooks := must(Register(m, "hooks", Spec[int, int]{
			Load: func(context.Context) (map[int]int, error) { return saved, nil },
			Save: func(_ context.Context, all map[int]int) error { saved = all; return nil },
		}))
		c := must(Register(m, "c", Spec[int, int]{}))
		ok(t, hooks.Set(1, 1))
		ok(t, c.Set(1, 1))
		wait := make(chan struct{})
		d.before = func() { <-wait }
		result := make(chan error)
		go func() { result <- m.Deregister(context.Background(), All()) }()
		synctest.Wait()
		equal(t, "saved by the hook", len(saved), 1)
		ok(t, hooks.InvalidateAll())
		close(wait)
		ok(t, <-result)
		ok(t, m.Close())
		equal(t, "saved by the hook", len(saved), 0)
	})
}

// TestDeregisteredWhileLinking: what is just finding the entries that it was built from, after a
// restart, does not keep to those of a cache that is deregistered meanwhile.
func TestDeregisteredWhileLinking(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	var linking func()
	keys := must(codec.Key[int]())
	decode := keys.Decode
	keys.Decode = func(b []byte) (int, error) {
		if f := linking; f != nil {
			linking = nil
			f()
		}
		return decode(b)
	}
	var m *Manager
	var mid *Cache[int, int]
	register := func() {
		mid = must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			in, err := Lookup[int, int](m, "in")
			if err != nil {
				return 0, err
			}
			return in.Get(ctx, k)
		}}))
	}
	open := func() (in, top *Cache[int, int]) {
		m = openOn(d)
		in = must(Register(m, "in", Spec[int, int]{KeyCodec: keys}))
		register()
		return in, must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			mid, err := Lookup[int, int](m, "mid")
			if err != nil {
				return 0, err
			}
			return mid.Get(ctx, k)
		}}))
	}
	in, top := open()
	ok(t, in.Set(1, 7))
	equal(t, "top", must(top.Get(ctx, 1)), 7)
	ok(t, m.Close())

	_, top = open()
	defer func() { ok(t, m.Close()) }()
	ok(t, mid.Load(ctx))
	linking = func() { ok(t, m.Deregister(ctx, Only("mid"))) }
	top.Get(ctx, 1)
	register()
	ok(t, mid.Set(1, 8))
	equal(t, "top", must(top.Get(ctx, 1)), 8)
	for fault := range m.Check() {
		t.Error(fault)
	}
}

// What is saved of caches that are not registered is found, and can be invalidated like others:
// it is gone, and so is what was declared, or found, to be computed from it.
func TestUnregistered(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	m := openOn(d)
	builds := 0
	register := func(m *Manager) (a, tracked, declared *Cache[int, int]) {
		a = must(Register(m, "a", Spec[int, int]{}))
		tracked = must(Register(m, "tracked", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			builds++
			v, err := a.Get(ctx, k)
			if errors.Is(err, ErrNotFound) {
				return -1, nil
			}
			return v, err
		}}))
		declared = must(Register(m, "declared", Spec[int, int]{DependsOn: []string{"a"}}))
		return a, tracked, declared
	}
	a, tracked, declared := register(m)
	equal(t, "unregistered", len(m.Unregistered()), 0)
	ok(t, a.Set(1, 1))
	must(tracked.Get(ctx, 1))
	ok(t, declared.Set(1, 1))
	ok(t, m.Close())

	m = openOn(d)
	must(Register(m, "new", Spec[int, int]{Formerly: []string{"tracked"}})) // which has another name now
	equal(t, "unregistered", fmt.Sprint(m.Unregistered()), "[a declared]")
	for _, name := range []string{"tracked", "b"} {
		if err := m.Invalidate(Only(name)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Touch(Only("a")); !errors.Is(err, ErrUnknown) {
		t.Errorf("Touch: %v", err)
	}
	ok(t, m.Invalidate(Only("a")))
	equal(t, "unregistered", fmt.Sprint(m.Unregistered()), "[]")
	ok(t, m.Sync(ctx))
	for _, info := range must(d.Caches(ctx)) {
		if info.Cache == "a" || info.Cache == "declared" {
			t.Errorf("saved: %s", info.Cache)
		}
	}
	m = openOn(&disk{Store: d.Store})
	a, tracked, declared = register(m)
	equal(t, "what it has", a.Len()+declared.Len(), 0)
	builds = 0
	equal(t, "tracked", must(tracked.Get(ctx, 1)), -1)
	equal(t, "builds", builds, 1)
	ok(t, m.Close())
}
