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

// What cannot be kept beside values that a store or a hook keeps is kept in the Manager's
// own store, as records of a cache that is not registered: notes.

// annotates reports whether the Manager's own store can keep what others cannot.
func (m *Manager) annotates() bool { return m.store.Caps().Described }

func notesOn(cache string) string { return ours + notesCache + cache }

// annotation is what is kept beside the value of a key.
type annotation struct {
	value string // its fingerprint; or in the place of a value that there is none of, what stands for it
	meta  []byte // empty if it is not known what was written
}

// holds reports whether n is about an entry that has a value.
func (n annotation) holds() bool {
	return len(n.meta) > 0 && n.meta[0]&(flagNone|flagError|flagDropped) == 0
}

// without returns the record of an entry that has no value there: of a result without one,
// or as if it were evicted of what a builder has made. ok is false if there is nothing to say.
func (n annotation) without(key string) (rec store.Record, ok bool) {
	rec = store.Record{Key: []byte(key), Value: []byte(n.value), Meta: n.meta}
	if n.holds() {
		rec.Meta = bytes.Clone(n.meta)
		rec.Meta[0] |= flagDropped
		return rec, n.meta[0]&(flagBuilt|flagProbed) == flagBuilt
	}
	return rec, len(n.meta) > 0
}

// readNotes returns what is kept beside the values of a cache, by their keys, or is to be.
func (m *Manager) readNotes(ctx context.Context, cache string) (map[string]annotation, error) {
	all := make(map[string]annotation)
	for rec, err := range m.store.Load(ctx, notesOn(cache)) {
		switch {
		case err == nil:
			all[string(rec.Key)] = annotation{string(rec.Value), rec.Meta}
		case errors.Is(err, store.ErrNotFound):
		case errors.Is(err, store.ErrCorrupt):
			m.emit(Event{Kind: EventDamaged, Cache: cache, Reason: "what was kept beside a value cannot be read", Err: err})
		default:
			return nil, err
		}
	}
	m.noteLater.show(notesOn(cache), all)
	return all, nil
}

// keepNotes makes ops durable in the Manager's own store, with a revision that no stamp among
// them is above.
func (m *Manager) keepNotes(ctx context.Context, ops []store.Op) error {
	if len(ops) == 0 {
		return nil
	}
	if err := m.main.lock(ctx); err != nil { // nobody who has this one waits for another
		return err
	}
	defer m.main.unlock()
	if err := m.reserveStamps(ctx, m.store); err != nil {
		return err
	}
	earlier := m.noteLater.take()
	ops = slices.Concat(earlier, ops)
	mark := m.mark.Load()
	if !shared(m.store) {
		mark = m.graph.Revision()
		ops = append(ops, markOf(mark))
	}
	err := m.store.Apply(ctx, given(ops))
	if err != nil {
		m.noteLater.putBack(earlier)
		return err
	}
	m.mark.Store(mark)
	return nil
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

// noteLater is notes on values that go with the next batch of the Manager's own store, for that is
// when what was computed from what they are about is saved.
type noteLater struct {
	mu  sync.Mutex
	ops map[string]map[string]store.Op // by cache and key
}

func (l *noteLater) add(ops ...store.Op) { l.put(ops, true) }

// put adds ops, and if over is set in place of others.
func (l *noteLater) put(ops []store.Op, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ops == nil {
		l.ops = make(map[string]map[string]store.Op)
	}
	for _, op := range ops {
		of := l.ops[op.Cache]
		if of == nil {
			of = make(map[string]store.Op)
			l.ops[op.Cache] = of
		}
		if _, newer := of[string(op.Key)]; over || !newer {
			of[string(op.Key)] = op
		}
	}
}

func (l *noteLater) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ops) > 0
}

// show puts notes on a cache into those that were read.
func (l *noteLater) show(cache string, read map[string]annotation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, op := range l.ops[cache] {
		if read[key] = (annotation{string(op.Value), op.Meta}); op.Kind == store.Delete {
			delete(read, key)
		}
	}
}

// take returns the notes, which are no longer there. The main lane is held.
func (l *noteLater) take() (all []store.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range l.ops {
		all = slices.AppendSeq(all, maps.Values(of))
	}
	l.ops = nil
	return all
}

// putBack is for those that could not be saved.
func (l *noteLater) putBack(ops []store.Op) { l.put(ops, false) }

// hookNotes is what is known of the values that a Load hook gives.
type hookNotes struct {
	of    string // the name of the cache
	known map[string]annotation
	fresh []store.Op // what is to be noted
}

// hookNotes also looks for what was noted under names that c had formerly, if there is
// nothing under its own.
func (c *core) hookNotes(ctx context.Context) (h hookNotes, err error) {
	if !c.m.annotates() {
		return h, nil
	}
	for i, name := range slices.Concat([]string{c.slot.name}, c.formerly) {
		h.of = notesOn(name)
		if h.known, err = c.m.readNotes(ctx, name); err != nil {
			return h, err
		}
		if i > 0 {
			h.move(notesOn(c.slot.name))
		}
		if len(h.known) > 0 {
			break
		}
	}
	return h, nil
}

// move notes what is known under the name to.
func (h *hookNotes) move(to string) {
	for key := range h.known {
		h.note(store.Delete, key, annotation{})
	}
	h.of = to
	for key, n := range h.known {
		h.note(store.Put, key, n)
	}
}

func (h *hookNotes) note(kind store.Kind, key string, n annotation) {
	h.fresh = append(h.fresh, store.Op{Kind: kind, Cache: h.of, Key: []byte(key), Value: []byte(n.value), Meta: n.meta})
}

// deleteSaved calls the Delete hook, and deletes what is noted of values that a Save hook keeps.
func (c *core) deleteSaved(ctx context.Context) error {
	err := c.typed.callDelete(ctx)
	if err != nil || c.lane == nil || c.lane.store != nil || !c.m.annotates() { // in memory, and it was saved by an earlier run
		return err
	}
	var ops []store.Op
	for _, name := range slices.Concat([]string{c.slot.name}, c.formerly) {
		ops = append(ops, store.Op{Kind: store.Drop, Cache: notesOn(name)})
	}
	return c.err(ctx, "delete", nil, c.m.keepNotes(ctx, ops))
}

// noteFresh is for what was read by a Load hook, and is the contents from now on: the
// notes of what was read and dropped might come after newer ones. The gate is held exclusively.
func (c *core) noteFresh(notes *[]store.Op) {
	if c.saves() {
		c.m.noteLater.add(*notes...)
	}
	*notes = nil
}

// recognize returns what is known of the value of a key, both encoded. If that is nothing, fresh is to
// be called with what is. A value that is not there is one that a builder has made, it is not
// known of what.
func (h *hookNotes) recognize(key, value []byte) (r record, there bool, fresh func(meta []byte)) {
	k, print := string(key), fingerprint(value)
	n, known := h.known[k]
	delete(h.known, k)
	if known && n.holds() && n.value == print {
		if r, err := parseRecord(n.meta); err == nil {
			return r, true, nil
		}
	}
	return record{}, !known || len(n.meta) > 0, func(meta []byte) { h.note(store.Put, k, annotation{print, meta}) }
}
