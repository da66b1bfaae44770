package cacheman

import (
	"context"
	"fmt"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Now returns the time, rounded down to a multiple of granularity, which is at
// least a millisecond. With the ctx of a builder it is tracked: what the builder makes is stale
// when the next multiple is reached. Multiples are those of UTC. As long as something
// depends on a time to come, each Get looks at the clock: that of the bubble, in a test
// with testing/synctest.
func Now(ctx context.Context, granularity time.Duration) (time.Time, error) {
	if granularity < time.Millisecond {
		return time.Time{}, fmt.Errorf("%w: a granularity of %v is less than a millisecond", ErrSpec, granularity)
	}
	m := managerOf(ctx)
	if m == nil {
		return time.Now().Truncate(granularity), nil
	}
	c, err := clock(m)
	if err != nil {
		return time.Time{}, err
	}
	ns, err := c.Get(ctx, int64(granularity))
	return time.Unix(0, ns), err
}

// ExpireAt makes what the builder ctx belongs to stale at t; of several the
// earliest counts. If t has passed, the result is given to the callers and not
// kept. Times are rounded up to whole seconds. Where ctx is no builder's it does nothing.
func ExpireAt(ctx context.Context, t time.Time) error {
	m := managerOf(ctx)
	if m == nil {
		return nil
	}
	if !m.now().Before(t) {
		graph.FrameOf(ctx).Volatile()
		return nil
	}
	c, err := deadlines(m)
	if err != nil {
		return err
	}
	passed, err := c.Get(ctx, t.Add(time.Second-1).Unix())
	if passed { // by now, and it will not do so again
		graph.FrameOf(ctx).Volatile()
	}
	return err
}

// clock has the time for each granularity, in ns.
func clock(m *Manager) (*Cache[int64, int64], error) {
	return own(m, clockCache, func() Spec[int64, int64] {
		return Spec[int64, int64]{Probe: func(_ context.Context, granularity, _ int64, _ bool) (int64, error) {
			tick := m.now().Truncate(time.Duration(granularity))
			m.alarms.set(time.Duration(granularity), tick.Add(time.Duration(granularity)), func() {
				if c, err := Lookup[int64, int64](m, ours+clockCache); err == nil {
					c.Recheck(granularity)
				}
			})
			return tick.UnixNano(), nil
		}}
	})
}

// deadlines has for a time in Unix seconds whether it has passed.
func deadlines(m *Manager) (*Cache[int64, bool], error) {
	return own(m, deadlinesCache, func() Spec[int64, bool] {
		return Spec[int64, bool]{Probe: func(_ context.Context, at int64, passed, _ bool) (bool, error) {
			t := time.Unix(at, 0)
			if passed || !m.now().Before(t) {
				return true, nil
			}
			m.alarms.set(at, t, func() {
				if c, err := Lookup[int64, bool](m, ours+deadlinesCache); err == nil {
					c.Recheck(at)
				}
			})
			if m.deadlines.Add(1)%sweepAfter == 0 {
				m.after(deadlinesCache, 0, m.sweepDeadlines)
			}
			return false, nil
		}}
	})
}

// sweepAfter is how many deadlines come before those that have passed are forgotten.
const sweepAfter = 256

// sweepDeadlines forgets the deadlines that have passed. Nothing that has read one of them
// before is valid, and what reads it afterwards is told that it has passed.
func (m *Manager) sweepDeadlines() {
	c, err := deadlines(m)
	if err != nil || c.prepare(m.ctx, false) != nil {
		return
	}
	now := m.now().Unix()
	for _, r := range c.residents(nil) {
		if r.entry.(*entry[int64, bool]).key <= now {
			c.evict(m.ctx, r.entry, r.age, true)
		}
	}
}
