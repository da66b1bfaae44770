package logstore_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// manyBlocks returns a store whose cache "a" has a snapshot of many blocks.
func manyBlocks(t *testing.T) (*faultfs.FS, *logstore.Store, int) {
	t.Helper()
	fs := faultfs.New()
	opts := quiet(fs)
	opts.Uncompressed = true
	s := open(t, opts)
	var ops []store.Op
	for i := range 400 {
		ops = append(ops, put("a", fmt.Sprintf("%03d", i), large[:2000]))
	}
	apply(t, s, ops...)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fs, s, len(ops)
}

// Blocks are read by several goroutines; records come in the order of the file
// all the same, and a damaged block costs its own records only, with a reason.
func TestLoadOfManyBlocks(t *testing.T) {
	t.Parallel()
	fs, s, n := manyBlocks(t)
	s.Close()
	snap := fs.Files()["c1-2.snap"]
	snap[100_000] ^= 1
	fs.WriteFile("c1-2.snap", snap)
	s = open(t, quiet(fs))
	got, failed, last := 0, 0, ""
	for r, err := range s.Load(t.Context(), "a") {
		if err != nil {
			failed++
			continue
		}
		if string(r.Key) <= last {
			t.Fatalf("%s after %s", r.Key, last)
		}
		got, last = got+1, string(r.Key)
	}
	if failed != 1 || got >= n || got < n-20 {
		t.Errorf("%d records of %d, %d errors", got, n, failed)
	}
}

// An iteration that ends early leaves nothing running.
func TestLoadStops(t *testing.T) {
	_, s, _ := manyBlocks(t)
	before := runtime.NumGoroutine()
	for range 20 {
		for range s.Load(t.Context(), "a") {
			break
		}
	}
	after := runtime.NumGoroutine()
	for deadline := time.Now().Add(10 * time.Second); after > before && time.Now().Before(deadline); after = runtime.NumGoroutine() {
		runtime.Gosched() // one that has said that it is done may not have ended yet
	}
	if after > before {
		t.Errorf("%d goroutines, there were %d", after, before)
	}
}
