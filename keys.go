package cacheman

import (
	"context"
	"errors"
	"slices"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// The caches that stand for keys have types that do not depend on those of the cache whose
// keys they stand for, and are out of sight of functions that have: whoever compiles these
// for types of their own would compile those, too, in each package anew.

// keysOf returns the cache whose only entry stands for the keys of c. It is
// asked like the world outside, because keys may have come and gone without
// anybody looking.
func keysOf(c *core) (*Cache[Single, digest], error) {
	return ownOf(c.m, c, keysCache+c.slot.name, func() Spec[Single, digest] {
		return Spec[Single, digest]{
			Memory:   c.lane == nil,
			Formerly: c.namedFormerly(keysCache),
			Probe: func(ctx context.Context, _ Single, _ digest, _ bool) (digest, error) {
				// From here on, whoever adds or removes a key says so.
				self, err := keysOf(c)
				if err != nil {
					return digest{}, err
				}
				n, err := self.node(ctx, Single{})
				if err != nil {
					return digest{}, err
				}
				c.m.graph.Lock()
				if !n.Dead() { // then this run is overtaken, and another knows of its own
					c.keys.Store(n)
				}
				c.m.graph.Unlock()
				return c.typed.digest(ctx)
			},
		}
	})
}

// numberOf returns the cache whose only entry is the number of entries of c.
func numberOf(c *core) (*Cache[Single, int], error) {
	return ownOf(c.m, c, keysCount+c.slot.name, func() Spec[Single, int] {
		return Spec[Single, int]{
			Memory:   c.lane == nil,
			Formerly: c.namedFormerly(keysCount),
			Build: func(ctx context.Context, _ Single) (int, error) {
				keys, err := keysOf(c)
				if err != nil {
					return 0, err
				}
				d, err := keys.Get(ctx, Single{})
				return d.Count, err
			},
		}
	})
}

// presenceIn returns the cache that says of keys of c whether there is a value.
func presenceIn(c *core) (*Cache[any, bool], error) {
	return ownOf(c.m, c, presenceCache+c.slot.name, func() Spec[any, bool] {
		return Spec[any, bool]{
			Memory:   c.lane == nil,
			Formerly: c.namedFormerly(presenceCache),
			KeyCodec: c.typed.keyCodec(),
			Build:    c.typed.has,
		}
	})
}

// namedFormerly returns the names that a cache that stands for keys of c had before.
func (c *core) namedFormerly(prefix string) []string {
	names := make([]string, len(c.formerly))
	for i, name := range c.formerly {
		names[i] = ours + prefix + name
	}
	return names
}

// provideKeys registers the caches that stand for the keys of c.
func (c *core) provideKeys() error {
	_, err1 := keysOf(c)
	_, err2 := numberOf(c)
	_, err3 := presenceIn(c)
	return errors.Join(err1, err2, err3)
}

// trackKeys notes that a builder reads which keys there are, before list lists them. No
// key comes or goes meanwhile: a list of keys that have changed, and changed back, would pass
// for that of those which the builder has read.
//
//go:noinline
func (c *core) trackKeys(ctx context.Context, frame *graph.Frame, list func()) error {
	keys, err := keysOf(c)
	if err != nil {
		return err
	}
	for {
		marks := keys.owner.Marks()
		if _, err := keys.Get(ctx, Single{}); err != nil {
			return err
		}
		graph.At("list")
		list()
		graph.At("listed")
		if keys.owner.Marks() == marks {
			return nil
		}
		if !frame.Recheck() {
			return graph.ErrStale
		}
	}
}

// count is Count in a builder.
//
//go:noinline
func (c *core) count(ctx context.Context) (int, error) {
	n, err := numberOf(c)
	if err != nil {
		return 0, c.err(ctx, "count", nil, err)
	}
	return n.Get(ctx, Single{})
}

// contains is Contains in a builder.
//
//go:noinline
func (c *core) contains(ctx context.Context, k any) (bool, error) {
	has, err := presenceIn(c)
	if err != nil {
		return false, c.err(ctx, "contains", k, err)
	}
	return has.Get(ctx, k)
}

// keyCodec implements typed.
func (c *Cache[K, V]) keyCodec() codec.Codec[any] {
	keys := c.spec.KeyCodec
	all := codec.Codec[any]{Name: keys.Name, Schema: keys.Schema}
	if keys.Append != nil {
		all.Append = func(dst []byte, key any) ([]byte, error) {
			k, _ := key.(K) // nil, if K is an interface
			return keys.Append(dst, k)
		}
	}
	if keys.Decode != nil {
		all.Decode = func(src []byte) (any, error) { return keys.Decode(src) }
	}
	return all
}

// CollectKeys returns the keys of the cache, in the order of their encoded
// bytes. With the ctx of a builder it is tracked: what the builder makes is
// stale when a key is added or removed, but not when a value changes. Keys of a
// cache with a builder are those that were built so far.
func (c *Cache[K, V]) CollectKeys(ctx context.Context) ([]K, error) {
	keys, _, err := c.collectKeys(ctx)
	return keys, err
}

// collectKeys is CollectKeys. It returns the values too, as far as they are known, if
// they cannot be kept.
func (c *Cache[K, V]) collectKeys(ctx context.Context) (keys []K, values map[K]V, err error) {
	frame := graph.FrameOf(ctx)
	list := func() { keys = slices.Collect(c.Keys()) }
	b, err := c.volatile(ctx, nil, true)
	switch {
	case err != nil:
	case b != nil:
		keys, values = b.all()
	case frame == nil:
		list()
	default:
		err = c.trackKeys(ctx, frame, list)
	}
	if err == nil && c.state.Load() == stateClosed { // perhaps before all were listed
		err = ErrClosed
	}
	if err != nil {
		return nil, nil, c.err(ctx, "collect keys", nil, err)
	}
	c.sortKeys(keys)
	return keys, values, nil
}

func (c *Cache[K, V]) sortKeys(keys []K) {
	if c.spec.KeyCodec.Append == nil {
		return
	}
	type keyed struct {
		key   K
		bytes []byte
	}
	all := make([]keyed, len(keys))
	for i, k := range keys {
		all[i].key = k
		all[i].bytes, _ = c.encodeKey(nil, k) // or it is among the first
	}
	slices.SortFunc(all, func(a, b keyed) int { return slices.Compare(a.bytes, b.bytes) })
	for i := range all {
		keys[i] = all[i].key
	}
}

// Collect returns all entries. With the ctx of a builder it is tracked: what
// the builder makes depends on which keys there are and on every value. Without, it is
// no more of one instant than All.
func (c *Cache[K, V]) Collect(ctx context.Context) (map[K]V, error) {
	keys, all, err := c.collectKeys(ctx)
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = make(map[K]V, len(keys))
	}
	for _, k := range keys {
		if _, known := all[k]; known {
			continue
		}
		v, err := c.get(ctx, graph.FrameOf(ctx), k)
		if isNone(err) {
			continue // it has been removed, or turned out to be none
		}
		if err != nil {
			return nil, c.err(ctx, "collect", k, err)
		}
		all[k] = v
	}
	return all, nil
}

// Count returns the number of entries. With the ctx of a builder it is tracked:
// what the builder makes is stale when the number changes.
func (c *Cache[K, V]) Count(ctx context.Context) (int, error) {
	if graph.FrameOf(ctx) == nil {
		b, err := c.volatile(ctx, nil, true)
		if err == nil && b != nil {
			keys, _ := b.all()
			return len(keys), nil
		}
		n := c.Len()
		if err == nil && c.state.Load() == stateClosed { // perhaps before they were counted
			n, err = 0, ErrClosed
		}
		return n, c.err(ctx, "count", nil, err)
	}
	return c.count(ctx)
}

// Contains reports whether the cache has a value for k. With the ctx of a
// builder it is tracked: what the builder makes is stale when k comes or goes,
// but not when its value changes. In a cache with a builder it builds k.
func (c *Cache[K, V]) Contains(ctx context.Context, k K) (bool, error) {
	if graph.FrameOf(ctx) == nil {
		return c.hasNow(ctx, k)
	}
	return c.contains(ctx, k)
}

// has implements typed.
func (c *Cache[K, V]) has(ctx context.Context, key any) (bool, error) {
	k, _ := key.(K) // nil, if K is an interface
	return c.hasNow(ctx, k)
}

func (c *Cache[K, V]) hasNow(ctx context.Context, k K) (bool, error) {
	_, err := c.get(ctx, graph.FrameOf(ctx), k)
	if isNone(err) {
		return false, nil
	}
	return err == nil, c.err(ctx, "contains", k, err)
}

// Select registers a cache of that name that has, for each key of c, what fn
// makes of its value. What was computed from it stays valid as long as that is
// the same, whatever else of the value changes; where c has no value, neither has it. spec is the zero Spec, or says
// how it is kept; its Version is that of fn, its Build is not used.
func Select[K comparable, V, P any](c *Cache[K, V], name string, spec Spec[K, P], fn func(V) P) (*Cache[K, P], error) {
	spec.Build = func(ctx context.Context, k K) (p P, err error) {
		v, err := c.Get(ctx, k)
		if err != nil {
			return p, err
		}
		return fn(v), nil
	}
	if spec.KeyCodec.Append == nil {
		spec.KeyCodec = c.spec.KeyCodec
	}
	return Register(c.m, name, spec)
}
