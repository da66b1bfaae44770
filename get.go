package cacheman

import (
	"context"

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
// for it. A read of a clean entry is a map lookup and three atomic loads.
func (c *Cache[K, V]) Get(ctx context.Context, k K) (V, error) {
	frame := graph.FrameOf(ctx)
	if frame == nil {
		c.m.ring()
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

func (c *Cache[K, V]) get(ctx context.Context, frame *graph.Frame, k K) (V, error) {
	g := getting[K, V]{c: c, frame: frame, k: k}
	if ctx.Err() != nil {
		return g.failed(flight.Cause(ctx))
	}
	if err := c.fits(k); err != nil {
		return g.none(err)
	}
	c.m.ring()
	var q *graph.Request // that led to what BuildAll has made
	resolved := false
	for {
		switch c.state.Load() {
		case stateClosed:
			return g.failed(ErrClosed)
		case stateUnloaded:
			if err := c.provide(ctx); err != nil {
				v, ok, _ := c.lookup(k)
				if ok && ctx.Err() == nil { // it was set, whatever was saved
					err = nil
				}
				frame.Volatile()
				return v, err
			}
			continue
		}
		if c.all != nil && !g.unkept && !c.all.Fresh() {
			if q == nil {
				q = &graph.Request{}
			}
			b, built, err := c.buildAll(ctx, q)
			if built || err != nil {
				g.count(false)
			}
			if err != nil {
				return g.failed(err)
			}
			if b == nil || b.Outcome() == graph.Published || frame != nil && b.Outcome() == graph.Superseded {
				continue
			}
			frame.Volatile()
			if v, ok := b.value(k); ok {
				return v, nil
			}
			if !c.derives {
				return g.none(ErrNotFound)
			}
			g.unkept = true
		}
		if c.all != nil {
			graph.At("fresh")
		}
		v, n, done := g.again()
		if !done && (n == nil || resolved) { // or n may be one that is there no more
			var err error
			if v, n, done, err = g.find(ctx); err != nil {
				return v, err
			}
		}
		switch {
		case done:
			return v, nil
		case n == nil:
			continue
		}
		resolved = true
		run, built, err := c.m.graph.Resolve(ctx, q, n)
		if built || err != nil {
			g.count(false)
		}
		if err != nil {
			return g.failed(err)
		}
		if run == nil {
			continue
		}
		b, is := run.Task().(*building[K, V])
		if !is {
			continue // it is of the contents as a whole
		}
		switch run.Outcome() {
		case graph.Published, graph.Superseded:
			if frame != nil {
				continue // it is to be recorded
			}
			return b.result()
		case graph.Volatile:
			frame.Volatile()
			return b.result()
		}
	}
}

// getting is a read of an entry that may have to be built.
type getting[K comparable, V any] struct {
	c       *Cache[K, V]
	frame   *graph.Frame // of the builder that reads, or nil
	k       K
	unkept  bool // the contents as a whole were made now and are not kept: k is not in them
	counted bool // as a hit or a miss
}

// failed ends a read that says nothing of the entry: what a builder makes
// without it is not kept, also if it does not pass the error on, as fs.Glob does.
func (g *getting[K, V]) failed(err error) (V, error) {
	g.frame.Volatile()
	return g.none(err)
}

func (g *getting[K, V]) none(err error) (v V, _ error) { return v, err }

func (g *getting[K, V]) count(hit bool) {
	if !g.counted {
		g.counted = true
		g.c.table.Load().shard(g.k).count(hit)
	}
}

// again finds k without looking it up, if the builder that reads goes on as it did the last
// time: the graph knows what comes next. No shard is locked, as an entry with a node is not
// given another value without the graph's lock. If it is not done, n is what is to be
// resolved, or nil if k is to be found.
func (g *getting[K, V]) again() (v V, n *graph.Node, done bool) {
	if g.frame == nil {
		return v, nil, false
	}
	r, n := g.frame.Next(g.c.owner)
	if n == nil {
		return v, nil, false
	}
	defer g.c.m.graph.Unlock()
	e := g.c.entryOf(n)
	if e.key != g.k || e.kind != decoded && n.State() == graph.Clean {
		return v, nil, false
	}
	switch r.Read(n) {
	case graph.NotClean:
		return v, n, false
	case graph.Recorded, graph.Untracked:
		if !g.counted {
			g.c.owner.Repeated()
		}
		return e.value, n, true
	}
	return v, nil, false
}

// find finds k in the table, and sees to it that it is there, with a node if one is
// needed. If it is not done, n is what is to be resolved, or nil if it is to be looked again.
func (g *getting[K, V]) find(ctx context.Context) (v V, n *graph.Node, done bool, err error) {
	c, k := g.c, g.k
	t, s := c.rlock(k)
	e := s.entries[k]
	if e == nil || e.node == nil && (g.frame != nil || g.unkept || !e.kind.held()) {
		s.mu.RUnlock()
		switch {
		case e == nil && t.partial:
			err = c.know(ctx, k)
		case g.frame != nil || c.derives:
			err = c.intern(k)
		case c.all != nil && !(c.all.Fresh() && c.table.Load() == t): // the contents are yet to be built anew
		default:
			g.count(false)
			return v, nil, true, ErrNotFound
		}
		if err != nil {
			g.frame.Volatile()
		}
		return v, nil, false, err
	}
	n = e.node
	clean := n == nil || n.Fresh()
	if clean && g.frame != nil {
		switch g.frame.Read(n) {
		case graph.NotClean:
			clean = false
		case graph.Doubtful:
			s.mu.RUnlock()
			if !g.frame.Recheck() {
				return v, nil, true, graph.ErrStale
			}
			return v, nil, false, nil
		case graph.Stale:
			s.mu.RUnlock()
			return v, nil, true, graph.ErrStale
		}
	}
	st := e.state()
	s.mu.RUnlock()
	if !clean {
		return v, n, false, nil
	}
	switch st.kind {
	case decoded:
		g.count(true)
		return st.value, n, true, nil
	case encoded:
		if v, done = c.decode(s, e, st.raw); done { // or it is gone now
			g.count(true)
		}
		return v, nil, done, nil
	case dropped:
		c.want(k)
		return v, nil, false, nil
	}
	g.count(false)
	return v, n, true, st.failure()
}

// intern sees to it that there is an entry for k, with a node, unless the
// contents were replaced and k has to be known first.
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
	if t.partial && s.entries[k] == nil {
		return nil
	}
	c.prune(t, s)
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
		e.node = graph.NewNode(c.owner, e, kind, state, e.stamp.Load())
		if e.kind != absent && c.lane != nil {
			e.node.ReadElsewhere()
		}
	}
	return e.node
}

// derived is the kind of nodes that are built.
func (c *Cache[K, V]) derived() graph.Kind {
	if c.spec.Probe != nil {
		return graph.Probed
	}
	return graph.Derived
}
