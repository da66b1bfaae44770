package cacheman

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Recheck says that what Probe gave for keys may no longer be so: it is called
// again when somebody asks for one, or for something that was computed from it.
// Without keys it concerns all entries of the cache. It is for whoever is told
// of changes, by a file system or a message, and costs no more than marking what
// was computed from the keys. What a Probe that is running now will give is not
// trusted either. It does nothing to caches without Probe.
func (c *Cache[K, V]) Recheck(keys ...K) {
	if c.spec.Probe == nil {
		return
	}
	g := c.m.graph
	if len(keys) == 0 {
		g.Lock()
		c.owner.Overtake()
		c.owner.Doubt()
		g.Unlock()
		return
	}
	for _, k := range keys {
		_, s := c.rlock(k)
		if e := s.entries[k]; e != nil && e.node != nil {
			g.Lock()
			g.Mark(e.node)
			e.node.Doubt()
			g.Unlock()
		}
		s.mu.RUnlock()
	}
}

// Refresh calls Probe for keys, or without any for all entries that the cache
// holds, several at once. What was computed from them is built anew when
// somebody asks for it, as far as they have changed. It goes on after errors
// and returns them, but not those that are results: ErrNotFound, and kept ones.
func (c *Cache[K, V]) Refresh(ctx context.Context, keys ...K) error {
	return c.refresh(ctx, keys, func(int) {})
}

func (c *Cache[K, V]) refresh(ctx context.Context, keys []K, done func(n int)) error {
	if c.spec.Probe == nil {
		return nil
	}
	if err := c.prepare(ctx, false); err != nil {
		return c.err(ctx, "refresh", nil, err)
	}
	c.Recheck(keys...)
	if len(keys) == 0 {
		keys = c.probed()
	}
	var errs errorList
	if err := each(ctx, 2, keys, func(ctx context.Context, k K) {
		_, err := c.get(ctx, nil, k)
		errs.add(c.err(ctx, "refresh", k, failure(err)))
		done(1)
	}); err != nil {
		return c.err(ctx, "refresh", nil, err)
	}
	return errs.join()
}

// probed returns the keys that Probe has said something about.
func (c *Cache[K, V]) probed() []K {
	t := c.table.Load()
	keys := make([]K, 0, t.len())
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for k, e := range s.entries {
			if e.kind != absent {
				keys = append(keys, k)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}

// trust is called after every run of a builder; it sees to it that what Probe gave
// is not trusted for longer than ProbeEvery. It is after what that gave was published,
// or the trust could end before it begins, and then would not end any more.
func (c *Cache[K, V]) trust() {
	if c.spec.ProbeEvery == 0 || c.expiring.Swap(true) {
		return
	}
	c.m.after(c, c.spec.ProbeEvery, func() {
		c.expiring.Store(false)
		// A Probe that is running is not overtaken: it may take longer than this.
		c.m.graph.Lock()
		c.owner.Doubt()
		c.m.graph.Unlock()
	})
}

// after calls f when d has passed, unless the Manager is closed before, or after is
// called again for the same: whoever asks the world outside often waits once.
func (m *Manager) after(what any, d time.Duration, f func()) {
	m.timers.Lock()
	defer m.timers.Unlock()
	if m.timers.all == nil {
		m.timers.all = make(map[any]*time.Timer)
	}
	if m.closing.Load() {
		return
	}
	if t := m.timers.all[what]; t != nil {
		t.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		m.timers.Lock()
		if m.timers.all[what] == t {
			delete(m.timers.all, what)
		}
		m.timers.Unlock()
		f()
	})
	m.timers.all[what] = t
}

func (m *Manager) stopTimers() {
	m.timers.Lock()
	defer m.timers.Unlock()
	for _, t := range m.timers.all {
		t.Stop()
	}
	m.timers.all = nil
}

// Refresh calls Probe for all entries of all caches that have one: files,
// variables, and what Probe functions were given for; see Cache.Refresh.
// progress, if not nil, is told how many of how many have been asked, from
// several goroutines at once.
func (m *Manager) Refresh(ctx context.Context, progress func(done, total int)) error {
	cores, err := m.within("refresh", All())
	if err != nil {
		return err
	}
	var errs errorList
	total := 0
	cores = slices.DeleteFunc(cores, func(c *core) bool {
		n, err := c.typed.probes(ctx)
		total += n
		errs.add(c.err(ctx, "refresh", nil, err))
		return err != nil
	})
	var done atomic.Int64
	for _, c := range cores {
		errs.add(c.typed.refreshAll(ctx, func(n int) {
			now := int(done.Add(int64(n)))
			if progress != nil {
				progress(now, max(now, total))
			}
		}))
	}
	return errs.join()
}

// probes implements typed.
func (c *Cache[K, V]) probes(ctx context.Context) (int, error) {
	if c.spec.Probe == nil {
		return 0, nil
	}
	err := c.prepare(ctx, false)
	return len(c.probed()), err
}

// refreshAll implements typed.
func (c *Cache[K, V]) refreshAll(ctx context.Context, done func(int)) error {
	return c.refresh(ctx, nil, done)
}

// Untracked says that the builder ctx belongs to reads something that cannot
// be tracked; reason says what. Its result is valid until the Manager is
// closed, or refreshed. Where ctx is no builder's it does nothing.
func Untracked(ctx context.Context, reason string) error {
	m := managerOf(ctx)
	if m == nil {
		return nil
	}
	c, err := untracked(m)
	if err != nil {
		return err
	}
	_, err = c.Get(ctx, reason)
	return err
}

// managerOf returns the Manager of the cache whose builder ctx belongs to.
func managerOf(ctx context.Context) *Manager {
	if o := graph.FrameOf(ctx).Owner(); o != nil {
		return o.Type.(keyed).cache().m
	}
	return nil
}

func untracked(m *Manager) (*Cache[string, uint64], error) {
	return own(m, untrackedCache, func() Spec[string, uint64] {
		return Spec[string, uint64]{Probe: func(context.Context, string, uint64, bool) (uint64, error) {
			return m.graph.Next(), nil // another every time
		}}
	})
}
