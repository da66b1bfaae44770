package cacheman

import "github.com/cacheman-go/cacheman/internal/graph"

// pruneFrom is how many entries without a value a shard may have before it is found out
// which of them somebody needs.
const pruneFrom = 64

// drop takes the entry of k out if it is absent, and nobody has ever asked for it. The gate
// and s.mu are held.
func (s *shard[K, V]) drop(t *table[K, V], k K) {
	if e := s.entries[k]; e != nil && e.kind == absent && e.node == nil && !t.recorded {
		delete(s.entries, k)
	}
}

// prune takes out the entries that have no value and that nobody needs to know of: they were deleted,
// could not be built, or were asked for by builders that ask for others now. It does so when there
// may be as many of them as of others, so that it costs no more for each than to make it did, and
// keys that come and go do not fill the memory. The gate and s.mu are held.
func (c *Cache[K, V]) prune(t *table[K, V], s *shard[K, V]) {
	if without := len(s.entries) - s.live; without > max(c.m.pruneFrom, s.live, 2*s.needed) {
		c.pruneNow(t, s)
	}
}

// pruneNow is prune however many there are.
func (c *Cache[K, V]) pruneNow(t *table[K, V], s *shard[K, V]) {
	if c.saving || s.moved || !c.loaded() || c.sharing() || c.all != nil {
		return // the store may have, or get, something of them; or they tell of contents as a whole
	}
	g := c.m.graph
	if g.Linking() {
		return
	}
	some := make([]*graph.Node, 0, touchAtOnce)
	flush := func() {
		g.Lock()
		defer g.Unlock()
		for _, n := range g.Unneeded(some) {
			e := graph.EntryOf[entry[K, V]](n)
			switch remembers := n.Old() != nil; {
			case n.Why().Reason == graph.Outdated: // another version has built it: it counts
			case remembers && t.recorded: // so does the store
				s.change(t, e, e.lockedVersion)
				n.Remember(nil)
				c.edited(1)
			case e.dirty == 0 && n.Forget(): // or the store does not know yet
				delete(s.entries, e.key)
			}
		}
		some = some[:0]
	}
	for k, e := range s.entries {
		switch {
		case e.kind != absent || e.len > 0:
		case e.node != nil:
			if some = append(some, e.node); len(some) == cap(some) {
				flush()
			}
		case e.dirty == 0:
			delete(s.entries, k)
		}
	}
	flush()
	s.needed = len(s.entries) - s.live
}
