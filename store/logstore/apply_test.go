package logstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
)

// TestLargeFrames: what a frame of several mebibytes says goes into the tables while the
// rest of it comes in, and caches are cleared and dropped in the middle of that. Readers
// beside it see all of it or nothing, and of one that fails nothing is left.
func TestLargeFrames(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	s := open(t, quiet(faultfs.New()))
	now := state{}
	value := strings.Repeat("v", 200)
	frame := func(round int) (ops []store.Op) {
		for i := range 5_000 + rng.IntN(9_000) {
			cache, key := string('a'+rune(rng.IntN(2))), fmt.Sprint(rng.IntN(2000))
			switch n := rng.IntN(5000); {
			case n == 0:
				ops = append(ops, op(store.Clear, cache))
			case n == 1:
				ops = append(ops, op(store.Drop, cache))
			case n < 1000:
				ops = append(ops, del(cache, key))
			default:
				ops = append(ops, put(cache, key, fmt.Sprint(round, i, value)))
			}
		}
		// Whole frames are compared by readers through these two.
		return append(ops, put("a", "both", fmt.Sprint(round)), put("b", "both", fmt.Sprint(round)))
	}
	apply(t, s, put("a", "both", "0"), put("b", "both", "0"))
	now = now.after(put("a", "both", "0"), put("b", "both", "0"))

	done := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for last := ""; ; {
			select {
			case <-done:
				return
			default:
			}
			first, err := s.Get(t.Context(), "a", []byte("both"))
			if err != nil {
				t.Errorf("read beside a frame: %v", err)
				return
			}
			second, err := s.Get(t.Context(), "b", []byte("both"))
			if err != nil {
				t.Errorf("read beside a frame: %v", err)
				return
			}
			if string(second.Value) < string(first.Value) || string(first.Value) < last {
				t.Errorf("a read %s, b %s, and before that %s", first.Value, second.Value, last)
				return
			}
			last = string(second.Value)
		}
	})
	defer reading.Wait()
	defer close(done)
	rounds := 9 // of one digit
	if testing.Short() {
		rounds = 3
	}
	for round := 1; round <= rounds; round++ {
		for range 3 {
			stop := errors.New("stop")
			err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
				for _, o := range frame(round) {
					if !yield(o, nil) {
						return
					}
				}
				yield(store.Op{}, stop)
			})
			if err != stop {
				t.Fatalf("Apply: %v", err)
			}
		}
		ops := frame(round)
		apply(t, s, ops...)
		now = now.after(ops...)
		want(t, s, now)
	}
}
