package logstore

import (
	"fmt"
	"testing"
)

// The block of a key is found in an index of any length, with and without
// making blocks of all entries.
func TestIndexSearch(t *testing.T) {
	t.Parallel()
	for n := range 5 * markEvery {
		var raw []byte
		end := int64(snapshotHeader)
		for i := range n {
			raw = appendIndex(raw, 100+i, 1, fmt.Appendf(nil, "%03d", 2*i+1))
			end += int64(100 + i)
		}
		x, err := parseIndex(raw, end)
		if err != nil {
			t.Fatal(err)
		}
		all := x.blocks()
		if len(all) != n || x.n != n {
			t.Fatalf("%d blocks, and %d, not %d", x.n, len(all), n)
		}
		for k := range 2*n + 2 {
			b, number := x.search(fmt.Appendf(nil, "%03d", k))
			if number != (k+1)/2-1 && !(k > 2*n && number == n-1) {
				t.Fatalf("of %d blocks, key %d is in number %d", n, k, number)
			}
			if number >= 0 && (b.off != all[number].off || b.size != all[number].size || b.count != 1) {
				t.Fatalf("of %d blocks, key %d is in %+v, not %+v", n, k, b, all[number])
			}
		}
		for _, off := range []int64{end - 1, end + 1} {
			if _, err := parseIndex(raw, off); err == nil {
				t.Fatalf("%d blocks that end at %d", n, off)
			}
		}
	}
}
