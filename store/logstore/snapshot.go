package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"sync"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

const (
	snapshotMagic  = "CMANSNAP"
	snapshotHeader = 64
	snapshotFooter = 48

	blockMagic  = 0x4b434c42 // "BLCK"
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
	index   []block // nil until read
}

// block is where a block of records is.
type block struct {
	off   int64
	size  uint32 // with the header
	count uint32
	first string // the lowest key in it
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

// read reads and checks a part of the file, and returns it without its header.
func (x *snapshot) read(magic uint32, off int64, buf []byte) ([]byte, error) {
	f, err := x.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, x.damage(off, "file is missing")
	} else if err != nil {
		return nil, err
	}
	if err := readFull(f, buf, off); err == errShort {
		return nil, x.damage(off, errShort.Error())
	} else if err != nil {
		return nil, err
	}
	if le.Uint32(buf) != magic || le.Uint32(buf[4:]) != checksum(buf[8:]) ||
		le.Uint64(buf[16:]) != x.tag || le.Uint64(buf[24:]) != uint64(off) ||
		uint64(le.Uint32(buf[8:]))+blockHeader != uint64(len(buf)) {
		return nil, x.damage(off, "wrong checksum")
	}
	return buf[blockHeader:], nil
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

// blocks returns where the blocks are.
func (x *snapshot) blocks() ([]block, error) {
	x.indexMu.Lock()
	defer x.indexMu.Unlock()
	if x.index != nil {
		return x.index, nil
	}
	if x.size < snapshotHeader+snapshotFooter {
		return nil, x.damage(0, "impossible size")
	}
	end := x.size - snapshotFooter
	footer, err := x.read(footerMagic, end, make([]byte, snapshotFooter))
	if err != nil {
		return nil, err
	}
	at := int64(le.Uint64(footer))
	if at < snapshotHeader || at > end-blockHeader {
		return nil, x.damage(end, "footer makes no sense")
	}
	b, err := x.read(indexMagic, at, make([]byte, end-at))
	if err != nil {
		return nil, err
	}
	if x.index, err = parseIndex(b, at); err != nil {
		return nil, x.damage(at, err.Error())
	}
	return x.index, nil
}

// parseIndex decodes the payload of an index that lies at offset end.
func parseIndex(b []byte, end int64) ([]block, error) {
	d := decoder{b: b}
	index := make([]block, 0, 16)
	off := int64(snapshotHeader)
	var keys []byte
	var lens []int
	for len(d.b) > 0 {
		size, count := d.uvarint(), d.uvarint()
		key := d.bytes(d.uvarint())
		if d.bad || size < blockHeader || size > uint64(end-off) || size > 1<<31 || count > size {
			return nil, errors.New("index makes no sense")
		}
		index = append(index, block{off: off, size: uint32(size), count: uint32(count)})
		keys, lens = append(keys, key...), append(lens, len(key))
		off += int64(size)
	}
	all := string(keys)
	for i, n := range lens {
		index[i].first, all = all[:n], all[n:]
	}
	if off != end {
		return nil, errors.New("index is incomplete")
	}
	return index, nil
}

// load reads the records of a block into recs, with slices that are parts of
// one new array.
func (x *snapshot) load(b block, recs []store.Record) ([]store.Record, error) {
	p, err := x.read(blockMagic, b.off, make([]byte, b.size))
	if err != nil {
		return nil, err
	}
	if recs, err = parseBlock(p, recs[:0]); err != nil {
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
	index, err := x.blocks()
	if err != nil {
		return store.Record{}, err
	}
	i := sort.Search(len(index), func(i int) bool { return index[i].first > string(key) }) - 1
	if i < 0 {
		return store.Record{}, store.ErrNotFound
	}
	buf := getBuffer(int(index[i].size))
	defer putBuffer(buf)
	p, err := x.read(blockMagic, index[i].off, *buf)
	if err != nil {
		return store.Record{}, err
	}
	d := decoder{b: p}
	for len(d.b) > 0 {
		k, meta, value := d.record()
		if d.bad {
			return store.Record{}, x.damage(index[i].off, "record makes no sense")
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

// snapshotWriter writes the snapshot of a cache, whose records must come sorted.
type snapshotWriter struct {
	f     vfs.File
	tag   uint64
	buf   []byte // what is not written yet: some blocks, the last one unfinished
	base  int64  // where in the file buf goes
	at    int    // where in buf the unfinished block starts
	count uint32 // of its records
	index []byte
	total uint64 // of all records
	first []byte // the first key of the unfinished block
}

func newSnapshotWriter(f vfs.File, id, gen, tag uint64) *snapshotWriter {
	h := make([]byte, snapshotHeader)
	le.PutUint64(h[16:], tag)
	le.PutUint64(h[24:], id)
	le.PutUint64(h[32:], gen)
	putPreamble(h, snapshotMagic)
	w := &snapshotWriter{f: f, tag: tag, buf: h}
	w.startBlock()
	return w
}

func (w *snapshotWriter) startBlock() {
	w.at = len(w.buf)
	w.buf = append(w.buf, make([]byte, blockHeader)...)
	w.count = 0
}

func (w *snapshotWriter) add(r store.Record) error {
	size := len(r.Key) + len(r.Meta) + len(r.Value)
	if w.count > 0 && len(w.buf)-w.at-blockHeader+size > blockTarget {
		if err := w.endBlock(); err != nil {
			return err
		}
		w.startBlock()
	}
	if w.count == 0 {
		w.first = append(w.first[:0], r.Key...)
	}
	w.buf = appendRecord(w.buf, r.Key, r.Meta, r.Value)
	w.count++
	w.total++
	return nil
}

func (w *snapshotWriter) endBlock() error {
	b := w.buf[w.at:]
	putBlockHeader(b, blockMagic, w.count, w.tag, w.base+int64(w.at))
	w.index = appendIndex(w.index, len(b), w.count, w.first)
	if len(w.buf) < writeSize {
		return nil
	}
	return w.flush()
}

func appendIndex(b []byte, size int, count uint32, first []byte) []byte {
	b = appendUvarints(b, uint64(size), uint64(count))
	return appendBytes(b, first)
}

func (w *snapshotWriter) flush() error {
	if _, err := w.f.WriteAt(w.buf, w.base); err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	w.base += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish writes what is left, and makes the file durable. It returns its size.
func (w *snapshotWriter) finish() (int64, error) {
	if w.count > 0 {
		if err := w.endBlock(); err != nil {
			return 0, err
		}
	} else {
		w.buf = w.buf[:w.at]
	}
	at := len(w.buf)
	indexAt := w.base + int64(at)
	w.buf = append(w.buf, make([]byte, blockHeader)...)
	w.buf = append(w.buf, w.index...)
	putBlockHeader(w.buf[at:], indexMagic, 0, w.tag, indexAt)

	at = len(w.buf)
	w.buf = append(w.buf, make([]byte, snapshotFooter)...)
	le.PutUint64(w.buf[at+blockHeader:], uint64(indexAt))
	le.PutUint64(w.buf[at+blockHeader+8:], w.total)
	putBlockHeader(w.buf[at:], footerMagic, 0, w.tag, w.base+int64(at))
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := w.f.Sync(); err != nil {
		return 0, fmt.Errorf("syncing a snapshot: %w", err)
	}
	return w.base, nil
}
