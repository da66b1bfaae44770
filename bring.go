package cacheman

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// Build brings what the caches of scope hold up to date: of each entry that was
// built it is found out whether it still holds, and if not it is built, as Get
// would, several at once; so are those of another Spec.Version. Contents that are
// built as a whole are, if need be. It costs less than to Get all keys, and makes
// those that follow cheap. Entries that were set stay, and keys that were deleted,
// evicted, or never asked for are left alone. What a builder asks for in caches
// outside of scope is brought up to date with it.
//
// progress, if not nil, is told how many of how many entries have been looked at, by
// one call at a time; each entry that is built is an event. Build goes on after
// errors and returns them, but not those that are results. If ctx ends it returns the
// reason when the builders that it runs have returned, whose ctx ends, too, unless others
// wait for the same entries; what was built stays. It fails in a builder, with ErrInBuilder.
func (m *Manager) Build(ctx context.Context, scope Scope, progress func(done, total int)) error {
	if graph.InBuilder() {
		return &Error{Op: "build", Err: ErrInBuilder}
	}
	cores, err := m.within("build", scope)
	if err != nil {
		return err
	}
	m.ring()
	var errs errorList
	work := make([]doubts, len(cores))
	done, total := 0, 0
	q := m.graph.Begin() // what fails is called once for all who need it
	defer m.graph.End(q)
	for i, c := range cores {
		work[i], err = c.typed.stale(ctx, q)
		total += count(work[i].nodes) + count(work[i].marked)
		errs.add(c.err(ctx, "build", nil, err))
	}
	looked := func(n int) {
		if done += n; n > 0 && progress != nil {
			progress(done, total)
		}
	}
	for i, c := range cores {
		errs.add(c.bring(ctx, q, inOrder(work[i].nodes), work[i].restored, looked))
	}
	for i, c := range cores { // now that what they depend on has been looked at
		rest, settled := c.unsettled(ctx, work[i].marked)
		looked(settled)
		errs.add(c.bring(ctx, q, rest, false, looked))
	}
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	return errs.join()
}

// Build brings all that c holds up to date; see Manager.Build.
func (c *Cache[K, V]) Build(ctx context.Context) error {
	return c.m.Build(ctx, Only(c.slot.name), nil)
}

// doubts are the nodes of a cache that may have to be built.
type doubts struct {
	nodes    [][]doubtful
	marked   [][]*graph.Node // those that are clean if others are
	restored bool            // the edges of some nodes may be as they were stored
}

// doubtful is a node, and when it was built.
type doubtful struct {
	node  *graph.Node
	built uint64
}

// bringAtOnce is how many entries are built side by side, before it is looked whether
// others still hold, and reported. Meanwhile it is found out what restored entries were
// built from, of linkAtOnce times as many side by side.
const (
	bringAtOnce = 256
	linkAtOnce  = 64
)

// stale implements typed.
func (c *Cache[K, V]) stale(ctx context.Context, q *graph.Request) (doubts, error) {
	if _, err := c.volatile(ctx, q, true); err != nil || !c.derives {
		return doubts{}, err
	}
	t := c.table.Load()
	found := doubts{nodes: make([][]doubtful, len(t.shards)), marked: make([][]*graph.Node, len(t.shards))}
	var restored, moved atomic.Bool // some are in another table now
	err := each(ctx, 1, numbers(len(t.shards)), func(_ context.Context, i int) {
		s := &t.shards[i]
		s.mu.RLock()
		defer s.mu.RUnlock()
		if s.moved {
			moved.Store(true)
			return
		}
		var part []doubtful
		var marked []*graph.Node
		add := func(some []*entry[K, V]) {
			touchNodes(some)
			for _, e := range some {
				if e.node == nil || e.kind == dropped || e.node.Fresh() || e.kind == absent && !c.outdatedNode(e.node) {
					continue
				}
				if e.node.Marked() {
					if marked == nil {
						marked = make([]*graph.Node, 0, len(s.entries))
					}
					marked = append(marked, e.node)
					continue
				}
				if part == nil {
					part = make([]doubtful, 0, len(s.entries))
				}
				part = append(part, doubtful{e.node, e.node.Built})
				if e.node.Untouched() && !restored.Load() {
					restored.Store(true)
				}
			}
		}
		some := make([]*entry[K, V], 0, touchAtOnce)
		for _, e := range s.entries {
			if some = append(some, e); len(some) == touchAtOnce {
				add(some)
				some = some[:0]
			}
		}
		add(some)
		found.nodes[i], found.marked[i] = part, marked
	})
	if err != nil {
		return doubts{}, err
	}
	if moved.Load() {
		c.m.awaitTable()
		return c.stale(ctx, q)
	}
	found.restored = restored.Load()
	return found, nil
}

// count returns how many there are in parts.
func count[T any](parts [][]T) (n int) {
	for _, part := range parts {
		n += len(part)
	}
	return n
}

// unsettled returns those of marked, nodes of c, that may have to be built, in the order in
// which they were, and how many are clean.
func (c *core) unsettled(ctx context.Context, marked [][]*graph.Node) (_ []*graph.Node, settled int) {
	g := c.m.graph
	rest := make([][]doubtful, len(marked))
	var clean atomic.Int64
	each(ctx, 1, numbers(len(marked)), func(_ context.Context, i int) {
		for part := range slices.Chunk(marked[i], bringAtOnce) {
			n := len(part)
			part = g.Unsettled(part)
			clean.Add(int64(n - len(part)))
			if len(part) > 0 {
				g.Lock()
				for _, n := range part {
					rest[i] = append(rest[i], doubtful{n, n.Built})
				}
				g.Unlock()
			}
		}
	})
	return inOrder(rest), int(clean.Load())
}

// inOrder returns the nodes of parts in the order in which they were built. It divides
// them by that first, which is quicker than to sort them all together.
func inOrder(parts [][]doubtful) []*graph.Node {
	n, low, high := 0, uint64(math.MaxUint64), uint64(0)
	for _, part := range parts {
		n += len(part)
		for _, d := range part {
			low, high = min(low, d.built), max(high, d.built)
		}
	}
	if n == 0 {
		return nil
	}
	shift := max(0, bits.Len64(high-low)-bits.Len(uint(n/256)))
	ends := make([]int, (high-low)>>shift+2) // of each group, as far as it is filled
	for _, part := range parts {
		for _, d := range part {
			ends[(d.built-low)>>shift+1]++
		}
	}
	for i := range ends[1:] {
		ends[i+1] += ends[i]
	}
	all := make([]doubtful, n)
	for _, part := range parts {
		for _, d := range part {
			end := &ends[(d.built-low)>>shift]
			all[*end] = d
			*end++
		}
	}
	each(context.Background(), 1, numbers(len(ends)-1), func(_ context.Context, i int) {
		start := 0
		if i > 0 {
			start = ends[i-1]
		}
		slices.SortFunc(all[start:ends[i]], func(a, b doubtful) int { return cmp.Compare(a.built, b.built) })
	})
	nodes := make([]*graph.Node, n)
	for i, d := range all {
		nodes[i] = d.node
	}
	return nodes
}

// bring brings nodes to clean, in the order in which they were built, so what an entry
// was built from is mostly looked at before, and a look at that is all it takes. It tells
// done, from its own goroutine, how many it has looked at.
func (c *core) bring(ctx context.Context, q *graph.Request, nodes []*graph.Node, restored bool, done func(n int)) error {
	if len(nodes) == 0 {
		return nil
	}
	g, keyed := c.m.graph, c.keyed()
	var errs errorList
	build := func(ctx context.Context, n *graph.Node) {
		run, _, err := g.Resolve(ctx, q, n)
		if run == nil && err == nil && !n.Fresh() { // another is in its place, or it is being changed
			err = keyed.ask(ctx, n)
		}
		if err = failure(err); err != nil && ctx.Err() == nil {
			errs.add(c.err(ctx, "build", keyed.keyOf(n), err))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var linking sync.WaitGroup
	defer linking.Wait()
	defer cancel()
	linked := make(chan []*graph.Node)
	linking.Go(func() {
		defer close(linked)
		for group := range slices.Chunk(nodes, bringAtOnce*linkAtOnce) {
			if restored {
				each(ctx, 1, slices.Collect(slices.Chunk(group, bringAtOnce)), g.Link)
			}
			select {
			case linked <- group:
			case <-ctx.Done():
				return
			}
		}
	})
	for group := range linked {
		for part := range slices.Chunk(group, bringAtOnce) {
			n := len(part)
			if part = g.Verify(part); len(part) > 0 || ctx.Err() != nil {
				if err := each(ctx, 1, part, build); ctx.Err() != nil {
					return err
				} else if err != nil {
					errs.add(c.err(ctx, "build", nil, err))
				}
			}
			done(n)
		}
	}
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	return errs.join()
}

// outdatedNode reports that n is to be built because another version of c has built it.
func (c *core) outdatedNode(n *graph.Node) bool {
	g := c.m.graph
	g.Lock()
	defer g.Unlock()
	return n.Why().Reason == graph.Outdated
}
