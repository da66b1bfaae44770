package logstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// keeping is files that somebody may want to look into when nothing refers to them any
// more: they are moved to a directory of their own.
type keeping struct {
	names []string
	front int64 // if not 0, this much of the oldest journal, which stays in use, is copied

	dir   string // "" until there is one
	moved []string
}

// begin makes the directory, if there is something to keep. The manifest that does not
// name the files any more is published next, so it has the number after that of the
// directory: what a crash keeps from being moved the next Open does not sweep. The
// caller holds compacting, or applying while there is an unpublished manifest.
func (k *keeping) begin(s *Store) error {
	k.names = slices.DeleteFunc(k.names, func(name string) bool {
		return !s.fs.has(name)
	})
	if len(k.names) == 0 && k.front == 0 {
		return nil
	}
	k.dir, k.moved = damagedName(s.nextGen), nil
	s.nextGen++
	since := s.fs.failures()
	err := s.fs.Mkdir(k.dir)
	if err == nil && k.front > 0 {
		j := s.journals[0]
		k.moved = []string{j.name + ".damaged"}
		err = copyFront(s.fs, j.f, k.dir+"/"+k.moved[0], k.front)
		if err == nil {
			err = s.fs.SyncDir(k.dir)
		}
	}
	if err == nil {
		err = s.fs.syncNames(since)
	}
	if err != nil {
		k.undo(s)
		return fmt.Errorf("keeping what is damaged: %w", err)
	}
	return nil
}

// undo removes the directory, for there is no manifest after it.
func (k *keeping) undo(s *Store) {
	if k.dir == "" {
		return
	}
	for _, name := range k.moved {
		_ = s.fs.Remove(k.dir + "/" + name)
	}
	_ = s.fs.Remove(k.dir)
	k.dir = ""
}

// end moves the files. What it cannot move is left to the next compaction, or Open.
func (k *keeping) end(s *Store) {
	if k.dir == "" {
		return
	}
	var err error
	for _, name := range k.names {
		if e := s.fs.Rename(name, k.dir+"/"+name); e != nil {
			err = errors.Join(err, e)
			s.broken = append(s.broken, name)
			continue
		}
		k.moved = append(k.moved, name)
	}
	err = errors.Join(err, s.fs.SyncDir(k.dir), s.fs.SyncDir("."))
	s.note(Event{Kind: SetAside, File: k.dir, Files: k.moved, Err: err})
}

// copyFront copies the front of a file.
func copyFront(dir vfs.FS, f io.ReaderAt, to string, size int64) error {
	out, err := dir.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, min(size, writeSize))
	for off := int64(0); off < size; {
		n := int(min(size-off, writeSize))
		if err := readFull(f, buf[:n], off); err != nil {
			return err
		}
		if _, err := out.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return out.Sync()
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
	s.keep = &keeping{names: slices.DeleteFunc(r.files.dataFiles(), func(name string) bool {
		return slices.ContainsFunc(s.journals, func(j *journal) bool { return j.name == name })
	})}
	if r.from.off > journalHeader {
		s.keep.front = r.from.off // where the damage is
	}
	if err := s.ready(); err != nil {
		s.note(Event{Kind: SetAside, Err: err})
	}
}

// unused returns the files of the store that nothing refers to.
func (r *recovery) unused() (names []string) {
	s := r.s
	used := make(map[string]bool, len(s.snapshots))
	for _, x := range s.snapshots {
		used[x.name] = true
	}
	for _, name := range r.files.snapshots {
		if !used[name] {
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
