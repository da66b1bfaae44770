package cacheman

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWriteWhileClosing: what is written while Close waits for contents to be loaded is
// saved, also if that needs to load others.
func TestWriteWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openOn(newDisk())
		saved := map[string]*map[int]int{"a": {1: 1}, "b": {1: 1}} // by hooks that are called side by side
		hooks := func(name string, loading func()) *Cache[int, int] {
			saved := saved[name]
			return must(Register(m, name, Spec[int, int]{
				Load: func(ctx context.Context) (map[int]int, error) {
					loading()
					time.Sleep(time.Second)
					return maps.Clone(*saved), ctx.Err()
				},
				Save: func(_ context.Context, all map[int]int) error { *saved = all; return nil },
			}))
		}
		b := hooks("b", func() {})
		a := hooks("a", func() { ok(t, b.Set(2, 2)) })
		ok(t, a.Set(2, 2))
		ok(t, m.Close())
		equal(t, "entries of a", len(*saved["a"]), 2)
		equal(t, "entries of b", len(*saved["b"]), 2)
	})
}

// TestDependWhenClosed: a dependency that would not be saved is not accepted.
func TestDependWhenClosed(t *testing.T) {
	m := newManager(t)
	must(Register(m, "a", Spec[int, int]{}))
	must(Register(m, "b", Spec[int, int]{}))
	ok(t, m.Close())
	for _, err := range []error{m.Depend("b", "a"), m.DependOnChange("b", "a")} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

// TestReloadWhileClosing: contents that were closed while they were read are not replaced.
func TestReloadWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
		ok(t, m.Close())
		m = openOn(d)
		wait := make(chan struct{})
		c := must(Register(m, "c", Spec[int, int]{Validate: func(context.Context, map[int]int) error { <-wait; return nil }}))
		result := make(chan error)
		go func() { result <- c.Reload(context.Background()) }()
		synctest.Wait()
		ok(t, m.Close())
		close(wait)
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestCloseBesideSync: a Sync that is under way when Close begins is ended or completes;
// what it had taken is saved once, by one of them.
func TestCloseBesideSync(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			m := openOn(d)
			c := must(Register(m, "c", Spec[int, int]{}))
			ok(t, c.Set(1, 1))
			wait := make(chan struct{})
			d.before = func() { <-wait }
			if fails {
				d.setFail(errPlanned)
			}
			synced, closed := make(chan error, 2), make(chan error, 2)
			go func() { synced <- m.Sync(context.Background()) }()
			synctest.Wait()
			ok(t, c.Set(2, 2)) // after the cut
			for range 2 {
				go func() { closed <- m.Close() }()
			}
			synctest.Wait()
			equal(t, "closed", len(closed), 0)
			if err := c.Set(3, 3); !errors.Is(err, ErrClosed) {
				t.Errorf("Set: %v", err)
			}
			d.setFail(nil)
			close(wait)
			err := <-synced
			switch {
			case fails && !errors.Is(err, errPlanned) && !errors.Is(err, ErrClosed), !fails && err != nil && !errors.Is(err, ErrClosed):
				t.Errorf("Sync: %v", err)
			}
			ok(t, <-closed)
			ok(t, <-closed)
			d.before = nil
			if got, want := savedIn(d, "c"), (map[int]int{1: 1, 2: 2}); !maps.Equal(got, want) {
				t.Errorf("saved: %v", got)
			}
		})
	}
}

// TestSyncAfterClose: a Sync that waits while Shutdown gives up saves nothing of what is not
// loaded: it would be taken for all there is.
func TestSyncAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		ok(t, must(Register(m, "in", Spec[int, int]{})).Set(1, 1))
		ok(t, m.Close())
		m = openOn(&unreadable{disk: d})
		spec := Spec[int, int]{Version: "2", Migrate: func(context.Context, Saved, int, []byte) (int, error) { return 10, nil }}
		in := must(Register(m, "in", spec))
		other := must(Register(m, "other", Spec[int, int]{}))
		ok(t, other.Set(1, 1))
		wait := make(chan struct{})
		d.before = func() { <-wait }
		results := make(chan error, 2)
		go func() { results <- other.Sync(context.Background()) }()
		synctest.Wait()
		d.before = nil
		ok(t, in.Set(2, 2))
		go func() { results <- m.Sync(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		close(wait)
		<-results
		if err := <-results; !errors.Is(err, ErrClosed) {
			t.Errorf("Sync: %v", err)
		}
		m = openOn(d)
		defer m.Close()
		wantContents(t, must(Register(m, "in", spec)), map[int]int{1: 10})
	})
}

// TestCloseBesideGet: who waits for a builder gets ErrClosed, also if that does not mind its ctx.
// Close does not wait for that, and nothing of it is kept.
func TestCloseBesideGet(t *testing.T) {
	for _, minds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			m := openOn(d)
			wait := make(chan struct{})
			c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				select {
				case <-ctx.Done():
					if minds {
						return 0, ctx.Err()
					}
					<-wait
				case <-wait:
				}
				return k, nil
			}}))
			ok(t, c.Set(1, 1))
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if v, err := c.Get(context.Background(), 2); !errors.Is(err, ErrClosed) {
						t.Errorf("Get: %d, %v", v, err)
					}
				})
				synctest.Wait()
			}
			var closing sync.WaitGroup
			for range 2 {
				closing.Go(func() { ok(t, m.Close()) })
			}
			closing.Wait()
			if _, err := c.Get(context.Background(), 2); !errors.Is(err, ErrClosed) {
				t.Errorf("Get: %v", err)
			}
			close(wait)
			wg.Wait()
			if got, want := savedIn(d, "c"), (map[int]int{1: 1}); !maps.Equal(got, want) {
				t.Errorf("saved: %v", got)
			}
		})
	}
}

// TestFilesOfClosed: it is said once that the Manager is closed, not for each cache of files.
func TestFilesOfClosed(t *testing.T) {
	m := newManager(t)
	ok(t, m.Close())
	_, err := OpenFiles(m)
	equal(t, "lines", strings.Count(err.Error(), "\n"), 0)
	equal(t, "closed", errors.Is(err, ErrClosed), true)
}

// TestReadOfClosed: nobody gets what a builder has made of what it was told of a cache that is
// closed with its Manager, by a read that cannot say so.
func TestReadOfClosed(t *testing.T) {
	reads := map[string]func(*Cache[int, int]) bool{
		"Has":  func(c *Cache[int, int]) bool { return c.Has(1) },
		"Len":  func(c *Cache[int, int]) bool { return c.Len() == 1 },
		"All":  func(c *Cache[int, int]) bool { return len(maps.Collect(c.All())) == 1 },
		"Keys": func(c *Cache[int, int]) bool { return len(slices.Collect(c.Keys())) == 1 },
		"goroutine": func(c *Cache[int, int]) (has bool) {
			var wg sync.WaitGroup
			wg.Go(func() { has = c.Has(1) })
			wg.Wait()
			return has
		},
	}
	for name, read := range reads {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			in := must(Register(m, "in", Spec[int, int]{}))
			ok(t, in.Set(1, 1))
			wait := make(chan struct{})
			build := func(context.Context) bool { <-wait; return read(in) }
			one := must(Register(m, "one", Spec[int, bool]{Build: func(ctx context.Context, _ int) (bool, error) { return build(ctx), nil }}))
			above := must(Register(m, "above", Spec[int, bool]{Build: one.Get}))
			all := must(Register(m, "all", Spec[int, bool]{BuildAll: func(ctx context.Context) (map[int]bool, error) { return map[int]bool{1: build(ctx)}, nil }}))
			var wg sync.WaitGroup
			for _, c := range []*Cache[int, bool]{above, all} {
				wg.Go(func() {
					if v, err := c.Get(context.Background(), 1); !errors.Is(err, ErrClosed) {
						t.Errorf("%s: %s[1] is %v, %v", name, c.Name(), v, err)
					}
				})
			}
			synctest.Wait()
			ok(t, m.Close())
			wait <- struct{}{}
			wait <- struct{}{}
			wg.Wait()
		})
	}
}

// TestBuilderWhileClosing: what a builder makes while contents are not loaded any more, because the
// Manager is being closed, is nobody's to have, nor is what a Load hook makes of that.
func TestBuilderWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		ok(t, must(Register(m, "in", Spec[int, int]{})).Set(1, 1))
		ok(t, m.Close())
		m = openOn(d)
		in := must(Register(m, "in", Spec[int, int]{}))
		begin := make(chan struct{})
		has := must(Register(m, "has", Spec[int, bool]{Build: func(context.Context, int) (bool, error) { <-begin; return in.Has(1), nil }}))
		loaded := must(Register(m, "loaded", Spec[int, bool]{Load: func(context.Context) (map[int]bool, error) {
			<-begin
			return map[int]bool{1: in.Has(1)}, nil
		}}))
		wait := make(chan struct{})
		ok(t, must(Register(m, "saved", Spec[int, int]{Save: func(context.Context, map[int]int) error { <-wait; return nil }})).Set(1, 1))
		var wg sync.WaitGroup
		for _, c := range []*Cache[int, bool]{has, loaded} {
			wg.Go(func() {
				if v, err := c.Get(context.Background(), 1); !errors.Is(err, ErrClosed) {
					t.Errorf("%s[1] is %v, %v", c.Name(), v, err)
				}
			})
		}
		synctest.Wait()
		wg.Go(func() { ok(t, m.Close()) })
		synctest.Wait()
		close(begin)
		synctest.Wait()
		if v, is := loaded.Peek(1); is {
			t.Errorf("loaded[1] is %v", v)
		}
		close(wait)
		wg.Wait()
	})
}
