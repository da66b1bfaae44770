package sqlitestore_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
)

// A load holds up no batch, of whatever store, and sees the instant at which it
// began.
func TestLongLoad(t *testing.T) {
	t.Parallel()
	path := place(t)
	s, other := open(t, path), open(t, path)
	const n = 5000
	apply(t, s, puts("c", n, "old"))
	got := 0
	for r, err := range s.Load(t.Context(), "c") {
		if err != nil {
			t.Fatal(err)
		}
		switch got {
		case 5:
			apply(t, s, puts("c", n, "new"))
		case 6:
			apply(t, other, batch(store.Op{Kind: store.Drop, Cache: "c"}))
		case 7:
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if string(r.Value) != "old" {
			t.Fatalf("record %s has value %.80q", r.Key, r.Value)
		}
		got++
	}
	if got != n {
		t.Errorf("%d records of %d", got, n)
	}
}

// However a load ends, nothing of it is left that keeps the log from being
// emptied.
func TestLoadsLeaveNothing(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	value := strings.Repeat("v", 1000)
	apply(t, s, puts("c", 1000, value))
	emptied := func(after string) {
		t.Helper()
		apply(t, s, puts("d", 1, value))
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i, err := os.Stat(path + "-wal"); err != nil || i.Size() > 0 {
			t.Errorf("after %s the log has %d bytes, %v", after, i.Size(), err)
		}
	}
	emptied("nothing")
	for range s.Load(t.Context(), "c") {
		break
	}
	emptied("a load that was left")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range s.Load(ctx, "c") {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	emptied("a load that was cancelled")
	func() {
		defer func() { recover() }()
		for range s.Load(t.Context(), "c") {
			panic("in the loop")
		}
	}()
	emptied("a load that panicked")
	for range s.Load(t.Context(), "unknown") {
	}
	emptied("a load of nothing")
}

// A load whose context ends between two steps is cancelled, and no record of it
// is taken for damaged.
func TestLoadCancelledBetweenSteps(t *testing.T) {
	t.Parallel()
	s := open(t, place(t))
	apply(t, s, puts("c", 10, "v"))
	for calls := 1; calls < 12; calls++ {
		ctx, cancel := context.WithCancel(t.Context())
		var last error
		end := &ending{Context: ctx, cancel: cancel, s: s}
		end.calls.Store(int32(calls))
		for _, err := range s.Load(end, "c") {
			if last = err; errors.Is(err, store.ErrCorrupt) {
				t.Errorf("cancelled after call %d: %v", calls, err)
			}
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("cancelled after call %d: the load ends with %v", calls, last)
		}
		cancel()
	}
}

// ending is a context that ends within a call of Err, which does not say so yet
// and returns when no connection of the store is in use any more.
type ending struct {
	context.Context
	cancel context.CancelFunc
	s      *sqlitestore.Store
	calls  atomic.Int32
}

func (c *ending) Err() error {
	err := c.Context.Err()
	if c.calls.Add(-1) == 0 {
		c.cancel()
		for sqlitestore.InUse(c.s) > 0 {
			runtime.Gosched()
		}
	}
	return err
}

// A load that is not finished ends when the store is closed, and the file can
// be opened again.
func TestCloseDuringLoad(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	apply(t, s, puts("c", 10, "v"))
	var last error
	for _, err := range s.Load(t.Context(), "c") {
		if last = err; err == nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wantAll(t, open(t, path), "c", 10, "v")
		}
	}
	if !errors.Is(last, store.ErrClosed) {
		t.Errorf("the load ends with %v", last)
	}
}

// After a compaction the file is no larger than one that never held more.
func TestCompactShrinks(t *testing.T) {
	t.Parallel()
	small, large := place(t), place(t)
	value := strings.Repeat("v", 1000)
	size := func(path string, s *sqlitestore.Store) int64 {
		t.Helper()
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		i, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return i.Size()
	}
	s := open(t, small)
	apply(t, s, puts("c", 100, value))
	want := 2 * size(small, s)
	l := open(t, large)
	apply(t, l, puts("c", few(10_000, 1000), value))
	before := size(large, l)
	apply(t, l, puts("dropped", 1000, value))
	apply(t, l, batch(store.Op{Kind: store.Drop, Cache: "dropped"}, store.Op{Kind: store.Clear, Cache: "c"}))
	apply(t, l, puts("c", 100, value))
	if now := size(large, l); now > want {
		t.Errorf("from %d bytes to %d, more than %d", before, now, want)
	}
	wantAll(t, l, "c", 100, value)
}
