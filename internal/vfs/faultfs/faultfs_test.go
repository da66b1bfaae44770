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
