package cacheman

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/cacheman-go/cacheman/store"
)

// annotated is a store that keeps keys and values only, such as CSV files, and in the
// Manager's own what that cannot keep beside the values: their stamps, and what they were
// built from. That counts for the value which it was written for, as its fingerprint says.
// Where there is another, somebody else has written it.
//
// The two are not written at once. What a builder has made is first noted as not known: if
// the second never comes, it is built again.
type annotated struct {
	store.Store
	m *Manager

	mu      sync.Mutex
	there   map[string]map[string][fingerprintSize]byte // what the store has: fingerprints of values, by cache and key. Of caches that were read or written as a whole
	gone    map[string][]store.Op                       // what the next batch is to remove, by cache: notes on what was not there
	batches int                                         // what was read before the last one is what was there
}

// annotate returns s, or if it keeps values only and the Manager's own keeps more, both.
func (m *Manager) annotate(s store.Store) store.Store {
	if s == m.store || s.Caps().Described || !m.annotates() {
		return s
	}
	return &annotated{Store: s, m: m, there: make(map[string]map[string][fingerprintSize]byte), gone: make(map[string][]store.Op)}
}

func (s *annotated) Caps() store.Caps {
	caps := s.Store.Caps()
	caps.Described, caps.Atomic = true, false
	return caps
}

func (s *annotated) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		batches := s.forget(cache)
		notes, err := s.m.readNotes(ctx, cache)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		there, damaged := make(map[string][fingerprintSize]byte), false
		for rec, err := range s.Store.Load(ctx, cache) {
			if err == nil {
				value := fingerprint(rec.Value)
				there[string(rec.Key)] = [fingerprintSize]byte([]byte(value))
				n, known := notes[string(rec.Key)]
				delete(notes, string(rec.Key))
				if known && len(n.meta) == 0 {
					continue
				}
				if rec.Meta = nil; n.holds() && n.value == value {
					rec.Meta = n.meta
				}
			}
			if !yield(rec, err) || err != nil && !errors.Is(err, store.ErrCorrupt) {
				return
			}
			damaged = damaged || err != nil
		}
		var gone []store.Op
		for key, n := range notes {
			if rec, ok := n.without(key); !ok && !damaged {
				gone = append(gone, store.Op{Kind: store.Delete, Cache: notesOn(cache), Key: []byte(key)})
			} else if ok && !yield(rec, nil) {
				return
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.batches == batches {
			s.there[cache], s.gone[cache] = there, gone
		}
	}
}

// forget is called before a cache is read, and returns the number of batches until then.
func (s *annotated) forget(cache string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.there, cache)
	delete(s.gone, cache)
	return s.batches
}

// Apply writes the values, unless they are there already, and what is kept beside them. If
// it fails it may have written some of that, so it is not Atomic; nothing of it is taken for
// what it is not after a crash.
func (s *annotated) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	b := annotatedBatch{s: s, there: make(map[string]map[string][fingerprintSize]byte)}
	for op, err := range ops {
		if err != nil {
			return err
		}
		b.add(op)
	}
	if len(b.values) == 0 {
		s.end(&b, true)
		return s.m.keepNotes(ctx, slices.Concat(b.gone, b.notes))
	}
	if err := s.m.keepNotes(ctx, slices.Concat(b.gone, b.before)); err != nil {
		return err
	}
	err := s.Store.Apply(ctx, given(b.values))
	s.end(&b, err == nil)
	if err != nil {
		return err
	}
	return s.m.keepNotes(ctx, b.notes)
}

// end notes what there is after a batch, of which the values are written.
func (s *annotated) end(b *annotatedBatch, written bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	for cache, there := range b.there {
		delete(s.gone, cache)
		if s.there[cache] = there; there == nil || !written {
			delete(s.there, cache)
		}
	}
}

// annotatedBatch is a batch, divided among the two stores.
type annotatedBatch struct {
	s      *annotated
	values []store.Op                                  // for that of the values
	gone   []store.Op                                  // for the other, first
	before []store.Op                                  // and before them
	notes  []store.Op                                  // and after them
	there  map[string]map[string][fingerprintSize]byte // of the caches concerned, what there will be; nil if that is not known
}

func (b *annotatedBatch) add(op store.Op) {
	if op.Cache == revisions {
		return // the Manager's own store has one
	}
	there, ok := b.there[op.Cache]
	if !ok {
		b.s.mu.Lock()
		there = maps.Clone(b.s.there[op.Cache])
		b.gone = append(b.gone, b.s.gone[op.Cache]...)
		b.s.mu.Unlock()
		b.there[op.Cache] = there
	}
	op.Key, op.Value, op.Meta = bytes.Clone(op.Key), bytes.Clone(op.Value), bytes.Clone(op.Meta)
	note := op
	note.Cache = notesOn(op.Cache)
	was, known := there[string(op.Key)]
	switch op.Kind {
	case store.Put:
		if len(op.Meta) > 0 && !(annotation{meta: op.Meta}).holds() {
			if there == nil || known {
				b.values = append(b.values, store.Op{Kind: store.Delete, Cache: op.Cache, Key: op.Key})
				delete(there, string(op.Key))
			}
			break
		}
		value := fingerprint(op.Value)
		note.Value = []byte(value)
		if known && string(was[:]) == value {
			break
		}
		if len(op.Meta) > 0 && op.Meta[0]&flagBuilt != 0 {
			b.before = append(b.before, store.Op{Kind: store.Put, Cache: note.Cache, Key: op.Key})
		}
		op.Meta = nil
		b.values = append(b.values, op)
		if there != nil {
			there[string(op.Key)] = [fingerprintSize]byte(note.Value)
		}
	case store.Delete:
		if there == nil || known {
			b.values = append(b.values, op)
			delete(there, string(op.Key))
		}
	case store.Clear, store.Drop:
		b.values = append(b.values, op)
		b.there[op.Cache] = make(map[string][fingerprintSize]byte)
	case store.Describe:
		if len(there) == 0 { // there may be no file, and no notes would be read
			b.values = append(b.values, op)
		}
		return
	}
	b.notes = append(b.notes, note)
}
