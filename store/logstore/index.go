package logstore

import (
	"bytes"
	"errors"
	"sort"
	"sync/atomic"
)

const (
	indexMagic  = 0x58444e49 // "INDX"
	rootMagic   = 0x544f4f52 // "ROOT", what says where the parts of an index are
	footerMagic = 0x544f4f46 // "FOOT"

	snapshotFooter = 48
	indexTarget    = 4 << 10 // a part of an index has no more once it has as many bytes
)

// block is where a block of records is.
type block struct {
	off   int64
	size  int64 // with the header
	count int   // of records
	first []byte
	lost  error // if it is a part of the index instead, which cannot be read
}

// index is where the blocks of a snapshot are. It is in parts, so that who wants one
// record reads but one of them.
type index struct {
	off   int64 // of the first part
	parts []indexPart
}

// indexPart is where some blocks are that lie one after the other.
type indexPart struct {
	off, size int64 // of the part, with its header
	all       block // what its blocks are together; first is nil if that is not known

	blocks atomic.Pointer[[]block] // nil until one was wanted
}

// find returns where the parts of the index are.
func (x *snapshot) find() (*index, error) {
	x.indexMu.Lock()
	defer x.indexMu.Unlock()
	if x.index != nil {
		return x.index, nil
	}
	if x.size < snapshotHeader+snapshotFooter {
		return nil, x.damage(0, "impossible size")
	}
	// The footer, and mostly what it leads to.
	tail := make([]byte, min(x.size-snapshotHeader, indexTarget))
	from := x.size - int64(len(tail))
	if err := x.fetch(from, tail); err != nil {
		return nil, err
	}
	end := x.size - snapshotFooter
	footer, err := x.part(footerMagic, end, tail[end-from:])
	if err != nil {
		return nil, err
	}
	at, count := int64(le.Uint64(footer)), le.Uint64(footer[8:])
	if at < snapshotHeader || at > end-blockHeader {
		return nil, x.damage(end, "footer makes no sense")
	}
	tail = tail[:end-from]
	if at < from {
		tail = make([]byte, end-at)
		if err := x.fetch(at, tail); err != nil {
			return nil, err
		}
		from = at
	}
	if tail = tail[at-from:]; le.Uint32(tail) == rootMagic {
		x.index, err = x.root(at, tail)
	} else {
		x.index, err = x.only(at, tail, count)
	}
	return x.index, err
}

// root is the index of several parts that a root leads to.
func (x *snapshot) root(at int64, b []byte) (*index, error) {
	b, err := x.part(rootMagic, at, b)
	if err != nil {
		return nil, err
	}
	parts, ok := parseRoot(b, at)
	if !ok {
		return nil, x.damage(at, "index makes no sense")
	}
	return &index{parts[0].off, parts}, nil
}

// parseRoot parses the payload of a root at the offset end: for each part its size, that
// of its blocks together, the number of their records and the first key. Blocks lie from
// the header on, and then the parts, without gaps.
func parseRoot(b []byte, end int64) ([]indexPart, bool) {
	var parts []indexPart
	off := int64(snapshotHeader)
	for d := (decoder{b: b}); len(d.b) > 0; {
		size, all, count := d.uvarint(), d.uvarint(), d.uvarint()
		first := d.bytes(d.uvarint())
		// A record takes three bytes at least.
		if d.bad || size < blockHeader || size > uint64(end) || all < blockHeader || all > uint64(end-off) || count > all<<10 {
			return nil, false
		}
		if parts == nil {
			parts = make([]indexPart, 0, len(b)/(len(b)-len(d.b))+2) // entries are about as long
		}
		parts = append(parts, indexPart{size: int64(size), all: block{off: off, size: int64(all), count: int(count), first: first}})
		off += int64(all)
	}
	for i := range parts {
		if parts[i].off = off; parts[i].size > end-off {
			return nil, false
		}
		off += parts[i].size
	}
	return parts, len(parts) > 0 && off == end
}

// only is an index of a single part.
func (x *snapshot) only(at int64, b []byte, count uint64) (*index, error) {
	all := block{off: snapshotHeader, size: at - snapshotHeader, count: int(count)}
	i := &index{at, []indexPart{{off: at, size: int64(len(b)), all: all}}}
	blocks, err := x.parse(&i.parts[0], b)
	if err != nil {
		return nil, err
	}
	i.parts[0].blocks.Store(&blocks)
	return i, nil
}

// indexed returns the blocks of a part of the index.
func (x *snapshot) indexed(p *indexPart) ([]block, error) {
	if blocks := p.blocks.Load(); blocks != nil {
		return *blocks, nil
	}
	b := make([]byte, p.size)
	if err := x.fetch(p.off, b); err != nil {
		return nil, err
	}
	return x.parse(p, b)
}

// parse parses a part of the index.
func (x *snapshot) parse(p *indexPart, b []byte) ([]block, error) {
	b, err := x.part(indexMagic, p.off, b)
	if err != nil {
		return nil, err
	}
	blocks, err := parseIndex(b, p.all)
	if err != nil {
		return nil, x.damage(p.off, err.Error())
	}
	return blocks, nil
}

// parseIndex parses the payload of a part of an index, whose blocks are all.
func parseIndex(b []byte, all block) ([]block, error) {
	var blocks []block
	off, end, left := all.off, all.off+all.size, uint64(all.count)
	for d := (decoder{b: b}); len(d.b) > 0; {
		size, count := d.uvarint(), d.uvarint()
		first := d.bytes(d.uvarint())
		if d.bad || size < blockHeader || size > uint64(end-off) || size > 1<<31 || count > left {
			return nil, errors.New("index makes no sense")
		}
		if blocks == nil {
			blocks = make([]block, 0, len(b)/(len(b)-len(d.b))+8) // entries are about as long
		}
		blocks = append(blocks, block{off: off, size: int64(size), count: int(count), first: first})
		off += int64(size)
		left -= count
	}
	if off != end || left != 0 || all.first != nil && (len(blocks) == 0 || !bytes.Equal(blocks[0].first, all.first)) {
		return nil, errors.New("index is incomplete")
	}
	return blocks, nil
}

// blocks returns where all blocks are; in the place of those whose part of the index cannot
// be read, that.
func (x *snapshot) blocks() ([]block, error) {
	index, err := x.find()
	if err != nil {
		return nil, err
	}
	var all []block
	for i := range index.parts {
		p := &index.parts[i]
		blocks, err := x.indexed(p)
		if err != nil {
			blocks = []block{{off: p.off, size: p.size, count: p.all.count, lost: err}}
		}
		all = append(all, blocks...)
	}
	return all, nil
}

// search returns the block that key would be in, and its number in its part of the
// index; -1 if it would be before all.
func (x *snapshot) search(key []byte) (block, int, error) {
	index, err := x.find()
	if err != nil {
		return block{}, 0, err
	}
	at := 0 // the last of several that does not begin after key
	if len(index.parts) > 1 {
		at = sort.Search(len(index.parts), func(i int) bool { return bytes.Compare(index.parts[i].all.first, key) > 0 }) - 1
	}
	if at < 0 {
		return block{}, -1, nil
	}
	p := &index.parts[at]
	blocks, err := x.indexed(p)
	if err != nil {
		return block{}, 0, err
	}
	p.blocks.Store(&blocks)
	i := sort.Search(len(blocks), func(i int) bool { return bytes.Compare(blocks[i].first, key) > 0 }) - 1
	if i < 0 {
		return block{}, -1, nil
	}
	return blocks[i], i, nil
}

// indexWriter makes an index.
type indexWriter struct {
	parts []writtenPart
}

type writtenPart struct {
	payload []byte
	blocks  uint64 // bytes of them
	records uint64
	first   []byte
}

// add notes the next block.
func (w *indexWriter) add(size int, count uint32, first []byte) {
	if n := len(w.parts); n == 0 || len(w.parts[n-1].payload) >= indexTarget {
		w.parts = append(w.parts, writtenPart{first: bytes.Clone(first)})
	}
	p := &w.parts[len(w.parts)-1]
	p.payload = appendBytes(appendUvarints(p.payload, uint64(size), uint64(count)), first)
	p.blocks += uint64(size)
	p.records += uint64(count)
}

// append writes the index behind the blocks, then the root if there are several parts, and
// the footer. What is appended to b begins at the offset base of the file.
func (w *indexWriter) append(b []byte, base int64, tag, total uint64) []byte {
	from := len(b)
	put := func(magic uint32, payload []byte) (at int64, size int) {
		start := len(b)
		at = base + int64(start-from)
		b = append(append(b, make([]byte, blockHeader)...), payload...)
		putBlockHeader(b[start:], magic, 0, tag, at)
		return at, len(b) - start
	}
	var root []byte
	var at int64
	for _, p := range w.parts {
		var size int
		at, size = put(indexMagic, p.payload)
		root = appendBytes(appendUvarints(root, uint64(size), p.blocks, p.records), p.first)
	}
	if len(w.parts) > 1 {
		at, _ = put(rootMagic, root)
	}
	put(footerMagic, le.AppendUint64(le.AppendUint64(nil, uint64(at)), total))
	return b
}
