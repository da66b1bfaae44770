package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// checkConcurrent: writers and readers at the same time. Every batch of a
// writer gives all its keys the same value, so a reader who finds two has
// seen the middle of a batch.
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
				if err := s.Apply(t.Context(), batch(ops...)); err != nil {
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
