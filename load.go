package cacheman

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// task is something that loads contents, once for all who wait for it.
type task struct {
	*flight.Run
	err error // valid when the run is finished
}

// Load makes the contents available: it reads them from the store or the Load
// hook, or where there is nothing valid calls BuildAll. It does nothing if they
// are there. Other methods do the same when they need the contents, except
// that those without ctx do not build.
func (c *Cache[K, V]) Load(ctx context.Context) error {
	return c.err(ctx, "load", nil, c.prepare(ctx, true))
}

// prepare brings the contents to stateReady, or without build also to
// stateUnbuilt.
func (c *Cache[K, V]) prepare(ctx context.Context, build bool) error {
	for {
		switch state := c.state.Load(); {
		case state == stateReady && (!build || c.all == nil || c.all.Fresh()), state == stateUnbuilt && (!build || c.off):
			return nil
		case state == stateUnbuilt, state == stateReady:
			if b, err := c.buildAll(ctx); err != nil || b != nil && b.Outcome() != graph.Published {
				return err
			}
			continue
		case state == stateClosed:
			return ErrClosed
		}
		if err := c.provide(ctx); err != nil {
			return err
		}
	}
}

// provide loads contents that are not loaded, or waits for whoever does. For a
// ctx that has ended it begins nothing.
func (c *Cache[K, V]) provide(ctx context.Context) error {
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	c.loading.Lock()
	if c.state.Load() != stateUnloaded {
		c.loading.Unlock()
		return nil
	}
	if c.loading.task == nil || !c.loading.task.Join() {
		c.begin(ctx, &c.loading.task, c.load)
	}
	mine := c.loading.task
	c.loading.Unlock()
	if err := mine.Wait(ctx); err != nil {
		return err
	}
	return mine.err
}

// begin starts do in a goroutine of its own and puts it at t, from where it is
// taken when it has finished. c.loading is held.
func (c *Cache[K, V]) begin(ctx context.Context, t **task, do func(context.Context) error) {
	mine := &task{}
	mine.Run, ctx = flight.New(ctx, c)
	*t = mine
	go func() {
		defer context.AfterFunc(c.m.ctx, func() { mine.Cancel(ErrClosed) })()
		defer func() {
			c.loading.Lock()
			if *t == mine {
				*t = nil
			}
			c.loading.Unlock()
			mine.err = ended(ctx, mine.err)
			mine.Finish()
		}()
		guard(&mine.err, func() error { return do(ctx) })
	}()
}

// load reads the contents for the first time. What was set before stays.
func (c *Cache[K, V]) load(ctx context.Context) error {
	epoch, ok := c.begun(stateUnloaded)
	if !ok {
		return nil
	}
	t, found, err := c.read(ctx)
	if err != nil {
		c.failed(err)
		if c.spec.BuildAll == nil || ctx.Err() != nil {
			c.m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Err: err})
			return err
		}
		c.m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Err: err, Reason: "will be built"})
	}
	same := c.unchanged(t)
	c.m.gate.Lock()
	defer c.m.gate.Unlock()
	if c.epoch != epoch {
		return nil // invalidated, cleared or reloaded meanwhile
	}
	forgotten := t.unsaved()
	c.reconcile(t, same)
	t.absorb(c.table.Load(), true, false, 0)
	if found {
		c.replace(t, stateReady)
	} else {
		c.replace(t, c.emptyState())
	}
	c.forgot(forgotten)
	return nil
}

// forgot notes that n entries that were told to another version are to be
// deleted from the store, which would otherwise give them back to this one. The
// gate is held exclusively.
func (c *core) forgot(n int) {
	if n > 0 {
		c.edited(int64(n))
	}
}

// outdated reports whether the contents that the store has were saved by
// another version. Until they are loaded, the store must go on saying so.
func (c *core) outdated() bool {
	c.m.gate.RLock()
	defer c.m.gate.RUnlock()
	if !c.derives || !c.slot.stored || c.slot.dropped || len(c.slot.description) == 0 {
		return false
	}
	d, err := parseDescription(c.slot.description)
	return err == nil && d.Version != c.described.Version
}

// unchanged returns the entries that were set before the contents were loaded,
// to what t has, which was loaded, with their stamps.
func (c *Cache[K, V]) unchanged(t *table[K, V]) map[*entry[K, V]]uint64 {
	same := make(map[*entry[K, V]]uint64)
	now := c.table.Load()
	for i := range now.shards {
		s := &now.shards[i]
		early := make(map[*entry[K, V]]V)
		s.mu.RLock()
		for k, e := range s.entries {
			if was := t.shard(k).entries[k]; was != nil && was.kind.held() && e.kind == decoded {
				early[e], same[e] = e.value, e.current()
			}
		}
		s.mu.RUnlock()
		for e, v := range early {
			if !c.same(e.key, t.shard(e.key).entries[e.key].state, v) {
				delete(same, e)
			}
		}
	}
	return same
}

// reconcile gives entries that were written before t was loaded what t knows of
// them: the stamp of a value that was not changed by that, and a value that was
// removed, to be compared with what will be built. Nothing has read them yet.
// The gate is held exclusively.
func (c *Cache[K, V]) reconcile(t *table[K, V], same map[*entry[K, V]]uint64) {
	g := c.m.graph
	now := c.table.Load()
	for i := range now.shards {
		s := &now.shards[i]
		s.mu.Lock()
		for k, e := range s.entries {
			was := t.shard(k).entries[k]
			if was == nil || e.node != nil {
				continue
			}
			if stamp, ok := same[e]; ok && e.stamp == stamp && e.kind.held() {
				e.stamp = was.current()
			} else if e.kind == absent && c.derives {
				var old any
				if was.kind.held() {
					old = was.state
				} else if was.node != nil {
					old = was.node.Old
				}
				g.Lock()
				e.node = c.owner.NewNode(e, c.derived(), graph.Dirty, was.current())
				e.node.Old = old
				e.node.Begin(c.derived(), graph.Invalidated)
				g.Unlock()
			}
		}
		s.mu.Unlock()
	}
}

// begun returns the epoch in which contents are to be provided, unless they are
// no longer in the state that asks for it.
func (c *core) begun(state int32) (epoch uint64, ok bool) {
	c.m.gate.RLock()
	defer c.m.gate.RUnlock()
	return c.epoch, c.state.Load() == state
}

// read returns the contents as the store or the Load hook has them, in a new
// table, and whether there were any that are valid. It always returns a table.
func (c *Cache[K, V]) read(ctx context.Context) (t *table[K, V], found bool, err error) {
	start := time.Now()
	switch {
	case c.lane == nil:
		return newTable[K, V](1, false), false, nil
	case c.spec.Load != nil:
		t, found, err = c.readHook(ctx)
	case c.lane.store != nil:
		t, found, err = c.readStore(ctx)
	}
	if err != nil || !found {
		t = newTable[K, V](1, true)
		t.cleared = true
		return t, false, err
	}
	if c.spec.Validate != nil {
		var invalid error
		contents := c.contents(t)
		guard(&invalid, func() error { return c.spec.Validate(ctx, contents) })
		if invalid != nil {
			if ctx.Err() != nil {
				return t, false, flight.Cause(ctx)
			}
			c.m.emit(Event{Kind: EventInvalidated, Cache: c.slot.name, Reason: "what was saved is not valid", Err: invalid})
			t = newTable[K, V](1, true)
			t.cleared = true
			return t, false, nil
		}
	}
	c.m.emit(Event{Kind: EventLoaded, Cache: c.slot.name, Count: t.len(), Duration: time.Since(start)})
	return t, true, nil
}

func (c *Cache[K, V]) readHook(ctx context.Context) (t *table[K, V], found bool, err error) {
	var contents map[K]V
	guard(&err, func() (err error) {
		contents, err = c.spec.Load(ctx)
		return err
	})
	t = newTable[K, V](shardsFor(len(contents)), true)
	t.cleared, t.rewrite = true, true // the store does not have them
	if errors.Is(err, ErrNotFound) {
		return t, false, nil
	}
	for k, v := range contents {
		if err != nil {
			break
		}
		if v, err = c.afterLoad(ctx, k, v); err == nil {
			t.fill(k, state[V]{value: v, kind: decoded}).stamp = c.m.graph.Next()
		}
	}
	return t, err == nil, err
}

func (c *Cache[K, V]) readStore(ctx context.Context) (t *table[K, V], found bool, err error) {
	c.m.gate.RLock()
	saved, records, dropped, description := c.slot.stored, c.slot.records, c.slot.dropped, c.slot.description
	c.m.gate.RUnlock()
	t = newTable[K, V](shardsFor(max(records, 0)), true)
	if !saved || dropped {
		return t, false, nil
	}
	reason, outdated := c.readable(description)
	if reason != "" {
		c.m.emit(Event{Kind: EventInvalidated, Cache: c.slot.name, Reason: reason})
		if !outdated || !c.derives {
			return t, false, nil
		}
	}
	if d, err := parseDescription(description); err == nil {
		t.whole = string(d.Whole)
	}
	for i := range t.shards {
		t.shards[i].entries = make(map[K]*entry[K, V], max(records, 0)/len(t.shards))
	}
	for rec, err := range c.lane.store.Load(ctx, c.slot.name) {
		switch {
		case err == nil:
		case errors.Is(err, store.ErrCorrupt):
			c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Reason: "a record cannot be read", Err: err})
			continue
		case errors.Is(err, store.ErrNotFound):
			return t, false, nil
		default:
			return t, false, err
		}
		var k K
		guard(&err, func() (err error) {
			k, err = c.spec.KeyCodec.Decode(rec.Key)
			return err
		})
		if err != nil {
			c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Reason: "a key cannot be decoded", Err: err})
			continue
		}
		c.restore(t, k, rec, outdated)
	}
	return t, true, nil
}

// restore puts what was stored of k into t. If outdated is set, another
// version of the cache has saved it: then what it had built is kept only to be
// compared with what will be built, and what it was told is forgotten.
func (c *Cache[K, V]) restore(t *table[K, V], k K, rec store.Record, outdated bool) {
	st := state[V]{raw: unsafe.String(unsafe.SliceData(rec.Value), len(rec.Value)), kind: encoded}
	r, err := parseRecord(rec.Meta)
	if err != nil {
		c.m.emit(Event{Kind: EventDamaged, Cache: c.slot.name, Key: k, Err: err})
		return
	}
	if r.flags&flagNone != 0 {
		st = state[V]{kind: missing}
	}
	if r.flags&flagError != 0 {
		st.kind = broken
	}
	if r.stamp == 0 && st.kind == encoded {
		r.stamp = c.m.graph.Next() // the store keeps values only
	}
	if r.flags&flagBuilt == 0 || !c.derives { // without a builder it is what it is
		e := t.fill(k, st)
		e.stamp = r.stamp
		if outdated {
			s := t.shard(k)
			s.live--
			e.state, e.stamp = state[V]{}, 0
			s.change(t, e, e.version)
		}
		return
	}
	e := t.fill(k, st)
	kind := graph.Derived
	if r.flags&flagProbed != 0 {
		kind = graph.Probed
	}
	g := c.m.graph
	g.Lock()
	defer g.Unlock()
	n := c.owner.NewNode(e, kind, graph.Check, r.stamp)
	n.Saved, n.Built, n.Took = r.edges, r.built, r.took
	e.node = n
	if r.version != c.version {
		n.Begin(kind, graph.Outdated)
		if st.kind.held() {
			n.Old = st
			t.shard(k).live--
		}
		e.state = state[V]{}
	}
}

// readable returns why what the store has under description cannot be read as
// this cache, or "", and whether it is only that the version is another.
func (c *Cache[K, V]) readable(stored []byte) (reason string, outdated bool) {
	if len(stored) == 0 {
		return "", false
	}
	d, err := parseDescription(stored)
	switch {
	case err != nil:
		return "its description cannot be read: " + err.Error(), false
	case d.Format != descriptionFormat:
		return fmt.Sprintf("it was saved in format %d, this is %d", d.Format, descriptionFormat), false
	case d.KeyCodec != c.described.KeyCodec:
		return fmt.Sprintf("its keys were saved by codec %s as %s, the codec is now %s", d.KeyCodec, d.Type, c.described.KeyCodec), false
	case d.Codec != c.described.Codec:
		return fmt.Sprintf("its values were saved by codec %s as %s, the codec is now %s", d.Codec, d.Type, c.described.Codec), false
	case d.Version != c.described.Version:
		return fmt.Sprintf("it was saved by version %q, this is %q", d.Version, c.described.Version), true
	}
	return "", false
}

// fill gives a new key a state that is saved already, in a table nobody else
// has yet. Entries that are loaded together are allocated together, which
// halves the time it takes; one that stays keeps its neighbours' room.
func (t *table[K, V]) fill(k K, st state[V]) *entry[K, V] {
	s := t.shard(k)
	if s.entries == nil {
		s.entries = make(map[K]*entry[K, V])
	}
	if len(t.spare) == 0 {
		t.spare = make([]entry[K, V], 256)
	}
	e := &t.spare[0]
	t.spare = t.spare[1:]
	e.key, e.state = k, st
	s.entries[k] = e
	if st.kind.held() {
		s.live++
	}
	return e
}

// contents returns the entries of a table nobody else has yet, all decoded;
// those that cannot be decoded are taken from it.
func (c *Cache[K, V]) contents(t *table[K, V]) map[K]V {
	all := make(map[K]V)
	for i := range t.shards {
		s := &t.shards[i]
		for k, e := range s.entries {
			if e.kind == encoded {
				c.decode(s, e, e.raw)
			}
			if e.kind == decoded {
				all[k] = e.value
			}
		}
	}
	return all
}

// decode makes a value of raw, which e of s held, and puts it into e if that
// still holds raw. An entry that cannot be decoded becomes absent, in memory:
// what the store has of it stays until it is overwritten.
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
	current := e.kind == encoded && unsafe.StringData(e.raw) == unsafe.StringData(raw)
	switch {
	case current && err == nil:
		e.state = state[V]{value: v, kind: decoded}
	case current:
		e.state, e.stamp = state[V]{}, 0
		s.live--
		if n := e.node; n != nil {
			g := c.m.graph
			g.Lock()
			g.Mark(n)
			if c.derives {
				n.Force(c.derived(), graph.Unknown)
			} else {
				n.SetInput(0)
			}
			g.Unlock()
		}
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

// Reload drops what is unsaved and reads the contents from the store, or the
// Load hook, again. A cache that was never saved, or is in memory only, is
// empty then; so is one that was invalidated, for an invalidation is not undone.
// If reading fails, the contents stay as they were.
func (c *Cache[K, V]) Reload(ctx context.Context) error { return c.reload(ctx) }

func (c *Cache[K, V]) reload(caller context.Context) error {
	m := c.m
	if m.graph.InBuilder() {
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
		found := false
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
		m.gate.Lock()
		if old := c.table.Load(); c.epoch == epoch && c.syncs.Load() == syncs && !old.saving {
			var gone []*slot
			if c.edits.Swap(0) > 0 {
				gone = dependentsOf([]*slot{c.slot}, true)
			}
			c.forgot(t.unsaved())
			if found {
				c.replace(t, stateReady)
			} else {
				c.replace(t, c.emptyState())
			}
			m.drop(gone)
			m.gate.Unlock()
			if err := m.noteWhole(gone); err != nil {
				return c.err(caller, "reload", nil, err)
			}
			m.emitInvalidated(gone, "entries of "+c.slot.name+" changed")
			return nil
		}
		m.gate.Unlock()
		// It was invalidated or saved meanwhile: what was read may be old.
		if c.lane != nil {
			if err := c.lane.lock(ctx); err != nil {
				return c.err(caller, "reload", nil, err)
			}
			c.lane.unlock()
		}
	}
}
