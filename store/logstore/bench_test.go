package logstore_test

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Records of the benchmarks: keys of 16 bytes in random order, values of 100, of
// which half are random.
const (
	benchRecords = 1_000_000
	benchBytes   = benchRecords * 116
)

func benchOps(n int) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		rng := rand.New(rand.NewPCG(1, 2))
		op := store.Op{Kind: store.Put, Cache: "bench", Key: make([]byte, 16), Value: make([]byte, 100)}
		for range n {
			binary.LittleEndian.PutUint64(op.Key, rng.Uint64())
			binary.LittleEndian.PutUint64(op.Key[8:], rng.Uint64())
			for i := 0; i < 48; i += 8 {
				binary.LittleEndian.PutUint64(op.Value[i:], rng.Uint64())
			}
			if !yield(op, nil) {
				return
			}
		}
	}
}

func openBench(b *testing.B, dir string) *logstore.Store {
	b.Helper()
	s, err := logstore.Open(dir, logstore.Options{CompactAt: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func applyBench(b *testing.B, s *logstore.Store, n int) {
	b.Helper()
	if err := s.Apply(b.Context(), benchOps(n)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkApplyMillion/floor writes and syncs the same bytes.
func BenchmarkApplyMillion(b *testing.B) {
	b.Run("logstore", func(b *testing.B) {
		b.SetBytes(benchBytes)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			dir := b.TempDir()
			s := openBench(b, dir)
			b.StartTimer()
			applyBench(b, s, benchRecords)
			b.StopTimer()
			s.Close()
			os.RemoveAll(dir)
			b.StartTimer()
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.SetBytes(benchBytes)
		buf := make([]byte, 1<<20)
		for b.Loop() {
			b.StopTimer()
			f, err := os.Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			for n := 0; n < benchBytes; n += len(buf) {
				if _, err := f.Write(buf[:min(len(buf), benchBytes-n)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			f.Close()
			os.Remove(f.Name())
			b.StartTimer()
		}
	})
}

// BenchmarkApply/floor appends and syncs as many bytes.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("logstore/%d", n), func(b *testing.B) {
			s := openBench(b, b.TempDir())
			b.ReportAllocs()
			for b.Loop() {
				applyBench(b, s, n)
			}
		})
		b.Run(fmt.Sprintf("floor/%d", n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			buf := make([]byte, 48+120*n)
			for b.Loop() {
				if _, err := f.Write(buf); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead reads a million records, from the journal and from a snapshot.
func BenchmarkRead(b *testing.B) {
	for _, where := range []string{"journal", "snapshot"} {
		dir := b.TempDir()
		s := openBench(b, dir)
		applyBench(b, s, benchRecords)
		if where == "snapshot" {
			if err := s.Compact(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(where+"/load", func(b *testing.B) {
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for r, err := range s.Load(b.Context(), "bench") {
					if err != nil {
						b.Fatal(err)
					}
					n += len(r.Key) / 16
				}
				if n != benchRecords {
					b.Fatal(n)
				}
			}
		})
		b.Run(where+"/get", func(b *testing.B) {
			var keys [][]byte
			for op := range benchOps(1000) {
				keys = append(keys, append([]byte(nil), op.Key...))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := s.Get(b.Context(), "bench", keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
		s.Close()
		b.Run(where+"/open", func(b *testing.B) {
			for b.Loop() {
				s, err := logstore.Open(dir, logstore.Options{CompactAt: -1})
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}

// BenchmarkCompactMillion merges a journal of a million records.
func BenchmarkCompactMillion(b *testing.B) {
	b.SetBytes(benchBytes)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		s := openBench(b, dir)
		applyBench(b, s, benchRecords)
		b.StartTimer()
		if err := s.Compact(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
