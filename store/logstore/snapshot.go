package logstore

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

const (
	snapshotMagic  = "CMANSNAP"
	snapshotHeader = 64
	snapshotFooter = 48

	blockMagic  = 0x4b434c42 // "BLCK"
	packedMagic = 0x5a434c42 // "BLCZ", a compressed block
	indexMagic  = 0x58444e49 // "INDX"
	footerMagic = 0x544f4f46 // "FOOT"
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

	// What single records were read from last, by the number of the block modulo
	// how many these are: who reads one often reads its neighbours.
	recent [16]atomic.Pointer[unpacked]
}

// unpacked is the payload of a block, which is never changed.
type unpacked struct {
	number  int
	payload []byte
}

// block is where a block of records is.
type block struct {
	off   int64
	size  uint32 // with the header
	count uint32
	first []byte // the lowest key in it
}

// index is where the blocks of a snapshot are, as it stands in the file. Who wants
// one record looks at a few places of it: to make a block of every entry would take
// several times what reading one does.
type index struct {
	raw   []byte
	n     int    // blocks
	marks []mark // every markEvery-th of them
}

const markEvery = 16

// mark is where in index.raw the entry of a block is, and where the block.
type mark struct {
	at  int
	off int64
}

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

// read is fetch and part.
func (x *snapshot) read(magic uint32, off, size int64) ([]byte, error) {
	buf := make([]byte, size)
	if err := x.fetch(off, buf); err != nil {
		return nil, err
	}
	return x.part(magic, off, buf)
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

// find returns where the blocks are.
func (x *snapshot) find() (*index, error) {
	x.indexMu.Lock()
	defer x.indexMu.Unlock()
	if x.index != nil {
		return x.index, nil
	}
	if x.size < snapshotHeader+snapshotFooter {
		return nil, x.damage(0, "impossible size")
	}
	end := x.size - snapshotFooter
	footer, err := x.read(footerMagic, end, snapshotFooter)
	if err != nil {
		return nil, err
	}
	at := int64(le.Uint64(footer))
	if at < snapshotHeader || at > end-blockHeader {
		return nil, x.damage(end, "footer makes no sense")
	}
	b, err := x.read(indexMagic, at, end-at)
	if err != nil {
		return nil, err
	}
	if x.index, err = parseIndex(b, at); err != nil {
		return nil, x.damage(at, err.Error())
	}
	return x.index, nil
}

// blocks returns where all blocks are.
func (x *snapshot) blocks() ([]block, error) {
	index, err := x.find()
	if err != nil {
		return nil, err
	}
	return index.blocks(), nil
}

// parseIndex checks the payload of an index that lies at offset end.
func parseIndex(b []byte, end int64) (*index, error) {
	x := &index{raw: b}
	d, off := decoder{b: b}, int64(snapshotHeader)
	for len(d.b) > 0 {
		if x.n%markEvery == 0 {
			x.marks = append(x.marks, mark{len(b) - len(d.b), off})
		}
		size, count := d.uvarint(), d.uvarint()
		d.bytes(d.uvarint())
		if d.bad || size < blockHeader || size > uint64(end-off) || size > 1<<31 || count > size {
			return nil, errors.New("index makes no sense")
		}
		off += int64(size)
		x.n++
	}
	if off != end {
		return nil, errors.New("index is incomplete")
	}
	return x, nil
}

// indexed takes the next block, which lies at off, from the front of an index.
func (d *decoder) indexed(off int64) block {
	size, count := d.uvarint(), d.uvarint()
	return block{off: off, size: uint32(size), count: uint32(count), first: d.bytes(d.uvarint())}
}

// from returns the block at a mark, and what to go on with.
func (x *index) from(m mark) (decoder, block) {
	d := decoder{b: x.raw[m.at:]}
	b := d.indexed(m.off)
	return d, b
}

func (x *index) blocks() []block {
	all := make([]block, 0, x.n)
	d, off := decoder{b: x.raw}, int64(snapshotHeader)
	for len(d.b) > 0 {
		all = append(all, d.indexed(off))
		off += int64(all[len(all)-1].size)
	}
	return all
}

// search returns the block that key would be in, and its number; -1 if it would be
// before all.
func (x *index) search(key []byte) (block, int) {
	at := sort.Search(len(x.marks), func(i int) bool {
		_, b := x.from(x.marks[i])
		return bytes.Compare(b.first, key) > 0
	}) - 1
	if at < 0 {
		return block{}, -1
	}
	d, b := x.from(x.marks[at])
	for number := at * markEvery; ; number++ {
		if len(d.b) == 0 {
			return b, number
		}
		next := d.indexed(b.off + int64(b.size))
		if bytes.Compare(next.first, key) > 0 {
			return b, number
		}
		b = next
	}
}

// payload reads the records of a block, as they follow each other in it.
func (x *snapshot) payload(b block) ([]byte, error) {
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

// load reads the records of a block into recs, with slices that are parts of
// one new array.
func (x *snapshot) load(b block, recs []store.Record) ([]store.Record, error) {
	p, err := x.payload(b)
	if err != nil {
		return nil, err
	}
	// The count is from the index; a record has three bytes at least.
	recs = slices.Grow(recs[:0], min(int(b.count), len(p)/3))
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
	index, err := x.find()
	if err != nil {
		return store.Record{}, err
	}
	b, i := index.search(key)
	if i < 0 {
		return store.Record{}, store.ErrNotFound
	}
	u := x.recent[i%len(x.recent)].Load()
	if u == nil || u.number != i {
		p, err := x.payload(b)
		if err != nil {
			return store.Record{}, err
		}
		u = &unpacked{i, p}
		if len(p) <= 2*blockTarget { // and not one huge record
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

func putBuffer(b *[]byte) {
	const keep = 1 << 20
	if cap(*b) <= keep {
		buffers.Put(b)
	}
}
