package cacheman

import (
	"context"
	"iter"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Cache is a named map from K to V that is saved by its Manager.
//
// All methods may be called concurrently. A write is seen by every read that
// begins after it returned. Values are shared, not copied: a value that was
// given to the cache or came out of it must not be changed any more; to change
// it, Set a new one or use Update.
//
// A key that is not equal to itself, because it is NaN or has that in it, is in no
// cache: what asks whether there is something says no, and all else is an error.
//
// Reads that take no ctx give what the cache holds. They never call a builder.
// The first of them after a restart reads the contents from the local store, or
// waits for that; if this fails, the reason is an event, and the cache is as if
// empty until it succeeds. So it is once it is closed.
type Cache[K comparable, V any] struct {
	core
	spec  Spec[K, V]
	table atomic.Pointer[table[K, V]] // replaced with the gate held exclusively
	clip  func(V) V                   // see Update; nil unless V is a slice
	equal func(a, b V) bool           // nil: encode both and compare the bytes
	plain bool                        // values that are == are the same in every respect
	nans  bool                        // there are values of K that are not equal to themselves: no entry is found under them

	loading struct {
		sync.Mutex
		task *task // running, or nil
	}
	reading token // held while contents are read, by that task or by Reload
}

// Name returns the cache's name.
func (c *Cache[K, V]) Name() string { return c.slot.name }

// Peek returns the value of k, if the cache holds one.
func (c *Cache[K, V]) Peek(k K) (V, bool) {
	v, ok := c.peek(k, false)
	if ok {
		return v, true
	}
	for known := false; !known; {
		err := c.know(context.Background(), k)
		if c.state.Load() == stateClosed {
			break
		}
		v, ok, known = c.lookup(k)
		known = known || err != nil // then what was set since remains
	}
	c.table.Load().shard(k).count(ok)
	return v, ok
}

// held returns the contents, for a read without ctx, when what was saved is
// there, or nil if the cache is closed.
func (c *Cache[K, V]) held() *table[K, V] {
	for {
		var err error
		if !c.loaded() {
			err = c.prepare(context.Background(), false) // on failure, what was set since remains
		}
		t := c.table.Load()
		switch {
		case c.state.Load() == stateClosed:
			return nil
		case err != nil || !t.partial:
			return t
		}
	}
}

// rlock returns the contents, and the shard of k in them, which it has locked for
// reading: what its entries have, and what their nodes say, belong together. It is
// not called with the gate held exclusively.
func (c *Cache[K, V]) rlock(k K) (*table[K, V], *shard[K, V]) {
	for {
		t := c.table.Load()
		graph.At("look")
		s := t.shard(k)
		s.mu.RLock()
		if !s.moved {
			return t, s
		}
		s.mu.RUnlock()
		c.m.awaitTable()
	}
}

// awaitTable waits until the table that entries are being moved to is in place.
func (m *Manager) awaitTable() {
	m.gate.RLock()
	defer m.gate.RUnlock()
}

// peek is the fast part of a read: for a present entry that needs no work, and
// if that is asked for is clean.
func (c *Cache[K, V]) peek(k K, clean bool) (v V, ok bool) {
	if state := c.state.Load(); state != stateReady && state != statePartial || clean && c.all != nil && !c.all.Fresh() {
		return v, false
	}
	s := c.table.Load().shard(k)
	graph.At("peek")
	s.mu.RLock()
	if e := s.entries[k]; e != nil && e.kind == decoded && !s.moved && (!clean || e.fresh(c.owner)) {
		v, ok = e.value, true
		s.mu.RUnlock()
		s.hits.Add(1)
		return v, ok
	}
	s.mu.RUnlock()
	return v, false
}

// lookup is the rest of it: it decodes the entry if need be. If the table does
// not say what there is of k, known is false.
func (c *Cache[K, V]) lookup(k K) (v V, ok, known bool) {
	t, s := c.rlock(k)
	e := s.entries[k]
	if e == nil || !e.kind.held() {
		s.mu.RUnlock()
		return v, false, e != nil || !t.partial
	}
	st := e.state()
	s.mu.RUnlock()
	if st.kind == decoded {
		return st.value, true, true
	}
	v, ok = c.decode(s, e, st.raw)
	return v, ok, true
}

// count counts a read.
func (s *shard[K, V]) count(hit bool) {
	if hit {
		s.hits.Add(1)
	} else {
		s.misses.Add(1)
	}
}

// Has reports whether the cache holds a value for k.
func (c *Cache[K, V]) Has(k K) bool {
	_, ok := c.Peek(k)
	return ok
}

// Len returns the number of entries.
func (c *Cache[K, V]) Len() int {
	t := c.held()
	if t == nil {
		return 0
	}
	return t.len()
}

// All iterates over the entries, in no particular order, like a range over a
// Go map: an entry that is there all the time comes exactly once, with the
// value it has at that moment; one that is deleted before its turn does not
// come; one that is added may or may not. The body may use the cache freely.
func (c *Cache[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for f := range c.present() {
			v, ok := f.value, true
			if f.kind == encoded {
				v, ok = c.decode(f.shard, f.entry, f.raw)
			}
			if ok && !yield(f.entry.key, v) {
				return
			}
		}
	}
}

// Keys iterates over the keys, as All does over entries. It does not decode
// values, so a key may come whose value turns out to be damaged.
func (c *Cache[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for f := range c.present() {
			if !yield(f.entry.key) {
				return
			}
		}
	}
}

// found is an entry as it was when it was looked at.
type found[K comparable, V any] struct {
	*shard[K, V]
	entry *entry[K, V]
	state[V]
}

// present iterates over the entries that are there, each as it is when its turn
// comes.
func (c *Cache[K, V]) present() iter.Seq[found[K, V]] {
	return func(yield func(found[K, V]) bool) {
		t := c.held()
		if t == nil {
			return
		}
		var batch []*entry[K, V]
		for i := range t.shards {
			s := &t.shards[i]
			batch = batch[:0]
			s.mu.RLock()
			for _, e := range s.entries {
				if e.kind.held() {
					batch = append(batch, e)
				}
			}
			s.mu.RUnlock()
			for at, e := range batch {
				if at%touchAtOnce == 0 {
					s.touch(batch[at:min(at+touchAtOnce, len(batch))])
				}
				f := found[K, V]{shard: s, entry: e}
				if c.table.Load() != t { // it has been replaced
					now := c.held()
					if now == nil {
						return
					}
					f.shard = now.shard(e.key)
				}
				f.mu.RLock()
				if f.shard != s {
					f.entry = f.entries[e.key]
				}
				if f.entry != nil {
					f.state = f.entry.state()
				}
				f.mu.RUnlock()
				if f.kind.held() && !yield(f) {
					return
				}
			}
		}
	}
}

// Values iterates over the values, as All does over entries.
func (c *Cache[K, V]) Values() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range c.All() {
			if !yield(v) {
				return
			}
		}
	}
}

// Set makes v the value of k, an input that depends on nothing. If it equals
// what k holds (see Spec.Equal), nothing that was computed from that becomes
// stale. Set fails only with ErrClosed, ErrReadOnly
// or ErrInBuilder, and for a key that is not equal to itself.
func (c *Cache[K, V]) Set(k K, v V) error {
	c.heed()
	atOnce := c.comparesAtOnce() && c.loaded()
	for tries := 0; ; tries++ {
		var equal, again bool
		var seen uint64
		if !atOnce {
			equal, seen = c.holds(k, v)
		}
		err := c.write("set", k, func(t *table[K, V], s *shard[K, V]) (bool, *graph.Run) {
			e := s.entries[k]
			again = false
			switch {
			case e == nil || !e.kind.held():
			case !atOnce:
				again = e.current() != seen && tries < compareAgain
			case e.kind == decoded:
				equal, seen = c.equal(e.value, v), e.current()
			default:
				again = true
			}
			if again {
				return false, nil
			}
			return c.set(t, s, e, k, v, equal, seen)
		})
		if !again || err != nil {
			return err
		}
		atOnce = false
	}
}

// set makes v the value of k, which equal says is nothing new while k has the stamp seen; e is its
// entry, or nil. The gate and s.mu are held.
func (c *Cache[K, V]) set(t *table[K, V], s *shard[K, V], e *entry[K, V], k K, v V, equal bool, seen uint64) (changed bool, wait *graph.Run) {
	switch {
	case e == nil:
		e = s.add(k)
	case equal && e.kind.held() && e.current() == seen:
		if changed, ok := c.confirm(t, s, e, v); ok {
			return changed, nil
		}
	}
	return c.put(t, s, e, state[V]{value: v, kind: decoded}, false)
}

// SetAll sets every entry of seq, one after another; maps.All makes one of a
// map. It stops at the first error.
func (c *Cache[K, V]) SetAll(seq iter.Seq2[K, V]) error {
	for k, v := range seq {
		if err := c.Set(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes k, as Invalidate does. It fails only where Set fails.
func (c *Cache[K, V]) Delete(k K) error { return c.remove("delete", k) }

func (c *Cache[K, V]) remove(op string, k K) error {
	c.knew(k)
	return c.write(op, k, func(t *table[K, V], s *shard[K, V]) (bool, *graph.Run) { return c.take(t, s, k) })
}

// Update sets k, as Set does, to what fn makes of its value, as one step: no other change to
// k comes between. ok tells fn whether k has a value; if fn returns false, k is
// deleted. Update returns what fn returned last.
//
// fn is called without any lock, and again if k was changed meanwhile. It must
// not change what v refers to, for others may be reading it; but if V is a
// slice, appending to v is safe, because v comes without spare capacity.
func (c *Cache[K, V]) Update(k K, fn func(v V, ok bool) (V, bool)) (V, error) {
	c.heed()
	for {
		if err := c.fits(k); err != nil {
			var zero V
			return zero, c.err(context.Background(), "update", k, err)
		}
		if err := c.know(context.Background(), k); err != nil {
			var zero V
			return zero, c.err(context.Background(), "update", k, err)
		}
		old, ok, seen, err := c.look(k)
		if err != nil {
			return old, c.err(context.Background(), "update", k, err)
		}
		if c.clip != nil {
			old = c.clip(old)
		}
		v, keep := fn(old, ok)
		equal := false
		if ok && keep && c.plain { // or fn may have changed what old refers to, against what is said above
			var now uint64
			equal, now = c.holds(k, v)
			equal = equal && now == seen
		}
		again := false
		err = c.write("update", k, func(t *table[K, V], s *shard[K, V]) (bool, *graph.Run) {
			stamp := uint64(0)
			if e := s.entries[k]; e != nil && e.kind.held() {
				stamp = e.current()
			}
			if again = stamp != seen; again {
				return false, nil
			}
			if !keep {
				return c.take(t, s, k)
			}
			return c.set(t, s, s.entries[k], k, v, equal, seen)
		})
		if !again || err != nil {
			return v, err
		}
	}
}

// look returns the value of k, and its stamp, which is 0 if it has none.
func (c *Cache[K, V]) look(k K) (v V, ok bool, stamp uint64, err error) {
	for {
		if c.state.Load() == stateClosed {
			return v, false, 0, ErrClosed
		}
		_, s := c.rlock(k)
		e := s.entries[k]
		if e == nil || !e.kind.held() {
			s.mu.RUnlock()
			return v, false, 0, nil
		}
		st, stamp := e.state(), e.current()
		s.mu.RUnlock()
		if st.kind == decoded {
			return st.value, true, stamp, nil
		}
		c.decode(s, e, st.raw) // and look again
	}
}

// Clear removes all entries. Unlike InvalidateAll it leaves an empty cache, and
// not one that is yet to be built, and concerns dependents only as any change
// to an entry does. It costs no more for many entries than for few.
func (c *Cache[K, V]) Clear() error {
	m := c.m
	if err := m.refuses(); err != nil {
		return c.err(context.Background(), "clear", nil, err)
	}
	cleared := []*slot{c.slot}
	if err := m.noteWhole(cleared); err != nil {
		return c.err(context.Background(), "clear", nil, err)
	}
	m.gate.Lock()
	err := c.writable()
	var gone []*slot
	if err == nil && !c.off {
		gone = c.changing()
		m.drop(gone, func() {
			c.replace(newTable[K, V](1, c.saves()), stateReady, nil)
			c.table.Load().cleared = c.saves()
			c.edited(1)
		})
	}
	m.gate.Unlock()
	if err == nil {
		err = m.noteWhole(append(cleared, gone...))
	}
	m.emitInvalidated(gone, "entries of "+c.slot.name+" changed")
	return c.err(context.Background(), "clear", nil, err)
}

// Invalidate removes keys for good: a value computed before is not served
// again, also if its builder is running at this moment. Where there is a builder,
// and something was computed from the value, a fingerprint of it is kept, also by
// the store, until the entry is built or set: if what is built is the same, what was
// computed from it stays valid. It fails only where Set fails.
func (c *Cache[K, V]) Invalidate(keys ...K) error {
	for _, k := range keys {
		if err := c.remove("invalidate", k); err != nil {
			return err
		}
		if c.m.watched(EventInvalidated) {
			c.m.emit(Event{Kind: EventInvalidated, Cache: c.slot.name, Key: k, Reason: "by call"})
		}
	}
	return nil
}

// typeName implements typed.
func (c *Cache[K, V]) typeName() string { return typeName[K, V]() }

// Stats returns the cache's figures. It costs about a microsecond and changes
// nothing.
func (c *Cache[K, V]) Stats() Stats { return c.stats() }

func (c *Cache[K, V]) stats() (st Stats) {
	c.fill(&st)
	c.m.gate.RLock() // keeps cuts away
	defer c.m.gate.RUnlock()
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		st.Entries += s.live
		st.Dirty += len(s.dirty) + len(s.taken)
		s.mu.RUnlock()
		st.Hits += s.hits.Load()
		st.Misses += s.misses.Load()
	}
	return st
}

// clipper returns a function that takes the spare capacity from a slice, or
// nil if V is no slice.
func clipper[V any]() func(V) V {
	if reflect.TypeFor[V]().Kind() != reflect.Slice {
		return nil
	}
	return func(v V) V {
		s := reflect.ValueOf(&v).Elem()
		s.SetCap(s.Len())
		return v
	}
}
