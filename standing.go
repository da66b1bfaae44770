package cacheman

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman/store"
)

// standing says how what is saved of a cache relates to what is saved of those that it is declared to
// depend on, where they are not kept in one store. Then they are not saved at one instant, and who
// changes the one need not know where the other is. After a crash between two saves, or a run of
// the program that had only one of them registered, contents might come back that are from
// before a change of what they depend on, or from after one that was lost.
//
// So each of them has a standing in the Manager's own store: when it last changed, as far as
// that is saved, and when what it depends on had as it was saved. If these do not agree when a
// cache is registered, it is invalidated.
type standing struct {
	Unsure bool `json:"unsure,omitzero"` // it is being saved, or is saved in part
	changes
	On []stood `json:"on,omitzero"`
}

// stood is a dependency, and when what is depended on had changed.
type stood struct {
	dependency
	At uint64 `json:"at"`
}

// changes are the revisions at which a cache last changed in a way that concerns its dependents.
type changes struct {
	Touched uint64 `json:"touched,omitzero"` // it was invalidated, or touched
	Changed uint64 `json:"changed,omitzero"` // it was that, or an entry changed
}

func (c changes) at(onChange bool) uint64 {
	if onChange {
		return c.Changed
	}
	return c.Touched
}

func standingOf(cache string) string { return ours + standingCache + cache }

// apart reports whether a and b are saved, but not both in the Manager's own store. Where a
// cache is kept that is not registered may not be known. The gate is held.
func (m *Manager) apart(a, b *slot) bool {
	return a.keeps() && b.keeps() && (a.lane != m.main || b.lane != m.main) && m.annotates()
}

// keeps reports whether something of s is saved, or, where it is in memory, may be of what depends on it, as it is declared
// or by records that pass through it: what that was computed from is what s was. The gate is held.
func (s *slot) keeps() bool {
	return s.lane != nil || s.cache == nil || s.cache.passes() || slices.ContainsFunc(dependentsOf([]*slot{s}, false), func(d *slot) bool { return d.lane != nil || d.cache == nil })
}

// standing returns the standing of s, and whether it is to have one: because it is apart from what it
// depends on, or from a dependent, or because something further on is. The gate is held.
func (m *Manager) standing(s *slot, unsure bool) (st standing, needed bool) {
	st.Unsure, st.changes = unsure, s.changes
	needed = m.concerns(s)
	for _, d := range s.dependsOn {
		if on := m.slots[d.Cache]; on.keeps() && m.heir(d.Cache) == nil { // or it is under its new name
			st.On = append(st.On, stood{d, on.changes.at(d.OnChange)})
			needed = needed || m.apart(s, on)
		}
	}
	return st, needed
}

func (st standing) encode() []byte {
	data, err := json.Marshal(st)
	if err != nil {
		panic(fmt.Sprintf("cacheman: a standing does not encode: %v", err))
	}
	return data
}

// concerns reports whether it is to be noted that s changes: there is a dependent that is kept
// apart from it, or further on. The gate is held.
func (m *Manager) concerns(s *slot) bool {
	return s.noted != nil || slices.ContainsFunc(s.dependents, func(d dependent) bool { return m.apart(s, d.slot) })
}

// cutStanding returns the standing that s has when the batch that it is being cut for is saved, unless
// that is what is noted. Until then s is unsure. All that s depends on gets a standing as well: who does
// not register it could not know what it depends on. The gate is held exclusively.
func (m *Manager) cutStanding(s *slot, unsure bool) *standing {
	st, needed := m.standing(s, unsure)
	if !needed || bytes.Equal(st.encode(), s.noted) {
		return nil
	}
	saving := st
	saving.Unsure = true
	m.noteNext(s, saving)
	for queue := st.On; len(queue) > 0; queue = queue[1:] {
		if on := m.slots[queue[0].Cache]; on.noted == nil {
			st, _ := m.standing(on, on.unsaved())
			if m.noteNext(on, st); st.Unsure && on.lane != nil {
				on.lane.add(on) // to say when it is not
			}
			queue = append(queue, st.On...)
		}
	}
	return &st
}

// unsaved reports that what is saved of s is not what there is of it. The gate is held.
func (s *slot) unsaved() bool {
	return s.void() || s.cache != nil && s.lane != nil && (s.cache.saving || s.cache.edits.Load() > 0)
}

// restoreStanding is called with what the Manager's own store has: if that is the standing of a
// cache, it becomes known. The gate is held exclusively, or m not yet shared.
func (m *Manager) restoreStanding(info store.Info) {
	name, is := strings.CutPrefix(info.Cache, ours+standingCache)
	if !is {
		return
	}
	s := m.slot(name)
	s.noted = info.Description
	for _, d := range m.asNoted(s).On {
		s.link(m.slot(d.Cache), d.OnChange)
	}
}

// standingNoted returns what is noted as the standing of s, and whether that is how it stands.
func (s *slot) standingNoted() (st standing, sure bool) {
	if s.noted == nil {
		return st, true
	}
	if json.Unmarshal(s.noted, &st) != nil {
		return standing{}, false
	}
	return st, !st.Unsure
}

// asNoted makes the changes of s those that its standing tells of. The gate is held exclusively, or
// m not yet shared.
func (m *Manager) asNoted(s *slot) standing {
	st, sure := s.standingNoted()
	if !sure {
		now := m.graph.Next() // which nobody has seen
		st.changes = changes{now, now}
	}
	s.changes = st.changes
	return st
}

// stands reports whether what is saved of c is from when what it depends on was as it is now,
// and if not, whether it was invalidated already by a run of the program that did not register it, and
// so could not delete it: then its dependents were told of that. The gate is held.
func (m *Manager) stands(c *core) (stands, told bool) {
	noted := c.noted()
	if noted == nil || len(c.slot.dependsOn) == 0 {
		return true, false
	}
	st, sure := noted.standingNoted()
	if !sure {
		return false, false
	}
	stands, told = true, true
	for _, d := range st.On {
		on := m.slots[d.Cache]
		if c := m.heir(d.Cache); c != nil {
			on = c.slot
		}
		if on == nil {
			return false, false
		}
		if at := on.changes.at(d.OnChange); at != d.At {
			stands, told = false, told && d.At < at && at <= st.Touched
		}
	}
	return stands, told
}

// noted returns the slot with the standing that is noted of c, under its name or one that it had formerly, or nil. The
// gate is held.
func (c *core) noted() *slot {
	for _, name := range slices.Concat([]string{c.slot.name}, c.formerly) {
		if s := c.m.slots[name]; s != nil && s.noted != nil {
			return s
		}
	}
	return nil
}

// inheritChanges has c have changed last when what it has another name of had. The gate is held exclusively.
func (c *core) inheritChanges() {
	if s := c.noted(); s != nil && s != c.slot && c.slot.changes == (changes{}) {
		c.slot.changes = s.changes
	}
}

// ahead reports whether the standing of s is of something newer than a store of its own shows that was at the revision
// shown: its contents there may be from before a change of what it depends on. The gate is held.
func (m *Manager) ahead(s *slot, shown uint64) bool {
	st, _ := s.standingNoted()
	return slices.ContainsFunc(st.On, func(d stood) bool { return d.At > shown })
}

// changed notes that s has changed, at the given revision, and if touched is set that this concerns
// all dependents and not only those on change. The gate is held exclusively.
func (m *Manager) changed(s *slot, touched bool, at uint64) {
	if len(s.dependents) == 0 && (s.lane != nil || s.noted == nil) {
		return
	}
	s.changes.Changed = at
	if touched {
		s.changes.Touched = s.changes.Changed
	}
	switch {
	case m.opts.ReadOnly || !m.concerns(s):
	case s.cache == nil:
		m.noteChanges(s)
	case s.lane != nil: // if nothing else of it is to be saved
		s.lane.add(s)
	default: // in memory
		m.main.add(s)
		m.main.armDefault()
	}
}

// noteChanges notes that s has changed, which is not registered, and is what it was but for that.
// The gate is held exclusively.
func (m *Manager) noteChanges(s *slot) {
	st, sure := s.standingNoted()
	if !sure {
		return
	}
	st.changes = s.changes
	m.noteNext(s, st)
}

// noteNext has the standing of s noted with the next batch. The gate is held exclusively.
func (m *Manager) noteNext(s *slot, st standing) {
	s.noted = st.encode()
	m.noteLater.add(noteStanding(s, st))
}

func noteStanding(s *slot, st standing) store.Op {
	return store.Op{Kind: store.Describe, Cache: standingOf(s.name), Value: st.encode()}
}

// changing notes that an entry of c has changed, and returns the dependents that this concerns. The
// gate is held exclusively.
func (c *core) changing() []*slot {
	c.m.changed(c.slot, false, c.m.graph.Next())
	return dependentsOf([]*slot{c.slot}, true)
}

// verify is called when c was registered and not read yet. If c does not stand, it invalidates what is
// saved of it, and its dependents, and returns what that concerned. The gate is held exclusively.
func (m *Manager) verify(c *core) (gone []*slot) {
	c.inheritChanges()
	m.restand(c.slot)
	stands, told := m.stands(c)
	if stands {
		return nil
	}
	if !told {
		gone = dependentsOf([]*slot{c.slot}, false)
	}
	switch state := c.state.Load(); {
	case state == stateUnloaded || state == statePartial || c.passes():
		gone = append(gone, c.slot)
	case !told:
		m.changed(c.slot, true, m.graph.Next())
	}
	if told {
		m.empty(gone, nil)
	} else {
		m.drop(gone, nil)
	}
	return gone
}

// restand sees to it that the standing of s is noted anew if it is not as it is noted: it was unsure, or depends on
// something else now. That of a cache in memory, of which nothing else is saved, is also noted for the first time. The
// gate is held exclusively.
func (m *Manager) restand(s *slot) {
	if s.keeps() && (s.noted != nil || s.lane == nil) {
		if st, needed := m.standing(s, false); needed && !bytes.Equal(st.encode(), s.noted) {
			cmp.Or(s.lane, m.main).add(s)
		}
	}
}

// notAsSaved is why what does not stand is invalidated.
const notAsSaved = "what it depends on is not as it was when it was saved"

// noteStandings writes the standings of cuts that are saved elsewhere than in the Manager's own
// store: before that is done that they are unsure, and afterwards as they are.
func (l *lane) noteStandings(ctx context.Context, cuts []*cut, before bool) error {
	var ops []store.Op
	for _, c := range cuts {
		if c.standing == nil || l == l.m.main || before && c.part == nil && !c.dropped {
			continue
		}
		st := *c.standing
		st.Unsure = st.Unsure || before
		ops = append(ops, noteStanding(c.slot, st))
	}
	return l.m.keepNotes(ctx, ops)
}
