package cacheman

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/store"
)

// Scope says which caches an operation of the Manager concerns.
type Scope struct {
	names      []string
	dependents bool
	all        bool
}

// All is the scope of all registered caches.
func All() Scope { return Scope{all: true} }

// Only is the scope of the named caches.
func Only(names ...string) Scope { return Scope{names: names} }

// WithDependents is the scope of the named caches and those that depend on
// them, directly or through others.
func WithDependents(names ...string) Scope { return Scope{names: names, dependents: true} }

// resolve returns the registered caches of scope, each once, upstream first, and
// if saved is set also others that it names, of which something is saved.
// The gate is held.
func (m *Manager) resolve(op string, scope Scope, saved bool) ([]*slot, error) {
	var slots []*slot
	if scope.all {
		for _, s := range m.slots {
			if s.cache != nil {
				slots = append(slots, s)
			}
		}
		slices.SortFunc(slots, func(a, b *slot) int { return cmp.Compare(a.name, b.name) })
		return upstreamFirst(slots), nil
	}
	for _, name := range scope.names {
		s := m.slots[name]
		if s == nil || s.cache == nil && !(saved && m.left(s)) {
			return nil, &Error{Op: op, Cache: name, Err: ErrUnknown}
		}
		if !slices.Contains(slots, s) {
			slots = append(slots, s)
		}
	}
	if scope.dependents {
		for _, s := range dependentsOf(slots, false) {
			if s.cache != nil {
				slots = append(slots, s)
			}
		}
	}
	return upstreamFirst(slots), nil
}

// within resolves scope to caches, for operations that need no single step.
func (m *Manager) within(op string, scope Scope) ([]*core, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if m.closed {
		return nil, &Error{Op: op, Err: ErrClosed}
	}
	slots, err := m.resolve(op, scope, false)
	cores := make([]*core, len(slots))
	for i, s := range slots {
		cores[i] = s.cache
	}
	return cores, err
}

// Sync makes the changes in the caches of the scopes durable; without a scope,
// those in all caches. When it returns nil, every change that was complete when
// Sync was called would survive the loss of power, if the store is Durable.
//
// Changes in caches of one store are one atomic batch. Invalidations are saved
// in any case, whatever the scopes. If it fails, nothing is lost: what was not
// saved stays unsaved, and autosync will try again. A value that cannot be
// encoded does not hinder the others.
//
// Who gives scopes should give what a cache is declared to depend on with it: a change of that
// which is lost in a crash is one that the cache, if it was saved alone, has seen.
func (m *Manager) Sync(ctx context.Context, scopes ...Scope) error {
	m.gate.RLock()
	if m.closed {
		m.gate.RUnlock()
		return &Error{Op: "sync", Err: ErrClosed}
	}
	lanes := make(map[*lane]bool)
	var only map[*slot]bool
	if len(scopes) == 0 {
		scopes = []Scope{All()}
		lanes[m.main] = true
	} else {
		only = make(map[*slot]bool)
	}
	for _, scope := range scopes {
		slots, err := m.resolve("sync", scope, false)
		if err != nil {
			m.gate.RUnlock()
			return err
		}
		for _, s := range slots {
			if s.cache.lane != nil {
				lanes[s.cache.lane] = true
			}
			if only != nil {
				only[s] = true
			}
		}
	}
	m.gate.RUnlock()
	return syncAll(ctx, slices.Collect(maps.Keys(lanes)), cutAll, only)
}

// Sync makes the changes in c durable; see Manager.Sync.
func (c *Cache[K, V]) Sync(ctx context.Context) error { return c.m.Sync(ctx, Only(c.slot.name)) }

// Load makes the contents of the caches of scope available, several at once;
// see Cache.Load. Each that is read is an event. It goes on after an error and
// returns all of them.
func (m *Manager) Load(ctx context.Context, scope Scope) error {
	cores, err := m.within("load", scope)
	var errs errorList
	errs.add(err)
	if err := each(ctx, 1, cores, func(ctx context.Context, c *core) {
		errs.add(c.err(ctx, "load", nil, c.typed.prepare(ctx, true)))
	}); err != nil {
		return wrap(ctx, "load", "", nil, err)
	}
	return errs.join()
}

// Reload reloads the caches of scope, upstream first; see Cache.Reload. It goes
// on after an error and returns all of them.
func (m *Manager) Reload(ctx context.Context, scope Scope) error {
	cores, err := m.within("reload", scope)
	var errs errorList
	errs.add(err)
	for _, c := range cores {
		errs.add(c.typed.reload(ctx))
	}
	return errs.join()
}

// Invalidate removes all entries of the caches of scope and of all their
// dependents, for good: what was computed before is never served again, in
// memory, by a builder that is running, or, once a sync has followed, after a
// restart. It is one step for readers, and one batch for the store. Its cost
// follows the number of caches, not of entries. Caches that are [Manager.Unregistered]
// may be named, too: the next sync removes what is saved of them.
func (m *Manager) Invalidate(scope Scope) error { return m.invalidate("invalidate", scope, true) }

// InvalidateAll invalidates c and its dependents; see Manager.Invalidate.
func (c *Cache[K, V]) InvalidateAll() error { return c.m.Invalidate(Only(c.slot.name)) }

// Touch invalidates the dependents of the caches of scope, but not these: it
// says that they have changed in a way that the Manager did not see.
func (m *Manager) Touch(scope Scope) error { return m.invalidate("touch", scope, false) }

// Touch invalidates the dependents of c; see Manager.Touch.
func (c *Cache[K, V]) Touch() error { return c.m.Touch(Only(c.slot.name)) }

func (m *Manager) invalidate(op string, scope Scope, roots bool) error {
	if err := m.refuses(); err != nil {
		return &Error{Op: op, Err: err}
	}
	reached := func() (touched, gone []*slot, err error) {
		touched, err = m.resolve(op, scope, roots)
		gone = dependentsOf(touched, false)
		if roots {
			gone = slices.Concat(touched, gone)
		}
		return touched, gone, err
	}
	if m.passed.Load() { // before and after, like a write; see hand.go
		m.gate.RLock()
		_, slots, err := reached()
		m.gate.RUnlock()
		if err == nil {
			err = m.noteWhole(slots)
		}
		if err != nil {
			return wrap(context.Background(), op, "", nil, err)
		}
	}
	m.gate.Lock()
	if m.closed {
		m.gate.Unlock()
		return &Error{Op: op, Err: ErrClosed}
	}
	touched, slots, err := reached()
	if err == nil {
		at := m.graph.Next()
		for _, s := range touched {
			m.changed(s, true, at)
		}
		m.drop(slots, nil)
	}
	m.gate.Unlock()
	if err == nil {
		err = m.noteWhole(slots)
		m.emitInvalidated(slots, op)
	}
	return wrap(context.Background(), op, "", nil, err)
}

// Rebuild invalidates the caches of scope and their dependents, then builds
// those of scope, upstream first, and syncs. A cache with BuildAll is built as a
// whole, one with Build gets the keys back that it had, one with neither is
// empty. Dependents outside of scope are built when they are asked for. It goes
// on after an error and returns all of them; ErrNotFound and kept errors are results.
func (m *Manager) Rebuild(ctx context.Context, scope Scope) error {
	cores, err := m.within("rebuild", scope)
	if err == nil && m.opts.ReadOnly {
		err = &Error{Op: "rebuild", Err: ErrReadOnly}
	}
	if err != nil {
		return err
	}
	var errs errorList
	keys := make([][]any, len(cores))
	for i, c := range cores {
		errs.add(c.typed.prepare(ctx, false)) // to know the keys
		keys[i] = c.typed.keysToRebuild()
	}
	if ctx.Err() != nil {
		return flight.Cause(ctx) // nothing was touched
	}
	errs = errorList{} // what cannot be loaded is about to be replaced
	if err := m.Invalidate(scope); err != nil {
		return err
	}
	for i, c := range cores {
		errs.add(c.typed.rebuild(ctx, keys[i]))
	}
	errs.add(m.Sync(ctx, scope))
	return errs.join()
}

// Rebuild invalidates c and its dependents, then builds c; see Manager.Rebuild.
func (c *Cache[K, V]) Rebuild(ctx context.Context) error {
	return c.m.Rebuild(ctx, Only(c.slot.name))
}

// DeleteSaved deletes what was saved of the caches of scope, and leaves what is
// in memory alone: contents that were not read yet are read first; those that cannot be
// are left where they are, and an error: Invalidate does without them. What is deleted counts
// as unsaved from then on: the next Sync saves them all, and so does the autosync
// or Close that follows the next change; without a change, Close does not. What is saved of caches
// that are declared to depend on them stays, unless scope is WithDependents.
func (m *Manager) DeleteSaved(ctx context.Context, scope Scope) error {
	cores, err := m.within("delete", scope)
	if err == nil && m.opts.ReadOnly {
		err = &Error{Op: "delete", Err: ErrReadOnly}
	}
	if err != nil {
		return err
	}
	var errs errorList
	lanes := make(map[*lane][]*core)
	for _, c := range cores {
		if c.lane == nil {
			continue
		}
		if err := c.typed.prepare(ctx, false); err != nil {
			if ctx.Err() != nil {
				return flight.Cause(ctx)
			}
			errs.add(c.err(ctx, "delete", nil, fmt.Errorf("what was saved has to be loaded before, and cannot be: %w", err)))
			continue
		}
		lanes[c.lane] = append(lanes[c.lane], c)
	}
	for l, cores := range lanes {
		errs.add(l.deleteSaved(ctx, cores))
	}
	return wrap(ctx, "delete", "", nil, errs.join())
}

// DeleteSaved deletes what was saved of c; see Manager.DeleteSaved.
func (c *Cache[K, V]) DeleteSaved(ctx context.Context) error {
	return c.m.DeleteSaved(ctx, Only(c.slot.name))
}

func (l *lane) deleteSaved(ctx context.Context, cores []*core) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	ctx, done := l.m.untilClosed(ctx)
	defer done()
	var errs errorList
	var unsure []*core // of which some may have been deleted
	cores = slices.DeleteFunc(cores, func(c *core) bool {
		err := c.deleteSaved(ctx)
		errs.add(err)
		if err != nil && l.store == nil {
			unsure = append(unsure, c)
		}
		return err != nil
	})
	var slots []*slot
	l.m.gate.RLock()
	for _, c := range cores {
		slots = append(slots, c.slot)
		for former := range c.formerSlots {
			if former.lane == l {
				slots = append(slots, former)
			}
		}
	}
	l.m.gate.RUnlock()
	if l.store != nil && len(cores) > 0 {
		err := l.store.Apply(ctx, func(yield func(store.Op, error) bool) {
			for _, s := range slots {
				if !yield(store.Op{Kind: store.Drop, Cache: s.name}, nil) {
					return
				}
			}
		})
		if err != nil {
			errs.add(wrap(ctx, "delete", "", nil, err))
			if !l.store.Caps().Atomic {
				unsure = append(unsure, cores...)
			}
			cores, slots = nil, nil
		}
	}
	l.m.gate.Lock()
	defer l.m.gate.Unlock()
	for _, s := range slots {
		s.stored, s.dropped, s.description, s.records = false, false, nil, 0
	}
	for _, c := range cores {
		c.slot.deleted = true
		c.typed.forget(true)
		l.add(c.slot)
	}
	for _, c := range unsure {
		c.typed.forget(false)
		c.edited(1)
	}
	return ended(ctx, errs.join())
}

// Deregister saves the caches of scope and takes them out of the Manager. Their
// names are free then, their handles answer ErrClosed, or where they have no error to return
// find nothing, and their declared dependencies stay. Where saving fails, nothing is deregistered.
func (m *Manager) Deregister(ctx context.Context, scope Scope) error {
	cores, err := m.within("deregister", scope)
	if err != nil || len(cores) == 0 {
		return err
	}
	m.gate.Lock()
	cores = m.withFacets(cores)
	for _, c := range cores {
		c.sealed++
	}
	m.gate.Unlock()
	taken := false
	defer func() { // also if a hook ends the goroutine
		if taken {
			return
		}
		m.gate.Lock()
		defer m.gate.Unlock()
		for _, c := range cores {
			c.sealed--
		}
	}()
	lanes := make(map[*lane]bool)
	only := make(map[*slot]bool)
	for _, c := range cores {
		only[c.slot] = true
		if c.lane != nil {
			lanes[c.lane] = true
		}
	}
	for unsaved := true; unsaved; {
		if err := syncAll(ctx, slices.Collect(maps.Keys(lanes)), cutEdited, only); err != nil {
			return wrap(ctx, "deregister", "", nil, err)
		}
		m.gate.Lock()
		unsaved = slices.ContainsFunc(cores, func(c *core) bool { return c.lane != nil && c.slot.cache == c && c.slot.dropped }) // by an invalidation meanwhile
		if taken = !unsaved; taken {
			m.takeOut(cores)
		}
		m.gate.Unlock()
	}
	for _, c := range cores {
		for _, l := range c.limits {
			if l.only == c {
				l.cancel()
				l.stop(ctx)
			}
		}
	}
	return nil
}

// takeOut takes caches out of m. The gate is held exclusively.
func (m *Manager) takeOut(cores []*core) {
	for _, c := range cores {
		c.state.Store(stateClosed)
		if c.slot.cache == c {
			c.slot.cache = nil
			m.graph.Lock()
			if c.owner.IsRead() {
				s := c.slot
				if _, of, is := ofFacet(s.name); is {
					s = m.slot(of)
				}
				s.former = append(s.former, c)
			} else { // nor will it be by those that are just finding what they were built from
				m.graph.Wrote()
				c.owner.Replace()
			}
			m.graph.Unlock()
		}
		if c.lane != nil && c.lane.store == nil {
			c.lane.stop()
		}
	}
}
