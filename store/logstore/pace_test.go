package logstore_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// However fast batches come, and however slow compactions are, the disk has no
// more than six times what is live, and one batch: batches wait.
func TestDiskIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys, size, atOnce = 50, 1000, 10
		mem := faultfs.New()
		block := make(chan struct{})
		fs := &pausing{FS: mem, before: func(name string) {
			if strings.HasPrefix(name, "c1-") {
				<-block
			}
		}}
		s, err := logstore.Open("dir", logstore.Options{FS: fs, CompactAt: 10_000, Uncompressed: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		occupied := func() (n int) {
			for _, data := range mem.Files() {
				n += len(data)
			}
			return n
		}
		written := 0
		apply := func(n int) {
			for range n {
				var ops []store.Op
				for range atOnce {
					written++
					ops = append(ops, put("a", fmt.Sprintf("%02d", written%keys), large[:size]))
				}
				apply(t, s, ops...)
			}
		}
		const record = size + 30
		const limit = 6*keys*record + atOnce*record
		go apply(200)
		synctest.Wait() // the compaction and the batches that wait for it
		if written >= 200*atOnce {
			t.Error("no batch waited")
		}
		if n := occupied(); n > limit {
			t.Errorf("%d bytes, more than %d", n, limit)
		}
		close(block)
		synctest.Wait()
		if written != 200*atOnce {
			t.Fatalf("%d of %d were written", written, 200*atOnce)
		}
		for range 100 {
			apply(1)
			if n := occupied(); n > limit {
				t.Fatalf("%d bytes, more than %d", n, limit)
			}
		}
	})
}

// TestShortBatches: what a start has to go through is as much a matter of how many batches there are as of
// their bytes.
func TestShortBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const at = 10_000
		var compacted atomic.Bool
		s := open(t, logstore.Options{FS: faultfs.New(), CompactAt: at, Observe: func(e logstore.Event) {
			compacted.Store(compacted.Load() || e.Kind == logstore.Compacted)
		}})
		defer s.Close()
		n := 0
		for ; !compacted.Load(); n++ {
			apply(t, s, put("c", "key", "v"))
			synctest.Wait()
		}
		if n < at/400 || n > at/256+1 {
			t.Errorf("%d batches were compacted", n)
		}
	})
}

// slow is a file system on which writing a snapshot takes time.
type slow struct{ vfs.FS }

type slowFile struct{ vfs.File }

func (s slow) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	if strings.HasSuffix(name, ".snap") {
		return slowFile{f}, err
	}
	return f, err
}

func (f slowFile) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return f.File.WriteAt(p, off)
}

// A compaction in the background rests so that it works a share of its time;
// one that somebody waits for does not.
func TestCompactShare(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		share    float64
		hand     bool
		from, to time.Duration
	}{
		{1, false, 60 * time.Millisecond, 80 * time.Millisecond},
		{0.25, false, 200 * time.Millisecond, 320 * time.Millisecond},
		{0.25, true, 60 * time.Millisecond, 80 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			var took time.Duration
			opts := logstore.Options{
				FS: slow{faultfs.New()}, CompactAt: 1 << 20, CompactShare: test.share, Uncompressed: true,
				Observe: func(e logstore.Event) { took = e.Took },
			}
			if test.hand {
				opts.CompactAt = -1
			}
			s, err := logstore.Open("dir", opts)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var ops []store.Op
			for i := range 42 {
				ops = append(ops, put("a", fmt.Sprint(i), large))
			}
			apply(t, s, ops...)
			if test.hand {
				if err := s.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if took < test.from || took > test.to {
				t.Errorf("with a share of %v, by hand: %v: %v", test.share, test.hand, took)
			}
		})
	}
}

// Each process writes a little and ends before the compaction that it wakes.
func TestJournalsPileUp(t *testing.T) {
	dir := t.TempDir()
	big := make([]byte, 100_000)
	s, err := logstore.Open(dir, logstore.Options{CompactAt: -1})
	if err != nil {
		t.Fatal(err)
	}
	fill := func() {
		for i := range 50 {
			for k := range big {
				big[k] = byte(rand.Uint32())
			}
			apply(t, s, put("c", fmt.Sprint(i), string(big)))
		}
	}
	fill()
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill()
	apply(t, s, put("c", "more", string(make([]byte, 200_000))))
	s.Close()
	for i := range 60 {
		s, err := logstore.Open(dir, logstore.Options{CompactAt: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, s, put("c", fmt.Sprint(i), "small"))
		time.Sleep(time.Millisecond)
		s.Close()
	}
	n := 0
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		if strings.HasPrefix(e.Name(), "j-") {
			n++
		}
	}
	if n > 10 {
		t.Errorf("%d journals", n)
	}
}

// The largest number there is does not mean that everything is compacted at once.
func TestCompactAtTheLargest(t *testing.T) {
	t.Parallel()
	opts, events := observed(logstore.Options{FS: faultfs.New(), CompactAt: math.MaxInt64})
	s := open(t, opts)
	for range 3 {
		apply(t, s, put("a", "1", "one"))
	}
	s.Close()
	if len(*events) > 0 {
		t.Errorf("%v", *events)
	}
}
