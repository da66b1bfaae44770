// Package faultfs is a vfs.FS in memory that fails when it is told to, and
// that can lose power.
//
// What survives a loss of power is what the interface promises and no more:
// contents that were synced, under names whose directory was synced. What was
// written since survives wholly, in part or not at all, as a seed decides.
package faultfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

var (
	// ErrPowerLost is returned by every call after the power was lost.
	ErrPowerLost = errors.New("power lost")
	// ErrKilled is returned by the calls that a process does not get to make
	// any more. It loses nothing of what was done before.
	ErrKilled = errors.New("process is dead")
)

// Op is the kind of a call.
type Op string

// The calls that can be made to fail. Closing cannot.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpExists   Op = "exists"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpMkdir    Op = "mkdir"
	OpList     Op = "list"
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpSize     Op = "size"
)

// Changes reports whether a call of this kind changes the file system or
// makes a change durable.
func (op Op) Changes() bool {
	switch op {
	case OpCreate, OpRemove, OpRename, OpMkdir, OpSyncDir, OpWrite, OpTruncate, OpSync:
		return true
	}
	return false
}

// FS is the file system. Its methods may be called concurrently.
type FS struct {
	mu    sync.Mutex
	calls int
	hook  func(n int, op Op, name string) error
	lost  bool
	dead  bool // the process was killed

	now     map[string]*node // what a program sees
	durable map[string]*node // what is certain to survive
	pending []change         // from durable to now, in order
	locks   map[string]*lock
}

// node is a file, or a directory.
type node struct {
	dir     bool
	data    []byte
	synced  []byte
	pending []write // from synced to data, in order
}

// write is a piece written at an offset, or a truncation to it.
type write struct {
	off      int64
	data     []byte
	truncate bool
}

// change puts a node under a name, or takes the name away if node is nil.
type change struct {
	name string
	node *node
}

// New returns an empty file system.
func New() *FS {
	return &FS{now: map[string]*node{}, durable: map[string]*node{}, locks: map[string]*lock{}}
}

// Hook has f called before each call, with the number of the call (from 1,
// since the last Hook). If f returns an error the call fails with it; a
// failing write still writes the first half of its bytes, and a failing sync,
// of a file or of a directory, makes a part durable and forgets that there was anything
// else to sync, as Linux does.
func (s *FS) Hook(f func(n int, op Op, name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook, s.calls, s.dead = f, 0, false
}

// FailAt makes the n-th changing call from now on fail with err, and those
// after it too if rest is set.
func (s *FS) FailAt(n int, err error, rest bool) {
	changes := 0
	s.Hook(func(_ int, op Op, _ string) error {
		if !op.Changes() {
			return nil
		}
		changes++
		if changes == n || rest && changes > n {
			return err
		}
		return nil
	})
}

// LoseAt cuts the power at the n-th changing call from now on: it does not
// happen (of a write, the first half may), and neither does anything after.
func (s *FS) LoseAt(n int) { s.FailAt(n, ErrPowerLost, true) }

// KillAt ends the process at the n-th changing call from now on: it does not
// happen (of a write, the first half does), and neither does any after it.
func (s *FS) KillAt(n int) { s.FailAt(n, ErrKilled, true) }

// NewProcess ends faults, and takes the locks from who held them.
func (s *FS) NewProcess() {
	s.Hook(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.locks)
}

// Calls returns how many calls were made since the last Hook.
func (s *FS) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Lost reports whether the power was lost.
func (s *FS) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Restart returns what is there after the power came back, as seed decides.
// Files that are open in s have nothing to do with it.
func (s *FS) Restart(seed uint64) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 1))
	entries := maps.Clone(s.durable)
	mood := rng.IntN(4) // nothing, everything, a prefix, any subset
	prefix := rng.IntN(len(s.pending) + 1)
	for i, c := range s.pending {
		if mood == 0 || mood == 2 && i >= prefix || mood == 3 && rng.IntN(2) == 0 {
			continue
		}
		if c.node == nil {
			delete(entries, c.name)
		} else {
			entries[c.name] = c.node
		}
	}
	after := New()
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if after.absent(path.Dir(name)) {
			continue // it went with its directory
		}
		after.put(name, entries[name].survivor(rng))
	}
	after.durable = maps.Clone(after.now)
	after.pending = nil
	return after
}

// survivor returns what is left of a file after a loss of power.
func (n *node) survivor(rng *rand.Rand) *node {
	data := slices.Clone(n.synced)
	mood := rng.IntN(4)
	prefix := rng.IntN(len(n.pending) + 1)
	for i, w := range n.pending {
		switch {
		case mood == 0 || mood == 2 && i > prefix:
			continue
		case mood == 2 && i == prefix && !w.truncate: // torn
			w.data = w.data[:rng.IntN(len(w.data)+1)]
		case mood == 3 && w.truncate && rng.IntN(2) == 0:
			continue
		case mood == 3 && !w.truncate: // sectors in any order
			const sector = 64
			for off := 0; off < len(w.data); off += sector {
				if rng.IntN(2) == 0 {
					piece := w.data[off:min(off+sector, len(w.data))]
					data = write{off: w.off + int64(off), data: piece}.apply(data)
				}
			}
			continue
		}
		data = w.apply(data)
	}
	return &node{dir: n.dir, data: data, synced: slices.Clone(data)}
}

func (w write) apply(data []byte) []byte {
	end := int(w.off) + len(w.data)
	if w.truncate {
		end = int(w.off)
	}
	if len(data) < end {
		data = append(data, make([]byte, end-len(data))...)
	}
	if w.truncate {
		return data[:end]
	}
	copy(data[w.off:], w.data)
	return data
}

// Clone returns an independent copy in which everything is durable: what a
// new process sees if the power stays on.
func (s *FS) Clone() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New()
	for name, n := range s.now {
		c.put(name, &node{dir: n.dir, data: slices.Clone(n.data), synced: slices.Clone(n.data)})
	}
	c.durable = maps.Clone(c.now)
	c.pending = nil
	return c
}

// Files returns the contents of all files, by name.
func (s *FS) Files() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string][]byte{}
	for name, n := range s.now {
		if !n.dir {
			files[name] = slices.Clone(n.data)
		}
	}
	return files
}

// WriteFile sets the contents of a file, durably and without faults.
func (s *FS) WriteFile(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &node{data: slices.Clone(data), synced: slices.Clone(data)}
	s.now[name], s.durable[name] = n, n
}

// call counts a call and decides whether it fails. s.mu is held.
func (s *FS) call(op Op, name string) error {
	s.calls++
	if s.lost {
		return ErrPowerLost
	}
	if s.hook == nil {
		return nil
	}
	err := s.hook(s.calls, op, name)
	if errors.Is(err, ErrPowerLost) {
		s.lost = true
	}
	if errors.Is(err, ErrKilled) {
		s.dead = true
	}
	if err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (s *FS) put(name string, n *node) {
	if n == nil {
		delete(s.now, name)
	} else {
		s.now[name] = n
	}
	s.pending = append(s.pending, change{name, n})
}

// absent reports whether there is no such directory.
func (s *FS) absent(dir string) bool {
	return dir != "." && (s.now[dir] == nil || !s.now[dir].dir)
}

// make adds a node under a new name.
func (s *FS) make(op Op, name string, n *node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(op, name); err != nil {
		return err
	}
	if s.now[name] != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: fs.ErrExist}
	}
	if s.absent(path.Dir(name)) {
		return &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
	}
	s.put(name, n)
	return nil
}

// get finds the node of a name.
func (s *FS) get(op Op, name string) (*node, error) {
	if err := s.call(op, name); err != nil {
		return nil, err
	}
	n := s.now[name]
	if n == nil {
		return nil, &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Create implements vfs.FS.
func (s *FS) Create(name string) (vfs.File, error) {
	n := new(node)
	if err := s.make(OpCreate, name, n); err != nil {
		return nil, err
	}
	return &file{fs: s, name: name, node: n, write: true}, nil
}

// Mkdir implements vfs.FS.
func (s *FS) Mkdir(name string) error { return s.make(OpMkdir, name, &node{dir: true}) }

// Open implements vfs.FS.
func (s *FS) Open(name string) (vfs.File, error) { return s.open(name, false) }

// OpenWrite implements vfs.FS.
func (s *FS) OpenWrite(name string) (vfs.File, error) { return s.open(name, true) }

func (s *FS) open(name string, write bool) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.get(OpOpen, name)
	if err != nil {
		return nil, err
	}
	return &file{fs: s, name: name, node: n, write: write}, nil
}

// Exists implements vfs.FS.
func (s *FS) Exists(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.get(OpExists, name)
	return err
}

// Remove implements vfs.FS.
func (s *FS) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.get(OpRemove, name); err != nil {
		return err
	}
	for other := range s.now {
		if path.Dir(other) == name {
			return &fs.PathError{Op: string(OpRemove), Path: name, Err: syscall.ENOTEMPTY}
		}
	}
	s.put(name, nil)
	return nil
}

// Rename implements vfs.FS.
func (s *FS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.get(OpRename, from)
	if err != nil {
		return err
	}
	if s.now[to] != nil {
		return &fs.PathError{Op: string(OpRename), Path: to, Err: fs.ErrExist}
	}
	if s.absent(path.Dir(to)) {
		return &fs.PathError{Op: string(OpRename), Path: to, Err: fs.ErrNotExist}
	}
	s.put(to, n)
	s.put(from, nil)
	return nil
}

// List implements vfs.FS.
func (s *FS) List() ([]vfs.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(OpList, "."); err != nil {
		return nil, err
	}
	var list []vfs.Entry
	for name, n := range s.now {
		if !strings.Contains(name, "/") {
			list = append(list, vfs.Entry{Name: name, IsDir: n.dir})
		}
	}
	return list, nil
}

// SyncDir implements vfs.FS.
func (s *FS) SyncDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	err := s.call(OpSyncDir, name)
	if err != nil && (lost || s.lost || errors.Is(err, ErrKilled)) {
		return err
	}
	if s.absent(name) {
		return &fs.PathError{Op: string(OpSyncDir), Path: name, Err: fs.ErrNotExist}
	}
	rng := rand.New(rand.NewPCG(uint64(s.calls), 3))
	s.pending = slices.DeleteFunc(s.pending, func(c change) bool {
		switch {
		case path.Dir(c.name) != name:
			return false
		case err != nil && rng.IntN(2) == 0: // it was not written, and is not going to be
		case c.node == nil:
			delete(s.durable, c.name)
		default:
			s.durable[c.name] = c.node
		}
		return true
	})
	return err
}

// Lock implements vfs.FS.
func (s *FS) Lock(name string) (io.Closer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(OpLock, name); err != nil {
		return nil, err
	}
	if s.locks[name] != nil {
		return nil, vfs.ErrLocked
	}
	if s.now[name] == nil {
		s.put(name, new(node))
	}
	s.locks[name] = &lock{s, name}
	return s.locks[name], nil
}

// Close implements vfs.FS.
func (s *FS) Close() error { return nil }

type lock struct {
	fs   *FS
	name string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.fs.locks[l.name] == l { // and not of a later process
		delete(l.fs.locks, l.name)
	}
	return nil
}

// file is an open file. Its node lives on when the name is gone.
type file struct {
	fs     *FS
	name   string
	node   *node
	write  bool // it was opened for that
	closed bool
}

// check returns why op cannot be done, whatever the hook says. f.fs.mu is held.
func (f *file) check(op Op) error {
	switch {
	case f.closed:
		return &fs.PathError{Op: string(op), Path: f.name, Err: fs.ErrClosed}
	case !f.write && (op == OpWrite || op == OpTruncate):
		return &fs.PathError{Op: string(op), Path: f.name, Err: fs.ErrPermission}
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(OpRead); err != nil {
		return 0, err
	}
	if err := f.fs.call(OpRead, f.name); err != nil {
		return 0, err
	}
	return bytes.NewReader(f.node.data).ReadAt(p, off)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(OpWrite); err != nil {
		return 0, err
	}
	ended := f.fs.lost || f.fs.dead
	err := f.fs.call(OpWrite, f.name)
	if err != nil {
		if ended {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	f.node.change(write{off: off, data: slices.Clone(p)})
	return len(p), err
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(OpTruncate); err != nil {
		return err
	}
	if err := f.fs.call(OpTruncate, f.name); err != nil {
		return err
	}
	f.node.change(write{off: size, truncate: true})
	return nil
}

func (n *node) change(w write) {
	n.data = w.apply(n.data)
	n.pending = append(n.pending, w)
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(OpSync); err != nil {
		return err
	}
	lost := f.fs.lost
	if err := f.fs.call(OpSync, f.name); err != nil {
		if !lost && !f.fs.lost && !errors.Is(err, ErrKilled) {
			// The pages are marked clean, and may or may not have been written.
			f.node.synced = f.node.survivor(rand.New(rand.NewPCG(uint64(f.fs.calls), 2))).data
			f.node.pending = nil
		}
		return err
	}
	// Not a copy of data: what an earlier failed sync forgot stays forgotten.
	for _, w := range f.node.pending {
		f.node.synced = w.apply(f.node.synced)
	}
	f.node.pending = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(OpSize); err != nil {
		return 0, err
	}
	if err := f.fs.call(OpSize, f.name); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
