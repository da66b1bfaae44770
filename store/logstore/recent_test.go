package logstore_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
)

// Whoever reads single records next to each other reads each block once; a record
// that is a block by itself is not kept in memory.
func TestNeighboursAreReadOnce(t *testing.T) {
	fs, s, n := manyBlocks(t)
	huge := slices.Repeat([]byte("0123456789"), 20_000)
	apply(t, s, put("b", "huge", string(huge)))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, quiet(fs))
	reads := 0
	fs.Hook(func(_ int, op faultfs.Op, _ string) error {
		if op == faultfs.OpRead {
			reads++
		}
		return nil
	})
	get := func(cache, key string, want []byte) {
		t.Helper()
		r, err := s.Get(t.Context(), cache, []byte(key))
		if err != nil || !bytes.Equal(r.Value, want) {
			t.Fatalf("%s: %d bytes, %v", key, len(r.Value), err)
		}
	}
	const blocks = 400 * 2000 / (32 << 10)
	for i := range n {
		get("a", fmt.Sprintf("%03d", i), []byte(large[:2000]))
	}
	if reads < blocks || reads > 2*blocks {
		t.Errorf("%d records of about %d blocks took %d reads", n, blocks, reads)
	}
	reads = 0
	for i := n - 1; i > n/2; i-- {
		get("a", fmt.Sprintf("%03d", i), []byte(large[:2000]))
	}
	get("b", "huge", huge)
	if reads == 0 {
		t.Error("a huge record was not read from the file")
	}
	reads = 0
	get("b", "huge", huge)
	if reads != 1 {
		t.Errorf("a huge record took %d reads", reads)
	}
}
