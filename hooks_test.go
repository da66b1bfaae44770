package cacheman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
)

// TestNoUserCodeUnderLocks: every piece of user code may use the Manager in
// ways that take every lock there is.
func TestNoUserCodeUnderLocks(t *testing.T) {
	var m *Manager
	var other *Cache[int, int]
	var called sync.Map
	var busy atomic.Bool
	probe := func(who string) {
		called.Store(who, true)
		if other == nil || !busy.CompareAndSwap(false, true) {
			return
		}
		defer busy.Store(false)
		done := make(chan bool)
		go func() {
			defer close(done)
			other.Set(1, 1)
			other.Len()
			m.Invalidate(Only("other"))
			m.Stats()
			if c, err := m.lookup("c"); err == nil {
				c.typed.stats()
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second): // only if it hangs
			panic(who + " runs under a lock")
		}
	}
	d := newDisk()
	m = d.open(t, Options{Observe: func(e Event) { probe("Observe") }, Autosync: &Autosync{Off: true}})
	other = must(Register(m, "other", Spec[int, int]{}))
	ints := must(codec.For[int]())
	intKeys := must(codec.Key[int]())
	spec := Spec[int, int]{
		Build:      func(_ context.Context, k int) (int, error) { probe("Build"); return k, nil },
		Validate:   func(context.Context, map[int]int) error { probe("Validate"); return nil },
		BeforeSave: func(_ context.Context, _, v int) (int, error) { probe("BeforeSave"); return v, nil },
		AfterLoad:  func(_ context.Context, _, v int) (int, error) { probe("AfterLoad"); return v, nil },
		Delete:     func(context.Context) error { probe("Delete"); return nil },
		Codec: codec.Codec[int]{
			Name:   "own",
			Append: func(dst []byte, v int) ([]byte, error) { probe("Append"); return ints.Append(dst, v) },
			Decode: func(src []byte) (int, error) { probe("Decode"); return ints.Decode(src) },
		},
		KeyCodec: codec.Codec[int]{
			Name:   "own key",
			Append: func(dst []byte, v int) ([]byte, error) { probe("Append key"); return intKeys.Append(dst, v) },
			Decode: func(src []byte) (int, error) { probe("Decode key"); return intKeys.Decode(src) },
		},
	}
	use := func(c *Cache[int, int]) {
		ok(t, c.Load(t.Context()))
		must(c.Get(t.Context(), 1))
		must(c.Update(1, func(v int, _ bool) (int, bool) { probe("Update"); return v, true }))
		for range c.All() {
			probe("All")
		}
		ok(t, c.SetAll(func(yield func(int, int) bool) { probe("SetAll"); yield(3, 3) }))
		ok(t, c.Sync(t.Context()))
		ok(t, c.Reload(t.Context()))
		c.Peek(1)
		ok(t, c.DeleteSaved(t.Context()))
		ok(t, c.Rebuild(t.Context()))
	}
	use(must(Register(m, "c", spec)))
	use(must(Register(m, "whole", Spec[int, int]{
		BuildAll: func(context.Context) (map[int]int, error) { probe("BuildAll"); return map[int]int{1: 1}, nil },
		Load:     func(context.Context) (map[int]int, error) { probe("Load"); return map[int]int{1: 1}, nil },
		Save:     func(context.Context, map[int]int) error { probe("Save"); return nil },
	})))
	for who := range strings.SplitSeq("Observe,Build,BuildAll,Load,Save,Delete,Validate,BeforeSave,AfterLoad,Append,Decode,Append key,Decode key,Update,All,SetAll", ",") {
		if _, ok := called.Load(who); !ok {
			t.Errorf("%s was not called", who)
		}
	}
}

// TestObserverReadsLoaded: who is told that contents were loaded may read them.
func TestObserverReadsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
		ok(t, m.Close())
		var c *Cache[int, int]
		told := 0
		m = d.open(t, Options{Observe: func(e Event) {
			if e.Kind == EventLoaded {
				told++
				equal(t, "entries", c.Len(), e.Count)
				equal(t, "value", must(c.Get(context.Background(), 1)), 1)
			}
		}})
		c = must(Register(m, "c", Spec[int, int]{}))
		ok(t, c.Load(t.Context()))
		ok(t, c.Reload(t.Context()))
		equal(t, "events", told, 2)
	})
}

func TestVersion(t *testing.T) {
	d := newDisk()
	builds := 0
	var reasons []string
	run := func(version string) int {
		m := d.open(t, Options{Observe: func(e Event) {
			if e.Kind == EventInvalidated {
				reasons = append(reasons, e.Reason)
			}
		}})
		defer m.Close()
		c := must(Register(m, "c", Spec[string, int]{Version: version, Build: func(context.Context, string) (int, error) {
			builds++
			return builds, nil
		}}))
		return must(c.Get(t.Context(), "k"))
	}
	got := []int{run(""), run(""), run("2"), run("2"), run("3"), run("3")}
	equal(t, "values", fmt.Sprint(got), "[1 1 2 2 3 3]")
	equal(t, "reasons", strings.Join(reasons, "; "), `it was saved by version "", this is "2"; it was saved by version "2", this is "3"`)
}

func TestEager(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	c := must(Register(m, "c", Spec[int, int]{Eager: true, BuildAll: func(context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil }}))
	wantContents(t, c, map[int]int{1: 1})
}

func TestValueAndSet(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	builds := 0
	v := must(RegisterValue(m, "v", Spec[Single, []string]{Build: func(context.Context, Single) ([]string, error) {
		builds++
		return []string{fmt.Sprint(builds)}, nil
	}}))
	if _, ok := v.Peek(); ok {
		t.Error("there is a value before any")
	}
	ok(t, v.Rebuild(t.Context()))
	must(v.Update(func(v []string, _ bool) ([]string, bool) { return append(v, "x"), true }))
	equal(t, "value", fmt.Sprint(must(v.Get(t.Context()))), "[1 x]")
	s := must(RegisterSet(m, "s", Spec[string, struct{}]{}))
	ok(t, s.Add("a", "b", "c"))
	ok(t, s.Remove("b"))
	ok(t, m.Close())

	m = d.open(t, Options{})
	v = must(RegisterValue(m, "v", Spec[Single, []string]{}))
	equal(t, "value", fmt.Sprint(must(v.Get(t.Context()))), "[1 x]")
	ok(t, v.Set(nil))
	ok(t, v.Reload(t.Context()))
	equal(t, "value", fmt.Sprint(must(v.Get(t.Context()))), "[1 x]")
	s = must(RegisterSet(m, "s", Spec[string, struct{}]{}))
	if !s.Has("a") || s.Has("b") || s.Len() != 2 {
		t.Errorf("the set has %d members", s.Len())
	}
	if _, err := v.Cache().Get(t.Context(), Single{}); err != nil {
		t.Error(err)
	}
}

// TestLog: events reach the logger with their level and stable keys.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		d := newDisk()
		m := d.open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))})
		c := must(Register(m, "c", Spec[string, int]{Build: func(_ context.Context, k string) (int, error) {
			time.Sleep(time.Second)
			if k == "bad" {
				return 0, ErrNotFound
			}
			return 1, nil
		}}))
		must(c.Get(t.Context(), "k"))
		c.Get(t.Context(), "bad")
		ok(t, c.InvalidateAll())
		ok(t, m.Sync(t.Context()))
		equal(t, "log", log.String(), `level=DEBUG msg="cacheman: built" cache=c key=k duration=1s reason="it was not there"
level=DEBUG msg="cacheman: built" cache=c key=bad duration=1s reason="it was not there"
level=DEBUG msg="cacheman: invalidated" cache=c reason=invalidate
level=DEBUG msg="cacheman: synced"
`)
	})
}

// TestSetWhereLoadFails: what was set is what it is, whatever became of what was saved; what a builder
// makes of it is not kept, for after a load it may turn out to be what it was.
func TestSetWhereLoadFails(t *testing.T) {
	ctx := t.Context()
	m := must(Open("", Options{Store: newDisk()}))
	c := must(Register(m, "c", Spec[int, int]{Load: func(context.Context) (map[int]int, error) { return nil, errPlanned }}))
	d := must(Register(m, "d", Spec[int, int]{Build: c.Get}))
	ok(t, c.Set(1, 1))
	equal(t, "Get", must(c.Get(ctx, 1)), 1)
	equal(t, "built of it", must(d.Get(ctx, 1)), 1)
	equal(t, "kept", d.Has(1), false)
	if _, err := c.Get(ctx, 2); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Get(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ok(t, m.Close())
}
