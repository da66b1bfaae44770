package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// checkIsolation: a batch is not seen, not even in part, before it is complete.
// A read from within its ops comes neither too early nor too late.
func checkIsolation(t *suite) {
	s := t.store()
	m := make(model)
	before := []store.Op{put("c", "k", "1"), put("c", "j", "1"), put("d", "k", "1"), put("e", "k", "1")}
	ops := []store.Op{
		put("c", "k", "2"), put("c", "new", "2"), del("c", "j"), put("new", "k", "2"), clearAll("d"), drop("e"),
	}
	if s.Caps().Described {
		before = append(before, describe("c", "1"), describe("e", "1"))
		ops = append(ops, describe("c", "2"), describe("described", "2"))
	}
	t.apply(s, before...)
	m.apply(before...)
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		for i, op := range ops {
			if !yield(op, nil) {
				t.Errorf("Apply ended early, after %d ops", i+1)
				return
			}
			// In a subtest, which may end its goroutine.
			whole := t.Run(fmt.Sprint("after ", op.Kind), func(tt *testing.T) {
				t := &suite{T: tt, open: t.open}
				t.want(s, m)
				if g, ok := s.(store.Getter); ok {
					t.wantGet(g, m)
				}
			})
			if !whole {
				return
			}
		}
	})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	m.apply(ops...)
	if !t.Failed() {
		t.want(s, m)
	}
}

// wantGet checks that Get finds the records of the model.
func (t *suite) wantGet(g store.Getter, m model) {
	t.Helper()
	for cache, c := range m {
		for key, want := range c.records {
			r, err := g.Get(t.Context(), cache, []byte(key))
			if err != nil || !bytes.Equal(r.Value, want.Value) {
				t.Errorf("Get(%q, %q): %s, %v; want %s", cache, key, short(r), err, short(want))
			}
		}
	}
}

// checkConcurrent: writers and readers at the same time. Every batch of a
// writer gives all its keys the same value, so a reader who finds two has
// seen the middle of a batch. So that this does not take luck, each batch is
// also read while it is being applied, half of its keys after the other half.
func checkConcurrent(t *suite) {
	s := t.store()
	const writers, readers, keys = 3, 3, 20
	batches := 100
	if testing.Short() || !s.Caps().Incremental {
		batches = 20
	}
	t.apply(s, put("c", "start", ""))

	stop := make(chan struct{})
	var write, read sync.WaitGroup
	for w := range writers {
		write.Go(func() {
			for b := range batches {
				ops := []store.Op{put(fmt.Sprint("own ", w), "n", fmt.Sprint(b))}
				for k := range keys {
					ops = append(ops, put("c", fmt.Sprintf("%d/%d", w, k), fmt.Sprint(b)))
				}
				err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
					for i, op := range ops {
						if i == 1+keys/2 {
							t.wholeBatches(s, keys)
						}
						if !yield(op, nil) {
							return
						}
					}
				})
				if err != nil {
					t.Errorf("Apply: %v", err)
					return
				}
			}
		})
	}
	for range readers {
		read.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				runtime.Gosched() // to whoever comes back from the disk
				if !t.wholeBatches(s, keys) {
					return
				}
				if _, err := s.Caches(t.Context()); err != nil {
					t.Errorf("Caches: %v", err)
				}
				if g, ok := s.(store.Getter); ok {
					if _, err := g.Get(t.Context(), "c", []byte("0/0")); err != nil && !errors.Is(err, store.ErrNotFound) {
						t.Errorf("Get: %v", err)
					}
				}
			}
		})
	}
	write.Wait()
	close(stop)
	read.Wait()
	t.wholeBatches(s, keys)
	for w := range writers {
		t.wantRecords(s, fmt.Sprint("own ", w), map[string]store.Record{
			"n": {Value: fmt.Append(nil, batches-1), Meta: []byte("meta of n")},
		})
	}
}

// wholeBatches loads the cache once and reports whether it saw whole batches.
func (t *suite) wholeBatches(s store.Store, keys int) bool {
	values := make(map[byte]map[string]int) // by writer, how many keys have a value
	for r, err := range s.Load(t.Context(), "c") {
		if err != nil {
			t.Errorf("Load: %v", err)
			return false
		}
		if w := r.Key[0]; w != 's' {
			if values[w] == nil {
				values[w] = make(map[string]int)
			}
			values[w][string(r.Value)]++
		}
	}
	for w, v := range values {
		for value, n := range v {
			if n != keys {
				t.Errorf("within a batch: %d of %d keys of writer %c have value %s", n, keys, w, value)
				return false
			}
		}
	}
	return true
}
