package logstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cacheman-go/cacheman/store"
)

// Get implements store.Getter. It reads one block of the snapshot, or one chunk
// of the journal.
func (s *Store) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	if err := s.check(ctx); err != nil {
		return store.Record{}, err
	}
	r, err := s.get(cache, key)
	if err == nil || err == store.ErrNotFound {
		return r, err
	}
	if err := s.check(ctx); err != nil { // Close lets go of the directory meanwhile
		return store.Record{}, err
	}
	return store.Record{}, fmt.Errorf("logstore: %w", err)
}

func (s *Store) get(cache string, key []byte) (store.Record, error) {
	hash := hashOf(key)
	s.mu.RLock()
	if s.closed.Load() {
		s.mu.RUnlock()
		return store.Record{}, store.ErrClosed
	}
	v := s.caches[cache]
	if v == nil {
		s.mu.RUnlock()
		return store.Record{}, store.ErrNotFound
	}
	t, e := v.find(key, hash, 0)
	switch {
	case e != none && t.at(e).dead(), e == none && v.snap == nil:
		s.mu.RUnlock()
		return store.Record{}, store.ErrNotFound
	case e != none:
		p := t.place(e)
		p.ref.j.pin()
		s.mu.RUnlock()
		defer p.ref.j.unpin()
		return p.ref.get(cache, p.off)
	default:
		snap := v.snap
		snap.pin()
		s.mu.RUnlock()
		defer snap.unpin()
		return snap.get(key)
	}
}

// get reads one record of a chunk.
func (r chunkRef) get(cache string, off uint32) (store.Record, error) {
	buf := getBuffer(int(r.size))
	defer putBuffer(buf)
	if err := readFull(r.j.f, *buf, r.off); err != nil {
		return store.Record{}, r.unreadable(err)
	}
	payload, err := r.parse(*buf)
	if err != nil {
		return store.Record{}, err
	}
	rec, ok := recordAt(payload, off)
	if !ok {
		return store.Record{}, &damage{cache, r.j.name, r.off, "record makes no sense"}
	}
	if len(rec.Value) > keptBuffer { // so that of the buffer is not used again
		return rec, nil
	}
	return copyRecord(rec.Key, rec.Meta, rec.Value), nil
}

// unreadable makes a cut file damage.
func (r chunkRef) unreadable(err error) error {
	if err == errShort {
		return &damage{file: r.j.name, offset: r.off, what: err.Error()}
	}
	return err
}

func recordAt(payload []byte, off uint32) (store.Record, bool) {
	if uint64(off) >= uint64(len(payload)) {
		return store.Record{}, false
	}
	d := decoder{b: payload[off:]}
	o := d.op()
	return store.Record{Key: o.key, Meta: o.meta, Value: o.value}, o.kind == store.Put && !d.bad
}

// Load implements store.Store. Blocks are read and unpacked by other goroutines
// while the caller looks at records. It keeps a few of them in memory, and the files
// that it reads from being removed.
func (s *Store) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := s.check(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		v, unpin, err := s.view(cache)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		defer unpin()
		l := loader{s: s, ctx: ctx, cache: cache, v: v, yield: yield}
		if !l.snapshot() {
			return
		}
		for k := range v.layers {
			if !l.layer(k) {
				return
			}
		}
	}
}

// view returns the present state of a cache, and keeps its files open until
// unpin is called.
func (s *Store) view(cache string) (v *version, unpin func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Load() {
		return nil, nil, store.ErrClosed
	}
	v = s.caches[cache]
	if v == nil {
		return nil, nil, store.ErrNotFound
	}
	var files []*file
	if v.snap != nil {
		files = append(files, v.snap.file)
	}
	if v.overlaid() > 0 {
		for _, j := range s.journals {
			files = append(files, j.file)
		}
	}
	for _, f := range files {
		f.pin()
	}
	return v, func() {
		for _, f := range files {
			f.unpin()
		}
	}, nil
}

// loader is one iteration over a cache. Its methods report whether to go on.
type loader struct {
	s     *Store
	ctx   context.Context
	cache string
	v     *version
	yield func(store.Record, error) bool
}

// fail yields an error. The iteration goes on after damage only.
func (l *loader) fail(err error) bool {
	if !l.check() {
		return false
	}
	ok := l.yield(store.Record{}, fmt.Errorf("logstore: %w", err))
	return ok && errors.Is(err, store.ErrCorrupt)
}

func (l *loader) check() bool {
	if err := l.s.check(l.ctx); err != nil {
		l.yield(store.Record{}, err)
		return false
	}
	return true
}

// snapshot yields what is in the snapshot and in none of the layers.
func (l *loader) snapshot() bool {
	if l.v.snap == nil {
		return true
	}
	index, err := l.v.snap.blocks()
	if err != nil {
		return l.fail(err)
	}
	for b := range l.v.snap.all(index, readers()) {
		if !l.check() {
			return false
		}
		if b.err != nil {
			if !l.fail(b.err) {
				return false
			}
			continue
		}
		for _, r := range l.s.uncovered(l.v, b.recs) {
			if !l.yield(r, nil) {
				return false
			}
		}
	}
	return true
}

// uncovered takes those records out of recs that are in one of v's layers.
func (s *Store) uncovered(v *version, recs []store.Record) []store.Record {
	if v.overlaid() == 0 {
		return recs
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	kept := recs[:0]
	for _, r := range recs {
		if _, e := v.find(r.Key, hashOf(r.Key), 0); e == none {
			kept = append(kept, r)
		}
	}
	return kept
}

// place is where the record of an entry is.
type place struct {
	ref chunkRef
	off uint32
}

// batch is how many entries are looked at under one lock.
const batch = 512

// layer yields the entries of layer k that are the last word on their key.
func (l *loader) layer(k int) bool {
	var places []place
	r := chunkReader{}
	for i := uint32(0); i < l.v.layers[k].n; {
		if !l.check() {
			return false
		}
		places, i = l.s.places(l.v, k, i, places[:0])
		for at, p := range places {
			payload, err := r.read(p.ref, places[at:])
			if err != nil {
				var d *damage
				if errors.As(err, &d) {
					d.cache = l.cache
				}
				if !l.fail(err) {
					return false
				}
				continue
			}
			if payload == nil {
				continue // damaged, and said so
			}
			rec, ok := recordAt(payload, p.off)
			if !ok {
				if !l.fail(&damage{l.cache, p.ref.j.name, p.ref.off, "record makes no sense"}) {
					return false
				}
				continue
			}
			if !l.yield(rec, nil) {
				return false
			}
		}
	}
	return true
}

// places appends the places of the live entries of layer k from entry i on, and
// returns the entry to go on with.
func (s *Store) places(v *version, k int, i uint32, places []place) ([]place, uint32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, end := v.layers[k].t, min(i+batch, v.layers[k].n)
	for ; i < end; i++ {
		if v.live(k, i) {
			places = append(places, t.place(i))
		}
	}
	return places, i
}

// chunkReader reads chunks that come in the order of the journal, several with
// one call if they lie close together. What it returned stays as it is, unless
// again is set.
type chunkReader struct {
	again bool // buf is used again
	buf   []byte
	j     *journal
	off   int64 // of buf in j
	last  chunkRef
	// payload is that of last; nil if it is damaged.
	payload []byte
}

// read returns the payload of the chunk ref, the first of those that are
// wanted. Of a damaged chunk it returns an error once, and nil from then on.
func (r *chunkReader) read(ref chunkRef, wanted []place) ([]byte, error) {
	if ref == r.last {
		return r.payload, nil
	}
	r.last, r.payload = ref, nil
	if r.j != ref.j || ref.off < r.off || ref.off+int64(ref.size) > r.off+int64(len(r.buf)) {
		end := ref.off + int64(ref.size)
		for _, p := range wanted {
			next := p.ref.off + int64(p.ref.size)
			if p.ref.j != ref.j || next > ref.off+4*chunkTarget {
				break
			}
			end = max(end, next)
		}
		var buf []byte
		if r.again {
			buf = r.buf[:0]
		}
		buf = slices.Grow(buf, int(end-ref.off))[:end-ref.off]
		r.j, r.off, r.buf = ref.j, ref.off, nil
		err := readFull(ref.j.f, buf, ref.off)
		if err == errShort { // perhaps only the others are cut off
			buf = buf[:ref.size]
			err = readFull(ref.j.f, buf, ref.off)
		}
		if err != nil {
			return nil, ref.unreadable(err)
		}
		r.buf = buf
	}
	at := ref.off - r.off
	payload, err := ref.parse(r.buf[at : at+int64(ref.size)])
	if err != nil {
		return nil, err
	}
	r.payload = payload
	return payload, nil
}
