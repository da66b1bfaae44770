package cacheman

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestDeclaredDependentsGoFirst: nobody who has seen that a cache has changed sees then
// what declared dependents had before; however the change is made.
func TestDeclaredDependentsGoFirst(t *testing.T) {
	for name, change := range map[string]func(a *Cache[int, int], i int) error{
		"Set": func(a *Cache[int, int], i int) error { return a.Set(1, i) },
		"Batch": func(a *Cache[int, int], i int) error {
			return a.m.Batch(func(b *Batch) error { a.SetIn(b, 1, i); return nil })
		},
		"Delete":        func(a *Cache[int, int], i int) error { return a.Delete(1) },
		"Clear":         func(a *Cache[int, int], i int) error { return a.Clear() },
		"InvalidateAll": func(a *Cache[int, int], i int) error { return a.InvalidateAll() },
		"Reload":        func(a *Cache[int, int], i int) error { return a.Reload(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			a := must(Register(m, "a", Spec[int, int]{Load: func(context.Context) (map[int]int, error) { return nil, nil }}))
			d := must(Register(m, "d", Spec[int, int]{Memory: true, DependsOnChange: []string{"a"}}))
			e := must(Register(m, "e", Spec[int, int]{Memory: true, DependsOn: []string{"d"}}))
			const rounds = 5000
			var changing atomic.Int64 // the number of the round, while a is changed in it
			go func() {
				defer changing.Store(rounds)
				for i := range rounds {
					changing.Store(0)
					err := errors.Join(a.Set(1, -i), d.Set(1, i), e.Set(1, i))
					changing.Store(int64(i))
					if err = errors.Join(err, change(a, i)); err != nil {
						t.Error(err)
					}
				}
			}()
			for i := int64(0); i < rounds; i = changing.Load() {
				if v, _ := a.Peek(1); i == 0 || v == int(-i) {
					continue // not yet
				}
				for name, c := range map[string]*Cache[int, int]{"d": d, "e": e} {
					if w, ok := c.Peek(1); ok && changing.Load() == i {
						t.Errorf("a has changed, and %s is still %d", name, w)
					}
				}
			}
		})
	}
}

// TestDeclaredDependentsAreBuiltOfWhatIs: a BuildAll that begins while what it depends on
// is being changed, and has seen what was there before, is not kept.
func TestDeclaredDependentsAreBuiltOfWhatIs(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Memory: true}))
	top := in
	for i := range 8 {
		below := top
		top = must(Register(m, string(rune('a'+i)), Spec[int, int]{
			Memory:          true,
			DependsOnChange: []string{below.Name()},
			BuildAll: func(context.Context) (map[int]int, error) { // tracks nothing
				v, _ := in.Peek(1)
				return map[int]int{1: v}, nil
			},
		}))
	}
	var stop atomic.Bool
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop.Store(true)
	reading.Go(func() {
		for !stop.Load() {
			top.Get(context.Background(), 1)
		}
	})
	for i := range 3000 {
		ok(t, in.Clear())
		equal(t, "built of what was cleared", must(top.Get(t.Context(), 1)), 0)
		ok(t, in.Set(1, i))
		equal(t, "built of what was set", must(top.Get(t.Context(), 1)), i)
	}
}
