package logstore

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

const (
	snapshotMagic  = "CMANSNAP"
	snapshotHeader = 64

	blockMagic  = 0x4b434c42 // "BLCK"
	packedMagic = 0x5a434c42 // "BLCZ", a compressed block
	blockHeader = 32
	blockTarget = 32 << 10 // a block has less payload than this, or one record
)

// snapshot is a file with all records of one cache, sorted by key. It never
// changes. It is opened at the first read.
type snapshot struct {
	*file
	cache   string
	id      uint64 // of the cache
	gen     uint64
	tag     uint64 // a random number that is in every part of the file
	size    int64
	records int

	indexMu sync.Mutex
	index   *index // nil until read

	// What single records were read from last, by the number of the block in its part of
	// the index, modulo how many these are: who reads one often reads its neighbours.
	recent [16]atomic.Pointer[unpacked]
}

// unpacked is the payload of the block at off, which is never changed.
type unpacked struct {
	off     int64
	payload []byte
}

// huge reports that u is better not kept: mostly it is one record.
func (u *unpacked) huge() bool { return len(u.payload) > 2*blockTarget }

func openSnapshot(dir vfs.FS, c *manifestCache) *snapshot {
	return &snapshot{
		file:  newFile(dir, snapshotName(c.id, c.gen), nil),
		cache: c.name, id: c.id, gen: c.gen, tag: c.tag, size: c.size, records: int(c.records),
	}
}

func (x *snapshot) damage(off int64, what string) error {
	return &damage{cache: x.cache, file: x.name, offset: off, what: what}
}

// fetch reads a part of the file.
func (x *snapshot) fetch(off int64, buf []byte) error {
	f, err := x.open()
	if errors.Is(err, fs.ErrNotExist) {
		return x.damage(off, "file is missing")
	} else if err != nil {
		return err
	}
	if err := readFull(f, buf, off); err == errShort {
		return x.damage(off, errShort.Error())
	} else if err != nil {
		return err
	}
	return nil
}

// part checks a part of the file that lies at off, and returns it without its
// header.
func (x *snapshot) part(magic uint32, off int64, buf []byte) ([]byte, error) {
	if le.Uint32(buf) != magic || le.Uint32(buf[4:]) != checksum(buf[8:]) ||
		le.Uint64(buf[16:]) != x.tag || le.Uint64(buf[24:]) != uint64(off) ||
		uint64(le.Uint32(buf[8:]))+blockHeader != uint64(len(buf)) {
		return nil, x.damage(off, "wrong checksum")
	}
	return buf[blockHeader:], nil
}

// unpack returns the records of the block at off, which was read into buf, in
// the form in which they follow each other in it. They are a part of buf, or
// of into if the block is compressed and they fit, or of a new array.
func (x *snapshot) unpack(off int64, buf, into []byte) ([]byte, error) {
	if le.Uint32(buf) != packedMagic {
		return x.part(blockMagic, off, buf)
	}
	p, err := x.part(packedMagic, off, buf)
	if err != nil {
		return nil, err
	}
	if p, err = unpack(p, into); err != nil {
		return nil, x.damage(off, err.Error())
	}
	return p, nil
}

// putBlockHeader fills in the first 32 bytes of b: of a block, the index or the
// footer.
func putBlockHeader(b []byte, magic uint32, count uint32, tag uint64, off int64) {
	le.PutUint32(b, magic)
	le.PutUint32(b[8:], uint32(len(b)-blockHeader))
	le.PutUint32(b[12:], count)
	le.PutUint64(b[16:], tag)
	le.PutUint64(b[24:], uint64(off))
	le.PutUint32(b[4:], checksum(b[8:]))
}

// payload reads the records of a block, as they follow each other in it.
func (x *snapshot) payload(b block) ([]byte, error) {
	if b.lost != nil {
		return nil, b.lost
	}
	buf := getBuffer(int(b.size))
	defer putBuffer(buf)
	if err := x.fetch(b.off, *buf); err != nil {
		return nil, err
	}
	p, err := x.unpack(b.off, *buf, nil)
	if err == nil && le.Uint32(*buf) != packedMagic {
		p = bytes.Clone(p)
	}
	return p, err
}

// stored reads a block as it is into buf, or a new array, and checks it.
func (x *snapshot) stored(b block, buf []byte) ([]byte, error) {
	if b.lost != nil {
		return buf[:0], b.lost
	}
	buf = slices.Grow(buf[:0], int(b.size))[:b.size]
	err := x.fetch(b.off, buf)
	if err == nil {
		magic := uint32(blockMagic)
		if le.Uint32(buf) == packedMagic {
			magic = packedMagic
		}
		_, err = x.part(magic, b.off, buf)
	}
	return buf, err
}

// load reads the records of a block into recs, with slices that are parts of
// one new array.
func (x *snapshot) load(b block, recs []store.Record) ([]store.Record, error) {
	p, err := x.payload(b)
	if err != nil {
		return nil, err
	}
	return x.parseRecords(b, p, recs)
}

// parseStored is load for a block that was read as it is stored. What recs holds may be a part of that.
func (x *snapshot) parseStored(b block, stored []byte, recs []store.Record) ([]store.Record, error) {
	p, err := x.unpack(b.off, stored, nil)
	if err != nil {
		return nil, err
	}
	return x.parseRecords(b, p, recs)
}

func (x *snapshot) parseRecords(b block, p []byte, recs []store.Record) (_ []store.Record, err error) {
	// The count is from the index; a record has three bytes at least.
	recs = slices.Grow(recs[:0], min(b.count, len(p)/3))
	if recs, err = parseBlock(p, recs); err != nil {
		return nil, x.damage(b.off, err.Error())
	}
	return recs, nil
}

func parseBlock(p []byte, recs []store.Record) ([]store.Record, error) {
	d := decoder{b: p}
	for len(d.b) > 0 {
		key, meta, value := d.record()
		if d.bad {
			return nil, errors.New("record makes no sense")
		}
		recs = append(recs, store.Record{Key: key, Value: value, Meta: meta})
	}
	return recs, nil
}

// get returns the record of key.
func (x *snapshot) get(key []byte) (store.Record, error) {
	b, i, err := x.search(key)
	if err != nil {
		return store.Record{}, err
	}
	if i < 0 {
		return store.Record{}, store.ErrNotFound
	}
	u := x.recent[i%len(x.recent)].Load()
	if u == nil || u.off != b.off {
		p, err := x.payload(b)
		if err != nil {
			return store.Record{}, err
		}
		u = &unpacked{b.off, p}
		if !u.huge() {
			x.recent[i%len(x.recent)].Store(u)
		}
	}
	d := decoder{b: u.payload}
	for len(d.b) > 0 {
		k, meta, value := d.record()
		if d.bad {
			return store.Record{}, x.damage(b.off, "record makes no sense")
		}
		if string(k) == string(key) {
			if u.huge() && len(value) > len(u.payload)/2 { // and nobody else has it
				return store.Record{Key: k, Meta: meta, Value: value}, nil
			}
			return copyRecord(k, meta, value), nil
		}
	}
	return store.Record{}, store.ErrNotFound
}

// copyRecord puts a record into an array of its own.
func copyRecord(key, meta, value []byte) store.Record {
	all := slices.Concat(key, meta, value)
	k, m := len(key), len(key)+len(meta)
	return store.Record{Key: all[:k:k], Meta: all[k:m:m], Value: all[m:]}
}

// buffers are for what is read and not given away.
var buffers sync.Pool

func getBuffer(n int) *[]byte {
	b, _ := buffers.Get().(*[]byte)
	if b == nil || cap(*b) < n {
		p := make([]byte, n, max(n, 2*chunkTarget))
		b = &p
	}
	*b = (*b)[:n]
	return b
}

// keptBuffer is the size up to which buffers are used again.
const keptBuffer = 1 << 20

func putBuffer(b *[]byte) {
	if cap(*b) <= keptBuffer {
		buffers.Put(b)
	}
}
