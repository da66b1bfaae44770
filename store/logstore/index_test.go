package logstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
)

// indexedFile is a snapshot of n empty blocks, whose keys are odd numbers, with an index; damage
// is done to what comes after the blocks, of which there are some bytes.
func indexedFile(t *testing.T, n int, pad string, damage func(index []byte)) (x *snapshot, blocks []block) {
	t.Helper()
	file := make([]byte, snapshotHeader)
	var w indexWriter
	for i := range n {
		size := blockHeader + i%100
		first := fmt.Appendf(nil, "%05d%s", 2*i+1, pad)
		w.add(size, 1, first)
		blocks = append(blocks, block{off: int64(len(file)), size: int64(size), count: 1, first: first})
		file = append(file, make([]byte, size)...)
	}
	end := len(file)
	file = w.append(file, int64(end), 5, uint64(n))
	damage(file[end:])
	fs := faultfs.New()
	fs.WriteFile("c1-1.snap", file)
	x = openSnapshot(fs, &manifestCache{name: "c", id: 1, gen: 1, tag: 5, size: int64(len(file)), records: uint64(n)})
	t.Cleanup(x.unpin)
	return x, blocks
}

// The block of a key is found in an index of any length, of one part and of many.
func TestIndexSearch(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 7, 300, 1500} {
		for _, pad := range []string{"", strings.Repeat("x", 1000)} {
			x, want := indexedFile(t, n, pad, func([]byte) {})
			for k := range 2*n + 2 {
				key := fmt.Appendf(nil, "%05d%s", k, pad)
				b, i, err := x.search(key)
				if err != nil {
					t.Fatal(err)
				}
				if at := min((k+1)/2, n) - 1; (i < 0) != (at < 0) || at >= 0 && fmt.Sprint(b) != fmt.Sprint(want[at]) {
					t.Fatalf("of %d blocks, key %d is in %+v, number %d", n, k, b, i)
				}
			}
			all, err := x.blocks()
			if err != nil || len(all) != n || n > 0 && fmt.Sprint(all) != fmt.Sprint(want) {
				t.Fatalf("%d blocks, %v, of %d", len(all), err, n)
			}
			index, err := x.find()
			if err != nil || (len(index.parts) > 1) != (n*(len(pad)+8) > indexTarget+len(pad)+8) {
				t.Fatalf("%d blocks are in %d parts, %v", n, len(index.parts), err)
			}
		}
	}
}

// Damage to a part of the index concerns the blocks of that, and no others; no bit of it
// can change without being noticed.
func TestIndexDamaged(t *testing.T) {
	t.Parallel()
	const n = 1200
	size := 0
	whole, _ := indexedFile(t, n, "", func(b []byte) { size = len(b) })
	index, err := whole.find()
	if err != nil || len(index.parts) < 3 {
		t.Fatal(len(index.parts), err)
	}
	roots := 0
	for bit := 0; bit < 8*size; bit += 211 {
		x, want := indexedFile(t, n, "", func(b []byte) { b[bit/8] ^= 1 << (bit % 8) })
		all, err := x.blocks()
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			roots++
			continue
		}
		lost, records := 0, 0
		for _, b := range all {
			records += b.count
			if b.lost == nil {
				continue
			}
			lost += b.count
			if _, err := x.load(b, nil); !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		failed := 0
		for _, b := range want {
			if found, _, err := x.search(b.first); errors.Is(err, store.ErrCorrupt) {
				failed++
			} else if err != nil || fmt.Sprint(found) != fmt.Sprint(b) {
				t.Fatal(found, err)
			}
		}
		if lost == 0 || lost > n/2 || failed != lost || records != n {
			t.Fatalf("bit %d: %d of %d blocks were lost, %d of %d reads failed", bit, lost, records, failed, n)
		}
	}
	if end := whole.size - index.off; roots == 0 || int64(roots) > end*8/211/2 {
		t.Fatalf("all was lost %d times", roots)
	}
}

// A part of an index that is not what the root says makes no sense.
func TestIndexDisagrees(t *testing.T) {
	t.Parallel()
	var w indexWriter
	w.add(100, 2, []byte("a"))
	w.add(200, 3, []byte("b"))
	p := w.parts[0]
	all := block{off: snapshotHeader, size: 300, count: 5, first: []byte("a")}
	if blocks, err := parseIndex(p.payload, all); err != nil || len(blocks) != 2 {
		t.Fatal(blocks, err)
	}
	for name, change := range map[string]func(b *block){
		"longer":       func(b *block) { b.size++ },
		"shorter":      func(b *block) { b.size-- },
		"more records": func(b *block) { b.count++ },
		"less records": func(b *block) { b.count-- },
		"other key":    func(b *block) { b.first = []byte("b") },
	} {
		b := all
		change(&b)
		if blocks, err := parseIndex(p.payload, b); err == nil {
			t.Errorf("%s: %v", name, blocks)
		}
	}
}
