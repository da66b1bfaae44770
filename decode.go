package cacheman

import (
	"context"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// undecodable is in an absent entry of which the store has something that cannot be used.
const undecodable = "?"

// decode makes a value of raw, which e of s held, and puts it into e if that
// still holds raw. An entry that cannot be decoded becomes absent, in memory:
// what the store has of it stays until it is overwritten. Contents of a BuildAll that
// lack it are to be built again.
func (c *Cache[K, V]) decode(s *shard[K, V], e *entry[K, V], raw string) (v V, ok bool) {
	var err error
	guard(&err, func() (err error) {
		if v, err = c.spec.Codec.Decode(unsafe.Slice(unsafe.StringData(raw), len(raw))); err != nil {
			return err
		}
		v, err = c.afterLoad(c.m.ctx, e.key, v)
		return err
	})
	s.mu.Lock()
	current := !s.moved && e.kind == encoded && e.raw == unsafe.StringData(raw)
	g := c.m.graph
	switch {
	case current && err == nil && e.node != nil:
		g.Lock()
		e.hold(state[V]{value: v, kind: decoded})
		g.Unlock()
	case current && err == nil:
		e.hold(state[V]{value: v, kind: decoded})
	case current:
		g.Lock()
		e.hold(state[V]{raw: undecodable})
		e.stamp.Store(0)
		s.live--
		if keys := c.keys.Load(); keys != nil {
			g.Mark(keys)
			c.keyChanged(keys, e.key, false)
		}
		if n := e.node; n != nil {
			g.Mark(n)
			if c.derives {
				n.Force(c.derived(), graph.Unknown)
			} else {
				n.SetInput(0)
			}
		}
		if c.all != nil && c.table.Load().shard(e.key) == s { // the contents lack it
			g.Mark(c.all)
			c.owner.Doubt()
			c.all.Distrust(graph.Unknown)
		}
		g.Unlock()
	}
	s.mu.Unlock()
	if err != nil {
		c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Key: e.key, Reason: "its value cannot be used", Err: err})
		return v, false
	}
	return v, true
}

// afterLoad applies the hook to a value that was loaded or built.
func (c *Cache[K, V]) afterLoad(ctx context.Context, k K, v V) (V, error) {
	if c.spec.AfterLoad == nil {
		return v, nil
	}
	var err error
	guard(&err, func() (err error) {
		v, err = c.spec.AfterLoad(ctx, k, v)
		return err
	})
	return v, err
}
