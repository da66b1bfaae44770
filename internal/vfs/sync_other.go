//go:build !windows

package vfs

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes the entries of an open directory durable. A file system that
// cannot sync a directory (it says EINVAL or that it is not supported) has
// its own idea of when entries are durable, and there is nothing to add.
func SyncDir(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
