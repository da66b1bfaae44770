package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

func size(t *testing.T, path string) int64 {
	t.Helper()
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return i.Size()
}

// After a compaction the file is no larger than one that never held more.
func TestCompactShrinks(t *testing.T) {
	t.Parallel()
	small, large := place(t), place(t)
	value := strings.Repeat("v", 1000)
	s := open(t, small)
	apply(t, s, puts("c", 100, value))
	l := open(t, large)
	apply(t, l, puts("c", 10_000, value))
	apply(t, l, puts("dropped", 1000, value))
	apply(t, l, batch(store.Op{Kind: store.Drop, Cache: "dropped"}, store.Op{Kind: store.Clear, Cache: "c"}))
	apply(t, l, puts("c", 100, value))
	before := size(t, large)
	if err := l.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAll(t, l, "c", 100, value)
	if now, want := size(t, large), 2*size(t, small); now > want {
		t.Errorf("from %d bytes to %d, more than %d", before, now, want)
	}
	apply(t, l, puts("c", 200, value))
	wantAll(t, l, "c", 200, value)
}

// What a crash leaves of a compaction is in the way of nothing.
func TestCompactAfterCrash(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	apply(t, s, puts("c", 100, "v"))
	if err := os.WriteFile(path+".compact", []byte("unfinished"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".compact"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the compaction is still there: %v", err)
	}
	wantAll(t, s, "c", 100, "v")
}

// Whenever its context ends, a compaction changes nothing and leaves nothing.
func TestCompactCancelled(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	for i := range 20 {
		apply(t, s, puts(fmt.Sprint(i), 100, "v"))
	}
	for calls := range 60 {
		err := s.Compact(&countdown{t.Context(), calls})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled at call %d: %v", calls, err)
		}
		if _, err := os.Stat(path + ".compact"); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("cancelled at call %d: the file of the compaction is still there: %v", calls, err)
		}
		apply(t, s, puts("0", 100, "v"))
	}
	for i := range 20 {
		wantAll(t, s, fmt.Sprint(i), 100, "v")
	}
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

// A store can be closed while it is compacted.
func TestCloseDuringCompact(t *testing.T) {
	t.Parallel()
	path := place(t)
	for range 5 {
		s := open(t, path)
		apply(t, s, puts("c", 5000, "v"))
		done := make(chan error)
		go func() { done <- s.Compact(t.Context()) }()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("Compact: %v", err)
		}
	}
	wantAll(t, open(t, path), "c", 5000, "v")
	if _, err := os.Stat(path + ".compact"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the compaction is still there: %v", err)
	}
}

// A database that is reached by a symbolic link stays where it is when it is
// compacted.
func TestCompactThroughLink(t *testing.T) {
	t.Parallel()
	path := place(t)
	open(t, path).Close()
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil && runtime.GOOS == "windows" {
		t.Skip("not everybody may make links: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	s := open(t, link)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, puts("c", 10, "v"))
	if _, err := boltstore.Open(path, boltstore.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("opened a second time, by the other name: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantAll(t, open(t, path), "c", 10, "v")
}
