package cacheman

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// What is here is about results that are right and cannot be kept.

// volatileFrom is what a builder calls whose result cannot be kept if v is from on.
func volatileFrom(ctx context.Context, v, from int) {
	if v >= from {
		ExpireAt(ctx, time.Now().Add(-time.Hour))
	}
}

// TestBecomesVolatile: what a builder that is running has read cannot be kept any more.
// It begins again, is told once, and is not kept either.
func TestBecomesVolatile(t *testing.T) {
	for name, kind := range map[string]struct{ whole, each bool }{
		"an entry":                          {each: true},
		"contents as a whole":               {whole: true},
		"contents as a whole and a builder": {whole: true, each: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := must(Open("", Options{Store: newDisk(), Observe: func(e Event) {
				if e.Kind == EventBuildFailed {
					t.Error(e.Err)
				}
			}}))
			defer m.Close()
			in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}}))
			runs := 0
			build := func(ctx context.Context) (int, error) {
				if runs++; runs > 10 {
					return 0, errPlanned // for ever, else
				}
				v, err := in.Get(ctx, 1)
				volatileFrom(ctx, v, 2)
				return v, err
			}
			var spec Spec[int, int]
			if kind.each {
				spec.Build = func(ctx context.Context, _ int) (int, error) { return build(ctx) }
			}
			if kind.whole {
				spec.BuildAll = func(ctx context.Context) (map[int]int, error) {
					v, err := build(ctx)
					return map[int]int{1: v}, err
				}
			}
			b := must(Register(m, "b", spec))
			began, end := make(chan struct{}), make(chan struct{})
			first := true
			c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				v, err := b.Get(ctx, 1)
				if first {
					first = false
					close(began)
					<-end
				}
				w, _ := in.Get(ctx, 2)
				return 10*v + w, err
			}}))
			got := make(chan int)
			go func() {
				v, err := c.Get(context.Background(), 1)
				if err != nil {
					t.Error(err)
				}
				got <- v
			}()
			<-began
			ok(t, in.Set(1, 2))
			close(end)
			equal(t, "value", <-got, 21)
			equal(t, "runs of b", runs, 2)
			equal(t, "value", must(c.Get(t.Context(), 1)), 21)
			equal(t, "runs of b after it was asked for again", runs, 3)
		})
	}
}

// TestVolatileContents: what BuildAll makes and cannot be kept is there for who asks for
// it, with what was set; and nobody takes what was there before for it.
func TestVolatileContents(t *testing.T) {
	for name, build := range map[string]func(context.Context, int) (int, error){
		"BuildAll":           nil,
		"BuildAll and Build": func(_ context.Context, k int) (int, error) { return -k, nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 5}}))
			runs := 0
			c := must(Register(m, "c", Spec[int, int]{Build: build, BuildAll: func(ctx context.Context) (map[int]int, error) {
				runs++
				v, err := in.Get(ctx, 1)
				volatileFrom(ctx, v, 5)
				all := make(map[int]int)
				for k := range v {
					all[k] = v
				}
				return all, err
			}}))
			sum := must(Register(m, "sum", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (sum int, err error) {
				all, err := c.Collect(ctx)
				n, err2 := c.Count(ctx)
				has, err3 := c.Contains(ctx, 3)
				for _, v := range all {
					sum += v
				}
				if has {
					sum += 10000
				}
				return sum + 100*n, errors.Join(err, err2, err3)
			}}))
			check := func(want map[int]int) {
				t.Helper()
				all, err := c.Collect(t.Context())
				if err != nil || !maps.Equal(all, want) {
					t.Errorf("Collect: %v, %v; want %v", all, err, want)
				}
				keys, err := c.CollectKeys(t.Context())
				if want := slices.Sorted(maps.Keys(want)); err != nil || !slices.Equal(keys, want) {
					t.Errorf("CollectKeys: %v, %v; want %v", keys, err, want)
				}
				n, err := c.Count(t.Context())
				if err != nil || n != len(want) {
					t.Errorf("Count: %v, %v; want %v", n, err, len(want))
				}
				total := 100 * len(want)
				for k, v := range want {
					total += v
					if got, err := c.Get(t.Context(), k); err != nil || got != v {
						t.Errorf("Get(%d): %v, %v; want %v", k, got, err, v)
					}
				}
				if _, has := want[3]; has || build != nil {
					total += 10000
				}
				equal(t, "sum", must(sum.Get(t.Context(), Single{})), total)
			}
			check(map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5})
			ok(t, c.Set(9, 7))
			check(map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5, 9: 7})
			ok(t, c.Delete(9))
			ok(t, in.Set(1, 2))
			if build != nil {
				return // what was built one by one stays
			}
			check(map[int]int{0: 2, 1: 2})
			kept := runs
			check(map[int]int{0: 2, 1: 2})
			equal(t, "runs for what is kept", runs-kept, 0)
			ok(t, in.Set(1, 6))
			check(map[int]int{0: 6, 1: 6, 2: 6, 3: 6, 4: 6, 5: 6})
		})
	}
}
