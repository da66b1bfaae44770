package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// load makes the state anew, from a manifest and the journals that it starts
// with, and goes on to it if that works.
func (r *Reader) load(ctx context.Context, m *manifest, files listing, changed nameSet) error {
	next := &Store{dir: r.s.dir, fs: r.s.fs, mu: r.s.mu, caches: map[string]*version{}}
	err := r.build(ctx, next, m, files, changed)
	if err == nil {
		next, r.at = r.at, next
		r.m, r.moved = m, true
	}
	unpinAll(next.journals, next.snapshots)
	return err
}

func (r *Reader) build(ctx context.Context, next *Store, m *manifest, files listing, changed nameSet) error {
	switch {
	case files.unfinished:
		return errUnfinished
	case !files.lock && files.empty():
		return fmt.Errorf("there is no store in it: %w", fs.ErrNotExist)
	case m == nil:
		return r.empty(next, files, changed)
	}
	if err := r.adopt(next, m); err != nil {
		return err
	}
	chain, err := r.chain(files, m.start.seq)
	if err != nil {
		return err
	}
	next.journals = chain
	if len(chain) == 0 || chain[0].seq != m.start.seq {
		if err := r.withoutStart(m, chain); err != nil {
			return err
		}
	} else {
		chain[0].end, chain[0].frame = m.start.off, m.start.frame
	}
	if at := r.at.current(); at != nil && (len(chain) == 0 || chain[len(chain)-1].seq < at.seq) {
		// It goes back, unless at was an attempt that the writer gave up.
		d := damage{file: at.name, what: "the journal that was read last is not in use any more"}
		if r.faults[d] < proof {
			return &d
		}
	}
	// A manifest without caches may be that of a writer which discarded all
	// that came before.
	diff := difference{old: r.at, compacted: len(m.caches) > 0 && !r.back, touched: nameSet{}}
	for i, j := range chain {
		end := endOf(chain, i+1)
		size, err := j.f.Size()
		if err != nil {
			return err
		}
		if j.end > min(size, end) {
			if err := r.damage(&damage{file: j.name, offset: size, what: "journal is cut off"}); err != nil {
				return err
			}
		}
		diff.begin(j)
		if err := r.replay(ctx, next, j, end, diff.done); err != nil {
			return err
		}
	}
	diff.add(next, changed)
	return nil
}

// empty makes sure that a directory without a manifest is a new store.
func (r *Reader) empty(next *Store, files listing, changed nameSet) error {
	used := len(files.snapshots) > 0
	for _, seq := range files.journals {
		j, err := r.journal(seq)
		if err != nil {
			return err
		}
		if j == nil {
			continue
		}
		size, err := j.f.Size()
		if err == nil {
			var more bool
			more, err = (&window{f: j.f, end: size}).used()
			used = used || more
		}
		j.unpin()
		if err != nil {
			return err
		}
	}
	if used {
		return &damage{file: manifestName(max(1, files.highest)), what: "no manifest can be read"}
	}
	(&difference{old: r.at}).add(next, changed)
	return nil
}

// adopt makes the state of next what the manifest says. It opens all snapshots,
// so that they can be read when they are removed, and takes those over that are
// open already.
func (r *Reader) adopt(next *Store, m *manifest) error {
	for i := range m.caches {
		c := &m.caches[i]
		v := &version{id: c.id, known: true, desc: c.desc, records: int(c.records)}
		next.caches[c.name] = v
		if c.gen == 0 {
			continue
		}
		v.snap = r.open(c)
		next.snapshots = append(next.snapshots, v.snap)
		_, err := v.snap.open()
		if errors.Is(err, fs.ErrNotExist) {
			// If that is real, nothing older can show, and reading will say so.
			err = r.accept(&damage{cache: c.name, file: v.snap.name, what: "file is missing"})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open returns the snapshot of a cache, which the caller must unpin.
func (r *Reader) open(c *manifestCache) *snapshot {
	if v := r.at.caches[c.name]; v != nil && v.snap != nil && v.snap.id == c.id && v.snap.gen == c.gen && v.snap.tag == c.tag {
		v.snap.pin()
		return v.snap
	}
	return openSnapshot(r.s.fs, c)
}

// withoutStart deals with the lack of the journal that the manifest starts with.
func (r *Reader) withoutStart(m *manifest, chain []*journal) error {
	name := journalName(m.start.seq)
	if len(chain) == 0 {
		f, err := r.s.fs.Open(name)
		if err == nil {
			defer f.Close()
			size, err := f.Size()
			if err != nil || size >= journalHeader {
				return err // its header was lost, with nothing after it
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.damage(&damage{file: name, what: "journal is missing, or its header damaged"})
}

// difference finds out in which caches a state that was made anew may differ
// from the old one.
type difference struct {
	old       *Store
	compacted bool // what the replay does not show again was compacted
	passed    bool // the replay went through the place up to which the old state goes
	touched   nameSet
}

// begin is called before j is replayed.
func (d *difference) begin(j *journal) {
	at := d.old.current()
	d.passed = d.passed || d.compacted && at != nil && at.id == j.id && at.end == j.end
}

// done is called after each frame.
func (d *difference) done(j *journal, of map[string]*version) {
	if d.passed {
		d.touched.add(j, of)
		return
	}
	// The frame that was read last need not be there any more, nor be the same.
	at := d.old.current()
	d.passed = d.compacted && at != nil && at.id == j.id && at.end == j.end && at.last == j.last && at.salt == j.salt
}

// add adds the names of the caches that may differ. The old state has no other
// writer than the caller.
func (d *difference) add(next *Store, changed nameSet) {
	for name, v := range next.caches {
		if d.differs(name, d.old.caches[name], v) {
			changed[name] = struct{}{}
		}
	}
	for name := range d.old.caches {
		if next.caches[name] == nil {
			changed[name] = struct{}{}
		}
	}
}

func (d *difference) differs(name string, old, v *version) bool {
	if old == nil || !bytes.Equal(old.desc, v.desc) || (old.desc == nil) != (v.desc == nil) {
		return true
	}
	if d.passed {
		// The frames before were compacted, which changes nothing.
		_, touched := d.touched[name]
		return touched
	}
	return old.snap != v.snap || old.overlaid() > 0 || v.overlaid() > 0
}
