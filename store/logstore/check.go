package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// Fault is something in a directory that is not as it should be.
type Fault struct {
	// Kind is Damaged if something is lost, or cannot be told from what is.
	// The others are put right by the next Open, and nothing is lost:
	// TornTail, an unfinished frame at the end of the journal; Swept, a file
	// that nothing refers to; Foreign, a file that is not of the store, which
	// is left alone.
	Kind    EventKind
	File    string
	Cache   string // whose records are concerned; "" if that is not known
	Offset  int64
	Bytes   int64 // from Offset on; 0 if that is not known
	Records int   // that cannot be read; 0 if that is not known
	Err     error // of a damage; wraps store.ErrCorrupt
}

// String describes f in one line.
func (f Fault) String() string {
	s := fmt.Sprintf("%s: %s", f.Kind, f.File)
	switch f.Kind {
	case TornTail:
		s += fmt.Sprintf(", offset %d", f.Offset)
	case Damaged: // Err says where
		s = fmt.Sprintf("%s: %v", f.Kind, f.Err)
	}
	if f.Bytes > 0 {
		s += fmt.Sprintf(", %d bytes", f.Bytes)
	}
	if f.Records > 0 {
		s += fmt.Sprintf(", %d records", f.Records)
	}
	return s
}

// Check reads all that is in a directory, and gives each fault as it finds it.
// It changes nothing. If the directory is in use it gives a *store.LockedError;
// use [Store.Check] then. An error ends the iteration. Of opts, only FS
// means something.
func Check(ctx context.Context, dir string, opts Options) iter.Seq2[Fault, error] {
	return func(yield func(Fault, error) bool) {
		fs := opts.FS
		if fs == nil {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				if err == nil {
					err = errors.New("not a directory")
				}
				yield(Fault{}, fmt.Errorf("logstore: check %s: %w", dir, err))
				return
			}
			d, err := vfs.OpenDir(dir)
			if err != nil {
				yield(Fault{}, fmt.Errorf("logstore: check %s: %w", dir, err))
				return
			}
			defer d.Close()
			fs = d
		}
		var found []Fault
		s, err := Open(dir, Options{
			FS: dryFS{fs}, CompactAt: -1, Damage: Salvage,
			Observe: func(e Event) { found = append(found, e.faults()...) },
		})
		if err != nil {
			yield(Fault{}, err)
			return
		}
		defer s.Close()
		for _, f := range found {
			if !yield(f, nil) {
				return
			}
		}
		for f, err := range s.Check(ctx) {
			told := slices.ContainsFunc(found, func(g Fault) bool {
				return f.Kind == g.Kind && f.File == g.File && f.Offset == g.Offset
			})
			if !told && !yield(f, err) {
				return
			}
		}
	}
}

// faults are what an event at Open is about.
func (e Event) faults() (all []Fault) {
	switch e.Kind {
	case Damaged:
		f := Fault{Kind: Damaged, File: e.File, Offset: e.Offset, Err: e.Err}
		var d *damage
		if errors.As(e.Err, &d) {
			f.Cache = d.cache
		}
		return []Fault{f}
	case TornTail:
		return []Fault{{Kind: TornTail, File: e.File, Offset: e.Offset, Bytes: e.Bytes}}
	case Swept, Foreign:
		for _, name := range e.Files {
			all = append(all, Fault{Kind: e.Kind, File: name})
		}
	}
	return all
}

// Repair opens the store in a directory, which deals with damage as the policy
// says, and rewrites what is damaged without what is lost, so that a check
// finds no damage any more. What was damaged is kept in a directory
// damaged-<n>, which an Event of kind SetAside names. It returns the faults
// that there were. With the policy Fail it only reports.
func Repair(ctx context.Context, dir string, opts Options) ([]Fault, error) {
	var found []Fault
	for f, err := range Check(ctx, dir, opts) {
		if err != nil {
			return found, err
		}
		found = append(found, f)
	}
	if opts.Damage == Fail {
		return found, nil
	}
	s, err := Open(dir, opts)
	if err != nil {
		return found, err
	}
	return found, errors.Join(s.Repair(ctx), s.Close())
}

// Repair rewrites all snapshots in which there is damage, and the journal if
// there is some in it, without what is lost. What is damaged is set aside.
func (s *Store) Repair(ctx context.Context) error {
	defer s.tell()
	if err := s.acquire(ctx, s.applying); err != nil {
		return err
	}
	var err error
	if s.keep != nil {
		err = s.ready() // Open could not do it
	}
	s.applying.release()
	if err != nil {
		return fmt.Errorf("logstore: repair: %w", err)
	}
	var found []Fault
	for f, err := range s.Check(ctx) {
		if err != nil {
			return err
		}
		found = append(found, f)
	}
	return s.compactFor(ctx, request{share: 1, faults: found})
}

// Check reads all that the store holds, and gives each damage as it finds it.
// Batches and compactions go on meanwhile; it sees the state at its beginning.
// An error ends the iteration.
func (s *Store) Check(ctx context.Context) iter.Seq2[Fault, error] {
	return func(yield func(Fault, error) bool) {
		c, err := s.checker(ctx)
		if err != nil {
			yield(Fault{}, err)
			return
		}
		defer c.unpin()
		c.yield = yield
		for _, x := range c.snapshots {
			if !c.snapshot(x) {
				return
			}
		}
		for i := range c.journals {
			if !c.journal(i) {
				return
			}
		}
	}
}

// checker is one check. Its methods report whether to go on.
type checker struct {
	s         *Store
	ctx       context.Context
	snapshots []*snapshot
	journals  []*journal
	from, to  []int64 // what counts of them
	yield     func(Fault, error) bool
}

func (s *Store) checker(ctx context.Context) (*checker, error) {
	if err := s.acquire(ctx, s.applying); err != nil {
		return nil, err
	}
	defer s.applying.release()
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := &checker{s: s, ctx: ctx, journals: slices.Clone(s.journals)}
	for _, name := range slices.Sorted(maps.Keys(s.caches)) {
		if x := s.caches[name].snap; x != nil {
			x.pin()
			c.snapshots = append(c.snapshots, x)
		}
	}
	for _, j := range c.journals {
		j.pin()
		from := int64(journalHeader)
		if j.seq == s.start.seq {
			from = s.start.off
		}
		c.from, c.to = append(c.from, from), append(c.to, j.end)
	}
	return c, nil
}

func (c *checker) unpin() {
	for _, x := range c.snapshots {
		x.unpin()
	}
	for _, j := range c.journals {
		j.unpin()
	}
}

// report yields an error, as a fault if it is about damage.
func (c *checker) report(err error, bytes int64, records int) bool {
	if !c.goOn() {
		return false
	}
	var d *damage
	if !errors.As(err, &d) {
		c.yield(Fault{}, fmt.Errorf("logstore: check: %w", err))
		return false
	}
	return c.yield(Fault{
		Kind: Damaged, File: d.file, Cache: d.cache, Offset: d.offset, Bytes: bytes, Records: records, Err: err,
	}, nil)
}

func (c *checker) goOn() bool {
	if err := c.s.check(c.ctx); err != nil {
		c.yield(Fault{}, err)
		return false
	}
	return true
}

func (c *checker) snapshot(x *snapshot) bool {
	if !c.goOn() {
		return false
	}
	index, err := x.blocks()
	if err != nil {
		return c.report(err, x.size, x.records)
	}
	if err := x.header(); err != nil && !c.report(err, snapshotHeader, 0) {
		return false
	}
	i, total := 0, 0
	var last []byte
	for read := range x.all(index, 1) {
		if !c.goOn() {
			return false
		}
		b, err := index[i], read.err
		total += b.count
		i++
		if err == nil {
			err = x.ordered(b, read.recs, last)
		}
		if err != nil {
			if !c.report(err, b.size, b.count) {
				return false
			}
			continue
		}
		last = bytes.Clone(read.recs[len(read.recs)-1].Key)
	}
	if total != x.records {
		return c.report(x.damage(0, fmt.Sprintf("there are %d records, the manifest says %d", total, x.records)), 0, 0)
	}
	return true
}

// header checks the start of the file, which nothing else reads.
func (x *snapshot) header() error {
	b := make([]byte, snapshotHeader)
	if err := x.fetch(0, b); err != nil {
		return err
	}
	err := checkPreamble(b, x.name, snapshotMagic)
	if d, ok := errors.AsType[*damage](err); ok {
		d.cache = x.cache // or Repair would set the file aside without making another
	}
	if err == nil && (le.Uint64(b[16:]) != x.tag || le.Uint64(b[24:]) != x.id || le.Uint64(b[32:]) != x.gen) {
		err = x.damage(0, "header of another file")
	}
	return err
}

// ordered checks what a search in the file relies on.
func (x *snapshot) ordered(b block, recs []store.Record, last []byte) error {
	if len(recs) != b.count || len(recs) == 0 || !bytes.Equal(recs[0].Key, b.first) {
		return x.damage(b.off, "block does not agree with the index")
	}
	for i, r := range recs {
		if (i > 0 || last != nil) && bytes.Compare(last, r.Key) >= 0 {
			return x.damage(b.off, "records are not in order")
		}
		last = r.Key
	}
	return nil
}

func (c *checker) journal(i int) bool {
	j := c.journals[i]
	w := window{f: j.f, end: c.to[i]}
	for off := c.from[i]; off < w.end; {
		if !c.goOn() {
			return false
		}
		k, _, ok, err := w.chunk(off)
		if err == nil && ok && k.journal == j.id {
			off += chunkHeader + int64(k.size)
			continue
		}
		next := int64(-1)
		if err == nil {
			next, err = w.search(off+1, func(k chunk) bool { return k.journal == j.id })
		}
		if err == errShort {
			err = nil
		}
		if err != nil {
			return c.report(err, 0, 0)
		}
		if next < 0 {
			next = w.end
		}
		if !c.report(&damage{file: j.name, offset: off, what: "wrong checksum of a chunk"}, next-off, 0) {
			return false
		}
		off = next
	}
	return true
}
