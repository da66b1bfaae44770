package cacheman

import (
	"context"
	"slices"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// Reload drops what is unsaved and reads the contents from the store, or the
// Load hook, again. A cache that was never saved, or is in memory only, is
// empty then; so is one that was invalidated, for an invalidation is not undone.
// If reading fails, the contents stay as they were. With Options.ReadOnly, and where the cache is kept elsewhere than in the
// Manager's store, what is declared to depend on it is read anew as well, as by Follow.
func (c *Cache[K, V]) Reload(ctx context.Context) error { return c.reload(ctx) }

func (c *Cache[K, V]) reload(caller context.Context) error {
	m := c.m
	if graph.InBuilder() {
		return c.err(caller, "reload", nil, ErrInBuilder)
	}
	ctx, done := m.untilClosed(caller)
	defer done()
	for {
		if ctx.Err() != nil {
			return c.err(caller, "reload", nil, flight.Cause(ctx))
		}
		m.gate.RLock()
		err := c.writable()
		epoch, syncs := c.epoch, c.syncs.Load()
		m.gate.RUnlock()
		var t *table[K, V]
		found, start := false, time.Now()
		if err == nil {
			t, found, err = c.read(ctx)
		}
		if err = ended(ctx, err); err != nil {
			if err != ErrClosed {
				c.failed(err)
				m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Err: err})
			}
			return c.err(caller, "reload", nil, err)
		}
		n, took := t.len(), time.Since(start)
		m.gate.Lock()
		if c.epoch == epoch && c.syncs.Load() == syncs && !c.saving && c.writable() == nil {
			var gone []*slot
			if c.edits.Swap(0) > 0 || c.lane == nil && !m.opts.ReadOnly && c.table.Load().len() > 0 { // of what is in memory, nothing is left
				gone = c.changing()
			}
			c.failedEdits.Store(0)
			c.forgot(t, t.unsaved())
			c.inherited(t)
			c.noteFresh(&t.notes)
			c.learned(found)
			m.drop(gone, func() { c.replace(t, c.readState(t, found), nil) })
			var stale []*slot
			if m.opts.ReadOnly && c.lane != m.main { // another may have changed it, and Follow does not tell
				_, stale = m.readAnew(dependentsOf([]*slot{c.slot}, false))
			}
			m.gate.Unlock()
			if found {
				c.tellLoaded(n, took)
			}
			if err := m.noteWhole(slices.Concat(gone, stale)); err != nil {
				return c.err(caller, "reload", nil, err)
			}
			m.emitInvalidated(gone, "entries of "+c.slot.name+" changed")
			m.emitInvalidated(stale, notAsSaved)
			return nil
		}
		m.gate.Unlock()
		// It was invalidated, saved or closed meanwhile: what was read may be old.
		if c.lane != nil {
			if err := c.lane.lock(ctx); err != nil {
				return c.err(caller, "reload", nil, err)
			}
			c.lane.unlock()
		}
	}
}
