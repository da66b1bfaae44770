package boltstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// A load that is never hurried holds up neither batches, whatever they do to
// the file, nor a compaction, and sees the instant at which it began.
func TestLongLoad(t *testing.T) {
	t.Parallel()
	s := open(t, place(t))
	const n = 20_000
	value := strings.Repeat("v", 50)
	apply(t, s, puts("c", n, value))
	got := 0
	for r, err := range s.Load(t.Context(), "c") {
		if err != nil {
			t.Fatal(err)
		}
		switch got {
		case 5: // the file grows, so bbolt maps it anew
			apply(t, s, puts("other", n, value))
		case 6:
			apply(t, s, batch(store.Op{Kind: store.Drop, Cache: "other"}))
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		case n / 2:
			apply(t, s, puts("c", n/2, "new"))
		case n/2 + 1:
			apply(t, s, batch(store.Op{Kind: store.Drop, Cache: "c"}))
		}
		if string(r.Value) != value {
			t.Fatalf("record %s has value %.80q", r.Key, r.Value)
		}
		got++
	}
	if got != n {
		t.Errorf("%d records of %d", got, n)
	}
}

// Loads that begin at any moment see whole batches: each of them gives all
// records the same value, and the cache is larger than what is read at once.
func TestLoadsBesideBatches(t *testing.T) {
	t.Parallel()
	s := open(t, place(t))
	const n = 4000
	long := strings.Repeat("v", 200)
	apply(t, s, puts("c", n, long))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				first, got := "", 0
				for r, err := range s.Load(t.Context(), "c") {
					if err != nil {
						t.Error(err)
						return
					}
					if got++; first == "" {
						first = string(r.Value)
					}
					if string(r.Value) != first {
						t.Errorf("values %.9q and %.9q in one load", first, r.Value)
						return
					}
				}
				if got != n {
					t.Errorf("%d records of %d", got, n)
				}
			}
		})
	}
	for i := range 10 {
		apply(t, s, puts("c", n, string(rune('a'+i))+long))
		if i == 5 {
			if err := s.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	wg.Wait()
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
