package logstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// After a failed sync nobody knows what is on the disk, and the next sync succeeds
// without writing it. What is here is about those who come after that.

// between calls before ahead of each Sync of a file while armed.
type between struct {
	vfs.FS
	before func()
	armed  bool
}
type betweenFile struct {
	vfs.File
	b *between
}

func (b *between) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return betweenFile{f, b}, nil
}
func (b *between) Create(n string) (vfs.File, error)    { return b.wrap(b.FS.Create(n)) }
func (b *between) OpenWrite(n string) (vfs.File, error) { return b.wrap(b.FS.OpenWrite(n)) }
func (f betweenFile) Sync() error {
	if f.b.armed {
		f.b.before()
	}
	return f.File.Sync()
}

// nextProcess has another process open the store in fs and write, and the power go then:
// what it had read and what it has acknowledged is there.
func nextProcess(t *testing.T, fs *faultfs.FS, seed uint64) {
	t.Helper()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "3", "three"))
	before, _ := dump(t, s)
	after, damaged := dump(t, open(t, quiet(fs.Restart(seed))))
	if damaged > 0 || after.String() != before.String() {
		t.Fatalf("seed %d: there was %v, and is %v", seed, before, after)
	}
}

// failing has one put, unless the call is to be the first, and then a call that fails as
// hook says: how many calls there were before decides what a failed sync has written.
func failing(t *testing.T, seed uint64, call func(s *logstore.Store) error, hook func(op faultfs.Op, name string) error, first bool) (*faultfs.FS, *logstore.Store) {
	t.Helper()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	if !first {
		apply(t, s, put("a", "1", "one"))
	}
	fs.Hook(func(_ int, op faultfs.Op, name string) error { return hook(op, name) })
	shuffle(fs, seed)
	if err := call(s); err == nil {
		t.Fatal("it did not fail")
	}
	return fs, s
}

func TestAfterFailedSync(t *testing.T) {
	t.Parallel()
	second := func(s *logstore.Store) error { return s.Apply(t.Context(), batch(put("a", "2", "two"))) }
	compact := func(s *logstore.Store) error { return s.Compact(t.Context()) }
	killed := func(file string) func(faultfs.Op, string) error { // when the sync of file has failed
		failed := false
		return func(op faultfs.Op, name string) error {
			switch {
			case failed:
				return faultfs.ErrKilled
			case op == faultfs.OpSync && name == file:
				failed = true
				return syscall.EIO
			}
			return nil
		}
	}
	stays := func(file string) func(faultfs.Op, string) error { // it is neither synced nor removed
		return func(op faultfs.Op, name string) error {
			if (op == faultfs.OpSync || op == faultfs.OpRemove) && name == file {
				return syscall.EIO
			}
			return nil
		}
	}
	for _, c := range []struct {
		name string
		call func(s *logstore.Store) error
		hook func() func(faultfs.Op, string) error
		ends bool // by Close
	}{
		{"batch, killed", second, func() func(faultfs.Op, string) error { return killed("j-1.log") }, false},
		{"batch, nothing goes", second, func() func(faultfs.Op, string) error {
			return func(op faultfs.Op, name string) error {
				if op == faultfs.OpSync || op == faultfs.OpCreate || op == faultfs.OpTruncate {
					return syscall.EIO
				}
				return nil
			}
		}, true},
		{"manifest, killed", compact, func() func(faultfs.Op, string) error { return killed("MANIFEST-3") }, false},
		{"journal, killed", compact, func() func(faultfs.Op, string) error { return killed("j-2.log") }, false},
		{"manifest stays", compact, func() func(faultfs.Op, string) error { return stays("MANIFEST-3") }, true},
		{"manifest stays, batch", func(s *logstore.Store) error { return errors.Join(compact(s), second(s)) }, func() func(faultfs.Op, string) error {
			manifest, late := stays("MANIFEST-3"), false
			return func(op faultfs.Op, name string) error {
				if late && (op == faultfs.OpWrite || op == faultfs.OpCreate) {
					return syscall.EIO
				}
				err := manifest(op, name)
				late = late || err != nil
				return err
			}
		}, true},
		{"first manifest stays", second, func() func(faultfs.Op, string) error { return stays("MANIFEST-1") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(40) {
				fs, s := failing(t, seed, c.call, c.hook(), strings.HasPrefix(c.name, "first"))
				if c.ends {
					if !strings.HasPrefix(c.name, "batch") {
						fs.Hook(nil)
					}
					s.Close()
				}
				fs.NewProcess()
				nextProcess(t, fs, seed)
			}
		})
	}
}

// Calls fail, the process ends or is killed, another one goes on and writes, and the
// power is lost.
func TestFailuresThenNextProcess(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{true, false} {
		widths := []int{1, 2, 4}
		if testing.Short() {
			widths = []int{2}
		}
		for _, width := range widths {
			t.Run(fmt.Sprint(kill, width), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					for salt := range 2 {
						fs := faultfs.New()
						for range salt {
							fs.Exists("x")
						}
						failed := false
						fs.Hook(func(call int, _ faultfs.Op, _ string) error {
							call -= salt
							if call >= n && call-n < width {
								failed = true
								return syscall.EIO
							}
							if kill && call >= n+width {
								return faultfs.ErrKilled
							}
							return nil
						})
						for range salt {
							fs.Exists("x")
						}
						p := player{opts: quiet(fs)}
						_ = p.play(t, scenario)
						if !failed {
							return
						}
						if p.s != nil && !kill {
							p.s.Close()
						}
						fs.NewProcess()
						s, err := logstore.Open("x", quiet(fs))
						if err != nil {
							t.Fatalf("n %d, salt %d: %v", n, salt, err)
						}
						p.check(t, s)
						apply(t, s, put("new", "k", "v"))
						got, _ := dump(t, s)
						for seed := range uint64(3) {
							after, err := logstore.Open("x", quiet(fs.Restart(seed)))
							if err != nil {
								t.Fatalf("n %d, salt %d, seed %d: %v", n, salt, seed, err)
							}
							now, damaged := dump(t, after)
							if damaged > 0 || now.String() != got.String() {
								t.Fatalf("n %d, salt %d, seed %d: %d damaged, got %.100v, want %.100v", n, salt, seed, damaged, now, got)
							}
							after.Close()
						}
						s.Close()
					}
				}
			})
		}
	}
}

// readAhead has a reader read a batch whose sync then fails, like the attempt to make
// another journal. The writer is started again, and goes on with next.
func readAhead(t *testing.T, next ...store.Op) *logstore.Reader {
	t.Helper()
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	apply(t, s, put("a", "0", "zero"), put("b", "0", "zero"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "1", "one"))
	r := openReader(t, quiet(fs))
	failing := false
	w.before, w.armed = func() { // it is written, and not synced yet
		w.armed = false
		refresh(t, r)
		failing = true
	}, true
	fs.Hook(func(_ int, op faultfs.Op, _ string) error {
		if failing && (op == faultfs.OpSync || op == faultfs.OpCreate) {
			return syscall.EIO
		}
		return nil
	})
	applyFails(t, s, put("a", "1", "two"))
	s.Close()
	fs.NewProcess()
	apply(t, open(t, quiet(fs)), next...)
	return r
}

// The reader notices that what it has read does not count, also if what does is as long.
func TestReaderAfterFailedSyncAndRestart(t *testing.T) {
	for _, value := range []string{"3", "333", "33333333"} {
		r := readAhead(t, put("b", "1", value))
		changed := refresh(t, r)
		want(t, r, state{}.after(put("a", "0", "zero"), put("b", "0", "zero"), put("a", "1", "one"), put("b", "1", value)))
		if len(changed) != 2 {
			t.Errorf("%v have changed", changed)
		}
	}
}

// Before it has noticed it does not give the value of another cache.
func TestReaderGivesValueOfAnotherCache(t *testing.T) {
	r := readAhead(t, put("b", "9", "333"))
	rec, err := r.Get(t.Context(), "a", []byte("1"))
	if err == nil && string(rec.Value) != "two" {
		t.Errorf("key 1 of a gives key %q of b, value %q", rec.Key, rec.Value)
	}
}

// The number of a journal that could not be made is given to another one, by the next
// writer.
func TestJournalNumberAgain(t *testing.T) {
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	apply(t, s, put("a", "1", "one"))
	r := openReader(t, quiet(fs))
	fail := false
	w.before, w.armed = func() { // j-2.log is written, and not synced yet
		w.armed = false
		refresh(t, r)
		fail = true
	}, true
	fs.Hook(func(n int, o faultfs.Op, name string) error {
		if fail && o == faultfs.OpSync {
			fail = false
			return syscall.EIO
		}
		return nil
	})
	if s.Compact(t.Context()) == nil {
		t.Fatal("it did not fail")
	}
	fs.Hook(nil)
	apply(t, s, put("a", "2", "two"))
	s.Close()
	s = open(t, logstore.Options{FS: w, CompactAt: -1})
	fs.Hook(func(_ int, o faultfs.Op, name string) error {
		if o == faultfs.OpCreate && strings.HasSuffix(name, ".snap") {
			return syscall.EIO
		}
		return nil
	})
	if s.Compact(t.Context()) == nil {
		t.Fatal("it did not fail")
	}
	fs.Hook(nil)
	apply(t, s, put("a", "3", "three"))
	for range 3 {
		refresh(t, r)
	}
	want(t, r, state{}.after(put("a", "1", "one"), put("a", "2", "two"), put("a", "3", "three")))
}

// A journal from which a replay will start stays, whatever becomes of it while the
// compaction is under way.
func TestStartOfCompactionFails(t *testing.T) {
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	apply(t, s, put("a", "1", "one"))
	syncs := 0
	w.before, w.armed = func() {
		if syncs++; syncs != 2 { // the first is that of the journal
			return
		}
		w.armed = false
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpWrite && name == "j-2.log" {
				return syscall.ENOSPC
			}
			return nil
		})
		if err := s.Apply(t.Context(), batch(put("a", "2", "two"))); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Apply: %v", err)
		}
		fs.Hook(nil)
		apply(t, s, put("a", "3", "three"))
	}, true
	if err := s.Compact(t.Context()); err != nil || syncs < 2 {
		t.Fatalf("after %d syncs: %v", syncs, err)
	}
	s.Close()
	want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one"), put("a", "3", "three")))
}

// A batch that changes nothing records, as any other, that the one before does not count.
func TestDoubtEndsWithAnyBatch(t *testing.T) {
	t.Parallel()
	for name, next := range map[string][]store.Op{"drop": {op(store.Drop, "b")}, "nothing": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := faultfs.New()
			s := open(t, quiet(fs))
			apply(t, s, put("a", "1", "one"))
			fs.Hook(func(_ int, op faultfs.Op, _ string) error {
				if op == faultfs.OpSync || op == faultfs.OpCreate || op == faultfs.OpTruncate {
					return syscall.EIO
				}
				return nil
			})
			if err := s.Apply(t.Context(), batch(put("b", "1", "x"))); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			fs.Hook(nil)
			apply(t, s, next...)
			fs.NewProcess()
			want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one")))
		})
	}
}

// A manifest that could not be made has been read. The next writer gives its number, or
// a lower one, to another.
func TestManifestNumberAgain(t *testing.T) {
	t.Parallel()
	for _, caches := range []string{"a", "abc"} {
		fs := faultfs.New()
		w := &between{FS: fs}
		s := open(t, logstore.Options{FS: w, CompactAt: -1})
		ops := []store.Op{}
		for _, c := range caches {
			ops = append(ops, put(string(c), "1", "one"))
		}
		apply(t, s, ops...)
		r := openReader(t, quiet(fs))
		failManifests(fs)
		w.before, w.armed = func() { refresh(t, r) }, true
		if s.Compact(t.Context()) == nil {
			t.Fatal("it did not fail")
		}
		w.armed = false
		fs.Hook(nil)
		s.Close()
		s = open(t, quiet(fs))
		apply(t, s, put("a", "2", "two"))
		if caches == "abc" {
			apply(t, s, op(store.Drop, "b"), op(store.Drop, "c"))
		}
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		refresh(t, r)
		want(t, r, state{}.after(put("a", "1", "one"), put("a", "2", "two")))
		apply(t, s, put("a", "3", "three"))
		refresh(t, r)
		now := state{}.after(put("a", "1", "one"), put("a", "2", "two"), put("a", "3", "three"))
		want(t, r, now)
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		refresh(t, r)
		want(t, r, now)
	}
}

// HOLDER could not be made when the store was opened, and a sync fails later: the next
// one knows all the same that it was not closed.
func TestFailedSyncWithoutHolder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		fs := faultfs.New()
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpCreate && name == "HOLDER" {
				return syscall.ENOSPC
			}
			return nil
		})
		s := open(t, quiet(fs))
		fs.Hook(nil)
		apply(t, s, put("a", "1", "one"))
		failed := false
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			switch {
			case failed:
				return faultfs.ErrKilled
			case op == faultfs.OpSync:
				failed = true
				return syscall.EIO
			}
			return nil
		})
		shuffle(fs, seed)
		applyFails(t, s, put("a", "2", "two"))
		fs.NewProcess()
		nextProcess(t, fs, seed)
	}
}

// Until the reader has noticed that a batch which it has read was taken back, it gives
// what is not of that batch.
func TestReaderLoadsBesideWhatWasTakenBack(t *testing.T) {
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	apply(t, s, put("a", "1", "one"))
	r := openReader(t, quiet(fs))
	w.before, w.armed = func() {
		w.armed = false
		refresh(t, r)
		fs.FailAt(1, syscall.EIO, false)
	}, true
	applyFails(t, s, put("a", "2", "two"))
	if got, damaged := dump(t, r); damaged != 1 || got["a"]["1"] != "one/m" {
		t.Errorf("%d damaged, got %v", damaged, got)
	}
}

// A batch does not count after all while the journal that it was in becomes the one that
// the next manifest starts with: whoever follows is told which cache has changed.
func TestReaderIsToldWhatWasTakenBack(t *testing.T) {
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	apply(t, s, put("a", "1", "one"), put("b", "1", "one"))
	r := openReader(t, quiet(fs))
	syncs := 0
	w.before, w.armed = func() {
		if syncs++; syncs != 2 { // the first is that of the new journal
			return
		}
		w.before = func() { // that of the batch
			w.armed = false
			refresh(t, r)
			fs.Hook(func(_ int, op faultfs.Op, _ string) error {
				if op == faultfs.OpSync || op == faultfs.OpCreate {
					return syscall.EIO
				}
				return nil
			})
		}
		applyFails(t, s, put("a", "1", "two"))
		fs.Hook(nil)
	}, true
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, _ := dump(t, r)
	changed := refresh(t, r)
	after, _ := dump(t, r)
	if want := differing(before, after); len(want) != 1 || !slices.Contains(changed, want[0]) {
		t.Errorf("%v have changed, not %v\nfrom %v\n  to %v", changed, want, before, after)
	}
}

// failManifests has the syncs of manifests fail.
func failManifests(fs *faultfs.FS) {
	fs.Hook(func(_ int, o faultfs.Op, name string) error {
		if o == faultfs.OpSync && strings.HasPrefix(name, "MANIFEST-") {
			return syscall.EIO
		}
		return nil
	})
}

// A reader has read the first manifest, which could not be made after all, and the next
// writer has none yet.
func TestFirstManifestIsGone(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	w := &between{FS: fs}
	s := open(t, logstore.Options{FS: w, CompactAt: -1})
	r := openReader(t, quiet(fs))
	failManifests(fs)
	w.before, w.armed = func() { refresh(t, r) }, true
	applyFails(t, s, put("a", "1", "one"))
	w.armed = false
	fs.Hook(nil)
	s.Close()
	s = open(t, quiet(fs))
	refresh(t, r)
	want(t, r, state{})
	apply(t, s, put("a", "1", "two"))
	refresh(t, r)
	want(t, r, state{}.after(put("a", "1", "two")))
}

// While a compaction makes files, a sync of the directory fails for somebody else, and
// theirs succeeds without having written their names.
func TestNamesOfCompactionAreLost(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"c1-", "c2-", "MANIFEST-"} {
		for seed := range uint64(20) {
			fs := faultfs.New()
			w := &between{FS: fs}
			s := open(t, logstore.Options{FS: w, CompactAt: -1})
			apply(t, s, put("a", "1", "one"), put("b", "1", "one"))
			creating, poisoned := "", false
			fs.Hook(func(_ int, op faultfs.Op, name string) error {
				if op == faultfs.OpCreate {
					creating = name
				}
				return nil
			})
			w.before, w.armed = func() {
				if !strings.HasPrefix(creating, file) {
					return
				}
				w.armed, poisoned = false, true
				failed := false
				fs.Hook(func(_ int, op faultfs.Op, name string) error {
					if (op == faultfs.OpSync || op == faultfs.OpSyncDir && !failed) && (name == "j-2.log" || name == ".") {
						failed = failed || op == faultfs.OpSyncDir
						return syscall.EIO
					}
					return nil
				})
				shuffle(fs, seed)
				applyFails(t, s, put("a", "2", "two"))
				fs.Hook(nil)
			}, true
			_ = s.Compact(t.Context())
			if !poisoned {
				t.Fatal("nothing happened meanwhile")
			}
			apply(t, s, put("a", "3", "three"))
			now := state{}.after(put("a", "1", "one"), put("b", "1", "one"), put("a", "3", "three"))
			want(t, s, now)
			survives(t, fs, 8, now)
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			survives(t, fs, 8, now)
			s.Close()
		}
	}
}

// A batch failed, and was cut off the journal. The sync of that fails at the start of the
// next process. What the one after that reads does not have the batch, and will not.
func TestFailedSyncOfWhatWasCutOff(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		for _, torn := range []bool{false, true} {
			fs := faultfs.New()
			s := open(t, quiet(fs))
			apply(t, s, put("a", "1", "one"))
			fs.Hook(func(_ int, op faultfs.Op, _ string) error {
				if op == faultfs.OpSync || op == faultfs.OpCreate || torn && op == faultfs.OpTruncate {
					return syscall.EIO
				}
				return nil
			})
			shuffle(fs, seed)
			applyFails(t, s, put("a", "2", "two"))
			s.Close()
			if torn { // as a process that was killed in a write would leave it
				fs.NewProcess()
				f, err := fs.OpenWrite("j-1.log")
				if err != nil {
					t.Fatal(err)
				}
				size, _ := f.Size()
				f.WriteAt([]byte{0}, size-1)
			}
			fs.NewProcess()
			fs.Hook(func(_ int, op faultfs.Op, name string) error {
				if op == faultfs.OpSync && name == "j-1.log" {
					return syscall.EIO
				}
				return nil
			})
			shuffle(fs, seed)
			if _, err := logstore.Open("test", quiet(fs)); !errors.Is(err, syscall.EIO) {
				t.Fatalf("Open: %v", err)
			}
			fs.NewProcess()
			s = open(t, quiet(fs))
			now, _ := dump(t, s)
			survives(t, fs, 8, now)
			s.Close()
			survives(t, fs, 8, now)
		}
	}
}

// What was found is not known to be on the disk, since somebody has copied it there, and the
// first sync of it fails.
func TestFailedSyncOfWhatWasFound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		fs := faultfs.New()
		s := open(t, quiet(fs))
		apply(t, s, put("a", "1", "one"))
		fs.KillAt(2) // when it is written, and not synced
		applyFails(t, s, put("a", "2", "two"))
		fs.NewProcess()
		_ = fs.Remove("HOLDER")
		s = open(t, quiet(fs))
		want(t, s, state{}.after(put("a", "1", "one"), put("a", "2", "two")))
		failed := false
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpSync && name == "j-1.log" && !failed {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		shuffle(fs, seed)
		applyFails(t, s, put("a", "3", "three"))
		apply(t, s, put("a", "4", "four"))
		now, _ := dump(t, s)
		survives(t, fs, 8, now)
		s.Close()
	}
}

// What could not be made is removed, and the sync of that fails too, again and again, so
// that it may be there after a loss of power: below what the next process makes in its place.
func TestFailedSyncOfRemovals(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"j-", "MANIFEST-"} {
		for _, first := range []bool{true, false} {
			for seed := range uint64(30) {
				fs := faultfs.New()
				s := open(t, quiet(fs))
				if !first {
					apply(t, s, put("a", "1", "one"))
				}
				created := ""
				fs.Hook(func(_ int, op faultfs.Op, name string) error {
					if op == faultfs.OpCreate {
						created = name
					}
					if op == faultfs.OpSyncDir && strings.HasPrefix(created, file) || op == faultfs.OpSync && name == "j-1.log" && !first && file == "j-" {
						return syscall.EIO
					}
					return nil
				})
				shuffle(fs, seed)
				for range 3 {
					err := s.Compact(t.Context())
					if first || file == "j-" {
						err = s.Apply(t.Context(), batch(put("a", "2", "two")))
					}
					if err == nil {
						t.Fatal("it did not fail")
					}
				}
				s.Close()
				fs.NewProcess()
				s = open(t, quiet(fs))
				now, _ := dump(t, s)
				survives(t, fs, 8, now)
				apply(t, s, put("a", "3", "three"))
				now, _ = dump(t, s)
				survives(t, fs, 8, now)
				if err := s.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
				survives(t, fs, 8, now)
				s.Close()
			}
		}
	}
}
