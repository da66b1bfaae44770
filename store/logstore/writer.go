package logstore

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// snapshotWriter writes the snapshot of a cache, whose records must come sorted.
// Blocks are filled by the caller of add, and packed and written by a goroutine,
// so that one is filled while another is packed. Either finish or stop must be
// called.
type snapshotWriter struct {
	// Of the caller.
	raw   rawBlock // that is being filled
	big   []byte   // the block of a large record, to be filled again
	total uint64   // of all records

	full   chan rawBlock // to be packed; nil once it is closed
	spare  chan rawBlock // to be filled again
	packed chan struct{} // a lent block was
	done   chan struct{} // closed when the goroutine has ended
	failed atomic.Bool   // there is no use in going on

	// Of the goroutine; of the caller once that has ended.
	f      vfs.File
	tag    uint64
	packer *packer // nil if blocks are not to be compressed
	pace   func()  // called after each write
	buf    []byte  // what is not written yet: some blocks
	base   int64   // where in the file buf goes
	index  indexWriter
	err    error
}

// largeRecord is the size from which on a record is packed before the next comes: there should be but
// one of them in memory.
const largeRecord = 8 * blockTarget

// rawBlock is the records of a block.
type rawBlock struct {
	payload []byte
	first   []byte // the first key
	count   uint32
	stored  bool // payload is all of a block, with its header
	lent    bool // nothing of it is used after packed
}

func newSnapshotWriter(f vfs.File, id, gen, tag uint64, packer *packer, pace func()) *snapshotWriter {
	h := make([]byte, snapshotHeader)
	le.PutUint64(h[16:], tag)
	le.PutUint64(h[24:], id)
	le.PutUint64(h[32:], gen)
	putPreamble(h, snapshotMagic)
	w := &snapshotWriter{
		f: f, tag: tag, buf: h, packer: packer, pace: pace,
		full: make(chan rawBlock, 8), spare: make(chan rawBlock, 9),
		packed: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run(w.full)
	return w
}

func (w *snapshotWriter) add(r store.Record) error {
	size := len(r.Key) + len(r.Meta) + len(r.Value)
	if w.raw.count > 0 && len(w.raw.payload)+size > blockTarget {
		if w.failed.Load() {
			return w.stop()
		}
		w.endBlock()
	}
	w.total++
	if size > largeRecord {
		if w.failed.Load() {
			return w.stop()
		}
		w.big = appendRecord(w.big[:0], r.Key, r.Meta, r.Value)
		w.lend(rawBlock{payload: w.big, first: r.Key, count: 1})
		return nil
	}
	if w.raw.count == 0 {
		w.raw.first = append(w.raw.first, r.Key...)
	}
	w.raw.payload = appendRecord(w.raw.payload, r.Key, r.Meta, r.Value)
	w.raw.count++
	return nil
}

// takes reports that a block of another snapshot can be copied as it is: that leaves no small
// blocks behind.
func (w *snapshotWriter) takes(stored []byte) bool {
	if w.raw.count > 0 && len(w.raw.payload) < blockTarget/2 {
		return false
	}
	size := uint64(len(stored) - blockHeader)
	if le.Uint32(stored) == packedMagic {
		size, _ = binary.Uvarint(stored[blockHeader:])
	}
	return size >= blockTarget/2
}

// copy adds such a block, whose first key is first.
func (w *snapshotWriter) copy(first, stored []byte) error {
	if w.failed.Load() {
		return w.stop()
	}
	if w.raw.count > 0 {
		w.endBlock()
	}
	count := le.Uint32(stored[12:])
	w.total += uint64(count)
	w.lend(rawBlock{payload: stored, first: first, count: count, stored: true})
	return nil
}

// lend hands a block over that is in use as long as the goroutine needs it.
func (w *snapshotWriter) lend(b rawBlock) {
	b.lent = true
	w.full <- b
	<-w.packed
}

// endBlock hands the block over, and goes on with an empty one.
func (w *snapshotWriter) endBlock() {
	w.full <- w.raw
	w.raw = rawBlock{}
	select {
	case w.raw = <-w.spare:
	default:
	}
}

// run packs and writes until there are no more blocks. After an error it only
// takes them.
func (w *snapshotWriter) run(full <-chan rawBlock) {
	defer close(w.done)
	for b := range full {
		if w.err == nil {
			w.pack(b)
			if len(w.buf) >= writeSize {
				w.flush()
			}
		}
		if b.lent {
			w.packed <- struct{}{}
			continue
		}
		select {
		case w.spare <- rawBlock{payload: b.payload[:0], first: b.first[:0]}:
		default:
		}
	}
}

func (w *snapshotWriter) pack(b rawBlock) {
	at := len(w.buf)
	if b.stored {
		w.buf = append(w.buf, b.payload...)
		putBlockHeader(w.buf[at:], le.Uint32(b.payload), b.count, w.tag, w.base+int64(at))
		w.index.add(len(b.payload), b.count, b.first)
		return
	}
	w.buf = append(w.buf, make([]byte, blockHeader)...)
	magic := uint32(blockMagic)
	if packed, ok := w.packer.pack(w.buf, b.payload); ok {
		w.buf, magic = packed, packedMagic
	} else {
		w.buf = append(w.buf, b.payload...)
	}
	putBlockHeader(w.buf[at:], magic, b.count, w.tag, w.base+int64(at))
	w.index.add(len(w.buf)-at, b.count, b.first)
}

func (w *snapshotWriter) flush() {
	if _, err := w.f.WriteAt(w.buf, w.base); err != nil {
		w.err = fmt.Errorf("writing a snapshot: %w", err)
		w.failed.Store(true)
		return
	}
	w.base += int64(len(w.buf))
	w.buf = w.buf[:0]
	w.pace()
}

// stop ends the goroutine, and returns the first error there was.
func (w *snapshotWriter) stop() error {
	if w.full != nil {
		close(w.full)
		w.full = nil
	}
	<-w.done
	return w.err
}

// finish writes what is left, and makes the file durable. It returns its size.
func (w *snapshotWriter) finish() (int64, error) {
	if w.raw.count > 0 {
		w.endBlock()
	}
	if err := w.stop(); err != nil {
		return 0, err
	}
	w.buf = w.index.append(w.buf, w.base+int64(len(w.buf)), w.tag, w.total)
	if w.flush(); w.err != nil {
		return 0, w.err
	}
	if err := w.f.Sync(); err != nil {
		return 0, fmt.Errorf("syncing a snapshot: %w", err)
	}
	return w.base, nil
}
