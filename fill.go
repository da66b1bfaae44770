package cacheman

import (
	"context"
	"math"
	"runtime"
	"slices"
)

// expect makes room for n entries that fill will make; if n is negative, nobody knows how many.
func (t *table[K, V]) expect(n int) {
	t.together = together(n)
	n = max(n, 0) / len(t.shards)
	t.filled = make([][]*entry[K, V], len(t.shards))
	for i := range t.filled {
		t.filled[i] = make([]*entry[K, V], 0, n+n/16)
	}
}

// together returns how many of n entries, or of their nodes, are allocated at a time.
func together(n int) int {
	if n < 0 {
		n = math.MaxInt
	}
	return min(max(n, 8), 256) // a small cache is not to hold room for a large one
}

// fill makes the entry of a new key, in a table nobody else has yet, where it is found
// once settle was called. Entries that are loaded together are allocated together,
// which halves the time it takes; one that stays keeps its neighbours' room.
func (t *table[K, V]) fill(k K) (*shard[K, V], *entry[K, V]) {
	if t.filled == nil {
		t.expect(-1)
	}
	if len(t.spare) == 0 {
		t.spare = make([]entry[K, V], t.together)
	}
	e := &t.spare[0]
	t.spare = t.spare[1:]
	e.key = k
	i := t.place(k)
	t.filled[i] = append(t.filled[i], e)
	return &t.shards[i], e
}

// settle returns t, which nobody else has yet, with what fill has made in its maps, and
// with as many shards as it needs: how many records there are may not have been
// known. The maps are filled one after the other, for one of them is in the processor's
// cache as a whole, and all of them are not; that takes a third less.
func (t *table[K, V]) settle() *table[K, V] {
	if t.filled == nil {
		return t
	}
	if len(t.shards) == 1 && len(t.filled[0]) > growAt {
		t.spread()
	}
	enter := func(_ context.Context, i int) {
		var touched byte
		filled := t.filled[i]
		s := &t.shards[i]
		s.entries = make(map[K]*entry[K, V], len(filled))
		for some := range slices.Chunk(filled, 64) {
			for _, e := range some {
				touched += byte(e.kind) + touch(&e.key)
			}
			for _, e := range some {
				s.entries[e.key] = e
			}
		}
		runtime.KeepAlive(touched)
	}
	if len(t.filled) == 1 { // as in many caches: a goroutine costs more than it does
		enter(context.Background(), 0)
	} else {
		each(context.Background(), 1, numbers(len(t.filled)), enter)
	}
	t.filled = nil
	return t
}

// spread divides what fill has made among many shards.
func (t *table[K, V]) spread() {
	one, filled := &t.shards[0], t.filled[0]
	t.shards = make([]shard[K, V], manyShards)
	t.expect(len(filled))
	for _, e := range filled {
		i := t.place(e.key)
		t.filled[i] = append(t.filled[i], e)
		t.shards[i].live += held(e.kind)
	}
	for _, e := range one.dirty {
		s := t.shard(e.key)
		s.dirty = append(s.dirty, e)
	}
}
