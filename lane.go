package cacheman

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/store"
)

// lane is the way to one place where contents are saved: a store, with all
// caches in it, or the Save hook of one cache. On a lane one save follows
// another; lanes do not wait for each other, but for batch.reserve.
type lane struct {
	m     *Manager
	store store.Store // nil for a hook
	token             // held while a save is under way
	base  uint64      // the revision at which the lane was made: its store had no stamp above it then, and nothing gets one below it

	shows uint64 // the mark of a store that follows another, when it was last looked at; guarded by the gate

	mu      sync.Mutex
	pending []*slot       // those with listed set: they have something to save
	timer   *time.Timer   // calls autosync
	at      time.Time     // when; zero if it is not set
	retry   time.Duration // the pause after the last failure; 0 after a success
	again   time.Time     // when what could not be saved is tried again
	notYet  time.Time     // autosync pauses until then, for nothing could be saved
	stopped bool
}

func (m *Manager) newLane(s store.Store) *lane {
	return &lane{m: m, store: s, token: newToken(), base: m.graph.Revision()}
}

// laneOf returns the lane of s. The gate is held exclusively, or m not shared.
func (m *Manager) laneOf(s store.Store) *lane {
	l := m.lanes[s]
	if l == nil {
		l = m.newLane(m.annotate(s))
		m.lanes[s] = l
	}
	return l
}

// token is a lock that is waited for only as long as a ctx lasts.
type token chan struct{}

func newToken() token { return make(token, 1) }

func (t token) lock(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return flight.Cause(ctx)
	}
}

func (t token) unlock() { <-t }

// add notes that s has something to save. The gate is held.
func (l *lane) add(s *slot) {
	if l.m.opts.ReadOnly {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.listed {
		s.listed = true
		l.pending = append(l.pending, s)
	}
}

// remove undoes add, for s will be saved elsewhere. The gate is held exclusively.
func (l *lane) remove(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = slices.DeleteFunc(l.pending, func(p *slot) bool { return p == s })
	s.listed = false
}

// unread returns the caches that have something to save and are to be loaded before.
// The gate is held.
func (l *lane) unread() (caches []*core) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.pending {
		c := s.cache
		if c == nil || c.state.Load() != stateUnloaded {
			continue
		}
		nothing := c.lane.store == nil && c.edits.Load() == 0 && !s.dropped // but its standing
		if !nothing && (c.mustBeRead() || c.typed.early()) {
			caches = append(caches, c)
		}
	}
	return caches
}

// mustBeRead reports that c cannot be saved if it cannot be loaded before: the hook gets
// the whole contents, and what another version has left must not be taken for that of this
// one. The gate is held.
func (c *core) mustBeRead() bool { return c.lane.store == nil || c.typed.outdated() }

// arm makes sure that autosync looks at the lane at the given time.
func (l *lane) arm(at time.Time) {
	if l.m.opts.ReadOnly {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.Before(l.notYet) {
		at = l.notYet
	}
	if l.stopped || !l.at.IsZero() && !at.Before(l.at) {
		return
	}
	l.at = at
	if d := time.Until(at); l.timer == nil {
		l.timer = time.AfterFunc(d, l.autosync)
	} else {
		l.timer.Reset(d)
	}
}

// armDefault arms for one edit under the Manager's own rules.
func (l *lane) armDefault() {
	for _, t := range l.m.triggers() {
		if t.edits == 1 {
			l.arm(time.Now().Add(t.after))
			return
		}
	}
}

func (m *Manager) triggers() []trigger {
	if m.opts.Autosync != nil {
		return m.opts.Autosync.triggers()
	}
	return Autosync{}.triggers()
}

// stop ends autosync for good.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// autosync is called by the timer. It saves everything in the lane if anything
// is due, for one batch costs less than several and is more consistent.
func (l *lane) autosync() {
	l.mu.Lock()
	l.at = time.Time{}
	l.mu.Unlock()
	if at, ok := l.due(); ok && !at.After(time.Now()) {
		l.sync(l.m.ctx, cutDue, nil) // failures are events, and armed again
	} else if ok {
		l.arm(at)
	}
}

// due returns when autosync is to save something; false if it has no reason to.
func (l *lane) due() (first time.Time, ok bool) {
	l.m.gate.RLock()
	defer l.m.gate.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.pending {
		at, due := l.again, s.dropped
		if s.cache != nil && s.cache.lane != nil {
			at, due = s.cache.due(l.again)
		}
		if due && (!ok || at.Before(first)) {
			first, ok = at, true
		}
	}
	if first.Before(l.notYet) {
		first = l.notYet
	}
	return first, ok
}

// What a sync takes from a cache that has something to save.
const (
	cutDue    = iota // unsaved edits, unless autosync is off for the cache
	cutEdited        // unsaved edits
	cutAll           // and contents that were deleted from the store
)

// cut is what one cache has to save: its part of a batch.
type cut struct {
	slot     *slot
	cache    *core     // nil: an unregistered one, of which only dropped is to be saved
	edits    int64     // what is restored if saving fails …
	dropped  bool      // …
	deleted  bool      // …: of a cache whose contents were deleted from the store
	bytes    int64     // that were written
	describe []byte    // nil: the store has the right description
	standing *standing // nil: it is what is noted, or there is none
	part     part      // nil: no entries
}

// part is what a table has to save.
type part interface {
	// write gives the ops to yield, unless that returns false: then so does
	// write. For entries that cannot be encoded, what is stored of them is
	// removed, and the reason added to errs.
	write(ctx context.Context, yield func(store.Op, error) bool, errs *errorList) bool
	// lacks is called after write, and reports whether what BuildAll has made was
	// written without some of it.
	lacks() bool
	// save calls the Save hook, with n entries.
	save(ctx context.Context) (n int, err error)
	// finish is called last; if what was given was not saved, or could not
	// be encoded, it is unsaved again.
	finish(saved bool)
}

// sync saves what the caches of the lane have to save: those in only, or all
// if that is nil. Whatever only says, invalidations are always saved, so that
// they stay one step with those of their dependents.
func (l *lane) sync(caller context.Context, take int, only map[*slot]bool) (err error) {
	l.m.loadHand(caller)
	if err := l.lock(caller); err != nil {
		return err
	}
	defer l.unlock()
	ctx, done := l.m.untilClosed(caller)
	defer done()
	cuts, unread := l.cut(ctx, take, only)
	if unread == ErrClosed {
		return &Error{Op: "sync", Err: ErrClosed}
	}
	if len(cuts) == 0 && !l.notes() && unread == nil {
		return nil
	}
	start := time.Now()
	b := &batch{m: l.m, cuts: cuts, described: l.store != nil && l.store.Caps().Described, shared: shared(l.store), elsewhere: l != l.m.main}
	err = exited // unless the hooks, the codecs and the store return
	defer func() {
		if err == exited {
			err = &Error{Op: "sync", Err: &PanicError{Stack: debug.Stack()}}
		}
		l.finish(b.cuts, err)
		if err != nil {
			l.m.noteLater.putBack(b.notes)
		}
		b.errs.add(unread)
		b.errs.add(wrap(caller, "sync", "", nil, err)) // beside those that are said of entries
		all := err != nil || l.store == nil            // where anything fails, nothing was saved
		err = wrap(caller, "sync", "", nil, ended(ctx, b.errs.join()))
		defer l.rearm(err != nil, all, ctx.Err() != nil) // who observes may end the goroutine, too
		event := Event{Kind: EventSynced, Count: b.entries, Bytes: b.bytes, Duration: time.Since(start), Err: err}
		if err != nil {
			event.Kind = EventSyncFailed
		}
		if !errors.Is(err, ErrClosed) { // then Close saves once more
			l.m.emit(event)
		}
	}()
	err = l.save(ctx, b)
	return err
}

// save gives the cuts of b to the hooks or the store. Those whose Delete hook has failed
// are settled, and not of b any more.
func (l *lane) save(ctx context.Context, b *batch) (err error) {
	if err := l.noteStandings(ctx, b.cuts, true); err != nil {
		return err
	}
	for _, c := range slices.Clone(b.cuts) {
		// Hooks first: where one fails, the others are saved all the same.
		if err := b.callDelete(ctx, c); err != nil {
			b.cuts = slices.DeleteFunc(b.cuts, func(other *cut) bool { return other == c })
			l.finish([]*cut{c}, err)
		}
	}
	if l.store == nil {
		err = b.callSave(ctx)
	} else if len(b.cuts) > 0 || l.notes() {
		guard(&err, func() error {
			if err := l.m.reserveStamps(ctx, l.store); err != nil {
				return err
			}
			return l.store.Apply(ctx, func(yield func(store.Op, error) bool) { b.write(ctx, yield) })
		})
	}
	if err == nil {
		err = l.noteStandings(ctx, b.cuts, false)
	}
	if err == nil && !b.elsewhere {
		l.m.mark.Store(max(b.mark, l.m.mark.Load()))
	}
	return err
}

// notes reports whether there are some that l is to save.
func (l *lane) notes() bool { return l == l.m.main && l.m.noteLater.any() }

// cut takes from the caches what they have to save, in one step, but for those that
// cannot be loaded although they must be, of which the error tells. When Close has given up,
// nothing is taken: what is not loaded could not be told from what is.
func (l *lane) cut(ctx context.Context, take int, only map[*slot]bool) ([]*cut, error) {
	wanted := func(s *slot) bool {
		return (only == nil || only[s]) && !(s.cache != nil && take == cutDue && s.cache.triggers == nil)
	}
	var errs errorList
	failed := make(map[*slot]bool)
	tried := make(map[*slot]bool) // and failed, but need not be loaded
	l.m.gate.Lock()
	for again := true; again; {
		again = false
		for _, c := range l.unread() {
			if failed[c.slot] || tried[c.slot] && (!c.mustBeRead() || !wanted(c.slot)) {
				continue
			}
			again = true // for others may have been written to meanwhile
			err := l.m.unloadable[c]
			if err == nil {
				l.m.gate.Unlock()
				err = c.typed.prepare(ctx, false)
				l.m.gate.Lock()
			}
			if err != nil && (!wanted(c.slot) || ctx.Err() == nil && !c.mustBeRead()) {
				tried[c.slot] = true
			} else if err != nil {
				failed[c.slot] = true
				c.syncErrors.Add(1)
				c.failedEdits.Store(c.edits.Load())
				errs.add(c.err(ctx, "sync", nil, fmt.Errorf("what was saved has to be loaded before, and cannot be: %w", err)))
			}
		}
	}
	defer l.m.gate.Unlock()
	if l.m.ended {
		return nil, ErrClosed
	}
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	for _, s := range pending {
		s.listed = false
	}
	l.mu.Unlock()
	var cuts []*cut
	for _, s := range pending {
		heir := l.m.heir(s.name)
		if heir != nil && !(heir.taken && heir.savedAs() == s) {
			heir = nil
		}
		if failed[s] || heir != nil && (failed[heir.slot] || !wanted(heir.slot)) { // until that is saved, this is all there is of it
			l.add(s)
			continue
		}
		wanted := wanted(s)
		c := l.cutSlot(s, wanted, take == cutAll)
		if c != nil {
			cuts = append(cuts, c)
		}
		if !wanted || c == nil && s.deleted {
			l.add(s) // it has something for another time
		}
	}
	for _, c := range cuts {
		if c.standing == nil && c.slot.noted != nil { // since one that depends on it was cut
			l.cutStanding(c, wanted(c.slot))
		}
	}
	return cuts, errs.join()
}

// cutSlot takes what of s is to be saved, or returns nil if there is nothing. all says that contents that
// were deleted from the store are, too. The gate is held exclusively.
func (l *lane) cutSlot(s *slot, wanted, all bool) *cut {
	c := &cut{slot: s, cache: s.cache, dropped: s.dropped}
	s.dropped, s.dropping = false, s.dropped
	saves := s.cache != nil && s.cache.lane != nil
	if saves && wanted {
		s.cache.failedEdits.Store(0)
		if c.edits = s.cache.edits.Swap(0); c.edits > 0 || all {
			c.part = s.cache.typed.cut(all)
			c.deleted, s.deleted = s.deleted, false
		}
	}
	switch {
	case !wanted:
	case saves:
		c.describe = l.description(c)
	case s.cache == nil && s.stored && !c.dropped: // what it depends on has another name
		c.describe = s.describeUnregistered()
	}
	l.cutStanding(c, wanted)
	if !c.dropped && c.part == nil && c.describe == nil && c.standing == nil {
		return nil
	}
	return c
}

// description returns the description that is to be saved with c, of a cache that is
// registered, or nil if the store has the right one. The gate is held.
func (l *lane) description(c *cut) []byte {
	s := c.slot
	if c.part == nil && (c.dropped || !s.stored || s.cache.typed.hasFormer()) {
		return nil // of what is not saved nothing says in what form it is
	}
	d, shared := s.describe(), s.cache.sharing()
	switch {
	case shared && c.part == nil && s.cache.all != nil: // the contents there may be another's by now
		if !describeAlike(d, s.description) {
			return s.cache.describeLacking()
		}
	case c.part == nil && len(s.description) == 0 && !l.describes(): // nor would it be there the next time
	case string(d) != string(s.description) || c.dropped || !s.stored || shared && c.part != nil: // another may have dropped it
		return d
	}
	return nil
}

// describes reports whether the store gives descriptions back.
func (l *lane) describes() bool {
	_, valuesOnly := l.store.(*annotated)
	return !valuesOnly && l.store != nil && l.store.Caps().Described
}

func (l *lane) cutStanding(c *cut, wanted bool) {
	if s := c.slot; s.cache != nil && (s.cache.lane != nil && (wanted || c.dropped) || s.lane == nil) {
		c.standing = l.m.cutStanding(s, !wanted && s.cache.edits.Load() > 0)
	}
}

// finish settles what was taken by cuts, which were saved or met with err.
func (l *lane) finish(cuts []*cut, err error) {
	for _, c := range cuts {
		if c.cache != nil && err == nil { // before it is being saved no more: what Reload read until now may be old
			c.cache.syncs.Add(1)
		}
		if c.part != nil {
			c.part.finish(err == nil)
		}
	}
	l.m.gate.Lock()
	defer l.m.gate.Unlock()
	for _, c := range cuts {
		c.slot.dropping = false
		if s := c.slot; err != nil {
			s.dropped = s.dropped || c.dropped
			l.add(s)
		} else {
			if c.dropped {
				s.stored, s.description = false, nil
			}
			if c.describe != nil {
				s.description = c.describe
			}
			s.stored = s.stored || c.part != nil
			s.records = -1
		}
		if c.standing != nil && err == nil {
			c.slot.noted = c.standing.encode()
		}
		switch {
		case c.cache == nil:
		case err != nil:
			if c.edits > 0 || c.deleted { // those that were deleted are unsaved without an edit
				c.cache.unsaved(max(1, c.edits))
			}
			c.cache.syncErrors.Add(1)
			c.cache.failed(err)
		default:
			c.cache.grew(0, c.bytes)
			c.cache.lastSync.Store(time.Now().UnixNano())
		}
	}
}

// rearm sets the timer after a save, of which something failed, or all. That its ctx ended
// says nothing about the next.
func (l *lane) rearm(failed, all, ended bool) {
	l.mu.Lock()
	paused := !l.notYet.IsZero()
	l.notYet = time.Time{}
	if l.retry *= 2; !failed || ended {
		l.retry = 0
	}
	if failed {
		l.retry = min(max(l.retry, firstRetry), lastRetry)
		l.again = time.Now().Add(l.retry)
		if all && !ended {
			l.notYet = l.again
		}
	}
	again := l.again
	l.mu.Unlock()
	if failed {
		l.arm(again)
	}
	if paused { // what came meanwhile was put off
		l.arm(time.Now())
	}
}

// syncAll syncs lanes beside each other and returns their errors.
func syncAll(ctx context.Context, lanes []*lane, take int, only map[*slot]bool) error {
	if len(lanes) == 1 {
		return lanes[0].sync(ctx, take, only)
	}
	var errs errorList
	var wg sync.WaitGroup
	for _, l := range lanes {
		wg.Go(func() {
			err := error(&Error{Op: "sync", Err: exited}) // unless it returns
			defer func() { errs.add(err) }()
			err = l.sync(ctx, take, only)
		})
	}
	wg.Wait()
	return errs.join()
}

// errorList collects errors from many goroutines. It keeps the first few of
// them, for there may be one for each of a million entries.
type errorList struct {
	mu   sync.Mutex
	errs []error
	more int
}

const maxErrors = 8

func (l *errorList) add(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) < maxErrors {
		l.errs = append(l.errs, err)
	} else {
		l.more++
	}
}

// join returns nil, the only error, or all of them as one.
func (l *errorList) join() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.errs) == 0:
		return nil
	case len(l.errs) == 1:
		return l.errs[0]
	case l.more > 0:
		return errors.Join(append(slices.Clone(l.errs), fmt.Errorf("and %d more errors", l.more))...)
	}
	return errors.Join(l.errs...)
}
