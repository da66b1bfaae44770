package cacheman

import (
	"cmp"
	"context"
	"runtime/debug"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// whole is what the graph sees of a cache's contents as a whole.
type whole[K comparable, V any] struct{ nodes[K, V] }

// Name implements graph.Type.
func (as whole[K, V]) Name(*graph.Node) string { return entryName(as.of.slot.name, nil) }

// NewTask implements graph.Type.
func (as whole[K, V]) NewTask() graph.Task { return &buildingAll[K, V]{c: as.of} }

// keyOf implements keyed.
func (as whole[K, V]) keyOf(*graph.Node) any { return nil }

// buildingAll is a run of BuildAll.
type buildingAll[K comparable, V any] struct {
	graph.Run
	c        *Cache[K, V]
	contents map[K]V
	began    uint64 // what was set later stays
	first    bool   // and so does what was set before, for there were no contents
}

// Base implements graph.Task.
func (b *buildingAll[K, V]) Base() *graph.Run { return &b.Run }

// Start implements graph.Task.
func (b *buildingAll[K, V]) Start(*graph.Node) {}

// Reset implements graph.Task.
func (b *buildingAll[K, V]) Reset() { b.contents, b.began, b.first = nil, 0, false }

// Keeps implements graph.Task.
func (b *buildingAll[K, V]) Keeps(error) bool { return false }

// Build implements graph.Task.
func (b *buildingAll[K, V]) Build(ctx context.Context) (err error) {
	c := b.c
	b.began = c.m.graph.Revision()
	start := now()
	err = exited // unless the builder returns
	defer func() {
		b.Took += now() - start
		if b.Cause() == ErrClosed && err != nil {
			err = ErrClosed
		}
		err = c.err(context.Background(), "build", nil, err)
		b.Err = err
	}()
	// The contents may not be loaded, as after a Follow, and for who needs only to know which keys there are.
	// What others load meanwhile were taken for set by hand, and equal values for others.
	unloaded := c.state.Load() == stateUnloaded
	if err := c.provide(ctx); err != nil {
		return err
	}
	if unloaded && c.state.Load() == stateReady { // it is to be checked what they were built from
		b.Withdraw()
		return graph.ErrStale
	}
	b.first = c.state.Load() == stateUnbuilt
	b.contents, err = c.runBuildAll(ctx)
	return refuse(&b.Run, err)
}

// Publish implements graph.Task. What was set since the run began stays.
func (b *buildingAll[K, V]) Publish() graph.Outcome {
	c := b.c
	m := c.m
	m.graph.Lock()
	outcome, edges := b.Verdict(), b.Edges() // what is read later is none of them
	m.graph.Unlock()
	switch {
	case outcome != graph.Published:
		return outcome
	case c.off:
		return graph.Volatile
	}
	t := newTable[K, V](shardsFor(len(b.contents)), c.saves())
	t.cleared = t.recorded
	for k, v := range b.contents {
		s := t.shard(k)
		e := s.entry(k)
		s.change(t, e, e.version)
		e.hold(state[V]{value: v, kind: decoded})
		e.stamp.Store(c.stampFor(k, v))
		s.live++
	}
	m.loadHand(b.Context())
	records := recorder{m: m, g: m.graph, c: &c.core}
	saved, err := records.appendEdges(nil, edges)
	if err != nil {
		saved = []byte(unknownEdges) // it will be built anew after a restart
		c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Err: err, Reason: "what its contents were built from cannot be saved"})
	}
	m.gate.Lock()
	defer m.gate.Unlock()
	m.graph.Lock()
	outcome = b.Verdict()
	m.graph.Unlock()
	if outcome != graph.Published {
		return outcome
	}
	if c.writable() != nil {
		return graph.Volatile
	}
	var since func(uint64) bool
	if !b.first {
		since = b.since
	}
	t.absorb(c.table.Load(), true, true, since)
	c.replace(t, stateReady, &b.Run)
	c.builtFrom = saved
	c.edited(int64(max(1, len(b.contents))))
	return outcome
}

// since reports whether a stamp was issued since the run began. One that another Manager of
// a shared store has issued may be above all of this one.
func (b *buildingAll[K, V]) since(stamp uint64) bool {
	return stamp > b.began && stamp <= b.c.m.graph.Revision()
}

// unbuilt implements typed.
func (c *Cache[K, V]) unbuilt() bool {
	if c.state.Load() != stateUnbuilt {
		return false
	}
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, e := range s.entries {
			if e.kind.held() && !e.built() {
				s.mu.RUnlock()
				return false
			}
		}
		s.mu.RUnlock()
	}
	return true
}

// overtakeAll sees to it that what a BuildAll that is running makes is not kept, for it
// does not know that an entry is removed. The graph is locked.
func (c *core) overtakeAll() {
	if c.all != nil {
		c.all.Owner().Overtake()
	}
}

// allBuilding reports whether a BuildAll is running: what is set meanwhile, to whatever
// value, is later than what that makes. The graph is locked.
func (c *core) allBuilding() bool { return c.all != nil && c.all.Building() }

// stampFor returns the stamp that k has if its value equals v, or a new one.
func (c *Cache[K, V]) stampFor(k K, v V) uint64 {
	t, s := c.rlock(k)
	e := s.entries[k]
	if (e == nil || !e.kind.held()) && t.former != nil {
		e = t.former.shard(k).entries[k]
	}
	if e == nil || !e.kind.held() {
		s.mu.RUnlock()
		return c.m.graph.Next()
	}
	st, stamp := e.state(), e.current()
	s.mu.RUnlock()
	if c.same(k, st, v) {
		return stamp
	}
	return c.m.graph.Next()
}

// Done implements graph.Task.
func (b *buildingAll[K, V]) Done() {
	c := b.c
	if b.Exited() {
		b.Err = c.err(context.Background(), "build", nil, &PanicError{Stack: debug.Stack()})
	}
	if b.Err == graph.ErrStale {
		return // as for one entry
	}
	e := Event{Kind: EventBuilt, Cache: c.slot.name, Count: len(b.contents), Duration: b.Took, Reason: c.reason(b.Why)}
	if b.Err != nil {
		c.failed(b.Err)
		e = Event{Kind: EventBuildFailed, Cache: c.slot.name, Duration: b.Took, Err: c.said(nil, b.Err)}
	}
	c.m.emit(e)
}

// buildAll brings the contents as a whole to what BuildAll makes now. If that has run, built
// says so, and b is its run, unless a builder has asked, which is to read what was kept.
func (c *Cache[K, V]) buildAll(ctx context.Context, q *graph.Request) (b *buildingAll[K, V], built bool, err error) {
	if ctx.Err() != nil {
		return nil, false, flight.Cause(ctx)
	}
	run, built, err := c.m.graph.Resolve(ctx, q, c.all)
	if run == nil || err != nil {
		return nil, built, err
	}
	return run.Task().(*buildingAll[K, V]), built, nil
}

func (c *Cache[K, V]) runBuildAll(ctx context.Context) (contents map[K]V, err error) {
	guard(&err, func() (err error) {
		contents, err = c.spec.BuildAll(ctx)
		return cmp.Or(err, c.fit(contents))
	})
	if contents == nil {
		contents = map[K]V{}
	}
	if c.spec.AfterLoad == nil || err != nil {
		return contents, err
	}
	all := make(map[K]V, len(contents))
	for k, v := range contents {
		if all[k], err = c.afterLoad(ctx, k, v); err != nil {
			return nil, err
		}
	}
	return all, nil
}
