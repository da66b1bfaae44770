package logstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// observed returns opts with an observer, and what it was told.
func observed(opts logstore.Options) (logstore.Options, *[]logstore.Event) {
	var events []logstore.Event
	opts.Observe = func(e logstore.Event) { events = append(events, e) }
	return opts, &events
}

func kinds(events []logstore.Event) (k []logstore.EventKind) {
	for _, e := range events {
		k = append(k, e.Kind)
	}
	return k
}

// Every bit of a small directory is flipped. The store opens all the same and
// gives no value that is not the last one, except that damage to the very last
// frame cannot be told from a torn one. It goes on to work, for good.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	packed := strings.Repeat("compressed ", 40)
	apply(t, s, put("a", "0", packed), put("a", "1", "one"), put("a", "2", "old"), op(store.Describe, "a"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "2", "two"), put("b", "1", "x"))
	apply(t, s, op(store.Drop, "b"), del("a", "1"), put("c", "1", "un"))
	before, _ := dump(t, s)
	lastFrame := len(fs.Files()["j-2.log"])
	apply(t, s, put("a", "3", "three"), put("c", "1", "deux"))
	final, _ := dump(t, s)
	files := fs.Files()
	if !bytes.Contains(files["c1-2.snap"], []byte("BLCZ")) {
		t.Fatal("the block is not compressed")
	}
	for name, data := range files {
		if name == "HOLDER" || name == "LOCK" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range 8 * len(data) {
				fs := fs.Clone()
				bad := slices.Clone(data)
				bad[i/8] ^= 1 << (i % 8)
				fs.WriteFile(name, bad)
				s := open(t, logstore.Options{FS: fs, CompactAt: -1})
				got, damaged := dump(t, s)
				torn := name == "j-2.log" && i/8 >= lastFrame
				for cache, m := range got {
					for k, v := range m {
						if v != final[cache][k] && !(torn && v == before[cache][k]) {
							t.Fatalf("%s, bit %d: %s has %q: %q", name, i, cache, k, v)
						}
					}
				}
				if len(final) != len(got) && damaged == 0 && name == "c1-2.snap" {
					t.Fatalf("%s, bit %d: silently lost records: %v", name, i, got)
				}
				apply(t, s, put("new", "k", "v"))
				s.Close()
				s = open(t, logstore.Options{FS: fs, CompactAt: -1})
				again, _ := dump(t, s)
				if g, w := again.String(), got.after(put("new", "k", "v")).String(); g != w {
					t.Fatalf("%s, bit %d: after another batch\n got %s\nwant %s", name, i, g, w)
				}
				if err := s.Compact(t.Context()); err != nil {
					t.Fatalf("%s, bit %d: compact: %v", name, i, err)
				}
				want(t, s, again)
				s.Close()
			}
		})
	}
}

// damagedStore has a snapshot, and a journal whose second frame of three is
// damaged: it held the deletion of a/1.
func damagedStore(t *testing.T) (fs *faultfs.FS, offset int64) {
	fs = faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "stale"), put("b", "1", "x"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "2", "two"))
	at := len(fs.Files()["j-2.log"])
	apply(t, s, del("a", "1"))
	apply(t, s, put("a", "3", "three"))
	s.Close()
	j := fs.Files()["j-2.log"]
	j[at+42] ^= 1
	fs.WriteFile("j-2.log", j)
	return fs, int64(at)
}

func TestDamageDiscard(t *testing.T) {
	t.Parallel()
	fs, at := damagedStore(t)
	before := fs.Files()
	opts, events := observed(logstore.Options{FS: fs, CompactAt: -1})
	s := open(t, opts)
	sure := state{}.after(put("a", "3", "three"))
	want(t, s, sure)
	if k := kinds(*events); !slices.Equal(k, []logstore.EventKind{logstore.Damaged, logstore.SetAside}) {
		t.Fatalf("events: %v", *events)
	}
	if e := (*events)[0]; e.File != "j-2.log" || e.Offset != at || !errors.Is(e.Err, store.ErrCorrupt) {
		t.Errorf("event: %v", e)
	}
	aside := (*events)[1]
	files := fs.Files()
	for _, name := range []string{"c1-2.snap", "c2-3.snap", "MANIFEST-4"} {
		if _, ok := files[name]; ok || !slices.Contains(aside.Files, name) ||
			!bytes.Equal(files[aside.File+"/"+name], before[name]) {
			t.Errorf("%s was not set aside: %v", name, aside)
		}
	}
	if front := files[aside.File+"/j-2.log.damaged"]; len(front) < int(at) || !bytes.HasPrefix(before["j-2.log"], front) {
		t.Errorf("the damaged journal was not copied: %v", aside)
	}
	apply(t, s, put("a", "4", "four"))
	s.Close()

	*events = nil
	s = open(t, opts)
	want(t, s, sure.after(put("a", "4", "four")))
	if len(*events) > 0 {
		t.Errorf("events at the next open: %v", *events)
	}
}

func TestDamageSalvage(t *testing.T) {
	t.Parallel()
	fs, _ := damagedStore(t)
	opts, events := observed(logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Salvage})
	s := open(t, opts)
	want(t, s, state{}.after(put("a", "1", "stale"), put("a", "2", "two"), put("a", "3", "three"), put("b", "1", "x")))
	if k := kinds(*events); !slices.Equal(k, []logstore.EventKind{logstore.Damaged}) {
		t.Errorf("events: %v", *events)
	}
}

func TestDamageFail(t *testing.T) {
	t.Parallel()
	fs, at := damagedStore(t)
	before := fs.Files()
	_, err := logstore.Open("dir", quiet(fs))
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("j-2.log, offset %d", at)) {
		t.Errorf("Open: %v", err)
	}
	if after := fs.Files(); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("a failing Open changed something")
	}
}

// The beginning of the last frame is gone, but later chunks of it are there: a
// crash does that, and it is not damage.
func TestTornFrameOfManyChunks(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	at := len(fs.Files()["j-1.log"])
	var ops []store.Op
	for i := range 20 {
		ops = append(ops, put("a", fmt.Sprint(i), large[:50_000]))
	}
	apply(t, s, ops...)
	s.Close()
	j := fs.Files()["j-1.log"]
	j[at+100] ^= 1
	fs.WriteFile("j-1.log", j)

	opts, events := observed(quiet(fs))
	s = open(t, opts)
	want(t, s, state{}.after(put("a", "1", "one")))
	if len(*events) != 1 || (*events)[0].Kind != logstore.TornTail ||
		(*events)[0].Offset != int64(at) || (*events)[0].Bytes != int64(len(j)-at) {
		t.Errorf("events: %v", *events)
	}
	if n := len(fs.Files()["j-1.log"]); n != at {
		t.Errorf("the journal has %d bytes, not %d", n, at)
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	whole := faultfs.New()
	s := open(t, quiet(whole))
	apply(t, s, put("a", "1", "one"), put("b", "1", "x"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "2", "two"))
	s.Close()
	remove := func(name string) *faultfs.FS {
		fs := whole.Clone()
		if err := fs.Remove(name); err != nil {
			t.Fatal(err)
		}
		return fs
	}

	t.Run("snapshot", func(t *testing.T) {
		fs := remove("c1-2.snap")
		opts, events := observed(logstore.Options{FS: fs, CompactAt: -1})
		s := open(t, opts)
		got, damaged := dump(t, s)
		if w := (state{}).after(put("a", "2", "two"), put("b", "1", "x")); damaged != 1 || got.String() != w.String() {
			t.Errorf("%d damaged, got %v", damaged, got)
		}
		if len(*events) != 1 || (*events)[0].Kind != logstore.Damaged {
			t.Errorf("events: %v", *events)
		}
		if _, err := s.Get(t.Context(), "a", []byte("1")); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "c1-2.snap") {
			t.Errorf("Get: %v", err)
		}
		if _, err := logstore.Open("dir", quiet(fs.Clone())); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Open with Fail: %v", err)
		}
	})
	t.Run("journal", func(t *testing.T) {
		s := open(t, logstore.Options{FS: remove("j-2.log"), CompactAt: -1})
		want(t, s, state{})
	})
	t.Run("manifest", func(t *testing.T) {
		// The one before leads to files that are gone; newer frames count.
		s := open(t, logstore.Options{FS: remove("MANIFEST-4"), CompactAt: -1})
		want(t, s, state{}.after(put("a", "2", "two")))
	})
	t.Run("manifests", func(t *testing.T) {
		fs := remove("MANIFEST-4")
		fs.Remove("MANIFEST-1")
		opts, events := observed(logstore.Options{FS: fs, CompactAt: -1})
		s := open(t, opts)
		want(t, s, state{})
		if k := kinds(*events); !slices.Equal(k, []logstore.EventKind{logstore.Damaged, logstore.SetAside}) {
			t.Errorf("events: %v", *events)
		}
		apply(t, s, put("a", "3", "three"))
		s.Close()
		want(t, open(t, quiet(fs)), state{}.after(put("a", "3", "three")))
	})
}

// The header of the newest journal is damaged, and there are frames in it: what
// is older may be stale.
func TestDamagedJournalHeader(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "stale"))
	fs.FailAt(2, syscall.EIO, false) // the sync, so that there is a second journal
	if err := s.Apply(t.Context(), batch(put("a", "2", "x"))); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Apply: %v", err)
	}
	fs.Hook(nil)
	apply(t, s, del("a", "1"))
	s.Close()
	j := fs.Files()["j-2.log"]
	j[20] ^= 1
	fs.WriteFile("j-2.log", j)

	if _, err := logstore.Open("dir", quiet(fs.Clone())); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open with Fail: %v", err)
	}
	s = open(t, logstore.Options{FS: fs.Clone(), CompactAt: -1, Damage: logstore.Salvage})
	want(t, s, state{}.after(put("a", "1", "stale")))
	opts, events := observed(logstore.Options{FS: fs, CompactAt: -1})
	s = open(t, opts)
	want(t, s, state{})
	if k := kinds(*events); !slices.Equal(k, []logstore.EventKind{logstore.Damaged, logstore.SetAside}) {
		t.Errorf("events: %v", *events)
	}
	apply(t, s, put("a", "3", "three"))
	s.Close()
	want(t, open(t, quiet(fs)), state{}.after(put("a", "3", "three")))
}

// What a dead process left behind must be made durable before it is built upon.
// If it cannot, the store does not open, and nothing is removed that may still
// be needed.
func TestFailingSyncAtStart(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		fs := faultfs.New()
		fs.KillAt(n)
		p := player{opts: quiet(fs)}
		if p.play(t, scenario[:3]) == nil {
			return
		}
		fs.NewProcess()
		fs.Hook(func(_ int, op faultfs.Op, _ string) error {
			if op == faultfs.OpSyncDir {
				return syscall.EIO
			}
			return nil
		})
		if s, err := logstore.Open("dir", quiet(fs)); err == nil {
			want(t, s, state{}) // there was nothing yet
			s.Close()
		} else if !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		fs.Hook(nil)
		for seed := range uint64(8) {
			s := open(t, quiet(fs.Restart(seed)))
			p.check(t, s)
			s.Close()
		}
		s := open(t, quiet(fs))
		now := p.check(t, s)
		apply(t, s, put("new", "k", "v"))
		survives(t, fs, 8, now.after(put("new", "k", "v")))
		s.Close()
	}
}

func TestNewerFormat(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	s.Close()
	for name, data := range fs.Files() {
		if name == "LOCK" {
			continue
		}
		fs := fs.Clone()
		fs.WriteFile(name, logstore.WithVersion(data, 7, strings.HasPrefix(name, "j-")))
		_, err := logstore.Open("dir", logstore.Options{FS: fs})
		if !errors.Is(err, store.ErrFormat) || !strings.Contains(err.Error(), "7") || !strings.Contains(err.Error(), fmt.Sprint("up to ", logstore.FormatVersion)) {
			t.Errorf("%s: %v", name, err)
		}
		// The lock is not kept.
		if _, err := logstore.Open("dir", logstore.Options{FS: fs}); !errors.Is(err, store.ErrFormat) {
			t.Errorf("%s, again: %v", name, err)
		}
	}
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	foreign := []string{"MANIFEST-0", "MANIFEST-01", "c1.snap", "j-1.log.bak", "j-18446744073709551616.log", "notes.txt"}
	for _, name := range foreign {
		fs.WriteFile(name, []byte("mine"))
	}
	opts, events := observed(quiet(fs))
	s := open(t, opts)
	apply(t, s, put("a", "1", "one"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one")))
	if len(*events) == 0 || (*events)[0].Kind != logstore.Foreign || !slices.Equal((*events)[0].Files, foreign) {
		t.Errorf("events: %v", *events)
	}
	for _, name := range foreign {
		if string(fs.Files()[name]) != "mine" {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "down")
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = logstore.Open(dir, logstore.Options{})
	var locked *store.LockedError
	if !errors.As(err, &locked) || !errors.Is(err, store.ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
	host, _ := os.Hostname()
	if locked.Path != dir || locked.PID != os.Getpid() || locked.Host != host || locked.Since.IsZero() {
		t.Errorf("%+v", locked)
	}
	apply(t, s, put("a", "1", "one"))
	s.Close()
	if _, err := os.Stat(filepath.Join(dir, "HOLDER")); !os.IsNotExist(err) {
		t.Errorf("HOLDER after Close: %v", err)
	}
	s, err = logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want(t, s, state{}.after(put("a", "1", "one")))
}

func TestBadDirectories(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := logstore.Open(path, logstore.Options{}); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		dir := t.TempDir()
		if runtime.GOOS == "windows" || os.Geteuid() == 0 {
			t.Skip("the mode of a directory does not keep this user from writing")
		}
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := logstore.Open(dir, logstore.Options{}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("Open: %v", err)
		}
	})
	for _, errno := range []error{syscall.EROFS, syscall.EACCES} {
		t.Run(errno.Error(), func(t *testing.T) {
			fs := faultfs.New()
			s := open(t, quiet(fs))
			apply(t, s, put("a", "1", "one"))
			s.Close()
			fs.Hook(func(_ int, op faultfs.Op, name string) error {
				if op.Changes() || op == faultfs.OpLock {
					return errno
				}
				return nil
			})
			if _, err := logstore.Open("dir", quiet(fs)); !errors.Is(err, errno) {
				t.Errorf("Open: %v", err)
			}
			fs.Hook(nil)
			want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one")))
		})
	}
}

// A directory that is removed under the store is noticed by the next batch,
// though the open file takes it; errors say which directory it was.
func TestVanishedDirectory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files in use cannot be removed")
	}
	dir := filepath.Join(t.TempDir(), "store")
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply(t, s, put("a", "1", "one"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Apply(t.Context(), batch(put("a", "2", "two"))); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Apply: %v", err)
		}
	}
	if err := s.Compact(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Compact: %v", err)
	}
	want(t, s, state{}.after(put("a", "1", "one")))
}

// lostHeader has a store whose newest journal, in which there is nothing, has lost its
// header.
func lostHeader(t *testing.T) *faultfs.FS {
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	j := fs.Files()["j-2.log"]
	j[20] ^= 1
	fs.WriteFile("j-2.log", j)
	return fs
}

func TestLostHeader(t *testing.T) {
	for _, p := range []logstore.Policy{logstore.Discard, logstore.Salvage, logstore.Fail} {
		t.Run(p.String(), func(t *testing.T) {
			fs := lostHeader(t)
			for i := range 3 {
				s, err := logstore.Open("dir", logstore.Options{FS: fs, CompactAt: -1, Damage: p})
				if err != nil {
					t.Fatalf("open %d: %v", i, err)
				}
				got, _ := dump(t, s)
				if w := (state{}).after(put("a", "1", "one")); got.String() != w.String() {
					t.Errorf("open %d: lost", i)
				}
				s.Close()
			}
		})
	}
}

// TestCutHeader: a journal that the manifest names was as long as a header, so one that is
// not has lost what was in it: nothing older shows without anybody being told.
func TestCutHeader(t *testing.T) {
	t.Parallel()
	whole := faultfs.New()
	s := open(t, quiet(whole))
	apply(t, s, put("a", "1", "one"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := state{}.after(put("a", "1", "one"))
	apply(t, s, put("a", "1", "two"))
	for _, cut := range []int{0, 1, 63} {
		fs := whole.Clone()
		fs.NewProcess()
		fs.WriteFile("j-2.log", fs.Files()["j-2.log"][:cut])

		if _, err := logstore.OpenReader("test", quiet(fs)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-2.log") {
			t.Errorf("cut to %d: OpenReader: %v", cut, err)
		}
		if _, err := logstore.Open("test", logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Fail}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("cut to %d: Open: %v", cut, err)
		}
		told := func(events []logstore.Event) {
			t.Helper()
			if !slices.ContainsFunc(events, func(e logstore.Event) bool { return e.Kind == logstore.Damaged && e.File == "j-2.log" }) {
				t.Errorf("cut to %d: nobody is told: %v", cut, events)
			}
		}
		opts, events := observed(logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Salvage})
		r := openReader(t, opts)
		want(t, r, before)
		r.Close()
		told(*events)

		for policy, shows := range map[logstore.Policy]state{logstore.Discard: {}, logstore.Salvage: before} {
			opts, events := observed(logstore.Options{FS: fs.Clone(), CompactAt: -1, Damage: policy})
			for i := range 2 {
				s := open(t, opts)
				want(t, s, shows)
				if i == 0 {
					told(*events)
				}
				shows = shows.after(put("b", "2", "new"))
				apply(t, s, put("b", "2", "new"))
				want(t, s, shows)
				s.Close()
			}
		}
	}
}

// TestCutOlderJournal: the next journal says where one ended.
func TestCutOlderJournal(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	first := len(fs.Files()["j-1.log"])
	apply(t, s, put("a", "1", "two"))
	fs.FailAt(2, syscall.EIO, false)
	if err := s.Apply(t.Context(), batch(put("a", "x", "x"))); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Apply: %v", err)
	}
	fs.Hook(nil)
	apply(t, s, put("b", "1", "new")) // in the next one
	s.Close()
	if fs.Files()["j-2.log"] == nil {
		t.Fatal("there is no other journal")
	}
	for _, cut := range []int{0, 64, first, first + 1} {
		fs := fs.Clone()
		fs.WriteFile("j-1.log", fs.Files()["j-1.log"][:cut])
		if _, err := logstore.OpenReader("test", quiet(fs)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-1.log") {
			t.Errorf("cut to %d: OpenReader: %v", cut, err)
		}
		opts, events := observed(logstore.Options{FS: fs, CompactAt: -1})
		want(t, open(t, opts), state{"b": {"1": "new/m"}})
		if len(*events) == 0 || (*events)[0].Kind != logstore.Damaged || (*events)[0].File != "j-1.log" {
			t.Errorf("cut to %d: events: %v", cut, *events)
		}
	}
}

func TestLostHeaderRepaired(t *testing.T) {
	fs := lostHeader(t)
	if _, err := logstore.Repair(t.Context(), "dir", quiet(fs)); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "one")))
}

func TestLostHeaderAndKilled(t *testing.T) {
	for n := 1; ; n++ {
		fs := lostHeader(t)
		s := open(t, quiet(fs))
		fs.KillAt(n)
		err := s.Apply(t.Context(), batch(put("a", "2", "two")))
		fs.NewProcess()
		if got, _ := dump(t, open(t, quiet(fs.Clone()))); got["a"]["1"] != "one/m" {
			t.Errorf("killed at call %d: %v", n, got)
		}
		if err == nil {
			break
		}
	}
}

// What lies before a journal whose header is damaged is read, and that is kept.
func TestSalvageBeforeLostHeader(t *testing.T) {
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	for i := range 2 {
		fs.FailAt(2, syscall.EIO, false)
		if err := s.Apply(t.Context(), batch(put("a", "x", "x"))); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Apply: %v", err)
		}
		fs.Hook(nil)
		apply(t, s, put("a", fmt.Sprint(i+2), "v"))
	}
	s.Close()
	for _, name := range []string{"j-2.log", "j-3.log"} {
		fs := fs.Clone()
		j := fs.Files()[name]
		j[20] ^= 1
		fs.WriteFile(name, j)
		s := open(t, logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Salvage})
		got, _ := dump(t, s)
		if got["a"]["1"] != "one/m" {
			t.Errorf("%s: what is in j-1.log is lost: %v", name, got)
		}
		s.Compact(t.Context())
		s.Close()
		kept := false
		for n := range fs.Files() {
			kept = kept || strings.HasSuffix(n, "/"+name)
		}
		if !kept {
			t.Errorf("%s was not kept", name)
		}
	}
}

// If the disk is full when damage is found, what was discarded is set aside once it is not.
func TestDiscardedIsKeptLater(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"MANIFEST-", "j-", ""} {
		fs, _ := damagedStore(t)
		if what == "j-" {
			// The damage is in the last frame that is sure, so nothing can be read after it.
			j := fs.Files()["j-2.log"]
			j[20] ^= 1
			fs.WriteFile("j-2.log", j)
		}
		before := fs.Files()
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpCreate && strings.HasPrefix(name, what) {
				return syscall.ENOSPC
			}
			return nil
		})
		opts := logstore.Options{FS: fs, CompactAt: -1}
		s := open(t, opts)
		fs.Hook(nil)
		now, _ := dump(t, s)
		apply(t, s, put("b", "2", "y"))
		s.Close()
		s = open(t, quiet(fs))
		want(t, s, now.after(put("b", "2", "y")))
		s.Close()
		for _, name := range []string{"c1-2.snap", "c2-3.snap", "MANIFEST-4"} {
			kept := false
			for n, data := range fs.Files() {
				kept = kept || strings.HasPrefix(n, "damaged-") && strings.HasSuffix(n, "/"+name) && string(data) == string(before[name])
			}
			if !kept {
				t.Errorf("%s is gone", name)
			}
		}
	}
}

// A journal of a store that never came to be is back after the power was lost, since the
// sync that was to make its removal durable had failed. There is nothing in it.
func TestRemovedJournalIsBack(t *testing.T) {
	t.Parallel()
	other := faultfs.New()
	other.WriteFile("j-6.log", nil)
	s := open(t, quiet(other))
	apply(t, s, put("a", "1", "one"))
	fs := faultfs.New()
	s = open(t, quiet(fs))
	apply(t, s, put("a", "1", "two"))
	s.Close()
	fs.WriteFile("j-7.log", other.Files()["j-7.log"][:64])

	sure := state{}.after(put("a", "1", "two"))
	r := openReader(t, quiet(fs))
	want(t, r, sure)
	s = open(t, quiet(fs))
	want(t, s, sure)
	apply(t, s, put("a", "2", "three"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	sure = sure.after(put("a", "2", "three"))
	want(t, open(t, quiet(fs)), sure)
	refresh(t, r)
	want(t, r, sure)
}
