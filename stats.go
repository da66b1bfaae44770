package cacheman

import (
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Stats are one cache's figures: those of its contents as they are now, and
// counts since it was registered.
type Stats struct {
	Cache   string
	Entries int  // in memory
	Loaded  bool // false: Entries leaves out what was saved and not read yet

	Hits   uint64 // reads that found their entry, up to date
	Misses uint64 // reads that did not, or for which a builder had to run

	Builds      int64         // builders that made their value
	BuildErrors int64         // builders that failed
	BuildTime   time.Duration // time spent in both

	Dirty      int       // entries whose last change is not saved
	Edits      int64     // unsaved edits, by which autosync goes
	Bytes      int64     // bytes of keys and values written by all syncs
	Syncs      int64     // successful saves of this cache
	SyncErrors int64     // failed ones, and those that could not save every entry
	LastSync   time.Time // of the last successful save; zero if none

	Evictions int64 // values that were dropped because of a Limit

	LastError error // the last failure to load, build or save; nil if none
}

// HitRate is the share of reads that found their entry, up to date; 0 without any reads.
func (s Stats) HitRate() float64 {
	if s.Hits == 0 {
		return 0
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

// Stats returns the figures of all registered caches, in the order of their
// names. It costs about a microsecond a cache and changes nothing.
func (m *Manager) Stats() []Stats {
	var all []Stats
	for _, name := range m.Names() {
		if c, err := m.lookup(name); err == nil {
			all = append(all, c.typed.stats())
		}
	}
	return all
}

// fill adds what core knows to the figures of the contents.
func (c *core) fill(s *Stats) {
	s.Cache = c.slot.name
	s.Loaded = c.loaded()
	c.m.graph.Lock()
	tallies := []graph.Tally{c.owner.Tally()}
	if c.all != nil {
		tallies = append(tallies, c.all.Owner().Tally())
	}
	c.m.graph.Unlock()
	for _, t := range tallies {
		s.Builds += t.Built
		s.BuildErrors += t.Failed
		s.BuildTime += t.Took
		s.Hits += uint64(t.Repeated)
	}
	s.Edits = c.edits.Load()
	s.Bytes = c.bytes.Load()
	s.Evictions = c.evictions.Load()
	s.Syncs = c.syncs.Load()
	s.SyncErrors = c.syncErrors.Load()
	if ns := c.lastSync.Load(); ns != 0 {
		s.LastSync = time.Unix(0, ns)
	}
	c.counts.mu.Lock()
	s.LastError = c.lastError
	c.counts.mu.Unlock()
}
