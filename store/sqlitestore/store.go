package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/cacheman-go/cacheman/store"
)

// Store is a [store.Store], [store.Getter], [store.Compactor] and [store.Sharer] in an SQLite
// database: atomic, durable, incremental, persistent and described.
type Store struct {
	path   string
	db     *sql.DB
	get    *sql.Stmt
	closed atomic.Bool
	wait   time.Duration // for other processes
	run    int           // how large the runs of a batch become

	compacting turn
	applying   turn // held by who writes in this process

	mu sync.RWMutex // held shared while a batch is committed, exclusively while the store is closed
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Getter    = (*Store)(nil)
	_ store.Compactor = (*Store)(nil)
	_ store.Sharer    = (*Store)(nil)
)

// Options are the choices of [Open]. The zero value is ready to use.
type Options struct {
	// Wait is how long to wait for another process that has the database
	// locked. Zero means ten seconds. If it is negative nothing waits.
	Wait time.Duration
}

const defaultWait = 10 * time.Second

// Open opens the database in the file path, which is made if it is not there;
// its directory must be.
//
// The error wraps [store.ErrFormat] if the file is something else, or of a
// later version of this package, and [store.ErrCorrupt] if it is damaged in a
// way that Open sees.
func Open(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: open: %w", err)
	}
	if o.Wait == 0 {
		o.Wait = defaultWait
	}
	s := &Store{path: path, wait: max(o.Wait, 0), run: defaultRun, compacting: newTurn(), applying: newTurn()}
	if err := s.open(); err != nil {
		err = s.explain("open: "+path, err)
		if s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		return nil, err
	}
	return s, nil
}

func (s *Store) open() error {
	ctx := context.Background()
	// SQLite would say no more than that it cannot open it, or take a short
	// file for a new one. The file itself must not be opened to see that: the
	// documentation of the package says why.
	if _, err := os.Stat(filepath.Dir(s.path)); err != nil {
		return err
	}
	if i, err := os.Stat(s.path); err == nil {
		switch {
		case !i.Mode().IsRegular():
			return errors.New("it is not a regular file")
		case 0 < i.Size() && i.Size() < 512:
			return fmt.Errorf("%w: it is not a database", store.ErrFormat)
		}
	}
	c, err := sqlite.NewConnector(source(s.path, s.wait))
	if err != nil {
		return err
	}
	s.db = sql.OpenDB(c)
	s.db.SetMaxIdleConns(4)
	if err := initialize(ctx, s.db, s.wait); err != nil {
		return err
	}
	if s.get, err = s.db.PrepareContext(ctx, getSQL); err != nil {
		return err
	}
	_, err = s.caches(ctx)
	return err
}

// source names a database, and what is to be set for each connection to it:
// nothing that would change a file that turns out to be another program's.
func source(path string, wait time.Duration) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/
	}
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(wait.Milliseconds())},
		"_synchronous":  {"FULL"},
		"_error_rc":     {"1"},
		"_dqs":          {"0"},
		"_pragma": {
			"fullfsync = 1", // without it, syncing is none on macOS
			"checkpoint_fullfsync = 1",
			"journal_size_limit = 67108864",
		},
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
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

// Caches implements [store.Store].
func (s *Store) Caches(ctx context.Context) ([]store.Info, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	infos, err := s.caches(ctx)
	return infos, s.explain("list of caches", err)
}

const cachesSQL = `
SELECT s.caches, c.name, c.id, c.description, c.records, c.bytes, c.sum
FROM store s LEFT JOIN caches c ORDER BY c.name`

func (s *Store) caches(ctx context.Context) (infos []store.Info, err error) {
	rows, err := s.db.QueryContext(ctx, cachesSQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	count := -1
	for rows.Next() {
		var name, description []byte
		var id, records, bytes, sum sql.NullInt64
		err := rows.Scan(&count, &name, &id, &description, &records, &bytes, &sum)
		if ended := ctx.Err(); ended != nil { // which makes Scan fail, too
			return nil, ended
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
		}
		if count == 0 && !sum.Valid {
			break // there is none
		}
		i := info{id: id.Int64, description: description, records: int(records.Int64), bytes: bytes.Int64}
		if i.sum(string(name)) != sum.Int64 {
			return nil, fmt.Errorf("%w: description of cache %.80q: its checksum is wrong", store.ErrCorrupt, name)
		}
		if n := len(infos); n > 0 && infos[n-1].Cache >= string(name) {
			return nil, fmt.Errorf("%w: the caches are out of order", store.ErrCorrupt)
		}
		infos = append(infos, store.Info{Cache: string(name), Description: description, Records: i.records, Bytes: i.bytes})
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(infos) != count {
		return nil, fmt.Errorf("%w: there are %d caches, not %d", store.ErrCorrupt, len(infos), count)
	}
	return infos, nil
}

const getSQL = `
SELECT r.value, r.meta, r.sum
FROM caches c JOIN records r ON r.cache = c.id WHERE c.name = ? AND r.key = ?`

// Get implements [store.Getter].
func (s *Store) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	if err := s.check(ctx); err != nil {
		return store.Record{}, err
	}
	r := store.Record{Key: append([]byte{}, key...)}
	var want int64
	err := s.get.QueryRowContext(ctx, []byte(cache), r.Key).Scan(&r.Value, &r.Meta, &want)
	if err == nil && sum(cache, r.Key, r.Value, r.Meta) != want {
		err = errDamaged
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, s.explain(fmt.Sprintf("record %.80q of cache %.80q", key, cache), err)
	}
	return r, nil
}

// errDamaged is the error about a record.
var errDamaged = fmt.Errorf("%w: its checksum is wrong", store.ErrCorrupt)

// Close implements [store.Store]. The files stay open until the loads have
// ended that go on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("sqlitestore: close: %w", err)
	}
	return nil
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
