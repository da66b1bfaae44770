package cacheman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// FS returns the directory root as a file system, whatever is read through
// which with the ctx of a builder is tracked: fs.WalkDir, fs.Glob,
// template.ParseFS and the like record exactly what they have looked at. To open or to stat
// a file is to look whether there is one, and of what type. Its contents are looked at when they
// are read, or sought in; a directory when its entries are asked for; the mode when a
// FileInfo is asked for its Mode; and all that Stat gives for a Size or ModTime. So errors
// come then, and a file that may not be read can be opened. A FileInfo that cannot look gives
// zero, and of the Mode the type.
//
// It belongs to one call of the builder, and so does all that comes from it, which is to be asked
// before the builder returns.
func (f *Files) FS(ctx context.Context, root string) fs.FS { return trackedFS{f, ctx, root} }

type trackedFS struct {
	files *Files
	ctx   context.Context
	root  string
}

func (t trackedFS) path(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return filepath.Join(t.root, filepath.FromSlash(name)), nil
}

func pathError(op, name string, err error) error {
	if isNone(err) {
		err = errNotThere
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// errNotThere is fs.ErrNotExist of what was looked at with a ctx: a builder that passes it on
// says that there is no value.
var errNotThere error = notThere{}

type notThere struct{}

func (notThere) Error() string        { return fs.ErrNotExist.Error() }
func (notThere) Is(target error) bool { return target == fs.ErrNotExist }
func (notThere) Unwrap() error        { return ErrNotFound }

// Open implements fs.FS.
func (t trackedFS) Open(name string) (fs.File, error) {
	info, err := t.stat("open", name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &trackedDir{info: info}, nil
	}
	return &trackedFile{info: info, open: sync.OnceValues(func() (*bytes.Reader, error) {
		data, err := t.ReadFile(name)
		return bytes.NewReader(data), err
	})}, nil
}

// trackedFile is a file whose contents are read when somebody asks for some.
type trackedFile struct {
	info trackedInfo
	open func() (*bytes.Reader, error)
}

func (f *trackedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *trackedFile) Close() error               { return nil }

func (f *trackedFile) Read(p []byte) (int, error) {
	r, err := f.open()
	if err != nil {
		return 0, err
	}
	return r.Read(p)
}

// ReadAt implements io.ReaderAt.
func (f *trackedFile) ReadAt(p []byte, at int64) (int, error) {
	r, err := f.open()
	if err != nil {
		return 0, err
	}
	return r.ReadAt(p, at)
}

// Seek implements io.Seeker.
func (f *trackedFile) Seek(offset int64, whence int) (int64, error) {
	r, err := f.open()
	if err != nil {
		return 0, err
	}
	return r.Seek(offset, whence)
}

// WriteTo implements io.WriterTo.
func (f *trackedFile) WriteTo(w io.Writer) (int64, error) {
	r, err := f.open()
	if err != nil {
		return 0, err
	}
	return r.WriteTo(w)
}

type trackedDir struct {
	info   trackedInfo
	listed bool
	left   []fs.DirEntry
}

func (d *trackedDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *trackedDir) Close() error               { return nil }
func (d *trackedDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.path, Err: errors.New("is a directory")}
}

func (d *trackedDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.listed {
		entries, err := d.info.fs.ReadDir(d.info.path)
		if err != nil {
			return nil, err
		}
		d.listed, d.left = true, entries
	}
	if n > 0 && len(d.left) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.left) {
		n = len(d.left)
	}
	now := d.left[:n]
	d.left = d.left[n:]
	return now, nil
}

// ReadFile implements fs.ReadFileFS.
func (t trackedFS) ReadFile(name string) ([]byte, error) {
	p, err := t.path("read", name)
	if err != nil {
		return nil, err
	}
	data, err := t.files.Get(t.ctx, p)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	return data, nil
}

// Stat implements fs.StatFS.
func (t trackedFS) Stat(name string) (fs.FileInfo, error) {
	info, err := t.stat("stat", name)
	if err != nil {
		return nil, err
	}
	return info, nil
}

func (t trackedFS) stat(op, name string) (trackedInfo, error) {
	p, err := t.path(op, name)
	if err != nil {
		return trackedInfo{}, err
	}
	typ, err := t.files.types.Get(t.ctx, p)
	if isNone(err) {
		// Which error that is may depend on what is in the way.
		if _, why := t.files.Stat(t.ctx, p); why != nil {
			err = why
		}
	}
	if err != nil {
		return trackedInfo{}, pathError(op, name, err)
	}
	info := trackedInfo{t, name, typ, nil}
	if graph.FrameOf(t.ctx) == nil { // nobody records what is looked at
		all, err := t.files.Stat(t.ctx, p)
		if err != nil {
			return info, pathError(op, name, err)
		}
		info.typ, info.all = all.Mode.Type(), &all
	}
	return info, nil
}

// ReadDir implements fs.ReadDirFS.
func (t trackedFS) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := t.path("readdir", name)
	if err != nil {
		return nil, err
	}
	found, err := t.files.ReadDir(t.ctx, p)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	entries := make([]fs.DirEntry, len(found))
	for i, e := range found {
		entries[i] = trackedEntry{e, t, path.Join(name, e.Name)}
	}
	return entries, nil
}

// trackedInfo knows that there is a file, and of what type; all else a builder looks at when it
// asks for it.
type trackedInfo struct {
	fs   trackedFS
	path string
	typ  fs.FileMode
	all  *FileInfo // nil in a builder
}

func (i trackedInfo) Name() string { return path.Base(i.path) }
func (i trackedInfo) IsDir() bool  { return i.typ.IsDir() }
func (i trackedInfo) Sys() any     { return nil }

func (i trackedInfo) Size() int64 {
	info, _ := i.stat()
	return info.Size
}

func (i trackedInfo) ModTime() time.Time {
	info, err := i.stat()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, info.ModTime)
}

// Mode does not depend on when the file was changed, which for a directory is whenever something
// comes or goes in it: fs.WalkDir calls Mode for the type of its root.
func (i trackedInfo) Mode() fs.FileMode {
	if i.all != nil {
		return i.all.Mode
	}
	mode, err := i.fs.files.modes.Get(i.fs.ctx, i.file())
	if err != nil {
		return i.typ
	}
	return mode
}

// stat returns the metadata. Its error cannot be passed on, and need not be: that there is no file
// any more is recorded, and what a builder makes without what it has failed to read is not kept.
func (i trackedInfo) stat() (FileInfo, error) {
	if i.all != nil {
		return *i.all, nil
	}
	return i.fs.files.Stat(i.fs.ctx, i.file())
}

func (i trackedInfo) file() string { return filepath.Join(i.fs.root, filepath.FromSlash(i.path)) }

type trackedEntry struct {
	DirEntry
	fs   trackedFS
	path string
}

func (e trackedEntry) Name() string               { return e.DirEntry.Name }
func (e trackedEntry) IsDir() bool                { return e.DirEntry.Type.IsDir() }
func (e trackedEntry) Type() fs.FileMode          { return e.DirEntry.Type }
func (e trackedEntry) Info() (fs.FileInfo, error) { return e.fs.Stat(e.path) }
func (e trackedEntry) String() string             { return fmt.Sprintf("%v %s", e.DirEntry.Type, e.DirEntry.Name) }
