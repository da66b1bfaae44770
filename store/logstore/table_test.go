package logstore

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// Tables with random additions and truncations, against the list of all that
// was added: with few keys, with keys whose hashes begin or end alike, or are the same,
// and with so many that segments are divided again and again.
func TestTable(t *testing.T) {
	t.Parallel()
	few, front, back, same, many := testKeys()
	for name, keys := range map[string][]string{"few": few, "front": front, "back": back, "same": same, "many": many} {
		for round := range uint64(20) {
			rng := rand.New(rand.NewPCG(round, 4))
			tab := &table{}
			var added []string
			for range 400 + 4*len(keys) {
				if rng.IntN(20) == 0 {
					n := len(added) - rng.IntN(min(len(added)+1, 60))
					tab.truncate(uint32(n))
					added = added[:n]
					continue
				}
				if ref := (chunkRef{off: int64(len(added))}); rng.IntN(4) == 0 || len(added) == 0 || len(tab.chunks) == 0 {
					tab.chunks = append(tab.chunks, span{ref, tab.n})
				}
				key := keys[rng.IntN(len(keys))]
				tab.add([]byte(key), hashOf([]byte(key)), uint32(len(added)))
				added = append(added, key)
			}
			last := map[string]bool{}
			for n := 0; n <= len(added); n += 1 + rng.IntN(20+len(added)/20) {
				newest := map[string]uint32{}
				for i, key := range added[:n] {
					newest[key] = uint32(i)
					last[key] = true
				}
				for _, key := range keys {
					e := tab.find([]byte(key), hashOf([]byte(key)), uint32(n))
					i, ok := newest[key]
					if !ok {
						i = none
					}
					if e != i || ok && (tab.at(e).off != i || string(tab.key(e)) != key) {
						t.Fatalf("%s %d: find(%s, %d) = %d, want %d", name, round, key, n, e, i)
					}
				}
				for i, key := range added[:n] {
					if want := newest[key] == uint32(i); tab.newestOf(uint32(i), uint32(n)) != want {
						t.Fatalf("%s %d: entry %d of %d is said to be the newest: %v", name, round, i, n, !want)
					}
				}
			}
			for i := range added {
				if p := tab.place(uint32(i)); p.off != uint32(i) || p.ref.off > int64(i) {
					t.Fatalf("%s %d: entry %d is said to be at %+v", name, round, i, p)
				}
			}
			for _, key := range added {
				last[key] = true
			}
			if tab.used != len(last) {
				t.Fatalf("%s %d: %d keys of %d", name, round, tab.used, len(last))
			}
		}
	}
}

// testKeys returns keys of which the first, the last or all bits of their hashes are
// those of another, beside many others of all lengths.
func testKeys() (few, front, back, same, many []string) {
	by := map[uint32]string{}
	for i := 0; len(same) < 4 || len(front) < 50 || len(back) < 50; i++ {
		key := fmt.Sprint(i)
		hash := hashOf([]byte(key))
		if other, ok := by[hash]; ok {
			same = append(same, other, key)
		}
		by[hash] = key
		switch {
		case i < 50:
			few = append(few, key)
		case hash>>20 == 7 && len(front) < 50:
			front = append(front, key)
		case hash<<20 == 7<<20 && len(back) < 50:
			back = append(back, key)
		case i < 6000:
			many = append(many, strings.Repeat(key, i%200))
		}
	}
	return few, front, back, same, many
}

// What there is of a table beside its keys; and nothing of it is left behind to be
// collected while it grows, but lists of its parts.
func TestTableMemory(t *testing.T) {
	const n = 1 << 20
	tab := &table{chunks: []span{{}}}
	var key [16]byte
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		le.PutUint64(key[:], uint64(i))
		tab.add(key[:], hashOf(key[:]), 0)
	}
	runtime.ReadMemStats(&after)
	live := len(tab.pages)*pageSize*int(unsafe.Sizeof(entry{})) + len(tab.keys)*slabSize
	for i, s := range tab.segments {
		if i == 0 || tab.segments[i-1] != s {
			live += len(s.slots) * int(unsafe.Sizeof(slot{}))
		}
	}
	all := after.TotalAlloc - before.TotalAlloc
	t.Logf("%.1f bytes for each, %.1f allocated", float64(live)/n, float64(all)/n)
	if per := float64(live)/n - 16; per > 30 {
		t.Errorf("%.1f bytes for each record beyond its key", per)
	}
	if float64(all) > 1.05*float64(live) {
		t.Errorf("%d bytes were allocated for %d", all, live)
	}
}
