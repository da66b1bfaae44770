package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
)

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		l := &load{cache: cache, seed: seed(cache), next: firstRecord}
		changing := s.loads.add(l)
		defer s.loads.remove(l)
		for {
			if err := s.check(ctx); err != nil {
				yield(store.Record{}, err)
				return
			}
			items, err := s.read(l, changing)
			if err != nil {
				yield(store.Record{}, explain(fmt.Sprintf("load of cache %.80q", cache), err))
				return
			}
			if len(items) == 0 {
				return
			}
			for _, i := range items {
				if err := s.check(ctx); err != nil {
					yield(store.Record{}, err)
					return
				}
				if i.err != nil {
					i.err = explain(fmt.Sprintf("load of cache %.80q", cache), i.err)
				}
				if !yield(i.record, i.err) {
					return
				}
			}
		}
	}
}

// read returns the next items of a load, none at its end.
func (s *Store) read(l *load, whole bool) ([]item, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, store.ErrClosed
	}
	return l.take(s.db, whole)
}

// loads are those that go on, and what to do about them when a batch comes.
type loads struct {
	mu     sync.Mutex
	active map[*load]struct{}
	coming batch // what is being written
}

// add notes a load, and reports whether its cache is being written just now.
func (s *loads) add(l *load) (changing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil {
		s.active = make(map[*load]struct{})
	}
	s.active[l] = struct{}{}
	_, changing = s.coming[l.cache]
	return changing
}

func (s *loads) remove(l *load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, l)
}

// prepare has the loads of all caches that b changes read what is left to
// them, and later ones read all at once until finish is called.
func (s *loads) prepare(b batch, db *database) {
	var affected []*load
	s.mu.Lock()
	s.coming = b
	for l := range s.active {
		if _, ok := b[l.cache]; ok {
			affected = append(affected, l)
		}
	}
	s.mu.Unlock()
	for _, l := range affected {
		l.finish(db)
	}
}

func (s *loads) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming = nil
}

// load is an iteration over a cache. It sees one instant, although it reads in
// many transactions, for before its cache changes it is made to read the rest.
type load struct {
	cache string
	seed  uint32

	mu       sync.Mutex
	next     []byte // the key of bbolt's to go on from
	begun    bool
	expected int // how many records there should be
	seen     int
	ahead    []item // what was read and not taken yet
	ended    bool
	err      error // why it ended
}

// item is a record, or why there is none.
type item struct {
	record store.Record
	err    error
}

// chunk is how many bytes are read in one transaction, about.
const chunk = 256 << 10

// take returns what has been read, and if there is nothing reads on: a chunk,
// or the whole rest.
func (l *load) take(db *database, whole bool) ([]item, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ahead) == 0 && !l.ended {
		l.read(db, whole)
	}
	items := l.ahead
	l.ahead = nil
	if len(items) == 0 {
		return nil, l.err
	}
	return items, nil
}

// finish reads the rest.
func (l *load) finish(db *database) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.read(db, true)
	}
}

func (l *load) read(db *database, whole bool) {
	err := db.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(cachesBucket).Bucket([]byte(l.cache))
		if b == nil {
			return store.ErrNotFound
		}
		if !l.begun {
			i, err := decodeInfo(l.seed, b.Get(infoKey))
			if err != nil {
				return fmt.Errorf("its description: %w", err)
			}
			l.begun, l.expected = true, i.records
		}
		return l.readFrom(b.Cursor(), whole)
	})
	if err != nil {
		l.ended, l.err = true, err
	}
}

// readFrom reads on from l.next.
func (l *load) readFrom(c *bolt.Cursor, whole bool) error {
	var last, room []byte
	size := 0
	k, v := c.Seek(l.next)
	for ; k != nil && (whole || size < chunk); k, v = c.Next() {
		if bytes.Compare(k, l.next) < 0 || last != nil && bytes.Compare(k, last) <= 0 {
			return fmt.Errorf("%w: its keys are out of order", store.ErrCorrupt)
		}
		last = k
		if n := len(k) + len(v); n > len(room) {
			// Records that are loaded together lie together, which takes
			// less time than one by one.
			room = make([]byte, max(n, min(size, chunk/4)))
		}
		var i item
		i.record, room, i.err = decode(l.seed, k, v, room)
		if i.err != nil {
			i.err = fmt.Errorf("record %.80q: %w", k[1:], i.err)
		}
		l.ahead = append(l.ahead, i)
		l.seen++
		size += len(k) + len(v)
	}
	if k != nil {
		l.next = append(bytes.Clone(last), 0)
		return nil
	}
	l.ended = true
	if l.seen != l.expected {
		return fmt.Errorf("%w: it has %d records, not %d", store.ErrCorrupt, l.seen, l.expected)
	}
	return nil
}
