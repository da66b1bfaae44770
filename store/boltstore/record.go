package boltstore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/cacheman-go/cacheman/store"
)

// A database has two buckets at its root. The one called cacheman says what
// format the other has, and how many caches are in it; the other one is called
// caches, and each cache is a bucket of its name there, with these keys:
//
//	0x00             what is known of the cache as a whole, see info
//	0x01 key         a record
//	0x02 sha256(key) a record whose key is too long for bbolt
//
// A value, and so the number of caches, is a checksum, see sum, and a payload.
// The payload of a record is
//
//	length of meta, meta, value                     after 0x01
//	length of key, key, length of meta, meta, value after 0x02
//
// with lengths as uvarints.
const (
	infoTag byte = iota
	keyTag
	longTag
)

// maxInline is how long a key may be to be part of bbolt's. It could be
// longer, up to 32767, but bbolt keeps keys in branch pages too.
const maxInline = 1024

var (
	rootBucket   = []byte("cacheman")
	formatKey    = []byte("format")
	format       = []byte("1")
	countKey     = []byte("caches")
	cachesBucket = []byte("caches")
	infoKey      = []byte{infoTag}
	firstRecord  = []byte{keyTag}
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seed is the checksum of a cache's name, from which those of what is in the
// cache go on. So a record is damaged if it turns up in another cache.
func seed(cache string) uint32 { return crc32.Checksum([]byte(cache), castagnoli) }

// sum is the checksum of what is stored under a key of bbolt's.
func sum(seed uint32, boltKey, payload []byte) uint32 {
	var n [binary.MaxVarintLen64]byte
	seed = crc32.Update(seed, castagnoli, binary.AppendUvarint(n[:0], uint64(len(boltKey))))
	seed = crc32.Update(seed, castagnoli, boltKey)
	return crc32.Update(seed, castagnoli, payload)
}

// sealed puts the checksum into b, which has four bytes of room for it in
// front of the payload.
func sealed(seed uint32, boltKey, b []byte) []byte {
	binary.LittleEndian.PutUint32(b, sum(seed, boltKey, b[4:]))
	return b
}

// opened returns the payload of b.
func opened(seed uint32, boltKey, b []byte) ([]byte, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != sum(seed, boltKey, b[4:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", store.ErrCorrupt)
	}
	return b[4:], nil
}

// boltKey returns the key of bbolt's under which a record is.
func boltKey(key []byte) []byte {
	if len(key) <= maxInline {
		return append([]byte{keyTag}, key...)
	}
	hash := sha256.Sum256(key)
	return append([]byte{longTag}, hash[:]...)
}

// encode returns what is stored of a record.
func encode(seed uint32, boltKey []byte, op store.Op) []byte {
	b := make([]byte, 4, 4+2*binary.MaxVarintLen64+len(op.Key)+len(op.Meta)+len(op.Value))
	if boltKey[0] == longTag {
		b = binary.AppendUvarint(b, uint64(len(op.Key)))
		b = append(b, op.Key...)
	}
	b = binary.AppendUvarint(b, uint64(len(op.Meta)))
	b = append(b, op.Meta...)
	b = append(b, op.Value...)
	return sealed(seed, boltKey, b)
}

// decode returns a record in a piece of room that is cut from its front, or in
// memory of its own.
func decode(seed uint32, boltKey, b, room []byte) (r store.Record, rest []byte, err error) {
	payload, err := opened(seed, boltKey, b)
	if err != nil {
		return store.Record{}, room, err
	}
	key := boltKey[1:]
	if boltKey[0] == longTag {
		key, payload = cut(payload)
	}
	meta, value := cut(payload)
	k, m, n := len(key), len(key)+len(meta), len(key)+len(meta)+len(value)
	if n > len(room) {
		room = make([]byte, n)
	}
	copy(room, key)
	copy(room[k:], meta)
	copy(room[m:], value)
	return store.Record{Key: room[:k:k], Meta: room[k:m:m], Value: room[m:n:n]}, room[n:], nil
}

// cut takes a slice with its length from the front of b, whose checksum was
// right.
func cut(b []byte) (front, rest []byte) {
	n, size := binary.Uvarint(b)
	return b[size : size+int(n)], b[size+int(n):]
}

// encodeCount returns what is stored of the number of caches.
func encodeCount(n int) []byte {
	return sealed(0, countKey, binary.AppendUvarint(make([]byte, 4), uint64(n)))
}

func decodeCount(b []byte) (int, error) {
	payload, err := opened(0, countKey, b)
	if err != nil {
		return 0, fmt.Errorf("number of caches: %w", err)
	}
	n, _ := binary.Uvarint(payload)
	return int(n), nil
}

// info is what is known of a cache as a whole.
type info struct {
	records     int
	bytes       int64 // of keys and values, as bbolt has them
	described   bool
	description []byte
}

func (i info) encode(seed uint32) []byte {
	b := make([]byte, 4, 4+2*binary.MaxVarintLen64+1+len(i.description))
	b = binary.AppendUvarint(b, uint64(i.records))
	b = binary.AppendUvarint(b, uint64(i.bytes))
	if i.described {
		b = append(append(b, 1), i.description...)
	}
	return sealed(seed, infoKey, b)
}

// decodeInfo decodes what encode has made. The description is a part of b.
func decodeInfo(seed uint32, b []byte) (info, error) {
	payload, err := opened(seed, infoKey, b)
	if err != nil {
		return info{}, err
	}
	records, n := binary.Uvarint(payload)
	size, m := binary.Uvarint(payload[n:])
	i := info{records: int(records), bytes: int64(size)}
	if rest := payload[n+m:]; len(rest) > 0 {
		i.described, i.description = true, rest[1:]
	}
	return i, nil
}
