package logstore

import "hash/maphash"

// table is what a run of frames says about the keys of one cache: for each
// change of a key, where its record is in a journal. It only grows, until it is
// thrown away as a whole. A reader that knows how long it was at some instant
// sees it as it was then: entries from that length on are not there for it.
//
// There are no pointers in what there is much of, so that the garbage collector
// need not look at it.
//
// All of it is guarded by Store.mu.
type table struct {
	n      uint32    // the number of entries
	pages  [][]entry // in the order of the frames, so in the order of the files
	keys   [][]byte  // slabs with the keys of the entries
	chunks []chunkRef
	slots  []slot // open addressing with linear probing; a power of two
	used   int    // slots that are not empty, which is the number of keys

	touched uint32 // means nothing; see touch
}

// entry is one change of one key: 32 bytes, and 8 to 22 in slots.
type entry struct {
	slab   uint32 // in table.keys
	key    uint32 // where the key starts in the slab
	keyLen uint32
	chunk  uint32 // in table.chunks
	off    uint32 // of the record in the chunk's payload; with dead if it deletes
	older  uint32 // the previous entry of this key, or none
	newer  uint32 // the next entry of this key, or none
	hash   uint32
}

const (
	dead = 1 << 31 // fits: a payload is shorter than 1<<31
	none = 1<<32 - 1

	pageSize = 2048     // entries
	slabSize = 64 << 10 // bytes; a longer key has a slab of its own
)

func (e *entry) dead() bool     { return e.off&dead != 0 }
func (e *entry) offset() uint32 { return e.off &^ dead }

func (t *table) at(i uint32) *entry { return &t.pages[i/pageSize][i%pageSize] }

func (t *table) keyOf(e *entry) []byte {
	return t.keys[e.slab][e.key : e.key+e.keyLen : e.key+e.keyLen]
}

// slot leads from a hash to the newest entry of a key.
type slot struct {
	hash  uint32
	entry uint32 // plus one; 0 if the slot is empty
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

// newest returns the slot of key and its newest entry, or none and the slot
// where it would go.
func (t *table) newest(key []byte, hash uint32) (at, e uint32) {
	mask := uint32(len(t.slots) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		s := &t.slots[at]
		if s.entry == 0 {
			return at, none
		}
		if s.hash == hash && string(t.keyOf(t.at(s.entry-1))) == string(key) {
			return at, s.entry - 1
		}
	}
}

// find returns the newest entry of key among the first n, or nil.
func (t *table) find(key []byte, hash, n uint32) *entry {
	if n == 0 {
		return nil
	}
	_, e := t.newest(key, hash)
	for e != none && e >= n {
		e = t.at(e).older
	}
	if e == none {
		return nil
	}
	return t.at(e)
}

// newestOf reports whether entry i was the newest of its key when the table
// had n entries.
func (t *table) newestOf(i, n uint32) bool { return t.at(i).newer >= n }

// add appends an entry for key in the last chunk. It returns the entry of the
// same key before it, or nil.
func (t *table) add(key []byte, hash, off uint32) *entry {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.grow()
	}
	e := entry{chunk: uint32(len(t.chunks) - 1), off: off, older: none, newer: none, hash: hash}
	at, before := t.newest(key, hash)
	var old *entry
	if before == none {
		t.slots[at].hash = hash
		t.used++
		e.slab, e.key, e.keyLen = t.addKey(key)
	} else {
		old = t.at(before)
		old.newer = t.n
		e.older, e.slab, e.key, e.keyLen = before, old.slab, old.key, old.keyLen
	}
	t.slots[at].entry = t.n + 1
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
	return old
}

// touch brings the slots of some hashes nearer. In a large table each is a cache
// miss; here the processor can wait for many of them at a time, which halves
// the time that add takes.
func (t *table) touch(hashes []uint32) {
	mask := uint32(len(t.slots) - 1)
	if len(t.slots) == 0 {
		return
	}
	var sum uint32
	for _, h := range hashes {
		sum += t.slots[h&mask].entry
	}
	t.touched = sum // so that the loop is not optimized away
}

func (t *table) addKey(key []byte) (slab, at, n uint32) {
	last := len(t.keys) - 1
	if last < 0 || cap(t.keys[last])-len(t.keys[last]) < len(key) {
		size := slabSize
		if last < 0 {
			size = 128
		} else {
			size = min(size, 4*cap(t.keys[last]))
		}
		t.keys = append(t.keys, make([]byte, 0, max(size, len(key))))
		last++
	}
	at = uint32(len(t.keys[last]))
	t.keys[last] = append(t.keys[last], key...)
	return uint32(last), at, uint32(len(key))
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, max(16, 2*len(old)))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s.entry == 0 {
			continue
		}
		at := s.hash & mask
		for t.slots[at].entry != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = s
	}
}

// truncate takes the newest entries back until n are left.
func (t *table) truncate(n uint32) {
	for t.n > n {
		e := t.at(t.n - 1)
		at, _ := t.newest(t.keyOf(e), e.hash)
		if e.older == none {
			t.empty(at)
			t.keys = t.keys[:e.slab+1]
			t.keys[e.slab] = t.keys[e.slab][:e.key]
		} else {
			t.at(e.older).newer = none
			t.slots[at].entry = e.older + 1
		}
		t.n--
		if last := t.n / pageSize; t.n%pageSize == 0 {
			t.pages = t.pages[:last]
		} else {
			t.pages[last] = t.pages[last][:t.n%pageSize]
		}
	}
	for len(t.chunks) > 0 && (n == 0 || t.at(n-1).chunk < uint32(len(t.chunks)-1)) {
		t.chunks = t.chunks[:len(t.chunks)-1]
	}
}

// empty empties a slot and moves those behind it up, so that probing finds
// them.
func (t *table) empty(at uint32) {
	t.used--
	mask := uint32(len(t.slots) - 1)
	for next := (at + 1) & mask; t.slots[next].entry != 0; next = (next + 1) & mask {
		home := t.slots[next].hash & mask
		if (next-home)&mask >= (next-at)&mask {
			t.slots[at] = t.slots[next]
			at = next
		}
	}
	t.slots[at] = slot{}
}
