package logstore

import (
	"encoding/binary"
	"errors"

	"github.com/cacheman-go/cacheman/store"
)

// A batch is stored as one frame: a sequence of chunks, of which the last has
// flagCommit. A chunk holds whole ops and can be decoded by itself.
const (
	chunkMagic  = 0x4b4e4843 // "CHNK"
	chunkHeader = 40
	chunkTarget = 64 << 10 // a chunk is ended once its payload has this size
	maxRecord   = 1 << 30  // of a key, value and meta, or a description

	flagCommit = 1
)

// chunk is the header of a chunk. All of it is under the checksum, as is the
// payload, so bytes of another journal, of another frame or of an earlier
// attempt at the same frame never pass for a part of this one.
type chunk struct {
	size    uint32 // of the payload
	flags   uint32
	journal uint64 // the id of the journal, a random number
	frame   uint64 // counted from 1 in each journal
	salt    uint32 // random, the same in all chunks of a frame
	no      uint32 // counted from 0 in each frame
}

// seal puts the header in front of the payload in b[chunkHeader:].
func (c chunk) seal(b []byte) {
	le.PutUint32(b, chunkMagic)
	le.PutUint32(b[8:], uint32(len(b)-chunkHeader))
	le.PutUint32(b[12:], c.flags)
	le.PutUint64(b[16:], c.journal)
	le.PutUint64(b[24:], c.frame)
	le.PutUint32(b[32:], c.salt)
	le.PutUint32(b[36:], c.no)
	le.PutUint32(b[4:], checksum(b[8:]))
}

// parseHeader reads a header, whose checksum is not checked yet.
func parseHeader(b []byte) (c chunk, ok bool) {
	if len(b) < chunkHeader || le.Uint32(b) != chunkMagic {
		return chunk{}, false
	}
	c = chunk{
		size:    le.Uint32(b[8:]),
		flags:   le.Uint32(b[12:]),
		journal: le.Uint64(b[16:]),
		frame:   le.Uint64(b[24:]),
		salt:    le.Uint32(b[32:]),
		no:      le.Uint32(b[36:]),
	}
	return c, c.size <= maxRecord+2*chunkTarget
}

// parseChunk reads a whole chunk from the front of b, and checks it.
func parseChunk(b []byte) (c chunk, payload []byte, ok bool) {
	c, ok = parseHeader(b)
	if !ok || uint64(len(b)) < chunkHeader+uint64(c.size) {
		return chunk{}, nil, false
	}
	b = b[:chunkHeader+int(c.size)]
	if le.Uint32(b[4:]) != checksum(b[8:]) {
		return chunk{}, nil, false
	}
	return c, b[chunkHeader:], true
}

// The kinds of a store.Op are stored as they are. One more names the cache of
// the ops after it; it stands at the front of each chunk, and where the cache
// changes.
const opCache store.Kind = 6

// op is a decoded op. Its slices are parts of the payload.
type op struct {
	kind  store.Kind
	key   []byte // or the name, of opCache
	meta  []byte
	value []byte // or the description
}

func appendCache(b []byte, name string) []byte {
	return appendBytes(append(b, byte(opCache)), name)
}

// appendRecord appends a record as it stands in snapshots and, after its kind,
// in the op that puts it: three lengths, then key, meta and value.
func appendRecord(b []byte, key, meta, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(meta)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	b = append(b, key...)
	b = append(b, meta...)
	return append(b, value...)
}

func (d *decoder) record() (key, meta, value []byte) {
	k, m, v := d.uvarint(), d.uvarint(), d.uvarint()
	return d.bytes(k), d.bytes(m), d.bytes(v)
}

var errRecordTooLarge = errors.New("record is larger than 1 GiB")

func appendOp(b []byte, o *store.Op) []byte {
	b = append(b, byte(o.Kind))
	switch o.Kind {
	case store.Put:
		b = appendRecord(b, o.Key, o.Meta, o.Value)
	case store.Delete:
		b = appendBytes(b, o.Key)
	case store.Describe:
		b = appendBytes(b, o.Value)
	}
	return b
}

func (d *decoder) op() (o op) {
	kind := d.bytes(1)
	if d.bad {
		return op{}
	}
	switch o.kind = store.Kind(kind[0]); o.kind {
	case store.Put:
		o.key, o.meta, o.value = d.record()
	case store.Delete, opCache:
		o.key = d.bytes(d.uvarint())
	case store.Describe:
		o.value = d.bytes(d.uvarint())
	case store.Clear, store.Drop:
	default:
		d.bad = true
	}
	return o
}
