package cacheman

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Autosync says when changes are saved without being asked to. Its zero value
// stands for [ClassicRules].
//
// Whatever the rules, Close saves what is unsaved, and unless autosync is off a save
// that failed is tried again after a second, then after ever longer pauses up to a
// minute. If only some of it failed, such as a value that cannot be encoded or the Delete
// hook of a cache, that is tried again in the same way, and everything else is saved by
// the rules meanwhile.
type Autosync struct {
	// Rules: see Rule.
	Rules []Rule
	// Every saves at most this long after a change. It excludes Rules.
	Every time.Duration
	// Off leaves saving to Sync and Close.
	Off bool
}

// Rule saves a cache when it has this many unsaved edits, the oldest of which
// is older than the Within of the next shorter rule (for the shortest: at
// once). No edit stays unsaved for longer than the longest Within.
type Rule struct {
	Edits  int
	Within time.Duration
}

// ClassicRules are the default: 10 000 unsaved edits are saved at once, 10 when
// the oldest is 60 seconds old, and one when it is 300 seconds old.
func ClassicRules() []Rule {
	return []Rule{{10_000, time.Minute}, {10, 5 * time.Minute}, {1, 15 * time.Minute}}
}

// trigger is a rule in the form in which it is looked at: with this many
// unsaved edits, save when the oldest is this old.
type trigger struct {
	edits int64
	after time.Duration
}

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

func (a *Autosync) check() error {
	if a == nil {
		return nil
	}
	if a.Every < 0 || a.Every > 0 && len(a.Rules) > 0 {
		return fmt.Errorf("%w: Autosync.Every is negative, or given together with Rules", ErrSpec)
	}
	for i, r := range a.Rules {
		if r.Edits < 1 || r.Within <= 0 {
			return fmt.Errorf("%w: Autosync.Rules[%d] must have positive Edits and Within", ErrSpec, i)
		}
	}
	return nil
}

// triggers returns the rules' triggers, those that need most edits first, or
// nil if there is to be no autosync.
func (a Autosync) triggers() []trigger {
	switch {
	case a.Off:
		return nil
	case a.Every > 0:
		return []trigger{{1, a.Every}}
	}
	rules := slices.Clone(a.Rules)
	if len(rules) == 0 {
		rules = ClassicRules()
	}
	slices.SortFunc(rules, func(x, y Rule) int { return cmp.Compare(x.Within, y.Within) })
	var ts []trigger
	shorter := time.Duration(0)
	for _, r := range rules {
		ts = append(ts, trigger{int64(r.Edits), shorter})
		shorter = r.Within
	}
	return append(ts, trigger{1, shorter})
}

// edited counts n edits, and sees to it that they are saved in time. It is
// called with the gate held, after the edits were made.
func (c *core) edited(n int64) {
	c.grew(n, 0)
	if !c.saves() {
		return
	}
	total := c.edits.Add(n) - c.failedEdits.Load()
	if total == n {
		c.oldest.Store(int64(time.Since(c.m.opened)))
		c.lane.add(c.slot)
	}
	for _, t := range c.triggers {
		if total >= t.edits && total-n < t.edits {
			c.lane.arm(c.oldestEdit().Add(t.after))
		}
	}
}

// unsaved counts n edits that could not be saved. The gate is held exclusively.
func (c *core) unsaved(n int64) {
	c.edits.Add(n)
	c.failedEdits.Add(n)
	c.lane.add(c.slot)
}

// oldestEdit is when the oldest unsaved edit was made.
func (c *core) oldestEdit() time.Time { return c.m.opened.Add(time.Duration(c.oldest.Load())) }

// due returns when autosync is to save c; false if it has no reason to. What could not be
// saved is due again at the given time. The lane is locked.
func (c *core) due(again time.Time) (at time.Time, ok bool) {
	failed := c.failedEdits.Load()
	edits, oldest := c.edits.Load()-failed, c.oldestEdit()
	if failed > 0 && c.triggers != nil {
		at, ok = again, true
	}
	for _, t := range c.triggers {
		if edits < t.edits {
			continue
		}
		if when := oldest.Add(t.after); !ok || when.Before(at) {
			at, ok = when, true
		}
	}
	return at, ok
}
