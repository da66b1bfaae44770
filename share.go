package cacheman

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/cacheman-go/cacheman/store"
)

// stamps is what a Manager may issue without asking the stores that other processes
// write, too: there, what another has issued must not pass for its own.
type stamps struct {
	mu     sync.Mutex // held while a store is asked
	limits map[store.Sharer]uint64
}

// shared reports that other processes may write s, too.
func shared(s store.Store) bool {
	_, is := s.(store.Sharer)
	return is
}

// sharing reports that others may have changed what c has saved, so that also what is nothing
// new here is to be written.
func (c *core) sharing() bool { return c.lane != nil && shared(c.lane.store) }

// following reports that c has a store of its own in which others may have saved by now: Follow tells only what is
// new in the Manager's.
func (c *core) following() bool {
	if c.lane == nil || c.lane == c.m.main || c.lane.store == nil {
		return false
	}
	_, is := c.lane.store.(store.Follower)
	return is || c.m.opts.ReadOnly
}

// lookAgain notes what the store, which others write, too, says of c by now, and reports
// whether that is something else.
func (c *core) lookAgain(ctx context.Context) (changed bool, err error) {
	infos, err := c.lane.store.Caches(ctx)
	if err != nil {
		return false, err
	}
	c.m.gate.Lock()
	defer c.m.gate.Unlock()
	for _, info := range infos {
		if s := c.slot; info.Cache == s.name {
			changed = !s.stored || string(s.description) != string(info.Description)
			s.know(info)
		}
		if info.Cache == revisions {
			c.lane.shows = revisionOf(info.Description)
		}
		if c.following() && slices.Contains(c.formerly, info.Cache) {
			c.m.slot(info.Cache).knowIn(c.lane, info)
		}
	}
	if c.following() {
		c.heirOf, c.taken = nil, false
		c.takeOver()
	}
	return changed, nil
}

// readLatest is readStore, and shows what others have written to a store since it was
// looked at. What is said of contents as a whole, or of the form that they are in, is to be of
// those that are read: another may just have built, or migrated, them.
func (c *Cache[K, V]) readLatest(ctx context.Context) (t *table[K, V], found bool, err error) {
	c.m.gate.RLock()
	again := c.sharing() && (c.all != nil || c.loaded() || !c.slot.stored || c.savedOtherwise()) || c.following()
	c.m.gate.RUnlock()
	if again {
		if _, err = c.lookAgain(ctx); err != nil {
			return nil, false, err
		}
	}
	c.m.gate.RLock()
	behind := c.following() && c.lane.describes() && c.m.ahead(c.slot, c.lane.shows)
	c.m.gate.RUnlock()
	if behind {
		return newTable[K, V](1, c.saves()), false, nil
	}
	for {
		if t, found, err = c.readStore(ctx); err != nil || !again || c.all == nil && !t.cleared {
			return t, found, err
		}
		if again, err = c.lookAgain(ctx); err != nil || !again {
			return t, found, err
		}
	}
}

// stampsAtOnce is how many are reserved at a time. When half of them are used, the next sync
// asks for more, so the other half are for what a process sets between two syncs.
const stampsAtOnce = 1 << 36

// reserveStamps sees to it that the next stamps that m issues are no other Manager's in any
// of the stores that it shares with others: in s, if it is one of those, and in those that
// it was called with before.
func (m *Manager) reserveStamps(ctx context.Context, s store.Store) error {
	sharer, is := s.(store.Sharer)
	if !is || m.opts.ReadOnly {
		return nil
	}
	m.stamps.mu.Lock()
	defer m.stamps.mu.Unlock()
	if m.stamps.limits == nil {
		m.stamps.limits = make(map[store.Sharer]uint64)
	}
	if _, known := m.stamps.limits[sharer]; !known {
		m.stamps.limits[sharer] = 0
		m.graph.Share()
	}
	for enough := false; !enough; { // what one store has free, another may not
		enough = true
		for s, limit := range m.stamps.limits {
			if m.graph.Revision()+stampsAtOnce/2 <= limit {
				continue
			}
			enough = false
			err := s.Redescribe(ctx, revisions, func(description []byte) []byte {
				from := max(m.graph.Revision(), revisionOf(description))
				m.graph.Raise(from)
				limit = from + stampsAtOnce
				return binary.AppendUvarint(nil, limit)
			})
			if err != nil {
				return err
			}
			m.stamps.limits[s] = limit
		}
	}
	return nil
}
