package cacheman

import (
	"math"
	"runtime"
	"testing"
)

// TestSmallCacheAllocates: a cache of a few entries does not hold room for many, as it would if what
// is loaded were always allocated by the hundred.
func TestSmallCacheAllocates(t *testing.T) {
	dir := t.TempDir()
	load := func(n int) *Cache[int, int] {
		m := openDir(t, dir, Options{})
		in, sum, _ := sums(t, m, false)
		for i := range n {
			ok(t, in.Set(i, i))
			must(sum.Get(t.Context(), i))
		}
		ok(t, sum.Load(t.Context()))
		return sum
	}
	sum := load(10)
	ok(t, sum.m.Close())
	sum = load(0)
	table := sum.table.Load()
	equal(t, "entries", table.shards[0].live, 10)
	if room := cap(table.spare); room > 10 {
		t.Errorf("room for %d more entries stays allocated", room)
	}
	ok(t, sum.m.Close())

	// Nodes and what they keep cannot be seen from here, but the bytes: 256 nodes alone have 24 KiB.
	least := uint64(math.MaxUint64)
	for range 5 {
		m := openDir(t, dir, Options{})
		_, sum, _ := sums(t, m, false)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ok(t, sum.Load(t.Context()))
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
		ok(t, m.Close())
	}
	t.Logf("to load them takes %d bytes", least)
	if least > 20<<10 {
		t.Errorf("to load 10 entries takes %d bytes", least)
	}
}
