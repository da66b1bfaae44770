package cacheman

import (
	"errors"
	"hash/maphash"
	"math/bits"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// table holds the entries of a cache. Whatever concerns the contents as a
// whole (loading, clearing, growing) makes a new table and puts it in place of
// the old one while the gate is held exclusively, so that writers, who hold it
// shared, see one or the other. Readers do not hold it: they may go on with a
// table that was just replaced, which is as if they had come a little earlier. But
// where the entries have moved to the new one, and their nodes with them, what
// those say is no more about the values that are left: see Cache.rlock.
type table[K comparable, V any] struct {
	shards   []shard[K, V] // 1 or manyShards
	hash     func(K) uint64
	strict   bool          // there are values of K that have no hash: place panics for them, before anything is locked
	spare    []entry[K, V] // allocated and not used yet; see fill
	together int           // how many are allocated at a time

	former *table[K, V] // of contents that are yet to be built: what BuildAll had made in another version, to be compared with. Not changed

	filled [][]*entry[K, V] // by shard: made by fill, and not in its map yet; see settle

	whole    string     // what the contents as a whole were built from, as it was stored
	unbuilt  bool       // they are yet to be built as a whole, as it was stored
	notes    []store.Op // on what a file or a Load hook has given, and was not known
	partial  bool       // what it has not may be in the store; not changed once readers have it
	recorded bool       // changes are recorded, to be saved
	gen      uint32     // number of the next cut, from 1; changed with the gate held exclusively
	saving   bool       // a cut is being written; changed with the gate held exclusively
	cleared  bool       // what the store has is void; guarded by the gate
	rewrite  bool       // the store has nothing of this; the next save writes all; guarded by the gate
}

const (
	manyShards = 64
	growAt     = 1024 // entries of a single shard
)

// shard is a part of a table, with a lock of its own. It fills two lines of the
// processor's cache, of which reads need the first.
type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]*entry[K, V]

	hits, misses atomic.Uint64

	live  int  // entries that have a value
	moved bool // another table has the entries, and their nodes

	dirty  []*entry[K, V]              // changed since the last cut: exactly those with entry.dirty == gen
	taken  []*entry[K, V]              // in the cut that is being written
	before map[*entry[K, V]]version[V] // those of them that changed again before they were written, as they were

	needed int // entries without a value when it was found out last which somebody needs; see prune
}

// entry is one key's value. Its shard's lock guards it; if it has a node, what it holds is
// changed with the graph's lock as well (see getting.again). There may be millions, and
// with a string and a pointer it just fits a line of the processor's cache; so its
// state is in parts.
type entry[K comparable, V any] struct {
	key   K
	value V
	stamp atomic.Uint64 // the revision at which it last changed, if there is no node; 0: it has no value. Otherwise see fresh
	node  *graph.Node   // what it was computed from, and what was computed from it; nil if there is nothing of that
	raw   *byte
	len   uint32 // of raw
	dirty uint32 // the cut this will be in; an older one: it is in that, not written yet; 0: it is saved
	size  uint32 // bytes of its record when it was last saved or loaded, where there is a Limit
	kind  kind
}

// state returns what e holds.
func (e *entry[K, V]) state() state[V] {
	return state[V]{value: e.value, raw: unsafe.String(e.raw, e.len), kind: e.kind}
}

// How many entries are touched before they are used one after the other, and how much of
// what each refers to.
const (
	touchAtOnce = 64
	touchBytes  = 256
	cacheLine   = 64
)

// touch reads a byte of each line of the processor's cache that entries hold something
// in. These lie all over the memory: read one after the other for no other purpose, the
// processor waits for many of them at a time.
func (s *shard[K, V]) touch(entries []*entry[K, V]) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var touched byte
	for _, e := range entries {
		touched += touchLines(e.state().raw) + touch(&e.value)
	}
	runtime.KeepAlive(touched)
}

// touchEnds is touch for an entry itself.
func touchEnds[K comparable, V any](e *entry[K, V]) byte {
	return *(*byte)(unsafe.Pointer(e)) + byte(e.kind)
}

// touch is shard.touch for what v refers to.
func touch[T any](v *T) byte {
	switch v := any(v).(type) {
	case *string:
		return touchLines(*v)
	case *[]byte:
		return touchLines(unsafe.String(unsafe.SliceData(*v), len(*v)))
	}
	return 0
}

// touchLines is touch for the bytes of s.
func touchLines(s string) (touched byte) {
	for s = s[:min(len(s), touchBytes)]; len(s) > cacheLine; s = s[cacheLine:] {
		touched += s[0]
	}
	if s != "" {
		touched += s[0] + s[len(s)-1]
	}
	return touched
}

// touchNodes is touch for the nodes of entries. The shard is locked.
func touchNodes[K comparable, V any](entries []*entry[K, V]) {
	touched := 0
	for _, e := range entries {
		touched += int(e.kind)
	}
	for _, e := range entries {
		if n := e.node; n != nil && n.Fresh() {
			touched++
		}
	}
	for _, e := range entries {
		if n := e.node; n != nil && !n.Marked() && !n.Fresh() {
			touched += int(n.Built)
		}
	}
	runtime.KeepAlive(touched)
}

// hold makes st what e holds.
func (e *entry[K, V]) hold(st state[V]) {
	e.value, e.raw, e.len, e.kind = st.value, unsafe.StringData(st.raw), uint32(len(st.raw)), st.kind
}

// state is what an entry holds.
type state[V any] struct {
	value V      // if kind is decoded
	raw   string // if kind is encoded: the value as it was stored, until somebody reads it; if broken, lacking or dropped, see there. Less than 4 GiB
	kind  kind
}

type kind uint8

const (
	absent  = kind(iota) // there is nothing, and the store may not know it yet
	missing              // a builder said that there is no value
	broken               // it said that there is an error, in raw, which is to be kept
	lacking              // it said that there is no value, and more, in raw
	dropped              // the value was evicted, or invalidated and saved as that; in raw is its fingerprint, or nothing if there is none
	encoded              // loaded, not read yet
	decoded
)

// held reports whether an entry of kind k has a value.
func (k kind) held() bool { return k >= encoded }

// stamped reports whether an entry of kind k has a stamp: what is built in its
// place can be the same.
func (k kind) stamped() bool { return k >= broken }

// failure is the error of reading an entry without a value.
func (s state[V]) failure() error {
	switch s.kind {
	case broken:
		return &KeptError{Text: s.raw}
	case lacking:
		return &KeptError{Text: s.raw, Err: ErrNotFound}
	}
	return ErrNotFound
}

// version is what is saved of an entry.
type version[V any] struct {
	state[V]
	trace
}

// trace is where an entry's value comes from.
type trace struct {
	stamp uint64
	kind  graph.Kind
	edges []graph.Edge
	saved string // instead of edges, if they were not looked at since they were loaded
	built uint64
	took  time.Duration

	forced bool // it was invalidated: the state is what it had, and it is to be built whatever its edges say
}

// version returns what is to be saved of e. Its shard is locked.
func (e *entry[K, V]) version() version[V] {
	if e.node != nil {
		g := e.node.Owner().Graph()
		g.Lock()
		defer g.Unlock()
	}
	return e.lockedVersion()
}

// lockedVersion is version with the graph locked, if e has a node.
func (e *entry[K, V]) lockedVersion() version[V] {
	if e.node == nil {
		return version[V]{state: e.state(), trace: trace{stamp: e.stamp.Load()}}
	}
	v := version[V]{e.state(), traceOf(e.node)}
	if old, ok := e.old(); ok {
		v.state, v.forced = old, true
		v.edges, v.saved = nil, ""
	}
	return v
}

// old returns what e had, if it was invalidated and that is remembered. Its shard
// and the graph are locked.
func (e *entry[K, V]) old() (old state[V], ok bool) {
	if e.kind == absent && e.node != nil {
		old, ok = e.node.Old().(state[V])
	}
	return old, ok
}

// built reports that a builder of entries has made what there is of e. Its shard is locked.
func (e *entry[K, V]) built() bool {
	if e.node == nil {
		return false
	}
	g := e.node.Owner().Graph()
	g.Lock()
	defer g.Unlock()
	return e.node.Kind() != graph.Input
}

// traceOf returns where the value of n comes from. The graph is locked.
func traceOf(n *graph.Node) trace {
	return trace{stamp: n.Stamp, kind: n.Kind(), edges: n.Edges(), saved: n.Saved(), built: n.Built, took: n.Took()}
}

// forget reports that nothing is lost if e, which has no value, is taken from
// its shard, which is then to be done. The shard is locked.
func (e *entry[K, V]) forget() bool {
	if e.node == nil {
		return true
	}
	g := e.node.Owner().Graph()
	g.Lock()
	defer g.Unlock()
	if e.node.Kind() != graph.Input && e.node.Why().Reason == graph.Invalidated {
		return false // it says why it will be built, and goes with prune
	}
	return e.node.Old() == nil && e.node.Forget()
}

// seen is a bit that no stamp has.
const seen = 1 << 63

// fresh reports whether e, of a cache with the owner o, is clean. It may be so
// without fresh knowing. To see it again, as long as nothing in the cache is
// marked, needs no look at the node. The shard of e is locked.
func (e *entry[K, V]) fresh(o *graph.Owner) bool {
	if e.node == nil {
		return true
	}
	marks := o.Marks() | seen // before the node is looked at
	if e.stamp.Load() == marks {
		return true
	}
	if !e.node.Fresh() {
		return false
	}
	e.stamp.Store(marks)
	return true
}

// current returns the stamp of e. Its shard is locked.
func (e *entry[K, V]) current() uint64 {
	if e.node != nil {
		return e.node.Stamp
	}
	return e.stamp.Load()
}

// unsaved returns how many entries of a table nobody else has yet are unsaved.
func (t *table[K, V]) unsaved() (n int) {
	for i := range t.shards {
		n += len(t.shards[i].dirty)
	}
	return n
}

// lacks reports whether entries were removed from t, which the store does not know.
func (t *table[K, V]) lacks() bool {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		lacks := slices.ContainsFunc(s.dirty, func(e *entry[K, V]) bool { return e.kind == absent })
		s.mu.RUnlock()
		if lacks {
			return true
		}
	}
	return false
}

func newTable[K comparable, V any](shards int, recorded bool) *table[K, V] {
	return &table[K, V]{shards: make([]shard[K, V], shards), hash: hasher[K](), strict: holds(reflect.TypeFor[K](), reflect.Interface), recorded: recorded, gen: 1}
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
	return &t.shards[t.place(k)]
}

// place returns the number of the shard of k.
func (t *table[K, V]) place(k K) int {
	if len(t.shards) == 1 {
		if t.strict {
			t.hash(k)
		}
		return 0
	}
	return int(t.hash(k) % manyShards)
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

// entry returns the entry of k, making an absent one if there is none.
func (s *shard[K, V]) entry(k K) *entry[K, V] {
	if e := s.entries[k]; e != nil {
		return e
	}
	return s.add(k)
}

// add returns a new entry for k, which has none.
func (s *shard[K, V]) add(k K) *entry[K, V] {
	if s.entries == nil {
		s.entries = make(map[K]*entry[K, V])
	}
	e := &entry[K, V]{key: k}
	s.entries[k] = e
	return e
}

// change records that e is about to change from what it is.
func (s *shard[K, V]) change(t *table[K, V], e *entry[K, V], was func() version[V]) {
	if !t.recorded || e.dirty == t.gen {
		return
	}
	if e.dirty != 0 && t.saving {
		if s.before == nil {
			s.before = make(map[*entry[K, V]]version[V])
		}
		s.before[e] = was()
	}
	e.dirty = t.gen
	s.dirty = append(s.dirty, e)
}

// absorb moves the entries of old to t, over those that t has, as unsaved if
// they are unsaved there. Entries are copied, for readers may be at old yet, and so
// may a cut that is being written: it finds them as they were. If
// loaded is set, t has what the store has, and traces of saved deletions have
// served their purpose; if built is set, t has what BuildAll made, and if
// since is not nil, what has a stamp for which it says no is not absorbed, but for what was
// built of an entry by itself, which is right as long as that which it was built from is. The
// gate is held exclusively.
func (t *table[K, V]) absorb(old *table[K, V], loaded, built bool, since func(stamp uint64) bool) {
	cleared := t.cleared // then what is saved of old goes
	for i := range old.shards {
		from := &old.shards[i]
		from.mu.Lock()
		from.moved = true
		unsaved := make(map[*entry[K, V]]bool, len(from.taken))
		for _, e := range from.taken {
			unsaved[e] = true // the cut may fail
			if from.before == nil {
				from.before = make(map[*entry[K, V]]version[V])
			}
			if _, changed := from.before[e]; !changed {
				from.before[e] = e.version()
			}
		}
		for k, e := range from.entries {
			s := t.shard(k)
			switch {
			case !built:
			case e.kind == absent: // it was asked for, or removed, before it was there
				continue
			case e.built():
				if s.entries[k] != nil { // it was not listed then
					continue
				}
			case since != nil && !since(e.current()): // it is of earlier contents
				continue
			}
			copied := s.entry(k)
			if copied.kind.held() {
				s.live--
			}
			if e.kind.held() {
				s.live++
			}
			copied.hold(e.state())
			copied.stamp.Store(e.stamp.Load())
			copied.size = e.size
			if copied.node = e.node; e.node != nil {
				graph.SetEntry(e.node, copied)
			}
			dirty := e.dirty != 0 || unsaved[e] || cleared && e.kind != absent
			if dirty && copied.dirty == 0 {
				copied.dirty = t.gen
				s.dirty = append(s.dirty, copied)
			}
			if loaded && e.kind == absent && copied.dirty == 0 && copied.node == nil {
				delete(s.entries, k)
			}
		}
		t.shards[0].counted(from)
		from.mu.Unlock()
	}
	t.cleared = t.cleared || old.cleared
	t.rewrite = t.rewrite || old.rewrite
}

// count adds the reads of old, which t takes the place of, if absorb has not done so.
// The gate is held exclusively.
func (t *table[K, V]) count(old *table[K, V]) {
	for i := range old.shards {
		if from := &old.shards[i]; !from.moved {
			t.shards[0].counted(from)
		}
	}
}

func (s *shard[K, V]) counted(from *shard[K, V]) {
	s.hits.Add(from.hits.Load())
	s.misses.Add(from.misses.Load())
}

// hasher returns a hash function for keys.
func hasher[K comparable]() func(K) uint64 {
	for _, f := range []any{hashString, hashInt[int], hashInt[int64], hashInt[int32], hashInt[uint], hashInt[uint64], hashInt[uint32]} {
		if f, ok := f.(func(K) uint64); ok {
			return f
		}
	}
	return func(k K) uint64 { return maphash.Comparable(seed, k) }
}

// holds reports whether values of a type have parts, by which they are compared, of one
// of the given kinds: interfaces, say, which may hold what has no hash.
func holds(t reflect.Type, kinds ...reflect.Kind) bool {
	switch t.Kind() {
	case reflect.Array:
		return holds(t.Elem(), kinds...)
	case reflect.Struct:
		for f := range t.Fields() {
			if holds(f.Type, kinds...) {
				return true
			}
		}
	}
	return slices.Contains(kinds, t.Kind())
}

// unequal reports whether a value of a type may be unequal to itself: it is NaN, or has
// that somewhere.
func unequal(t reflect.Type) bool {
	return holds(t, reflect.Interface, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128)
}

// errNaN is why a cache has nothing of a key: no map would find it again.
var errNaN = errors.New("the key is, or has in it, NaN, which is not equal to itself")

// fits returns an error if no entry can be found under k.
func (c *Cache[K, V]) fits(k K) error {
	if c.nans {
		if same := k; same != k {
			return errNaN
		}
	}
	return nil
}

// fit is fits for the keys of contents.
func (c *Cache[K, V]) fit(contents map[K]V) error {
	if c.nans {
		for k := range contents {
			if err := c.fits(k); err != nil {
				return err
			}
		}
	}
	return nil
}

var seed = maphash.MakeSeed()

func hashString(s string) uint64 { return maphash.String(seed, s) }

// hashInt spreads keys that differ by a multiple of some number, as most do, evenly.
func hashInt[K int | int64 | int32 | uint | uint64 | uint32](k K) uint64 {
	hi, lo := bits.Mul64(uint64(k)^intSeed, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

var intSeed = maphash.Comparable(seed, 0)
