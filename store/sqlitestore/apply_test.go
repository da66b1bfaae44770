package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

// The promises hold when a batch has many runs too: here every op is one.
func TestRuns(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Open {
		switch strings.TrimPrefix(t.Name(), "TestRuns/") {
		case "Many":
			t.Skip("it would take most of the time and show nothing more")
		case "LoadCancelled", "LoadSnapshot", "LoadNested", "Load", "Get", "Compact", "CloseWhileLoading":
			if testing.Short() {
				t.Skip("it is about reading, which TestStore has checked")
			}
		}
		path := place(t)
		return func() (store.Store, error) {
			s, err := sqlitestore.Open(path, sqlitestore.Options{})
			if err == nil {
				sqlitestore.SetRun(s, 1)
			}
			return s, err
		}
	})
}

// A batch is written while it is taken in, so it may be larger than memory.
func TestBatchIsStreamed(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	apply(t, s, puts("c", 10, "old"))
	sqlitestore.SetRun(s, 1<<20)
	value := strings.Repeat("v", 10_000)
	n := few(2000, 500)
	largest := int64(0)
	apply(t, s, func(yield func(store.Op, error) bool) {
		for op, err := range puts("c", n, value) {
			if i, err := os.Stat(path + "-wal"); err == nil {
				largest = i.Size()
			}
			if !yield(op, err) {
				return
			}
		}
		// Nobody sees anything of it yet.
		wantAll(t, s, "c", 10, "old")
		wantAll(t, open(t, path), "c", 10, "old")
	})
	if largest < int64(n*len(value)/2) {
		t.Errorf("of %d bytes, %d were written before the last op was given", n*len(value), largest)
	}
	wantAll(t, s, "c", n, value)
}

// A batch that is cancelled when parts of it are written, or while one is
// being written, leaves nothing.
func TestCancelledWhileWriting(t *testing.T) {
	t.Parallel()
	s := open(t, place(t))
	sqlitestore.SetRun(s, 10_000)
	apply(t, s, puts("c", 1000, "old"))
	for calls := 1; calls < 4000; calls += few(397, 1201) {
		err := s.Apply(&countdown{t.Context(), calls}, func(yield func(store.Op, error) bool) {
			if yield(store.Op{Kind: store.Clear, Cache: "c"}, nil) {
				puts("c", 2000, "new")(yield)
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled at call %d: %v", calls, err)
		}
		wantAll(t, s, "c", 1000, "old")
	}
	apply(t, s, puts("c", 1000, "new"))
	wantAll(t, s, "c", 1000, "new")
}

// countdown is a context that ends after some calls of Err.
type countdown struct {
	context.Context
	calls int
}

func (c *countdown) Err() error {
	if c.calls--; c.calls < 0 {
		return context.Canceled
	}
	return nil
}

// Stores that write to one file at the same time give each cache an id of its
// own, and lose nothing.
func TestManyStores(t *testing.T) {
	t.Parallel()
	path := place(t)
	const stores, batches = 3, 30
	done := make(chan error)
	for i := range stores {
		s := open(t, path)
		go func() {
			for b := range batches {
				if err := s.Apply(t.Context(), puts(fmt.Sprintf("%d/%d", i, b), 3, "v")); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range stores {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	s := open(t, path)
	infos, err := s.Caches(t.Context())
	if err != nil || len(infos) != stores*batches {
		t.Errorf("%d caches, %v", len(infos), err)
	}
	for _, info := range infos {
		wantAll(t, s, info.Cache, 3, "v")
	}
}
