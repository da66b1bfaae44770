package logstore

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// recovery is the work of Open once the lock is held.
type recovery struct {
	s     *Store
	files listing
	m     *manifest  // the newest valid one; nil if there is none
	keep  uint64     // the number of the one before it, if that is valid
	heads []*journal // from m.start on, each the successor of the one before
	ends  []int64    // up to where each of heads counts

	// discarded is set once Discard had to be applied. The state is then
	// that from the position from on; if that is zero, there is nothing.
	discarded bool
	from      position
}

// recover reads the directory. It changes nothing in it before it knows what is
// there. Neither damage (unless the policy is Fail) nor a change that it cannot
// make prevents the start, but failing to read or to sync does.
func (s *Store) recover() error {
	files, err := list(s.fs)
	if err != nil {
		return err
	}
	if files.unfinished {
		return errUnfinished
	}
	r := &recovery{s: s, files: files}
	s.used = files.highest > 0 || len(files.journals) > 0
	s.nextGen, s.nextID, s.nextSeq = files.highest+1, 1, 1
	if n := len(files.journals); n > 0 {
		s.nextSeq = files.journals[n-1] + 1
	}
	if len(files.foreign) > 0 {
		s.note(Event{Kind: Foreign, Files: files.foreign})
	}
	if err := r.manifest(); err != nil {
		return err
	}
	if r.m == nil {
		return r.withoutManifest()
	}
	if err := r.adopt(); err != nil {
		return err
	}
	if err := r.chain(); err != nil {
		return err
	}
	for i, j := range r.heads {
		if err := r.replay(i, j); err != nil {
			return err
		}
	}
	s.unsynced = true
	var unused []string
	if !r.discarded && !s.unheld && s.unpublished == nil { // or a manifest that says where to start would lead nowhere
		unused = slices.DeleteFunc(r.unused(), func(name string) bool { return slices.Contains(s.broken, name) })
	}
	left := s.left
	aside := r.files.damaged > 0 && r.files.damaged+1 == r.m.n && len(unused) > 0
	if aside {
		// Who published the manifest did not come to move what it had given up. The
		// manifest before is of that, too.
		if r.keep != 0 {
			unused = append(unused, manifestName(r.keep))
			s.manifests[1] = 0
		}
		s.keep, left = &keeping{names: unused}, true
	}
	if left || r.discarded && !s.unheld || len(unused) > 0 {
		if err := s.syncFound(); err != nil {
			return err
		}
	}
	if j := s.current(); left && j != nil && !r.discarded && s.unpublished == nil {
		// Where there is nothing that the manifest has replaced and a batch after it, its
		// name was synced.
		if (len(unused) > 0 || j.last == 0) && !s.rename(r.m) {
			unused = nil
		}
	}
	if r.discarded {
		r.settle()
	}
	if !aside {
		r.remove(unused)
	}
	return nil
}

// rename gives new names to the newest manifest and journal, which the last process may
// have made without their names being on the disk: like that of a file, a sync of the
// directory succeeds after one that failed. All other names were synced before these
// were made. It reports false if that has to be done before the first change.
func (s *Store) rename(m *manifest) bool {
	again := *m
	s.unpublished = &again
	if j := s.current(); j.end == journalHeader && j.seq != s.start.seq {
		j.bad = errors.New("its name may not be on the disk")
	}
	s.left = s.ready() != nil
	return !s.left
}

// damage applies the policy to damage that lies before the position next: it
// returns an error, or makes the state what it should be before replay goes on
// there.
func (r *recovery) damage(d *damage, next position) error {
	s := r.s
	if s.opts.Damage == Fail {
		return d
	}
	s.note(Event{Kind: Damaged, File: d.file, Offset: d.offset, Policy: s.opts.Damage, Err: d})
	if s.opts.Damage == Discard {
		s.mu.Lock()
		s.caches = map[string]*version{}
		s.mu.Unlock()
		r.discarded, r.from, s.broken = true, next, nil
	} else if !slices.Contains(s.broken, d.file) {
		s.broken = append(s.broken, d.file)
	}
	return nil
}

// manifest finds the newest valid manifest. One that is not valid is what an
// interrupted publish leaves; then the one before holds, and all its files are
// there. If it was valid once, files are missing, and that is the damage.
func (r *recovery) manifest() error {
	for _, n := range slices.Backward(r.files.manifests) {
		m, err := readManifest(r.s.fs, n)
		var d *damage
		switch {
		case err == nil && r.m == nil:
			r.m = m
		case err == nil:
			r.keep = n
			return nil
		case r.m == nil && !errors.As(err, &d):
			return err
		}
	}
	return nil
}

// withoutManifest starts an empty store. There may be files of one that never
// came to be, or of one whose manifest is gone; the latter are set aside.
func (r *recovery) withoutManifest() error {
	s := r.s
	s.unpublished, s.left = &manifest{}, false
	used := len(r.files.snapshots) > 0
	for _, seq := range r.files.journals {
		j, empty, _, err := r.journal(seq)
		if err != nil {
			return err
		}
		if j != nil {
			j.unpin()
		}
		used = used || !empty
	}
	if !used {
		// They are swept once there is a manifest: one that could not be made, and leads to
		// them, may be back after a loss of power.
		return nil
	}
	d := &damage{file: manifestName(max(1, s.nextGen-1)), what: "no manifest can be read"}
	if err := r.damage(d, position{}); err != nil {
		return err
	}
	r.settle()
	return nil
}

// adopt makes the state what the manifest says.
func (r *recovery) adopt() error {
	s := r.s
	s.manifests = [2]uint64{r.m.n, r.keep}
	s.start, s.nextID = r.m.start, r.m.nextID
	s.nextSeq = max(s.nextSeq, r.m.start.seq+1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.m.caches {
		c := &r.m.caches[i]
		v := &version{id: c.id, known: true, desc: c.desc, records: int(c.records)}
		s.caches[c.name] = v
		if c.gen == 0 {
			continue
		}
		v.snap = openSnapshot(s.fs, c)
		s.snapshots = append(s.snapshots, v.snap)
		if _, there := slices.BinarySearch(r.files.snapshots, v.snap.name); there {
			continue
		}
		// Only Fail cares: nothing older can show, and reading will say so.
		d := &damage{cache: c.name, file: v.snap.name, what: "file is missing"}
		if s.opts.Damage == Fail {
			return d
		}
		s.note(Event{Kind: Damaged, File: d.file, Policy: s.opts.Damage, Err: d})
	}
	return nil
}

// journal opens a journal and reads its header. It returns nil if the header
// is not valid. It is empty if there is no chunk in it, so that nothing that
// was ever acknowledged can be; unless it was cut, so that it is shorter than a header.
func (r *recovery) journal(seq uint64) (j *journal, empty, cut bool, err error) {
	name := journalName(seq)
	f, err := r.s.fs.OpenWrite(name)
	if err != nil {
		return nil, false, false, err
	}
	defer func() {
		if j == nil {
			f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, false, false, err
	}
	b := make([]byte, min(size, journalHeader))
	if err := readFull(f, b, 0); err != nil {
		return nil, false, false, err
	}
	w := window{f: f, end: size}
	at, err := w.search(0, func(chunk) bool { return true })
	if err != nil {
		return nil, false, false, err
	}
	x, err := parseJournalHeader(b, name, seq)
	var d *damage
	if errors.As(err, &d) {
		return nil, at < 0, size < journalHeader, nil
	} else if err != nil {
		return nil, false, false, err
	}
	x.file = newFile(r.s.fs, name, f)
	return x, at < 0, false, nil
}

// chain finds the journals to replay: from the newest back to the one that the
// manifest names, each header naming the one before.
func (r *recovery) chain() error {
	s, start := r.s, r.m.start.seq
	found := map[uint64]*journal{}
	defer func() { // what is beside the chain: an attempt that failed
		for _, j := range found {
			j.unpin()
		}
	}()
	var newest, unreadable uint64
	reset := false // the first journal lost its header, but there was nothing in it
	used := false  // there is something in a later one
	for _, seq := range r.files.journals {
		if seq < start {
			continue
		}
		j, empty, cut, err := r.journal(seq)
		if err != nil {
			return err
		}
		switch {
		case j != nil && j.prev == 0 && seq > start && empty:
			j.unpin() // an attempt to begin a store: all others name the one before
		case j != nil:
			found[seq], newest = j, seq
			used = used || !empty
		case !empty:
			unreadable = seq
		case seq == start && !cut: // it was as long as a header before the manifest named it
			reset = true
		}
	}
	end, at := int64(math.MaxInt64), newest
	gap := uint64(0) // a journal of the chain that cannot be read, though those before can
	for at >= start && at > 0 {
		j := found[at]
		if j == nil {
			below := uint64(0)
			for seq := range found {
				if seq < at {
					below = max(below, seq)
				}
			}
			if s.opts.Damage != Salvage || below < start || below == 0 {
				break
			}
			gap, end, at = max(gap, at), math.MaxInt64, below
			continue
		}
		r.heads, r.ends = append(r.heads, j), append(r.ends, end)
		delete(found, at)
		end, at = j.prevEnd, j.prev
	}
	slices.Reverse(r.heads)
	slices.Reverse(r.ends)
	s.mu.Lock()
	s.journals = slices.Clone(r.heads)
	s.mu.Unlock()

	if unreadable > newest {
		d := &damage{file: journalName(unreadable), what: "header of the newest journal is damaged"}
		if s.opts.Damage == Discard {
			r.heads = nil // nothing that is newer can be read
		}
		return r.damage(d, position{})
	}
	switch {
	case len(r.heads) > 0 && r.heads[0].seq == start && gap == 0:
		return nil
	case reset && !used && unreadable == 0:
		s.mu.Lock() // those that were to take its place are named by no manifest yet
		unpinAll(s.journals, nil)
		s.journals, r.heads = nil, nil
		s.mu.Unlock()
		s.unpublished = r.m
		return nil
	}
	d := &damage{file: journalName(max(at, start, gap)), what: "journal is missing, or its header damaged"}
	next := position{}
	if len(r.heads) > 0 {
		next = position{r.heads[0].seq, journalHeader, 1}
	}
	return r.damage(d, next)
}

// replay carries out the frames of r.heads[i].
func (r *recovery) replay(i int, j *journal) error {
	size, err := j.f.Size()
	if err != nil {
		return err
	}
	newest := i == len(r.heads)-1
	w := window{f: j.f, end: min(size, r.ends[i])}
	off, frame := int64(journalHeader), uint64(1)
	if j.seq == r.m.start.seq {
		off, frame = r.m.start.off, r.m.start.frame
	}
	next := position{}
	if !newest {
		next = position{r.heads[i+1].seq, journalHeader, 1}
	}
	short := stage{s: r.s}
	for off < w.end {
		end, ok, err := w.shortFrame(&short, j, off, frame)
		if err != nil {
			return err
		}
		var st stage
		if !ok {
			short.publish()
			short, st = stage{s: r.s}, stage{s: r.s}
			if end, ok, err = w.frame(&st, j, off, frame); err != nil {
				return err
			}
			if ok {
				st.publish()
			}
		}
		if ok {
			j.last, j.salt = off, w.salt
			off, frame = end, frame+1
			continue
		}
		st.undo()
		later, err := w.search(off+1, func(c chunk) bool { return c.journal == j.id && c.frame > frame })
		if err != nil {
			return err
		}
		if later < 0 && newest {
			r.cut(j, off, frame, size)
			return nil
		}
		d := &damage{file: j.name, offset: off, what: "frame is damaged"}
		good := int64(-1)
		if later >= 0 {
			var number uint64
			good, err = w.search(later, func(c chunk) bool {
				number = c.frame
				return c.journal == j.id && c.frame > frame && c.no == 0
			})
			if err != nil {
				return err
			}
			if good >= 0 {
				if err := r.damage(d, position{j.seq, good, number}); err != nil {
					return err
				}
				off, frame = good, number
				continue
			}
		}
		if err := r.damage(d, next); err != nil {
			return err
		}
		if newest {
			j.bad = d
		}
		off = w.end
	}
	short.publish()
	if !newest && off < r.ends[i] {
		d := &damage{file: j.name, offset: off, what: "journal is cut off"}
		if err := r.damage(d, next); err != nil {
			return err
		}
	}
	if newest && off > w.end {
		// The manifest starts it beyond its end.
		d := &damage{file: j.name, offset: w.end, what: "journal is cut off"}
		j.bad = d
		if err := r.damage(d, next); err != nil {
			return err
		}
	}
	j.end, j.frame = off, frame
	return nil
}

// cut takes the torn frame off the end of the newest journal.
func (r *recovery) cut(j *journal, off int64, frame uint64, size int64) {
	j.end, j.frame = off, frame
	err := j.f.Truncate(off)
	r.s.note(Event{Kind: TornTail, File: j.name, Offset: off, Bytes: size - off, Err: err})
	if err != nil {
		r.s.poison(j, err)
	}
}

// rewrite writes a part of a file over itself, so that the next sync writes it to the
// disk: after one that failed, which the process before may not have survived, the
// system may take it for written although it is not.
func rewrite(f vfs.File, off, end int64) error {
	buf := make([]byte, min(end-off, writeSize))
	for off < end {
		b := buf[:min(end-off, writeSize)]
		if err := readFull(f, b, off); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// syncFound makes durable what Open found, unless it is known to be: who wrote it
// may have died before doing so, or copied it there. Open does so at once if it was
// not closed by who had it before, so what was read once is there after a loss of
// power too. Otherwise it happens before the first change, which builds upon
// it: syncing takes longer than all else that Open does. It also makes HOLDER, if
// Open could not: without it the next one would believe that this one has closed the
// store, and not write anew what a failed sync may have lost. The caller holds applying,
// or is Open.
func (s *Store) syncFound() error {
	if s.unheld {
		if _, err := writeHolder(s.fs); err != nil {
			return err
		}
		s.unheld = false
	}
	if !s.unsynced {
		return nil
	}
	again := func(f vfs.File, off, end int64) error {
		if !s.left {
			return nil
		}
		return rewrite(f, off, end)
	}
	syncManifest := func() error {
		if s.manifests[0] == 0 {
			return nil // it was discarded
		}
		f, err := s.fs.OpenWrite(manifestName(s.manifests[0]))
		if err != nil {
			return err
		}
		defer f.Close()
		size, err := f.Size()
		if err == nil {
			err = again(f, 0, size)
		}
		if err == nil {
			err = f.Sync()
		}
		return err
	}
	sync := func() error {
		if err := syncManifest(); err != nil {
			return err
		}
		if j := s.current(); s.left && j != nil && j.bad == nil {
			// If a journal that could not be made were back after a loss of power, it would
			// end this one where it did then.
			if err := s.fs.forget(journalName(s.nextSeq)); err != nil {
				s.poison(j, err)
			}
		}
		if err := s.fs.SyncDir("."); err != nil {
			return err
		}
		// The other journals were synced before their successors were made.
		if j := s.current(); j != nil {
			if err := again(j.f, 0, journalHeader); err != nil {
				return err
			}
			if j.last > 0 {
				if err := again(j.f, j.last, j.end); err != nil {
					return err
				}
			}
			if s.left && j.bad == nil {
				// What was cut off may be on the disk still, like what was written over it.
				if err := j.f.Truncate(j.end); err != nil {
					return err
				}
			}
			return j.f.Sync()
		}
		return nil
	}
	if err := sync(); err != nil {
		s.left = true // the next one would succeed without writing anything
		return fmt.Errorf("syncing what is there: %w", err)
	}
	s.unsynced, s.left = false, false
	return nil
}
