package logstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
)

// FuzzOps: any payload is refused or carried out, and what was decoded encodes
// to what was there.
func FuzzOps(f *testing.F) {
	var b []byte
	b = appendCache(b, "cache")
	for _, o := range []store.Op{
		{Kind: store.Put, Key: []byte("k"), Value: []byte("v"), Meta: []byte("m")},
		{Kind: store.Delete, Key: []byte("k")}, {Kind: store.Clear},
		{Kind: store.Describe, Value: []byte("d")}, {Kind: store.Drop},
	} {
		b = appendOp(b, &o)
	}
	f.Add(b)
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		s := &Store{mu: new(sync.RWMutex), caches: map[string]*version{}}
		st := stage{s: s}
		if !st.replay(chunkRef{size: uint32(len(p))}, p) {
			st.undo()
			return
		}
		st.publish()
		d := decoder{b: p}
		var again []byte
		for len(d.b) > 0 {
			o := d.op()
			if o.kind == opCache {
				again = appendCache(again, string(o.key))
				continue
			}
			again = appendOp(again, &store.Op{Kind: o.kind, Key: o.key, Value: o.value, Meta: o.meta})
		}
		if d.bad || len(again) > len(p) { // a number may be written longer than need be
			t.Fatalf("%x decodes and encodes to %x", p, again)
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := &manifest{n: 3, start: position{2, journalHeader, 1}, nextID: 9, caches: []manifestCache{
		{name: "a", desc: []byte("d"), id: 1, gen: 2, tag: 3, size: 4, records: 5}, {name: "b"},
	}}
	f.Add(m.encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= preambleSize {
			putPreamble(b, manifestMagic) // to get beyond the checksum
		}
		m, err := parseManifest(b, 3)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := parseManifest(m.encode(), 3)
		if err != nil || len(again.caches) != len(m.caches) {
			t.Fatalf("%+v does not come back: %+v, %v", m, again, err)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	entry := func(size, count uint64, first string) []byte {
		return appendBytes(appendUvarints(nil, size, count), first)
	}
	f.Add(entry(100, 2, "k"), appendRecord(nil, []byte("k"), []byte("m"), []byte("v")))
	f.Add([]byte{255, 255, 3}, []byte{3, 0, 0})
	f.Add(append(entry(60, 1, "k"), entry(40, 1, "l")...), []byte{3, 0, 0})
	f.Fuzz(func(t *testing.T, index, block []byte) {
		all := blockOf(snapshotHeader, 100, 2)
		blocks, err := parseIndex(index, all)
		end := int64(snapshotHeader)
		if err == nil {
			for _, b := range blocks {
				if b.off != end {
					t.Fatalf("a block at %d, not %d", b.off, end)
				}
				end += b.size
			}
		}
		if err == nil && end != snapshotHeader+100 {
			t.Fatalf("blocks end at %d", end)
		}
		if parts, ok := parseRoot(index, 500); ok {
			end, at := int64(snapshotHeader), parts[0].off
			for i := range parts {
				p := &parts[i]
				if p.all.off != end || p.off != at || p.size < blockHeader || p.all.size < blockHeader {
					t.Fatalf("a part at %d of the blocks at %d, not %d and %d", p.off, p.all.off, at, end)
				}
				end, at = end+p.all.size, at+p.size
			}
			if end != parts[0].off || at != 500 {
				t.Fatalf("blocks end at %d, parts at %d", end, at)
			}
		}
		recs, err := parseBlock(block, nil)
		var again []byte
		for _, r := range recs {
			again = appendRecord(again, r.Key, r.Meta, r.Value)
		}
		if err == nil && len(again) > len(block) {
			t.Fatalf("%x decodes and encodes to %x", block, again)
		}
	})
}

func blockOf(off, size int64, count int) block { return block{off: off, size: size, count: count} }

// FuzzJournal: whatever is in a journal, the store opens and works.
func FuzzJournal(f *testing.F) {
	fs := faultfs.New()
	s, err := open("", Options{FS: fs, CompactAt: -1})
	if err != nil {
		f.Fatal(err)
	}
	put := func(key string) {
		err := s.Apply(context.Background(), func(yield func(store.Op, error) bool) {
			yield(store.Op{Kind: store.Put, Cache: "c", Key: []byte(key), Value: []byte("v")}, nil)
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	put("1")
	put("2")
	put("3")
	s.Close()
	journal := fs.Files()[journalName(1)]
	f.Add(journal, uint8(0))
	f.Add(append(bytes.Clone(journal), journal[journalHeader:]...), uint8(1))
	f.Add(journal[:len(journal)-1], uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, policy uint8) {
		fs := fs.Clone()
		fs.WriteFile(journalName(1), data)
		s, err := open("", Options{FS: fs, CompactAt: -1, Damage: Policy(policy % 3)})
		if err != nil {
			if errors.Is(err, store.ErrCorrupt) && policy%3 == uint8(Fail) || errors.Is(err, store.ErrFormat) {
				return
			}
			t.Fatal(err)
		}
		defer s.Close()
		read := func() (n int) {
			for r, err := range s.Load(t.Context(), "c") {
				if err != nil || string(r.Value) != "v" {
					t.Fatalf("%q, %v", r, err)
				}
				n++
			}
			return n
		}
		if n := len(s.caches); n > 0 {
			read()
		}
		err = s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
			yield(store.Op{Kind: store.Put, Cache: "c", Key: []byte("new"), Value: []byte("v")}, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
		n := read()
		if err := s.Compact(t.Context()); err != nil || read() != n {
			t.Fatalf("compact: %v", err)
		}
	})
}

// FuzzUnpack: what is not a compressed block is refused, and nothing gets more
// memory than its limit.
func FuzzUnpack(f *testing.F) {
	p := new(packer)
	for _, n := range []int{minPacked, 5000, 2 << 20} {
		if b, ok := p.pack(nil, bytes.Repeat([]byte("value "), n/6+1)); ok {
			f.Add(b)
			f.Add(b[:len(b)-1])
		}
	}
	f.Add(binary.AppendUvarint(nil, 1<<40))
	f.Add(append(binary.AppendUvarint(nil, 1<<20), 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := unpack(data, nil)
		if uint64(cap(out)) > unpackedLimit(len(data)) {
			t.Fatalf("%d bytes became %d", len(data), cap(out))
		}
		if err != nil {
			return
		}
		again, ok := p.pack(nil, out)
		if !ok {
			return
		}
		if back, err := unpack(again, nil); err != nil || !bytes.Equal(back, out) {
			t.Fatalf("%d bytes come back as %d: %v", len(out), len(back), err)
		}
	})
}

// FuzzSnapshotFile: whatever is in the file of a snapshot, what is read of it is
// what was written, or is not there, with a reason.
func FuzzSnapshotFile(f *testing.F) {
	fs := faultfs.New()
	const dir, name = "testdata/golden/v3/", "c2-3.snap"
	for _, file := range []string{"MANIFEST-6", "j-2.log", name} {
		data, err := os.ReadFile(dir + file)
		if err != nil {
			f.Fatal(err)
		}
		fs.WriteFile(file, data)
	}
	written := map[string]string{}
	s, err := open("", Options{FS: fs, CompactAt: -1, Damage: Salvage})
	if err != nil {
		f.Fatal(err)
	}
	for r, err := range s.Load(context.Background(), "long") {
		if err != nil {
			f.Fatal(err)
		}
		written[string(r.Key)] = string(r.Value)
	}
	s.Close()
	whole := fs.Files()[name]
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), whole[len(whole)-snapshotFooter:]...))
	f.Add(append(bytes.Clone(whole[:snapshotHeader]), whole...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := fs.Clone()
		fs.WriteFile(name, data)
		s, err := open("", Options{FS: fs, CompactAt: -1, Damage: Salvage})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		n, bad := 0, 0
		for r, err := range s.Load(t.Context(), "long") {
			switch {
			case errors.Is(err, store.ErrCorrupt):
				bad++
			case err != nil:
				t.Fatal(err)
			case written[string(r.Key)] != string(r.Value):
				t.Fatalf("%q has %q", r.Key, r.Value)
			default:
				n++
			}
		}
		if n < len(written) && bad == 0 {
			t.Fatalf("%d records of %d, without a reason", n, len(written))
		}
		for key, value := range written {
			r, err := s.Get(t.Context(), "long", []byte(key))
			if err == nil && string(r.Value) != value || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("Get(%q) = %q, %v", key, r.Value, err)
			}
		}
		if err := s.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		for fault, err := range s.Check(t.Context()) {
			t.Fatal("after Repair:", fault, err)
		}
	})
}

// FuzzChunk: bytes that are taken for a chunk are one: it is as long as it says,
// and sealing it gives the same bytes.
func FuzzChunk(f *testing.F) {
	sealed := func(payload string, flags uint32) []byte {
		b := append(make([]byte, chunkHeader), payload...)
		chunk{flags: flags, journal: 7, frame: 8, salt: 9, no: 1}.seal(b)
		return b
	}
	f.Add(sealed("", flagCommit), false)
	f.Add(append(sealed("payload", 0), "more"...), false)
	f.Add(sealed("payload", flagCommit)[:45], true)
	f.Add(bytes.Repeat([]byte{255}, chunkHeader), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= chunkHeader { // to get beyond the checksum
			le.PutUint32(b, chunkMagic)
			if n := le.Uint32(b[8:]); uint64(n) <= uint64(len(b)-chunkHeader) {
				le.PutUint32(b[4:], checksum(b[8:chunkHeader+int(n)]))
			}
		}
		c, payload, ok := parseChunk(b)
		if !ok {
			return
		}
		again := append(make([]byte, chunkHeader), payload...)
		c.seal(again)
		if !bytes.HasPrefix(b, again) || int(c.size) != len(payload) {
			t.Fatalf("%+v of %x", c, b)
		}
	})
}

// FuzzFooter: whatever an index and a footer say, under a right checksum, is refused
// or leads to blocks that lie in the file one after the other.
func FuzzFooter(f *testing.F) {
	f.Add(appendBytes(appendUvarints(nil, 100, 2), "k"), uint64(snapshotHeader+100), uint64(2))
	f.Add([]byte{}, uint64(snapshotHeader), uint64(0))
	f.Add([]byte{255}, uint64(1)<<63, uint64(1)<<63)
	f.Fuzz(func(t *testing.T, index []byte, at, total uint64) {
		const blocks = 100
		file := make([]byte, snapshotHeader+blocks)
		file = append(append(file, make([]byte, blockHeader)...), index...)
		putBlockHeader(file[snapshotHeader+blocks:], indexMagic, 0, 5, snapshotHeader+blocks)
		end := len(file)
		file = append(file, make([]byte, snapshotFooter)...)
		le.PutUint64(file[end+blockHeader:], at)
		le.PutUint64(file[end+blockHeader+8:], total)
		putBlockHeader(file[end:], footerMagic, 0, 5, int64(end))
		fs := faultfs.New()
		fs.WriteFile("c1-1.snap", file)
		x := openSnapshot(fs, &manifestCache{name: "c", id: 1, gen: 1, tag: 5, size: int64(len(file))})
		defer x.unpin()
		found, err := x.blocks()
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		off := int64(snapshotHeader)
		for _, b := range found {
			if b.off != off {
				t.Fatalf("a block at %d, not %d", b.off, off)
			}
			off += b.size
			if _, err := x.load(b, nil); err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		if off != snapshotHeader+blocks {
			t.Fatalf("blocks end at %d", off)
		}
	})
}

// FuzzHolder: whatever is in HOLDER, the store opens, and whoever comes second is
// told that it is locked.
func FuzzHolder(f *testing.F) {
	f.Add([]byte(`{"pid":1,"host":"h","since":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"pid":"x"}`))
	f.Add(bytes.Repeat([]byte("["), 5000))
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := faultfs.New()
		fs.WriteFile(holderName, data)
		s, err := open("", Options{FS: fs, CompactAt: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fs.WriteFile(holderName, data)
		_, err = open("", Options{FS: fs, CompactAt: -1})
		var locked *store.LockedError
		if !errors.As(err, &locked) || len(locked.Host) > 2000 {
			t.Fatal(err)
		}
	})
}
