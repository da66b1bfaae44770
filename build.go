package cacheman

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// Get returns the value of k. If the cache does not hold it, or what it was
// computed from has changed, it is built; all callers who want it meanwhile wait
// for the same run of the builder. Without a builder the error matches
// ErrNotFound; so it does if the builder said so.
//
// With the ctx of a builder, Get is tracked: what the builder makes depends on
// the entry, also if there is none.
//
// If ctx ends, Get returns at once; the build goes on as long as others wait
// for it. A read of a clean entry is a map lookup and two atomic loads.
func (c *Cache[K, V]) Get(ctx context.Context, k K) (V, error) {
	frame := graph.FrameOf(ctx)
	if frame == nil {
		if v, ok := c.peek(k, true); ok {
			return v, nil
		}
	}
	v, err := c.get(ctx, frame, k)
	if err != nil {
		err = c.err(ctx, "get", k, err)
	}
	return v, err
}

func (c *Cache[K, V]) get(ctx context.Context, frame *graph.Run, k K) (v V, err error) {
	if err := ctx.Err(); err != nil {
		return v, flight.Cause(ctx)
	}
	counted := false
	count := func(hit bool) {
		if !counted {
			counted = true
			c.count(k, hit)
		}
	}
	for {
		switch c.state.Load() {
		case stateClosed:
			return v, ErrClosed
		case stateUnloaded:
			if _, err := c.provide(ctx); err != nil {
				return v, err
			}
			continue
		}
		s := c.table.Load().shard(k)
		s.mu.RLock()
		e := s.entries[k]
		if e == nil || e.node == nil && (frame != nil || !e.kind.held()) {
			s.mu.RUnlock()
			if c.state.Load() == stateUnbuilt {
				count(false)
				t, err := c.provide(ctx)
				if err != nil {
					return v, err
				}
				if t.contents != nil && !t.stored { // built, but invalidated meanwhile
					if v, ok := t.contents[k]; ok {
						return v, nil
					}
					if c.spec.Build == nil {
						return v, ErrNotFound
					}
				}
				if t.stored || t.contents == nil {
					continue
				}
			}
			if frame == nil && c.spec.Build == nil {
				count(false)
				return v, ErrNotFound
			}
			if err := c.intern(k); err != nil {
				return v, err
			}
			continue
		}
		n := e.node
		clean := frame == nil && (n == nil || n.Fresh())
		if frame != nil {
			switch frame.Read(n) {
			case graph.Recorded, graph.Untracked:
				clean = true
			case graph.NotClean:
				clean = false
			case graph.Doubtful:
				s.mu.RUnlock()
				if !frame.Recheck() {
					return v, graph.ErrStale
				}
				continue
			case graph.Stale:
				s.mu.RUnlock()
				return v, graph.ErrStale
			}
		}
		st := e.state
		s.mu.RUnlock()
		if clean {
			switch st.kind {
			case decoded:
				count(true)
				return st.value, nil
			case encoded:
				if v, ok := c.decode(s, e, st.raw); ok {
					count(true)
					return v, nil
				}
				continue // it is gone now
			}
			count(false)
			return v, ErrNotFound
		}
		count(st.kind.held())
		run, err := c.m.graph.Resolve(ctx, n)
		if err != nil {
			if errors.Is(err, graph.ErrStale) && ctx.Err() == nil {
				continue // the entry was set or invalidated meanwhile
			}
			if frame != nil {
				frame.Volatile()
			}
			if err == graph.ErrExited {
				err = &PanicError{Stack: debug.Stack()}
			}
			return v, err
		}
		if run == nil {
			continue
		}
		switch b := run.Task().(*building[K, V]); run.Outcome() {
		case graph.Published, graph.Superseded:
			if frame != nil {
				continue // it is to be recorded
			}
			return b.result()
		case graph.Volatile:
			if frame != nil {
				frame.Volatile()
			}
			return b.result()
		}
	}
}

// intern sees to it that there is an entry for k, with a node.
func (c *Cache[K, V]) intern(k K) error {
	m := c.m
	m.gate.RLock()
	defer m.gate.RUnlock()
	if err := c.writable(); err != nil {
		return err
	}
	t := c.table.Load()
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	m.graph.Lock()
	defer m.graph.Unlock()
	c.ensure(s.entry(k))
	return nil
}

// ensure gives e a node. The gate, e's shard and the graph are locked.
func (c *Cache[K, V]) ensure(e *entry[K, V]) *graph.Node {
	if e.node == nil {
		kind, state := graph.Input, graph.Clean
		if e.kind == absent && c.derives {
			kind, state = c.derived(), graph.Dirty
		}
		e.node = c.owner.NewNode(e, kind, state, e.stamp)
	}
	return e.node
}

// derived is the kind of nodes that are built.
func (c *Cache[K, V]) derived() graph.Kind {
	return graph.Derived
}

// building is a run of the builder of one entry.
type building[K comparable, V any] struct {
	graph.Run
	c     *Cache[K, V]
	k     K
	value V
	none  bool // there is no value
	took  time.Duration
}

// nodes is what the graph sees of a cache.
type nodes[K comparable, V any] struct{ *Cache[K, V] }

// NewTask implements graph.Type.
func (c nodes[K, V]) NewTask(n *graph.Node) graph.Task {
	return &building[K, V]{c: c.Cache, k: n.Entry.(*entry[K, V]).key}
}

// Name implements graph.Type.
func (c nodes[K, V]) Name(n *graph.Node) string {
	return entryName(c.slot.name, n.Entry.(*entry[K, V]).key)
}

// Base implements graph.Task.
func (b *building[K, V]) Base() *graph.Run { return &b.Run }

func (b *building[K, V]) result() (V, error) {
	if b.none {
		return b.value, ErrNotFound
	}
	return b.value, nil
}

// Build implements graph.Task.
func (b *building[K, V]) Build(ctx context.Context) (err error) {
	start := time.Now()
	failed := error(&PanicError{}) // unless the builder returns
	defer func() {
		b.took += time.Since(start)
		if failed != nil {
			b.Err = b.failure(failed)
		}
	}()
	var zero V
	b.value, b.none = zero, false
	guard(&failed, func() (err error) {
		b.value, err = b.c.spec.Build(ctx, b.k)
		return err
	})
	if failed == nil {
		b.value, failed = b.c.afterLoad(ctx, b.k, b.value)
	}
	if b.none = failed == ErrNotFound; b.none {
		b.value = zero
		return ErrNotFound
	}
	if failed != nil {
		return b.failure(failed)
	}
	return nil
}

// failure is how an error of the builder is shown.
func (b *building[K, V]) failure(err error) error {
	if b.Cause() == ErrClosed {
		err = ErrClosed
	}
	return b.c.err(context.Background(), "build", b.k, err)
}

// Keeps implements graph.Task.
func (b *building[K, V]) Keeps(err error) bool { return b.none }

// Publish implements graph.Task.
func (b *building[K, V]) Publish() graph.Outcome {
	c, n := b.c, b.Node()
	same := !b.none && c.sameAsBefore(n, b.k, b.value)
	m := c.m
	m.gate.RLock()
	t := c.table.Load()
	s := t.shard(b.k)
	s.mu.Lock()
	m.graph.Lock()
	outcome := b.Verdict()
	if outcome == graph.Published && (c.off || c.writable() != nil) {
		outcome = graph.Volatile
	}
	if outcome == graph.Published {
		e := n.Entry.(*entry[K, V])
		s.change(t, e, func() version[V] { return version[V]{e.state, traceOf(n)} })
		b.Commit(same, b.none, c.derived())
		n.Took = b.took
		was := e.kind
		e.state = state[V]{value: b.value, kind: decoded}
		if b.none {
			e.state = state[V]{kind: missing}
		}
		s.live += held(e.kind) - held(was)
	}
	m.graph.Unlock()
	grow := len(t.shards) == 1 && len(s.entries) > growAt
	if c.off && s.entries[b.k] == n.Entry {
		delete(s.entries, b.k)
	}
	s.mu.Unlock()
	if outcome == graph.Published {
		// Nobody can have seen another value since the last change of k was
		// reported, so this concerns no declared dependents.
		c.edited(1)
	}
	m.gate.RUnlock()
	if grow {
		c.grow()
	}
	return outcome
}

func held(k kind) int {
	if k.held() {
		return 1
	}
	return 0
}

// Done implements graph.Task.
func (b *building[K, V]) Done() {
	c := b.c
	err := b.Err
	if b.none {
		err = nil
	}
	c.built(b.took, err)
	switch {
	case err != nil && err != graph.ErrStale:
		e := Event{Kind: EventBuildFailed, Cache: c.slot.name, Key: b.k, Duration: b.took, Err: err}
		if inner, ok := errors.AsType[*Error](err); ok {
			e.Err = inner.Err
		}
		c.m.emit(e)
	case c.m.watched(EventBuilt):
		c.m.emit(Event{Kind: EventBuilt, Cache: c.slot.name, Key: b.k, Duration: b.took, Reason: c.m.reason(b.Why)})
	}
}

// buildAll builds the whole contents. What was set meanwhile stays.
func (c *Cache[K, V]) buildAll(ctx context.Context, task *task[K, V]) error {
	epoch, ok := c.begun(stateUnbuilt)
	if !ok {
		return nil
	}
	m := c.m
	start := time.Now()
	contents, err := c.runBuildAll(ctx)
	took := time.Since(start)
	c.built(took, err)
	if err != nil {
		m.emit(Event{Kind: EventBuildFailed, Cache: c.slot.name, Duration: took, Err: err})
		return c.err(context.Background(), "build", nil, err)
	}
	task.contents = contents
	if c.off {
		return nil
	}
	t := newTable[K, V](shardsFor(len(contents)), c.lane != nil)
	t.cleared = c.lane != nil
	for k, v := range contents {
		s := t.shard(k)
		c.put(t, s, s.entry(k), state[V]{value: v, kind: decoded})
	}
	m.gate.Lock()
	if c.epoch == epoch && c.writable() == nil {
		t.absorb(c.table.Load(), true, true)
		c.replace(t, stateReady)
		c.edited(int64(max(1, len(contents))))
		task.stored = true
	}
	m.gate.Unlock()
	m.emit(Event{Kind: EventBuilt, Cache: c.slot.name, Count: len(contents), Duration: took})
	return nil
}

func (c *Cache[K, V]) runBuildAll(ctx context.Context) (contents map[K]V, err error) {
	guard(&err, func() (err error) {
		contents, err = c.spec.BuildAll(ctx)
		return err
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

// rebuild builds what an invalidation took: the whole contents if there is a
// BuildAll, else the entries of keys. It goes on after errors and returns them.
func (c *Cache[K, V]) rebuild(ctx context.Context, keys []any) error {
	if c.spec.BuildAll != nil || c.spec.Build == nil {
		return c.err(ctx, "rebuild", nil, c.prepare(ctx, true))
	}
	var errs errorList
	var wg sync.WaitGroup
	next := make(chan K)
	for range min(runtime.GOMAXPROCS(0), len(keys)) {
		wg.Go(func() {
			for k := range next {
				_, err := c.Get(ctx, k)
				errs.add(err)
			}
		})
	}
	for _, k := range keys {
		if ctx.Err() != nil {
			break
		}
		next <- k.(K)
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	return errs.join()
}

// keysToRebuild returns the keys that rebuild is to be called with.
func (c *Cache[K, V]) keysToRebuild() []any {
	if c.spec.BuildAll != nil || c.spec.Build == nil {
		return nil
	}
	if _, single := any(Single{}).(K); single {
		return []any{Single{}} // also if it has no value yet
	}
	var keys []any
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for k, e := range s.entries {
			if e.kind.held() {
				keys = append(keys, k)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}
