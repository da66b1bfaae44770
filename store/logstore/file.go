package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// formatVersion is written to every file. A file with a higher one was written
// by a newer program.
const formatVersion = 3

// file is a file of the store that may be read while it is already obsolete:
// it is closed, and removed if it is doomed, when the last one who pinned it
// lets go. (Removing it earlier would fail on Windows.)
type file struct {
	fs     vfs.FS
	name   string
	pins   atomic.Int64 // one is the store's own, while the file is in use
	doomed atomic.Bool

	mu sync.Mutex
	f  vfs.File // nil until the first read
}

func newFile(fs vfs.FS, name string, f vfs.File) *file {
	x := &file{fs: fs, name: name, f: f}
	x.pins.Store(1)
	return x
}

// pin keeps f from being closed. The caller holds Store.mu, or has pinned it
// already, so that it is not closed yet.
func (f *file) pin() { f.pins.Add(1) }

func (f *file) unpin() {
	if f.pins.Add(-1) > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil {
		f.f.Close()
	}
	if f.doomed.Load() {
		// If this fails the next Open sweeps it.
		_ = f.fs.Remove(f.name)
	}
}

// doom gives up the store's own pin of a file that nothing refers to any more.
func (f *file) doom() {
	f.doomed.Store(true)
	f.unpin()
}

// open opens the file for reading, once.
func (f *file) open() (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		x, err := f.fs.Open(f.name)
		if err != nil {
			return nil, err
		}
		f.f = x
	}
	return f.f, nil
}

// errShort is what readFull returns for bytes beyond the end of the file.
var errShort = errors.New("file is too short")

func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF || err == nil {
		return errShort
	}
	return err
}

// damage is an error about bytes that are not what was written.
type damage struct {
	cache  string // "" if it is not about one
	file   string
	offset int64
	what   string
}

func (d *damage) Error() string {
	where := ""
	if d.cache != "" {
		where = fmt.Sprintf("cache %q: ", d.cache)
	}
	return fmt.Sprintf("%s%s, offset %d: %s: %v", where, d.file, d.offset, d.what, store.ErrCorrupt)
}

func (d *damage) Unwrap() error { return store.ErrCorrupt }

// newerError is the error about a file that a newer program wrote.
func newerError(name string, version uint32) error {
	return fmt.Errorf("%s has format version %d, this program reads up to %d: %w",
		name, version, formatVersion, store.ErrFormat)
}

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Every file but LOCK and HOLDER starts with a magic of 8 bytes, the format
// version and a checksum of what follows: of the rest of the header for a
// journal or snapshot, of everything for a manifest. The version is under the
// checksum too, so a flipped bit is damage and not a newer format.
const preambleSize = 16

func putPreamble(b []byte, magic string) {
	copy(b, magic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], checksum(b[16:])^checksum(b[:12]))
}

// checkPreamble returns a *damage without a place, or an error wrapping
// store.ErrFormat.
func checkPreamble(b []byte, name, magic string) error {
	if len(b) < preambleSize || string(b[:8]) != magic {
		return &damage{file: name, what: "no " + magic + " header"}
	}
	if le.Uint32(b[12:]) != checksum(b[16:])^checksum(b[:12]) {
		return &damage{file: name, what: "wrong checksum of the header"}
	}
	if v := le.Uint32(b[8:]); v > formatVersion {
		return newerError(name, v)
	} else if v == 0 {
		return &damage{file: name, what: "no format version"}
	}
	return nil
}

// decoder takes numbers and strings off the front of b. After the first
// failure it gives zeros, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes takes n bytes.
func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func appendBytes[T string | []byte](b []byte, p T) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

func appendUvarints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}
