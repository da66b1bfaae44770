package cacheman

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// dependent is a cache that is to be invalidated with another.
type dependent struct {
	slot     *slot
	onChange bool // also when an entry changes
}

// dependency is the same edge seen from the other end, as it is stored.
type dependency struct {
	Cache    string `json:"cache"`
	OnChange bool   `json:"onChange,omitzero"`
}

// Depend declares that the cache named dependent was computed from the cache
// named on: whenever that is invalidated, rebuilt or touched, dependent is
// invalidated. Both must be registered. Circles are allowed: then each goes
// with the other. Dependencies are stored with the dependent, and hold also in
// runs of the program in which it is not registered.
func (m *Manager) Depend(dependent, on string) error { return m.depend(dependent, on, false) }

// DependOnChange is Depend, but any change to an entry of the cache named on
// invalidates dependent, too.
func (m *Manager) DependOnChange(dependent, on string) error { return m.depend(dependent, on, true) }

func (m *Manager) depend(name, on string, onChange bool) error {
	m.gate.Lock()
	defer m.gate.Unlock()
	if m.closed {
		return &Error{Op: "depend", Cache: name, Err: ErrClosed}
	}
	for _, n := range []string{name, on} {
		if s := m.slots[n]; s == nil || s.cache == nil {
			return &Error{Op: "depend", Cache: n, Err: ErrUnknown}
		}
	}
	m.slots[name].link(m.slots[on], onChange)
	m.slots[name].redescribe()
	m.restand(m.slots[name])
	return nil
}

// redescribe sees to it that what the store knows of s is brought up to date,
// also if nothing else is to be saved. The gate is held exclusively.
func (s *slot) redescribe() {
	if s.lane != nil && (s.stored || s.inherits()) {
		s.lane.add(s)
	}
}

// inherits reports that s is saved under another name, with other dependencies. The gate is held.
func (s *slot) inherits() bool {
	if s.cache == nil || s.cache.heirOf == nil || s.cache.taken {
		return false
	}
	d, err := parseDescription(s.cache.heirOf.description)
	return err == nil && !slices.Equal(d.DependsOn, s.dependsOn)
}

// link makes s a dependent of on. The gate is held exclusively.
func (s *slot) link(on *slot, onChange bool) {
	if i := slices.IndexFunc(on.dependents, func(d dependent) bool { return d.slot == s }); i >= 0 {
		if !onChange || on.dependents[i].onChange {
			return
		}
		on.dependents[i].onChange = true
		j := slices.IndexFunc(s.dependsOn, func(d dependency) bool { return d.Cache == on.name })
		s.dependsOn[j].OnChange = true
	} else {
		on.dependents = append(on.dependents, dependent{s, onChange})
		s.dependsOn = append(s.dependsOn, dependency{on.name, onChange})
	}
}

// unlink takes from s the dependencies that are not in keep. The gate is held
// exclusively.
func (m *Manager) unlink(s *slot, keep []dependency) {
	for _, d := range s.dependsOn {
		if !slices.Contains(keep, d) {
			on := m.slots[d.Cache]
			on.dependents = slices.DeleteFunc(on.dependents, func(d dependent) bool { return d.slot == s })
		}
	}
	s.dependsOn = nil
	for _, d := range keep {
		s.link(m.slots[d.Cache], d.OnChange)
	}
}

// changeDependents reports whether a change to an entry of s concerns others.
func (s *slot) changeDependents() bool {
	for _, d := range s.dependents {
		if d.onChange {
			return true
		}
	}
	return false
}

// dependentsOf returns every cache that depends on one of roots, directly or
// through others, each once and without the roots. If onChange is set, the
// first step goes along dependencies on change only. The gate is held.
func dependentsOf(roots []*slot, onChange bool) []*slot {
	var found []*slot
	seen := make(map[*slot]bool)
	for _, s := range roots {
		seen[s] = true
		if s.cache != nil {
			for former := range s.cache.formerSlots { // it is s, under a name of before
				seen[former] = true
			}
		}
	}
	visit := func(s *slot, onChange bool) {
		for _, d := range s.dependents {
			if (d.onChange || !onChange) && !seen[d.slot] {
				seen[d.slot] = true
				found = append(found, d.slot)
			}
		}
	}
	for _, s := range roots {
		visit(s, onChange)
	}
	for i := 0; i < len(found); i++ { // found grows: a walk in breadth, without recursion
		visit(found[i], false)
	}
	return found
}

// upstreamFirst puts slots into an order in which every cache comes after
// those of slots it depends on; within a circle the order is that of slots.
// The gate is held.
func upstreamFirst(slots []*slot) []*slot {
	if len(slots) < 2 {
		return slots
	}
	waits := make(map[*slot]int, len(slots)) // how many of slots each depends on
	for _, s := range slots {
		waits[s] += 0
	}
	for _, s := range slots {
		for _, d := range s.dependents {
			if _, in := waits[d.slot]; in && d.slot != s {
				waits[d.slot]++
			}
		}
	}
	order := make([]*slot, 0, len(slots))
	take := func(s *slot) {
		waits[s] = -1
		order = append(order, s)
	}
	for _, s := range slots {
		if waits[s] == 0 {
			take(s)
		}
	}
	circle := 0 // slots before this one are all taken
	for i := 0; len(order) < len(slots); i++ {
		if i == len(order) { // only circles are left: open one
			for waits[slots[circle]] < 0 {
				circle++
			}
			take(slots[circle])
		}
		for _, d := range order[i].dependents {
			if n := waits[d.slot]; n == 1 {
				take(d.slot)
			} else if n > 1 {
				waits[d.slot] = n - 1
			}
		}
	}
	return order
}

// drop invalidates the caches of slots, and then calls change, if that is not nil: who
// sees what it changes, or that one of them is empty, finds nothing in the others that
// was computed before. A change that comes before is not to be seen yet. The gate is
// held exclusively; the caller emits an event for each.
func (m *Manager) drop(slots []*slot, change func()) {
	m.empty(slots, change)
	at := m.graph.Next() // one for all: what is told of one is told of what that depends on
	for _, s := range slots {
		m.changed(s, true, at)
	}
}

// empty is drop, but that it does not count as a change of the caches of slots.
func (m *Manager) empty(slots []*slot, change func()) {
	for _, s := range slices.Backward(upstreamFirst(slots)) {
		if s.cache != nil {
			s.cache.typed.drop()
		}
	}
	if change != nil {
		change()
	}
	m.overtakeAll(slots)
	for _, s := range slots {
		c := s.cache
		if c != nil {
			for former := range c.formerSlots { // or else that is what c would have after a restart
				former.dropped = true
				former.lane.add(former)
				former.lane.armDefault()
			}
		}
		saves := c != nil && c.lane != nil
		if saves || s.stored {
			s.dropped = true
			s.lane.add(s)
		}
		if saves {
			c.edited(1)
		} else if s.stored {
			s.lane.armDefault()
		}
	}
}

// overtakeAll sees to it that no BuildAll is kept that may have begun after the contents of
// its cache went, and seen what is upstream as it was. The gate is held exclusively.
func (m *Manager) overtakeAll(slots []*slot) {
	m.graph.Lock()
	defer m.graph.Unlock()
	for _, s := range slots {
		if s.cache != nil {
			s.cache.overtakeAll()
		}
	}
}

func (m *Manager) emitInvalidated(slots []*slot, reason string) {
	if m.watched(EventInvalidated) {
		for _, s := range slots {
			m.emit(Event{Kind: EventInvalidated, Cache: s.name, Reason: reason})
		}
	}
}

// descriptionFormat is the version of how entries are laid out in records.
const descriptionFormat = 1

// description is what the store keeps about a cache, readable by tools that
// do not have its types.
type description struct {
	Format    int          `json:"format"`
	Type      string       `json:"type"`
	Version   string       `json:"version,omitzero"`
	KeyCodec  string       `json:"keyCodec"`
	Codec     string       `json:"codec"`
	Schema    string       `json:"schema,omitzero"`
	DependsOn []dependency `json:"dependsOn,omitzero"`
	Whole     []byte       `json:"whole,omitempty"`  // what BuildAll has read; see record.go
	Unbuilt   bool         `json:"unbuilt,omitzero"` // nothing was set: BuildAll is yet to make the contents
}

// describe returns the description that the store is to have of s.
func (s *slot) describe() []byte {
	d := s.cache.described
	d.DependsOn, d.Whole, d.Unbuilt = s.dependsOn, s.cache.builtFrom, s.cache.typed.unbuilt()
	if s.cache.state.Load() == stateUnloaded { // nobody has looked at the contents
		if stored, err := parseDescription(s.description); err == nil {
			d.Whole, d.Unbuilt = stored.Whole, stored.Unbuilt
		}
	}
	return d.encode()
}

// describeLacking returns the description of contents of which not all that BuildAll has made
// could be saved: they are to be built again, as if nobody knew from what. The gate is held.
func (c *core) describeLacking() []byte {
	d := c.described
	d.DependsOn, d.Whole = c.slot.dependsOn, []byte(unknownEdges)
	return d.encode()
}

func (d description) encode() []byte {
	if data, ok := d.appendPlain(nil); ok {
		return data
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("cacheman: a description does not encode: %v", err))
	}
	return data
}

// appendPlain is encode of most descriptions. It spares most starts package json, whose first use
// is slow.
func (d description) appendPlain(b []byte) (_ []byte, ok bool) {
	ok = d.DependsOn == nil && len(d.Whole) == 0 && !d.Unbuilt
	text := func(name, s string, always bool) {
		ok = ok && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) })
		if s != "" || always {
			b = append(append(append(append(append(b, `,"`...), name...), `":"`...), s...), '"')
		}
	}
	b = strconv.AppendInt(append(b, `{"format":`...), int64(d.Format), 10)
	text("type", d.Type, true)
	text("version", d.Version, false)
	text("keyCodec", d.KeyCodec, true)
	text("codec", d.Codec, true)
	text("schema", d.Schema, false)
	return append(b, '}'), ok
}

// describeUnregistered returns the description that the store is to have of s, which nobody
// has registered, or nil if it has that.
func (s *slot) describeUnregistered() []byte {
	d, err := parseDescription(s.description)
	if err != nil || d.Format != descriptionFormat || slices.Equal(d.DependsOn, s.dependsOn) {
		return nil
	}
	d.DependsOn = s.dependsOn
	return d.encode()
}

// describeAlike reports that two descriptions differ in nothing but what contents as a whole were built from.
func describeAlike(a, b []byte) bool {
	d, err1 := parseDescription(a)
	e, err2 := parseDescription(b)
	d.Whole, d.Unbuilt, e.Whole, e.Unbuilt = nil, false, nil, false
	return err1 == nil && err2 == nil && string(d.encode()) == string(e.encode())
}

func parseDescription(data []byte) (d description, err error) {
	err = json.Unmarshal(data, &d)
	return d, err
}

// restoreDependencies makes the edges that the description of s tells of.
func (m *Manager) restoreDependencies(s *slot) {
	if !bytes.Contains(s.description, []byte(`"dependsOn"`)) { // mostly; see appendPlain
		return
	}
	d, err := parseDescription(s.description)
	if err != nil {
		return // the cache will be found unreadable when it is loaded
	}
	for _, on := range d.DependsOn {
		s.link(m.slot(on.Cache), on.OnChange)
	}
}
