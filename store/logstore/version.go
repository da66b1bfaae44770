package logstore

import (
	"slices"

	"github.com/cacheman-go/cacheman/store"
)

// version is the state of one cache after some batch. It is never changed once
// it is in Store.caches; a batch makes a copy and puts it in its place.
type version struct {
	id      uint64 // of its snapshots; 0 until there is one
	known   bool
	desc    []byte
	snap    *snapshot // nil if there is none, or what is in it was cleared
	layers  []layer   // what changed since snap, oldest first; only the last grows
	records int       // -1 if not known
	bytes   int64     // of the records in layers, deleted and replaced ones too
}

// layer is a table as it was when it had n entries.
type layer struct {
	t *table
	n uint32
}

// clone returns a copy whose last layer takes new entries.
func (v *version) clone() *version {
	c := *v
	c.layers = slices.Clone(v.layers)
	if len(c.layers) == 0 {
		c.layers = []layer{{t: new(table)}}
	}
	return &c
}

func (v *version) clear() {
	v.snap, v.layers, v.records, v.bytes = nil, []layer{{t: new(table)}}, 0, 0
}

func (v *version) top() *layer { return &v.layers[len(v.layers)-1] }

// overlaid returns the number of entries in all layers.
func (v *version) overlaid() (n int) {
	for _, l := range v.layers {
		n += int(l.n)
	}
	return n
}

// find returns the entry of key in the newest of the layers that has one, from
// layer number from on; none if there is none. Store.mu is held.
func (v *version) find(key []byte, hash uint32, from int) (*table, uint32) {
	for i := len(v.layers) - 1; i >= from; i-- {
		if e := v.layers[i].t.find(key, hash, v.layers[i].n); e != none {
			return v.layers[i].t, e
		}
	}
	return nil, none
}

// live reports whether entry i of layer k is the last word on its key, and not
// that it is gone. Store.mu is held.
func (v *version) live(k int, i uint32) bool {
	l := v.layers[k]
	return !l.t.at(i).dead() && v.current(k, i)
}

// current reports whether entry i of layer k is the last word on its key.
func (v *version) current(k int, i uint32) bool {
	l := v.layers[k]
	if !l.t.newestOf(i, l.n) {
		return false
	}
	if v.emptyAfter(k) {
		return true
	}
	key := l.t.key(i)
	_, later := v.find(key, hashOf(key), k+1)
	return later == none
}

func (v *version) emptyAfter(k int) bool {
	for _, l := range v.layers[k+1:] {
		if l.n > 0 {
			return false
		}
	}
	return true
}

// stage collects the effect of one frame. Its entries go into the tables that
// readers use, beyond the lengths that they know; publish lets them know.
type stage struct {
	s        *Store
	of       map[string]*version
	name     string // the cache of the last op
	v        *version
	next     piece
	previous piece             // what enter works on, until settle has returned
	entering chan struct{}     // closed by enter; nil if it is not at work
	grown    map[*table]uint32 // how long tables were before this frame
	hashes   []uint32          // of a chunk
}

// piece is what some chunks in a row change in the tables.
type piece struct {
	changes []change
	runs    []run
	chunks  []sealed
	counted int // of the runs, those of chunks
}

// change is an op that puts or deletes a record.
type change struct {
	at, size    uint32 // of the op in the payload; at with dead if it deletes
	key, keyLen uint32 // of the key in the payload
}

// run is a number of changes in a row to the same table.
type run struct {
	v *version
	t *table // of v, when the ops came; another one since if v was cleared
	n int
}

// sealed is a chunk that is known in full.
type sealed struct {
	ref     chunkRef
	payload []byte
	runs    int
}

// cache makes name the cache of the next ops.
func (st *stage) cache(name string) {
	if st.v != nil && st.name == name {
		return
	}
	st.name, st.v = name, st.of[name]
	if st.v != nil {
		return
	}
	if v := st.s.caches[name]; v != nil {
		st.v = v.clone()
	} else {
		st.v = (&version{}).clone()
	}
	if st.of == nil {
		st.of = map[string]*version{}
	}
	st.of[name] = st.v
}

// matters reports whether an op of this kind does anything.
func (st *stage) matters(kind store.Kind) bool {
	return st.v.known || kind == store.Put || kind == store.Describe
}

// do carries out an op that lies at payload[at:end], with its key at key.
func (st *stage) do(kind store.Kind, at, end, key, keyLen int, desc []byte) {
	v := st.v
	if !st.matters(kind) {
		return
	}
	v.known = true
	switch kind {
	case store.Put, store.Delete:
		c := change{uint32(at), uint32(end - at), uint32(key), uint32(keyLen)}
		if kind == store.Delete {
			c.at |= dead
		}
		p := &st.next
		p.changes = append(p.changes, c)
		t := v.top().t
		if n := len(p.runs); n == p.counted || p.runs[n-1].t != t {
			p.runs = append(p.runs, run{v: v, t: t})
		}
		p.runs[len(p.runs)-1].n++
	case store.Clear:
		st.settle()
		v.clear()
	case store.Describe:
		v.desc = append(make([]byte, 0, len(desc)), desc...)
	case store.Drop:
		st.settle()
		v.clear()
		v.known, v.desc, v.id = false, nil, 0
	}
}

// chunk ends the chunk that the last ops are in. The payload must not change before
// settle has returned after the next enter.
func (st *stage) chunk(ref chunkRef, payload []byte) {
	p := &st.next
	p.chunks = append(p.chunks, sealed{ref, payload, len(p.runs) - p.counted})
	p.counted = len(p.runs)
}

// enter begins to put the changes of all chunks that have ended into the tables, while
// the next are made: in a large table each is some cache misses.
func (st *stage) enter() {
	st.settle()
	st.next, st.previous = st.previous, st.next
	done := make(chan struct{})
	st.entering = done
	go func() {
		defer close(done)
		st.previous.enter(st)
	}()
}

// settle waits until what enter began is done.
func (st *stage) settle() {
	if st.entering != nil {
		<-st.entering
		st.entering = nil
	}
}

// enter puts the changes into the tables, and forgets them.
func (p *piece) enter(st *stage) {
	changes, runs := p.changes, p.runs
	for _, c := range p.chunks {
		of := runs[:c.runs]
		for _, r := range of {
			c.ref.ops += uint32(r.n)
		}
		st.hashes = st.hashes[:0]
		for _, x := range changes[:c.ref.ops] {
			st.hashes = append(st.hashes, hashOf(c.payload[x.key:x.key+x.keyLen]))
		}
		st.change(c, of, changes)
		runs, changes = runs[c.runs:], changes[c.ref.ops:]
	}
	clear(p.chunks) // the payloads
	*p = piece{changes: p.changes[:0], runs: p.runs[:0], chunks: p.chunks[:0]}
}

// change puts the changes of one chunk into the tables.
func (st *stage) change(c sealed, runs []run, changes []change) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	hashes := st.hashes
	for _, r := range runs {
		if r.v.top().t == r.t { // otherwise it was cleared later
			st.grow(r.t, c.ref)
			r.t.touch(hashes[:r.n])
			for i, x := range changes[:r.n] {
				r.v.change(x, c.payload[x.key:x.key+x.keyLen], hashes[i])
			}
		}
		changes, hashes = changes[r.n:], hashes[r.n:]
	}
}

// grow notes that t gets entries of the chunk ref.
func (st *stage) grow(t *table, ref chunkRef) {
	if st.grown == nil {
		st.grown = map[*table]uint32{}
	}
	if _, ok := st.grown[t]; !ok {
		st.grown[t] = t.n
	}
	if n := len(t.chunks); n == 0 || t.chunks[n-1].chunkRef != ref {
		t.chunks = append(t.chunks, span{ref, t.n})
	}
}

// change adds a change to the last layer, and counts. Store.mu is held.
func (v *version) change(c change, key []byte, hash uint32) {
	top := v.top()
	t, old := top.t, top.t.add(key, hash, c.at)
	top.n = t.n
	v.bytes += int64(c.size)
	if v.records < 0 {
		return
	}
	if old == none && len(v.layers) > 1 {
		below := version{layers: v.layers[:len(v.layers)-1]}
		t, old = below.find(key, hash, 0)
	}
	if old == none && v.snap != nil {
		v.records = -1 // only a read could tell whether it is in there
		return
	}
	if old != none && !t.at(old).dead() {
		v.records--
	}
	if c.at&dead == 0 {
		v.records++
	}
}

// publish shows the effect of the frame to readers.
func (st *stage) publish() {
	st.enterLast()
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	for name, v := range st.of {
		if v.known {
			st.s.caches[name] = v
		} else {
			delete(st.s.caches, name)
		}
	}
}

// enterLast puts the changes of all chunks that have ended into the tables.
func (st *stage) enterLast() {
	st.settle()
	st.next.enter(st)
}

// undo leaves no trace of the frame.
func (st *stage) undo() {
	st.settle()
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	for t, n := range st.grown {
		t.truncate(n)
	}
}

// makeSense reports whether replay would report true.
func makeSense(payload []byte) bool {
	named := false
	for d := (decoder{b: payload}); len(d.b) > 0; {
		o := d.op()
		if d.bad || !named && o.kind != opCache {
			return false
		}
		named = true
	}
	return true
}

// replay carries out the ops of a chunk that was read from a journal. It
// reports whether they made sense.
func (st *stage) replay(ref chunkRef, payload []byte) bool {
	d := decoder{b: payload}
	st.v = nil
	for len(d.b) > 0 {
		at := len(payload) - len(d.b)
		o := d.op()
		if d.bad || st.v == nil && o.kind != opCache {
			return false
		}
		if o.kind == opCache {
			if v := st.of[string(o.key)]; v != nil { // of many short frames most are of the same few
				st.name, st.v = "", v
			} else {
				st.cache(string(o.key))
			}
			continue
		}
		end := len(payload) - len(d.b)
		key := end - len(o.value) - len(o.meta) - len(o.key)
		st.do(o.kind, at, end, key, len(o.key), o.value)
	}
	st.chunk(ref, payload)
	st.enterLast()
	return true
}
