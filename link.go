package cacheman

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// link implements graph.Type for all caches, of whatever types: what needs those is in
// keyed.
func (c *core) link(ctx context.Context, lists []graph.List) {
	if len(lists) > 1 {
		c.linkMany(ctx, lists)
		return
	}
	for i := range lists {
		if l := &lists[i]; l.Saved == "" {
			l.Linked, l.Err = c.relink(ctx, l.Edges)
		} else {
			l.Linked, l.Err = c.linkSaved(ctx, l)
		}
	}
}

// relink returns edges with nodes that are alive.
func (c *core) relink(ctx context.Context, edges []graph.Edge) ([]graph.Edge, error) {
	linked := make([]graph.Edge, len(edges))
	g := c.m.graph
	for i, e := range edges {
		linked[i] = e
		g.Lock()
		dead := e.Node.Dead()
		g.Unlock()
		if !dead {
			continue
		}
		n, err := e.Node.Owner().Type.(keyed).renew(ctx, e.Node)
		if err != nil {
			return nil, err
		}
		linked[i].Node = n
	}
	return linked, nil
}

// storedEdge is an edge whose node is to be found.
type storedEdge struct {
	on    *core // the cache that it leads to
	key   string
	stamp uint64
}

// stored returns the edges of an entry of c that were stored, up to the first that cannot
// be linked.
func (c *core) stored(l *graph.List) iter.Seq2[storedEdge, error] {
	return func(yield func(storedEdge, error) bool) {
		elsewhere := c.lane != nil && c.lane != c.m.main
		if elsewhere {
			c.m.graph.Lock()
			elsewhere = l.Node.Built <= c.lane.base // it was not written since
			c.m.graph.Unlock()
		}
		var on *core
		name := ""
		for e, err := range savedEdges(l.Saved) {
			if err == nil && (on == nil || e.cache != name) { // most are of the same cache as the one before
				on, err = c.m.readable(e.cache)
				name = e.cache
			}
			if err == nil && elsewhere && e.stamp > on.base() {
				err = errLost
			}
			if err == nil && name == ours+handCache {
				err = c.m.handLinks(e.key)
			}
			if !yield(storedEdge{on, e.key, e.stamp}, err) || err != nil {
				return
			}
		}
	}
}

func (c *core) keyed() keyed { return c.owner.Type.(keyed) }

// linkSaved returns the edges that were stored, with their nodes.
func (c *core) linkSaved(ctx context.Context, l *graph.List) ([]graph.Edge, error) {
	var room [16]graph.Edge
	linked := room[:0]
	for e, err := range c.stored(l) {
		if err != nil {
			return nil, err
		}
		n, err := e.on.keyed().nodeOf(ctx, e.key)
		if err != nil {
			return nil, err
		}
		linked = append(linked, graph.Edge{Node: n, Stamp: e.stamp})
	}
	return append(make([]graph.Edge, 0, len(linked)), linked...), nil
}

// linkMany is Link of many lists. Most nodes are looked for together, which is quicker, and
// edges are allocated together; those of one that stay keep the others' room.
func (c *core) linkMany(ctx context.Context, lists []graph.List) {
	edges := make([]storedEdge, 0, 4*len(lists))
	ends := make([]int, len(lists)) // of the edges of each
	for i := range lists {
		l, before := &lists[i], len(edges)
		if l.Saved == "" {
			l.Linked, l.Err = c.relink(ctx, l.Edges)
		} else {
			for e, err := range c.stored(l) {
				if l.Err = err; err != nil {
					edges = edges[:before]
					break
				}
				edges = append(edges, e)
			}
		}
		ends[i] = len(edges)
	}
	found := make([]*graph.Node, len(edges))
	var asked []*core
	for i, e := range edges {
		if (i == 0 || e.on != edges[i-1].on) && !slices.Contains(asked, e.on) {
			asked = append(asked, e.on)
			e.on.keyed().find(ctx, edges, found)
		}
	}
	linked := make([]graph.Edge, 0, len(edges))
	start := 0
	for i := range lists {
		l, before := &lists[i], len(linked)
		for at := start; at < ends[i] && l.Err == nil; at++ {
			e, n := edges[at], found[at]
			if n == nil {
				n, l.Err = e.on.keyed().nodeOf(ctx, e.key)
			}
			linked = append(linked, graph.Edge{Node: n, Stamp: e.stamp})
		}
		if start = ends[i]; l.Err == nil && l.Saved != "" {
			l.Linked = linked[before:len(linked):len(linked)]
		}
	}
}

// errLost is why an edge cannot be linked that is from an earlier process, if its
// stamp was not saved where it was issued: it may have been issued again since.
var errLost = errors.New("what was read is lost")

// Link implements graph.Type.
func (as nodes[K, V]) Link(ctx context.Context, lists []graph.List) { as.of.link(ctx, lists) }

// find implements keyed. What is in one shard is looked for together: if no lock comes
// in between, the processor waits for several entries at a time.
func (as nodes[K, V]) find(ctx context.Context, edges []storedEdge, found []*graph.Node) {
	c := as.of
	if c.spec.KeyCodec.Decode == nil || c.state.Load() != statePartial && c.prepare(ctx, false) != nil {
		return // nodeOf says why
	}
	type place struct {
		k         K
		at, shard int32
	}
	t := c.table.Load()
	places := make([]place, 0, len(edges))
	var ends [manyShards + 1]int // of the places in each shard, as far as they are filled in
	var err error
	guard(&err, func() error {
		for at, e := range edges {
			if e.on != &c.core {
				continue
			}
			k, err := c.spec.KeyCodec.Decode(unsafe.Slice(unsafe.StringData(e.key), len(e.key)))
			if err != nil {
				return err
			}
			p := place{k, int32(at), int32(t.place(k))}
			places = append(places, p)
			ends[p.shard+1]++
		}
		return nil
	})
	for i := range manyShards {
		ends[i+1] += ends[i]
	}
	order := make([]int32, len(places))
	for i, p := range places {
		order[ends[p.shard]] = int32(i)
		ends[p.shard]++
	}
	var entries []*entry[K, V]
	start := 0
	for i := range t.shards {
		s := &t.shards[i]
		some := order[start:ends[i]]
		start, entries = ends[i], entries[:0]
		s.mu.RLock()
		if !s.moved {
			for _, j := range some {
				entries = append(entries, s.entries[places[j].k])
			}
			for i, j := range some {
				if e := entries[i]; e != nil {
					found[places[j].at] = e.node
				}
			}
		}
		s.mu.RUnlock()
	}
}

// renew implements keyed: it finds the node that has taken the place of a dead one,
// also in the cache that has taken the place of this one.
func (as nodes[K, V]) renew(ctx context.Context, n *graph.Node) (*graph.Node, error) {
	c := as.of
	if c.state.Load() != stateClosed {
		return c.node(ctx, c.entryOf(n).key)
	}
	now, err := c.m.readable(c.slot.name)
	if err != nil {
		return nil, err
	}
	key, err := as.appendKey(nil, n)
	if err != nil {
		return nil, err
	}
	return now.keyed().nodeOf(ctx, string(key))
}

// nodeOf implements keyed.
func (as nodes[K, V]) nodeOf(ctx context.Context, key string) (*graph.Node, error) {
	c := as.of
	if c.spec.KeyCodec.Decode == nil {
		return nil, errors.New("its keys cannot be decoded")
	}
	var k K
	var err error
	guard(&err, func() (err error) {
		k, err = c.spec.KeyCodec.Decode(unsafe.Slice(unsafe.StringData(key), len(key)))
		return cmp.Or(err, c.fits(k))
	})
	if err != nil {
		return nil, err
	}
	return c.node(ctx, k)
}

// ready is know, but that it fails when c is closed.
func (c *Cache[K, V]) ready(ctx context.Context, k K) error {
	if c.state.Load() == statePartial {
		return c.fetch(ctx, k)
	}
	return c.prepare(ctx, false)
}

// node returns the node of k. Contents that are to be built as a whole are not built for
// that: it depends on what was read before whether anybody wants them.
func (c *Cache[K, V]) node(ctx context.Context, k K) (*graph.Node, error) {
	for {
		if err := c.ready(ctx, k); err != nil {
			return nil, err
		}
		_, s := c.rlock(k)
		if e := s.entries[k]; e != nil && e.node != nil {
			n := e.node
			s.mu.RUnlock()
			return n, nil
		}
		s.mu.RUnlock()
		if err := c.intern(k); err != nil {
			return nil, err
		}
	}
}
