package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// image is the state of a store at one instant, as files: what a backup copies.
// It keeps them from being closed and removed until release is called.
type image struct {
	m         *manifest
	snapshots []*snapshot
	journals  []*journal
	ends      []int64 // up to where each of journals belongs to the state
}

// hold makes the image that consists of m and of what s has in memory. The
// caller holds applying.
func (s *Store) hold(m *manifest) *image {
	s.mu.RLock()
	defer s.mu.RUnlock()
	im := &image{m: m}
	for _, x := range s.snapshots {
		x.pin()
		im.snapshots = append(im.snapshots, x)
	}
	for _, j := range s.journals {
		j.pin()
		im.journals, im.ends = append(im.journals, j), append(im.ends, j.end)
	}
	return im
}

func (im *image) release() {
	unpinAll(im.journals, im.snapshots)
}

// image returns the present state: what was acknowledged, and nothing else.
func (s *Store) image(ctx context.Context) (*image, error) {
	if err := s.acquire(ctx, s.applying); err != nil {
		return nil, err
	}
	defer s.applying.release()
	if err := s.ready(); err != nil {
		return nil, err
	}
	// A compaction may just have published a manifest that is not adopted
	// yet; the one before is still there.
	files, err := list(s.fs)
	if err != nil {
		return nil, err
	}
	err = &damage{file: manifestName(max(1, files.highest)), what: "no manifest can be read"}
	for _, n := range files.manifests {
		m, e := readManifest(s.fs, n)
		if e != nil {
			err = e
		} else if m.start == s.start {
			return s.hold(m), nil
		}
	}
	return nil, err
}

// image returns what shows.
func (r *Reader) image(ctx context.Context) (*image, error) {
	if err := r.s.acquire(ctx, r.s.applying); err != nil {
		return nil, err
	}
	defer r.s.applying.release()
	if r.m == nil {
		return nil, errors.New("nothing was ever stored")
	}
	return r.s.hold(r.m), nil
}

// Backup implements store.Backuper. It copies the snapshots and the journal up
// to the last batch that was acknowledged when it began, without reading what is
// in them, so damage is copied too, also where a file was cut off. Batches wait only while it finds out which
// files these are. Compactions go on; the space of the files that they replace is
// free when the copy is complete.
//
// While it is being made the copy has a file UNFINISHED in it, which makes all
// ways of opening it fail with store.ErrUnfinished. After an error Backup removes
// what it made, as far as it can.
func (s *Store) Backup(ctx context.Context, dir string) error {
	defer s.tell()
	return backup(ctx, s, s.image, dir)
}

// backup copies what image returns, unless s is closed.
func backup(ctx context.Context, s *Store, image func(context.Context) (*image, error), dir string) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	to, err := vfs.OpenDir(dir)
	if err == nil {
		defer to.Close()
		err = backupTo(ctx, s, image, to)
	}
	if e := s.check(ctx); err != nil && e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("logstore: backup of %s to %s: %w", s.dir, dir, err)
	}
	return nil
}

func backupTo(ctx context.Context, s *Store, image func(context.Context) (*image, error), to vfs.FS) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	im, err := image(ctx)
	if err != nil {
		return err
	}
	defer im.release()
	found, err := to.List()
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("the directory is not empty: there is %s; choose another", found[0].Name)
	}
	c := copier{ctx: ctx, to: &directory{FS: to}}
	if err := c.copy(im); err != nil {
		c.undo()
		return err
	}
	return nil
}

// copier makes a backup.
type copier struct {
	ctx  context.Context
	to   *directory
	made []string
	buf  []byte
}

// copy makes the mark that the backup is unfinished durable before anything
// else, and takes it away when everything else is.
func (c *copier) copy(im *image) error {
	if err := c.write(unfinishedName, nil); err != nil {
		return err
	}
	for _, x := range im.snapshots {
		f, err := x.open()
		if err != nil {
			return err
		}
		if err := c.file(f, x.name, x.size); err != nil {
			return err
		}
	}
	for i, j := range im.journals {
		if err := c.file(j.f, j.name, im.ends[i]); err != nil {
			return err
		}
	}
	if err := c.write(manifestName(im.m.n), im.m.encode()); err != nil {
		return err
	}
	if err := c.to.Remove(unfinishedName); err != nil {
		return err
	}
	c.made = nil // from here on it is complete
	if err := c.to.SyncDir("."); err != nil {
		return fmt.Errorf("it is complete, but after a loss of power the file %s may be back: %w", unfinishedName, err)
	}
	return nil
}

// write makes a file, and all names that there are so far durable.
func (c *copier) write(name string, data []byte) error {
	f, err := writeFile(c.to, name, data)
	if err != nil {
		return err
	}
	c.made = append(c.made, name)
	return f.Close()
}

// file copies the front of a file.
func (c *copier) file(from io.ReaderAt, name string, size int64) error {
	f, err := c.to.Create(name)
	if err != nil {
		return err
	}
	c.made = append(c.made, name)
	defer f.Close()
	if c.buf == nil {
		c.buf = make([]byte, writeSize)
	}
	for off := int64(0); off < size; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(c.buf[:min(size-off, writeSize)], off)
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if n == 0 {
			break // it was cut off
		}
		if _, err := f.WriteAt(c.buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return f.Sync()
}

// undo removes what was made, and the mark once that is certain.
func (c *copier) undo() {
	for _, name := range c.made {
		if name != unfinishedName && c.to.Remove(name) != nil {
			return
		}
	}
	if len(c.made) > 0 && c.to.SyncDir(".") == nil {
		_ = c.to.Remove(unfinishedName)
	}
}
