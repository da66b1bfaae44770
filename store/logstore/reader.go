package logstore

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// Reader is a read-only view of a store that another process, or another part
// of this one, may have open for writing: a store.Store, store.Getter,
// store.Follower and store.Backuper. Open it with [OpenReader].
//
// It takes no lock and writes nothing, so any number of Readers can be beside
// a writer, which does not notice them, and the directory may be on a medium
// that cannot be written to.
//
// What it shows is a prefix of the batches that were applied: all of one or
// nothing of it, and none without those before. It stays as it is until
// Refresh, whatever the writer does: the Reader keeps all files open that it
// may have to read, one for each cache that has a snapshot and each journal,
// so files that a compaction removes stay usable, and their space in use,
// until the first Refresh afterwards.
//
// A batch shows as soon as it is in the journal as a whole, which is a moment
// before it is durable and its Apply returns. If the disk fails just then, or
// the writer has to drop something because of damage, it is not there any more
// after a later Refresh. Otherwise a Reader never goes back.
//
// All methods may be called concurrently.
type Reader struct {
	s *Store // what shows; s.applying is held by who changes it. Nothing of s writes.

	// Guarded by s.applying.
	at     *Store         // what was read; ahead of s while a refresh is under way. It shares tables with s, and mu
	moved  bool           // at is ahead of s
	m      *manifest      // what at was made from; nil if there was none
	back   bool           // something that was read does not count any more
	faults map[damage]int // how often each was seen in this refresh
}

var (
	_ store.Store    = (*Reader)(nil)
	_ store.Getter   = (*Reader)(nil)
	_ store.Follower = (*Reader)(nil)
	_ store.Backuper = (*Reader)(nil)
)

// OpenReader opens the store in the directory dir for reading only. Whether
// anybody has it open does not matter. Like [Open] it replays the journal, so
// it takes time in proportion to what was changed since the last compaction.
//
// Of opts, Damage, Observe and FS count. A Reader cannot set anything aside, so
// damage to a journal or manifest is an error, unless Damage is [Salvage]: then
// what can be read shows. Damage to a snapshot shows when it is read, as an
// error that wraps store.ErrCorrupt. What may be a batch that is being written,
// or was when its process died, is not damage; it just does not show.
//
// If there is no store in dir the error wraps fs.ErrNotExist; if it was written
// by a newer version of this package, store.ErrFormat; if it is what remains of
// an interrupted Backup, store.ErrUnfinished; if it is damaged, store.ErrCorrupt.
func OpenReader(dir string, opts Options) (*Reader, error) {
	r, err := openReader(dir, opts)
	if err != nil {
		return nil, openError(dir, err)
	}
	return r, nil
}

func openReader(dir string, opts Options) (*Reader, error) {
	s := &Store{
		dir:      dir,
		opts:     opts,
		fs:       &directory{FS: opts.FS},
		mu:       new(sync.RWMutex),
		caches:   map[string]*version{},
		applying: make(semaphore, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if opts.FS == nil {
		fs, err := vfs.OpenExisting(dir)
		if err != nil {
			return nil, err
		}
		s.fs.FS, s.ownsFS = fs, true
	}
	r := &Reader{s: s, at: &Store{dir: dir, fs: s.fs, mu: s.mu, caches: map[string]*version{}}}
	_, err := r.refresh(s.ctx)
	s.tell()
	if err != nil {
		r.release()
		return nil, err
	}
	r.show(nil, nil)
	return r, nil
}

// Caps says what the store promises to those who write to it.
func (r *Reader) Caps() store.Caps { return r.s.Caps() }

// Caches implements store.Store, like [Store.Caches].
func (r *Reader) Caches(ctx context.Context) ([]store.Info, error) { return r.s.Caches(ctx) }

// Load implements store.Store. A Refresh during the iteration does not change
// what it gives.
func (r *Reader) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return r.s.Load(ctx, cache)
}

// Get implements store.Getter. It reads one block of the snapshot, or one chunk
// of the journal.
func (r *Reader) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	return r.s.Get(ctx, cache, key)
}

// Apply returns store.ErrReadOnly and looks at no op.
func (r *Reader) Apply(ctx context.Context, _ iter.Seq2[store.Op, error]) error {
	if err := r.s.check(ctx); err != nil {
		return err
	}
	return fmt.Errorf("logstore: %s: %w", r.s.dir, store.ErrReadOnly)
}

// Refresh implements store.Follower. It lists the directory, and reads what was
// appended to the journal since; after a compaction, the new manifest and the
// journal that goes with it. It reads no snapshot.
//
// A cache is among those that may have changed if a batch since the last
// Refresh has an op for it. If a compaction has removed the journal that this
// one had read last, so are all caches that the compaction touched.
//
// It fails with an error that wraps store.ErrCorrupt, and goes no further, where
// OpenReader would; and with one that wraps fs.ErrNotExist if the store was
// removed. Replacing the files of a directory by those of another store, which
// the names do not show, needs a new Reader.
func (r *Reader) Refresh(ctx context.Context, with func(changed []string, caches []store.Info, show func())) (changed []string, err error) {
	defer r.s.tell()
	if err := r.s.acquire(ctx, r.s.applying); err != nil {
		return nil, err
	}
	defer r.s.applying.release()
	changed, err = r.refresh(ctx)
	r.show(changed, with)
	if e := r.s.check(ctx); err != nil && e != nil {
		return changed, e
	}
	if err != nil {
		err = fmt.Errorf("logstore: refresh %s: %w", r.s.dir, err)
	}
	return changed, err
}

// Watch calls Refresh, at once and then at the given interval, which must be
// positive, and yields what it returned, unless it returned neither a change nor
// an error. It ends when ctx does or the Reader is closed; an error does not end
// it.
func (r *Reader) Watch(ctx context.Context, interval time.Duration) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			changed, err := r.Refresh(ctx, nil)
			if r.s.check(ctx) != nil {
				return
			}
			if (len(changed) > 0 || err != nil) && !yield(changed, err) {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			case <-r.s.ctx.Done():
				return
			}
		}
	}
}

// Backup implements store.Backuper: it copies what shows, see [Store.Backup].
// The writer does not take part.
func (r *Reader) Backup(ctx context.Context, dir string) error {
	defer r.s.tell()
	return backup(ctx, r.s, r.image, dir)
}

// Close releases the files. Unfinished iterations end with store.ErrClosed. It
// returns nil.
func (r *Reader) Close() error {
	if r.s.closed.Swap(true) {
		return nil
	}
	r.s.cancel()
	r.s.applying <- struct{}{}
	r.release()
	return nil
}

func (r *Reader) release() {
	unpinAll(r.at.journals, r.at.snapshots)
	r.s.release()
}
