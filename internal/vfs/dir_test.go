package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

func TestDir(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}

	f, err := d.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating again: %v", err)
	}
	if _, err := f.WriteAt([]byte("hello"), 3); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(6), f.Sync(), d.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Size(); n != 6 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	f.Close()
	if info, err := os.Stat(filepath.Join(path, "x")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}

	if err := d.Mkdir("sub"); err != nil {
		t.Fatal(err)
	}
	if err := d.Rename("x", "sub/x"); err != nil {
		t.Fatal(err)
	}
	if err := d.Exists("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("exists after rename: %v", err)
	}
	if f, err = d.Create("y"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := d.Rename("y", "sub/x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("rename onto a name in use: %v", err)
	}
	list, err := d.List()
	if err != nil || len(list) != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := d.Open("../../outside"); err == nil {
		t.Error("a name led out of the directory")
	}
}

// A process dies when it has made any of the directories, before it could make that
// durable. The next one does.
func TestMakeDirInterrupted(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		top := t.TempDir()
		below := func(dir string) string {
			name, err := filepath.Rel(top, dir)
			if err != nil {
				t.Fatal(err)
			}
			return filepath.ToSlash(name)
		}
		path := filepath.Join(top, "a", "b", "c")
		synced := map[string]bool{}
		calls, killed := 0, errors.New("killed")
		err := vfs.MakeDir(path, func(dir string) error {
			if calls++; calls == n {
				return killed
			}
			synced[below(dir)] = true
			return nil
		})
		again := vfs.MakeDir(path, func(dir string) error {
			synced[below(dir)] = true
			return nil
		})
		if again != nil || !synced["."] || !synced["a"] || !synced["a/b"] {
			t.Errorf("call %d: %v, synced %v", n, again, synced)
		}
		if err == nil {
			return
		}
	}
}

func TestOpenExisting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none")
	if _, err := vfs.OpenExisting(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenExisting of nothing: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	d, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	e, err := vfs.OpenExisting(path)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()

	// A file that is open can be removed, and read on.
	f, err := d.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("hello"), 0)
	f.Close()
	if f, err = e.Open("x"); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.Remove("x"); err != nil {
		t.Fatal(err)
	}
	if err := d.Exists("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("exists after it was removed: %v", err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "hello" {
		t.Errorf("reading a removed file: %q, %v", b, err)
	}
}

func TestDirIsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Join(path, "below")} {
		if _, err := vfs.OpenDir(p); err == nil {
			t.Errorf("OpenDir(%q) succeeded", p)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	a, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	lock, err := a.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lock("LOCK"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = b.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

// TestErrorsNameDirectory: an error about a name says in which directory, for a program
// may have several.
func TestErrorsNameDirectory(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, err := range []error{d.Mkdir("there"), d.Mkdir("there"), d.Rename("missing", "other"), d.Rename("there", "there")} {
		if i > 0 && (err == nil || !strings.Contains(err.Error(), path)) {
			t.Errorf("%d: %v", i, err)
		}
	}
	open := func(open func(string) (vfs.File, error)) error {
		_, err := open("missing")
		return err
	}
	create := func() error {
		_, err := d.Create("there")
		return err
	}
	for i, err := range []error{open(d.Open), open(d.OpenWrite), create(), d.Remove("missing"), d.Exists("missing"), d.SyncDir("missing")} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%d: %v", i, err)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%d: its cause is lost: %v", i, err)
		}
	}
}

// TestListMoved: what is listed is the directory that was opened, also where its path leads
// to another one by now.
func TestListMoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	d, err := vfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Create("ours")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Rename(path, path+"-moved"); err != nil {
		t.Skip("a directory that is open cannot be moved here:", err)
	}
	for _, theirs := range []bool{false, true} {
		if theirs {
			if err := os.MkdirAll(filepath.Join(path, "theirs"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		list, err := d.List()
		if err != nil || len(list) != 1 || list[0] != (vfs.Entry{Name: "ours"}) {
			t.Errorf("another one is there: %v: %v, %v", theirs, list, err)
		}
	}
}
