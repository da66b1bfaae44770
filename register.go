package cacheman

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// Register makes the cache of a name known to m and returns it. What was saved
// under the name by an earlier run of the program is its contents, unless spec
// says otherwise.
//
// A name is any non-empty UTF-8 text of up to 4000 bytes; whatever is in it, it
// is safe on disk. A name that is registered already is an error, which names
// both types if they differ; use Lookup to get at a registered cache.
func Register[K comparable, V any](m *Manager, name string, spec Spec[K, V]) (*Cache[K, V], error) {
	if strings.HasPrefix(name, ours) {
		err := fmt.Errorf("%w: names that begin with %q are ours", ErrSpec, ours)
		return nil, &Error{Op: "register", Cache: name, Err: err}
	}
	var c *Cache[K, V]
	var before []dependency
	err := checkName(name)
	if err == nil {
		c, before, err = register(m, name, spec, nil)
	}
	if err != nil {
		return nil, wrap(context.Background(), "register", name, nil, err)
	}
	if spec.Eager {
		if err := c.Load(context.Background()); err != nil {
			m.gate.Lock()
			defer m.gate.Unlock()
			m.takeOut(m.withFacets([]*core{&c.core}))
			m.unlink(c.slot, before)
			return nil, err
		}
	}
	return c, nil
}

// Lookup returns the registered cache of a name. The error is ErrUnknown if
// there is none, and ErrType, naming both types, if it has others.
func Lookup[K comparable, V any](m *Manager, name string) (*Cache[K, V], error) {
	c, err := m.lookup(name)
	if err != nil {
		return nil, err
	}
	if c, ok := c.typed.(*Cache[K, V]); ok {
		return c, nil
	}
	err = fmt.Errorf("%w: it is a %s, not a %s", ErrType, c.typed.typeName(), typeName[K, V]())
	return nil, &Error{Op: "lookup", Cache: name, Err: err}
}

func (m *Manager) lookup(name string) (*core, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if m.closed {
		return nil, &Error{Op: "lookup", Cache: name, Err: ErrClosed}
	}
	if s := m.slots[name]; s != nil && s.cache != nil {
		return s.cache, nil
	}
	return nil, &Error{Op: "lookup", Cache: name, Err: ErrUnknown}
}

// register also returns the dependencies that were known of the name before. of is nil,
// or the cache that the new one is for.
func register[K comparable, V any](m *Manager, name string, spec Spec[K, V], of *core) (c *Cache[K, V], before []dependency, err error) {
	if err := spec.complete(); err != nil {
		return nil, nil, err
	}
	elsewhere, err := m.elsewhere(spec.Store)
	if err != nil {
		return nil, nil, err
	}

	var gone []*slot
	defer func() {
		if len(gone) > 0 {
			err = cmp.Or(err, m.noteWhole(gone))
			m.emitInvalidated(gone, notAsSaved)
		}
	}()
	m.gate.Lock()
	defer m.gate.Unlock()
	if m.closed || of != nil && of.writable() != nil {
		return nil, nil, ErrClosed
	}
	if err := m.admits(name, typeName[K, V](), spec.Formerly, slices.Concat(spec.DependsOn, spec.DependsOnChange)); err != nil {
		return nil, nil, err
	}

	c = &Cache[K, V]{spec: spec, clip: clipper[V](), reading: newToken()}
	c.m = m
	c.typed = c
	c.derives = spec.Build != nil || spec.Probe != nil
	makes := graph.Input
	if c.derives {
		makes = c.derived()
	}
	c.owner = m.graph.NewOwner(nodes[K, V]{c}, makes)
	if spec.BuildAll != nil {
		c.all = c.owner.Whole(whole[K, V]{nodes[K, V]{c}})
	}
	if prefix, _, is := ofFacet(name); is && prefix == keysCache {
		c.owner.About(of.owner)
	}
	c.version = versionHash(spec.Version, spec.Codec.Schema)
	c.equal = equality(&spec)
	c.plain = plain(reflect.TypeFor[V]())
	c.nans = unequal(reflect.TypeFor[K]())
	if err := c.fit(spec.Contents); err != nil {
		return nil, nil, fmt.Errorf("%w: Contents: %w", ErrSpec, err)
	}
	c.off = spec.Off || m.opts.Off
	c.whole = spec.Save != nil
	c.formerly = spec.Formerly
	c.described = description{
		Format:   descriptionFormat,
		Type:     typeName[K, V](),
		Version:  spec.Version,
		KeyCodec: spec.KeyCodec.Name,
		Codec:    spec.Codec.Name,
		Schema:   spec.Codec.Schema,
	}
	switch {
	case spec.Memory || c.off:
	case spec.Save != nil:
		c.lane = m.newLane(nil)
	case spec.Store != nil:
		c.lane = m.laneOf(spec.Store)
	default:
		c.lane = m.main
	}
	if c.passes() {
		m.passed.Store(true)
	}
	c.settle(name, elsewhere, spec.Autosync)
	c.limited(spec.Limit, spec.Build != nil && !spec.asWhole())
	c.takeOver()
	c.start(spec.Contents)
	c.slot.cache = &c.core
	before = c.depends(spec.DependsOn, spec.DependsOnChange)
	gone = m.verify(&c.core)
	return c, before, nil
}

// elsewhere returns what s, if it is not nil, a store of its own for a cache, has.
func (m *Manager) elsewhere(s store.Store) (map[string]store.Info, error) {
	if s == nil {
		return nil, nil
	}
	if err := distinct(s); err != nil {
		return nil, err
	}
	infos, err := s.Caches(m.ctx)
	if err == nil {
		err = m.reserveStamps(m.ctx, s)
	}
	if err != nil {
		return nil, err
	}
	there := make(map[string]store.Info, len(infos))
	for _, info := range infos {
		if info.Cache == revisions {
			m.graph.Raise(revisionOf(info.Description))
		}
		there[info.Cache] = info
	}
	return there, nil
}

// admits returns why there can be no new cache of a name, or nil. The gate is held.
func (m *Manager) admits(name, typeName string, formerly, dependsOn []string) error {
	if s := m.slots[name]; s != nil && s.cache != nil {
		if have := s.cache.typed.typeName(); have != typeName {
			return fmt.Errorf("%w: the name belongs to a %s, this is a %s", ErrType, have, typeName)
		}
		return ErrRegistered
	}
	if c := m.heir(name); c != nil {
		return fmt.Errorf("%w: %q had the name formerly", ErrSpec, c.slot.name)
	}
	for _, formerly := range formerly {
		if s := m.slots[formerly]; s != nil && s.cache != nil {
			return fmt.Errorf("%w: %q, which it had formerly, is another's name", ErrSpec, formerly)
		}
	}
	for _, on := range dependsOn {
		if s := m.slots[on]; s == nil || s.cache == nil {
			return fmt.Errorf("depends on %q: %w", on, ErrUnknown)
		}
	}
	return nil
}

// settle gives a new cache the slot of its name, and brings what is saved under that to
// its lane. The gate is held exclusively.
func (c *core) settle(name string, elsewhere map[string]store.Info, autosync *Autosync) {
	m := c.m
	c.slot = m.slot(name)
	m.graph.Lock()
	for _, former := range c.slot.former { // what was computed from those is to be compared with this
		m.graph.Wrote()
		former.owner.Replace()
	}
	m.graph.Unlock()
	c.slot.former = nil
	if c.lane != nil {
		var there *store.Info
		if elsewhere != nil {
			info := elsewhere[name]
			there = &info
		}
		m.move(c.slot, c.lane, there)
		for _, former := range c.formerly {
			if info, ok := elsewhere[former]; ok {
				if s := m.slot(former); s.lane == nil {
					s.knowIn(c.lane, info)
				}
			}
		}
		if autosync != nil {
			c.triggers = autosync.triggers()
		} else {
			c.triggers = m.triggers()
		}
	}
}

// depends notes what a new cache declares to depend on, and returns what it did before.
// The gate is held exclusively.
func (c *core) depends(on, onChange []string) (before []dependency) {
	before = slices.Clone(c.slot.dependsOn)
	for _, on := range on {
		c.slot.link(c.m.slots[on], false)
	}
	for _, on := range onChange {
		c.slot.link(c.m.slots[on], true)
	}
	c.slot.redescribe()
	return before
}

// move makes l the lane of s, and there what a store has of it, if that is not
// the Manager's own. What the lane it comes from has is out of date from now on,
// and dropped there. The gate is held exclusively.
func (m *Manager) move(s *slot, l *lane, there *store.Info) {
	if s.lane != l {
		cmp.Or(s.lane, m.main).remove(s)
		if s.stored && s.lane.store != nil {
			old := &slot{name: s.name, lane: s.lane, stored: true, dropped: true}
			old.lane.add(old)
			old.lane.armDefault()
		}
		hooks := s.lane != nil && s.lane.store == nil && l.store == nil // each cache has a lane of its own
		s.lane, s.stored, s.dropped, s.description, s.records = l, false, s.dropped && hooks, nil, 0
		if s.dropped {
			l.add(s)
			l.armDefault()
		}
	}
	if there != nil && !s.dropped {
		s.stored, s.description, s.records, s.bytes = there.Cache != "", there.Description, about(*there), there.Bytes
	}
}

// start gives a new cache its first contents. The gate is held exclusively.
func (c *Cache[K, V]) start(contents map[K]V) {
	t := newTable[K, V](shardsFor(len(contents)), c.saves())
	c.table.Store(t)
	switch {
	case contents != nil && !c.off:
		for k, v := range contents {
			s := t.shard(k)
			c.put(t, s, s.entry(k), state[V]{value: v, kind: decoded}, false)
		}
		t.cleared = t.recorded
		c.disinherit()
		c.state.Store(stateReady)
		if c.all != nil {
			m := c.m.graph
			m.Lock()
			c.all.Restore(graph.Derived, "")
			m.Unlock()
		}
		c.edited(int64(max(1, len(contents))))
	default:
		state := c.savedState()
		t.partial = state <= statePartial
		c.state.Store(state)
	}
}

// savedState is the state of contents that are to be what was saved. The gate
// is held.
func (c *Cache[K, V]) savedState() int32 {
	stored := c.slot.stored && !c.slot.void() && c.lane != nil && c.lane.store != nil
	switch {
	case c.heirOf != nil && !c.taken:
		return stateUnloaded
	case stored && c.partial():
		return statePartial
	case stored, (c.spec.Load != nil && !c.off || c.sharing()) && !c.slot.void(): // others may have saved it by now
		return stateUnloaded
	}
	return c.emptyState()
}
