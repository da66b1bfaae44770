package cacheman

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
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
	_, err := c.volatile(ctx, nil, build)
	return err
}

// volatile is prepare, as a part of what q is for. It returns what a BuildAll has made if
// that cannot be kept, else nil. What a builder makes that is given that, or an error, is
// not kept, either.
func (c *Cache[K, V]) volatile(ctx context.Context, q *graph.Request, build bool) (b *buildingAll[K, V], err error) {
	defer func() {
		if b != nil || err != nil {
			graph.FrameOf(ctx).Volatile()
		}
	}()
	c.m.ring()
	for {
		switch state := c.state.Load(); {
		case state == stateReady && (!build || c.all == nil || c.all.Fresh()), state == stateUnbuilt && (!build || c.off):
			return nil, nil
		case state == stateUnbuilt, state == stateReady:
			b, _, err := c.buildAll(ctx, q)
			if err != nil {
				return nil, err
			}
			if b == nil || b.Outcome() == graph.Published || b.Outcome() == graph.Superseded && graph.FrameOf(ctx) != nil {
				continue
			}
			return b, nil
		case state == stateClosed:
			return nil, ErrClosed
		}
		if err := c.provide(ctx); err != nil {
			return nil, err
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
	if c.loaded() {
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
	run, within := flight.New(ctx, c)
	mine.Run, ctx = run, within
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
	c.m.gate.RLock()
	epoch, done := c.epoch, c.loaded()
	c.m.gate.RUnlock()
	if done {
		return nil
	}
	start := time.Now()
	t, found, err := c.read(ctx)
	n, took := t.len(), time.Since(start)
	if err != nil {
		c.failed(err)
		if c.spec.BuildAll == nil || ctx.Err() != nil {
			c.m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Err: err})
			return err
		}
		c.m.emit(Event{Kind: EventLoadFailed, Cache: c.slot.name, Err: err, Reason: "will be built"})
	}
	compared := make(map[K]early[V])
	for again, rounds := true, 0; again; rounds++ {
		if c.state.Load() != statePartial {
			c.compareEarly(t, compared)
		}
		if again, err = c.install(t, found, epoch, compared, rounds < compareAgain); err != nil {
			return err
		}
	}
	if found {
		c.tellLoaded(n, took)
	}
	return nil
}

// tellLoaded is called when the contents that were read, n entries, are in place: who observes may read them.
func (c *core) tellLoaded(n int, took time.Duration) {
	c.m.emit(Event{Kind: EventLoaded, Cache: c.slot.name, Count: n, Duration: took})
}

// install makes t, which was loaded in an epoch, the contents, unless they were replaced
// meanwhile. If exact is set, and something was set that is not in compared, it does nothing and
// returns again.
func (c *Cache[K, V]) install(t *table[K, V], found bool, epoch uint64, compared map[K]early[V], exact bool) (again bool, err error) {
	c.m.gate.Lock()
	defer c.m.gate.Unlock()
	if c.m.closed || c.state.Load() == stateClosed {
		return false, ErrClosed // what a hook has made of what is not loaded any more is not to be seen
	}
	if c.epoch != epoch {
		return false, nil // invalidated, cleared or reloaded meanwhile
	}
	if c.state.Load() != statePartial { // or writes have been compared with what was there
		if exact && len(c.uncompared(t, compared)) > 0 {
			return true, nil
		}
		c.reconcile(t, compared)
	}
	forgotten := t.unsaved()
	t.absorb(c.table.Load(), true, false, nil)
	c.learned(found)
	c.complete(t, c.readState(t, found))
	c.forgot(t, forgotten)
	c.inherited(t)
	c.noteFresh(&t.notes)
	c.grew(0, 0) // there may have been too much before
	return false, nil
}

// learned notes that the store has what was found, which others may have saved. The gate is
// held exclusively.
func (c *Cache[K, V]) learned(found bool) {
	if found && c.spec.Load == nil && c.savedAs() == c.slot {
		c.slot.stored = true
	}
}

// readState returns the state of contents that were read: those of t, if valid ones were found.
func (c *Cache[K, V]) readState(t *table[K, V], found bool) int32 {
	if found && !t.unbuilt {
		return stateReady
	}
	return c.emptyState()
}

// complete makes t, which has all that the table has, the contents. For those
// who have read from the table nothing changes. The gate is held exclusively.
func (c *Cache[K, V]) complete(t *table[K, V], state int32) {
	g := c.m.graph
	g.Lock()
	if c.all != nil && state == stateReady {
		c.all.Restore(graph.Derived, t.whole)
	}
	c.table.Store(t)
	g.Unlock()
	c.builtFrom = []byte(t.whole)
	c.epoch++
	c.state.Store(state)
}

// forgot notes that n entries that were told to another version are to be
// deleted from the store, which would otherwise give them back to this one; so is all
// that the store has, if t, which was loaded, has nothing of it for such a reason. The
// gate is held exclusively.
func (c *Cache[K, V]) forgot(t *table[K, V], n int) {
	if t.cleared && c.savedOtherwise() {
		n = max(n, 1)
	}
	if n > 0 {
		c.edited(int64(n))
	}
}

// early reports that c, which is not loaded, was written to, and that what was saved would
// say whether that changes anything. Once it is saved nobody could tell, and what was computed
// from a value that was set to what it was would be built again. The gate is held.
func (c *Cache[K, V]) early() bool {
	return c.edits.Load() > 0 && c.spec.Load == nil && c.slot.stored && !c.slot.void() && c.lane.store != nil && c.lane.store.Caps().Described
}

// early is an entry that was set before the contents were loaded.
type early[V any] struct {
	value V
	stamp uint64
	same  bool // as what was loaded
}

// compareEarly compares the entries that were set before the contents were loaded, and are not
// in compared yet, with what t has of them, which was loaded.
func (c *Cache[K, V]) compareEarly(t *table[K, V], compared map[K]early[V]) {
	for k, e := range c.uncompared(t, compared) {
		e.same = c.same(k, t.shard(k).entries[k].state(), e.value)
		compared[k] = e
	}
}

// uncompared returns these entries.
func (c *Cache[K, V]) uncompared(t *table[K, V], compared map[K]early[V]) map[K]early[V] {
	all := make(map[K]early[V])
	now := c.table.Load()
	for i := range now.shards {
		s := &now.shards[i]
		s.mu.RLock()
		for k, e := range s.entries {
			was := t.shard(k).entries[k]
			if was != nil && was.kind.held() && e.kind == decoded && e.current() != compared[k].stamp {
				all[k] = early[V]{value: e.value, stamp: e.current()}
			}
		}
		s.mu.RUnlock()
	}
	return all
}

// reconcile gives entries that were written before t was loaded what t knows of
// them: the stamp of a value that was not changed by that, and a value that was
// removed, to be compared with what will be built. Nothing has read them yet.
// The gate is held exclusively.
func (c *Cache[K, V]) reconcile(t *table[K, V], compared map[K]early[V]) {
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
			if told := compared[k]; told.same && e.stamp.Load() == told.stamp && e.kind.held() {
				e.stamp.Store(was.current())
			} else if e.kind == absent && c.derives {
				var old any
				if was.kind.stamped() {
					old = was.state()
				} else if was.node != nil {
					g.Lock()
					old = was.node.Old()
					g.Unlock()
				}
				g.Lock()
				e.node = graph.NewNode(c.owner, e, c.derived(), graph.Dirty, was.current())
				e.node.ReadElsewhere()
				e.node.Remember(old)
				e.node.Distrust(graph.Invalidated)
				g.Unlock()
			}
		}
		s.mu.Unlock()
	}
}

// read returns the contents as the store or the Load hook has them, in a new
// table, and whether there were any that are valid. It always returns a table.
func (c *Cache[K, V]) read(ctx context.Context) (t *table[K, V], found bool, err error) {
	if err = c.reading.lock(ctx); err == nil {
		defer c.reading.unlock()
	}
	void := true // what is saved, if it is not found
	switch {
	case err != nil:
	case c.lane == nil:
		return newTable[K, V](1, false), false, nil
	case c.spec.Load != nil:
		t, found, err = c.readHook(ctx)
	case c.lane.store != nil:
		t, found, err = c.readLatest(ctx)
		void = err != nil || t.cleared
	}
	if err != nil || !found {
		none := newTable[K, V](1, c.saves())
		none.cleared = none.recorded && void
		if t != nil {
			none.former = t.former
		}
		return none, false, err
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
			t = newTable[K, V](1, c.saves())
			t.cleared = t.recorded
			return t, false, nil
		}
	}
	return t, true, nil
}

func (c *Cache[K, V]) readHook(ctx context.Context) (t *table[K, V], found bool, err error) {
	var contents map[K]V
	c.m.gate.RLock()
	void := c.slot.void() && (c.spec.Save != nil || c.spec.Delete != nil)
	c.m.gate.RUnlock()
	guard(&err, func() (err error) {
		if void { // and is yet to be deleted
			return ErrNotFound
		}
		contents, err = c.spec.Load(ctx)
		return err
	})
	if err == nil {
		err = c.fit(contents)
	}
	t = newTable[K, V](shardsFor(len(contents)), c.saves())
	if !c.whole {
		t.cleared, t.rewrite = t.recorded, t.recorded // the store does not have them
	}
	if errors.Is(err, ErrNotFound) {
		return t, false, nil
	}
	var notes hookNotes
	if err == nil {
		notes, err = c.hookNotes(ctx)
	}
	nodes := c.restorer(together(len(contents)))
	t.expect(len(contents))
	records := recorder{m: c.m, g: c.m.graph, c: &c.core}
	for k, v := range contents {
		if err != nil {
			break
		}
		var r record
		var fresh func(meta []byte)
		there := true
		if notes.known != nil {
			if key, value, err := c.encodeBoth(k, v); err == nil {
				r, there, fresh = notes.recognize(key, value)
			}
		}
		if v, err = c.afterLoad(ctx, k, v); err != nil || !there {
			continue
		}
		s, e := t.fill(k)
		c.restore(t, s, e, state[V]{value: v, kind: decoded}, r, false, nodes)
		if fresh != nil {
			v := e.version()
			if meta, err := records.append(nil, &v.trace, v.state.kind, c.version); err == nil {
				fresh(meta)
			}
		}
	}
	for key, n := range notes.known { // the hook has no value of these
		rec, ok := n.without(key)
		if !ok || !c.derives {
			notes.note(store.Delete, key, annotation{})
		} else if k, is := c.keyed().decodeKey(key).(K); is && c.fits(k) == nil && err == nil {
			if st, r, err := parseEntry[V](rec); err == nil {
				s, e := t.fill(k)
				c.restore(t, s, e, st, r, false, nodes)
			}
		}
	}
	t.notes = notes.fresh
	return t.settle(), err == nil, err
}

// encodeBoth encodes a key and its value as a Load hook has given it.
func (c *Cache[K, V]) encodeBoth(k K, v V) (key, value []byte, err error) {
	key, err = c.encodeKey(nil, k)
	if err == nil {
		guard(&err, func() (err error) {
			value, err = c.spec.Codec.Append(nil, v)
			return err
		})
	}
	return key, value, err
}

// readStore also asks a store that is not known to have anything, for others may have
// written it. If nothing is found, t.cleared says that what there is does not count.
func (c *Cache[K, V]) readStore(ctx context.Context) (t *table[K, V], found bool, err error) {
	c.m.gate.RLock()
	source := c.savedAs()
	records, description := source.records, source.description
	dropped := c.slot.void() || source != c.slot && source.void() && !c.taken // or it is void but for c
	c.m.gate.RUnlock()
	t = newTable[K, V](shardsFor(max(records, 0)), c.saves())
	if dropped { // and is deleted as that: later there is what others have set since
		return t, false, nil
	}
	as := c.readable(description)
	if as.migrates {
		t.cleared = t.recorded
	} else if as.reason != "" {
		c.m.emit(Event{Kind: EventInvalidated, Cache: c.slot.name, Reason: as.reason})
		if !as.outdated || !c.derives && c.spec.BuildAll == nil {
			t.cleared = t.recorded
			return t, false, nil
		}
	}
	former := as.outdated && !c.derives && !as.migrates // they are to be built as a whole
	t.whole, t.unbuilt = string(as.Whole), as.Unbuilt
	nodes := c.restorer(together(records))
	t.expect(records)
	_, apart := c.lane.store.(*annotated)
	notes := recorder{m: c.m, g: c.m.graph, c: &c.core}
	damaged := func(e Event) {
		e.Kind, e.Cache = EventDamaged, c.slot.name
		c.m.emit(e)
		c.lacking(t)
	}
	for rec, err := range c.records(ctx, source) {
		switch {
		case err == nil:
		case errors.Is(err, store.ErrCorrupt):
			damaged(Event{Reason: "a record cannot be read", Err: err})
			continue
		case errors.Is(err, store.ErrNotFound):
			t.cleared = false
			return t, false, nil
		default:
			return t, false, err
		}
		var k K
		guard(&err, func() (err error) {
			k, err = c.spec.KeyCodec.Decode(rec.Key)
			return cmp.Or(err, c.fits(k))
		})
		if err != nil {
			damaged(Event{Reason: "a key cannot be decoded", Err: err})
			continue
		}
		if as.migrates {
			c.migrate(ctx, t, k, rec, as.description, nodes)
			if ctx.Err() != nil { // which may be why it failed: nothing is missing
				return t, false, flight.Cause(ctx)
			}
			continue
		}
		st, r, err := parseEntry[V](rec)
		if err != nil {
			damaged(Event{Key: k, Err: err})
			continue
		}
		s, e := t.fill(k)
		c.restore(t, s, e, st, r, as.outdated && !former, nodes)
		if apart && r.stamp == 0 && st.kind.held() { // to be recognized the next time
			v := e.version()
			if meta, err := notes.append(nil, &v.trace, st.kind, c.version); err == nil {
				t.notes = append(t.notes, store.Op{Kind: store.Put, Cache: notesOn(source.name), Key: rec.Key, Value: []byte(fingerprint(rec.Value)), Meta: meta})
			}
		}
	}
	if former {
		empty := newTable[K, V](1, c.saves())
		empty.former = t.settle() // the store goes on having it until there is something else
		return empty, false, nil
	}
	return t.settle(), true, nil
}

// parseEntry returns what a record says of an entry.
func parseEntry[V any](rec store.Record) (st state[V], r record, err error) {
	if r, err = parseRecord(rec.Meta); err != nil {
		return st, r, err
	}
	if uint64(len(rec.Value)) > math.MaxUint32 {
		return st, r, fmt.Errorf("its value has %d bytes, more than the %d that are possible", len(rec.Value), uint32(math.MaxUint32))
	}
	r.size = sizeOf(rec)
	st = state[V]{raw: unsafe.String(unsafe.SliceData(rec.Value), len(rec.Value)), kind: encoded}
	switch {
	case r.flags&(flagNone|flagError) == flagNone|flagError:
		st.kind = lacking
	case r.flags&flagNone != 0:
		st = state[V]{kind: missing}
	case r.flags&flagError != 0:
		st.kind = broken
	case r.flags&flagDropped != 0:
		st.kind = dropped
	}
	return st, r, nil
}

// readable says what a cache can make of contents that were saved under some description.
type readable struct {
	description        // zero if there is none
	reason      string // why they cannot be taken as they are; "" if they can
	outdated    bool   // it is only that the version is another
	migrates    bool   // Spec.Migrate is to say what they are now
}

// readable returns what c can make of what the store has under the description stored.
func (c *Cache[K, V]) readable(stored []byte) (r readable) {
	if len(stored) == 0 {
		return r
	}
	d, err := c.described, error(nil)
	if !bytes.Equal(stored, d.encode()) { // mostly; see appendPlain
		d, err = parseDescription(stored)
	}
	if err != nil {
		r.reason = "its description cannot be read: " + err.Error()
		return r
	}
	r.description, r.migrates = d, c.migrates(d)
	switch {
	case d.Format != descriptionFormat:
		r.reason = fmt.Sprintf("it was saved in format %d, this is %d", d.Format, descriptionFormat)
	case d.KeyCodec != c.described.KeyCodec:
		r.reason = fmt.Sprintf("its keys were saved by codec %s as %s, the codec is now %s", d.KeyCodec, d.Type, c.described.KeyCodec)
	case d.Codec != c.described.Codec:
		r.reason = fmt.Sprintf("its values were saved by codec %s as %s, the codec is now %s", d.Codec, d.Type, c.described.Codec)
	case d.Schema != c.described.Schema && c.spec.BuildAll != nil:
		r.reason = fmt.Sprintf("its values were saved as %s, which looked otherwise than it does now", d.Type)
	case d.Version != c.described.Version:
		r.reason, r.outdated = fmt.Sprintf("it was saved by version %q, this is %q", d.Version, c.described.Version), true
	}
	return r
}

// lacking notes that t, which is being loaded, lacks what BuildAll had made, in this or an
// earlier run: it is to be built again.
func (c *Cache[K, V]) lacking(t *table[K, V]) {
	if c.all != nil || t.whole != "" {
		t.whole = unknownEdges
	}
}

// contents returns the entries of a table nobody else has yet, all decoded;
// those that cannot be decoded are taken from it.
func (c *Cache[K, V]) contents(t *table[K, V]) map[K]V {
	all := make(map[K]V)
	for i := range t.shards {
		s := &t.shards[i]
		for k, e := range s.entries {
			if e.kind == encoded {
				if _, ok := c.decode(s, e, e.state().raw); !ok {
					c.lacking(t)
				}
			}
			if e.kind == decoded {
				all[k] = e.value
			}
		}
	}
	return all
}
