package logstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// errUnfinished is about a directory with UNFINISHED in it.
var errUnfinished = fmt.Errorf("%w: there is a file %s; remove the directory and make a new one",
	store.ErrUnfinished, unfinishedName)

// nameSet collects the names of caches.
type nameSet map[string]struct{}

// refresh reads on to the present, which show makes visible. The caller holds
// applying.
//
// The writer may be at work meanwhile. It changes files in such an order that
// each of them, read when the files that lead to it have been read, is either
// whole, or not needed any more, or not needed yet; docs/FORMAT.md has the
// protocol. What is not needed any more was removed after a newer manifest was
// there, so looking again finds that one.
func (r *Reader) refresh(ctx context.Context) (changed []string, err error) {
	names := nameSet{}
	defer func() { changed = slices.Sorted(maps.Keys(names)) }()
	r.faults, r.back = map[damage]int{}, false
	var before listing
	for try := 1; ; try++ {
		if err := r.s.check(ctx); err != nil {
			return nil, err
		}
		files, err := list(r.s.fs)
		if err != nil {
			return nil, err
		}
		m, err := r.newest(files, r.m)
		if err != nil {
			return nil, err
		}
		done := false
		if m != nil && m == r.m {
			done, err = r.follow(ctx, files, names)
			if err == nil && !(done && slices.Contains(files.manifests, m.n)) {
				// It may be one that could not be made after all, and the next writer has
				// given its number, or a lower one, to another, or made none yet.
				var listed *manifest
				if listed, err = r.newest(files, nil); listed != nil || !done {
					m, done = listed, false
				}
			}
		}
		if !done && err == nil {
			err = r.load(ctx, m, files, names)
		}
		var fault damage
		if d, ok := errors.AsType[*damage](err); ok {
			fault = *d
		} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errShort) { // or a batch was taken back meanwhile
			fault.what = err.Error()
		} else if err != nil {
			return nil, err
		}
		settled, e := r.settled(m)
		if e != nil {
			return nil, e
		}
		if !settled && !files.sameAs(before) {
			before, try = files, 1
		}
		if settled || try >= tries {
			if r.faults[fault]++; err == nil || r.faults[fault] > proof {
				return nil, err
			}
		}
		if try > 2 && !files.empty() { // where nothing was stored it would always wait
			time.Sleep(time.Millisecond / 64 << min(try, 6)) // let the writer get on
		}
	}
}

// show makes s what at is, when with says so. The caller holds applying.
func (r *Reader) show(changed []string, with func([]string, []store.Info, func())) {
	if !r.moved && len(changed) == 0 {
		return
	}
	s, at := r.s, r.at
	caches, journals, snapshots := maps.Clone(at.caches), slices.Clone(at.journals), slices.Clone(at.snapshots)
	for _, j := range journals {
		j.pin()
	}
	for _, x := range snapshots {
		x.pin()
	}
	show := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.caches = caches
		journals, s.journals = s.journals, journals
		snapshots, s.snapshots = s.snapshots, snapshots
	})
	defer func() {
		show()
		unpinAll(journals, snapshots)
		r.moved = false
	}()
	if with != nil && len(changed) > 0 {
		with(changed, at.infos(), show)
	}
}

// proof is how often a fault must have been seen to be real. One can be seen once
// where there is none: something that was read later was there already when the
// look at what was read before was too old.
const proof = 2

// tries is how often in a row a listing that may be incomplete must say the same
// to be believed all the same. To mislead, each must have been overtaken by two
// compactions or more, and have missed what they made and removed.
const tries = 8

// newest returns the newest valid manifest that is listed, or last, which was
// read before, if no newer one is: while its files are open it does as well as ever.
// It returns nil if there is none. One that is not valid is being written, or
// was when its process died.
func (r *Reader) newest(files listing, last *manifest) (*manifest, error) {
	for _, n := range slices.Backward(files.manifests) {
		if last != nil && n <= last.n {
			break
		}
		m, err := readManifest(r.s.fs, n)
		var d *damage
		switch {
		case err == nil:
			return m, nil
		case !errors.As(err, &d) && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return last, nil
}

// settled reports whether the last listing, on which m was the newest manifest,
// can be relied upon. While files come and go a listing may lack both those that
// were there when it began and those that were when it ended. But as long as m
// is there no more than one newer manifest was published, and that one is there
// too, so the next listing has it. If it does not, there is none yet, so no file
// that m leads to was removed, and the last listing had all those that
// existed when it began.
func (r *Reader) settled(m *manifest) (bool, error) {
	if m == nil {
		return false, nil
	}
	files, err := list(r.s.fs)
	if err != nil {
		return false, err
	}
	newest, err := r.newest(files, m)
	if err != nil || newest.n > m.n {
		return false, err
	}
	err = r.s.fs.Exists(manifestName(m.n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// damage returns d, unless the policy is to show what can be read and d is real.
func (r *Reader) damage(d *damage) error {
	if r.s.opts.Damage != Salvage {
		return d
	}
	return r.accept(d)
}

// accept returns d, unless it is real: then it notes it.
func (r *Reader) accept(d *damage) error {
	if r.faults[*d] < proof {
		return d
	}
	r.s.note(Event{Kind: Damaged, File: d.file, Offset: d.offset, Policy: r.s.opts.Damage, Err: d})
	return nil
}

// follow reads what was added to the journals. It reports false if they do not
// lead on from where the Reader is, so that it must start again from the
// manifest.
func (r *Reader) follow(ctx context.Context, files listing, changed nameSet) (bool, error) {
	s := r.at
	at := s.current()
	if at == nil {
		return false, nil
	}
	if same, err := r.same(at); err != nil || !same {
		return false, err
	}
	later, err := r.chain(files, at.seq+1)
	if err != nil {
		return false, err
	}
	if len(later) > 0 && (later[0].prev != at.seq || later[0].prevEnd < at.end) {
		unpinAll(later, nil)
		return false, nil
	}
	for i := range len(later) + 1 {
		if i > 0 {
			s.journals = append(s.journals, later[i-1])
			r.moved = true
		}
		if err := r.replay(ctx, s, s.current(), endOf(later, i), changed.add); err != nil {
			unpinAll(later[i:], nil)
			return false, err
		}
	}
	return true, nil
}

// same reports whether the journal at is still the one of that name, and has what was
// read last. If it has not, r.back is set.
func (r *Reader) same(at *journal) (bool, error) {
	f, err := r.s.fs.Open(at.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	if at.last == 0 {
		b := make([]byte, journalHeader)
		err = readFull(f, b, 0)
		x, damaged := parseJournalHeader(b, at.name, at.seq)
		r.back = damaged != nil || x.id != at.id
	} else {
		b := make([]byte, chunkHeader)
		err = readFull(f, b, at.last)
		c, ok := parseHeader(b)
		r.back = !ok || c.journal != at.id || c.salt != at.salt
	}
	if err == errShort {
		r.back, err = true, nil
	}
	return !r.back && err == nil, err
}

// endOf returns where the journal before later[i] ends.
func endOf(later []*journal, i int) int64 {
	if i < len(later) {
		return later[i].prevEnd
	}
	return math.MaxInt64
}

func (names nameSet) add(_ *journal, of map[string]*version) {
	for name := range of {
		names[name] = struct{}{}
	}
}

func unpinAll(journals []*journal, snapshots []*snapshot) {
	for _, j := range journals {
		j.unpin()
	}
	for _, x := range snapshots {
		x.unpin()
	}
}

// chain opens the journals from number from on: the newest, and those that lead
// to it, oldest first.
func (r *Reader) chain(files listing, from uint64) (chain []*journal, err error) {
	found := map[uint64]*journal{}
	defer func() { // what is beside the chain: an attempt that failed
		for _, j := range found {
			j.unpin()
		}
	}()
	var newest *journal
	for _, seq := range files.journals {
		if seq < from {
			continue
		}
		j, err := r.journal(seq)
		if err != nil {
			return nil, err
		}
		if j != nil && j.prev == 0 && seq > from {
			j.unpin() // an attempt to begin a store: all others name the one before
		} else if j != nil {
			found[seq], newest = j, j
		}
	}
	for j := newest; j != nil; j = found[j.prev] {
		chain = append(chain, j)
		delete(found, j.seq)
	}
	slices.Reverse(chain)
	return chain, nil
}

// journal opens a journal, or returns nil if it is not one yet, or cannot be
// read and that was accepted.
func (r *Reader) journal(seq uint64) (*journal, error) {
	name := journalName(seq)
	f, err := r.s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	file := newFile(r.s.fs, name, f)
	j, err := r.header(f, name, seq)
	if j == nil {
		file.unpin()
		return nil, err
	}
	j.file = file
	return j, nil
}

func (r *Reader) header(f vfs.File, name string, seq uint64) (*journal, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	w := window{f: f, end: size}
	b, err := w.at(0, min(size, journalHeader))
	if err != nil {
		return nil, err
	}
	j, err := parseJournalHeader(b, name, seq)
	if d, ok := errors.AsType[*damage](err); ok {
		// If nothing follows, the header is being written, or was.
		if used, err := w.used(); err != nil || !used {
			return nil, err
		}
		return nil, r.damage(d)
	}
	return j, err
}

// used reports whether there is a chunk in a journal.
func (w *window) used() (bool, error) {
	at, err := w.search(0, func(chunk) bool { return true })
	return at >= 0, err
}

// replay carries out in s the frames of j from where it was read to on, up to
// end. It tells done which caches each of them is about.
func (r *Reader) replay(ctx context.Context, s *Store, j *journal, end int64, done func(*journal, map[string]*version)) error {
	for {
		size, err := j.f.Size()
		if err != nil {
			return err
		}
		w := window{f: j.f, end: min(size, end)}
		for j.end < w.end {
			if err = r.s.check(ctx); err != nil {
				return err
			}
			st := stage{s: s}
			var next int64
			var ok bool
			if next, ok, err = w.frame(&st, j, j.end, j.frame); !ok {
				st.undo()
				break
			}
			st.publish()
			j.last, j.salt = j.end, w.salt
			j.end, j.frame = next, j.frame+1
			done(j, st.of)
		}
		if j.end >= w.end {
			break
		}
		var number uint64
		later := int64(-1)
		if err == nil {
			later, err = w.search(j.end+1, func(c chunk) bool {
				number = c.frame
				return c.journal == j.id && c.frame > j.frame
			})
		}
		if err == errShort {
			continue // a batch was taken back; those before it may not have been read
		} else if err != nil {
			return err
		} else if later < 0 {
			break // not a whole frame yet
		}
		if err := r.damage(&damage{file: j.name, offset: j.end, what: "frame is damaged"}); err != nil {
			return err
		}
		j.end, j.frame = later, number
	}
	if j.end < end && end < math.MaxInt64 {
		return r.damage(&damage{file: j.name, offset: j.end, what: "journal is cut off"})
	}
	return nil
}
