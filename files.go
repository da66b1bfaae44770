package cacheman

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Files are the files of the operating system as inputs: what builders read of
// them through their ctx is tracked. Each file is looked at once after the
// Manager was opened, and again after Refresh. Its contents are read again only if
// its size, its mode or the times of its last change differ (that of its contents, which
// programs can set, and, where there is one, that which the system keeps for itself), or
// the former is so recent that another change might have left it as it is.
//
// Paths are those of package os; relative ones are taken from the working
// directory, and are other entries than absolute ones. Files are safe for
// concurrent use.
//
// That there is no such file is ErrNotFound. What else the operating system says about a file
// is a result, too, and an error that is kept until the file is looked at again: that
// permission is denied, that it is a directory or is none, that links lead in a circle, and that
// there can be no such name. Other errors are failures, and the file is looked at again when
// somebody asks: too few file descriptors, say, or a disk that does not answer. That what
// should be a directory of the path is a file of another kind is such a result, and not
// ErrNotFound, where the system tells the two apart; Exists says that there is no such file.
//
// A symbolic link is what it leads to; only ReadDir says that it is one. What would have to be
// waited for, or has no end (pipes, sockets and devices other than os.DevNull), has no
// contents that could be kept: to read it is an error.
type Files struct {
	m        *Manager
	contents *Cache[string, fileState]
	metadata *Cache[string, FileInfo]
	modes    *Cache[string, fs.FileMode] // see fileModes
	types    *Cache[string, fs.FileMode] // the type bits of modes
	dirs     *Cache[string, string]      // see listing
}

// listing makes a string of a directory's entries, which costs less to compare
// and to load than a slice: each is a name, a slash, and the bits of its type.
func listing(entries []fs.DirEntry) string {
	var b []byte
	for _, e := range entries {
		b = append(append(b, e.Name()...), '/')
		b = binary.BigEndian.AppendUint32(b, uint32(e.Type()))
	}
	return string(b)
}

// listed returns the entries of a listing.
func listed(listing string) (entries []DirEntry, err error) {
	for listing != "" {
		name, rest, ok := strings.Cut(listing, "/")
		if !ok || len(rest) < 4 {
			return nil, errors.New("what was saved of a directory cannot be read")
		}
		entries = append(entries, DirEntry{name, fs.FileMode(binary.BigEndian.Uint32([]byte(rest[:4])))})
		listing = rest[4:]
	}
	return entries, nil
}

// fileState is what is known of the contents of a file.
type fileState struct {
	Size    int64
	ModTime int64 // Unix time in ns
	Changed int64 // see changed
	Mode    fs.FileMode
	Fresh   bool // the file had been changed shortly before it was looked at
	Hash    [sha256.Size]byte
}

const fileStateSize = 8 + 8 + 8 + 4 + 1 + sha256.Size

// AppendBinary implements encoding.BinaryAppender.
func (s fileState) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, uint64(s.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(s.ModTime))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Changed))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Mode))
	fresh := byte(0)
	if s.Fresh {
		fresh = 1
	}
	return append(append(b, fresh), s.Hash[:]...), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (s *fileState) UnmarshalBinary(b []byte) error {
	if len(b) != fileStateSize || b[28] > 1 {
		return errors.New("what was saved of a file cannot be read")
	}
	s.Size = int64(binary.BigEndian.Uint64(b))
	s.ModTime = int64(binary.BigEndian.Uint64(b[8:]))
	s.Changed = int64(binary.BigEndian.Uint64(b[16:]))
	s.Mode = fs.FileMode(binary.BigEndian.Uint32(b[24:]))
	s.Fresh = b[28] == 1
	copy(s.Hash[:], b[29:])
	return nil
}

// FileInfo is the metadata of a file.
type FileInfo struct {
	Size    int64
	Mode    fs.FileMode
	ModTime int64 // Unix time in ns
}

// DirEntry is an entry of a directory: its name and what kind of file it is.
type DirEntry struct {
	Name string
	Type fs.FileMode // the type bits
}

// resolution is what times of files are at most apart that look the same.
const resolution = 2 * time.Second

// OpenFiles returns the files as inputs of the caches of m. It costs nothing to
// call it again.
func OpenFiles(m *Manager) (*Files, error) {
	contents, err1 := own(m, filesCache, func() Spec[string, fileState] {
		return Spec[string, fileState]{
			Probe: func(ctx context.Context, name string, was fileState, known bool) (fileState, error) {
				now, err := probeFile(name, was, known)
				return now, unseen(ctx, m, name, err)
			},
			Equal: func(a, b fileState) bool { return a.Hash == b.Hash && a.Size == b.Size },
		}
	})
	metadata, err2 := own(m, metadataCache, func() Spec[string, FileInfo] {
		return Spec[string, FileInfo]{Probe: func(ctx context.Context, name string, _ FileInfo, _ bool) (FileInfo, error) {
			info, err := os.Stat(name)
			if err != nil {
				return FileInfo{}, unseen(ctx, m, name, err)
			}
			return FileInfo{info.Size(), info.Mode(), info.ModTime().UnixNano()}, nil
		}}
	})
	dirs, err3 := own(m, dirsCache, func() Spec[string, string] {
		return Spec[string, string]{Probe: func(ctx context.Context, name string, _ string, _ bool) (string, error) {
			entries, err := os.ReadDir(name)
			if err != nil {
				return "", unseen(ctx, m, name, err)
			}
			return listing(entries), nil
		}}
	})
	modes, err4 := fileModes(m)
	types, err5 := own(m, typesCache, func() Spec[string, fs.FileMode] {
		return Spec[string, fs.FileMode]{Build: func(ctx context.Context, name string) (fs.FileMode, error) {
			mode, err := modes.Get(ctx, name)
			return mode.Type(), err
		}}
	})
	if err := cmp.Or(err1, err2, err3, err4, err5); err != nil { // all fail for one reason
		return nil, err
	}
	return &Files{m, contents, metadata, modes, types, dirs}, nil
}

// fileModes returns the cache of the modes of files. What would be beneath a file that is no
// directory is not there.
func fileModes(m *Manager) (*Cache[string, fs.FileMode], error) {
	return own(m, modesCache, func() Spec[string, fs.FileMode] {
		return Spec[string, fs.FileMode]{Probe: func(ctx context.Context, name string, _ fs.FileMode, _ bool) (fs.FileMode, error) {
			info, err := os.Stat(name)
			if errors.Is(err, syscall.ENOTDIR) {
				err = fs.ErrNotExist
			}
			if err != nil {
				return 0, unseen(ctx, m, name, err)
			}
			return info.Mode(), nil
		}}
	})
}

// unseen is outside of what a Probe of name has been told. What cannot be seen may be so because
// of a name above it, of which alone is said that it changes; so the Probe reads what that is.
func unseen(ctx context.Context, m *Manager, name string, err error) error {
	switch err = outside(err); {
	case err == ErrNotFound, errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, fs.ErrPermission):
	default:
		return err
	}
	dir, info := obstacle(name)
	if dir == name {
		return err
	}
	modes, failed := fileModes(m)
	if failed != nil {
		return failed
	}
	for range 2 {
		mode, failed := modes.Get(ctx, dir)
		if failure(failed) != nil {
			return failed
		}
		if (failed == nil) == (info != nil) && (info == nil || mode == info.Mode()) {
			break
		}
		modes.Recheck(dir) // it has been looked at before it was what it is now
	}
	return err
}

// obstacle returns the uppermost of the names above a file that is no directory, or its
// directory, and what is there, if anything: nothing beneath can come or go without it. It is
// name itself if there is none above.
func obstacle(name string) (dir string, info fs.FileInfo) {
	dir = filepath.Dir(name)
	info, _ = os.Stat(dir)
	for info == nil || !info.IsDir() {
		up := filepath.Dir(dir)
		above, _ := os.Stat(up)
		if up == dir || above != nil && above.IsDir() {
			break
		}
		dir, info = up, above
	}
	return dir, info
}

// outside makes an error of the operating system a result if it says something about the
// file: that it is not there is ErrNotFound, and what else there is to say is kept until the
// file is looked at again. That there are too few file descriptors, or a disk does not
// answer, says nothing about it, and is a failure.
func outside(err error) error {
	if _, kept := errors.AsType[*KeptError](err); err == nil || kept {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	is := func(target error) bool { return errors.Is(err, target) }
	if slices.ContainsFunc(aboutFiles, is) || runtime.GOOS == "windows" && slices.ContainsFunc(aboutWindowsFiles, is) {
		return Keep(err)
	}
	return err
}

var aboutFiles = []error{
	fs.ErrPermission, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL,
}

// aboutWindowsFiles have no names in package syscall; on other systems the numbers are those
// of other errors.
var aboutWindowsFiles = []error{
	syscall.Errno(123),  // ERROR_INVALID_NAME
	syscall.Errno(161),  // ERROR_BAD_PATHNAME
	syscall.Errno(206),  // ERROR_FILENAME_EXCED_RANGE
	syscall.Errno(267),  // ERROR_DIRECTORY
	syscall.Errno(1921), // ERROR_CANT_RESOLVE_FILENAME
}

// looksAs reports whether a file that info is about needs not be read again.
func (s *fileState) looksAs(info fs.FileInfo) bool {
	return !s.Fresh && s.Size == info.Size() && s.ModTime == info.ModTime().UnixNano() && s.Changed == changed(info) && s.Mode == info.Mode()
}

// endless are the types of files that would have to be waited for, or have no end.
const endless = fs.ModeNamedPipe | fs.ModeSocket | fs.ModeDevice

var errEndless = errors.New("is a pipe, a socket or a device")

func probeFile(name string, was fileState, known bool) (fileState, error) {
	if info, err := os.Stat(name); err != nil {
		return fileState{}, err
	} else if info.IsDir() { // what it is to read one is not the same everywhere
		return fileState{}, Keep(&fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR})
	} else if info.Mode()&endless != 0 && name != os.DevNull {
		return fileState{}, Keep(&fs.PathError{Op: "read", Path: name, Err: errEndless})
	} else if known && was.looksAs(info) {
		return was, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return fileState{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileState{}, err
	}
	now := fileState{
		ModTime: info.ModTime().UnixNano(),
		Changed: changed(info),
		Mode:    info.Mode(),
		Fresh:   time.Since(info.ModTime()) < resolution,
	}
	h := sha256.New()
	if now.Size, err = io.Copy(h, f); err != nil {
		return fileState{}, err
	}
	h.Sum(now.Hash[:0])
	return now, nil
}

// Get returns the contents of a file. What a builder makes of them depends on
// the contents alone. A file that is not there is ErrNotFound. The contents are
// not kept; they are read each time. Of a file that is never what it was found to be,
// because it is another at each read or changes without looking otherwise, what a
// builder makes is not kept either.
func (f *Files) Get(ctx context.Context, name string) ([]byte, error) {
	const patience = 3
	for try := 1; ; try++ {
		was, err := f.contents.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(name)
		if err == nil && sha256.Sum256(data) == was.Hash {
			return data, nil
		}
		// It has been changed, or removed, since it was looked at.
		if try > 1 && err != nil && !errors.Is(err, fs.ErrNotExist) || try > patience && err == nil {
			// It looks as ever but cannot be read, or has other contents, which
			// nothing stands for.
			graph.FrameOf(ctx).Volatile()
			return data, err
		}
		f.contents.Recheck(name)
	}
}

// Hash returns the SHA-256 of the contents of a file, without reading it if it
// has not changed.
func (f *Files) Hash(ctx context.Context, name string) ([sha256.Size]byte, error) {
	state, err := f.contents.Get(ctx, name)
	return state.Hash, err
}

// Stat returns the metadata of a file: also the time of its last change, so what
// a builder makes of it is stale when that is another.
func (f *Files) Stat(ctx context.Context, name string) (FileInfo, error) {
	return f.metadata.Get(ctx, name)
}

// Exists reports whether there is a file of that name. What a builder makes of
// that is stale when the file comes or goes. Beneath a file that is no directory there is none.
func (f *Files) Exists(ctx context.Context, name string) (bool, error) {
	return f.modes.Contains(ctx, name)
}

// ReadDir returns the entries of a directory in the order of their names. What
// a builder makes of them is stale when one comes, goes or becomes another kind
// of file.
func (f *Files) ReadDir(ctx context.Context, name string) ([]DirEntry, error) {
	entries, err := f.dirs.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return listed(entries)
}

// Recheck says that files may have changed: they are looked at again when
// somebody asks. It is for whoever is told of changes by the operating system.
// Without names it concerns all files.
//
// A name is to be the one by which the file is asked for. With it goes the listing of its
// directory, which is filepath.Dir(name), but not the metadata of that: of a file that has come or
// gone, call Recheck(name, filepath.Dir(name)). With a name goes also what could not be seen beneath
// it because of what it was, but not what could: after a directory was removed, moved or
// replaced, call Recheck without names.
func (f *Files) Recheck(names ...string) {
	f.contents.Recheck(names...)
	f.metadata.Recheck(names...)
	f.modes.Recheck(names...)
	f.dirs.Recheck(names...)
	for _, name := range names {
		f.dirs.Recheck(filepath.Dir(name))
	}
}

// Refresh looks at all files again that were asked for; see Cache.Refresh.
func (f *Files) Refresh(ctx context.Context) error {
	return errors.Join(f.contents.Refresh(ctx), f.metadata.Refresh(ctx), f.modes.Refresh(ctx), f.dirs.Refresh(ctx))
}
