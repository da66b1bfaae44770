package cacheman

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// Get returns the value of k. If the cache does not hold it, it is built; all
// callers who want it meanwhile wait for the same run of the builder. Without a
// builder the error matches ErrNotFound.
//
// If ctx ends, Get returns at once; the build goes on as long as others wait
// for it. A value whose key was set, deleted or invalidated while it was being
// built is given to those who waited for it already, and not kept.
func (c *Cache[K, V]) Get(ctx context.Context, k K) (V, error) {
	if v, ok := c.peek(k); ok {
		return v, nil
	}
	v, err := c.get(ctx, k)
	if err != nil {
		err = c.err(ctx, "get", k, err)
	}
	return v, err
}

func (c *Cache[K, V]) get(ctx context.Context, k K) (v V, err error) {
	if err := ctx.Err(); err != nil {
		return v, context.Cause(ctx)
	}
	missed := false
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
		if v, ok := c.lookup(k); ok {
			if !missed {
				c.count(k, true)
			}
			return v, nil
		}
		if !missed {
			missed = true
			c.count(k, false)
		}
		if c.state.Load() == stateUnbuilt {
			t, err := c.provide(ctx)
			if err != nil {
				return v, err
			}
			if t.stored || t.contents == nil {
				continue
			}
			if v, ok := t.contents[k]; ok { // built, but invalidated meanwhile
				return v, nil
			}
		}
		if c.spec.Build == nil {
			return v, ErrNotFound
		}
		b, err := c.fly(ctx, k)
		if err != nil {
			return v, err
		}
		if b == nil {
			continue // it is there now
		}
		if err := b.Wait(ctx); err != nil {
			return v, err
		}
		return b.value, b.err
	}
}

// fly returns the running build of k, which the caller has joined, starting it
// if there is none. It returns nil if k has a value by now.
func (c *Cache[K, V]) fly(ctx context.Context, k K) (*building[V], error) {
	// Whether a build may store its result is decided by what happens between
	// its beginning and its end, so both take place with the gate held.
	m := c.m
	m.gate.RLock()
	defer m.gate.RUnlock()
	if err := c.writable(); err != nil {
		return nil, err
	}
	s := c.table.Load().shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil && e.kind != absent {
		return nil, nil
	}
	if b := s.flights[k]; b != nil && b.Join() {
		return b, nil
	}
	b := &building[V]{}
	b.Run, ctx = flight.New(ctx, func() string { return entryName(c.slot.name, k) })
	s.fly(k, b)
	go c.build(ctx, k, b)
	return b, nil
}

// build runs the builder of k. It stores the result if b is still the build of
// k: writes and invalidations take that from it.
func (c *Cache[K, V]) build(ctx context.Context, k K, b *building[V]) {
	stop := context.AfterFunc(c.m.ctx, func() { b.Cancel(ErrClosed) })
	start := time.Now()
	var v V
	var err error
	defer func() { // the builder may have ended the goroutine
		stop()
		took := time.Since(start)
		c.built(took, err)
		c.land(k, b, v, err)
		switch {
		case err != nil:
			c.m.emit(Event{Kind: EventBuildFailed, Cache: c.slot.name, Key: k, Duration: took, Err: err})
		case c.m.watched(EventBuilt):
			c.m.emit(Event{Kind: EventBuilt, Cache: c.slot.name, Key: k, Duration: took})
		}
		b.value, b.err = v, c.err(context.Background(), "build", k, ended(ctx, err))
		b.Finish()
	}()
	guard(&err, func() (err error) {
		v, err = c.spec.Build(ctx, k)
		return err
	})
	if err == nil {
		v, err = c.afterLoad(ctx, k, v)
	}
}

// land ends b, and stores its result if it may.
func (c *Cache[K, V]) land(k K, b *building[V], v V, err error) {
	m := c.m
	m.gate.RLock()
	t := c.table.Load()
	s := t.shard(k)
	s.mu.Lock()
	stored := false
	if s.flights[k] == b {
		delete(s.flights, k)
		if err == nil && !c.off && c.writable() == nil {
			s.set(t, k, v)
			stored = true
		}
	}
	grow := len(t.shards) == 1 && len(s.entries) > growAt
	s.mu.Unlock()
	if stored {
		// Nobody can have seen another value since the last change of k was
		// reported, so this concerns no dependents.
		c.edited(1)
	}
	m.gate.RUnlock()
	if grow {
		c.grow()
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
		t.shard(k).set(t, k, v)
	}
	m.gate.Lock()
	if c.epoch == epoch && c.writable() == nil {
		t.absorb(c.table.Load(), true)
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
		return context.Cause(ctx)
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
			if e.kind != absent {
				keys = append(keys, k)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}
