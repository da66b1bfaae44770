package logstore

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// directory counts the syncs of names that failed. Whoever makes a name asks, when
// it is to be durable, whether one has failed since, for somebody else perhaps: then
// those that succeed later need not have written it.
type directory struct {
	vfs.FS
	mu     sync.Mutex
	failed int
}

// SyncDir does not begin before others have ended: the next may succeed because
// this one has failed.
func (d *directory) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.FS.SyncDir(name)
	if err != nil {
		d.failed++
	}
	return err
}

// failures is to be called before a name is made, or removed, for syncNames.
func (d *directory) failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// syncNames makes durable what was made and removed since there were so many failures.
func (d *directory) syncNames(since int) error {
	if err := d.SyncDir("."); err != nil {
		return err
	}
	if d.failures() != since {
		return errors.New("a sync of the directory has failed meanwhile")
	}
	return nil
}

// has reports whether there is a file, as far as it can tell.
func (d *directory) has(name string) bool {
	return !errors.Is(d.Exists(name), fs.ErrNotExist)
}

// forget has the next sync of names make durable that there is no such file, which may
// have been removed without that.
func (d *directory) forget(name string) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	f.Close()
	return d.Remove(name)
}
