package cacheman

import (
	"context"
	"errors"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// Contents that are large are not loaded to read an entry of them: as long as
// their state is statePartial, single records are read from the store, and
// left in the table. That there is no record is noted there as well, so that
// what the table has of a key, if it has anything, is what there is.

const (
	// partialFrom is how large they must be for that to be worthwhile, as loadCost: what is
	// smaller is read nearly as fast as one record.
	partialFrom = 512

	// readCost is what reading one record costs, beside its bytes, in records that are
	// loaded. When single reads have cost as much as loading would have, the
	// contents are loaded: thus whatever is asked for, it costs at most twice
	// what it would have to.
	readCost = 64

	// recordBytes is how many bytes take about as long to read as a record takes beside its own.
	recordBytes = 512
)

// loadCost is what loading all of s costs, in records of few bytes; -1 if it is not known.
func (s *slot) loadCost() int64 {
	if s.records < 0 {
		return -1
	}
	return int64(s.records) + max(s.bytes, 0)/recordBytes
}

// partial reports whether entries can be read from the store one by one. The
// gate is held exclusively.
func (c *Cache[K, V]) partial() bool {
	if c.spec.Load != nil || c.spec.Validate != nil || c.spec.BuildAll != nil || c.whole || c.heirOf != nil || c.slot.noted != nil && c.following() {
		return false
	}
	if _, ok := c.lane.store.(store.Getter); !ok {
		return false
	}
	if cost := c.slot.loadCost(); cost >= 0 && cost < c.m.partialFrom {
		return false
	}
	as := c.readable(c.slot.description)
	return as.reason == "" && !as.migrates
}

// know sees to it that the table says what there is of k, unless the contents
// are replaced meanwhile: whoever then finds nothing in a table that is partial
// calls it again.
func (c *Cache[K, V]) know(ctx context.Context, k K) error {
	switch c.state.Load() {
	case stateUnloaded:
		return c.provide(ctx)
	case statePartial:
		return c.fetch(ctx, k)
	}
	return nil
}

// fetch is know for contents that are partial.
func (c *Cache[K, V]) fetch(ctx context.Context, k K) error {
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	if err := c.fits(k); err != nil {
		return err
	}
	_, s := c.rlock(k)
	known := s.entries[k] != nil
	s.mu.RUnlock()
	if known {
		return nil
	}
	c.m.gate.RLock()
	epoch, all := c.epoch, c.slot.loadCost()
	c.m.gate.RUnlock()
	if all < 0 {
		all = 1 << 20
	}
	if c.spent.Add(c.m.readCost) > all {
		return c.provide(ctx)
	}
	st, r, err := c.readOne(ctx, k)
	if err != nil {
		if c.loaded() {
			return nil // or closed: the caller looks again
		}
		c.failed(err)
		c.m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Key: k, Err: err})
		return err
	}
	c.m.gate.RLock()
	defer c.m.gate.RUnlock()
	if c.epoch != epoch || c.state.Load() != statePartial {
		return nil
	}
	t := c.table.Load()
	s = t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[k] != nil {
		return nil // somebody was faster
	}
	e := s.entry(k)
	if st.kind != absent {
		c.restore(t, s, e, st, r, false, c.restorer(1))
	}
	return nil
}

// readOne reads what the store has of k; it is absent if there is nothing that
// can be read.
func (c *Cache[K, V]) readOne(ctx context.Context, k K) (st state[V], r record, err error) {
	key, err := c.encodeKey(nil, k)
	if err != nil {
		return st, r, nil // so it cannot have been saved
	}
	rec, err := c.lane.store.(store.Getter).Get(ctx, c.slot.name, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return st, r, nil
	case errors.Is(err, store.ErrCorrupt):
		c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Key: k, Reason: "a record cannot be read", Err: err})
		return st, r, nil
	case err != nil:
		return st, r, err
	}
	c.spent.Add(int64(len(rec.Value)) / recordBytes)
	if st, r, err = parseEntry[V](rec); err != nil {
		c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Key: k, Err: err})
	}
	return st, r, nil
}

// restore makes e, which is new, what was stored of it. If outdated is set,
// another version of the cache has saved it: then what it had built is kept only
// to be compared with what will be built, and what it was told is forgotten. The
// shard is locked, or nobody else has it yet; nodes makes the entry's node.
func (c *Cache[K, V]) restore(t *table[K, V], s *shard[K, V], e *entry[K, V], st state[V], r record, outdated bool, nodes *graph.Restorer) {
	e.size = r.size
	if r.stamp == 0 && st.kind.held() { // the store keeps values only
		r.stamp = c.m.graph.Next()
		if c.spec.Probe != nil { // which may have made it, and is asked anew in any case
			r.flags, r.version = flagBuilt, c.version
		}
	}
	if r.flags&flagBuilt == 0 || !c.derives { // without a builder it is what it is
		if r.flags&(flagDropped|flagForced) != 0 {
			return // there is none, until there is a builder again
		}
		if outdated {
			s.change(t, e, e.version)
			return
		}
		e.hold(st)
		e.stamp.Store(r.stamp)
		s.live += held(st.kind)
		return
	}
	kind := kindOf(r.flags)
	if c.spec.Probe != nil {
		kind = graph.Probed // also what a builder had made in its place
	}
	n := nodes.Node(kind, r.stamp, r.edges)
	graph.SetEntry(n, e)
	n.Built = r.built
	n.SetTook(r.took)
	e.node = n
	forced := r.flags&flagForced != 0
	if forced || r.version != c.version {
		g := c.m.graph
		g.Lock()
		defer g.Unlock()
		why := graph.Outdated
		if forced {
			why = graph.Invalidated
		}
		n.Distrust(why)
		if st.kind.stamped() {
			n.Remember(st)
		}
		return
	}
	e.hold(st)
	s.live += held(st.kind)
}

// restorer returns what makes the nodes of entries that are restored.
func (c *Cache[K, V]) restorer(room int) *graph.Restorer {
	g := c.m.graph
	g.Lock()
	defer g.Unlock()
	return c.owner.Restorer(room)
}

// kindOf is how the graph calls what a record with these flags is.
func kindOf(flags byte) graph.Kind {
	if flags&flagProbed != 0 {
		return graph.Probed
	}
	return graph.Derived
}
