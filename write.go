package cacheman

import (
	"cmp"
	"context"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// write runs f, which changes the entry of k and returns whether it did, with
// the locks held that this needs. If others depend on every change to this
// cache, they are invalidated in the same step.
func (c *Cache[K, V]) write(op string, k K, f func(*table[K, V], *shard[K, V]) (changed bool, wait *graph.Run)) error {
	if err := c.m.refuses(); err != nil && c.slot.name != ours+handCache { // a note is no write, and made in memory where nothing is written
		return c.err(context.Background(), op, k, err)
	}
	c.hashed(k)
	if err := c.fits(k); err != nil {
		return c.err(context.Background(), op, k, err)
	}
	if err := c.note(k); err != nil {
		return c.err(context.Background(), op, k, err)
	}
	for {
		graph.At("write")
		wait, err := c.tryWrite(f, k)
		graph.At("written")
		if err == nil && wait == nil {
			err = c.note(k)
		}
		if err != nil {
			return c.err(context.Background(), op, k, err)
		}
		if wait == nil {
			return nil
		}
		wait.Yield()
	}
}

// hashed panics, as a map would, if k holds what has no hash: before anything is locked.
func (c *Cache[K, V]) hashed(k K) {
	if t := c.table.Load(); t.strict {
		t.place(k)
	}
}

func (c *Cache[K, V]) tryWrite(f func(*table[K, V], *shard[K, V]) (bool, *graph.Run), k K) (wait *graph.Run, err error) {
	m := c.m
	var gone []*slot
	m.gate.RLock()
	exclusive := c.slot.changeDependents()
	if exclusive {
		m.gate.RUnlock()
		m.gate.Lock()
	}
	err = c.writable()
	grow := false
	if err == nil && !c.off {
		t := c.table.Load()
		s := t.shard(k)
		s.mu.Lock()
		var changed bool
		changed, wait = f(t, s)
		c.prune(t, s)
		grow = len(t.shards) == 1 && len(s.entries) > growAt
		if changed && exclusive { // before anybody sees that
			gone = c.changing()
			m.drop(gone, nil)
		}
		s.mu.Unlock()
		if changed {
			c.edited(1)
		}
	}
	if exclusive {
		m.gate.Unlock()
		if err == nil {
			err = m.noteWhole(gone)
		}
		m.emitInvalidated(gone, "entries of "+c.slot.name+" changed")
	} else {
		m.gate.RUnlock()
	}
	if err == nil && grow {
		c.grow()
	}
	return wait, err
}

// take makes k absent. A trace of it is kept if the store may have it. The gate
// and s.mu are held.
func (c *Cache[K, V]) take(t *table[K, V], s *shard[K, V], k K) (changed bool, wait *graph.Run) {
	e := s.entries[k]
	unknown := c.unknown(e)
	if e == nil && (!unknown || !t.recorded) {
		return unknown, nil
	}
	if e != nil && c.derives {
		c.m.graph.Lock()
		c.remembers(e)
		c.m.graph.Unlock()
	}
	changed, wait = c.put(t, s, s.entry(k), state[V]{}, unknown)
	s.drop(t, k)
	return changed, wait
}

// unknown reports that the store may have what the table does not know of: a value for
// the key of e, or if that is nil, of one that the table does not have.
func (c *Cache[K, V]) unknown(e *entry[K, V]) bool {
	state := c.state.Load()
	return state == stateUnloaded || state == statePartial && e == nil || c.sharing()
}

// remembers gives e, which is to lose its value, the node that remembers it, so
// that what is built can be compared with it. The gate, e's shard and the graph
// are locked.
func (c *Cache[K, V]) remembers(e *entry[K, V]) {
	if e.kind.held() && c.derives && c.state.Load() != stateUnloaded {
		c.ensure(e)
	}
}

// put gives e another state, and makes it an input, or if st has no value one
// that is to be built where there is a builder; unknown says that the store may have
// what e does not. It changes nothing if it returns a run for which the writer has to
// wait. The gate and s.mu are held.
func (c *Cache[K, V]) put(t *table[K, V], s *shard[K, V], e *entry[K, V], st state[V], unknown bool) (changed bool, wait *graph.Run) {
	g := c.m.graph
	keys := c.keys.Load()
	if st.kind.held() == e.kind.held() {
		keys = nil // they stay the same
	}
	if e.node != nil || keys != nil || c.all != nil && !st.kind.held() {
		g.Lock()
		defer g.Unlock()
		if wait := c.mark(e, keys); wait != nil {
			return false, wait
		}
		if !st.kind.held() {
			c.overtakeAll()
		}
	}
	stamp := uint64(0)
	if st.kind.held() {
		stamp = g.Next()
	}
	return c.putMarked(t, s, e, keys, st, stamp, unknown), nil
}

// mark marks what was computed from e, and if keys is not nil from the keys of
// the cache. The graph is locked.
func (c *Cache[K, V]) mark(e *entry[K, V], keys *graph.Node) (wait *graph.Run) {
	if e.node != nil {
		wait = c.m.graph.Mark(e.node)
	}
	if keys != nil {
		wait = cmp.Or(keys.Patient(), c.m.graph.Mark(keys), wait)
	}
	return wait
}

// putMarked is the rest of put. The graph is locked, if e has a node or keys is
// not nil.
func (c *Cache[K, V]) putMarked(t *table[K, V], s *shard[K, V], e *entry[K, V], keys *graph.Node, st state[V], stamp uint64, unknown bool) (changed bool) {
	was := e.kind
	// What another version has left, or cannot be decoded, is not served, but the store has it yet.
	left := was == absent && (e.len > 0 || e.node != nil && e.node.Why().Reason == graph.Outdated)
	if changed = unknown || was != absent || st.kind != absent || left; changed {
		s.change(t, e, e.lockedVersion)
	}
	if n := e.node; n != nil {
		if c.derives && !st.kind.held() {
			if was.stamped() && (c.sharing() || !n.Unread()) {
				n.Remember(e.state())
			}
			n.Force(c.derived(), graph.Invalidated)
		} else {
			n.SetInput(stamp)
		}
	}
	if keys != nil {
		c.keyChanged(keys, e.key, st.kind.held())
	}
	e.hold(st)
	e.stamp.Store(stamp)
	s.live += held(st.kind) - held(was)
	return changed
}

// confirm makes v, which equals what e holds, its value as an input, unless that is
// not possible, and reports whether that is to be saved. What was computed from e stays
// valid. The gate and s.mu are held.
func (c *Cache[K, V]) confirm(t *table[K, V], s *shard[K, V], e *entry[K, V], v V) (changed, ok bool) {
	c.m.graph.Lock()
	defer c.m.graph.Unlock()
	if c.allBuilding() {
		return false, false
	}
	return c.confirmed(t, s, e, v), true
}

// confirmed is confirm with the graph locked.
func (c *Cache[K, V]) confirmed(t *table[K, V], s *shard[K, V], e *entry[K, V], v V) (changed bool) {
	n := e.node
	built := n != nil && n.Kind() != graph.Input
	if changed = built || c.sharing(); changed {
		s.change(t, e, e.lockedVersion)
	}
	if built {
		n.SetInput(n.Stamp)
	}
	e.hold(state[V]{value: v, kind: decoded})
	return changed
}

// knew is know for a write, which goes on if that fails, and does not wait for
// contents to be loaded that can be reconciled with it afterwards. What is declared to depend
// on changes cannot: it would be invalidated also for what turns out to be none.
func (c *Cache[K, V]) knew(k K) {
	if c.loaded() || c.state.Load() == stateUnloaded && !c.comparesFirst() {
		return
	}
	c.know(context.Background(), k) // a failure is an event
}

// comparesFirst reports whether contents are to be loaded before anything is written to them.
func (c *Cache[K, V]) comparesFirst() bool {
	c.m.gate.RLock()
	defer c.m.gate.RUnlock()
	return !c.off && !c.sharing() && c.slot.changeDependents()
}

// holds reports whether k has a value that equals v, and its stamp.
func (c *Cache[K, V]) holds(k K, v V) (equal bool, stamp uint64) {
	c.knew(k)
	_, s := c.rlock(k)
	e := s.entries[k]
	if e == nil || !e.kind.held() {
		s.mu.RUnlock()
		return false, 0
	}
	st, stamp := e.state(), e.current()
	s.mu.RUnlock()
	return c.same(k, st, v), stamp
}

// grow divides the table among more shards.
func (c *Cache[K, V]) grow() {
	c.m.gate.Lock()
	defer c.m.gate.Unlock()
	old := c.table.Load()
	if len(old.shards) > 1 {
		return
	}
	t := newTable[K, V](manyShards, old.recorded)
	t.partial, t.former = old.partial, old.former
	t.absorb(old, false, false, nil)
	c.table.Store(t)
}

// replace makes t the contents, which are in the given state from now on; made is the
// run of BuildAll that has made them, or nil. What is running to provide other contents
// is out of date. The gate is held exclusively.
func (c *Cache[K, V]) replace(t *table[K, V], state int32, made *graph.Run) {
	c.disinherit()
	g := c.m.graph
	g.Lock()
	g.Wrote()
	c.owner.Replace()
	c.keysReplaced()
	for i := range t.shards {
		for _, e := range t.shards[i].entries {
			if e.node != nil {
				c.owner.Adopt(e.node)
			}
		}
	}
	if c.all != nil {
		g.Mark(c.all)
		c.all.Force(graph.Derived, graph.Missing)
		switch {
		case made != nil: // at once, or somebody could find that they were built from nothing
			made.Settle()
		case state == stateReady:
			c.all.Restore(graph.Derived, t.whole)
		}
	}
	t.partial = state <= statePartial
	t.count(c.table.Load())
	c.table.Store(t)
	g.Unlock()
	c.builtFrom = []byte(t.whole)
	c.epoch++
	if c.state.Load() != stateClosed {
		c.state.Store(state)
	}
}

// drop implements typed.
func (c *Cache[K, V]) drop() {
	c.replace(newTable[K, V](1, c.saves()), c.emptyState(), nil)
	c.heirOf, c.taken = nil, false
}

// emptyState is the state of contents that are not there.
func (c *Cache[K, V]) emptyState() int32 {
	if c.spec.BuildAll != nil {
		return stateUnbuilt
	}
	return stateReady
}
