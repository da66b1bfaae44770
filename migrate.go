package cacheman

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// Saved says how values were saved: what is known of them without their type.
type Saved struct {
	Version string // Spec.Version
	Type    string // as text, such as "map[string]main.User"
	Codec   string // its name
	Schema  string // its fingerprint of the type, "" if the codec has none
}

// saved returns how values are saved under d.
func (d description) saved() Saved {
	return Saved{Version: d.Version, Type: d.Type, Codec: d.Codec, Schema: d.Schema}
}

// String names what differs between programs.
func (s Saved) String() string {
	return fmt.Sprintf("version %q, codec %s, type %s", s.Version, s.Codec, s.Type)
}

// migrates reports whether what was saved under d is to pass through Migrate.
func (c *Cache[K, V]) migrates(d description) bool {
	now := c.described
	return c.spec.Migrate != nil && d.Format == now.Format && d.KeyCodec == now.KeyCodec &&
		(d.Version != now.Version || d.Codec != now.Codec || d.Schema != now.Schema)
}

// migrate puts into t, which nobody has yet, what Migrate makes of a record. It
// is yet to be saved in the new form, and has a new stamp, for what was computed
// from the old value may come out differently now.
func (c *Cache[K, V]) migrate(ctx context.Context, t *table[K, V], k K, rec store.Record, from description, nodes *graph.Restorer) {
	st, r, err := parseEntry[V](rec)
	built := r.flags&flagBuilt != 0
	if err == nil && (st.kind != encoded || built && r.version != versionHash(from.Version, from.Schema)) {
		return // there is no value, or one of a version before that
	}
	var v V
	if err == nil {
		guard(&err, func() (err error) {
			v, err = c.spec.Migrate(ctx, from.saved(), k, rec.Value)
			return err
		})
	}
	if err == nil {
		v, err = c.afterLoad(ctx, k, v)
	}
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Key: k, Reason: "it cannot be migrated", Err: err})
			c.lacking(t)
		}
		return
	}
	r.stamp, r.version = c.m.graph.Next(), c.version
	s, e := t.fill(k)
	c.restore(t, s, e, state[V]{value: v, kind: decoded}, r, false, nodes)
	s.change(t, e, e.version)
}

// heir returns the registered cache that had name formerly, or nil. The gate is held.
func (m *Manager) heir(name string) *core {
	if s := m.slots[m.renamed[name]]; s != nil {
		return s.cache
	}
	return nil
}

// takeOver makes c the heir of the first of the names it had formerly under
// which something is saved, unless something is under its own. What is declared of these
// is so of c. The gate is held exclusively.
func (c *core) takeOver() {
	for _, name := range c.formerly {
		c.m.renamed[name] = c.slot.name
		s := c.m.slots[name]
		if c.heirOf == nil && !c.slot.stored && s != nil && s.cache == nil && s.stored && !s.dropped && s.lane == c.lane {
			c.heirOf = s
		}
		if s == nil {
			continue
		}
		for _, d := range s.dependsOn {
			c.slot.link(c.m.slots[d.Cache], d.OnChange)
		}
		for _, d := range s.dependents {
			d.slot.link(c.slot, d.onChange)
			d.slot.redescribe()
		}
	}
}

// formerSlots yields the slots of the names that c had formerly under which something is
// saved: if nothing is under its own, that is what c has. The gate is held.
func (c *core) formerSlots(yield func(*slot) bool) {
	for _, name := range c.formerly {
		s := c.m.slots[name]
		if s != nil && s.cache == nil && s.stored && c.m.heir(name) == c && !yield(s) {
			return
		}
	}
}

// savedAs returns the slot under which c is saved. The gate is held.
func (c *core) savedAs() *slot {
	if c.heirOf != nil && c.heirOf.stored && !c.slot.stored {
		return c.heirOf
	}
	return c.slot
}

// records returns what is saved as from, which is savedAs. Where batches are not atomic, one
// that failed may have brought that to the own name already.
func (c *core) records(ctx context.Context, from *slot) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for rec, err := range c.lane.store.Load(ctx, from.name) {
			if from != c.slot && errors.Is(err, store.ErrNotFound) {
				c.lane.store.Load(ctx, c.slot.name)(yield)
				return
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// inherited notes that t has all that is saved under the old name, and is yet to
// be saved under the new one. The gate is held exclusively.
func (c *Cache[K, V]) inherited(t *table[K, V]) {
	if c.savedAs() != c.slot {
		c.disinherit()
		t.rewrite = t.recorded
		c.edited(int64(max(1, t.len())))
	}
}

// disinherit sees to it that what is left under the old name goes, in the batch
// that saves c. Who only reads goes on to read that. The gate is held exclusively.
func (c *core) disinherit() {
	if c.m.opts.ReadOnly {
		return
	}
	if old := c.heirOf; old != nil && old.cache == nil && old.stored && !old.dropping {
		old.dropped = true
		old.lane.add(old)
	}
	c.taken = c.heirOf != nil
}

// outdated reports whether the contents that the store has were saved
// otherwise than those of c are now, or under another name, or have something that
// was invalidated and is to be compared with what is built. Until they are loaded,
// the store must go on saying so. So it must of what another Manager may have built there as a
// whole. The gate is held.
func (c *Cache[K, V]) outdated() bool {
	if c.heirOf != nil && !c.taken || c.all != nil && c.sharing() && c.edits.Load() > 0 {
		return true
	}
	if !c.slot.stored || c.slot.void() || len(c.slot.description) == 0 {
		return false
	}
	return c.derives && c.spec.Load == nil && c.table.Load().lacks() || c.savedOtherwise()
}

// hasFormer reports whether the contents are yet to be built as a whole, and to be compared with those that
// another version has saved. Until there are others, the store must go on having these.
func (c *Cache[K, V]) hasFormer() bool { return c.table.Load().former != nil }

// savedOtherwise reports whether the store has contents that are not to be taken as
// they are for those of c. The gate is held.
func (c *Cache[K, V]) savedOtherwise() bool {
	if !c.slot.stored || c.slot.void() || c.lane == nil || c.lane.store == nil || c.spec.Load != nil {
		return false
	}
	as := c.readable(c.slot.description)
	return as.reason != "" || as.migrates
}
