package boltstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
)

// Store is a [store.Store], [store.Getter] and [store.Compactor] in a bbolt
// database: atomic, durable, incremental, persistent and described.
type Store struct {
	path   string
	lock   *flock.Flock // on path+lockExt; held while the store is open
	closed atomic.Bool

	compacting turn
	applying   turn    // held while a transaction writes
	following  bool    // a compaction goes on; guarded by applying
	since      []batch // applied meanwhile, and not to the copy yet; guarded by applying
	failed     error   // why nothing can be written any more; guarded by applying

	mu sync.RWMutex // held shared by who uses db, and exclusively by who puts another in its place
	db *database    // nil once closed

	loads loads
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Getter    = (*Store)(nil)
	_ store.Compactor = (*Store)(nil)
)

// Options are the choices of [Open]. The zero value is ready to use.
type Options struct {
	// Wait is how long Open waits for another process that has the file
	// open. Zero means not at all.
	Wait time.Duration
}

const lockExt = ".lock"

// Open opens the database in the file path, which is made if it is not there;
// its directory must be.
//
// The error is a [store.LockedError] if the file is open already, wraps
// [store.ErrFormat] if it is something else, or of a later version of this
// package, and [store.ErrCorrupt] if it is damaged in a way that Open sees. In
// none of these cases is it changed.
func Open(path string, o Options) (*Store, error) {
	s, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("boltstore: open: %w", err)
	}
	return s, nil
}

func open(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// A compaction would put its file in the place of the link, and the lock
	// would be another for each name.
	if i, err := os.Lstat(path); err == nil && i.Mode()&os.ModeSymlink != 0 {
		if to, err := filepath.EvalSymlinks(path); err == nil {
			path = to
		}
	}
	s := &Store{
		path:       path,
		lock:       flock.New(path+lockExt, flock.SetPermissions(fileMode)),
		compacting: newTurn(),
		applying:   newTurn(),
	}
	if err := s.takeLock(o.Wait); err != nil {
		return nil, err
	}
	if err := s.openDatabase(o.Wait); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) openDatabase(wait time.Duration) (err error) {
	if s.db, err = openDatabase(s.path, wait, bolt.Options{}); err != nil {
		return err
	}
	if err = s.db.initialize(); err == nil {
		_, err = s.db.caches()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	return nil
}

func (s *Store) takeLock(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, err := s.lock.TryLock()
	if err == nil && !got && wait > 0 {
		got, err = s.lock.TryLockContext(ctx, 10*time.Millisecond)
	}
	switch {
	case got:
		return nil
	case err == nil, errors.Is(err, context.DeadlineExceeded):
		return &store.LockedError{Path: s.path}
	default:
		return fmt.Errorf("taking the lock: %w", err)
	}
}

// Caps implements [store.Store].
func (s *Store) Caps() store.Caps {
	return store.Caps{Atomic: true, Durable: true, Incremental: true, Persistent: true, Described: true}
}

// check returns why nothing can be done: the store is closed, or the context
// has ended.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// explain says what was being done, of errors that are not of a kind that is
// given as it is.
func explain(doing string, err error) error {
	if err == nil || err == store.ErrClosed || err == store.ErrNotFound {
		return err
	}
	return fmt.Errorf("boltstore: %s: %w", doing, err)
}

// view runs fn in a transaction that reads. It must be short: while it goes on,
// no batch that makes the file grow can end.
func (s *Store) view(fn func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return store.ErrClosed
	}
	return s.db.view(fn)
}

// Caches implements [store.Store].
func (s *Store) Caches(ctx context.Context) ([]store.Info, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	infos, err := s.caches()
	return infos, explain("list of caches", err)
}

func (s *Store) caches() ([]store.Info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, store.ErrClosed
	}
	return s.db.caches()
}

// Get implements [store.Getter].
func (s *Store) Get(ctx context.Context, cache string, key []byte) (r store.Record, err error) {
	if err := s.check(ctx); err != nil {
		return store.Record{}, err
	}
	k := boltKey(key)
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(cachesBucket).Bucket([]byte(cache))
		if b == nil {
			return store.ErrNotFound
		}
		v := b.Get(k)
		if v == nil {
			return store.ErrNotFound
		}
		r, _, err = decode(seed(cache), k, v, nil)
		return err
	})
	return r, explain(fmt.Sprintf("record %.80q of cache %.80q", key, cache), err)
}

// Apply implements [store.Store].
func (s *Store) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	b, err := collect(ctx, ops)
	if err != nil {
		return err
	}
	return explain("batch", s.apply(ctx, b))
}

func (s *Store) apply(ctx context.Context, b batch) error {
	if err := s.applying.take(ctx); err != nil {
		return err
	}
	defer s.applying.leave()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil || len(b) == 0 {
		return err
	}
	if s.failed != nil {
		return s.failed
	}
	defer s.loads.finish()
	sure, err := s.db.update(func(tx *bolt.Tx) error {
		if err := b.write(ctx, tx); err != nil {
			return err
		}
		s.loads.prepare(b, s.db)
		return ctx.Err()
	})
	switch {
	case err == nil && s.following:
		s.since = append(s.since, b)
	case err != nil && !sure:
		err = fmt.Errorf("the batch may be there when the file is opened again, which must come before more is written: %w", err)
		s.failed = err
	}
	return err
}

// Close implements [store.Store].
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// A compaction ends when it sees that the store is closed.
	_ = s.compacting.take(context.Background())
	defer s.compacting.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.close())
		s.db = nil
	}
	errs = append(errs, s.lock.Close())
	return explain("close", errors.Join(errs...))
}

// turn is a lock for which one can wait as long as a context lasts.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) leave() { <-t }

// fileMode is that of new files.
const fileMode os.FileMode = 0o600
