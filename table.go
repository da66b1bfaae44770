package cacheman

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// table holds the entries of a cache. Whatever concerns the contents as a
// whole (loading, clearing, growing) makes a new table and puts it in place of
// the old one while the gate is held exclusively, so that writers, who hold it
// shared, see one or the other. Readers do not hold it: they may go on with a
// table that was just replaced, which is as if they had come a little earlier.
type table[K comparable, V any] struct {
	shards []shard[K, V] // 1 or manyShards
	hash   func(K) uint64
	spare  []entry[K, V] // allocated and not used yet; see fill

	recorded bool   // changes are recorded, to be saved
	gen      uint32 // number of the next cut, from 1; changed with the gate held exclusively
	saving   bool   // a cut is being written; changed with the gate held exclusively
	cleared  bool   // what the store has is void; guarded by the gate
	rewrite  bool   // the store has nothing of this; the next save writes all; guarded by the gate
}

const (
	manyShards = 64
	growAt     = 1024 // entries of a single shard
)

// shard is a part of a table, with a lock of its own.
type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	live    int // entries that are not absent
	entries map[K]*entry[K, V]
	flights map[K]*building[V] // the builds that may store their result

	dirty  []*entry[K, V]            // changed since the last cut: exactly those with entry.dirty == gen
	taken  []*entry[K, V]            // in the cut that is being written
	before map[*entry[K, V]]state[V] // those of them that changed again before they were written, as they were

	hits, misses atomic.Uint64
	_            [32]byte // shards on cache lines of their own
}

// entry is one key's value. Its shard's lock guards it.
type entry[K comparable, V any] struct {
	key K
	state[V]
	changes uint64 // how often it changed
	dirty   uint32 // the cut this will be in; an older one: it is in that, not written yet; 0: it is saved
}

// state is what an entry holds.
type state[V any] struct {
	value V      // if kind is decoded
	raw   string // if kind is encoded: the value as it was stored, until somebody reads it
	kind  kind
}

type kind uint8

const (
	absent  = kind(iota) // deleted, and the store may not know it yet
	encoded              // loaded, not read yet
	decoded
)

func newTable[K comparable, V any](shards int, recorded bool) *table[K, V] {
	return &table[K, V]{shards: make([]shard[K, V], shards), hash: hasher[K](), recorded: recorded, gen: 1}
}

// shardsFor is the number of shards for n entries.
func shardsFor(n int) int {
	if n > growAt {
		return manyShards
	}
	return 1
}

// shard returns the shard of k.
func (t *table[K, V]) shard(k K) *shard[K, V] {
	if len(t.shards) == 1 {
		return &t.shards[0]
	}
	return &t.shards[t.hash(k)%manyShards]
}

// len returns the number of entries.
func (t *table[K, V]) len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += s.live
		s.mu.RUnlock()
	}
	return n
}

// set gives k a value. The gate and s.mu are held.
func (s *shard[K, V]) set(t *table[K, V], k K, v V) {
	e := s.entry(k)
	s.change(t, e)
	if e.kind == absent {
		s.live++
	}
	e.state = state[V]{value: v, kind: decoded}
}

// delete makes k absent, and reports whether it was not. A trace of it is kept
// if the store may have it. The gate and s.mu are held.
func (s *shard[K, V]) delete(t *table[K, V], k K, loaded bool) bool {
	e := s.entries[k]
	if e == nil && (loaded || !t.recorded) {
		delete(s.flights, k)
		return false
	}
	if e == nil {
		e = s.entry(k)
	}
	s.change(t, e)
	was := e.kind != absent
	if was {
		s.live--
	}
	e.state = state[V]{}
	if !t.recorded {
		delete(s.entries, k)
	}
	return was
}

// entry returns the entry of k, making an absent one if there is none.
func (s *shard[K, V]) entry(k K) *entry[K, V] {
	e := s.entries[k]
	if e == nil {
		if s.entries == nil {
			s.entries = make(map[K]*entry[K, V])
		}
		e = &entry[K, V]{key: k}
		s.entries[k] = e
	}
	return e
}

// version tells one value of a key from all others it ever had.
type version[K comparable, V any] struct {
	entry  *entry[K, V] // nil: it has none
	change uint64
}

// version returns the version of k's value. s.mu is held.
func (s *shard[K, V]) version(k K) version[K, V] {
	if e := s.entries[k]; e != nil && e.kind != absent {
		return version[K, V]{e, e.changes}
	}
	return version[K, V]{}
}

// change records that e is about to change. What a running build of it makes
// is out of date from here on.
func (s *shard[K, V]) change(t *table[K, V], e *entry[K, V]) {
	if len(s.flights) > 0 {
		delete(s.flights, e.key)
	}
	e.changes++
	if !t.recorded || e.dirty == t.gen {
		return
	}
	if e.dirty != 0 && t.saving {
		if s.before == nil {
			s.before = make(map[*entry[K, V]]state[V])
		}
		s.before[e] = e.state
	}
	e.dirty = t.gen
	s.dirty = append(s.dirty, e)
}

// absorb puts the entries of old in t, over those that t has, as unsaved if
// they are unsaved there. Entries are copied, for readers may be at old yet. If
// loaded is set, t has what the store has, and traces of saved deletions have
// served their purpose. The gate is held exclusively.
func (t *table[K, V]) absorb(old *table[K, V], loaded bool) {
	for i := range old.shards {
		from := &old.shards[i]
		from.mu.Lock()
		unsaved := make(map[*entry[K, V]]bool, len(from.taken))
		for _, e := range from.taken {
			unsaved[e] = true // the cut may fail
		}
		for k, e := range from.entries {
			s := t.shard(k)
			copied := s.entry(k)
			if copied.kind != absent {
				s.live--
			}
			if e.kind != absent {
				s.live++
			}
			copied.state = e.state
			dirty := e.dirty != 0 || unsaved[e]
			if dirty && copied.dirty == 0 {
				copied.dirty = t.gen
				s.dirty = append(s.dirty, copied)
			}
			if loaded && e.kind == absent && copied.dirty == 0 {
				delete(s.entries, k)
			}
		}
		for k, f := range from.flights {
			t.shard(k).fly(k, f)
		}
		s := &t.shards[0]
		s.hits.Add(from.hits.Load())
		s.misses.Add(from.misses.Load())
		from.mu.Unlock()
	}
	t.cleared = t.cleared || old.cleared
	t.rewrite = t.rewrite || old.rewrite
}

// fly makes f the build that may store its result for k.
func (s *shard[K, V]) fly(k K, f *building[V]) {
	if s.flights == nil {
		s.flights = make(map[K]*building[V])
	}
	s.flights[k] = f
}

// building is a running builder of one entry, and in the end its result.
type building[V any] struct {
	*flight.Run
	value V     // valid when the run is finished
	err   error // likewise
}

// hasher returns a hash function for keys.
func hasher[K comparable]() func(K) uint64 {
	if f, ok := any(hashString).(func(K) uint64); ok {
		return f
	}
	return func(k K) uint64 { return maphash.Comparable(seed, k) }
}

var seed = maphash.MakeSeed()

func hashString(s string) uint64 { return maphash.String(seed, s) }
