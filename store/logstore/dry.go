package logstore

import (
	"errors"
	"io"
	"io/fs"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// dryFS shows a directory and changes nothing: what would change it succeeds
// without effect. The lock is taken where there is one already.
type dryFS struct{ vfs.FS }

func (d dryFS) Create(string) (vfs.File, error) { return dryFile{}, nil }
func (d dryFS) Remove(string) error             { return nil }
func (d dryFS) Rename(string, string) error     { return nil }
func (d dryFS) Mkdir(string) error              { return nil }
func (d dryFS) SyncDir(string) error            { return nil }
func (d dryFS) Close() error                    { return nil }

func (d dryFS) OpenWrite(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	return dryFile{f}, err
}

func (d dryFS) Lock(name string) (io.Closer, error) {
	if err := d.FS.Exists(name); errors.Is(err, fs.ErrNotExist) {
		return dryFile{}, nil // a copy; making the file would be a change
	}
	lock, err := d.FS.Lock(name)
	if err != nil && !errors.Is(err, vfs.ErrLocked) {
		return dryFile{}, nil // who may not lock may not write either
	}
	return lock, err
}

// dryFile is a file, or none, that takes everything and changes nothing.
type dryFile struct{ vfs.File }

func (f dryFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (f dryFile) Truncate(int64) error                   { return nil }
func (f dryFile) Sync() error                            { return nil }

func (f dryFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}
