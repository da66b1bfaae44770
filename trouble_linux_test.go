package cacheman

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullDisk: a file system of 2 MB, which is full in the middle of a batch. It is
// mounted where only a process with a user namespace of its own sees it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, child := alone(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	})
	kept := filepath.Join(dir, "kept")
	if !child {
		wantUsable(t, kept, blobs(4, 4000, 1000))
		return
	}
	disk := filepath.Join(dir, "disk")
	ok(t, os.Mkdir(disk, 0o700))
	mount := func(flags uintptr, size string) error {
		return syscall.Mount("tmpfs", disk, "tmpfs", flags, "size="+size)
	}
	if err := mount(0, "2m"); err != nil {
		t.Skip("no file system can be mounted: ", err)
	}
	filling := filepath.Join(disk, "filling")
	outOfSpace(t, filepath.Join(disk, "dir"),
		func() {},
		func() {
			f := must(os.Create(filling))
			defer f.Close()
			for err := error(nil); err == nil; {
				_, err = f.Write(bytes.Repeat([]byte("x"), 4096))
			}
			m := must(Open(filepath.Join(disk, "new"), quietly)) // names need no space here
			ok(t, must(Register(m, "c", Spec[int, string]{})).Set(1, "v"))
			wantError(t, m.Sync(t.Context()), syscall.ENOSPC, "cacheman: sync: ", "journal")
			wantError(t, m.Close(), syscall.ENOSPC, "cacheman: ", "journal")
		},
		func() {
			ok(t, os.Remove(filling))
			ok(t, mount(syscall.MS_REMOUNT, "64m"))
		},
		syscall.ENOSPC)
	// The mount ends with this process. What was synced is in the files.
	ok(t, os.CopyFS(kept, os.DirFS(filepath.Join(disk, "dir"))))
}
