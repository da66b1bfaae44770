package logstore_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// For a while calls fail: the disk is full, the file system has become read-only,
// the permission is lost, there are no more file descriptors. Batches and
// compactions say so and name the file, what was acknowledged can be read, or
// the read says why not, and once the cause is gone all works again.
func TestTroubleThatPasses(t *testing.T) {
	t.Parallel()
	writes := func(op faultfs.Op) bool { return op.Changes() }
	opens := func(op faultfs.Op) bool {
		return op == faultfs.OpCreate || op == faultfs.OpOpen || op == faultfs.OpList || op == faultfs.OpSyncDir || op == faultfs.OpExists
	}
	for _, trouble := range []struct {
		name  string
		err   error
		fails func(faultfs.Op) bool
		reads bool // the first read of a snapshot fails, too
	}{
		{"disk full", syscall.ENOSPC, func(op faultfs.Op) bool { return op == faultfs.OpCreate || op == faultfs.OpWrite }, false},
		{"read-only", syscall.EROFS, writes, false},
		{"permission lost", syscall.EACCES, func(op faultfs.Op) bool { return writes(op) || opens(op) }, true},
		{"too many open files", syscall.EMFILE, opens, true},
		{"input/output", syscall.EIO, func(op faultfs.Op) bool { return writes(op) || op == faultfs.OpRead }, true},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			t.Parallel()
			fs := faultfs.New()
			p := player{opts: quiet(fs)}
			if err := p.play(t, append(scenario[:5:5], step{word: reopen}, step{ops: []store.Op{put("a", "9", "nine")}})); err != nil {
				t.Fatal(err)
			}
			before := p.sure
			fs.Hook(func(_ int, op faultfs.Op, _ string) error {
				if trouble.fails(op) {
					return trouble.err
				}
				return nil
			})
			for i := range 3 {
				err := p.s.Apply(t.Context(), batch(put("a", "lost", fmt.Sprint(i))))
				if !errors.Is(err, trouble.err) || !strings.Contains(err.Error(), "j-") {
					t.Errorf("Apply: %v", err)
				}
				if err := p.s.Compact(t.Context()); !errors.Is(err, trouble.err) {
					t.Errorf("Compact: %v", err)
				}
			}
			_, err := p.s.Get(t.Context(), "a", []byte("1"))
			if err != nil && !(trouble.reads && errors.Is(err, trouble.err)) || errors.Is(err, store.ErrCorrupt) {
				t.Errorf("Get: %v", err)
			}
			if !trouble.reads {
				want(t, p.s, before)
			}
			if s, err := logstore.Open("test", quiet(fs)); !errors.Is(err, trouble.err) && !errors.Is(err, store.ErrLocked) {
				t.Errorf("Open: %v, %v", s, err)
			}
			fs.Hook(nil)
			want(t, p.s, before)
			if err := p.play(t, []step{{ops: []store.Op{put("a", "back", "again")}}, {word: compact}, {word: reopen}}); err != nil {
				t.Fatal(err)
			}
			want(t, p.s, p.sure)
			for seed := range uint64(4) {
				s := open(t, quiet(fs.Restart(seed)))
				want(t, s, p.sure)
				s.Close()
			}
		})
	}
}

// Each call fails, those that read, open and list too; or two or three in a row,
// or all from then on: nothing that was acknowledged is lost, not even if the
// power is lost soon afterwards, nothing is taken for damage, and once the cause
// is gone the store works again.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	for _, width := range []int{1, 2, 3, 1 << 30} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 3
			}
			for n := 1; failsAt(t, n, width); n += step {
			}
		})
	}
}

// failsAt has calls n to n+width-1 fail, and reports whether there are so many.
func failsAt(t *testing.T, n, width int) bool {
	fs := faultfs.New()
	failed := false
	fs.Hook(func(call int, _ faultfs.Op, _ string) error {
		if call >= n && call-n < width {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	p := player{opts: quiet(fs)}
	if err := p.play(t, scenario); errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("call %d is taken for damage: %v", n, err)
	}
	fs.Hook(nil)
	crash := func() {
		for seed := range uint64(5) {
			s := open(t, quiet(fs.Restart(seed)))
			p.check(t, s)
			s.Close()
		}
	}
	if p.s != nil {
		crash()
		want(t, p.s, p.sure)
		if err := p.s.Apply(t.Context(), batch(put("new", "k", "v"))); err != nil {
			t.Fatalf("call %d: afterwards: %v", n, err)
		}
		p.sure, p.maybe = p.sure.after(put("new", "k", "v")), nil
		crash()
		p.s.Close()
	}
	s := open(t, quiet(fs))
	p.check(t, s)
	s.Close()
	return failed
}

// journals returns how many journals there are.
func journals(fs *faultfs.FS) (n int) {
	for name := range fs.Files() {
		if strings.HasPrefix(name, "j-") {
			n++
		}
	}
	return n
}

// A batch that does not fit, while the header of a journal does, is tried again and again.
func TestJournalsOfFailedBatches(t *testing.T) {
	fs := faultfs.New()
	s := open(t, logstore.Options{FS: fs})
	apply(t, s, put("a", "1", "one"))
	full := true
	creating := ""
	fs.Hook(func(n int, o faultfs.Op, name string) error {
		if o == faultfs.OpCreate {
			creating = name // its header, of 64 bytes, still fits
		} else if o == faultfs.OpWrite && full {
			if name == creating {
				creating = ""
				return nil
			}
			return syscall.ENOSPC
		}
		return nil
	})
	for range 50 {
		if err := s.Apply(t.Context(), batch(put("a", "2", strings.Repeat("x", 10_000)))); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if n := journals(fs); n > 5 {
		t.Errorf("%d journals, each of which is open", n)
	}
	full = false
	apply(t, s, put("a", "2", "two"))
	want(t, s, state{}.after(put("a", "1", "one"), put("a", "2", "two")))
	s.Close()
	want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one"), put("a", "2", "two")))
}

// Compactions that fail again and again leave neither a journal nor a layer each.
func TestJournalsOfFailedCompactions(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	fs.Hook(func(_ int, op faultfs.Op, name string) error {
		if op == faultfs.OpCreate && strings.HasSuffix(name, ".snap") {
			return syscall.ENOSPC
		}
		return nil
	})
	for i := range 50 {
		if s.Compact(t.Context()) == nil {
			t.Fatal("it did not fail")
		}
		if i%10 == 0 {
			apply(t, s, put("a", fmt.Sprint(i), "x"))
		}
	}
	now, _ := dump(t, s)
	if n := journals(fs); n > 10 {
		t.Errorf("%d journals, each of which is open", n)
	}
	if n := s.Layers("a"); n > 10 {
		t.Errorf("%d layers, each of which is searched", n)
	}
	fs.Hook(nil)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, s, now)
	s.Close()
	want(t, open(t, quiet(fs)), now)
}

// Files that a compaction could not remove, or whose removal a loss of power has undone, are
// removed by the next who opens the store; nothing that is in them counts meanwhile.
func TestObsoleteFilesStay(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	opts, events := observed(quiet(fs))
	s := open(t, opts)
	apply(t, s, put("a", "1", "old"), put("b", "1", "gone"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "1", "new"), op(store.Drop, "b"))
	fs.Hook(func(_ int, op faultfs.Op, _ string) error {
		if op == faultfs.OpRemove {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	sure := state{}.after(put("a", "1", "new"))
	want(t, s, sure)
	r := openReader(t, quiet(fs))
	want(t, r, sure)
	s.Close()
	for range 2 { // HOLDER is there the first time
		s = open(t, opts)
		want(t, s, sure)
		s.Close()
	}
	fs.Hook(nil)
	*events = nil
	s = open(t, opts)
	want(t, s, sure)
	if n := journals(fs); n > 2 || len(*events) != 1 || (*events)[0].Kind != logstore.Swept || (*events)[0].Err != nil {
		t.Errorf("%d journals, events %v", n, *events)
	}
	s.Close()
	*events = nil
	want(t, open(t, opts), sure)
	if len(*events) != 0 {
		t.Errorf("events %v", *events)
	}
}

// A compaction that finds that Open could not publish a manifest does it, or says why not.
func TestCompactPublishesFirst(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	fs.KillAt(3)
	_ = s.Compact(t.Context())
	fs.NewProcess()
	fs.Hook(func(_ int, op faultfs.Op, name string) error {
		if op == faultfs.OpCreate && strings.HasPrefix(name, "MANIFEST-") {
			return syscall.ENOSPC
		}
		return nil
	})
	s = open(t, quiet(fs))
	if err := s.Compact(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Compact: %v", err)
	}
	fs.Hook(nil)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	infos, err := s.Caches(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Records != 1 || infos[0].AtMost != 0 {
		t.Errorf("it has not compacted: %v, %v", infos, err)
	}
	if n := journals(fs); n != 1 {
		t.Errorf("%d journals", n)
	}
	want(t, s, state{}.after(put("a", "1", "one")))
}

// A message names the directory, or the file, and the place in it once.
func TestMessagesSayItOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	once := func(what, message, part string) {
		if n := strings.Count(message, part); n != 1 {
			t.Errorf("%s has %q %d times: %s", what, part, n, message)
		}
	}
	_, err = logstore.Open(dir, logstore.Options{})
	once("Open of what is open", fmt.Sprint(err), dir)
	gone := filepath.Join(dir, "gone")
	_, err = logstore.OpenReader(gone, logstore.Options{})
	once("OpenReader of nothing", fmt.Sprint(err), gone)
	_, err = logstore.OpenReader(t.TempDir(), logstore.Options{})
	once("OpenReader without a store", fmt.Sprint(err), "open ")

	fs, _ := smallDirectory(t)
	const journal = "j-2.log"
	data := fs.Files()[journal]
	data[len(data)/2] ^= 1
	fs.WriteFile(journal, data)
	faults := check(t, fs)
	if damages(faults) == 0 {
		t.Fatal("there is no damage")
	}
	for _, f := range faults {
		once("a Fault", f.String(), journal)
	}
	opts := quiet(fs)
	opts.Damage = logstore.Discard
	opts.Observe = func(e logstore.Event) {
		if e.Kind == logstore.Damaged {
			once("an Event", e.String(), journal)
		}
	}
	open(t, opts).Close()
}
