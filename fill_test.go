package cacheman

import "testing"

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
	equal(t, "nodes at a time", together(10), 10)
	equal(t, "if nobody knows how many come", together(-1), 256)
}
