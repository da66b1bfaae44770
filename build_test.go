package cacheman

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// gated is a builder that waits until it is let go.
type gated struct {
	runs  atomic.Int64
	begun chan context.Context // gets the ctx of each run
	let   chan int             // what it returns
}

func newGated() *gated {
	return &gated{begun: make(chan context.Context, 100), let: make(chan int)}
}

func (g *gated) build(ctx context.Context, k string) (int, error) {
	g.runs.Add(1)
	g.begun <- ctx
	select {
	case v := <-g.let:
		return v, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestOneRunForAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		c := must(Register(newManager(t), "c", Spec[string, int]{Build: g.build}))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if v, err := c.Get(t.Context(), "k"); v != 7 || err != nil {
					t.Errorf("got %v, %v", v, err)
				}
			})
		}
		synctest.Wait()
		g.let <- 7
		wg.Wait()
		equal(t, "runs", g.runs.Load(), 1)
		equal(t, "held", must(c.Get(t.Context(), "k")), 7)
		equal(t, "runs", g.runs.Load(), 1)
		st := c.Stats()
		if st.Builds != 1 || st.Misses != 100 || st.Hits != 1 {
			t.Errorf("statistics are wrong: %+v", st)
		}
	})
}

// TestCancelledCallerLeavesAlone: the first caller's ctx ends, the second gets
// the value; when the last has left, the run is cancelled, and a later caller
// starts a new one.
func TestCancelledCallerLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		c := must(Register(newManager(t), "c", Spec[string, int]{Build: g.build}))
		get := func(ctx context.Context) chan error {
			result := make(chan error, 1)
			go func() {
				_, err := c.Get(ctx, "k")
				result <- err
			}()
			synctest.Wait()
			return result
		}
		ctx1, cancel1 := context.WithCancel(t.Context())
		ctx2, cancel2 := context.WithCancel(t.Context())
		first, second := get(ctx1), get(ctx2)
		cancel1()
		if err := <-first; err != context.Canceled {
			t.Fatalf("the cancelled caller got %v", err)
		}
		run := <-g.begun
		synctest.Wait()
		ok(t, run.Err())
		cancel2()
		if err := <-second; err != context.Canceled {
			t.Fatalf("the cancelled caller got %v", err)
		}
		synctest.Wait()
		if run.Err() == nil {
			t.Fatal("nobody waits, and the run goes on")
		}
		third := get(t.Context())
		g.let <- 1
		ok(t, <-third)
		equal(t, "runs", g.runs.Load(), 2)
	})
}

// TestWriteDuringBuild: a value whose key was set, deleted or invalidated while
// it was being built goes to those who waited and is not kept, and whoever
// comes after the write does not join the old run.
// (google/guava#1881, vectorize-io/hindsight#2315.)
func TestWriteDuringBuild(t *testing.T) {
	writes := map[string]func(c *Cache[string, int]) error{
		"Set":           func(c *Cache[string, int]) error { return c.Set("k", 2) },
		"Delete":        func(c *Cache[string, int]) error { return c.Delete("k") },
		"Invalidate":    func(c *Cache[string, int]) error { return c.Invalidate("k") },
		"InvalidateAll": func(c *Cache[string, int]) error { return c.InvalidateAll() },
		"Clear":         func(c *Cache[string, int]) error { return c.Clear() },
		"Reload":        func(c *Cache[string, int]) error { return c.Reload(context.Background()) },
		"upstream":      func(c *Cache[string, int]) error { return c.m.Invalidate(Only("up")) },
		"upstream set": func(c *Cache[string, int]) error {
			up, err := Lookup[string, int](c.m, "up")
			if err != nil {
				return err
			}
			return up.Set("x", 1)
		},
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGated()
				m := newManager(t)
				must(Register(m, "up", Spec[string, int]{}))
				c := must(Register(m, "c", Spec[string, int]{Build: g.build, DependsOnChange: []string{"up"}}))
				result := make(chan int, 2)
				get := func() {
					v, err := c.Get(t.Context(), "k")
					if err != nil {
						t.Error(err)
					}
					result <- v
				}
				go get()
				synctest.Wait()
				ok(t, write(c))
				if name == "Set" {
					equal(t, "read after the write", must(c.Get(t.Context(), "k")), 2)
					g.let <- 1
					equal(t, "given to the waiter", <-result, 1)
					equal(t, "kept", must(c.Get(t.Context(), "k")), 2)
					return
				}
				go get() // must not join
				synctest.Wait()
				equal(t, "runs", g.runs.Load(), 2)
				g.let <- 1
				g.let <- 1
				<-result
				<-result
			})
		})
	}
}

// TestInvalidatedBuildIsNotKept is the other half: nobody asks while the
// outdated run ends, and its result is not there afterwards.
func TestInvalidatedBuildIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		c := must(Register(newManager(t), "c", Spec[string, int]{Build: g.build}))
		done := make(chan int)
		go func() { v, _ := c.Get(t.Context(), "k"); done <- v }()
		synctest.Wait()
		ok(t, c.Invalidate("k"))
		g.let <- 1
		equal(t, "given to the waiter", <-done, 1)
		if v, ok := c.Peek("k"); ok {
			t.Fatalf("the outdated value %v was kept", v)
		}
	})
}

// TestGrowDuringBuild: a cache that outgrows its shard while a builder runs
// keeps the result.
func TestGrowDuringBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cache[int, int]
		c = must(Register(newManager(t), "c", Spec[int, int]{Build: func(context.Context, int) (int, error) {
			for i := range 2 * growAt {
				c.Set(i, i)
			}
			return 7, nil
		}}))
		must(c.Get(t.Context(), -1))
		if v, ok := c.Peek(-1); !ok || v != 7 {
			t.Fatalf("the cache has %v, %v", v, ok)
		}
	})
}

// TestBuilderWithItsOwnDeadline: that a builder ran into a limit of its own is
// not mistaken for the caller's.
func TestBuilderWithItsOwnDeadline(t *testing.T) {
	c := must(Register(newManager(t), "c", Spec[int, int]{Build: func(context.Context, int) (int, error) {
		return 0, context.DeadlineExceeded
	}}))
	_, err := c.Get(t.Context(), 1)
	if e, ok := errors.AsType[*Error](err); !ok || e.Cache != "c" || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestNestedBuilds(t *testing.T) {
	const depth = 2000
	var c *Cache[int, int]
	c = must(Register(newManager(t), "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if k == 0 {
			return 0, nil
		}
		v, err := c.Get(ctx, k-1)
		return v + 1, err
	}}))
	equal(t, "sum", must(c.Get(t.Context(), depth)), depth)
	equal(t, "builds", c.Stats().Builds, depth+1)
}

func TestCycles(t *testing.T) {
	t.Run("one goroutine", func(t *testing.T) {
		m := newManager(t)
		var a, b *Cache[int, int]
		a = must(Register(m, "a", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return b.Get(ctx, k) }}))
		b = must(Register(m, "b", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return a.Get(ctx, k+1-1) }}))
		_, err := a.Get(t.Context(), 1)
		if !errors.Is(err, ErrCycle) || !strings.Contains(err.Error(), "b[1] → a[1]") || !strings.Contains(err.Error(), "a[1] → b[1]") {
			t.Fatalf("got %v", err) // the path may begin with either
		}
	})
	t.Run("itself", func(t *testing.T) {
		var c *Cache[int, int]
		c = must(Register(newManager(t), "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
		if _, err := c.Get(t.Context(), 1); !errors.Is(err, ErrCycle) {
			t.Fatalf("got %v", err)
		}
	})
	// Each of two goroutines builds one half and then wants the other's:
	// neither can see the other on its own stack. (openfga/openfga#1335)
	t.Run("two goroutines", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			meet := make(chan bool)
			var c *Cache[string, int]
			c = must(Register(newManager(t), "c", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
				if k == "a" {
					meet <- true
					return c.Get(ctx, "b")
				}
				<-meet
				return c.Get(ctx, "a")
			}}))
			errs := make(chan error, 2)
			for _, k := range []string{"a", "b"} {
				go func() { _, err := c.Get(t.Context(), k); errs <- err }()
			}
			for range 2 {
				if err := <-errs; !errors.Is(err, ErrCycle) {
					t.Errorf("got %v", err)
				}
			}
		})
	})
	// A builder that waits in a goroutine of its own, as well as itself.
	t.Run("fan-out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var c *Cache[string, int]
			c = must(Register(newManager(t), "c", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
				switch k {
				case "top":
					go c.Get(ctx, "slow")
					return c.Get(ctx, "back")
				case "back":
					return c.Get(ctx, "top")
				}
				<-ctx.Done()
				return 0, ctx.Err()
			}}))
			if _, err := c.Get(t.Context(), "top"); !errors.Is(err, ErrCycle) {
				t.Fatalf("got %v", err)
			}
		})
	})
}

func TestBuilderFailures(t *testing.T) {
	boom := errors.New("boom")
	runs := 0
	var events []Event
	m := newDisk().open(t, Options{Observe: func(e Event) {
		if e.Kind == EventBuildFailed {
			events = append(events, e)
		}
	}})
	c := must(Register(m, "c", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		runs++
		switch k {
		case "error":
			return 1, boom
		case "panic":
			panic(boom)
		case "goexit":
			runtime.Goexit()
		}
		return 0, ErrNotFound
	}}))
	for _, k := range []string{"error", "panic", "goexit", "absent"} {
		v, err := c.Get(t.Context(), k)
		e, isError := errors.AsType[*Error](err)
		if !isError || e.Cache != "c" || e.Key != k {
			t.Errorf("%s: %v does not name cache and key", k, err)
		}
		_, isPanic := errors.AsType[*PanicError](err)
		if isPanic != (k == "panic" || k == "goexit") {
			t.Errorf("%s: %v", k, err)
		}
		if errors.Is(err, boom) != (k == "error" || k == "panic") || errors.Is(err, ErrNotFound) != (k == "absent") {
			t.Errorf("%s: %v has lost its cause", k, err)
		}
		if c.Has(k) || v != 0 && k != "error" {
			t.Errorf("%s: a failure was kept, or gave %v", k, v)
		}
		c.Get(t.Context(), k)
	}
	equal(t, "runs", runs, 7) // that there is no value is a result
	equal(t, "events", len(events), 6)
	equal(t, "errors counted", c.Stats().BuildErrors, 6)
}

// TestCloseCancelsBuilders: they see their ctx end, their callers get ErrClosed.
func TestCloseCancelsBuilders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		m := newManager(t)
		c := must(Register(m, "c", Spec[string, int]{Build: g.build}))
		result := make(chan error)
		go func() { _, err := c.Get(t.Context(), "k"); result <- err }()
		synctest.Wait()
		ok(t, m.Close())
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestBuildAll(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	runs := 0
	spec := Spec[string, int]{BuildAll: func(context.Context) (map[string]int, error) {
		runs++
		return map[string]int{"a": runs, "b": runs}, nil
	}}
	c := must(Register(m, "c", spec))
	if c.Len() != 0 || runs != 0 {
		t.Fatal("a read without ctx built")
	}
	ok(t, c.Set("b", 10))
	equal(t, "built", must(c.Get(t.Context(), "a")), 1)
	wantContents(t, c, map[string]int{"a": 1, "b": 10})
	if _, err := c.Get(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	equal(t, "runs", runs, 1)
	ok(t, m.Close())

	m = d.open(t, Options{})
	c = must(Register(m, "c", spec))
	equal(t, "after a restart", must(c.Get(t.Context(), "a")), 1)
	equal(t, "runs", runs, 1)
	ok(t, c.InvalidateAll())
	ok(t, m.Close()) // nothing but the invalidation is saved

	m = d.open(t, Options{})
	c = must(Register(m, "c", spec))
	equal(t, "after an invalidation", must(c.Get(t.Context(), "b")), 2)
}

// TestBuildAllInvalidated: contents that were invalidated while they were built
// go to those who waited and are not kept.
func TestBuildAllInvalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan int)
		runs := 0
		c := must(Register(newManager(t), "c", Spec[string, int]{BuildAll: func(context.Context) (map[string]int, error) {
			runs++
			return map[string]int{"a": <-let}, nil
		}}))
		got := make(chan int)
		get := func() { v, _ := c.Get(t.Context(), "a"); got <- v }
		go get()
		synctest.Wait()
		ok(t, c.InvalidateAll())
		let <- 1
		equal(t, "given to the waiter", <-got, 1)
		if c.Has("a") {
			t.Fatal("outdated contents were kept")
		}
		go get()
		let <- 2
		equal(t, "built again", <-got, 2)
		equal(t, "runs", runs, 2)
	})
}

func TestOff(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	runs := 0
	c := must(Register(m, "c", Spec[string, int]{Off: true, Build: func(context.Context, string) (int, error) { runs++; return runs, nil }}))
	ok(t, c.Set("a", 5))
	equal(t, "first", must(c.Get(t.Context(), "a")), 1)
	equal(t, "second", must(c.Get(t.Context(), "a")), 2)
	wantContents(t, c, map[string]int{})
	all := must(Register(m, "all", Spec[string, int]{Off: true, BuildAll: func(context.Context) (map[string]int, error) {
		runs++
		return map[string]int{"a": runs}, nil
	}}))
	equal(t, "third", must(all.Get(t.Context(), "a")), 3)
	equal(t, "fourth", must(all.Get(t.Context(), "a")), 4)
	wantContents(t, all, map[string]int{})
	ok(t, m.Close())
	equal(t, "saves", d.count(), 0)
}

// TestTimeInBuilds: statistics know what builders cost.
// TestAgainAfterDeadline: a builder that has given up waiting for another, and asks
// again, does not get what became of the one that nobody waited for.
func TestAgainAfterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := must(Open("", Options{Store: newDisk()}))
		defer m.Close()
		runs := 0
		slow := must(Register(m, "slow", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			if runs++; runs == 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return runs, nil
		}}))
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if _, err := slow.Get(short, k); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first time: %v", err)
			}
			time.Sleep(time.Second) // the other is over
			return slow.Get(ctx, k)
		}}))
		equal(t, "the second time", must(c.Get(t.Context(), 1)), 2)
	})
}

// TestRunsAreForgotten: a run that is kept to be used again holds on to nothing of
// what it was for.
func TestRunsAreForgotten(t *testing.T) {
	type k struct{}
	type big [1 << 16]byte
	m := newManager(t)
	inner := must(Register(m, "inner", Spec[int, *big]{Memory: true, Build: func(context.Context, int) (*big, error) {
		return new(big), nil
	}}))
	outer := must(Register(m, "outer", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
		_, err := inner.Get(ctx, k)
		return k, err
	}}))
	other := must(Register(m, "other", Spec[int, int]{Memory: true, Build: func(_ context.Context, k int) (int, error) { return k, nil }}))
	ofCaller, value := func() (weak.Pointer[big], weak.Pointer[big]) {
		v := new(big)
		must(outer.Get(context.WithValue(t.Context(), k{}, v), 1))
		made, _ := inner.Peek(1)
		return weak.Make(v), weak.Make(made)
	}()
	ok(t, inner.Clear())
	ok(t, outer.Clear())
	for i := 0; i < 20 && (ofCaller.Value() != nil || value.Value() != nil); i++ {
		must(other.Get(t.Context(), i)) // takes the place of what is on a stack that is over
		runtime.GC()
	}
	if ofCaller.Value() != nil {
		t.Error("what the caller had in its ctx is held")
	}
	if value.Value() != nil {
		t.Error("the value that was built is held")
	}
}

func TestTimeInBuilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := must(Register(newManager(t), "c", Spec[int, int]{Build: func(context.Context, int) (int, error) {
			time.Sleep(time.Second)
			return 1, nil
		}}))
		for i := range 3 {
			must(c.Get(t.Context(), i))
		}
		equal(t, "build time", c.Stats().BuildTime, 3*time.Second)
	})
}

// TestExitInEqual shows that an Equal that ends its goroutine is an error for
// those who wait.
func TestExitInEqual(t *testing.T) {
	m := newDisk().open(t, Options{})
	in := must(Register(m, "in", Spec[string, int]{}))
	c := must(Register(m, "c", Spec[string, int]{
		Build: func(ctx context.Context, k string) (int, error) { return in.Get(ctx, k) },
		Equal: func(a, b int) bool { runtime.Goexit(); return true },
	}))
	in.Set("k", 1)
	equal(t, "first", must(c.Get(t.Context(), "k")), 1)
	in.Set("k", 2)
	_, err := c.Get(t.Context(), "k")
	if _, ok := errors.AsType[*PanicError](err); !ok {
		t.Errorf("got %v", err)
	}
}

// TestLeaveBetweenBuilders has a caller leave while the second of three builders that
// there are to run is running: it ends, and the third does not begin.
func TestLeaveBetweenBuilders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDisk().open(t, Options{})
		in := must(Register(m, "in", Spec[int, int]{}))
		var began [3]int
		var cause error
		block := false
		var c *Cache[int, int]
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			began[k]++
			if k == 1 && block {
				<-ctx.Done()
				cause = ctx.Err()
				return 0, cause
			}
			if k == 0 {
				return in.Get(ctx, 0)
			}
			v, err := c.Get(ctx, k-1)
			return v + 1, err
		}}))
		in.Set(0, 1)
		equal(t, "first", must(c.Get(t.Context(), 2)), 3)
		in.Set(0, 2)
		block = true
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error)
		go func() {
			_, err := c.Get(ctx, 2)
			left <- err
		}()
		synctest.Wait()
		gone := errors.New("gone")
		cancel(gone)
		if err := <-left; !errors.Is(err, gone) {
			t.Errorf("the caller left with %v", err)
		}
		synctest.Wait()
		equal(t, "began", began, [3]int{2, 2, 1})
		equal(t, "the second ended with", cause, context.Canceled)
		block = false
		equal(t, "later", must(c.Get(t.Context(), 2)), 4)
		equal(t, "began", began, [3]int{2, 3, 2})
	})
}

// TestObserverPanics: a panic of who is told of events is not one of who is at work, or waits;
// Close returns it.
func TestObserverPanics(t *testing.T) {
	for name, opts := range map[string]Options{
		"observer": {Observe: func(Event) { panic(errPlanned) }},
		"logger":   {Logger: slog.New(panickingHandler{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGated()
				d := newDisk()
				opts := opts
				opts.Store, opts.Autosync = d, &Autosync{Off: true}
				m := must(Open("", opts))
				c := must(Register(m, "c", Spec[string, int]{Build: g.build}))
				ctx, cancel := context.WithCancel(t.Context()) // so that there is a goroutine for the builder
				defer cancel()
				results := make(chan any, 2)
				for range 2 {
					go func() {
						v, err := c.Get(ctx, "k")
						ok(t, err)
						results <- v
					}()
					synctest.Wait()
				}
				g.let <- 7
				synctest.Wait()
				equal(t, "callers that went on", len(results), 2)
				err := m.Close()
				equal(t, "is planned", errors.Is(err, errPlanned), true)
				m = openOn(d)
				defer m.Close()
				wantContents(t, must(Register(m, "c", Spec[string, int]{})), map[string]int{"k": 7})
			})
		})
	}
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingHandler) Handle(context.Context, slog.Record) error { panic(errPlanned) }

// TestObserverExits: an observer that ends the goroutine, as a failing test does, leaves
// nobody waiting for Close, and the store closed.
func TestObserverExits(t *testing.T) {
	dir := t.TempDir()
	m := must(Open(dir, Options{Observe: func(e Event) {
		if e.Kind == EventSynced {
			runtime.Goexit()
		}
	}}))
	c := must(Register(m, "c", Spec[int, int]{}))
	ok(t, c.Set(1, 2))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer m.Close()
		m.Close()
	}()
	<-done
	m = must(Open(dir, Options{}))
	defer m.Close()
	wantContents(t, must(Register(m, "c", Spec[int, int]{})), map[int]int{1: 2})
}

// TestReadAfterExit: what a goroutine of a builder reads after that has ended its own goroutine is nothing
// that the entry depends on.
func TestReadAfterExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		ctx := t.Context()
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 2}}))
		must(in.Get(ctx, 2))
		exit, leftBehind, goOn := false, make(chan bool), make(chan bool)
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			if exit {
				ctx.Done() // it is kept
				go func() {
					<-leftBehind
					in.Get(context.WithoutCancel(ctx), 2)
				}()
				runtime.Goexit()
			}
			if k == 2 {
				<-goOn
			}
			return in.Get(ctx, 1)
		}}))
		must(c.Get(ctx, 1))
		go c.Get(ctx, 2) // as long as a builder is running, it is looked whose a read is
		synctest.Wait()
		ok(t, c.Invalidate(1))
		exit = true
		go c.Get(ctx, 1)
		synctest.Wait()
		leftBehind <- true
		synctest.Wait()
		exit = false
		goOn <- true
		synctest.Wait()
		must(c.Get(ctx, 1))
		equal(t, "entries that have read the second", len(in.Plan(2)), 0)
		ok(t, m.Close())
	})
}

// TestLeftBehindAndCancelled: what a goroutine has asked for that a builder has left behind, and so nobody
// waits for, is cancelled; who asks for it afterwards in the same call is not told so.
func TestLeftBehindAndCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		runs := 0
		x := must(Register(m, "x", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			if runs++; runs == 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return runs, nil
		}}))
		leaves := must(Register(m, "leaves", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			go x.Get(ctx, 1)
			synctest.Wait()
			return 1, nil
		}}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			if _, err := leaves.Get(ctx, 1); err != nil {
				return 0, err
			}
			synctest.Wait()
			return x.Get(ctx, 1)
		}}))
		equal(t, "value", must(top.Get(t.Context(), 1)), 2)
		ok(t, m.Close())
	})
}

// TestBuildersThatExit: a builder that ends its goroutine is a failure, also of Build and
// Refresh, which go on with the others.
func TestBuildersThatExit(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	exits := false
	var runs atomic.Int64
	c := must(Register(m, "c", Spec[int, int]{Probe: func(_ context.Context, k, _ int, _ bool) (int, error) {
		runs.Add(1)
		if exits && k%2 == 0 {
			runtime.Goexit()
		}
		return k, nil
	}}))
	const n = 100
	for k := range n {
		must(c.Get(ctx, k))
	}
	exits = true
	for _, ask := range []func() error{func() error { return c.Refresh(ctx) }, func() error { c.Recheck(); return c.Build(ctx) }} {
		runs.Store(0)
		if _, is := errors.AsType[*PanicError](ask()); !is {
			t.Error("nothing has failed")
		}
		equal(t, "runs", runs.Load(), n)
	}
}

// TestExitWhileRechecking: so is one that runs because somebody has to know whether what it has
// read is still what it was. A builder that has returned does not fail with it.
func TestExitWhileRechecking(t *testing.T) {
	for name, again := range map[string]bool{"when the builder has returned": false, "when it reads more": true} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			in := must(Register(m, "in", Spec[int, int]{}))
			ok(t, in.Set(0, 1))
			exits := false
			below := must(Register(m, "below", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
				if exits {
					exits = false
					runtime.Goexit()
				}
				return in.Get(ctx, 0)
			}}))
			first := true
			c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
				v, err := below.Get(ctx, 0)
				if first {
					first, exits = false, true
					done := make(chan error)
					go func() { done <- in.Set(0, 2) }()
					ok(t, <-done)
				}
				if again {
					in.Get(ctx, 1)
				}
				return v, err
			}}))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				c.Get(context.Background(), 0)
			}()
			<-gone
			v, err := c.Get(context.Background(), 0)
			ok(t, err)
			equal(t, "value", v, 2)
			if st := c.Stats(); !again && (st.Builds != 1 || st.BuildErrors != 0) {
				t.Errorf("%d builds, %d errors", st.Builds, st.BuildErrors)
			}
		})
	}
}

// TestBuildersOfOneCall: what a caller who may leave has built runs on one goroutine, which
// is not the caller's.
func TestBuildersOfOneCall(t *testing.T) {
	goroutine := func() string {
		var buf [64]byte
		text, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), "[")
		return text
	}
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	var ran []string
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		ran = append(ran, goroutine())
		if k == 0 {
			return in.Get(ctx, 0)
		}
		return c.Get(ctx, k-1)
	}}))
	ok(t, in.Set(0, 1))
	const n = 10
	must(c.Get(t.Context(), n-1))
	ok(t, in.Set(0, 2))
	ran = nil
	equal(t, "value", must(c.Get(t.Context(), n-1)), 2)
	equal(t, "builders", len(ran), n)
	if all := slices.Compact(slices.Clone(ran)); len(all) != 1 || all[0] == goroutine() {
		t.Errorf("this is %s, and they ran in %q", goroutine(), all)
	}
}

// TestStaleOfItsOwnAccord: a builder that says that what it has read is stale, which it is
// not, has failed: it is not called again and again.
func TestStaleOfItsOwnAccord(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	ok(t, in.Set(1, 1))
	runs := 0
	build := func(ctx context.Context) error {
		if runs++; runs > 100 {
			return nil // or the test would not end
		}
		must(in.Get(ctx, 1))
		return ErrStale
	}
	one := must(Register(m, "one", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return 1, build(ctx) }}))
	all := must(Register(m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) { return nil, build(ctx) }}))
	top := must(Register(m, "top", Spec[int, int]{Build: one.Get}))
	for name, get := range map[string]func(context.Context, int) (int, error){"one": one.Get, "all": all.Get, "top": top.Get} {
		for range 2 {
			runs = 0
			if _, err := get(ctx, 1); !errors.Is(err, ErrStale) {
				t.Errorf("%s: got %v", name, err)
			}
			equal(t, "runs of "+name, runs, 1)
		}
	}
	equal(t, "failures", one.Stats().BuildErrors, 4)
}

// TestLeavingBuildTellsNobody: of a Build whose ctx ends, who waits for the same entry is not told
// anything, also if its builder then asks for one that only that Build has waited for.
func TestLeavingBuildTellsNobody(t *testing.T) {
	sideBySide(t)
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{}))
		first, wait := true, make(chan struct{})
		var c *Cache[int, int]
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, 0)
			switch {
			case v == 0 || err != nil:
			case k == 1:
				<-wait
				return c.Get(ctx, 2)
			case first:
				first = false
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return v, err
		}}))
		ok(t, in.Set(0, 0))
		must(c.Get(t.Context(), 1))
		must(c.Get(t.Context(), 2))
		ok(t, in.Set(0, 1))
		ctx, cancel := context.WithCancel(t.Context())
		built, got := make(chan error, 1), make(chan error, 1)
		go func() { built <- m.Build(ctx, All(), nil) }()
		synctest.Wait()
		go func() {
			_, err := c.Get(context.Background(), 1)
			got <- err
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(wait)
		ok(t, <-got)
		if err := <-built; !errors.Is(err, context.Canceled) {
			t.Errorf("Build: %v", err)
		}
	})
}

// TestExitOfPart: a builder that ends a goroutine of another, which goes on without what that was
// to read, leaves it with something that is not kept.
func TestExitOfPart(t *testing.T) {
	m := newManager(t)
	exits := true
	below := must(Register(m, "below", Spec[int, int]{Build: func(context.Context, int) (int, error) {
		if exits {
			runtime.Goexit()
		}
		return 1, nil
	}}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, _ int) (v int, err error) {
		var part sync.WaitGroup
		part.Go(func() { v, err = below.Get(ctx, 0) })
		part.Wait()
		return v, err
	}}))
	c.Get(t.Context(), 0)
	exits = false
	equal(t, "value", must(c.Get(t.Context(), 0)), 1)
}

// TestSetWhileBuilt: what was set while it was being built for the first time does not count as
// built from what its builder had read.
func TestSetWhileBuilt(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	started, goOn := make(chan bool), make(chan bool)
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
		v, err := in.Get(ctx, 1)
		started <- true
		<-goOn
		return v, err
	}}))
	ok(t, in.Set(1, 1))
	got := make(chan int)
	go func() { got <- must(c.Get(context.Background(), 1)) }()
	<-started
	ok(t, in.Set(1, 2))
	ok(t, c.Set(1, 5))
	ok(t, in.Set(1, 3)) // with assertions, it is looked whether what was built from it is marked
	equal(t, "state", c.Explain(1).State, Clean)
	goOn <- true
	<-got // of the time when it was asked for
	equal(t, "value", must(c.Get(t.Context(), 1)), 5)
}
