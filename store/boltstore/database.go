package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// database is bbolt's, with errors in place of its panics. It panics when it
// finds pages that make no sense, and the system objects if they are not there.
type database struct {
	*bolt.DB
	file   *os.File              // bbolt's
	broken atomic.Pointer[error] // why there can be no more transactions
}

// openDatabase opens a file, and makes it if it is not there. The rest of the
// options are as given.
func openDatabase(path string, wait time.Duration, o bolt.Options) (*database, error) {
	d := &database{}
	o.Timeout = max(wait, 1) // 0 would be for ever
	o.FreelistType = bolt.FreelistMapType
	o.NoStatistics = true
	o.OpenFile = func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
		f, err = os.OpenFile(name, flag, mode)
		d.file = f
		return f, err
	}
	err := d.guard(func() (err error) {
		d.DB, err = bolt.Open(path, fileMode, &o)
		return err
	})
	if err == nil {
		err = syncDir(filepath.Dir(path)) // the file may be new
	}
	if err != nil {
		err = classify(path, err)
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// classify says of an error of opening what it means for the file.
func classify(path string, err error) error {
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case system:
	case errors.Is(err, bolterrors.ErrTimeout):
		return &store.LockedError{Path: path}
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %w", store.ErrFormat, err)
	case errors.Is(err, bolterrors.ErrInvalid) && !isBolt(path):
		err = fmt.Errorf("%w: it is not a bbolt database", store.ErrFormat)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), isShort(path):
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// isBolt reports whether a file has bbolt's mark anywhere where it could be.
func isBolt(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	front, err := io.ReadAll(io.LimitReader(f, 128<<10))
	return err == nil && bytes.Contains(front, binary.NativeEndian.AppendUint32(nil, 0xED0CDAED))
}

// isShort reports whether a file is not even what bbolt makes at first, which
// is four pages.
func isShort(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.Mode().IsRegular() && i.Size() < 4*4096
}

// initialize makes an empty database one of this package, and refuses one that
// is something else.
func (d *database) initialize() error {
	ready := false
	check := func(tx *bolt.Tx) error {
		root := tx.Bucket(rootBucket)
		if root == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: it is a bbolt database of another program", store.ErrFormat)
			}
			return nil
		}
		if v := root.Get(formatKey); !bytes.Equal(v, format) {
			return fmt.Errorf("%w: its format is %.20q, not %q", store.ErrFormat, v, format)
		}
		if tx.Bucket(cachesBucket) == nil {
			return fmt.Errorf("%w: the bucket of all caches is missing", store.ErrCorrupt)
		}
		ready = true
		return nil
	}
	if err := d.view(check); err != nil || ready {
		return err
	}
	_, err := d.update(func(tx *bolt.Tx) error {
		root, err := tx.CreateBucket(rootBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(cachesBucket); err != nil {
			return err
		}
		return errors.Join(root.Put(countKey, encodeCount(0)), root.Put(formatKey, format))
	})
	return err
}

// view runs fn in a transaction that reads.
func (d *database) view(fn func(*bolt.Tx) error) error {
	tx, err := d.begin(false)
	if err != nil {
		return err
	}
	return d.guard(func() error {
		defer tx.Rollback()
		return fn(tx)
	})
}

// update runs fn in a transaction that writes. If err is not nil, sure says
// that the transaction has left no trace and that another can follow.
func (d *database) update(fn func(*bolt.Tx) error) (sure bool, err error) {
	tx, err := d.begin(true)
	if err != nil {
		return true, err
	}
	id, done := tx.ID(), false
	err = d.guard(func() error {
		err := fn(tx)
		if err == nil {
			err = tx.Commit()
		}
		done = true
		return err
	})
	if err == nil {
		return true, nil
	}
	err = errors.Join(err, d.rollback(tx))
	// What cannot be undone is the page with the transaction's number.
	viewed := d.view(func(tx *bolt.Tx) error {
		sure = done && tx.ID() < id
		return nil
	})
	return sure && viewed == nil, err
}

// rollback ends a transaction that has failed, at any point.
func (d *database) rollback(tx *bolt.Tx) error {
	done := false
	err := d.guard(func() error {
		_ = tx.Rollback() // its only error is that it has been done
		done = true
		return nil
	})
	if !done {
		d.broken.Store(&err)
	}
	return err
}

func (d *database) begin(writable bool) (tx *bolt.Tx, err error) {
	if err := d.broken.Load(); err != nil {
		return nil, *err
	}
	began := false
	err = d.guard(func() (err error) {
		tx, err = d.DB.Begin(writable)
		began = true
		return err
	})
	if !began {
		d.broken.Store(&err)
	}
	return tx, err
}

// caches lists the caches.
func (d *database) caches() (infos []store.Info, err error) {
	err = d.view(func(tx *bolt.Tx) error {
		infos = nil
		count, err := decodeCount(tx.Bucket(rootBucket).Get(countKey))
		if err != nil {
			return err
		}
		caches := tx.Bucket(cachesBucket)
		err = caches.ForEachBucket(func(name []byte) error {
			i, err := decodeInfo(seed(string(name)), caches.Bucket(name).Get(infoKey))
			if err != nil {
				return fmt.Errorf("description of cache %.80q: %w", name, err)
			}
			if n := len(infos); n > 0 && infos[n-1].Cache >= string(name) {
				return fmt.Errorf("%w: the caches are out of order", store.ErrCorrupt)
			}
			infos = append(infos, store.Info{
				Cache:       string(name),
				Description: bytes.Clone(i.description),
				Records:     i.records,
				Bytes:       i.bytes,
			})
			return nil
		})
		if err == nil && len(infos) != count {
			return fmt.Errorf("%w: there are %d caches, not %d", store.ErrCorrupt, len(infos), count)
		}
		return err
	})
	return infos, err
}

// guard turns panics of fn, which uses bbolt and nothing of others, into
// errors.
func (d *database) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", store.ErrCorrupt, r)
		}
	}()
	return fn()
}

// close closes the database. One that is broken may hold locks of its own for
// ever, so of that only the file is closed.
func (d *database) close() error {
	switch {
	case d.DB != nil && d.broken.Load() == nil:
		return d.DB.Close()
	case d.file != nil:
		if err := d.file.Close(); !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(vfs.SyncDir(d), d.Close())
}
