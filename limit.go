package cacheman

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// Limit bounds how much is kept, in memory and on disk. The zero Limit is none.
//
// When there is more, entries are evicted in the background, those first that
// were built or set longest ago, until a sixteenth of the room is free. Of what a
// builder made, the value goes, and what it was computed from stays, with a
// fingerprint: the value is built when somebody asks for it, and what was computed
// from it stays valid, and stays so if it comes out the same. Of an entry
// that was set nothing stays: it is deleted.
//
// For a while there may be a quarter more than the limit, or some dozens: whoever adds
// entries faster than others are evicted waits for that, a millisecond at most each time. Whatever was
// not saved yet does not count as Bytes. What stays of entries that were evicted,
// or invalidated and not built since, is dropped, in the same order, when it is of
// as many entries as Entries, or takes a quarter of Bytes; kept errors count as
// that. Of entries that nobody has read nothing stays. Until the builders that are
// running have returned, what they need of that stays. What another Version has built counts like what this one has. Values so
// small that nothing would be gained go as a whole where Bytes are wanted. It is
// looked when something was built, set or saved, or contents were loaded as a whole;
// to find out what there is, contents are loaded when the limit may have been reached.
// With [Options].ReadOnly only the Limits of caches in memory count.
type Limit struct {
	Entries int   // how many
	Bytes   int64 // of keys, values and what they were computed from, as they are encoded
}

func (l Limit) check(memory bool) error {
	switch {
	case l.Entries < 0 || l.Bytes < 0:
		return fmt.Errorf("%w: a Limit is negative", ErrSpec)
	case l.Bytes > 0 && memory:
		return fmt.Errorf("%w: caches in memory can be limited by Entries only", ErrSpec)
	}
	return nil
}

// slack is how much of a limit may be exceeded, and is made free.
const slack = 16

// leastSlack is how many entries may come while others are evicted, if a sixteenth of the limit is less.
const leastSlack = 16

// keptResidents is for how many residents there is room from one turn to the next.
const keptResidents = 1 << 16

// limiter enforces a limit of one cache, or of all.
type limiter struct {
	m     *Manager
	limit Limit
	only  *core // nil: all caches with a builder of entries

	entries atomic.Int64 // how many may be edited …
	bytes   atomic.Int64 // … and bytes saved, before it has to be looked again

	turn     atomic.Pointer[chan struct{}] // that is under way, closed when it ends; nil: there is none
	all      []resident                    // room for residents; that of the turn, as is
	had      int                           // how many there were
	stopping sync.Once
	ctx      context.Context
	cancel   context.CancelFunc
}

func newLimiter(m *Manager, limit Limit, only *core) *limiter {
	if limit == (Limit{}) || m.opts.ReadOnly && (only == nil || only.lane != nil) {
		return nil
	}
	l := &limiter{m: m, limit: limit, only: only}
	l.ctx, l.cancel = context.WithCancel(m.ctx)
	l.entries.Store(more(int64(l.limit.Entries), 0))
	l.bytes.Store(more(l.limit.Bytes, 0))
	return l
}

// allow adds what may come to what there is, as values or as what they leave.
func (l *limiter) allow(entries, traces, bytes, traceBytes int64) {
	l.entries.Add(more(int64(l.limit.Entries), max(entries, traces)))
	l.bytes.Add(min(more(l.limit.Bytes, bytes), more(l.limit.Bytes/4, traceBytes)))
}

// more returns how much may come to n before it is looked again: something at any rate, or
// as long as too much is needed all would be gone through each time that anything comes.
func more(limit, n int64) int64 { return max(room(limit)-n, limit/slack) }

// room returns how much there may be for a while under a limit.
func room(limit int64) int64 { return max(limit, limit+limit/slack) } // which may be as large as can be

// full reports whether it is to be looked again.
func (l *limiter) full() bool {
	return l.limit.Entries > 0 && l.entries.Load() < 0 || l.limit.Bytes > 0 && l.bytes.Load() < 0
}

// limited makes c subject to the limits that concern it. The gate is held
// exclusively.
func (c *core) limited(limit Limit, fromBuilder bool) {
	if c.off || strings.HasPrefix(c.slot.name, ours) {
		return
	}
	limits := []*limiter{newLimiter(c.m, limit, c)}
	if fromBuilder {
		limits = append(limits, c.m.limiter)
	}
	for _, l := range limits {
		if l == nil {
			continue
		}
		c.limits = append(c.limits, l)
		if !c.slot.stored {
			continue
		}
		const compressed = 8 // by how much records may have been, by a guess
		l.entries.Add(-int64(c.slot.records))
		l.bytes.Add(-c.slot.bytes * compressed)
		if c.slot.records < 0 || c.slot.bytes < 0 {
			l.entries.Store(-1)
			l.bytes.Store(-1)
		}
	}
}

// grew counts what was edited and saved.
func (c *core) grew(entries, bytes int64) {
	for _, l := range c.limits {
		l.entries.Add(-entries)
		l.bytes.Add(-bytes)
		if l.full() {
			l.begin()
		}
	}
}

// begin sees to it that a turn is under way.
func (l *limiter) begin() {
	turn, ok := l.take()
	if !ok {
		return // what has come is left to that one
	}
	go func() {
		evicted := false
		defer func() {
			l.turn.Store(nil)
			if evicted && l.full() {
				l.begin()
			}
			close(turn)
		}()
		evicted = l.evict(l.ctx)
	}()
}

// take makes the caller the one who evicts, unless there is one.
func (l *limiter) take() (turn chan struct{}, ok bool) {
	if l.turn.Load() != nil {
		return nil, false
	}
	turn = make(chan struct{})
	return turn, l.turn.CompareAndSwap(nil, &turn)
}

// heed makes who is about to add something wait while entries come faster than they are
// evicted: until that has come round once, or for a while, since it may be what evicts, or be waited
// for by that. No lock is held.
func (c *core) heed() {
	for _, l := range c.limits {
		if l.limit.Entries == 0 || l.entries.Load() >= -max(int64(l.limit.Entries)/slack, leastSlack) {
			continue
		}
		l.begin()
		if turn := l.turn.Load(); turn != nil {
			t := time.NewTimer(time.Millisecond)
			select {
			case <-*turn:
			case <-t.C:
			}
			t.Stop()
		}
	}
}

// cores returns the caches that l is for.
func (l *limiter) cores() (cores []*core) {
	if l.only != nil {
		return []*core{l.only}
	}
	l.m.gate.RLock()
	defer l.m.gate.RUnlock()
	for _, s := range l.m.slots {
		if s.cache != nil && slices.Contains(s.cache.limits, l) {
			cores = append(cores, s.cache)
		}
	}
	return cores
}

// resident is an entry that may be evicted, and what is known of it.
type resident struct {
	c     *core
	entry any
	age   uint64 // the revision at which it was built or set
	size  int64
	trace bool // it has no value
}

// oldest is a heap of residents: its root is the one that was built or set longest ago.
type oldest []resident

func (o oldest) Len() int           { return len(o) }
func (o oldest) Less(i, j int) bool { return o[i].age < o[j].age }
func (o oldest) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *oldest) Push(r any)        { *o = append(*o, r.(resident)) }
func (o *oldest) Pop() any {
	last := len(*o) - 1
	r := (*o)[last]
	*o = (*o)[:last]
	return r
}

// enforce evicts what is too much. A failure to load contents is an event.
func (l *limiter) enforce(ctx context.Context) {
	for l.full() && ctx.Err() == nil && l.evict(ctx) {
	}
}

// evict evicts what is too much at the moment, and reports whether it could, or that is
// nothing.
func (l *limiter) evict(ctx context.Context) bool {
	start := time.Now()
	l.entries.Store(0) // from here on what comes is counted
	l.bytes.Store(0)
	all := slices.Grow(l.all, l.had+l.had/slack)
	for _, c := range l.cores() {
		if err := c.typed.prepare(ctx, false); err != nil {
			if ctx.Err() != nil {
				return false
			}
			continue // the limit holds for the others all the same
		}
		all = c.typed.residents(all)
	}
	l.all, l.had = nil, len(all)
	if cap(all) <= keptResidents {
		l.all = all[:0]
		defer clear(all[:cap(all)])
	}
	entries, bytes, traceBytes := 0, int64(0), int64(0)
	for i, r := range all {
		bytes += r.size
		if r.trace {
			traceBytes += r.size
		} else {
			all[entries], all[i] = r, all[entries]
			entries++
		}
	}
	values, left := oldest(all[:entries]), oldest(all[entries:])
	traces := len(left)
	defer func() { l.allow(int64(entries), int64(traces), bytes, traceBytes) }()
	full := func(n, limit int64) bool { return limit > 0 && n > limit }
	if !full(int64(entries), int64(l.limit.Entries)) && !full(bytes, l.limit.Bytes) &&
		!full(int64(traces), int64(l.limit.Entries)) && !full(traceBytes, l.limit.Bytes/4) {
		return true
	}
	wanted := Limit{l.limit.Entries - l.limit.Entries/slack, l.limit.Bytes - l.limit.Bytes/slack}
	tooMany := func() bool {
		return full(int64(entries), int64(wanted.Entries)) || full(bytes, wanted.Bytes)
	}
	evict := func(r *resident, whole bool) (size, remains int64, ok bool) {
		if size, remains, ok = r.c.typed.evict(ctx, r.entry, r.age, whole); ok {
			l.entries.Add(1) // it was counted as an edit
		}
		return size, remains, ok
	}
	evicted := make(map[*core]int)
	gone := 0 // of what values have left
	heap.Init(&values)
	for len(values) > 0 && tooMany() && ctx.Err() == nil {
		r := heap.Pop(&values).(resident)
		size, remains, ok := evict(&r, false)
		if !ok {
			continue
		}
		bytes += size - r.size // it may have been saved meanwhile
		r.size = size
		if remains >= r.size && r.size > 0 && full(bytes, wanted.Bytes) { // nothing is gained by that
			if _, _, ok := evict(&r, true); ok {
				remains = 0
			}
		}
		evicted[r.c]++
		entries--
		bytes -= r.size - min(remains, r.size)
		if remains > 0 {
			r.size = min(remains, r.size)
			traces++
			traceBytes += r.size
			left = append(left, r)
		}
	}
	tooMany = func() bool {
		return full(int64(traces), int64(wanted.Entries)) || full(traceBytes, wanted.Bytes/4)
	}
	heap.Init(&left)
	for len(left) > 0 && tooMany() && ctx.Err() == nil {
		r := heap.Pop(&left).(resident)
		if _, _, ok := evict(&r, true); ok {
			gone++
			traces--
			traceBytes -= r.size
			bytes -= r.size
		}
	}
	for c, n := range evicted {
		c.evictions.Add(int64(n))
		l.m.emit(Event{Kind: EventEvicted, Cache: c.slot.name, Count: n, Duration: time.Since(start), Reason: "there is a limit"})
	}
	return len(evicted)+gone > 0
}

// stopLimits completes what limits demand, unless ctx ends, before the Manager
// closes.
func (m *Manager) stopLimits(ctx context.Context) {
	m.gate.RLock()
	limits := make(map[*limiter]bool)
	for _, s := range m.slots {
		if s.cache != nil {
			for _, l := range s.cache.limits {
				limits[l] = true
			}
		}
	}
	m.gate.RUnlock()
	for l := range limits {
		l.stop(ctx)
	}
}

// wait is take, once there is nobody who evicts. Who adds something does not wait for the caller.
func (l *limiter) wait() {
	for {
		if turn, ok := l.take(); ok {
			close(turn)
			return
		}
		if turn := l.turn.Load(); turn != nil {
			<-*turn
		}
	}
}

// stop is the end of l.
func (l *limiter) stop(ctx context.Context) {
	l.stopping.Do(func() {
		defer l.cancel()
		defer context.AfterFunc(ctx, l.cancel)()
		l.wait() // and nobody evicts afterwards
		l.enforce(l.ctx)
	})
}

// sizeOf returns how much a record counts.
func sizeOf(r store.Record) uint32 {
	return uint32(min(int64(len(r.Key)+len(r.Value)+len(r.Meta)), math.MaxUint32))
}

// residents implements typed.
func (c *Cache[K, V]) residents(all []resident) []resident {
	t := c.table.Load()
	g := c.m.graph
	some := make([]*entry[K, V], 0, touchAtOnce)
	flush := func() {
		touched := uint64(0) // before the graph is locked: see shard.touch
		for _, e := range some {
			touched += uint64(e.kind)
		}
		for _, e := range some {
			if e.node != nil {
				touched += e.node.Built
			}
		}
		runtime.KeepAlive(touched)
		g.Lock()
		for _, e := range some {
			trace, size := e.isTrace(), int64(e.size)
			switch {
			case !e.left():
				continue
			case trace && e.dirty != 0:
				size = 0 // it is that of the value
			}
			all = append(all, resident{&c.core, e, e.age(), size, trace})
		}
		g.Unlock()
		some = some[:0]
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, e := range s.entries {
			if some = append(some, e); len(some) == touchAtOnce {
				flush()
			}
		}
		flush()
		s.mu.RUnlock()
	}
	return all
}

// isTrace reports whether all that there is of e is what its value has left, or an
// error, which takes no more and is needed like that. Its shard and the graph are locked.
func (e *entry[K, V]) isTrace() bool {
	old, remembered := e.old()
	if remembered && old.kind.held() { // it was invalidated, or is outdated and counts
		return e.node.Why().Reason != graph.Outdated
	}
	return remembered || e.kind == dropped || e.kind == broken || e.kind == lacking
}

// left reports whether there is anything of e, also if another version has built it. Its
// shard and the graph are locked.
func (e *entry[K, V]) left() bool {
	return e.kind != absent || e.isTrace() || e.node != nil && e.node.Why().Reason == graph.Outdated
}

// evict implements typed: it takes the value of an entry that is as old as age,
// or if whole is set what its value has left, and returns how many bytes it had, and about
// how many are left. Nothing that was computed from the entry changes by that, unless it
// was set, and then it is deleted.
func (c *Cache[K, V]) evict(ctx context.Context, x any, age uint64, whole bool) (size, left int64, ok bool) {
	k := x.(*entry[K, V]).key
	g := c.m.graph
	_, s := c.rlock(k)
	e := s.entries[k]
	if e == nil {
		s.mu.RUnlock()
		return 0, 0, false
	}
	g.Lock()
	was := e.state()
	size = int64(e.size)
	saved := e.dirty == 0                                         // or that is of another value
	taken := e.kind == dropped || e.kind == absent && e.isTrace() // its value, by another limiter
	same := e.age() == age && e.left() && (whole || !taken)
	made := e.node != nil && e.node.Kind() != graph.Input
	value := was
	if old, remembered := e.old(); remembered && !e.isTrace() { // another version has built it
		value = old
	}
	g.Unlock()
	s.mu.RUnlock()
	if !same {
		return 0, 0, false
	}
	now := func(e *entry[K, V]) bool {
		return e != nil && (e.kind == was.kind || was.kind == encoded && e.kind == decoded) && (was.kind == absent || e.current() > 0 == (was.kind != missing))
	}
	if !made {
		err := c.write("evict", k, func(t *table[K, V], s *shard[K, V]) (bool, *graph.Run) {
			e := s.entries[k]
			if ok = now(e) && e.current() == age; !ok {
				return false, nil
			}
			changed, wait := c.take(t, s, k)
			if e := s.entries[k]; wait == nil && e != nil && e.node != nil {
				g.Lock()
				s.release(t, e)
				g.Unlock()
			}
			return changed, wait
		})
		return size, 0, ok && err == nil
	}
	st := state[V]{}
	if value.kind.held() && !whole {
		raw, known := rawBytes(value.raw), true
		if value.kind == decoded {
			var err error
			raw, err = c.encode(ctx, k, value.value, nil)
			known = err == nil && c.spec.Codec.Append != nil
		}
		st.kind = dropped // and will be taken for another when it is built again, unless it is
		if known {
			st.raw = fingerprint(raw)
			left = 1
			if saved {
				left = max(size-int64(len(raw))+fingerprintSize, 1)
			}
		}
	}
	m := c.m
	m.gate.RLock()
	defer m.gate.RUnlock()
	if c.writable() != nil {
		return 0, 0, false
	}
	t := c.table.Load()
	s = t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	g.Lock()
	defer g.Unlock()
	e = s.entries[k]
	if !now(e) || e.node == nil || e.node.Built != age || e.node.Kind() == graph.Input || e.node.Building() {
		return 0, 0, false
	}
	keys := c.keys.Load()
	if was.kind.held() && keys != nil {
		if g.Needed(keys) || g.Mark(keys) != nil {
			return 0, 0, false // some other time
		}
		c.keyChanged(keys, k, false)
	}
	if st.kind == dropped && was.kind.held() && !c.sharing() && e.node.Unread() && !g.Needed(e.node) {
		st, left = state[V]{}, 0 // its trace would be of no use
	}
	if st.kind == absent && (g.Needed(e.node) || g.Mark(e.node) != nil) {
		return 0, 0, false
	}
	outdated := was.kind == absent && st.kind == dropped
	if outdated && e.isTrace() {
		return 0, 0, false // it was invalidated meanwhile
	}
	n := e.node
	s.change(t, e, e.lockedVersion)
	if outdated {
		n.Remember(st)
	} else {
		e.hold(st)
		s.live -= held(was.kind)
	}
	if st.kind == absent {
		n.Force(n.Kind(), graph.Evicted)
		s.release(t, e)
	}
	c.edited(1)
	return size, left, true
}

// release forgets what e had, which has no value now. s and the graph are locked.
func (s *shard[K, V]) release(t *table[K, V], e *entry[K, V]) {
	e.node.Remember(nil)
	if !t.recorded && e.node.Forget() {
		delete(s.entries, e.key)
	}
}

// age is the revision at which e was built or set. Its shard and the graph are
// locked.
func (e *entry[K, V]) age() uint64 {
	switch {
	case e.node == nil:
		return e.stamp.Load()
	case e.node.Kind() == graph.Input:
		return e.node.Stamp
	}
	return e.node.Built
}

// want sees to it that the value of k, which was evicted, is built by whoever
// asks for it next.
func (c *Cache[K, V]) want(k K) {
	_, s := c.rlock(k)
	defer s.mu.RUnlock()
	g := c.m.graph
	g.Lock()
	defer g.Unlock()
	if e := s.entries[k]; e != nil && e.kind == dropped && e.node.State() == graph.Clean && !e.node.Building() {
		g.Mark(e.node) // what was computed from it has to look whether it is the same
		e.node.Distrust(graph.Evicted)
	}
}

const fingerprintSize = 16

// fingerprint stands for a value that was evicted.
func fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return string(sum[:fingerprintSize])
}
