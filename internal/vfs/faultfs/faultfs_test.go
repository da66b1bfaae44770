package faultfs_test

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
)

var _ vfs.FS = (*faultfs.FS)(nil)

// create makes a file with the given contents and syncs neither.
func create(t *testing.T, f vfs.FS, name, data string) vfs.File {
	t.Helper()
	file, err := f.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(data), 0); err != nil {
		t.Fatal(err)
	}
	return file
}

// Only what was synced, under a name that was synced, always survives; what
// was not survives for some seeds and not for others.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	a := create(t, f, "a", "old")
	if err := errors.Join(a.Sync(), f.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	a.WriteAt([]byte("new"), 0)
	create(t, f, "b", "b").Sync()
	f.LoseAt(1)
	if _, err := a.WriteAt([]byte("xyz"), 3); !errors.Is(err, faultfs.ErrPowerLost) {
		t.Fatalf("write after the loss: %v", err)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		files := f.Restart(seed).Files()
		if _, ok := files["a"]; !ok {
			t.Fatal("a durable name is gone")
		}
		seen["a="+string(files["a"])] = true
		if b, ok := files["b"]; ok {
			seen["b="+string(b)] = true
		}
	}
	for _, want := range []string{"a=old", "a=new", "a=newx", "b=b"} {
		if !seen[want] {
			t.Errorf("never saw %s", want)
		}
	}
	if seen["b="] {
		t.Error("lost synced contents")
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	f.FailAt(2, syscall.ENOSPC, false)
	file, err := f.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := file.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %d, %v", n, err)
	}
	if _, err := file.WriteAt([]byte("abcd"), 0); err != nil {
		t.Errorf("write after the fault: %v", err)
	}
	if _, err := f.Create("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create again: %v", err)
	}
	if _, err := f.Open("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

// A sync after a failed one does not bring back what the failed one forgot.
func TestSyncIsNotRetried(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	a := create(t, f, "a", "")
	f.SyncDir(".")
	lost := false
	for i := range 50 {
		want := byte('a' + i%26)
		a.WriteAt([]byte{want}, int64(i))
		f.FailAt(1, syscall.EIO, false)
		if err := a.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if err := a.Sync(); err != nil {
			t.Fatal(err)
		}
		data := f.Restart(1).Files()["a"]
		lost = lost || len(data) <= i || data[i] != want
	}
	if !lost {
		t.Error("a failed sync never lost anything")
	}
}

// The same of names.
func TestDirectorySyncIsNotRetried(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	lost := false
	for i := range 50 {
		name := string(rune('a' + i))
		create(t, f, name, "")
		f.FailAt(1, syscall.EIO, false)
		if err := f.SyncDir("."); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if err := f.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		_, ok := f.Restart(1).Files()[name]
		lost = lost || !ok
		if err := f.Exists(name); err != nil {
			t.Error(err)
		}
	}
	if !lost {
		t.Error("a failed sync never lost anything")
	}
}

// A process that was killed writes nothing any more, and does not take a lock
// from the next one.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	a := create(t, f, "a", "")
	held, err := f.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	f.KillAt(1)
	for off := range int64(3) {
		if _, err := a.WriteAt([]byte("xy"), 10*off); !errors.Is(err, faultfs.ErrKilled) {
			t.Fatal(err)
		}
	}
	if got := string(f.Files()["a"]); got != "x" {
		t.Errorf("it wrote %q", got)
	}
	f.NewProcess()
	if _, err := f.Lock("LOCK"); err != nil {
		t.Fatal(err)
	}
	held.Close()
	if _, err := f.Lock("LOCK"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a lock that the next process holds was taken again: %v", err)
	}
}

// What is in a directory is there only as long as the directory is.
func TestDirectories(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	if err := f.SyncDir("d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync of no directory: %v", err)
	}
	if err := f.Mkdir("d"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(create(t, f, "d/a", "a").Sync(), f.SyncDir("d")); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove("d"); err == nil {
		t.Error("removed a directory that is not empty")
	}
	create(t, f, "b", "b")
	if err := f.Rename("b", "e/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename into no directory: %v", err)
	}
	lost := false
	for seed := range uint64(50) {
		after := f.Restart(seed)
		if after.Exists("d") == nil {
			continue
		}
		lost = true
		if err := after.Exists("d/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("a file in a directory that is lost: %v", err)
		}
	}
	if !lost {
		t.Error("the directory was never lost")
	}
}

// A file that is open for reading cannot be written, and one that is closed not
// even read.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	f := faultfs.New()
	w := create(t, f, "a", "a")
	r, err := f.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteAt([]byte("b"), 0); err == nil {
		t.Error("wrote to a file that is open for reading")
	}
	if err := r.Truncate(0); err == nil {
		t.Error("truncated a file that is open for reading")
	}
	for _, file := range []vfs.File{w, r} {
		file.Close()
		_, read := file.ReadAt(make([]byte, 1), 0)
		_, write := file.WriteAt([]byte("b"), 0)
		_, size := file.Size()
		for _, err := range []error{read, write, size, file.Truncate(0), file.Sync(), file.Close()} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("use of a closed file: %v", err)
			}
		}
	}
	if got := string(f.Files()["a"]); got != "a" {
		t.Errorf("the file holds %q", got)
	}
}
