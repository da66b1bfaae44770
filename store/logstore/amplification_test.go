package logstore_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// counting is a file system that counts what is written.
type counting struct {
	vfs.FS
	n *atomic.Int64
}

type countingFile struct {
	vfs.File
	n *atomic.Int64
}

func (c counting) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	return countingFile{f, c.n}, err
}

func (f countingFile) WriteAt(p []byte, off int64) (int, error) {
	f.n.Add(int64(len(p)))
	return f.File.WriteAt(p, off)
}

// What is written in all is at most three times the keys and values, be they new
// or overwritten, when compactions come as often as they do by default.
func TestWriteAmplification(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1000, 1 << 30} {
		rng := rand.New(rand.NewPCG(1, 5))
		var n atomic.Int64
		const at = 50_000
		s := open(t, logstore.Options{FS: counting{faultfs.New(), &n}, CompactAt: -1, Uncompressed: true})
		given, since, snapshot, live := 0, 0, 0, map[int]bool{}
		for range 500 {
			var ops []store.Op
			for range 20 {
				k := rng.IntN(keys)
				live[k] = true
				ops = append(ops, put("a", fmt.Sprintf("%010d", k), large[:100]))
			}
			apply(t, s, ops...)
			given, since = given+20*111, since+20*111
			if since > max(at, snapshot) { // as in the background, but at known points
				if err := s.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
				since, snapshot = 0, 111*len(live)
			}
		}
		if x := float64(n.Load()) / float64(given); x > 3 {
			t.Errorf("%d keys: %.2f times", keys, x)
		} else {
			t.Logf("%d keys: %.2f times", keys, x)
		}
	}
}

// A batch costs the journal little more than its keys, metas and values.
func TestJournalAmplification(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		entries int
		most    float64
	}{{1, 1.5}, {1000, 1.1}, {100_000, 1.1}} {
		var n atomic.Int64
		s := open(t, logstore.Options{FS: counting{faultfs.New(), &n}, CompactAt: -1})
		apply(t, s, put("a", "first", "v")) // makes the journal
		n.Store(0)
		var ops []store.Op
		given := 0
		for i := range test.entries {
			o := put("a", fmt.Sprintf("%016x", i), large[:100])
			given += len(o.Key) + len(o.Meta) + len(o.Value)
			ops = append(ops, o)
		}
		apply(t, s, ops...)
		x := float64(n.Load()) / float64(given)
		t.Logf("%d entries in a batch: %.3f times", test.entries, x)
		if x > test.most {
			t.Errorf("%d entries in a batch: %.3f times", test.entries, x)
		}
	}
}
