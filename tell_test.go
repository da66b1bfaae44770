package cacheman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// told collects events.
type told struct {
	mu     sync.Mutex
	events []Event
}

func (t *told) observe(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// of returns the events of one kind.
func (t *told) of(kind EventKind) (of []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		if e.Kind == kind {
			of = append(of, e)
		}
	}
	return of
}

// TestOwnCachesAreNamed: caches of our own have names for people, also in events and errors.
func TestOwnCachesAreNamed(t *testing.T) {
	ctx := t.Context()
	var all told
	m := newDisk().open(t, Options{Observe: all.observe})
	files := must(OpenFiles(m))
	in := must(Register(m, "in", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return 0, errPlanned }}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if _, err := in.Contains(ctx, 7); !errors.Is(err, errPlanned) {
			t.Error(err)
		}
		n, err := in.Count(ctx)
		return n, err
	}}))
	must(c.Get(ctx, 1))
	_, err := files.Get(ctx, "no such file")
	e, is := errors.AsType[*Error](err)
	equal(t, "error", is, true)
	equal(t, "cache of the error", e.Cache, "files")
	equal(t, "events", fmt.Sprint(len(all.of(EventBuilt)) > 0, len(all.of(EventBuildFailed)) > 0), "true true")
	for _, e := range all.events {
		if strings.Contains(e.Cache, "\x00") {
			t.Errorf("%s of %q", e.Kind, e.Cache)
		}
	}
}

// TestFailureIsToldWhole: the event of a builder that failed has what it has said, and says
// where an error came from that it has passed on.
func TestFailureIsToldWhole(t *testing.T) {
	ctx := t.Context()
	var all told
	m := newDisk().open(t, Options{Observe: all.observe})
	in := must(Register(m, "in", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return 0, errPlanned }}))
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (n int, err error) {
		if k == 0 {
			n, err = c.Get(ctx, k)
		} else {
			n, err = in.Get(ctx, k)
		}
		if err != nil {
			err = fmt.Errorf("page %d: %w", k, err)
		}
		return n, err
	}}))
	for k := range 2 {
		if _, err := c.Get(ctx, k); err == nil {
			t.Error("no error")
		}
	}
	events := all.of(EventBuildFailed)
	for i, want := range []string{
		"c[0]: page 0: cacheman: get c[0]: needs itself: c[0] → c[0]",
		"in[1]: planned",
		"c[1]: page 1: cacheman: build in[1]: planned",
	} {
		e := events[i]
		equal(t, "event", fmt.Sprint(entryName(e.Cache, e.Key), ": ", e.Err), want)
	}
	equal(t, "a circle", errors.Is(events[0].Err, ErrCycle), true)
	equal(t, "not by itself", errors.Is(events[1].Err, errPlanned), true)
}

// TestBuildsAreToldAsCounted: a run that nobody gets the result of, because its entry was
// invalidated when it had been told that what it has read has changed, is neither a build nor a
// failure.
func TestBuildsAreToldAsCounted(t *testing.T) {
	ctx := t.Context()
	var all told
	m := newDisk().open(t, Options{Observe: all.observe})
	in := must(Register(m, "in", Spec[int, int]{}))
	ok(t, in.Set(1, 1))
	reading, changed := make(chan bool, 1), make(chan bool, 1)
	reading <- true
	begun := make(chan bool)
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		n, err := in.Get(ctx, k)
		if err != nil {
			return n, err
		}
		select {
		case <-reading: // the first time
			close(begun)
			<-changed
		default:
		}
		return in.Get(ctx, k)
	}}))
	go func() {
		<-begun
		in.Set(1, 2)
		c.Invalidate(1)
		changed <- true
	}()
	equal(t, "value", must(c.Get(ctx, 1)), 2)
	st := c.Stats()
	equal(t, "counted", fmt.Sprint(st.Builds, st.BuildErrors, st.LastError), "1 0 <nil>")
	equal(t, "told", fmt.Sprint(len(all.of(EventBuilt)), len(all.of(EventBuildFailed))), "1 0")
}

// TestCauseThatCannotBeKept: what was built of a dependency, and cannot be kept, is not said to
// be what could not be built.
func TestCauseThatCannotBeKept(t *testing.T) {
	ctx := t.Context()
	var all told
	m := newDisk().open(t, Options{Observe: all.observe})
	fail := false
	in := must(Register(m, "in", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if fail {
			return 0, errPlanned
		}
		return 1, nil
	}}))
	mid := must(Register(m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		n, _ := in.Get(ctx, k) // and makes do
		return n, nil
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: mid.Get}))
	must(top.Get(ctx, 1))
	fail = true
	ok(t, in.Invalidate(1))
	equal(t, "value", must(top.Get(ctx, 1)), 0)
	var causes []string
	for _, e := range all.of(EventBuilt)[3:] {
		causes = append(causes, entryName(e.Cache, e.Key)+": "+e.Reason)
	}
	equal(t, "causes", strings.Join(causes, ", "), "mid[1]: in[1] cannot be built, top[1]: mid[1] cannot be kept")
}

// TestMemoryIsNamed: what was built through a cache in memory names that, and not what was
// noted of it.
func TestMemoryIsNamed(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	var all told
	open := func() (half, top *Cache[int, int], m *Manager) {
		m = d.open(t, Options{Observe: all.observe})
		in := must(Register(m, "in", Spec[int, int]{}))
		half = must(Register(m, "half", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
			in.Get(ctx, k)
			return 0, nil
		}}))
		return half, must(Register(m, "top", Spec[int, int]{Build: half.Get})), m
	}
	_, top, m := open()
	must(top.Get(ctx, 1))
	ok(t, m.Close())
	half, top, _ := open()
	names := func() string {
		var names []string
		for _, d := range top.Explain(1).Dependencies {
			names = append(names, entryName(d.Cache, d.Key))
		}
		return strings.Join(names, " ")
	}
	equal(t, "as it was saved", names(), "half[1] in[1]")
	must(top.Get(ctx, 1))
	equal(t, "when it was looked at", names(), "half[1] in[1]")
	equal(t, "dependents", fmt.Sprint(half.Explain(1).Dependents, half.Plan(1)), "[{top 1 1}] [{top 1 1}]")
	ok(t, half.Set(1, 2))
	equal(t, "why", top.Explain(1).Why, "half[1] has changed")
	must(top.Get(ctx, 1))
	built := all.of(EventBuilt)
	equal(t, "cause", built[len(built)-1].Reason, "half[1] has changed")
	ok(t, half.Set(1, 0))
	equal(t, "read itself", names(), "half[1]")
}

// TestHitsAreUpToDate: a read for which something has to be built is no hit, though there is
// an old value; one that has it found to be valid is.
func TestHitsAreUpToDate(t *testing.T) {
	d := newDisk()
	open := func() (m *Manager, in, c *Cache[int, int]) {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		c = must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
			v, err := in.Get(ctx, 1)
			return v / 10, err
		}}))
		return m, in, c
	}
	m, in, c := open()
	want := func(hits, misses uint64) {
		t.Helper()
		must(c.Get(t.Context(), 1))
		st := m.Stats()
		equal(t, "cache", st[0].Cache, "c")
		equal(t, "hits and misses", [2]uint64{st[0].Hits, st[0].Misses}, [2]uint64{hits, misses})
	}
	ok(t, in.Set(1, 10))
	want(0, 1)
	want(1, 1)
	ok(t, in.Set(1, 20))
	want(1, 2)
	want(2, 2)
	ok(t, in.Set(1, 21)) // and comes out the same
	want(2, 3)
	ok(t, m.Close())
	m, _, c = open()
	want(1, 0)
}

// TestReadsOfBuilders: a read by a builder is counted like any other.
func TestReadsOfBuilders(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 1, nil }}))
	reader := must(Register(m, "reader", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k%2) }}))
	for k := range 4 {
		must(reader.Get(t.Context(), k))
	}
	st := m.Stats()
	equal(t, "hits and misses of c", [2]uint64{st[0].Hits, st[0].Misses}, [2]uint64{2, 2})
	equal(t, "of its reader", [2]uint64{st[1].Hits, st[1].Misses}, [2]uint64{0, 4})
}

// TestStaleIsNoFailure: that a builder was told to return because what it had read has changed is
// no failure, also if its caller has left meanwhile.
func TestStaleIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all told
		m := newDisk().open(t, Options{Observe: all.observe})
		in := must(Register(m, "in", Spec[int, int]{}))
		ctx, leave := context.WithCancel(t.Context())
		change := make(chan bool)
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			in.Get(ctx, 1)
			change <- true
			<-change
			_, err := in.Get(ctx, 2)
			leave()
			<-ctx.Done()
			return 0, err
		}}))
		go func() {
			<-change
			in.Set(1, 1)
			change <- true
		}()
		_, err := c.Get(ctx, 1)
		equal(t, "the caller has left", errors.Is(err, context.Canceled), true)
		synctest.Wait()
		equal(t, "told", len(all.of(EventBuildFailed)), 0)
		equal(t, "counted", c.Stats().BuildErrors, 0)
	})
}

// TestLogOfBuilders: that nobody waits any more for what is being built is no failure, and that a builder
// has panicked is logged with where, which the error itself does not say.
func TestLogOfBuilders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		m := must(Open("", Options{Store: newDisk(), Logger: slog.New(slog.NewTextHandler(&text, nil))}))
		c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			switch k {
			case 1:
				panic("planned")
			case 2:
				return []int{}[k], nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		}}))
		ctx, cancel := context.WithCancel(t.Context())
		go c.Get(ctx, 0)
		synctest.Wait()
		cancel()
		synctest.Wait()
		equal(t, "log of who left", text.String(), "")
		_, err := c.Get(t.Context(), 1)
		_, file, line, _ := runtime.Caller(0)
		equal(t, "error", fmt.Sprint(err), fmt.Sprintf("cacheman: build c[1]: panicked at %s:%d: planned", filepath.Base(file), line-14))
		_, err = c.Get(t.Context(), 2)
		equal(t, "error", fmt.Sprint(err), fmt.Sprintf("cacheman: build c[2]: panicked at %s:%d: runtime error: index out of range [2] with length 0", filepath.Base(file), line-12))
		if log := text.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "tell_test.go:") {
			t.Errorf("logged: %s", log)
		}
		ok(t, m.Close())
	})
}
