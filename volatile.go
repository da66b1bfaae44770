package cacheman

import (
	"maps"
	"slices"
)

// A run of BuildAll may be volatile: it made do with the failure of another, say, and
// there is no keeping what it has made. Whoever has asked for it gets it, together with
// what the cache was given by hand, which would stay. So it is with one that was
// superseded.

// value returns what k has in what b has made.
func (b *buildingAll[K, V]) value(k K) (v V, ok bool) {
	c := b.c
	_, s := c.rlock(k)
	e := s.entries[k]
	stays := e != nil && b.stays(e)
	var st state[V]
	if stays { // at the same instant, for the contents may be replaced at the next
		st = e.state()
	}
	s.mu.RUnlock()
	switch {
	case st.kind == decoded:
		return st.value, true
	case st.kind == encoded:
		return c.decode(s, e, st.raw)
	case stays:
		return v, false
	}
	v, ok = b.contents[k]
	return v, ok
}

// stays reports whether e would be there yet, if what b has made were kept; see
// table.absorb. The entry is locked.
func (b *buildingAll[K, V]) stays(e *entry[K, V]) bool {
	if e.kind == absent || !b.first && !b.since(e.current()) {
		return false
	}
	return !e.built() // what a builder made is still to be checked
}

// all returns the keys, and the values of those that need not be built.
func (b *buildingAll[K, V]) all() (keys []K, values map[K]V) {
	values = make(map[K]V, len(b.contents))
	for k := range b.contents {
		if v, ok := b.value(k); ok {
			values[k] = v
		}
	}
	for k := range b.c.Keys() {
		if _, listed := values[k]; listed {
			continue
		}
		if v, ok := b.value(k); ok {
			values[k] = v
		} else if b.c.derives {
			keys = append(keys, k)
		}
	}
	return slices.AppendSeq(keys, maps.Keys(values)), values
}
