package cacheman

import (
	"cmp"
	"context"
	"slices"

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
// errors and returns them. If ctx ends it returns the reason; what was built stays. It
// fails in a builder, with ErrInBuilder.
func (m *Manager) Build(ctx context.Context, scope Scope, progress func(done, total int)) error {
	if graph.InBuilder() {
		return &Error{Op: "build", Err: ErrInBuilder}
	}
	cores, err := m.within("build", scope)
	if err != nil {
		return err
	}
	var errs errorList
	work := make([]bringer, len(cores))
	total := 0
	for i, c := range cores {
		n := 0
		n, work[i], err = c.typed.stale(ctx)
		total += n
		errs.add(c.err(ctx, "build", nil, err))
	}
	done := 0
	q := &graph.Request{} // what fails is called once for all who need it
	for _, bring := range work {
		if bring == nil {
			continue
		}
		errs.add(bring(ctx, q, func(n int) {
			done += n
			if progress != nil {
				progress(done, total)
			}
		}))
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

// bringer finds out which of the entries that it was made for have to be built, and
// builds them, telling done, from its own goroutine, how many it has looked at.
type bringer func(ctx context.Context, q *graph.Request, done func(n int)) error

// bringAtOnce is how many entries are built side by side, before it is looked whether
// others still hold, and reported.
const bringAtOnce = 256

// stale implements typed: it returns how many entries of c may have to be built, and
// what does so.
func (c *Cache[K, V]) stale(ctx context.Context) (n int, bring bringer, err error) {
	if err := c.prepare(ctx, true); err != nil || !c.derives {
		return 0, nil, err
	}
	var all []doubtful[K]
	restored := false // some edges are as they were stored
	g, t := c.m.graph, c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		all = slices.Grow(all, len(s.entries))
		g.Lock()
		for _, e := range s.entries {
			switch {
			case e.node == nil || e.kind == dropped || e.node.Fresh():
			case e.kind == absent && e.node.Why().Reason != graph.Outdated:
			default:
				all = append(all, doubtful[K]{e.key, e.node, e.node.Built})
				restored = restored || e.node.Saved() != ""
			}
		}
		g.Unlock()
		s.mu.RUnlock()
	}
	slices.SortFunc(all, func(a, b doubtful[K]) int { return cmp.Compare(a.built, b.built) })
	return len(all), func(ctx context.Context, q *graph.Request, done func(int)) error {
		if restored {
			if err := c.link(ctx, all); err != nil {
				return err
			}
		}
		return c.bring(ctx, q, all, done)
	}, nil
}

// link finds, on all processors, what restored entries were built from.
func (c *Cache[K, V]) link(ctx context.Context, all []doubtful[K]) error {
	parts := slices.Collect(slices.Chunk(all, bringAtOnce))
	return each(ctx, 1, parts, func(ctx context.Context, part []doubtful[K]) {
		for _, d := range part {
			c.m.graph.Link(ctx, d.node)
		}
	})
}

// doubtful is an entry that may have to be built.
type doubtful[K comparable] struct {
	key   K
	node  *graph.Node
	built uint64
}

// bring brings entries to clean. It goes through them in the order in which they were
// built, so what an entry was built from is mostly looked at before, and a look at that
// is all it takes.
func (c *Cache[K, V]) bring(ctx context.Context, q *graph.Request, all []doubtful[K], done func(int)) error {
	g := c.m.graph
	var errs errorList
	build := func(ctx context.Context, d doubtful[K]) {
		run, err := g.ResolveFor(ctx, q, d.node)
		if run == nil && err == nil && !d.node.Fresh() { // another is in its place, or it is being changed
			_, err = c.get(ctx, nil, d.key)
		}
		if err != nil && err != ErrNotFound && ctx.Err() == nil {
			errs.add(c.err(ctx, "build", d.key, err))
		}
	}
	var rest []doubtful[K]
	for part := range slices.Chunk(all, bringAtOnce) {
		rest = rest[:0]
		for _, d := range part {
			if !g.Verify(d.node) {
				rest = append(rest, d)
			}
		}
		if len(rest) > 0 || ctx.Err() != nil {
			if err := each(ctx, 1, rest, build); err != nil {
				return err
			}
		}
		done(len(part))
	}
	return errs.join()
}
