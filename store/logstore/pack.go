package logstore

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// The payload of a compressed block is the size of what was compressed, as a
// uvarint, and a zstd frame.

// packer compresses blocks, one at a time. A nil packer compresses none.
type packer struct {
	enc *zstd.Encoder // half a megabyte, so it is made when it is needed
}

// minPacked is the size below which it is not worth while to compress.
const minPacked = 256

// pack appends payload to b in compressed form, if that saves an eighth of its
// size at least.
func (p *packer) pack(b, payload []byte) ([]byte, bool) {
	if p == nil || len(payload) < minPacked {
		return b, false
	}
	if p.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are wrong
		}
		p.enc = enc
	}
	at := len(b)
	b = slices.Grow(b, binary.MaxVarintLen64+len(payload)) // or it would grow by and by
	b = binary.AppendUvarint(b, uint64(len(payload)))
	b = p.enc.EncodeAll(payload, b)
	size := len(b) - at
	return b, size <= len(payload)-len(payload)/8 && uint64(len(payload)) <= unpackedLimit(size)
}

// unpackedLimit is how large the contents of a compressed payload may be: what
// a few bytes claim to be gigabytes is neither written nor allocated for.
func unpackedLimit(size int) uint64 { return max(1<<20, 1024*uint64(size)) }

// unpacker is used by all stores at once. It is made here, and not when it is
// first needed, since it has channels: in a test those would belong to the
// bubble of testing/synctest in which that happens.
var unpacker = newUnpacker()

func newUnpacker() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(2*maxRecord))
	if err != nil {
		panic(err) // the options are wrong
	}
	return dec
}

var errPacked = errors.New("compressed block makes no sense")

// unpack returns what was packed, in into if it fits and otherwise in a new
// array of just that size.
func unpack(p, into []byte) ([]byte, error) {
	size, n := binary.Uvarint(p)
	if n <= 0 || size > unpackedLimit(len(p)) || size > maxRecord+2*blockTarget {
		return nil, errPacked
	}
	if uint64(cap(into)) < size {
		into = make([]byte, 0, size)
	}
	out, err := unpacker.DecodeAll(p[n:], into[:0:size])
	if err != nil || uint64(len(out)) != size {
		return nil, errPacked
	}
	return out, nil
}
