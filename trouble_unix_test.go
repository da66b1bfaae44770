//go:build linux || darwin

package cacheman

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// Real trouble: what the system refuses, and not a file system that is made to
// fail. Managers live through it in a process of their own, which ends without
// closing them; then this one looks what is there.

// aloneDir names the directory that a test which is a process of its own works in.
const aloneDir = "CACHEMAN_TEST_ALONE_DIR"

// alone starts a test again, in a process of its own that is made as attr says,
// with a directory. In that process it returns true; in the first it returns when
// the other has ended.
func alone(t *testing.T, attr *syscall.SysProcAttr) (dir string, child bool) {
	t.Helper()
	if dir := os.Getenv(aloneDir); dir != "" {
		return dir, true
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneDir+"="+dir)
	cmd.SysProcAttr = attr
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil && attr != nil {
		t.Skip("no process of that kind can be started: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	switch err := cmd.Wait(); {
	case err != nil:
		t.Fatalf("%v\n%s", err, out.Bytes())
	case strings.Contains(out.String(), "--- SKIP: "):
		t.Skip(out.String())
	case !strings.Contains(out.String(), "--- PASS: "+t.Name()):
		t.Fatalf("it did not run\n%s", out.Bytes())
	}
	return dir, false
}

// limit changes the limit of a resource. What it was before it is again at the
// end of the test, or when the function that is returned is called.
func limit(t *testing.T, resource int, n uint64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	ok(t, syscall.Getrlimit(resource, &before))
	ok(t, syscall.Setrlimit(resource, &syscall.Rlimit{Cur: n, Max: before.Max}))
	lift = func() { ok(t, syscall.Setrlimit(resource, &before)) }
	t.Cleanup(lift)
	return lift
}

// blobs are n values of a size, which cannot be compressed, always the same for a seed.
func blobs(seed uint64, n, size int) map[int]string {
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	all := make(map[int]string, n)
	for k := range n {
		b := make([]byte, size)
		rng.Read(b)
		all[k] = string(b)
	}
	return all
}

// wantBlobs checks all entries of c, which are too long to be shown.
func wantBlobs(t *testing.T, c *Cache[int, string], want map[int]string) {
	t.Helper()
	if got := maps.Collect(c.All()); !maps.Equal(got, want) || c.Len() != len(want) {
		t.Fatalf("%s holds %d entries that are not the %d wanted", c.Name(), c.Len(), len(want))
	}
}

// wantSaved checks what a directory has, and that nothing in it is damaged.
func wantSaved(t *testing.T, dir string, want map[int]string) {
	t.Helper()
	var e events
	m := must(Open(dir, Options{ReadOnly: true, Observe: e.observe}))
	wantBlobs(t, must(Register(m, "c", Spec[int, string]{})), want)
	ok(t, m.Close())
	if e.damage() {
		t.Errorf("something is damaged: %v", e.list)
	}
}

// wantUsable checks what a directory has, and that it can be gone on with.
func wantUsable(t *testing.T, dir string, want map[int]string) {
	t.Helper()
	wantSaved(t, dir, want)
	for range 2 {
		var e events
		m := must(Open(dir, Options{Observe: e.observe}))
		c := must(Register(m, "c", Spec[int, string]{}))
		wantBlobs(t, c, want)
		ok(t, c.Set(-1, "more"))
		ok(t, m.Close())
		want = merged(want, map[int]string{-1: "more"})
		if e.damage() {
			t.Errorf("something is damaged: %v", e.list)
		}
	}
}

// merged returns a with b over it.
func merged(a, b map[int]string) map[int]string {
	a = maps.Clone(a)
	maps.Copy(a, b)
	return a
}

// TestTooManyOpenFiles: without file descriptors, what needs one fails and says why,
// and works again when there are some.
func TestTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	first, more := blobs(1, 100, 100), blobs(2, 150, 100)
	parent, child := alone(t, nil)
	used, unused := filepath.Join(parent, "used"), filepath.Join(parent, "unused")
	if !child {
		wantUsable(t, used, more)
		wantUsable(t, unused, first)
		return
	}
	m1, m2 := must(Open(used, quietly)), must(Open(unused, quietly))
	c1, c2 := must(Register(m1, "c", Spec[int, string]{})), must(Register(m2, "c", Spec[int, string]{}))
	ok(t, c1.SetAll(maps.All(first)))
	ok(t, m1.Sync(t.Context()))
	ok(t, c2.SetAll(maps.All(first)))

	lift := limit(t, syscall.RLIMIT_NOFILE, 0)
	for range 2 {
		wantError(t, m2.Sync(t.Context()), syscall.EMFILE, "cacheman: sync: ", "j-")
		for _, opts := range []Options{quietly, {ReadOnly: true}} {
			_, err := Open(used, opts)
			wantError(t, err, syscall.EMFILE, "cacheman: open: ", used)
		}
		_, err := Open(filepath.Join(parent, "new"), quietly)
		wantError(t, err, syscall.EMFILE, "cacheman: open: ", parent)
		wantCompactError(t, m1, syscall.EMFILE)
		wantError(t, m1.Backup(t.Context(), filepath.Join(parent, "copy")), syscall.EMFILE, "cacheman: backup: ")
	}
	ok(t, c1.SetAll(maps.All(more)))
	ok(t, m1.Sync(t.Context())) // its journal is open
	wantBlobs(t, c1, more)
	wantBlobs(t, c2, first)
	equal(t, "unsaved", c2.Stats().Dirty, len(first))

	lift()
	wantSaved(t, used, more)
	ok(t, m2.Sync(t.Context()))
	for _, m := range []*Manager{m1, m2} {
		ok(t, m.store.(store.Compactor).Compact(t.Context()))
		for fault := range m.Check() {
			t.Error(fault)
		}
	}
	wantBlobs(t, c1, more)
	wantBlobs(t, c2, first)
}

// TestNoDescriptorForFile: a file that could not be opened is read when it can be, without
// anybody saying that it may have changed.
func TestNoDescriptorForFile(t *testing.T) {
	t.Parallel()
	dir, child := alone(t, nil)
	if !child {
		return
	}
	file := filepath.Join(dir, "f")
	ok(t, os.WriteFile(file, []byte("text"), 0o666))
	m := must(Open(filepath.Join(dir, "m"), quietly))
	files := must(OpenFiles(m))
	c := must(Register(m, "c", Spec[string, string]{Build: func(ctx context.Context, name string) (string, error) {
		data, err := files.Get(ctx, name)
		return string(data), err
	}}))
	list := must(Register(m, "list", Spec[string, int]{Build: func(ctx context.Context, name string) (int, error) {
		entries, err := files.ReadDir(ctx, name)
		return len(entries), err
	}}))
	lift := limit(t, syscall.RLIMIT_NOFILE, 0)
	for range 2 {
		_, err := c.Get(t.Context(), file)
		wantError(t, err, syscall.EMFILE, "cacheman: ", file)
		_, err = list.Get(t.Context(), dir)
		wantError(t, err, syscall.EMFILE, "cacheman: ", dir)
	}
	lift()
	equal(t, "contents", must(c.Get(t.Context(), file)), "text")
	equal(t, "entries", must(list.Get(t.Context(), dir)), 2)
	ok(t, m.Close())
}

// wantCompactError checks that m cannot be compacted, and why.
func wantCompactError(t *testing.T, m *Manager, target error) {
	t.Helper()
	err := m.store.(store.Compactor).Compact(context.Background())
	wantError(t, &Error{Op: "compact", Err: err}, target, "logstore: ")
}

// outOfSpace has a Manager run out of space, because of why, and go on when there is
// some. After begin there is space for a part of a batch of 4 MB, after fill for nothing,
// and after end for everything.
func outOfSpace(t *testing.T, dir string, begin, fill, end func(), why error) {
	first, large := blobs(3, 100, 1000), blobs(4, 4000, 1000)
	m := must(Open(dir, quietly))
	c := must(Register(m, "c", Spec[int, string]{}))
	ok(t, c.SetAll(maps.All(first)))
	ok(t, m.Sync(t.Context()))
	ok(t, c.SetAll(maps.All(large)))

	begin()
	for range 2 {
		wantError(t, m.Sync(t.Context()), why, "cacheman: sync: ", "journal")
		wantBlobs(t, c, large)
		equal(t, "unsaved", c.Stats().Dirty, len(large))
		wantSaved(t, dir, first)
	}
	fill()
	wantError(t, m.Sync(t.Context()), why, "cacheman: sync: ", "journal")
	wantCompactError(t, m, why)
	wantSaved(t, dir, first)
	wantBlobs(t, c, large)

	end()
	ok(t, m.Sync(t.Context()))
	wantSaved(t, dir, large)
	ok(t, m.store.(store.Compactor).Compact(t.Context()))
	wantSaved(t, dir, large)
	wantBlobs(t, c, large)
	for fault := range m.Check() {
		t.Error(fault)
	}
}

// TestFilesTooLarge: files cannot grow beyond a limit of the process, which is met
// in the middle of a batch.
func TestFilesTooLarge(t *testing.T) {
	t.Parallel()
	dir, child := alone(t, nil)
	if !child {
		wantUsable(t, dir, blobs(4, 4000, 1000))
		return
	}
	signal.Ignore(syscall.SIGXFSZ) // or it ends the process
	var lift func()
	outOfSpace(t, dir,
		func() { lift = limit(t, syscall.RLIMIT_FSIZE, 1<<20) },
		func() { limit(t, syscall.RLIMIT_FSIZE, 1000) },
		func() { lift() },
		syscall.EFBIG)
}

// TestPermissionLost: files can no longer be made in the directory, and then they
// can again.
func TestPermissionLost(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("running as root, whom permissions do not stop")
	}
	first := blobs(5, 100, 100)
	dir, child := alone(t, nil)
	dir = filepath.Join(dir, "dir")
	if !child {
		wantUsable(t, dir, first)
		return
	}
	m := must(Open(dir, quietly))
	c := must(Register(m, "c", Spec[int, string]{}))
	ok(t, c.SetAll(maps.All(first)))
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	for _, mode := range []os.FileMode{0o500, 0} {
		ok(t, os.Chmod(dir, mode))
		wantError(t, m.Sync(t.Context()), fs.ErrPermission, "cacheman: sync: ", "j-")
		wantBlobs(t, c, first)
		equal(t, "unsaved", c.Stats().Dirty, len(first))
	}
	_, err := Open(dir, quietly)
	wantError(t, err, fs.ErrPermission, "cacheman: open: ", dir)
	ok(t, os.Chmod(dir, 0o700))
	ok(t, m.Sync(t.Context()))
	wantSaved(t, dir, first)

	ok(t, os.Chmod(dir, 0o500))
	wantCompactError(t, m, fs.ErrPermission)
	wantSaved(t, dir, first)
	ok(t, os.Chmod(dir, 0o700))
	ok(t, m.store.(store.Compactor).Compact(t.Context()))
	wantBlobs(t, c, first)
}

// TestNamedPipe: a pipe in the place of a file is an error that is kept. To open it
// would be to wait for somebody who writes to it, which no ctx ends.
func TestNamedPipe(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	// If it is opened all the same, somebody is there, and the test does not hang.
	var over atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for !over.Load() {
			if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
				f.Close()
			}
		}
	})
	defer func() {
		over.Store(true)
		if f, err := os.OpenFile(name, os.O_RDWR, 0); err == nil { // lets the writer go on
			defer f.Close()
		}
		writer.Wait()
	}()
	files, err := OpenFiles(newManager(t))
	ok(t, err)
	data, err := files.Get(t.Context(), name)
	if _, kept := errors.AsType[*KeptError](err); !kept || !strings.Contains(err.Error(), name) {
		t.Errorf("got %q, %v", data, err)
	}
}

// TestDevice: a device in the place of a file is an error that is kept, for many have no end.
func TestDevice(t *testing.T) {
	t.Parallel()
	files, err := OpenFiles(newManager(t))
	ok(t, err)
	const zero = "/dev/zero"
	data, err := files.Get(t.Context(), zero)
	if _, kept := errors.AsType[*KeptError](err); !kept || !strings.Contains(err.Error(), zero) {
		t.Errorf("got %q, %v", data, err)
	}
	data, err = files.Get(t.Context(), os.DevNull) // as programs are told that there is nothing
	if err != nil || len(data) > 0 {
		t.Errorf("got %q, %v", data, err)
	}
}
