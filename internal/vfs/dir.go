package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"
)

// Permissions of what is made here: caches hold what their programs hold.
const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// dir is an FS on the file system of the machine. All names go through an
// os.Root, so none can lead out of the directory. On Windows it also opens files
// such that others may remove and rename them meanwhile, which os.Open does not,
// and removes a name at once although the file is open, as Unix does.
type dir struct {
	path string // absolute
	root *os.Root
}

// OpenDir opens the directory at path, and makes it and its parents if they
// do not exist. What it makes is durable when it returns.
func OpenDir(path string) (FS, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makeDir(path, syncPath); err != nil {
		return nil, err
	}
	return openDir(path)
}

// OpenExisting opens the directory at path, which must exist, and changes
// nothing. Nothing of it needs to be writable.
func OpenExisting(path string) (FS, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return openDir(path)
}

func openDir(path string) (FS, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &dir{path, root}, nil
}

// makeDir is os.MkdirAll that also makes the new entries durable, with sync. An empty
// directory is like a new one: who made it may have died before it could sync, and who
// has put something there has come further.
func makeDir(path string, sync func(string) error) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent == path || err == nil && !isEmpty(path) {
		return err
	}
	if err != nil {
		if err := makeDir(parent, sync); err != nil {
			return err
		}
		if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return sync(parent)
}

func isEmpty(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF
}

// syncPath is SyncDir of a directory, unless that may be written and searched but not
// read.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return SyncDir(f)
}

// named gives an error, which names what is in the directory, the whole path: there
// may be several directories.
func (d *dir) named(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return &fs.PathError{Op: e.Op, Path: filepath.Join(d.path, e.Path), Err: e.Err}
	case *os.LinkError:
		return &os.LinkError{Op: e.Op, Old: filepath.Join(d.path, e.Old), New: filepath.Join(d.path, e.New), Err: e.Err}
	}
	return err
}

func (d *dir) open(name string, flag int) (File, error) {
	f, err := d.root.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, d.named(err)
	}
	return osFile{f}, nil
}

func (d *dir) Create(name string) (File, error) {
	return d.open(name, os.O_CREATE|os.O_EXCL|os.O_RDWR)
}

func (d *dir) Open(name string) (File, error)      { return d.open(name, os.O_RDONLY) }
func (d *dir) OpenWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }
func (d *dir) Remove(name string) error            { return d.named(d.root.Remove(name)) }
func (d *dir) Mkdir(name string) error             { return d.named(d.root.Mkdir(name, dirMode)) }
func (d *dir) Close() error                        { return d.root.Close() }

func (d *dir) Exists(name string) error {
	_, err := d.root.Lstat(name)
	return d.named(err)
}

func (d *dir) Rename(from, to string) error {
	if err := d.Exists(to); err == nil {
		return d.named(&os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist})
	}
	return d.named(d.root.Rename(from, to))
}

func (d *dir) List() ([]Entry, error) {
	f, err := d.self()
	if err != nil {
		return nil, d.named(err)
	}
	defer f.Close()
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, len(found))
	for i, e := range found {
		list[i] = Entry{Name: e.Name(), IsDir: e.IsDir()}
	}
	return list, nil
}

// self opens the directory for a listing: by its path, if that still leads there, for a
// file of an os.Root asks the system for the type of each entry anew.
func (d *dir) self() (*os.File, error) {
	if f, err := os.Open(d.path); err == nil {
		there, err := f.Stat()
		if err == nil {
			var here fs.FileInfo
			if here, err = d.root.Stat("."); err == nil && os.SameFile(here, there) {
				return f, nil
			}
		}
		f.Close()
	}
	return d.root.Open(".")
}

func (d *dir) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return d.named(err)
	}
	defer f.Close()
	return SyncDir(f)
}

func (d *dir) Lock(name string) (io.Closer, error) {
	lock := flock.New(filepath.Join(d.path, name), flock.SetPermissions(fileMode))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !ok {
		return nil, ErrLocked
	}
	return lock, nil
}

// osFile is an *os.File with a Size.
type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
