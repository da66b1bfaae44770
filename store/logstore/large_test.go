package logstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// noise returns n bytes, of which half do not compress.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n/2; i += 8 {
		copy(b[i:], fmt.Appendf(nil, "%08x", rng.Uint32()))
	}
	return b
}

// TestCompactSizes: a compaction copies what has not changed as it is, takes the rest apart, and
// reads and packs large records one at a time. Whatever their sizes and wherever the changes
// are, the store has what was put into it.
func TestCompactSizes(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 50, 1000, 10_000, 16 << 10, 32 << 10, 33 << 10, 100_000, 8*32<<10 - 10, 8*32<<10 - 2, 8 * 32 << 10, 300_000, 1 << 20, 2 << 20}
	longKey := strings.Repeat("key", 1<<19)
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := faultfs.New()
		model := map[string][]byte{}
		for round := range 12 {
			opts := quiet(fs)
			opts.CompactAt, opts.Damage, opts.Uncompressed = -1, logstore.Fail, rng.IntN(4) == 0
			s := open(t, opts)
			for range rng.IntN(3) {
				var ops []store.Op
				near := rng.IntN(1000)
				for range rng.IntN(1 + 20<<rng.IntN(4)) {
					k := rng.IntN(1000)
					if rng.IntN(2) == 0 {
						k = near + rng.IntN(10)
					}
					key := fmt.Sprintf("%05d", k)
					if rng.IntN(3) == 0 {
						ops = append(ops, store.Op{Kind: store.Delete, Cache: "a", Key: []byte(key)})
						delete(model, key)
						continue
					}
					size := sizes[min(rng.IntN(len(sizes)), rng.IntN(len(sizes)))]
					op := put("a", key, string(noise(rng, size)))
					op.Meta = []byte("meta")
					ops = append(ops, op)
					model[key] = op.Value
				}
				apply(t, s, ops...)
			}
			switch round {
			case 4:
				model[longKey] = []byte("x")
				op := put("a", longKey, "x")
				op.Meta = []byte("meta")
				apply(t, s, op)
			case 8:
				delete(model, longKey)
				apply(t, s, store.Op{Kind: store.Delete, Cache: "a", Key: []byte(longKey)})
			}
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			var keys []string
			for r, err := range s.Load(t.Context(), "a") {
				if errors.Is(err, store.ErrNotFound) {
					break // nothing was put into it yet
				}
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, string(r.Key))
				if !bytes.Equal(r.Value, model[string(r.Key)]) || string(r.Meta) != "meta" {
					t.Fatalf("seed %d: %s has %d bytes and meta %q, instead of %d", seed, r.Key, len(r.Value), r.Meta, len(model[string(r.Key)]))
				}
			}
			if want := slices.Sorted(maps.Keys(model)); !slices.Equal(keys, want) {
				t.Fatalf("seed %d: there are %d records, instead of %d", seed, len(keys), len(want))
			}
			for _, key := range keys {
				if r, err := s.Get(t.Context(), "a", []byte(key)); err != nil || !bytes.Equal(r.Value, model[key]) {
					t.Fatalf("seed %d: Get of %s gives %d bytes, %v", seed, key, len(r.Value), err)
				}
			}
			s.Close()
			for fault, err := range logstore.Check(t.Context(), "", opts) {
				t.Fatal(seed, fault, err)
			}
		}
	}
}

// TestCompactLargeAllocates: a compaction needs memory for a few large records, however many there are.
func TestCompactLargeAllocates(t *testing.T) {
	const n, size = 60, 1<<20 + 1000
	rng := rand.New(rand.NewPCG(1, 2))
	s, err := logstore.Open(t.TempDir(), logstore.Options{CompactAt: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ops []store.Op
	for k := range n {
		ops = append(ops, put("a", fmt.Sprintf("%02d", k), string(noise(rng, size))))
	}
	for _, changed := range [][]store.Op{ops, ops[:1], ops[n-1:]} {
		apply(t, s, changed...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 20*size {
			t.Errorf("compacting %d changes of %d allocates %d bytes", len(changed), n, took)
		}
	}
}
