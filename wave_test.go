package cacheman

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// waves is what the tests of waves need: inputs, entries that are inputs divided by ten, and
// in layers above them entries that add up two of the layer below.
type waves struct {
	*testing.T
	m                *Manager
	in, tenth, above *Cache[int, int]
	built            map[string]int
}

const (
	wavesWide = 40
	wavesDeep = 10
)

func newWaves(t *testing.T) *waves {
	w := &waves{T: t, m: newManager(t), built: make(map[string]int)}
	w.in = must(Register(w.m, "in", Spec[int, int]{}))
	w.tenth = must(Register(w.m, "tenth", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		w.built["tenth"]++
		n, err := w.in.Get(ctx, k)
		return n / 10, err
	}}))
	w.above = must(Register(w.m, "above", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		w.built["above"]++
		below := w.tenth
		if k >= wavesWide {
			below = w.above
		}
		var sum int
		for _, on := range [...]int{k % wavesWide, (k + 1) % wavesWide} {
			if k >= wavesWide {
				on += k - k%wavesWide - wavesWide
			}
			n, err := below.Get(ctx, on)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum % 1000, nil
	}}))
	for k := range wavesWide {
		ok(t, w.in.Set(k, 10*k))
	}
	ok(t, w.m.Build(t.Context(), All(), nil))
	w.read(t, wavesDeep*wavesWide)
	return w
}

// read gets all entries up to the given one, and compares them with what they are without any cache.
func (w *waves) read(t *testing.T, all int) {
	t.Helper()
	var below [wavesWide]int
	for k := range below {
		below[k] = must(w.in.Get(t.Context(), k)) / 10
	}
	for k := 0; k < all; k += wavesWide {
		var layer [wavesWide]int
		for i := range layer {
			layer[i] = (below[i] + below[(i+1)%wavesWide]) % 1000
			equal(t, "above", must(w.above.Get(t.Context(), k+i)), layer[i])
		}
		below = layer
	}
}

// set sets inputs, one after the other.
func (w *waves) set(all ...[2]int) {
	w.Helper()
	for _, kv := range all {
		ok(w.T, w.in.Set(kv[0], kv[1]))
	}
}

// ran returns how often builders have run since it was called last.
func (w *waves) ran() (tenth, above int) {
	tenth, above = w.built["tenth"], w.built["above"]
	clear(w.built)
	return tenth, above
}

// clean returns how many entries above are clean, as far as that is known without reading any.
func (w *waves) clean() (n int) {
	for k := range wavesDeep * wavesWide {
		if w.above.Explain(k).State == Clean {
			n++
		}
	}
	return n
}

// TestChangeThatComesToNothing: as soon as all that has read what changed is known to be what it
// was, all that lies above is clean, without having been looked at; and a later change still gets there.
func TestChangeThatComesToNothing(t *testing.T) {
	t.Parallel()
	w := newWaves(t)
	w.ran()
	ok(t, w.in.Set(3, 31))
	equal(t, "clean after the change", w.clean(), wavesDeep*wavesWide-2-3-4-5-6-7-8-9-10-11)
	must(w.tenth.Get(t.Context(), 3))
	equal(t, "clean after it came to nothing", w.clean(), wavesDeep*wavesWide)
	tenth, above := w.ran()
	equal(t, "builders", [2]int{tenth, above}, [2]int{1, 0})

	ok(t, w.in.Set(3, 50)) // nothing has been read meanwhile
	w.read(t, wavesDeep*wavesWide)
	tenth, above = w.ran()
	equal(t, "builders", [2]int{tenth, above}, [2]int{1, 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11})
}

// TestChangesThatMeet: several inputs are changed before anything is read.
func TestChangesThatMeet(t *testing.T) {
	t.Parallel()
	w := newWaves(t)
	w.ran()
	w.set([2]int{3, 31}, [2]int{3, 32}, [2]int{5, 53}, [2]int{20, 204})
	must(w.tenth.Get(t.Context(), 3))
	must(w.tenth.Get(t.Context(), 20))
	if n := w.clean(); n == wavesDeep*wavesWide {
		t.Errorf("all are clean, and one that was read has yet to be looked at")
	}
	must(w.tenth.Get(t.Context(), 5))
	equal(t, "clean", w.clean(), wavesDeep*wavesWide)
	w.ran()

	w.set([2]int{3, 33}, [2]int{4, 52}, [2]int{5, 54}) // the second comes out otherwise
	must(w.tenth.Get(t.Context(), 3))
	must(w.tenth.Get(t.Context(), 5))
	must(w.tenth.Get(t.Context(), 4))
	w.read(t, wavesDeep*wavesWide)
	tenth, above := w.ran()
	equal(t, "builders", [2]int{tenth, above}, [2]int{3, 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11})
}

// TestChangeThatComesToNothingLater: what has read the change comes out otherwise, but not what has
// read that.
func TestChangeThatComesToNothingLater(t *testing.T) {
	t.Parallel()
	w := newWaves(t)
	even := must(Register(w.m, "even", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) {
		n, err := w.tenth.Get(ctx, k)
		return n%2 == 0, err
	}}))
	both := must(Register(w.m, "both", Spec[int, bool]{Build: func(ctx context.Context, k int) (bool, error) {
		a, errA := even.Get(ctx, k)
		b, errB := even.Get(ctx, k+1)
		return a && b, errors.Join(errA, errB)
	}}))
	for k := range 3 {
		equal(t, "both are even", must(both.Get(t.Context(), k)), false)
	}
	ok(t, w.in.Set(1, 37))
	must(even.Get(t.Context(), 1))
	equal(t, "while something else has to be looked at", fmt.Sprint(both.Explain(0).State, both.Explain(1).State), fmt.Sprint(Check, Check))
	w.read(t, wavesDeep*wavesWide)
	equal(t, "in the end", fmt.Sprint(both.Explain(0).State, both.Explain(1).State), fmt.Sprint(Clean, Clean))

	ok(t, w.in.Set(1, 20))
	equal(t, "after another change", [2]bool{must(both.Get(t.Context(), 0)), must(both.Get(t.Context(), 1))}, [2]bool{true, true})
}

// TestWaveWhileSetByHand: what is set, invalidated or deleted on the way of a change changes what lies
// above, although what it was built from has not changed.
func TestWaveWhileSetByHand(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(w *waves) error{
		"set":        func(w *waves) error { return w.above.Set(3, 900) },
		"invalidate": func(w *waves) error { return w.above.Invalidate(3) },
		"delete":     func(w *waves) error { return w.above.Delete(3) },
		"clear":      func(w *waves) error { return w.above.Clear() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, first := range []bool{false, true} {
				w := newWaves(t)
				if first {
					ok(t, do(w))
				}
				ok(t, w.in.Set(3, 31))
				if !first {
					ok(t, do(w))
				}
				must(w.tenth.Get(t.Context(), 3)) // the same
				for k := wavesDeep*wavesWide - 1; k >= wavesWide; k-- {
					must(w.above.Get(t.Context(), k))
				}
				at := wavesWide + 3 // which reads 3
				equal(t, "what has read it", must(w.above.Get(t.Context(), at)), (must(w.above.Get(t.Context(), 3))+must(w.above.Get(t.Context(), 4)))%1000)
			}
		})
	}
}

// TestWaveOfLongList: a list of readers of which few were clean is emptied when it is followed, so those
// few do not become clean without being looked at, which would leave them out of it.
func TestWaveOfLongList(t *testing.T) {
	t.Parallel()
	w := newWaves(t)
	copied := must(Register(w.m, "copied", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return w.tenth.Get(ctx, 1) }}))
	for k := range 100 {
		equal(t, "copied", must(copied.Get(t.Context(), k)), 1)
	}
	for n := range 5 {
		ok(t, w.in.Set(1, 10*n+20))
		for k := range 10 {
			equal(t, "copied again", must(copied.Get(t.Context(), k)), n+2)
		}
		ok(t, w.in.Set(1, 10*n+21))
		must(w.tenth.Get(t.Context(), 1))
	}
}
