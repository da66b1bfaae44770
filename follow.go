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

// Follow goes on to what has been saved by now: by the process that has the
// directory open for writing, beside this Manager, which was opened with
// ReadOnly. It returns the names of the registered caches that may have changed.
// These are read anew when somebody asks for them, and what was computed from
// them is checked then; what the Manager had built itself in these caches is
// forgotten. It takes no longer than what was saved is large.
//
// Every sync shows as a whole or not at all. But a reader who reads several
// entries while Follow is under way may get some from before and some from
// after it.
func (m *Manager) Follow(ctx context.Context) (changed []string, err error) {
	f, ok := m.store.(store.Follower)
	if !ok {
		return nil, &Error{Op: "follow", Err: errors.New("it is possible only for a Manager that was opened with ReadOnly")}
	}
	names, err := f.Refresh(ctx)
	if len(names) > 0 {
		infos, err2 := m.store.Caches(ctx)
		if err = errors.Join(err, err2); err2 == nil {
			changed = m.follow(names, infos)
		}
	}
	for _, name := range changed {
		m.emit(Event{Kind: EventFollowed, Cache: name})
	}
	return changed, wrap(ctx, "follow", "", nil, ended(m.ctx, err))
}

func (m *Manager) follow(names []string, infos []store.Info) (changed []string) {
	m.gate.Lock()
	defer m.gate.Unlock()
	for _, name := range names {
		if name == revisions {
			continue
		}
		s := m.slot(name)
		if s.lane == nil {
			s.lane = m.main
		}
		if s.lane != m.main {
			continue // it is kept elsewhere
		}
		s.stored, s.records, s.description = false, -1, nil
		if i := slices.IndexFunc(infos, func(info store.Info) bool { return info.Cache == name }); i >= 0 {
			s.know(infos[i])
		}
		if s.cache == nil || s.cache.writable() != nil {
			continue
		}
		s.cache.typed.follow()
		if !strings.HasPrefix(name, ours) {
			changed = append(changed, name)
		}
	}
	return changed
}

// follow implements typed.
func (c *Cache[K, V]) follow() {
	if c.off || c.spec.Load != nil || c.spec.Contents != nil {
		return // its contents are not what was saved
	}
	c.replace(newTable[K, V](1, c.saves()), c.savedState())
}

// followEvery calls Follow by and by.
func (m *Manager) followEvery() {
	every := m.opts.FollowEvery
	if !m.opts.ReadOnly || every <= 0 {
		return
	}
	m.after(every, func() {
		if _, err := m.Follow(m.ctx); err != nil && m.ctx.Err() == nil {
			m.emit(Event{Kind: EventFollowed, Err: err})
		}
		m.followEvery()
	})
}
