package logstore

import (
	"encoding/binary"
	"hash/maphash"
	"sort"
)

// table is what a run of frames says about the keys of one cache: for each
// change of a key, where its record is in a journal. It only grows, until it is
// thrown away as a whole. A reader that knows how long it was at some instant
// sees it as it was then: entries from that length on are not there for it.
//
// There are no pointers in what there is much of, so that the garbage collector
// need not look at it; and what is there stays where it is while a table grows, for
// what it leaves behind would count as much while everything is saved.
//
// All of it is guarded by Store.mu.
type table struct {
	n      uint32     // the number of entries
	used   int        // the number of keys
	pages  [][]entry  // in the order of the frames, so in the order of the files
	older  [][]uint32 // the previous entry of the same key, plus one; shorter than pages where there is none
	keys   [][]byte   // slabs with the keys of the entries
	chunks []span

	// segments leads from a hash to its segment, by as many of its first bits as are
	// needed to number these (extendible hashing: Fagin, Nievergelt, Pippenger and
	// Strong, ACM Transactions on Database Systems 4, 1979). A segment whose hashes
	// begin with fewer equal bits is there several times, in a row.
	segments []*segment
	bits     uint8  // there are 1<<bits
	spare    []slot // segmentSize, for the next segment that is divided; nil before the first

	touched uint32 // means nothing; see touch
}

// entry is one change of one key: 12 bytes, and 11 to 22 in a segment.
type entry struct {
	slab uint32 // in table.keys, <<8, and the length of the key; long if that is before it
	key  uint32 // where that starts in the slab; with later if there is another of this key
	off  uint32 // of the record in the chunk's payload; with dead if it deletes
}

// span is a chunk with the entries from first on, up to the next one's.
type span struct {
	chunkRef
	first uint32
}

const (
	dead  = 1 << 31 // fits: a payload is shorter than 1<<31
	later = 1 << 31
	none  = 1<<32 - 1

	pageSize = 2048     // entries
	slabSize = 64 << 10 // bytes; a longer key has a slab of its own
	long     = 1<<8 - 1
)

func (e *entry) dead() bool { return e.off&dead != 0 }

func (t *table) at(i uint32) *entry { return &t.pages[i/pageSize][i%pageSize] }

// key returns the key of entry i.
func (t *table) key(i uint32) []byte {
	e := t.at(i)
	b := t.keys[e.slab>>8][e.key&^later:]
	n := int(e.slab & long)
	if n == long {
		d := decoder{b: b}
		return d.bytes(d.uvarint())
	}
	return b[:n:n]
}

// place returns where the record of entry i is.
func (t *table) place(i uint32) place {
	k := sort.Search(len(t.chunks), func(k int) bool { return t.chunks[k].first > i }) - 1
	return place{t.chunks[k].chunkRef, t.at(i).off &^ dead}
}

// before returns the entry of the same key before entry i, or none.
func (t *table) before(i uint32) uint32 {
	page, at := int(i/pageSize), int(i%pageSize)
	if page >= len(t.older) || at >= len(t.older[page]) {
		return none
	}
	return t.older[page][at] - 1
}

// setBefore says that of the last entry.
func (t *table) setBefore(i, before uint32) {
	page, at := int(i/pageSize), int(i%pageSize)
	if missing := page + 1 - len(t.older); missing > 0 {
		t.older = append(t.older, make([][]uint32, missing)...)
	}
	if missing := at + 1 - len(t.older[page]); missing > 0 {
		t.older[page] = append(t.older[page], make([]uint32, missing)...)
	}
	t.older[page][at] = before + 1
}

// chunkRef is where a chunk of a journal is.
type chunkRef struct {
	j    *journal
	off  int64
	size uint32 // with the header
	ops  uint32
	salt uint32
}

var hashSeed = maphash.MakeSeed()

func hashOf(key []byte) uint32 { return uint32(maphash.Bytes(hashSeed, key)) }

// segment is the slots of keys whose hashes begin with the same bits.
type segment struct {
	slots []slot // open addressing with linear probing; a power of two
	used  int    // of them, which is the number of keys
	bits  uint8  // how many these are
}

// slot leads from a hash to the newest entry of a key.
type slot struct {
	hash  uint32
	entry uint32 // plus one; 0 if the slot is empty
}

const (
	segmentSize = 4096 // slots, from which on a segment is divided instead of made larger
	mostBits    = 20   // unless that many do not tell its hashes apart
)

// segment returns that of a hash.
func (t *table) segment(hash uint32) *segment { return t.segments[hash>>(32-t.bits)] }

// newest returns the segment and the slot of key and its newest entry, or none and
// the slot where it would go.
func (t *table) newest(key []byte, hash uint32) (s *segment, at, e uint32) {
	s = t.segment(hash)
	mask := uint32(len(s.slots) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		x := &s.slots[at]
		if x.entry == 0 {
			return s, at, none
		}
		if x.hash == hash && string(t.key(x.entry-1)) == string(key) {
			return s, at, x.entry - 1
		}
	}
}

// find returns the newest entry of key among the first n, or none.
func (t *table) find(key []byte, hash, n uint32) uint32 {
	if n == 0 {
		return none
	}
	_, _, e := t.newest(key, hash)
	for e != none && e >= n {
		e = t.before(e)
	}
	return e
}

// newestOf reports whether entry i was the newest of its key when the table
// had n entries.
func (t *table) newestOf(i, n uint32) bool {
	if t.at(i).key&later == 0 {
		return true
	}
	if n == t.n {
		return false
	}
	key := t.key(i)
	return t.find(key, hashOf(key), n) == i
}

// add appends an entry for key in the last chunk. It returns the entry of the
// same key before it, or none.
func (t *table) add(key []byte, hash, off uint32) (before uint32) {
	if t.n == 0 {
		t.segments, t.bits = []*segment{{slots: make([]slot, 16)}}, 0
	}
	for s := t.segment(hash); 4*(s.used+1) > 3*len(s.slots); s = t.segment(hash) {
		t.grow(s, hash)
	}
	e := entry{off: off}
	s, at, before := t.newest(key, hash)
	if before == none {
		s.slots[at].hash = hash
		s.used++
		t.used++
		e.slab, e.key = t.addKey(key)
	} else {
		old := t.at(before)
		e.slab, e.key = old.slab, old.key
		old.key |= later
		t.setBefore(t.n, before)
	}
	s.slots[at].entry = t.n + 1
	last := t.n / pageSize
	if t.n%pageSize == 0 {
		// The first page starts small: most caches have few changes.
		size := 8
		if last > 0 {
			size = pageSize
		}
		t.pages = append(t.pages, make([]entry, 0, size))
	}
	t.pages[last] = append(t.pages[last], e)
	t.n++
	return before
}

// touch brings the slots of some hashes nearer. In a large table each is a cache
// miss; here the processor can wait for many of them at a time, which halves
// the time that add takes.
func (t *table) touch(hashes []uint32) {
	if t.n == 0 {
		return
	}
	var sum uint32
	for _, h := range hashes {
		s := t.segment(h)
		sum += s.slots[h&uint32(len(s.slots)-1)].entry
	}
	t.touched = sum // so that the loop is not optimized away
}

// addKey returns where it has put a key, as in an entry.
func (t *table) addKey(key []byte) (slab, at uint32) {
	last := len(t.keys) - 1
	if size := binary.MaxVarintLen32 + len(key); last < 0 || cap(t.keys[last])-len(t.keys[last]) < size {
		next := 128
		if last >= 0 {
			next = min(slabSize, 4*cap(t.keys[last]))
		}
		t.keys = append(t.keys, make([]byte, 0, max(next, size)))
		last++
	}
	at = uint32(len(t.keys[last]))
	if len(key) < long {
		t.keys[last] = append(t.keys[last], key...)
	} else {
		t.keys[last] = appendBytes(t.keys[last], key)
	}
	return uint32(last)<<8 | uint32(min(len(key), long)), at
}

// grow makes room in the segment of a hash, if not for this one then for others.
func (t *table) grow(s *segment, hash uint32) {
	if old := s.slots; len(old) < segmentSize || s.bits == mostBits {
		s.slots, s.used = make([]slot, 2*len(old)), 0
		for _, x := range old {
			s.add(x)
		}
		return
	}
	if s.bits == t.bits {
		twice := make([]*segment, 0, 2*len(t.segments))
		for _, s := range t.segments {
			twice = append(twice, s, s)
		}
		t.segments = twice
		t.bits++
	}
	// Those with the next bit set go to a segment of their own.
	s.bits++
	other := &segment{slots: make([]slot, segmentSize), bits: s.bits}
	if t.spare == nil {
		t.spare = make([]slot, segmentSize)
	}
	old := s.slots
	s.slots, s.used = t.spare, 0
	bit := uint32(1) << (32 - s.bits)
	for _, x := range old {
		if x.hash&bit != 0 {
			other.add(x)
		} else {
			s.add(x)
		}
	}
	clear(old)
	t.spare = old
	first := (hash | bit) >> (32 - s.bits) << (t.bits - s.bits)
	for i := range uint32(1) << (t.bits - s.bits) {
		t.segments[first+i] = other
	}
}

// add copies a slot of another array, unless it is empty.
func (s *segment) add(x slot) {
	if x.entry == 0 {
		return
	}
	mask := uint32(len(s.slots) - 1)
	at := x.hash & mask
	for s.slots[at].entry != 0 {
		at = (at + 1) & mask
	}
	s.slots[at] = x
	s.used++
}

// truncate takes the newest entries back until n are left.
func (t *table) truncate(n uint32) {
	for t.n > n {
		i := t.n - 1
		key := t.key(i)
		s, at, _ := t.newest(key, hashOf(key))
		if before := t.before(i); before == none {
			s.empty(at)
			t.used--
			e := t.at(i)
			t.keys = t.keys[:e.slab>>8+1]
			t.keys[e.slab>>8] = t.keys[e.slab>>8][:e.key]
		} else {
			t.at(before).key &^= later
			t.setBefore(i, none)
			s.slots[at].entry = before + 1
		}
		t.n--
		if last := t.n / pageSize; t.n%pageSize == 0 {
			t.pages = t.pages[:last]
		} else {
			t.pages[last] = t.pages[last][:t.n%pageSize]
		}
	}
	for len(t.chunks) > 0 && t.chunks[len(t.chunks)-1].first >= n {
		t.chunks = t.chunks[:len(t.chunks)-1]
	}
}

// empty empties a slot and moves those behind it up, so that probing finds
// them.
func (s *segment) empty(at uint32) {
	s.used--
	mask := uint32(len(s.slots) - 1)
	for next := (at + 1) & mask; s.slots[next].entry != 0; next = (next + 1) & mask {
		home := s.slots[next].hash & mask
		if (next-home)&mask >= (next-at)&mask {
			s.slots[at] = s.slots[next]
			at = next
		}
	}
	s.slots[at] = slot{}
}
