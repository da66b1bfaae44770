// Package memstore keeps records in memory, for caches that need not survive
// the process and for tests.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/cacheman-go/cacheman/store"
)

// Store is a [store.Store] and a [store.Getter] in memory: atomic, incremental
// and described, neither durable nor persistent. What it is given and what it
// gives are copies.
//
// A batch is held a second time while it is applied. Load holds up writers for
// as long as it takes to list the cache's records without copying them.
type Store struct {
	mu     sync.RWMutex
	caches map[string]*cache // nil once closed
}

type cache struct {
	description []byte
	records     map[string]record
	bytes       int64
}

// record is never changed once it is in a cache; a Put makes a new one.
type record struct {
	value, meta []byte
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Getter = (*Store)(nil)
)

// New returns an empty store.
func New() *Store {
	return &Store{caches: make(map[string]*cache)}
}

// Caps implements [store.Store].
func (s *Store) Caps() store.Caps {
	return store.Caps{Atomic: true, Incremental: true, Described: true}
}

// Caches implements [store.Store].
func (s *Store) Caches(ctx context.Context) ([]store.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.caches == nil {
		return nil, store.ErrClosed
	}
	infos := make([]store.Info, 0, len(s.caches))
	for _, name := range slices.Sorted(maps.Keys(s.caches)) {
		c := s.caches[name]
		infos = append(infos, store.Info{
			Cache:       name,
			Description: bytes.Clone(c.description),
			Records:     len(c.records),
			Bytes:       c.bytes,
		})
	}
	return infos, nil
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, name string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		keys, records, err := s.list(ctx, name)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for i, key := range keys {
			if err := s.check(ctx); err != nil {
				yield(store.Record{}, err)
				return
			}
			if !yield(records[i].copy(key), nil) {
				return
			}
		}
	}
}

// list returns all records of a cache, as they are now.
func (s *Store) list(ctx context.Context, name string) ([]string, []record, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.caches == nil {
		return nil, nil, store.ErrClosed
	}
	c, ok := s.caches[name]
	if !ok {
		return nil, nil, store.ErrNotFound
	}
	keys := make([]string, 0, len(c.records))
	records := make([]record, 0, len(c.records))
	for key, r := range c.records {
		keys, records = append(keys, key), append(records, r)
	}
	return keys, records, nil
}

// check returns why nothing can be read: the context has ended, or the store
// is closed.
func (s *Store) check(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.caches == nil {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Get implements [store.Getter].
func (s *Store) Get(ctx context.Context, name string, key []byte) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.caches == nil {
		return store.Record{}, store.ErrClosed
	}
	if c, ok := s.caches[name]; ok {
		if r, ok := c.records[string(key)]; ok {
			return r.copy(string(key)), nil
		}
	}
	return store.Record{}, store.ErrNotFound
}

// copy returns r as it may be given away, in one piece of memory.
func (r record) copy(key string) store.Record {
	k, v := len(key), len(key)+len(r.value)
	b := make([]byte, 0, v+len(r.meta))
	b = append(b, key...)
	b = append(b, r.value...)
	b = append(b, r.meta...)
	return store.Record{Key: b[:k:k], Value: b[k:v:v], Meta: b[v:len(b):len(b)]}
}

// Apply implements [store.Store].
func (s *Store) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	// The batch is copied before the lock is taken: ops is foreign code, and
	// may end in an error.
	var batch []store.Op
	for op, err := range ops {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if op.Kind < store.Put || op.Kind > store.Drop || op.Cache == "" {
			return fmt.Errorf("memstore: invalid operation: %v on cache %q", op.Kind, op.Cache)
		}
		op.Key, op.Value, op.Meta = bytes.Clone(op.Key), bytes.Clone(op.Value), bytes.Clone(op.Meta)
		batch = append(batch, op)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.caches == nil {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, op := range batch {
		s.apply(op)
	}
	return nil
}

func (s *Store) apply(op store.Op) {
	c, known := s.caches[op.Cache]
	if !known {
		if op.Kind != store.Put && op.Kind != store.Describe {
			return
		}
		c = &cache{records: make(map[string]record)}
		s.caches[op.Cache] = c
	}
	switch op.Kind {
	case store.Put:
		c.remove(string(op.Key))
		c.records[string(op.Key)] = record{value: op.Value, meta: op.Meta}
		c.bytes += int64(len(op.Key) + len(op.Value) + len(op.Meta))
	case store.Delete:
		c.remove(string(op.Key))
	case store.Clear:
		c.records, c.bytes = make(map[string]record), 0
	case store.Describe:
		c.description = op.Value
	case store.Drop:
		delete(s.caches, op.Cache)
	}
}

func (c *cache) remove(key string) {
	if r, ok := c.records[key]; ok {
		delete(c.records, key)
		c.bytes -= int64(len(key) + len(r.value) + len(r.meta))
	}
}

// Close implements [store.Store]. It forgets everything.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caches = nil
	return nil
}
