package logstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/cacheman-go/cacheman/store"
)

// merge is step 2 for one cache. It returns nil if nothing is left of it.
func (c *compaction) merge(name string, v *version) (*snapshot, error) {
	s := c.s
	id, gen := v.id, s.nextGen
	s.nextGen++
	if id == 0 {
		id = s.nextID
		s.nextID++
	}
	x := &snapshot{cache: name, id: id, gen: gen, tag: rand.Uint64()}
	f, err := s.fs.Create(snapshotName(id, gen))
	if err != nil {
		return nil, fmt.Errorf("creating a snapshot: %w", err)
	}
	x.file = newFile(s.fs, snapshotName(id, gen), f)
	w := newSnapshotWriter(f, id, gen, x.tag, c.packer, c.pace)
	err = c.mergeInto(w, v)
	if err == nil {
		x.size, err = w.finish()
	}
	if e := w.stop(); err == nil {
		err = e
	}
	if err != nil || w.total == 0 {
		x.doom()
		return nil, err
	}
	x.records = int(w.total)
	c.made[name] = x
	return x, nil
}

// mergeInto writes what there is in v: the records of its snapshot and the changes, which take the
// place of records with the same key.
func (c *compaction) mergeInto(w *snapshotWriter, v *version) error {
	changes := c.s.sorted(v)
	next := 0 // in changes
	values := valueReader{v: v, budget: max(64<<20, c.size/8), single: chunkReader{again: true}}
	// upTo writes the changes with a key below that, or all.
	upTo := func(key []byte) error {
		for next < len(changes) && (key == nil || v.compare(changes[next], key) < 0) {
			rec, err := values.at(c, changes, next)
			if err != nil {
				return err
			}
			next++
			if rec.Key == nil {
				continue // deleted, or damaged
			}
			if err := w.add(rec); err != nil {
				return err
			}
		}
		return nil
	}
	if v.snap == nil {
		return upTo(nil)
	}
	index, err := v.snap.blocks()
	if err != nil {
		if err := c.damaged(v.snap.file, err); err != nil {
			return err
		}
	}
	asStored := v.untouched(index, changes)
	if c.force[v.snap.cache] { // for what is in a block may not make sense
		asStored = func(int) bool { return false }
	}
	i := -1
	for b := range v.snap.each(index, 1, asStored) {
		i++
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if b.err == nil && len(b.stored) > 0 {
			if err := upTo(index[i].first); err != nil {
				return err
			}
			if w.takes(b.stored) {
				if err := w.copy(index[i].first, b.stored); err != nil {
					return err
				}
				continue
			}
			b.recs, b.err = v.snap.parseStored(index[i], b.stored, b.recs)
		}
		if b.err != nil {
			if err := c.damaged(v.snap.file, b.err); err != nil {
				return err
			}
			continue
		}
		for _, r := range b.recs {
			if err := upTo(r.Key); err != nil {
				return err
			}
			if next < len(changes) && v.compare(changes[next], r.Key) == 0 {
				continue
			}
			if err := w.add(r); err != nil {
				return err
			}
		}
	}
	return upTo(nil)
}

// untouched returns a function that reports whether nothing has changed between the first key of
// a block and that of the next. It is to be asked for one after the other.
func (v *version) untouched(index []block, changes []sortedChange) func(int) bool {
	next := 0
	return func(i int) bool {
		if index[i].lost != nil {
			return false
		}
		for next < len(changes) && v.compare(changes[next], index[i].first) < 0 {
			next++
		}
		switch {
		case next == len(changes):
			return true
		case i+1 == len(index) || index[i+1].lost != nil:
			return false
		}
		return v.compare(changes[next], index[i+1].first) >= 0
	}
}

// sortedChange is the last entry of a key in a version's layers. There may be very many.
type sortedChange struct {
	head uint64 // the first bytes of the key, as a number that sorts like them
	nth  uint32 // which entry it is, see nth
}

// nth returns the table of the nth entry of all layers, in the order of the
// journal, and which it is there.
func (v *version) nth(n uint32) (*table, uint32) {
	k := 0
	for n >= v.layers[k].n {
		n -= v.layers[k].n
		k++
	}
	return v.layers[k].t, n
}

// keyOf returns the key of a change, and placeOf where its record is. The layers
// do not change any more.
func (v *version) keyOf(c sortedChange) []byte {
	t, i := v.nth(c.nth)
	return t.key(i)
}

func (v *version) placeOf(c sortedChange) place {
	t, i := v.nth(c.nth)
	return t.place(i)
}

func (v *version) deletes(c sortedChange) bool {
	t, i := v.nth(c.nth)
	return t.at(i).dead()
}

// compare compares the key of a change with another.
func (v *version) compare(c sortedChange, key []byte) int {
	if head := headOf(key); c.head != head {
		return cmp.Compare(c.head, head) // nearly always; the key is somewhere else in memory
	}
	return bytes.Compare(v.keyOf(c), key)
}

// headOf returns the first eight bytes of key, as a number. If those of two keys
// differ, the numbers are in the order of the keys.
func headOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var head [8]byte
	copy(head[:], key)
	return binary.BigEndian.Uint64(head[:])
}

// sorted returns the last entries of keys in v's layers, in the order of these.
func (s *Store) sorted(v *version) []sortedChange {
	all := make([]sortedChange, 0, v.overlaid())
	base := uint32(0)
	for k, l := range v.layers {
		for i := uint32(0); i < l.n; {
			s.mu.RLock()
			for end := min(i+batch, l.n); i < end; i++ {
				if v.current(k, i) {
					all = append(all, sortedChange{headOf(l.t.key(i)), base + i})
				}
			}
			s.mu.RUnlock()
		}
		base += l.n
	}
	slices.SortFunc(all, func(a, b sortedChange) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head) // as in compare
		}
		return bytes.Compare(v.keyOf(a), v.keyOf(b))
	})
	return all
}

// valueReader gives the records of sorted changes. It reads those of a range
// of keys in one pass over the journal, since the order of the keys has nothing
// to do with that of the file; a range is as long as memory allows.
type valueReader struct {
	v          *version // whose changes they are
	budget     int64    // of bytes in memory
	begin, end int      // the range that is in records
	records    []store.Record
	single     chunkReader // of records that are read when it is their turn
}

// alone returns where the record of a change is, if there is one, large, and nothing else to be
// read with it.
func (v *version) alone(c sortedChange) (p place, ok bool) {
	p = v.placeOf(c)
	return p, !v.deletes(c) && p.ref.ops == 1 && p.ref.size >= writeSize
}

// recordSize is about what a record needs in memory, beside its bytes.
const recordSize = int64(unsafe.Sizeof(store.Record{}) + 8)

// at returns the record of changes[i], where i grows by one with each call, until the next. The
// record is empty, with a nil key, if it is deleted, or damaged and that was accepted.
func (r *valueReader) at(c *compaction, changes []sortedChange, i int) (store.Record, error) {
	if i >= r.end {
		if err := r.fill(c, changes, i); err != nil {
			return store.Record{}, err
		}
	}
	if p, ok := r.v.alone(changes[i]); ok {
		if err := c.ctx.Err(); err != nil {
			return store.Record{}, err
		}
		return r.read(c, &r.single, p)
	}
	return r.records[i-r.begin], nil
}

// read reads one record. It is empty if it is damaged and that was accepted.
func (r *valueReader) read(c *compaction, chunks *chunkReader, p place) (store.Record, error) {
	payload, err := chunks.read(p.ref, []place{p})
	if err != nil {
		return store.Record{}, c.damaged(p.ref.j.file, err)
	}
	if payload == nil {
		return store.Record{}, nil
	}
	rec, ok := recordAt(payload, p.off)
	if !ok {
		return store.Record{}, c.damaged(p.ref.j.file, &damage{file: p.ref.j.name, offset: p.ref.off, what: "record makes no sense"})
	}
	return rec, nil
}

func (r *valueReader) fill(c *compaction, changes []sortedChange, begin int) error {
	end, total := begin, int64(0) // about how much the records need
	for ; end < len(changes) && total < r.budget; end++ {
		total += recordSize
		if p, alone := r.v.alone(changes[end]); !alone && !r.v.deletes(changes[end]) {
			total += int64(p.ref.size / p.ref.ops)
		}
	}
	order := make([]uint64, end-begin) // nth<<32 | index in changes
	for i := range order {
		order[i] = uint64(changes[begin+i].nth)<<32 | uint64(begin+i)
	}
	slices.Sort(order)
	r.begin, r.end = begin, end
	r.records = make([]store.Record, end-begin)
	chunks := chunkReader{again: true}
	slab := []byte{}
	for n, o := range order {
		if n%batch == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		i := uint32(o)
		p, alone := r.v.alone(changes[i])
		if alone || r.v.deletes(changes[i]) {
			continue
		}
		rec, err := r.read(c, &chunks, p)
		if err != nil {
			return err
		}
		if rec.Key == nil {
			continue
		}
		size := len(rec.Key) + len(rec.Meta) + len(rec.Value)
		if cap(slab)-len(slab) < size {
			slab = make([]byte, 0, max(size, int(min(total, writeSize))))
		}
		at := len(slab)
		slab = append(append(append(slab, rec.Key...), rec.Meta...), rec.Value...)
		k, m := at+len(rec.Key), at+len(rec.Key)+len(rec.Meta)
		r.records[i-uint32(begin)] = store.Record{Key: slab[at:k:k], Meta: slab[k:m:m], Value: slab[m:]}
	}
	return nil
}
