package logstore

import (
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// setAside moves files that nothing refers to any more, but that somebody may
// want to look into, to a new directory. What it cannot move stays where it is
// until the next Open sweeps it. The caller holds compacting.
func (s *Store) setAside(names []string) {
	names = slices.DeleteFunc(names, func(name string) bool {
		return errors.Is(s.fs.Exists(name), fs.ErrNotExist)
	})
	if len(names) == 0 {
		return
	}
	dir := damagedName(s.nextGen)
	s.nextGen++
	err := s.fs.Mkdir(dir)
	var moved []string
	if err == nil {
		for _, name := range names {
			if e := s.fs.Rename(name, dir+"/"+name); e != nil {
				err = errors.Join(err, e)
				continue
			}
			moved = append(moved, name)
		}
		err = errors.Join(err, s.fs.SyncDir(dir), s.fs.SyncDir("."))
	}
	s.note(Event{Kind: SetAside, File: dir, Files: moved, Err: err})
}

// copyAside copies the front of a file that is still in use into a file that
// can be set aside. It returns the name of the copy.
func copyAside(dir vfs.FS, f io.ReaderAt, name string, size int64) (string, error) {
	to := name + ".damaged"
	_ = dir.Remove(to) // of an earlier attempt
	out, err := dir.Create(to)
	if err != nil {
		return "", err
	}
	defer out.Close()
	buf := make([]byte, min(size, writeSize))
	for off := int64(0); off < size; {
		n := int(min(size-off, writeSize))
		if err := readFull(f, buf[:n], off); err != nil {
			return "", err
		}
		if _, err := out.WriteAt(buf[:n], off); err != nil {
			return "", err
		}
		off += int64(n)
	}
	return to, out.Sync()
}

// settle makes the outcome of Discard permanent: it publishes a manifest that
// starts after the damage, and sets the files before it aside. If it fails, that is
// tried again before anything is written; and the next Open finds the same damage
// again, and comes to the same state.
func (r *recovery) settle() {
	s := r.s
	gone := func(j *journal) bool { return r.from.seq == 0 || j.seq < r.from.seq }
	s.mu.Lock()
	for _, x := range s.snapshots {
		x.unpin()
	}
	for _, j := range s.journals {
		if gone(j) {
			j.unpin()
		}
	}
	s.snapshots = nil
	s.journals = slices.DeleteFunc(s.journals, gone)
	s.mu.Unlock()
	s.start, s.manifests = r.from, [2]uint64{}
	s.unpublished = &manifest{}
	s.keep = r.keepDiscarded
	if err := s.ready(); err != nil {
		s.note(Event{Kind: SetAside, Err: err})
	}
}

// keepDiscarded sets aside the files that settle has given up.
func (r *recovery) keepDiscarded() {
	s := r.s
	aside := slices.Clone(r.files.snapshots)
	for _, seq := range r.files.journals {
		if r.from.seq == 0 || seq < r.from.seq {
			aside = append(aside, journalName(seq))
		}
	}
	for _, n := range r.files.manifests {
		aside = append(aside, manifestName(n))
	}
	if r.from.off > journalHeader {
		// The damage is in a journal that is still in use.
		j := s.journals[0]
		name, err := copyAside(s.fs, j.f, j.name, r.from.off)
		if err != nil {
			s.note(Event{Kind: SetAside, Err: err})
		} else {
			aside = append(aside, name)
		}
	}
	s.setAside(aside)
}

// unused returns the files of the store that nothing refers to.
func (r *recovery) unused() (names []string) {
	s := r.s
	for _, name := range r.files.snapshots {
		if !slices.ContainsFunc(s.snapshots, func(x *snapshot) bool { return x.name == name }) {
			names = append(names, name)
		}
	}
	for _, seq := range r.files.journals {
		if !slices.ContainsFunc(s.journals, func(j *journal) bool { return j.seq == seq }) {
			names = append(names, journalName(seq))
		}
	}
	for _, n := range r.files.manifests {
		if n != r.m.n && n != r.keep {
			names = append(names, manifestName(n))
		}
	}
	return names
}

func (r *recovery) remove(names []string) {
	if len(names) == 0 {
		return
	}
	var err error
	for _, name := range names {
		if e := r.s.fs.Remove(name); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	r.s.note(Event{Kind: Swept, Files: names, Err: err})
}
