package cacheman

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/jsonstore"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// quietly are Options without autosync.
var quietly = Options{Autosync: &Autosync{Off: true}}

// events are what a Manager observed.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) observe(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

// find returns the first event of a kind whose text contains all of parts.
func (e *events) find(kind EventKind, parts ...string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.list, func(event Event) bool {
		text := fmt.Sprint(event.Cache, " ", event.Reason, " ", event.Err)
		return event.Kind == kind && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
	})
}

// damage reports whether anything was found to be damaged.
func (e *events) damage() bool {
	return e.find(EventDamaged) || e.find(EventLoadFailed) || e.find(EventStore, "damaged") || e.find(EventStore, "torn tail")
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%+v", e.list)
}

// wantError checks that err is of this package, matches target and contains
// all of parts.
func wantError(t *testing.T, err, target error, parts ...string) {
	t.Helper()
	if _, is := errors.AsType[*Error](err); !is || !errors.Is(err, target) {
		t.Errorf("got %v, want an *Error that is %v", err, target)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

// readDir returns the contents of all files in dir, without those that say who
// has it open.
func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	ok(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" || d.Name() == "HOLDER" {
			return err
		}
		files[filepath.ToSlash(must(filepath.Rel(dir, path)))], err = os.ReadFile(path)
		return err
	}))
	return files
}

// writeDir returns a new directory with the given files.
func writeDir(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		ok(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

// ---- directories that cannot be used

func TestFileAsDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, []byte("mine"), 0o600))
	for name, dir := range map[string]string{
		"itself": file, "parent": filepath.Join(file, "sub"), "grandparent": filepath.Join(file, "sub", "sub"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(dir, Options{})
			target := error(syscall.ENOTDIR)
			if runtime.GOOS == "windows" && dir != file {
				target = err // the text is enough
			}
			wantError(t, err, target, "cacheman: open: ", file)
			equal(t, "the file", string(must(os.ReadFile(file))), "mine")
		})
	}
}

func TestDirectoryNotWritable(t *testing.T) {
	t.Parallel()
	var dirs map[string]string
	target := error(fs.ErrPermission)
	switch {
	case runtime.GOOS == "windows":
		t.Skip("directories have no write permission here that could be taken away simply")
	case os.Getuid() != 0:
		locked := filepath.Join(t.TempDir(), "locked")
		ok(t, os.Mkdir(locked, 0o500))
		dirs = map[string]string{"existing": locked, "new": filepath.Join(locked, "sub")}
	case runtime.GOOS == "linux":
		// Permissions do not stop root, but nobody can make a file here.
		dirs = map[string]string{"existing": "/proc/self/fdinfo", "new": "/proc/self/fdinfo/sub"}
		if err := os.Mkdir("/proc/self/fdinfo/sub", 0o700); err == nil || os.IsExist(err) {
			t.Skip("running as root, and files can be made in /proc")
		}
		target = fs.ErrNotExist // that is what Linux says
	default:
		t.Skip("running as root, whom permissions do not stop")
	}
	for name, dir := range dirs {
		t.Run(name, func(t *testing.T) {
			_, err := Open(dir, Options{})
			wantError(t, err, target, "cacheman: open: ", dir)
		})
	}
}

// TestTwoManagers: of many who open a directory one gets it, under whatever
// name; the others leave no trace.
func TestTwoManagers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	names := []string{dir, dir + string(filepath.Separator), filepath.Join(dir, "..", "dir")}
	if link := dir + "-link"; os.Symlink(dir, link) == nil {
		names = append(names, link)
	}
	managers := make([]*Manager, 20)
	errs := make([]error, len(managers))
	var wg sync.WaitGroup
	for i := range managers {
		wg.Go(func() { managers[i], errs[i] = Open(dir, quietly) })
	}
	wg.Wait()
	i := slices.IndexFunc(managers, func(m *Manager) bool { return m != nil })
	if i < 0 {
		t.Fatalf("nobody could open it: %v", errs)
	}
	m := managers[i]
	for j, err := range errs {
		if j != i {
			wantError(t, err, ErrLocked, dir)
		}
	}
	c := must(Register(m, "c", Spec[int, int]{}))
	for i, name := range names {
		c.Set(i, i)
		_, err := Open(name, Options{})
		wantError(t, err, ErrLocked, "dir", fmt.Sprint(os.Getpid()))
		ok(t, m.Sync(t.Context()))
	}
	ok(t, m.Close())
	m = must(Open(dir, quietly))
	equal(t, "entries", must(Register(m, "c", Spec[int, int]{})).Len(), len(names))
	ok(t, m.Close())
}

func TestDirectoryVanishes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files that are open cannot be removed here")
	}
	dir := filepath.Join(t.TempDir(), "dir")
	m := must(Open(dir, quietly))
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	ok(t, os.RemoveAll(dir))
	for i := range 2 {
		c.Set(2+i, 2)
		if err := m.Sync(t.Context()); err == nil {
			t.Error("Sync says that something is durable which is gone")
		} else {
			wantError(t, err, fs.ErrNotExist, "cacheman: sync: ")
		}
	}
	wantContents(t, c, map[int]int{1: 1, 2: 2, 3: 2})
	wantError(t, m.Close(), fs.ErrNotExist, "cacheman: ")

	m = must(Open(dir, quietly))
	c = must(Register(m, "c", Spec[int, int]{}))
	wantContents(t, c, map[int]int{})
	c.Set(1, 3)
	ok(t, m.Close())
	m = must(Open(dir, quietly))
	wantContents(t, must(Register(m, "c", Spec[int, int]{})), map[int]int{1: 3})
	ok(t, m.Close())
}

// ---- directories with something wrong in them

// saved is a directory with a history: a compaction, and batches after it. The
// last of them adds an entry and changes none.
type saved struct {
	files  map[string][]byte
	states []map[string]int // after each batch
}

var history = sync.OnceValue(func() saved {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	h := saved{states: []map[string]int{{}}}
	var m *Manager
	var c *Cache[string, int]
	reopen := func() {
		m = must(Open(dir, quietly))
		c = must(Register(m, "c", Spec[string, int]{}))
	}
	batch := func(delete string, entries map[string]int) {
		if delete != "" {
			c.Delete(delete)
		}
		c.SetAll(maps.All(entries))
		if err := m.Sync(context.Background()); err != nil {
			panic(err)
		}
		h.states = append(h.states, maps.Collect(c.All()))
	}
	reopen()
	batch("", map[string]int{"a": 1, "b": 1, "gone": 1})
	batch("", map[string]int{"b": 2, "c": 2})
	m.Close()
	s := must(logstore.Open(dir, logstore.Options{}))
	if err := s.Compact(context.Background()); err != nil {
		panic(err)
	}
	s.Close()
	reopen()
	batch("gone", map[string]int{"b": 3})
	batch("a", map[string]int{"c": 4, "d": 4})
	batch("", map[string]int{"last": 5})
	m.Close()
	h.files = make(map[string][]byte)
	for _, e := range must(os.ReadDir(dir)) {
		if e.Name() != "LOCK" {
			h.files[e.Name()] = must(os.ReadFile(filepath.Join(dir, e.Name())))
		}
	}
	return h
})

func (h saved) final() map[string]int { return h.states[len(h.states)-1] }

// with returns the files with one of them changed; nil removes it.
func (h saved) with(name string, data []byte) map[string][]byte {
	files := maps.Clone(h.files)
	if files[name] = data; data == nil {
		delete(files, name)
	}
	return files
}

// within reports whether all that got holds is in want.
func within(got, want map[string]int) bool {
	for k, v := range got {
		if w, ok := want[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// survives opens a directory with these files. What is read must be within one
// of states, and if anything is missing there must be an event. Then the
// directory must be good for further use.
func survives(t *testing.T, what string, files map[string][]byte, full map[string]int, states ...map[string]int) {
	t.Helper()
	dir := writeDir(t, files)
	e := &events{}
	opts := quietly
	opts.Observe = e.observe
	m, err := Open(dir, opts)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	c := must(Register(m, "c", Spec[string, int]{}))
	got := maps.Collect(c.All())
	if !slices.ContainsFunc(states, func(s map[string]int) bool { return within(got, s) }) {
		t.Fatalf("%s: got %v", what, got)
	}
	for k := range full { // by key, too
		v, ok := c.Peek(k)
		if w, has := got[k]; ok != has || v != w {
			t.Fatalf("%s: Peek(%q) gives %v, %v, All %v", what, k, v, ok, got)
		}
	}
	if !maps.Equal(got, full) && !e.damage() {
		t.Fatalf("%s: got %v without a word: %v", what, got, e)
	}
	c.Set("new", 7)
	got["new"] = 7
	if err := m.Close(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	m = must(Open(dir, quietly))
	defer m.Close()
	if again := maps.Collect(must(Register(m, "c", Spec[string, int]{})).All()); !maps.Equal(again, got) {
		t.Fatalf("%s: after another batch %v, want %v", what, again, got)
	}
}

// samples returns about n numbers from 0 up to and including end.
func samples(end, n int) []int {
	var s []int
	for i := range n {
		s = append(s, end*i/n)
	}
	return slices.Compact(append(s, end))
}

func sampleSize() int {
	if testing.Short() {
		return 8
	}
	return 40
}

// TestTruncated: of a file that ends early, what is there is what was saved
// once, for a batch at the end of which nothing remains cannot be missed.
func TestTruncated(t *testing.T) {
	t.Parallel()
	h := history()
	for name, data := range h.files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range samples(len(data)-1, sampleSize()) {
				dropped := fmt.Sprintf("%d of %d bytes", n, len(data))
				dir := h.with(name, data[:n])
				if strings.HasPrefix(name, "j-") {
					survivesTruncation(t, dropped, dir, h)
				} else {
					survives(t, dropped, dir, h.final(), h.final())
				}
			}
		})
	}
}

// survivesTruncation is survives for a journal: where it ends between two
// batches there is nothing to be seen.
func survivesTruncation(t *testing.T, what string, files map[string][]byte, h saved) {
	t.Helper()
	dir := writeDir(t, files)
	m, err := Open(dir, quietly)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := maps.Collect(must(Register(m, "c", Spec[string, int]{})).All())
	ok(t, m.Close())
	survives(t, what, files, got, h.states...)
}

// TestFlipped: whatever byte is wrong, nothing is read that is not the last
// value. The last batch may be missing: it looks like one that was torn.
func TestFlipped(t *testing.T) {
	t.Parallel()
	h := history()
	for name, data := range h.files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, i := range samples(len(data)-1, 2*sampleSize()) {
				bad := bytes.Clone(data)
				bad[i] ^= 1 << (i % 8)
				survives(t, fmt.Sprintf("bit %d of byte %d", i%8, i), h.with(name, bad), h.final(), h.final())
			}
		})
	}
}

func TestMissingAndEmptyFiles(t *testing.T) {
	t.Parallel()
	h := history()
	empty := make(map[string][]byte)
	for name := range h.files {
		empty[name] = []byte{}
		survives(t, "without "+name, h.with(name, nil), h.final(), h.final())
	}
	for n := range h.files {
		only := maps.Clone(empty)
		only[n] = h.files[n]
		survives(t, "all empty but "+n, only, map[string]int{}, h.states...)
	}
	survives(t, "all empty", empty, map[string]int{}, map[string]int{})
	garbage := make(map[string][]byte)
	for name, data := range h.files {
		garbage[name] = bytes.Repeat([]byte("garbage\n"), 1+len(data)/8)
	}
	survives(t, "all garbage", garbage, map[string]int{}, map[string]int{})
}

// TestForeignFiles: they are left alone, and named in an event.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	h := history()
	foreign := map[string][]byte{
		"README.txt": []byte("hands off"), ".DS_Store": {0}, "j-0.log": []byte("x"), "j-01.log": []byte("x"), "j-1.log.bak": nil,
		"MANIFEST-x": []byte("x"), "c1-1.snap.tmp": []byte("x"), "名前": []byte("x"), "MANIFEST-99999999999999999999": []byte("x"),
	}
	files := maps.Clone(h.files)
	maps.Copy(files, foreign)
	dir := writeDir(t, files)
	for _, name := range []string{"sub", "j-7.log", "MANIFEST-77"} { // directories, of whatever name
		ok(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		ok(t, os.WriteFile(filepath.Join(dir, name, "file"), []byte("x"), 0o600))
		foreign[name+"/file"] = []byte("x")
	}
	e := &events{}
	opts := quietly
	opts.Observe = e.observe
	m := must(Open(dir, opts))
	c := must(Register(m, "c", Spec[string, int]{}))
	wantContents(t, c, h.final())
	c.Set("new", 7)
	ok(t, m.Close())
	for name := range foreign {
		if name, _, _ := strings.Cut(name, "/"); !e.find(EventStore, "foreign", name) {
			t.Errorf("no event names %s: %v", name, e)
		}
	}
	after := readDir(t, dir)
	for name, data := range foreign {
		if got, ok := after[name]; !ok || !bytes.Equal(got, data) {
			t.Errorf("%s was changed", name)
		}
	}
}

// newer returns a file of the store as a later version of its format would
// begin it: its version is under the checksum.
func newer(name string, data []byte) []byte {
	data = bytes.Clone(data)
	h := data
	if !strings.HasPrefix(name, "MANIFEST-") {
		h = data[:64]
	}
	sum := func(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
	binary.LittleEndian.PutUint32(h[8:], 1000)
	binary.LittleEndian.PutUint32(h[12:], sum(h[16:])^sum(h[:12]))
	return data
}

// TestNewerFormat: a directory of a newer version is refused and left as it is.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	h := history()
	newest := func(prefix string) string {
		names := slices.Sorted(maps.Keys(h.files))
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
		return names[len(names)-1]
	}
	for _, name := range []string{newest("MANIFEST-"), newest("j-")} {
		data := h.files[name]
		dir := writeDir(t, h.with(name, newer(name, data)))
		before := readDir(t, dir)
		_, err := Open(dir, Options{})
		wantError(t, err, ErrFormat, "cacheman: open: ", dir, name, "1000")
		if !maps.EqualFunc(before, readDir(t, dir), bytes.Equal) {
			t.Errorf("%s: Open changed a directory that it cannot read", name)
		}
		ok(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		m := must(Open(dir, quietly)) // the lock was given back
		wantContents(t, must(Register(m, "c", Spec[string, int]{})), h.final())
		ok(t, m.Close())
	}
}

// ---- a disk that fails

// TestDiskFails: while it does, Sync says so and everything else goes on; once
// it works again, everything is saved.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		err error
		ops []faultfs.Op
	}{
		"full":           {syscall.ENOSPC, []faultfs.Op{faultfs.OpWrite, faultfs.OpCreate, faultfs.OpMkdir}},
		"full at writes": {syscall.ENOSPC, []faultfs.Op{faultfs.OpWrite}},
		"EIO at fsync":   {syscall.EIO, []faultfs.Op{faultfs.OpSync}},
		"EIO at fsyncs":  {syscall.EIO, []faultfs.Op{faultfs.OpSync, faultfs.OpSyncDir}},
		"read-only":      {syscall.EROFS, []faultfs.Op{faultfs.OpWrite, faultfs.OpCreate, faultfs.OpRemove, faultfs.OpRename, faultfs.OpTruncate, faultfs.OpMkdir}},
	} {
		for _, times := range []int{1, 1000} {
			t.Run(fmt.Sprintf("%s, %d times", name, times), func(t *testing.T) {
				t.Parallel()
				disk := faultfs.New()
				e := &events{}
				open := func(on *faultfs.FS) (*Manager, *Cache[int, string], *Cache[string, int]) {
					s, err := logstore.Open("the disk", logstore.Options{FS: on})
					ok(t, err)
					opts := quietly
					opts.Store, opts.Observe = s, e.observe
					m := must(Open("", opts))
					t.Cleanup(func() { m.Close() })
					return m, must(Register(m, "c", Spec[int, string]{})), must(Register(m, "d", Spec[string, int]{}))
				}
				m, c, d := open(disk)
				c.Set(1, "one")
				c.Set(2, "two")
				ok(t, m.Sync(t.Context()))

				left := times
				disk.Hook(func(_ int, op faultfs.Op, _ string) error {
					if !slices.Contains(fault.ops, op) || left == 0 {
						return nil
					}
					left--
					return fault.err
				})
				c.Set(2, "zwei")
				c.Set(3, "drei")
				c.Delete(1)
				d.Set("d", 1)
				for i := range 3 {
					err := m.Sync(t.Context())
					if i == 0 || times > 1 {
						wantError(t, err, fault.err, "cacheman: sync: ", "journal", fault.err.Error())
						if c.Stats().Dirty == 0 || !errors.Is(c.Stats().LastError, fault.err) {
							t.Errorf("figures after a failed sync: %+v", c.Stats())
						}
					} else if err != nil {
						t.Errorf("the fault is over, but Sync gives %v", err)
					}
					c.Set(10+i, "more")
				}
				if !e.find(EventSyncFailed, fault.err.Error()) {
					t.Errorf("events: %v", e)
				}
				want := map[int]string{2: "zwei", 3: "drei", 10: "more", 11: "more", 12: "more"}
				wantContents(t, c, want)

				// Should the process end here, there is what was saved before.
				if times > 1 {
					_, c, d := open(disk.Clone())
					wantContents(t, c, map[int]string{1: "one", 2: "two"})
					wantContents(t, d, map[string]int{})
				}

				disk.Hook(nil)
				ok(t, m.Sync(t.Context()))
				equal(t, "unsaved", c.Stats().Dirty, 0)
				for seed := range uint64(8) { // also if the power is lost now
					_, c, d := open(disk.Restart(seed))
					wantContents(t, c, want)
					wantContents(t, d, map[string]int{"d": 1})
				}
				c.Set(4, "vier")
				want[4] = "vier"
				ok(t, m.Close())
				_, c, d = open(disk)
				wantContents(t, c, want)
				wantContents(t, d, map[string]int{"d": 1})
			})
		}
	}
}

// TestDiskFailsAtClose: Close says so, and returns.
func TestDiskFailsAtClose(t *testing.T) {
	t.Parallel()
	disk := faultfs.New()
	opts := quietly
	opts.Store = must(logstore.Open("the disk", logstore.Options{FS: disk}))
	m := must(Open("", opts))
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	c.Set(2, 2)
	disk.FailAt(1, syscall.ENOSPC, true)
	wantError(t, m.Close(), syscall.ENOSPC, "journal")
	wantError(t, m.Close(), syscall.ENOSPC, "journal")
	disk.NewProcess()
	opts.Store = must(logstore.Open("the disk", logstore.Options{FS: disk}))
	m = must(Open("", opts))
	wantContents(t, must(Register(m, "c", Spec[int, int]{})), map[int]int{1: 1})
	ok(t, m.Close())
}

// ---- names and keys

func TestNamesOnDisk(t *testing.T) {
	t.Parallel()
	names := []string{
		"a/b", "/a", "a/", `a\b`, `C:\a`, "../../up", "..", ".", "...", ".hidden", "a\x00b", "\x00", " ", "a ", " a", "a.", "~", "%2f",
		"CON", "con", "con.txt", "NUL", "lpt1", "a", "A", "ö", "o\u0308", "名前", "اسم", "имя", "नाम", "🙂", "a\nb", "a\rb", "a\tb", `"`, "'", "*?<>|:",
		"LOCK", "HOLDER", "MANIFEST-1", "j-1.log", "c1-1.snap", "a.csv", "a.json", "base64:", "$base64", "$(id)", "-rf",
		strings.Repeat("x", 300), strings.Repeat("x", 299) + "y", strings.Repeat("名", 100), strings.Repeat("/", 300), strings.Repeat("é", 2000),
	}
	for kind, open := range map[string]func(dir string) (store.Store, error){
		"default": nil,
		"csv":     func(dir string) (store.Store, error) { return csvstore.Open(dir, csvstore.Options{}) },
		"json":    func(dir string) (store.Store, error) { return jsonstore.Open(dir) },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir, own := filepath.Join(top, "m"), filepath.Join(top, "own")
			for run := range 2 {
				m := must(Open(dir, quietly))
				var s store.Store
				if open != nil {
					s = must(open(own))
				}
				for i, name := range names {
					c, err := Register(m, name, Spec[string, string]{Store: s})
					if err != nil {
						t.Fatalf("%.20q: %v", name, err)
					}
					want := map[string]string{"": fmt.Sprint(i), name: name, names[0]: fmt.Sprint(i)}
					if run == 0 {
						ok(t, c.SetAll(maps.All(want)))
					}
					wantContents(t, c, want)
				}
				ok(t, m.Close())
				if s != nil {
					equal(t, "caches in the store", len(must(must(open(own)).Caches(t.Context()))), len(names))
					ok(t, s.Close())
				}
			}
			found := must(os.ReadDir(top))
			for _, e := range found {
				if e.Name() != "m" && e.Name() != "own" {
					t.Errorf("%s is outside of the directory", e.Name())
				}
			}
		})
	}
}

// ---- closing

// TestCloseDuringUse: of all that goes on, Close loses nothing that was
// accepted; whoever closes gets the same answer.
func TestCloseDuringUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := must(Open(dir, Options{Autosync: &Autosync{Every: time.Millisecond}}))
	const writers = 4
	var caches [writers]*Cache[int, int]
	var accepted [writers]int
	var wg sync.WaitGroup
	var some atomic.Int64
	under := make(chan struct{})
	for w := range writers {
		c := must(Register(m, fmt.Sprint(w), Spec[int, int]{Build: func(_ context.Context, k int) (int, error) { return -k, nil }}))
		caches[w] = c
		wg.Go(func() {
			for i := 1; ; i++ {
				if err := c.Set(i, w*i); err != nil {
					wantError(t, err, ErrClosed, fmt.Sprintf(" %d[%d]", w, i))
					accepted[w] = i - 1
					return
				}
				if some.Add(1) == 1000 {
					close(under)
				}
			}
		})
		wg.Go(func() {
			for i := 1; ; i++ {
				if v, err := c.Get(context.Background(), -i); err != nil {
					wantError(t, err, ErrClosed)
					return
				} else if v != i {
					t.Errorf("built %d for %d", v, -i)
				}
				if err := m.Sync(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
					t.Errorf("Sync: %v", err)
				}
			}
		})
	}
	<-under
	for range 5 {
		wg.Go(func() {
			if err := m.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	ok(t, m.Close())
	ok(t, m.Shutdown(t.Context()))

	m = must(Open(dir, quietly))
	for w := range writers {
		c := must(Register(m, fmt.Sprint(w), Spec[int, int]{}))
		n := 0
		for k, v := range c.All() {
			if k > 0 {
				n++
				equal(t, fmt.Sprintf("cache %d, value %d", w, k), v, w*k)
			}
		}
		equal(t, fmt.Sprintf("values in cache %d", w), n, accepted[w])
	}
	ok(t, m.Close())
}

// ---- contexts

// TestEndedContext: whatever takes a ctx that has ended says so, and nothing
// is lost.
func TestEndedContext(t *testing.T) {
	t.Parallel()
	type caches struct {
		m *Manager
		c *Cache[string, int]
		b *Cache[string, int] // with a builder
		a *Cache[string, int] // with BuildAll, not built yet
		l *Cache[string, int] // not loaded yet
	}
	methods := map[string]func(context.Context, caches) error{
		"Get":                 func(ctx context.Context, c caches) error { _, err := c.b.Get(ctx, "new"); return err },
		"Get of all":          func(ctx context.Context, c caches) error { _, err := c.a.Get(ctx, "new"); return err },
		"Get of what is not":  func(ctx context.Context, c caches) error { _, err := c.c.Get(ctx, "new"); return err },
		"Get before loading":  func(ctx context.Context, c caches) error { _, err := c.l.Get(ctx, "saved"); return err },
		"Load":                func(ctx context.Context, c caches) error { return c.l.Load(ctx) },
		"Load by building":    func(ctx context.Context, c caches) error { return c.a.Load(ctx) },
		"Sync":                func(ctx context.Context, c caches) error { return c.c.Sync(ctx) },
		"Manager.Sync":        func(ctx context.Context, c caches) error { return c.m.Sync(ctx) },
		"Reload":              func(ctx context.Context, c caches) error { return c.c.Reload(ctx) },
		"Manager.Reload":      func(ctx context.Context, c caches) error { return c.m.Reload(ctx, All()) },
		"Rebuild":             func(ctx context.Context, c caches) error { return c.b.Rebuild(ctx) },
		"Manager.Rebuild":     func(ctx context.Context, c caches) error { return c.m.Rebuild(ctx, All()) },
		"DeleteSaved":         func(ctx context.Context, c caches) error { return c.c.DeleteSaved(ctx) },
		"Manager.DeleteSaved": func(ctx context.Context, c caches) error { return c.m.DeleteSaved(ctx, All()) },
		"Deregister":          func(ctx context.Context, c caches) error { return c.m.Deregister(ctx, All()) },
	}
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := must(Open(dir, quietly))
			must(Register(m, "c", Spec[string, int]{})).Set("saved", 1)
			must(Register(m, "l", Spec[string, int]{})).Set("saved", 1)
			must(Register(m, "b", Spec[string, int]{})).Set("saved", 1)
			ok(t, m.Close())

			m = must(Open(dir, quietly))
			defer m.Close()
			var builds atomic.Int64
			c := caches{
				m: m,
				c: must(Register(m, "c", Spec[string, int]{})),
				b: must(Register(m, "b", Spec[string, int]{Build: func(ctx context.Context, _ string) (int, error) { builds.Add(1); return 1, ctx.Err() }})),
				a: must(Register(m, "a", Spec[string, int]{BuildAll: func(ctx context.Context) (map[string]int, error) {
					builds.Add(1)
					return map[string]int{}, ctx.Err()
				}})),
				l: must(Register(m, "l", Spec[string, int]{})),
			}
			ok(t, c.c.Load(t.Context()))
			ok(t, c.b.Load(t.Context()))
			c.c.Set("unsaved", 2)
			c.b.Set("unsaved", 2)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := method(ctx, c); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			equal(t, "builds", builds.Load(), 0)
			wantContents(t, c.c, map[string]int{"saved": 1, "unsaved": 2})
			wantContents(t, c.b, map[string]int{"saved": 1, "unsaved": 2})
			if v, err := c.c.Get(t.Context(), "unsaved"); err != nil || v != 2 {
				t.Errorf("afterwards: %v, %v", v, err)
			}
			wantContents(t, c.l, map[string]int{"saved": 1})
			ok(t, m.Sync(t.Context()))
			ok(t, m.Close())
			m = must(Open(dir, quietly))
			wantContents(t, must(Register(m, "c", Spec[string, int]{})), map[string]int{"saved": 1, "unsaved": 2})
			wantContents(t, must(Register(m, "b", Spec[string, int]{})), map[string]int{"saved": 1, "unsaved": 2})
			wantContents(t, must(Register(m, "l", Spec[string, int]{})), map[string]int{"saved": 1})
			ok(t, m.Close())
		})
	}
}

// TestFollowEveryWithoutReadOnly: an option that would come to nothing is an error.
func TestFollowEveryWithoutReadOnly(t *testing.T) {
	_, err := Open(t.TempDir(), Options{FollowEvery: time.Second})
	equal(t, "error", fmt.Sprint(err), "cacheman: open: invalid specification: FollowEvery is for a Manager with ReadOnly")
}

// shutdowner is a disk that is told how long closing may take.
type shutdowner struct {
	*disk
	ctx context.Context
}

func (s *shutdowner) Shutdown(ctx context.Context) error {
	s.ctx = ctx
	return s.Close()
}

// TestShutdownOfStore: a store that can is closed within the same time.
func TestShutdownOfStore(t *testing.T) {
	s := &shutdowner{disk: newDisk()}
	m := must(Open("", Options{Store: s}))
	ctx := context.WithValue(t.Context(), s, true)
	ok(t, m.Shutdown(ctx))
	if s.ctx == nil || s.ctx.Value(s) != true {
		t.Errorf("closed within %v", s.ctx)
	}
}

// TestShutdownEndedContext: it closes all the same, and what was saved before
// is there.
func TestShutdownEndedContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := must(Open(dir, quietly))
	c := must(Register(m, "c", Spec[int, int]{}))
	c.Set(1, 1)
	ok(t, m.Sync(t.Context()))
	c.Set(2, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	wantError(t, c.Set(3, 3), ErrClosed, "set c[3]")
	m = must(Open(dir, quietly)) // the lock was given back
	wantContents(t, must(Register(m, "c", Spec[int, int]{})), map[int]int{1: 1})
	ok(t, m.Close())
}

// TestHooksThatHang: each hook that lasts until its ctx ends ends with the
// caller's; others are not held up, and Close returns.
func TestHooksThatHang(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	hangAll := func(ctx context.Context) (map[int]int, error) { return nil, hang(ctx) }
	hangOne := func(ctx context.Context, _, v int) (int, error) { return v, hang(ctx) }
	for name, test := range map[string]struct {
		spec    Spec[int, int]
		call    func(context.Context, *Cache[int, int]) error
		callers bool // the ctx of the hook is the caller's, and not one that Close ends, too
	}{
		"Build": {
			Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return 0, hang(ctx) }},
			func(ctx context.Context, c *Cache[int, int]) error { _, err := c.Get(ctx, 5); return err },
			false,
		},
		"BuildAll": {
			Spec[int, int]{BuildAll: hangAll, Version: "2"},
			func(ctx context.Context, c *Cache[int, int]) error { return c.Load(ctx) },
			false,
		},
		"Rebuild": {
			Spec[int, int]{BuildAll: hangAll},
			func(ctx context.Context, c *Cache[int, int]) error { return c.Rebuild(ctx) },
			false,
		},
		"Load": {
			Spec[int, int]{Load: hangAll},
			func(ctx context.Context, c *Cache[int, int]) error { return c.Load(ctx) },
			false,
		},
		"Reload": {
			Spec[int, int]{Load: hangAll},
			func(ctx context.Context, c *Cache[int, int]) error { return c.Reload(ctx) },
			true,
		},
		"Validate": {
			Spec[int, int]{Validate: func(ctx context.Context, _ map[int]int) error { return hang(ctx) }},
			func(ctx context.Context, c *Cache[int, int]) error { return c.Load(ctx) },
			false,
		},
		"Delete": {
			Spec[int, int]{Delete: hang},
			func(ctx context.Context, c *Cache[int, int]) error { return c.DeleteSaved(ctx) },
			true,
		},
		"BeforeSave": {
			Spec[int, int]{BeforeSave: hangOne},
			func(ctx context.Context, c *Cache[int, int]) error { c.Set(9, 9); return c.Sync(ctx) },
			true,
		},
		"AfterLoad": {
			Spec[int, int]{AfterLoad: hangOne, Build: func(context.Context, int) (int, error) { return 1, nil }},
			func(ctx context.Context, c *Cache[int, int]) error { _, err := c.Get(ctx, 5); return err },
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				m := d.open(t, quietly)
				must(Register(m, "bad", Spec[int, int]{})).Set(1, 1)
				ok(t, m.Close())

				m = d.open(t, quietly)
				bad := must(Register(m, "bad", test.spec))
				good := must(Register(m, "good", Spec[int, int]{}))
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				result := make(chan error, 1)
				go func() { result <- test.call(ctx, bad) }()
				synctest.Wait()
				ok(t, good.Set(1, 1))
				wantContents(t, good, map[int]int{1: 1})
				equal(t, "time that others waited", time.Since(start), 0)
				if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				equal(t, "time that the caller waited", time.Since(start), time.Minute)
				ok(t, good.Sync(t.Context()))

				// And if the caller waits on, Shutdown does not.
				forever, release := context.WithCancel(t.Context())
				defer release()
				go func() { result <- test.call(forever, bad) }()
				synctest.Wait()
				start = time.Now()
				ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := m.Shutdown(ctx)
				if test.callers {
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Shutdown: %v", err)
					}
					release()
				} else if err != nil || time.Since(start) > 0 {
					t.Errorf("Shutdown: %v after %v", err, time.Since(start))
				}
				// Where the caller's ctx was ended as well, that may have come first.
				if err := <-result; !errors.Is(err, ErrClosed) && !(test.callers && err == context.Canceled) {
					t.Errorf("got %v", err)
				}
				if time.Since(start) > time.Minute {
					t.Errorf("Shutdown took %v", time.Since(start))
				}
				m = (&disk{Store: d.Store}).open(t, quietly)
				wantContents(t, must(Register(m, "good", Spec[int, int]{})), map[int]int{1: 1})
			})
		})
	}
}
