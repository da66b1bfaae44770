package logstore

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A table with random additions and truncations, against the list of all that
// was added. All hashes are equal in one round, so that slots collide.
func TestTable(t *testing.T) {
	t.Parallel()
	for round := range uint64(60) {
		rng := rand.New(rand.NewPCG(round, 4))
		hash := func(key []byte) uint32 { return hashOf(key) >> (round % 33) }
		tab := &table{chunks: []chunkRef{{}}}
		var added []string
		for range 400 {
			if rng.IntN(20) == 0 {
				n := len(added) - rng.IntN(min(len(added)+1, 60))
				tab.truncate(uint32(n))
				added = added[:n]
				if n == 0 {
					tab.chunks = []chunkRef{{}}
				}
				continue
			}
			key := fmt.Sprint(rng.IntN(50))
			tab.add([]byte(key), hash([]byte(key)), uint32(len(added)))
			added = append(added, key)
		}
		for n := 0; n <= len(added); n += 1 + rng.IntN(20) {
			newest := map[string]uint32{}
			for i, key := range added[:n] {
				newest[key] = uint32(i)
			}
			for k := range 50 {
				key := fmt.Append(nil, k)
				e := tab.find(key, hash(key), uint32(n))
				i, ok := newest[string(key)]
				if (e != nil) != ok || e != nil && (e.off != i || string(tab.keyOf(e)) != string(key)) {
					t.Fatalf("round %d: find(%s, %d) = %+v, want %d, %v", round, key, n, e, i, ok)
				}
				if ok && !tab.newestOf(i, uint32(n)) {
					t.Fatalf("round %d: entry %d of %d is not the newest", round, i, n)
				}
			}
		}
	}
}

func TestTableMemory(t *testing.T) {
	const n = 1 << 20
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tab := &table{chunks: []chunkRef{{}}}
			var key [16]byte
			for i := range n {
				le.PutUint64(key[:], uint64(i))
				tab.add(key[:], hashOf(key[:]), 0)
			}
			live := cap(tab.slots)*8 + len(tab.pages)*pageSize*32 + len(tab.keys)*slabSize
			b.ReportMetric(float64(live)/n-16, "B/record")
		}
	})
	if per := r.Extra["B/record"]; per > 60 {
		t.Errorf("%.1f bytes for each record beyond its key", per)
	}
}
