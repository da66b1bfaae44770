package cacheman

import (
	"context"
	"errors"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Link implements graph.Type.
func (c nodes[K, V]) Link(ctx context.Context, lists []graph.List) {
	l := linker{edges: make([]storedEdge, 0, usual*len(lists))}
	for i := range lists {
		if list := &lists[i]; list.Saved == "" {
			list.Linked, list.Err = c.relink(ctx, list.Edges)
		} else {
			list.Err = l.add(&c.core, list)
		}
	}
	l.link(ctx)
}

// relink returns edges with nodes that are alive.
func (c nodes[K, V]) relink(ctx context.Context, edges []graph.Edge) ([]graph.Edge, error) {
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
		n, err := e.Node.Owner().Type.(keyed).renew(ctx, e.Node.Entry())
		if err != nil {
			return nil, err
		}
		linked[i].Node = n
	}
	return linked, nil
}

// linker finds the nodes of edges that were stored, those of many lists together.
type linker struct {
	lists []*graph.List
	ends  []int // of the edges of each list
	edges []storedEdge
	on    []keyed    // caches that edges lead to
	keys  [][]string // of the edges to each
}

// usual is how many edges a node is expected to have.
const usual = 4

// storedEdge is an edge whose node is to be found: it has the key keys[on][at].
type storedEdge struct {
	on, at int32
	stamp  uint64
}

// add adds a list of an entry of c.
func (l *linker) add(c *core, list *graph.List) error {
	elsewhere := c.lane != nil && c.lane != c.m.main
	if elsewhere {
		c.m.graph.Lock()
		elsewhere = list.Node.Built <= c.lane.base // it was not written since
		c.m.graph.Unlock()
	}
	before := len(l.edges)
	on, name := int32(-1), ""
	for e, err := range savedEdges(list.Saved) {
		if err == nil && (on < 0 || e.cache != name) { // most are of the same cache as the one before
			on, err = l.cache(c.m, e.cache)
			name = e.cache
		}
		if err == nil && elsewhere && e.stamp > l.on[on].cache().base() {
			err = errLost
		}
		if err == nil && name == ours+handCache {
			e.key, err = c.m.handNow(e.key)
		}
		if err != nil {
			l.edges = l.edges[:before]
			return err
		}
		l.edges = append(l.edges, storedEdge{on, int32(len(l.keys[on])), e.stamp})
		l.keys[on] = append(l.keys[on], e.key)
	}
	l.lists, l.ends = append(l.lists, list), append(l.ends, len(l.edges))
	return nil
}

// cache returns the number of the cache of a name from a record.
func (l *linker) cache(m *Manager, name string) (int32, error) {
	c, err := m.readable(name)
	if err != nil {
		return -1, err
	}
	on := c.owner.Type.(keyed)
	for i := range l.on {
		if l.on[i] == on {
			return int32(i), nil
		}
	}
	var keys []string
	if len(l.on) == 0 { // most lead to one cache
		keys = make([]string, 0, cap(l.edges))
	}
	l.on, l.keys = append(l.on, on), append(l.keys, keys)
	return int32(len(l.on) - 1), nil
}

// link fills in the lists. Their edges are allocated together; those of one that stay
// keep the others' room.
func (l *linker) link(ctx context.Context) {
	found := make([][]*graph.Node, len(l.on))
	for i, on := range l.on {
		found[i] = on.find(ctx, l.keys[i])
	}
	linked := make([]graph.Edge, 0, len(l.edges))
	start := 0
	for i, list := range l.lists {
		before := len(linked)
		for _, e := range l.edges[start:l.ends[i]] {
			n := found[e.on][e.at]
			if n == nil {
				if n, list.Err = l.on[e.on].nodeOf(ctx, l.keys[e.on][e.at]); list.Err != nil {
					break
				}
			}
			linked = append(linked, graph.Edge{Node: n, Stamp: e.stamp})
		}
		if list.Err == nil {
			list.Linked = linked[before:len(linked):len(linked)]
		}
		start = l.ends[i]
	}
}

// errLost is why an edge cannot be linked that is from an earlier process, if its
// stamp was not saved where it was issued: it may have been issued again since.
var errLost = errors.New("what was read is lost")

// find implements keyed. What is in one shard is looked for together: if no lock comes
// in between, the processor waits for several entries at a time.
func (c nodes[K, V]) find(ctx context.Context, keys []string) []*graph.Node {
	found := make([]*graph.Node, len(keys))
	const few = 16
	if len(keys) < few || c.spec.KeyCodec.Decode == nil {
		return found
	}
	if c.state.Load() != statePartial && c.prepare(ctx, true) != nil {
		return found
	}
	type place struct {
		k         K
		at, shard int32
	}
	t := c.table.Load()
	places := make([]place, 0, len(keys))
	var ends [manyShards + 1]int // of the places in each shard, as far as they are filled in
	var err error
	guard(&err, func() error {
		for at, key := range keys {
			k, err := c.spec.KeyCodec.Decode(unsafe.Slice(unsafe.StringData(key), len(key)))
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
	return found
}

// renew implements keyed: it finds the node that has taken the place of a dead one,
// also in the cache that has taken the place of this one.
func (c nodes[K, V]) renew(ctx context.Context, e any) (*graph.Node, error) {
	if c.state.Load() != stateClosed {
		return c.node(ctx, e.(*entry[K, V]).key)
	}
	now, err := c.m.readable(c.slot.name)
	if err != nil {
		return nil, err
	}
	key, err := c.appendKey(nil, e)
	if err != nil {
		return nil, err
	}
	return now.owner.Type.(keyed).nodeOf(ctx, string(key))
}

// nodeOf implements keyed.
func (c nodes[K, V]) nodeOf(ctx context.Context, key string) (*graph.Node, error) {
	if c.spec.KeyCodec.Decode == nil {
		return nil, errors.New("its keys cannot be decoded")
	}
	var k K
	var err error
	guard(&err, func() (err error) {
		k, err = c.spec.KeyCodec.Decode(unsafe.Slice(unsafe.StringData(key), len(key)))
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.node(ctx, k)
}

// ready is know for what is about to be read: if the contents are built as a
// whole, they are.
func (c *Cache[K, V]) ready(ctx context.Context, k K) error {
	if c.state.Load() == statePartial {
		return c.fetch(ctx, k)
	}
	return c.prepare(ctx, true)
}

// node returns the node of k.
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
