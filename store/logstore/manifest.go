package logstore

import (
	"fmt"
	"math"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

const manifestMagic = "CMANMANI"

// manifest says what a store consisted of when a compaction ended: the
// snapshots, and the place in the journals from which on they must be replayed.
type manifest struct {
	n      uint64
	start  position
	nextID uint64 // ids from here on were never used
	caches []manifestCache
}

type manifestCache struct {
	name string
	desc []byte
	// The snapshot; all zero if the cache was empty and never had one.
	id      uint64
	gen     uint64 // 0 if there is no snapshot
	tag     uint64
	size    int64
	records uint64
}

func (m *manifest) encode() []byte {
	b := make([]byte, preambleSize)
	b = appendUvarints(b, m.n, m.start.seq, uint64(m.start.off), m.start.frame)
	b = appendUvarints(b, m.nextID, uint64(len(m.caches)))
	for _, c := range m.caches {
		b = appendBytes(b, c.name)
		if c.desc == nil {
			b = append(b, 0)
		} else {
			b = appendBytes(append(b, 1), c.desc)
		}
		b = appendUvarints(b, c.id, c.gen, c.tag, uint64(c.size), c.records)
	}
	putPreamble(b, manifestMagic)
	return b
}

func parseManifest(b []byte, n uint64) (*manifest, error) {
	name := manifestName(n)
	if err := checkPreamble(b, name, manifestMagic); err != nil {
		return nil, err
	}
	d := decoder{b: b[preambleSize:]}
	m := &manifest{n: d.uvarint()}
	m.start = position{d.uvarint(), d.offset(), d.uvarint()}
	m.nextID = d.uvarint()
	count := d.uvarint()
	for i := uint64(0); i < count && !d.bad; i++ {
		c := manifestCache{name: string(d.bytes(d.uvarint()))}
		if flag := d.bytes(1); !d.bad && flag[0] != 0 {
			c.desc = append([]byte{}, d.bytes(d.uvarint())...)
		}
		c.id, c.gen, c.tag, c.size, c.records = d.uvarint(), d.uvarint(), d.uvarint(), d.offset(), d.uvarint()
		m.caches = append(m.caches, c)
	}
	if d.bad || len(d.b) > 0 || m.n != n || m.start.off < journalHeader || m.start.seq == 0 {
		return nil, &damage{file: name, what: "contents make no sense"}
	}
	return m, nil
}

func (d *decoder) offset() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.bad = true
		return 0
	}
	return int64(v)
}

// readManifest reads a manifest. A *damage error means that it was not written
// in full, or is not what was written.
func readManifest(dir vfs.FS, n uint64) (*manifest, error) {
	f, err := dir.Open(manifestName(n))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		return nil, err
	}
	return parseManifest(b, n)
}

// publish writes the next manifest and makes it durable, and removes the one
// before the previous. If it fails, the manifest that is there holds. If k is not nil,
// what is in it is to be moved afterwards.
func (s *Store) publish(m *manifest, k *keeping) error {
	if k != nil {
		if err := k.begin(s); err != nil {
			return err
		}
	}
	m.n, m.nextID = s.nextGen, s.nextID
	f, err := writeFile(s.fs, manifestName(m.n), m.encode())
	if err == nil || s.fs.has(manifestName(m.n)) {
		s.nextGen++ // otherwise the next takes the place of what a loss of power may bring back
	}
	if err != nil {
		if k != nil && !isLeft(err) {
			k.undo(s)
		}
		return fmt.Errorf("writing a manifest: %w", err)
	}
	f.Close()
	if old := s.manifests[1]; old != 0 {
		// If this fails the next Open sweeps it.
		_ = s.fs.Remove(manifestName(old))
	}
	s.manifests = [2]uint64{m.n, s.manifests[0]}
	return nil
}
