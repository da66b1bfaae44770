package logstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Compact implements store.Compactor. It does nothing if nothing was changed
// since the last compaction.
func (s *Store) Compact(ctx context.Context) error {
	s.hurry.Add(1)
	defer s.hurry.Add(-1)
	return s.compactFor(ctx, request{share: 1})
}

// request says what a compaction is for.
type request struct {
	share  float64 // of its time in which it works
	faults []Fault // in snapshots that are rewritten though nothing was changed
	full   bool    // only if the store is still full when it begins
}

func (s *Store) compactFor(ctx context.Context, r request) error {
	defer s.tell()
	if err := s.acquire(ctx, s.compacting); err != nil {
		return err
	}
	defer s.compacting.release()
	if r.full {
		if full, err := s.full(ctx); err != nil || !full {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if err := s.compact(ctx, r); err != nil {
		if e := s.check(ctx); e != nil {
			return e
		}
		return fmt.Errorf("logstore: compact: %w", err)
	}
	return nil
}

// compaction is the work of one compaction. It goes through these steps, and a
// crash after any of them leaves a store in the same state as before:
//
//  1. A new journal takes the batches that come from now on.
//  2. For each cache with changes in the old journals, snapshot and changes are
//     merged into a new snapshot. Nothing refers to it yet.
//  3. A manifest is published that names the new snapshots and the new journal.
//  4. The old files are removed, once their last reader has finished.
type compaction struct {
	s       *Store
	ctx     context.Context
	force   map[string]bool     // caches that are rewritten in any case
	frozen  map[string]*version // as they were at step 1
	made    map[string]*snapshot
	start   position
	syncs   int   // of names that had failed when it began
	size    int64 // of the journals that it makes obsolete
	packer  *packer
	share   float64   // of its time in which it works
	resumed time.Time // when it last began to work
	broken  []string  // files in which there was damage; they are set aside afterwards
	keep    keeping   // them
}

func (s *Store) compact(ctx context.Context, r request) error {
	began := time.Now()
	c := &compaction{s: s, ctx: ctx, force: map[string]bool{}, made: map[string]*snapshot{}}
	c.share, c.resumed = r.share, began
	for _, f := range r.faults {
		c.force[f.Cache] = true
		if !slices.Contains(c.broken, f.File) {
			c.broken = append(c.broken, f.File)
		}
	}
	todo, err := c.freeze()
	if err == nil && !todo {
		return nil
	}
	if err == nil {
		err = c.run()
	}
	if err != nil {
		c.abandon(err)
		if s.check(ctx) == nil {
			s.applying <- struct{}{}
			size := s.replaySize()
			s.retryAt = size + max(defaultCompactAt/4, size/4)
			s.applying.release()
			s.note(Event{Kind: CompactionFailed, Err: err})
		}
		return err
	}
	s.broken = nil
	c.keep.end(s)
	s.note(Event{Kind: Compacted, Bytes: c.size, Took: time.Since(began)})
	return nil
}

// freeze is step 1. It reports whether there is anything to do.
func (c *compaction) freeze() (bool, error) {
	s := c.s
	if err := s.acquire(c.ctx, s.applying); err != nil {
		return false, err
	}
	defer s.applying.release()
	if c.size = s.journalSize(); c.size == 0 && len(c.force) == 0 {
		return false, nil
	}
	if s.unpublished != nil {
		if err := s.ready(); err != nil {
			return false, err
		}
	}
	for _, name := range s.broken { // which a batch may have added to as long as that was unpublished
		if !slices.Contains(c.broken, name) {
			c.broken = append(c.broken, name)
		}
	}
	// What a compaction that failed has begun will do, or they would pile up. No two
	// manifests have the same start.
	j := s.current()
	var err error
	if s.left || j == nil || j.bad != nil || j.end > journalHeader || j.seq == s.start.seq {
		err = s.rotate()
		j = s.current()
	} else {
		err = s.syncFound()
	}
	if err != nil {
		return false, err
	}
	c.start = position{j.seq, j.end, j.frame}
	c.syncs = s.fs.failures()
	s.from = j.seq

	s.mu.Lock()
	defer s.mu.Unlock()
	c.frozen = maps.Clone(s.caches)
	for name, v := range s.caches {
		if !c.rewrites(name, v) {
			continue
		}
		if n := len(v.layers); n > 1 && v.top().n == 0 { // one that failed has made it
			frozen := *v
			frozen.layers = v.layers[:n-1]
			c.frozen[name] = &frozen
			continue
		}
		next := v.clone()
		if len(v.layers) == 0 {
			c.frozen[name] = next
			next = next.clone()
		}
		next.layers = append(next.layers, layer{t: new(table)})
		s.caches[name] = next
	}
	return true, nil
}

// rewrites reports whether a cache gets a new snapshot.
func (c *compaction) rewrites(name string, v *version) bool {
	return v.overlaid() > 0 || c.force[name]
}

func (c *compaction) run() error {
	s := c.s
	m := &manifest{start: c.start}
	if !s.opts.Uncompressed {
		c.packer = new(packer)
	}
	for _, name := range slices.Sorted(maps.Keys(c.frozen)) {
		v := c.frozen[name]
		x := v.snap
		if c.rewrites(name, v) {
			var err error
			if x, err = c.merge(name, v); err != nil {
				return err
			}
		}
		entry := manifestCache{name: name, desc: v.desc}
		if x != nil {
			entry.id, entry.gen, entry.tag = x.id, x.gen, x.tag
			entry.size, entry.records = x.size, uint64(x.records)
		}
		m.caches = append(m.caches, entry)
	}
	if len(c.made) > 0 {
		// Their names must not come after that of the manifest.
		if err := s.fs.syncNames(c.syncs); err != nil {
			return fmt.Errorf("syncing the names of snapshots: %w", err)
		}
	}
	c.keep.names = slices.Clone(c.broken)
	if err := s.publish(m, &c.keep); err != nil {
		return err
	}
	for _, name := range s.orphans {
		_ = s.fs.Remove(name) // if this fails the next Open sweeps it
	}
	s.orphans = nil
	// No batch comes between, for which there seems to be room where the old files still are.
	s.applying <- struct{}{}
	defer s.applying.release()
	for _, f := range c.adopt() {
		if slices.Contains(c.broken, f.name) {
			f.unpin() // and let it be set aside
		} else {
			f.doom()
		}
	}
	return nil
}

// abandon removes the new snapshots after an error, unless a manifest that names
// them may be there after a crash. Then they stay until there is a newer one.
func (c *compaction) abandon(err error) {
	left := isLeft(err)
	if left {
		c.s.applying <- struct{}{}
		c.s.left = true
		c.s.applying.release()
	}
	for _, x := range c.made {
		if left {
			c.s.orphans = append(c.s.orphans, x.name)
			x.unpin()
		} else {
			x.doom()
		}
	}
}

// adopt is what follows step 3 in memory. It returns the files for step 4. The caller
// holds applying.
func (c *compaction) adopt() (obsolete []*file) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()

	var snapshots []*snapshot
	kept := make(map[*snapshot]bool)
	for name, old := range c.frozen {
		x := old.snap
		if c.rewrites(name, old) {
			x = c.made[name]
		}
		if x != nil {
			snapshots = append(snapshots, x)
			kept[x] = true
		}
		v := s.caches[name]
		if !c.rewrites(name, old) || v == nil || !v.follows(old) {
			continue // untouched; or cleared or dropped meanwhile
		}
		next := *v
		next.layers = v.layers[len(old.layers):]
		next.bytes -= old.bytes
		next.snap, next.id = x, 0
		if x != nil {
			next.id = x.id
		}
		switch {
		case next.overlaid() > 0 && len(c.broken) > 0:
			next.records = -1 // some may have been lost
		case next.overlaid() > 0:
		case x != nil:
			next.records = x.records
		default:
			next.records = 0
		}
		s.caches[name] = &next
	}
	for _, x := range s.snapshots {
		if !kept[x] {
			obsolete = append(obsolete, x.file)
		}
	}
	s.snapshots = snapshots
	for len(s.journals) > 0 && s.journals[0].seq < c.start.seq {
		obsolete = append(obsolete, s.journals[0].file)
		s.journals = s.journals[1:]
	}
	s.start, s.retryAt, s.late = c.start, 0, false
	return obsolete
}

// follows reports whether v consists of old, which was frozen, and what was
// changed since. If the cache was cleared or dropped meanwhile its tables are
// new ones.
func (v *version) follows(old *version) bool {
	return v.layers[0].t == old.layers[0].t
}

// damaged decides what to do about an error of reading: after damage the
// compaction goes on without what is lost, unless the policy is Fail.
func (c *compaction) damaged(f *file, err error) error {
	var d *damage
	if !errors.As(err, &d) || c.s.opts.Damage == Fail {
		return err
	}
	c.s.note(Event{Kind: Damaged, File: d.file, Offset: d.offset, Policy: c.s.opts.Damage, Err: err})
	if !slices.Contains(c.broken, f.name) {
		c.broken = append(c.broken, f.name)
	}
	return nil
}
