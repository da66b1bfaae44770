package logstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// TestShortLives: where every process ends right after its last batch, no
// compaction in the background comes to its end; Close must see to it that
// the directory does not grow without bound.
func TestShortLives(t *testing.T) {
	dir := t.TempDir()
	const at = 10_000
	value := string(bytes.Repeat([]byte("v"), 1000))
	largest := int64(0)
	for i := range 200 {
		s, err := logstore.Open(dir, logstore.Options{CompactAt: at})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, s, put("c", fmt.Sprint(i%5), value))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var size int64
		err = fs.WalkDir(os.DirFS(dir), ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			size += info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, size)
	}
	if largest > 10*at {
		t.Errorf("the directory grew to %d bytes", largest)
	}
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, _ := dump(t, s)
	if len(state) != 1 {
		t.Errorf("there are %v", state)
	}
}

// A compaction that is due is made at Close where there is little to write, and
// otherwise left to the background, and to the Close of who opens the store next: nobody opens
// a store again and again only to replay its journal.
func TestCloseCompacts(t *testing.T) {
	t.Parallel()
	const at = 10_000
	value := string(bytes.Repeat([]byte("v"), 1000))
	fill := func(t *testing.T, s *logstore.Store, n int) {
		for i := range n {
			apply(t, s, put("c", fmt.Sprint(i), value))
		}
	}
	for _, c := range []struct {
		snapshot, journal int // how many values there are
		compacts, next    bool
	}{
		{0, 7, false, false},
		{0, 12, true, false},
		{0, 70, true, false},
		{30, 20, false, false}, // it is not due
		{30, 40, true, false},
		{60, 70, false, true}, // it is long
		{60, 40, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			fs := faultfs.New()
			opts := quiet(fs) // compacts only if it is told to
			opts.Uncompressed = true
			s := open(t, opts)
			fill(t, s, c.snapshot)
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Close()

			closing := make(chan struct{})
			var compacted atomic.Bool // by the background or by Close
			opts.CompactAt, opts.Observe = at, func(e logstore.Event) {
				if e.Kind == logstore.Compacted {
					compacted.Store(true)
				}
			}
			opts.FS = &pausing{FS: fs, before: func(name string) {
				if strings.HasSuffix(name, ".snap") { // the background comes to nothing
					<-closing
				}
			}}
			s = open(t, opts)
			fill(t, s, c.journal)
			go s.Close()
			synctest.Wait()
			close(closing)
			synctest.Wait()
			if got := compacted.Load(); got != c.compacts {
				t.Errorf("%d values and %d in the journal: Close compacts %v", c.snapshot, c.journal, got)
			}
			compacted.Store(false)
			s = open(t, opts)
			s.Close()
			if got := compacted.Load(); got != c.next {
				t.Errorf("%d values and %d in the journal: the next Close compacts %v", c.snapshot, c.journal, got)
			}
			if !c.next {
				return
			}
			// Who has compacted since it was opened is like one that found nothing to do.
			opts.CompactAt = -1
			s = open(t, opts)
			n := c.snapshot + c.journal
			fill(t, s, n+10)
			s.Close()
			opts.CompactAt = at
			s = open(t, opts)
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			closing = make(chan struct{})
			compacted.Store(false)
			fill(t, s, n+10)
			fill(t, s, 10)
			go s.Close()
			synctest.Wait()
			close(closing)
			synctest.Wait()
			if compacted.Load() {
				t.Error("Close compacts what has become due since the last compaction")
			}
		})
	}
}

// What Close may do of its own accord ends with the ctx of Shutdown.
func TestShutdownGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := faultfs.New()
		opts := quiet(mem)
		s := open(t, opts)
		for i := range 12 {
			apply(t, s, put("c", fmt.Sprint(i), string(large[:1000])))
		}
		s.Close()
		opts.CompactAt = 10_000
		opts.Observe = func(e logstore.Event) { t.Errorf("told %v", e) }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, what := range []string{"in the middle", "before it begins"} {
			closing := make(chan struct{})
			opts.FS = &pausing{FS: mem, before: func(name string) {
				if strings.HasSuffix(name, ".snap") {
					<-closing
				}
			}}
			s = open(t, opts)
			go func() {
				if err := s.Shutdown(ctx); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait() // it waits for the compaction
			cancel()
			synctest.Wait()
			close(closing)
			synctest.Wait()
			for name := range mem.Files() {
				if strings.HasSuffix(name, ".snap") {
					t.Errorf("%s: there is %s", what, name)
				}
			}
		}
	})
}

// closedDir is a directory in which, once there is close, a snapshot that is to be opened
// finds the store closed, and the directory too.
type closedDir struct {
	vfs.FS
	close func()
}

func (d *closedDir) Open(name string) (vfs.File, error) {
	if d.close == nil || !strings.HasSuffix(name, ".snap") {
		return d.FS.Open(name)
	}
	d.close()
	return nil, os.ErrClosed
}

// Who reads while the store is closed is told that, and not of files.
func TestReadBesideClose(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "1", "one"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for name, read := range map[string]func(s *logstore.Store) error{
		"Get": func(s *logstore.Store) error {
			_, err := s.Get(t.Context(), "a", []byte("1"))
			return err
		},
		"Load": func(s *logstore.Store) (err error) {
			for _, err = range s.Load(t.Context(), "a") {
			}
			return err
		},
		"Check": func(s *logstore.Store) (err error) {
			for _, err = range s.Check(t.Context()) {
			}
			return err
		},
		"Backup": func(s *logstore.Store) error { return s.Backup(t.Context(), t.TempDir()) },
	} {
		d := &closedDir{FS: mem.Clone()}
		s := open(t, logstore.Options{FS: d, CompactAt: -1})
		d.close = func() { s.Close() }
		if err := read(s); !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who is told of a compaction in the background may close the store.
func TestObserverCloses(t *testing.T) {
	t.Parallel()
	closed := make(chan error)
	var s *logstore.Store
	s = open(t, logstore.Options{FS: faultfs.New(), CompactAt: 1, Observe: func(e logstore.Event) {
		if e.Kind == logstore.Compacted {
			closed <- s.Close()
		}
	}})
	apply(t, s, put("a", "1", "one"))
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
