package cacheman

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cacheman-go/cacheman/store"
)

// batch writes cuts as one batch of the store.
type batch struct {
	m         *Manager
	described bool // the store can keep a revision
	shared    bool // the store has one that is above all that m may issue
	elsewhere bool // it is not the Manager's own
	mark      uint64
	cuts      []*cut
	errs      errorList // of entries that cannot be encoded

	entries int   // put or deleted
	bytes   int64 // of keys and values
	meta    int64 // of what is kept beside them

	notes []store.Op // that go with it
}

// write gives all ops. The store may stop it at any of them.
func (b *batch) write(ctx context.Context, yield func(store.Op, error) bool) {
	give := func(op store.Op, err error) bool {
		if op.Kind == store.Put || op.Kind == store.Delete {
			b.entries++
			b.bytes += int64(len(op.Key) + len(op.Value))
			b.meta += int64(len(op.Meta))
		}
		return yield(op, err)
	}
	if !b.elsewhere {
		b.notes = b.m.noteLater.take()
	}
	for _, op := range b.notes {
		if !yield(op, nil) {
			return
		}
	}
	for _, c := range b.cuts { // first, for a cache that is moved away and back is in two cuts
		if c.dropped && !give(store.Op{Kind: store.Drop, Cache: c.slot.name}, nil) {
			return
		}
	}
	for _, c := range b.cuts {
		name := c.slot.name
		if c.describe != nil && !give(store.Op{Kind: store.Describe, Cache: name, Value: c.describe}, nil) {
			return
		}
		if c.standing != nil && !b.elsewhere && !give(noteStanding(c.slot, *c.standing), nil) {
			return
		}
		if c.part == nil {
			continue
		}
		before, meta := b.bytes, b.meta
		if !c.part.write(ctx, give, &b.errs) {
			return
		}
		c.cache.bytes.Add(b.bytes - before)
		c.bytes = b.bytes - before + b.meta - meta
		if c.part.lacks() { // a restart would find no more in it
			b.m.gate.RLock()
			c.describe = c.cache.describeLacking()
			b.m.gate.RUnlock()
			if !give(store.Op{Kind: store.Describe, Cache: name, Value: c.describe}, nil) {
				return
			}
		}
	}
	if b.described && len(b.cuts)+len(b.notes) > 0 { // last, so that no stamp in the batch is above it
		if b.elsewhere {
			if err := b.reserve(ctx); err != nil {
				yield(store.Op{}, err)
				return
			}
		}
		if !b.shared {
			b.mark = b.m.graph.Revision()
			yield(markOf(b.mark), nil)
		}
	}
}

func markOf(rev uint64) store.Op {
	return store.Op{Kind: store.Describe, Cache: revisions, Value: binary.AppendUvarint(nil, rev)}
}

// reserve sees to it that the stamps that b has of entries kept elsewhere are not
// issued again after a crash: the Manager's own store, which is all that the next
// Open looks at, has a mark that is not below them. Mostly it has one already.
func (b *batch) reserve(ctx context.Context) error {
	stamp := uint64(0)
	for _, c := range b.cuts {
		if c.cache != nil {
			stamp = max(stamp, c.cache.foreign.Load())
		}
	}
	m := b.m
	if stamp <= m.mark.Load() || !m.store.Caps().Described || shared(m.store) {
		return nil
	}
	if err := m.main.lock(ctx); err != nil { // nobody who has this one waits for another
		return err
	}
	defer m.main.unlock()
	if stamp <= m.mark.Load() {
		return nil
	}
	mark := m.graph.Revision()
	err := m.store.Apply(ctx, func(yield func(store.Op, error) bool) { yield(markOf(mark), nil) })
	if err == nil {
		m.mark.Store(mark)
	}
	return err
}

// callDelete calls the Delete hook of c if that was invalidated.
func (b *batch) callDelete(ctx context.Context, c *cut) error {
	if !c.dropped || c.cache == nil {
		return nil
	}
	err := c.cache.deleteSaved(ctx)
	b.errs.add(err)
	return err
}

// callSave saves by the hook of the lane's only cache.
func (b *batch) callSave(ctx context.Context) error {
	for _, c := range b.cuts {
		if c.part == nil {
			continue
		}
		n, err := c.part.save(ctx)
		if err != nil {
			return c.cache.err(ctx, "sync", nil, err)
		}
		b.entries += n
	}
	return nil
}

// callDelete implements typed.
func (c *Cache[K, V]) callDelete(ctx context.Context) (err error) {
	switch {
	case c.spec.Delete != nil:
		guard(&err, func() error { return c.spec.Delete(ctx) })
	case c.spec.Save != nil:
		guard(&err, func() error { return c.spec.Save(ctx, map[K]V{}) })
	}
	return c.err(ctx, "delete", nil, err)
}

// tablePart is the part of a cut that comes from one table.
type tablePart[K comparable, V any] struct {
	c       *Cache[K, V]
	t       *table[K, V]
	gen     uint32
	cleared bool
	rewrite bool
	failed  []*entry[K, V] // not encodable
	whole   []saving[K, V] // for the Save hook: all entries, as they were at the cut
	touched byte           // means nothing; see touch
}

// saving is an entry on its way to the store.
type saving[K comparable, V any] struct {
	*entry[K, V]
	version[V]
}

// cut implements typed.
func (c *Cache[K, V]) cut(all bool) part {
	t := c.table.Load()
	if !t.recorded {
		return nil
	}
	others := t.former != nil || c.sharing() && c.state.Load() != stateUnloaded // of another version, or another Manager
	if others && c.all != nil && (t.rewrite || t.unsaved() > 0) {
		t.cleared, t.rewrite = true, true // the later are there as a whole
	}
	p := &tablePart[K, V]{c: c, t: t, gen: t.gen, cleared: t.cleared, rewrite: t.rewrite}
	if t.rewrite {
		t.rewriteAll()
	}
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		n += len(s.dirty)
		s.taken, s.dirty = s.dirty, nil
		if c.whole {
			s.mu.RLock() // reads may be decoding
			for _, e := range s.entries {
				if e.kind.held() {
					p.whole = append(p.whole, saving[K, V]{e, e.version()})
				}
			}
			s.mu.RUnlock()
		}
	}
	if n == 0 && !t.cleared && !t.rewrite {
		return nil
	}
	t.cleared, t.rewrite = false, false
	t.gen++
	t.saving, c.saving = true, true
	return p
}

// rewriteAll makes all entries unsaved, but those that there is nothing of: the store has none
// of them, or another Manager has set it since. The gate is held exclusively.
func (t *table[K, V]) rewriteAll() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock() // reads may be decoding
		for _, e := range s.entries {
			if e.dirty != t.gen && (e.kind != absent || e.version().state.kind != absent) {
				e.dirty = t.gen
				s.dirty = append(s.dirty, e)
			}
		}
		s.mu.RUnlock()
	}
}

// write implements part.
func (p *tablePart[K, V]) write(ctx context.Context, yield func(store.Op, error) bool, errs *errorList) bool {
	name := p.c.slot.name
	if p.cleared && !yield(store.Op{Kind: store.Clear, Cache: name}, nil) {
		return false
	}
	var key, value, meta []byte
	records := recorder{m: p.c.m, g: p.c.m.graph, c: &p.c.core}
	valuesOnly := !p.c.lane.store.Caps().Described
	most := 0
	for i := range p.t.shards {
		most = max(most, len(p.t.shards[i].taken))
	}
	some := make([]saving[K, V], min(most, 256)) // not on the stack: it would be made larger for one entry
	sizes := make([]uint32, len(some))
	fail := func(e *saving[K, V], err error) {
		err = p.c.err(ctx, "sync", e.key, err)
		errs.add(err)
		p.c.failed(err)
		p.failed = append(p.failed, e.entry)
	}
	for i := range p.t.shards {
		s := &p.t.shards[i]
		for taken := s.taken; len(taken) > 0; {
			n := min(len(taken), len(some))
			p.collect(s, taken[:n], some[:n])
			taken = taken[n:]
			for i, e := range some[:n] {
				op := store.Op{Kind: store.Put, Cache: name}
				var err error
				sizes[i] = 0
				if key, err = p.c.encodeKey(key[:0], e.key); err != nil {
					fail(&e, err) // so it is not in the store either
					continue
				}
				if value, meta, err = p.encode(ctx, &e, &records, value[:0], meta[:0]); err != nil && !e.forced {
					fail(&e, err)
				}
				kind := e.version.state.kind
				gone := err != nil || kind == absent || valuesOnly && (e.forced || !kind.held())
				if op.Key, op.Value, op.Meta = key, value, meta; gone {
					op.Kind, op.Value, op.Meta = store.Delete, nil, nil
				}
				if !yield(op, nil) {
					return false
				}
				sizes[i] = sizeOf(store.Record{Key: op.Key, Value: op.Value, Meta: op.Meta})
			}
			if len(p.c.limits) > 0 {
				s.mu.Lock()
				for i, e := range some[:n] {
					e.entry.size = sizes[i]
				}
				s.mu.Unlock()
			}
		}
	}
	return true
}

// lacks implements part.
func (p *tablePart[K, V]) lacks() bool { return len(p.failed) > 0 && p.c.all != nil }

// collect copies the states of entries as they were at the cut, and marks them
// as saved, unless they have changed since.
func (p *tablePart[K, V]) collect(s *shard[K, V], entries []*entry[K, V], into []saving[K, V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		p.touched += touchEnds(e)
	}
	for i, e := range entries {
		st, changed := s.before[e] // or moved
		if changed {
			delete(s.before, e)
		} else {
			st = e.version()
		}
		into[i] = saving[K, V]{e, st}
		if e.dirty == p.gen {
			e.dirty, e.size = 0, 0 // until it is known
		}
	}
	for i := range entries {
		st := &into[i].version.state
		p.touched += touch(&into[i].key) + touch(&st.value) + touchLines(st.raw)
	}
}

// encodeKey appends k, as it is saved, to dst.
func (c *Cache[K, V]) encodeKey(dst []byte, k K) (_ []byte, err error) {
	if c.spec.KeyCodec.Append == nil {
		return dst, errors.New("its keys cannot be encoded")
	}
	guard(&err, func() (err error) {
		dst, err = c.spec.KeyCodec.Append(dst, k)
		return err
	})
	return dst, err
}

// encode appends the value of e, if it has one, and what is kept beside that, to
// value and meta. Of a value that was invalidated only a fingerprint is kept.
func (p *tablePart[K, V]) encode(ctx context.Context, e *saving[K, V], records *recorder, value, meta []byte) (_, _ []byte, err error) {
	st := e.version.state
	switch st.kind {
	case encoded, broken, lacking, dropped:
		value = append(value, rawBytes(st.raw)...)
	case decoded:
		value, err = p.c.encode(ctx, e.key, st.value, value)
	}
	if e.forced && st.kind.held() && err == nil {
		value, st.kind = append(value[:0], fingerprint(value)...), dropped
	}
	if err == nil && st.kind != absent {
		meta, err = records.append(meta, &e.trace, st.kind, p.c.version)
	}
	return value, meta, err
}

// encode appends v, as it is saved, to dst.
func (c *Cache[K, V]) encode(ctx context.Context, k K, v V, dst []byte) (_ []byte, err error) {
	guard(&err, func() (err error) {
		if c.spec.BeforeSave != nil {
			if v, err = c.spec.BeforeSave(ctx, k, v); err != nil {
				return err
			}
		}
		dst, err = c.spec.Codec.Append(dst, v)
		return err
	})
	return dst, err
}

// save implements part.
func (p *tablePart[K, V]) save(ctx context.Context) (n int, err error) {
	contents := make(map[K]V, len(p.whole))
	for _, e := range p.whole {
		st := e.version.state
		v := st.value
		if st.kind == encoded {
			var ok bool
			if v, ok = p.c.decode(p.t.shard(e.key), e.entry, st.raw); !ok {
				continue
			}
		}
		if p.c.spec.BeforeSave != nil {
			guard(&err, func() (err error) {
				v, err = p.c.spec.BeforeSave(ctx, e.key, v)
				return err
			})
			if err != nil {
				return 0, p.c.err(ctx, "sync", e.key, err)
			}
		}
		contents[e.key] = v
	}
	before, after := p.notes(ctx, contents)
	if err := p.c.m.keepNotes(ctx, before); err != nil {
		return 0, err
	}
	n = len(contents) // the hook may change it
	guard(&err, func() error { return p.c.spec.Save(ctx, contents) })
	if err == nil {
		err = p.c.m.keepNotes(ctx, after)
	}
	return n, err
}

// notes returns what is to be noted of the entries that have changed before the contents
// are given to the Save hook, which is that values from a builder are not known, and after
// that.
func (p *tablePart[K, V]) notes(ctx context.Context, contents map[K]V) (before, after []store.Op) {
	if !p.c.m.annotates() || p.c.spec.Load == nil { // then nobody reads them
		return nil, nil
	}
	name := notesOn(p.c.slot.name)
	if p.cleared {
		after = append(after, store.Op{Kind: store.Clear, Cache: name})
	}
	records := recorder{m: p.c.m, g: p.c.m.graph, c: &p.c.core}
	for i := range p.t.shards {
		s := &p.t.shards[i]
		some := make([]saving[K, V], len(s.taken))
		p.collect(s, s.taken, some)
		for _, e := range some {
			op := store.Op{Kind: store.Put, Cache: name}
			var err error
			if op.Key, err = p.c.encodeKey(nil, e.key); err != nil {
				continue // there is no note on it either
			}
			if v, given := contents[e.key]; given && !e.forced && e.version.state.kind.held() {
				if _, op.Value, err = p.c.encodeBoth(e.key, v); err == nil {
					op.Value = []byte(fingerprint(op.Value))
					op.Meta, err = records.append(nil, &e.trace, e.version.state.kind, p.c.version)
				}
				if err == nil && len(op.Meta) > 0 && op.Meta[0]&flagBuilt != 0 {
					before = append(before, store.Op{Kind: store.Put, Cache: name, Key: op.Key})
				}
			} else {
				op.Value, op.Meta, err = p.encode(ctx, &e, &records, nil, nil)
			}
			if err != nil || len(op.Meta) == 0 {
				op.Kind, op.Value, op.Meta = store.Delete, nil, nil
			}
			after = append(after, op)
		}
	}
	return before, after
}

// finish implements part.
func (p *tablePart[K, V]) finish(saved bool) {
	t := p.t
	again := func(s *shard[K, V], e *entry[K, V]) {
		if e.dirty != t.gen {
			e.dirty = t.gen
			s.dirty = append(s.dirty, e)
		}
	}
	if saved { // before what needs not be saved any more is forgotten
		for _, e := range p.failed {
			s := t.shard(e.key)
			s.mu.Lock()
			again(s, e)
			s.mu.Unlock()
		}
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, e := range s.taken {
			switch {
			case !saved:
				again(s, e)
			case p.c.whole && e.dirty == p.gen:
				e.dirty = 0
			}
			if saved && !s.moved && e.kind == absent && e.dirty == 0 && p.c.loaded() && s.entries[e.key] == e && e.forget() {
				delete(s.entries, e.key)
			}
		}
		s.taken, s.before = nil, nil
		s.needed = min(s.needed, len(s.entries)-s.live)
		s.mu.Unlock()
	}
	p.c.m.gate.Lock()
	defer p.c.m.gate.Unlock()
	t.saving, p.c.saving = false, false
	now := p.c.table.Load() // it may have grown out of t
	if !saved {
		now.cleared = now.cleared || p.cleared
		now.rewrite = now.rewrite || p.rewrite
	}
	if n := len(p.failed); saved && n > 0 {
		p.c.syncErrors.Add(1)
		p.c.unsaved(int64(n))
	}
}

// forget notes that the store has nothing of the contents any more, or if sure is not set
// that it may be so. The gate is held exclusively.
func (c *Cache[K, V]) forget(sure bool) {
	t := c.table.Load()
	t.rewrite = t.recorded && !(sure && c.unbuilt() && t.len() == 0) // or what another has built went
	t.cleared = t.cleared && !sure
	c.epoch++ // what is just being read is not there any more
}
