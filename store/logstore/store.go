package logstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// Store is a store.Store, store.Getter, store.Compactor, store.Backuper and store.Shutdowner in a
// directory.
type Store struct {
	dir    string // for messages
	opts   Options
	fs     *directory
	ownsFS bool
	lock   io.Closer
	// left is set while HOLDER has to stay, for the next Open to see that what it
	// reads may not be on the disk. Guarded by applying.
	left bool
	// unheld is set while there is no HOLDER. Guarded by applying.
	unheld bool

	used bool // there were files of a store when it was opened

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	closed atomic.Bool
	wake   chan struct{} // asks for a compaction in the background
	woken  sync.Once     // whoever does that starts what waits for it: most processes end without one
	hurry  atomic.Int32  // how many wait for a compaction

	compacting semaphore // held by a compaction
	applying   semaphore // held by a batch, and whoever else changes which files there are

	// Guarded by applying.
	nextSeq uint64 // of journals; higher than any file has
	buf     []byte // of the last batch, for the next
	retryAt int64  // how large the journals must be to compact again after an error
	late    bool   // they were to be compacted already when the store was opened, and still are
	start   position
	from    uint64 // the journal at which a replay starts once the compaction under way, or the last one, is through
	// unpublished, if not nil, is the manifest that there must be before
	// anything is written, also by a compaction.
	unpublished *manifest
	// keep, if not nil, is what is to be set aside once unpublished is there: what the
	// manifest before leads to is in use until then.
	keep *keeping
	// unsynced is set until what Open found is synced, which must be before
	// anything is written.
	unsynced bool

	// Guarded by compacting; by applying while there is an unpublished manifest.
	nextGen   uint64    // of manifests, snapshots and damaged directories; higher than any has
	nextID    uint64    // of caches
	broken    []string  // files in which damage was found; the next compaction sets them aside
	orphans   []string  // snapshots that only a manifest names which may not be there
	manifests [2]uint64 // the newest, and the one before, which is kept; 0 if none

	// mu guards what readers see. It is held for short, never across I/O.
	mu        *sync.RWMutex
	caches    map[string]*version // the known ones
	journals  []*journal          // oldest first; changed under applying too
	snapshots []*snapshot         // what the manifest names; changed under applying too

	eventMu sync.Mutex
	events  []Event // not yet told
}

var (
	_ store.Store      = (*Store)(nil)
	_ store.Getter     = (*Store)(nil)
	_ store.Compactor  = (*Store)(nil)
	_ store.Backuper   = (*Store)(nil)
	_ store.Shutdowner = (*Store)(nil)
)

// position is where replay starts.
type position struct {
	seq   uint64 // of the journal
	off   int64
	frame uint64 // the number of the frame that is there
}

// Open opens the store in the directory dir, which it makes if it does not
// exist. It replays the journal, so it takes time in proportion to what was
// changed since the last compaction, but reads no snapshot.
//
// If another process, or another part of this one, has the store open, the
// error matches store.ErrLocked and is a *store.LockedError. If it was written
// by a newer version of this package, the error wraps store.ErrFormat.
//
// A process that ends, however it does, gives the directory free. To wait for
// one that has not ended, use [OpenWait]; to read beside it, [OpenReader].
func Open(dir string, opts Options) (*Store, error) {
	s, err := open(dir, opts)
	if err != nil {
		return nil, openError(dir, err)
	}
	return s, nil
}

// openError is err, which prevents that dir is opened, with dir, if err does not name it itself.
func openError(dir string, err error) error {
	var locked *store.LockedError
	var path *fs.PathError
	if errors.As(err, &locked) || errors.As(err, &path) && filepath.IsAbs(path.Path) {
		return fmt.Errorf("logstore: %w", err)
	}
	return fmt.Errorf("logstore: open %s: %w", dir, err)
}

func open(dir string, opts Options) (*Store, error) { return openWith(dir, opts, takeLock) }

func openWith(dir string, opts Options, takeLock func(vfs.FS, string) (io.Closer, error)) (*Store, error) {
	if opts.CompactAt == 0 {
		opts.CompactAt = defaultCompactAt
	}
	opts.CompactAt = min(opts.CompactAt, math.MaxInt64/16) // multiples of it are a number, too
	if opts.CompactShare == 0 {
		opts.CompactShare = defaultCompactShare
	}
	if !(opts.CompactShare > 0 && opts.CompactShare <= 1) {
		return nil, errors.New("CompactShare is not between 0 and 1")
	}
	if opts.Damage < Discard || opts.Damage > Fail {
		return nil, errors.New("invalid damage policy")
	}
	s := &Store{
		dir:        dir,
		opts:       opts,
		fs:         &directory{FS: opts.FS},
		mu:         new(sync.RWMutex),
		caches:     map[string]*version{},
		wake:       make(chan struct{}, 1),
		compacting: make(semaphore, 1),
		applying:   make(semaphore, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if opts.FS == nil {
		fs, err := vfs.OpenDir(dir)
		if err != nil {
			return nil, err
		}
		s.fs.FS, s.ownsFS = fs, true
	}
	lock, err := takeLock(s.fs, dir)
	if err != nil {
		s.release()
		return nil, err
	}
	s.lock = lock
	s.left, err = writeHolder(s.fs)
	s.unheld = err != nil
	err = s.recover()
	s.tell()
	if err != nil {
		s.release()
		return nil, err
	}
	s.late = s.wakeIfLarge() // nobody else has s yet
	return s, nil
}

// Close is Shutdown without a limit of time.
func (s *Store) Close() error { return s.Shutdown(context.Background()) }

// Shutdown waits for batches that are being applied, and gives the directory free.
// It stops a compaction, unless that is short or overdue and ctx has not ended: where every
// process ends soon after its last batch, one of them must see it through. It returns nil.
func (s *Store) Shutdown(ctx context.Context) error {
	if s.overdue(ctx) {
		_ = s.Compact(ctx) // there is an event if it fails
	}
	if s.closed.Swap(true) {
		return nil
	}
	s.cancel()
	s.compacting <- struct{}{}
	s.applying <- struct{}{}
	defer s.tell()
	if j := s.current(); j != nil && j.bad != nil {
		// Record that what failed does not count, if that is possible by now.
		if s.ready() != nil {
			s.left = true
		}
	}
	s.release()
	return nil
}

// release lets go of everything.
func (s *Store) release() {
	s.cancel()
	s.mu.Lock()
	unpinAll(s.journals, s.snapshots)
	s.journals, s.snapshots, s.caches = nil, nil, nil
	s.mu.Unlock()
	if s.lock != nil {
		if !s.left {
			_ = s.fs.Remove(holderName)
		}
		s.lock.Close()
	}
	if s.ownsFS {
		s.fs.Close()
	}
}

// Used reports whether there were files of a store when s was opened, also if
// nothing of what they had counts, for it was damaged, or never complete.
func (s *Store) Used() bool { return s.used }

// Caps says that batches are atomic and durable and cost what they change, and
// that everything comes back as it was given.
func (s *Store) Caps() store.Caps {
	return store.Caps{Atomic: true, Durable: true, Incremental: true, Persistent: true, Described: true}
}

// Caches lists the known caches. The number of records is not known while a
// cache has changes that are not compacted, unless all its records are such.
func (s *Store) Caches(ctx context.Context) ([]store.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Load() {
		return nil, store.ErrClosed
	}
	return s.infos(), nil
}

// infos lists the caches. mu is held, or applying.
func (s *Store) infos() []store.Info {
	infos := make([]store.Info, 0, len(s.caches))
	for name, v := range s.caches {
		info := store.Info{Cache: name, Description: slices.Clone(v.desc), Records: v.records, Bytes: v.bytes}
		if v.snap != nil {
			info.Bytes += v.snap.size
		}
		if v.records < 0 {
			info.AtMost = v.overlaid()
			if v.snap != nil {
				info.AtMost += v.snap.records
			}
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b store.Info) int { return cmp.Compare(a.Cache, b.Cache) })
	return infos
}

// check returns why a method cannot go on, or nil.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// semaphore is a lock that one can stop waiting for.
type semaphore chan struct{}

// acquire takes the lock, unless ctx ends or the store is closed first.
func (s *Store) acquire(ctx context.Context, sem semaphore) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	select {
	case sem <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return store.ErrClosed
	}
	if err := s.check(ctx); err != nil {
		sem.release()
		return err
	}
	return nil
}

func (sem semaphore) release() { <-sem }

// note keeps an event until the locks are released.
func (s *Store) note(e Event) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	s.events = append(s.events, e)
}

// tell tells the observer what was noted. No lock may be held.
func (s *Store) tell() {
	s.eventMu.Lock()
	events := s.events
	s.events = nil
	s.eventMu.Unlock()
	if s.opts.Observe == nil {
		return
	}
	for _, e := range events {
		s.opts.Observe(e)
	}
}
