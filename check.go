package cacheman

import (
	"fmt"
	"iter"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Check verifies what must always hold of the entries in memory and of what
// connects them, and yields what does not. There should be nothing. Writers wait
// while it looks; it takes some 100 ns for each entry.
func (m *Manager) Check() iter.Seq[error] {
	return func(yield func(error) bool) {
		for _, f := range m.faults() {
			if f.on != nil {
				f.what += ": " + f.on.Owner().Type.Name(f.on) // without locks, for it may call code of the user's
			}
			err := &Error{Op: "check", Cache: plainName(f.c.slot.name), Key: f.key, Err: fmt.Errorf("%w: %s", ErrInvariant, f.what)}
			if !yield(err) {
				return
			}
		}
	}
}

// fault is an invariant that does not hold.
type fault struct {
	c    *core
	key  any
	what string
	on   *graph.Node // the dependency that it is about, if there is one
}

func (m *Manager) faults() (faults []fault) {
	m.gate.Lock()
	defer m.gate.Unlock()
	var nodes []*graph.Node
	check := func(c *core) {
		nodes = c.typed.check(nodes, func(key any, what string) { faults = append(faults, fault{c: c, key: key, what: what}) })
	}
	for _, s := range m.slots {
		if s.cache != nil {
			check(s.cache)
		}
		for _, former := range s.former { // others may have been computed from what it has
			check(former)
		}
	}
	m.graph.Lock()
	defer m.graph.Unlock()
	m.graph.Check(nodes, func(n *graph.Node, what string, on *graph.Node) {
		t := n.Owner().Type.(keyed)
		faults = append(faults, fault{t.cache(), t.keyOf(n), what, on})
	})
	return faults
}

// check implements typed: it verifies the table, and appends its nodes. The
// gate is held exclusively.
func (c *Cache[K, V]) check(nodes []*graph.Node, fault func(key any, what string)) []*graph.Node {
	g := c.m.graph
	t := c.table.Load()
	if state := c.state.Load(); state != stateClosed && t.partial != (state <= statePartial) {
		fault(nil, fmt.Sprintf("its contents are in state %d, and partial: %v", state, t.partial))
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		live, dirty := 0, 0
		for k, e := range s.entries {
			if e.key != k || t.shard(k) != s {
				fault(k, "its entry is in the wrong place")
			}
			live += held(e.kind)
			if e.dirty == t.gen {
				dirty++
			}
			if e.node == nil {
				if e.kind.held() != (e.stamp.Load() != 0) {
					fault(k, fmt.Sprintf("it has stamp %d, and a value: %v", e.stamp.Load(), e.kind.held()))
				}
				continue
			}
			g.Lock()
			if e.stamp.Load() == c.owner.Marks()|seen && !e.node.Fresh() {
				fault(k, "it is taken for clean")
			}
			if e.node.Dead() {
				fault(k, "its node is dead")
			}
			if c.entryOf(e.node) != e {
				fault(k, "its node is of another entry")
			}
			if e.node.State() == graph.Clean && e.kind.stamped() != (e.node.Stamp != 0) {
				fault(k, fmt.Sprintf("it is clean with stamp %d, and has a value: %v", e.node.Stamp, e.kind.held()))
			}
			g.Unlock()
			nodes = append(nodes, e.node)
		}
		if live != s.live || dirty != len(s.dirty) {
			fault(nil, fmt.Sprintf("shard %d: it has %d entries and counts %d; %d are to be saved, listed are %d", i, live, s.live, dirty, len(s.dirty)))
		}
		s.mu.RUnlock()
	}
	return nodes
}
