package cacheman

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman/store"
)

// unsaved is above all stamps that were ever saved. Those that a read-only
// Manager gives to what it builds itself are above it, so that they never equal
// one of the writer's.
const unsaved = 1 << 62

// leftOut is how many stamps are left out by who opens a store to write it. A batch that failed,
// for the disk did not sync, may have been read. If its writer ended before another succeeded, the
// next one does not know of its stamps. Were it to issue them again, what a reader has computed
// from that batch would look clean.
const leftOut = 1 << 20

// startBelow is below what stamps begin when the store has lost the mark that says which
// there were, for it was damaged: a reader that stays open, and other stores, have some of
// them still. They begin anywhere, so that none of those comes to be that of another value.
const startBelow = 1 << 40

// Follow goes on to what has been saved by now: by the process that has the
// directory open for writing, beside this Manager, which was opened with
// ReadOnly. It returns the names of the registered caches that may have changed.
// These are read anew when somebody asks for them, and what was computed from
// them is checked then; what the Manager had built itself in these caches is
// forgotten. Those declared to depend on them are among them, for whether they were
// changed or invalidated cannot be told; but what a Touch concerns is seen only where it
// was saved. So are those that are kept elsewhere, by hooks or in a store of values, when they were saved
// there. What such a place has by then is read, unless that is not what they depend on by
// now: then they are built. A Store of their own that shows what another process saves there by and by is for
// whoever has opened it to bring up to date, best before, and what is declared to depend on nothing there is read anew
// only by Reload. It takes no longer than what was saved is large.
//
// All caches go on at the same instant: once a read has returned something that
// is new, no read that begins afterwards returns what was there before. Of
// several reads some may come before that instant and some after it, as with any
// write.
func (m *Manager) Follow(ctx context.Context) (changed []string, err error) {
	f, ok := m.store.(store.Follower)
	if !ok {
		return nil, &Error{Op: "follow", Err: errors.New("it is possible only for a Manager that was opened with ReadOnly")}
	}
	var gone []*slot
	_, err = f.Refresh(ctx, func(names []string, infos []store.Info, show func()) {
		changed, gone = m.follow(names, infos, show)
	})
	m.noteWhole(gone) // in memory, unless it is closed
	m.emitInvalidated(gone, notAsSaved)
	for _, name := range changed {
		m.emit(Event{Kind: EventFollowed, Cache: name})
	}
	return changed, wrap(ctx, "follow", "", nil, ended(m.ctx, err))
}

// follow has the store show what is new, and forgets what the tables of the caches
// that may have changed, and of those declared to depend on them, have from before. What
// was begun to be read before that is of another epoch, and what is not there is read
// with the gate held. What does not stand by now is gone.
func (m *Manager) follow(names []string, infos []store.Info, show func()) (changed []string, gone []*slot) {
	saved := make(map[string]store.Info, len(infos))
	for _, info := range infos {
		saved[info.Cache] = info
	}
	m.gate.Lock()
	defer m.gate.Unlock()
	show()
	var slots []*slot
	seen := make(map[*slot]bool)
	for _, name := range names {
		if name == revisions {
			continue
		}
		s := m.slot(name)
		if s.lane == nil {
			s.lane = m.main
		}
		if s.lane == m.main { // or it is kept elsewhere
			s.stored, s.records, s.description = false, -1, nil
			if info, ok := saved[name]; ok {
				s.know(info)
				m.restoreDependencies(s)
				m.restoreStanding(info)
			}
		}
		if of, is := keptFor(name); is { // what is kept elsewhere was saved there
			s = m.slot(of)
		} else if s.lane != m.main {
			continue
		}
		if c := m.heir(s.name); c != nil {
			s = c.slot
		}
		if !seen[s] {
			seen[s] = true
			slots = append(slots, s)
		}
	}
	return m.readAnew(append(slots, dependentsOf(slots, false)...))
}

// readAnew forgets what the tables of slots have, of a Manager that only reads, and invalidates those that do not
// stand. It returns the names of the first, and all that are gone with the second. The gate is held exclusively.
func (m *Manager) readAnew(slots []*slot) (changed []string, gone []*slot) {
	slots = upstreamFirst(slots)
	for _, s := range slots {
		m.asSaved(s)
		if s.cache != nil {
			for former := range s.cache.formerSlots {
				m.asSaved(former)
			}
		}
	}
	slots = slices.DeleteFunc(slots, func(s *slot) bool { return s.cache == nil || s.cache.writable() != nil })
	for _, s := range slices.Backward(slots) { // as in drop
		s.cache.typed.follow()
		if !strings.HasPrefix(s.name, ours) {
			changed = append(changed, s.name)
		}
	}
	for _, s := range slots {
		gone = append(gone, m.verify(s.cache)...)
	}
	m.overtakeAll(slots)
	slices.Sort(changed)
	return changed, gone
}

// asSaved forgets what was found out of s here. The gate is held exclusively.
func (m *Manager) asSaved(s *slot) {
	s.dropped = false
	m.asNoted(s)
}

// follow implements typed.
func (c *Cache[K, V]) follow() {
	if c.off || c.spec.Contents != nil {
		return // its contents are not what was saved
	}
	c.heirOf, c.taken = nil, false
	c.takeOver()
	state := c.savedState()
	if c.lane != nil && state > statePartial {
		state = stateUnloaded // or it were seen to be empty before the other caches have gone on
	}
	c.spent.Store(0) // on other contents
	c.replace(newTable[K, V](1, c.saves()), state, nil)
}

// followEvery calls Follow by and by.
func (m *Manager) followEvery() {
	every := m.opts.FollowEvery
	if !m.opts.ReadOnly || every <= 0 {
		return
	}
	m.after(m, every, func() {
		if _, err := m.Follow(m.ctx); err != nil && m.ctx.Err() == nil {
			m.emit(Event{Kind: EventFollowed, Err: err})
		}
		m.followEvery()
	})
}
