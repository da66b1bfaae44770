package cacheman

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
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

	mu    sync.Mutex
	there map[string]map[string]string // what the store has: fingerprints of values, by cache and key. Of caches that were read or written as a whole
}

// annotate returns s, or if it keeps values only and the Manager's own keeps more, both.
func (m *Manager) annotate(s store.Store) store.Store {
	if s == m.store || s.Caps().Described || !m.store.Caps().Described {
		return s
	}
	return &annotated{Store: s, m: m, there: make(map[string]map[string]string)}
}

func (s *annotated) Caps() store.Caps {
	caps := s.Store.Caps()
	caps.Described = true
	return caps
}

// noted is what is kept beside the value of a key.
type noted struct {
	value string // its fingerprint; or in the place of a value that there is none of, what stands for it
	meta  []byte // empty if it is not known what was written
}

// holds reports whether n is about an entry that has a value.
func (n noted) holds() bool {
	return len(n.meta) > 0 && n.meta[0]&(flagNone|flagError|flagDropped) == 0
}

// notes returns what is kept beside the values of a cache, by their keys.
func (s *annotated) notes(ctx context.Context, cache string) (map[string]noted, error) {
	all := make(map[string]noted)
	for rec, err := range s.m.store.Load(ctx, ours+notesCache+cache) {
		switch {
		case err == nil:
			all[string(rec.Key)] = noted{string(rec.Value), rec.Meta}
		case errors.Is(err, store.ErrNotFound):
			return all, nil
		case errors.Is(err, store.ErrCorrupt):
			s.m.emit(Event{Kind: EventDamaged, Cache: cache, Reason: "what was kept beside a value cannot be read", Err: err})
		default:
			return nil, err
		}
	}
	return all, nil
}

func (s *annotated) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		notes, err := s.notes(ctx, cache)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		s.forget(cache)
		there := make(map[string]string)
		for rec, err := range s.Store.Load(ctx, cache) {
			if err == nil {
				value := fingerprint(rec.Value)
				there[string(rec.Key)] = value
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
		}
		s.mu.Lock()
		s.there[cache] = there
		s.mu.Unlock()
		for key, n := range notes {
			if len(n.meta) > 0 && !n.holds() && !yield(store.Record{Key: []byte(key), Value: []byte(n.value), Meta: n.meta}, nil) {
				return
			}
		}
	}
}

func (s *annotated) forget(cache string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.there, cache)
}

// Apply writes the values, unless they are there already, and what is kept beside them. If
// it fails it may have written some of that, in an order that does no harm.
func (s *annotated) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	b := annotatedBatch{s: s, there: make(map[string]map[string]string)}
	for op, err := range ops {
		if err != nil {
			return err
		}
		b.add(op)
	}
	if len(b.values) > 0 {
		if err := s.note(ctx, b.before); err != nil {
			return err
		}
		err := s.Store.Apply(ctx, given(b.values))
		s.mu.Lock()
		for cache, there := range b.there {
			if s.there[cache] = there; there == nil || err != nil {
				delete(s.there, cache)
			}
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return s.note(ctx, b.notes)
}

// note applies ops to the Manager's own store, with a revision that no stamp among them is
// above. The lane of s is held.
func (s *annotated) note(ctx context.Context, ops []store.Op) error {
	if len(ops) == 0 {
		return nil
	}
	m := s.m
	if err := m.main.lock(ctx); err != nil { // nobody who has this one waits for another
		return err
	}
	defer m.main.unlock()
	if err := m.reserveStamps(ctx, m.store); err != nil {
		return err
	}
	mark := m.mark.Load()
	if !shared(m.store) {
		mark = m.graph.Revision()
		ops = append(ops, markOf(mark))
	}
	err := m.store.Apply(ctx, given(ops))
	if err == nil {
		m.mark.Store(mark)
	}
	return err
}

func given(ops []store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

// annotatedBatch is a batch, divided among the two stores.
type annotatedBatch struct {
	s      *annotated
	values []store.Op                   // for that of the values
	before []store.Op                   // for the other, before them
	notes  []store.Op                   // and after them
	there  map[string]map[string]string // of the caches concerned, what there will be; nil if that is not known
}

func (b *annotatedBatch) add(op store.Op) {
	if op.Cache == revisions {
		return // the Manager's own store has one
	}
	there, ok := b.there[op.Cache]
	if !ok {
		b.s.mu.Lock()
		there = maps.Clone(b.s.there[op.Cache])
		b.s.mu.Unlock()
		b.there[op.Cache] = there
	}
	op.Key, op.Value, op.Meta = bytes.Clone(op.Key), bytes.Clone(op.Value), bytes.Clone(op.Meta)
	note := op
	note.Cache = ours + notesCache + op.Cache
	was, known := there[string(op.Key)]
	switch op.Kind {
	case store.Put:
		if len(op.Meta) > 0 && !(noted{meta: op.Meta}).holds() {
			if there == nil || known {
				b.values = append(b.values, store.Op{Kind: store.Delete, Cache: op.Cache, Key: op.Key})
				delete(there, string(op.Key))
			}
			break
		}
		value := fingerprint(op.Value)
		note.Value = []byte(value)
		if known && was == value {
			break
		}
		if len(op.Meta) > 0 && op.Meta[0]&flagBuilt != 0 {
			b.before = append(b.before, store.Op{Kind: store.Put, Cache: note.Cache, Key: op.Key})
		}
		op.Meta = nil
		b.values = append(b.values, op)
		if there != nil {
			there[string(op.Key)] = value
		}
	case store.Delete:
		if there == nil || known {
			b.values = append(b.values, op)
			delete(there, string(op.Key))
		}
	case store.Clear, store.Drop:
		b.values = append(b.values, op)
		b.there[op.Cache] = make(map[string]string)
	case store.Describe:
		if there == nil {
			b.values = append(b.values, op)
		}
		return
	}
	b.notes = append(b.notes, note)
}
