package cacheman

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// A cache in memory that has a builder is lost with the process, so records of
// what was computed through it name what its entries were computed from. What
// was written to it by hand, or invalidated, would then be forgotten. That is why
// a cache of our own keeps, for each such write, a revision; records have a
// dependency on it beside those that take the place of the entry, and one on an
// entry that is never there and has the version of the cache in its key.

// byHand returns the cache of these revisions.
func byHand(m *Manager) (*Cache[string, uint64], error) {
	return own(m, handCache, func() Spec[string, uint64] { return Spec[string, uint64]{} })
}

// handKey is the key there for an entry of the cache of a name, and without an
// entry for the cache as a whole.
func handKey(name string, encoded []byte, entry bool) string {
	k := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	if entry {
		k = append(append(k, 0), encoded...)
	}
	return string(k)
}

// handLinks returns why key, from a record, cannot be linked, or nil: the cache is such that
// nothing is noted of it any more, or of another version, or there is none.
func (m *Manager) handLinks(key string) error {
	d := decoder{key}
	name := d.text()
	if d.rest == failed {
		return errRecord
	}
	c, err := m.readable(name)
	switch isVersion := strings.HasPrefix(d.rest, versionMark); {
	case err == nil && !c.passes() && !c.off:
		return errUnnoted
	case isVersion && err != nil:
		return err
	case isVersion && d.rest != c.handVersion():
		return errOutdated
	}
	return nil
}

// handOf returns what the entry of key stands for: an entry of a cache, or without a key all
// of it. No lock is held.
func (m *Manager) handOf(key string) (cache string, k any) {
	d := decoder{key}
	cache = m.nameNow(d.text())
	if c, err := m.lookup(cache); err == nil && strings.HasPrefix(d.rest, "\x00") {
		k = c.keyed().decodeKey(d.rest[1:])
	}
	return plainName(cache), k
}

// handNodes returns the nodes of what was noted of the entry of k, if something has read
// that. No lock is held.
func (c *Cache[K, V]) handNodes(k K) []*graph.Node { return c.m.handNodes(c.handKeysOf(k)) }

func (m *Manager) handNodes(keys []string) (nodes []*graph.Node) {
	c, err := Lookup[string, uint64](m, ours+handCache)
	if err != nil {
		return nil
	}
	for _, key := range keys {
		_, s := c.rlock(key)
		if e := s.entries[key]; e != nil && e.node != nil {
			nodes = append(nodes, e.node)
		}
		s.mu.RUnlock()
	}
	return nodes
}

// versionMark begins, after the name of a cache, what stands for its version.
const versionMark = "\x01"

func (c *core) handVersion() string {
	return string(binary.BigEndian.AppendUint64([]byte(versionMark), c.version))
}

// errOutdated is why an edge cannot be linked that says which version of a cache in
// memory made what was read.
var errOutdated = errors.New("what was read was made by another version")

// errUnnoted is why an edge cannot be linked that says whether something was written by
// hand to a cache that was in memory and had a builder then.
var errUnnoted = errors.New("what was read is not in memory any more, or has no builder")

// passes reports whether records name what entries of c were computed from in
// their place.
func (c *core) passes() bool { return c.lane == nil && c.derives && !c.off }

// note notes that the entry of k is written by hand, if that is not to be
// forgotten. It is called before the write, so that nobody sees that and then
// what was computed from the entry before; and after it, so that no record was
// made between that has this revision and the old entry. No lock is held.
func (c *Cache[K, V]) note(k K) error { return c.m.note(c.handKeysOf(k)) }

// handKeysOf returns under which keys something is noted of the entry of k, if anything is.
func (c *Cache[K, V]) handKeysOf(k K) []string {
	if !c.passes() {
		return nil
	}
	key, err := c.encodeKey(nil, k)
	if err != nil {
		return nil // it is in no record either
	}
	return c.handKeys(key, true)
}

// handKeys returns handKey for c, and for each name that it had formerly: what was noted under that counts
// for records that were made then, and so does what is noted from now on.
func (c *core) handKeys(encoded []byte, entry bool) []string {
	keys := []string{handKey(c.slot.name, encoded, entry)}
	for _, name := range c.formerly {
		keys = append(keys, handKey(name, encoded, entry))
	}
	return keys
}

// noteWhole does for contents as a whole what note does for an entry.
func (m *Manager) noteWhole(slots []*slot) (err error) {
	for _, s := range slots {
		m.gate.RLock()
		c := s.cache
		m.gate.RUnlock()
		if c != nil && c.passes() && err == nil {
			err = m.note(c.handKeys(nil, false))
		}
	}
	return err
}

func (m *Manager) note(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	c, err := byHand(m)
	for _, key := range keys {
		if err == nil {
			err = c.Set(key, m.graph.Next())
		}
	}
	if inner, ok := errors.AsType[*Error](err); ok {
		return inner.Err // the caller knows what was to be written
	}
	return err
}

// loadHand sees to it that whoever makes records need not load what was written by hand.
func (m *Manager) loadHand(ctx context.Context) {
	if !m.passed.Load() {
		return
	}
	if c, err := byHand(m); err == nil {
		c.prepare(ctx, false) // without it records are less exact, not wrong
	}
}

// handEdges returns the dependencies that records have for passing through an
// entry. They are looked up before the entry is, so that they are not newer. ok
// is false if there is no telling.
func (m *Manager) handEdges(t keyed, n *graph.Node) (edges [3]savedEdge, ok bool) {
	key, err := t.appendKey(nil, n)
	if err != nil {
		return edges, false
	}
	m.gate.RLock()
	s := m.slots[ours+handCache]
	var hand *core
	if s != nil {
		hand = s.cache
	}
	m.gate.RUnlock()
	if hand == nil {
		return edges, false
	}
	c, is := hand.typed.(*Cache[string, uint64])
	if !is || !c.loaded() {
		return edges, false
	}
	whole := handKey(t.cache().slot.name, nil, false)
	for i, k := range []string{whole, handKey(t.cache().slot.name, key, true), whole + t.cache().handVersion()} {
		_, _, stamp, err := c.look(k)
		if err != nil {
			return edges, false
		}
		edges[i] = savedEdge{ours + handCache, k, stamp}
	}
	return edges, true
}
