package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
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

// upTo is a BuildAll that gives each key below in[1] that value. There is no keeping it
// from 5 on.
func upTo(in *Cache[int, int], runs *int) func(context.Context) (map[int]int, error) {
	return func(ctx context.Context) (map[int]int, error) {
		*runs++
		v, err := in.Get(ctx, 1)
		volatileFrom(ctx, v, 5)
		all := make(map[int]int)
		for k := range v {
			all[k] = v
		}
		return all, err
	}
}

// wantCollected checks what c has for who asks with a ctx.
func wantCollected(t *testing.T, c *Cache[int, int], want map[int]int) {
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
	for k, v := range want {
		if got, err := c.Get(t.Context(), k); err != nil || got != v {
			t.Errorf("Get(%d): %v, %v; want %v", k, got, err, v)
		}
	}
}

// TestVolatileContents: what BuildAll makes and cannot be kept is there for who asks for
// it, with what was set; and nobody takes what was there before for it.
func TestVolatileContents(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 5}}))
	runs := 0
	c := must(Register(m, "c", Spec[int, int]{BuildAll: upTo(in, &runs)}))
	readers := must(Register(m, "readers", Spec[int, int]{Build: func(ctx context.Context, k int) (n int, err error) {
		switch k {
		case 0:
			var all map[int]int
			all, err = c.Collect(ctx)
			for _, v := range all {
				n += v
			}
		case 1:
			var keys []int
			keys, err = c.CollectKeys(ctx)
			n = len(keys)
		case 2:
			n, err = c.Count(ctx)
		case 3:
			var has bool
			if has, err = c.Contains(ctx, 3); has {
				n = 1
			}
		}
		return n, err
	}}))
	check := func(want map[int]int, sum int) {
		t.Helper()
		wantCollected(t, c, want)
		equal(t, "sum", must(readers.Get(t.Context(), 0)), sum)
		equal(t, "keys", must(readers.Get(t.Context(), 1)), len(want))
		equal(t, "count", must(readers.Get(t.Context(), 2)), len(want))
		_, has := want[3]
		equal(t, "there is 3", must(readers.Get(t.Context(), 3)) == 1, has)
	}
	must(c.node(t.Context(), 3)) // as somebody who has read it in an earlier process
	check(map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5}, 25)
	runs = 0
	must(c.Collect(t.Context()))
	equal(t, "runs for all", runs, 1)
	ok(t, c.Set(9, 7))
	check(map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5, 9: 7}, 32)
	ok(t, c.Delete(9))
	ok(t, in.Set(1, 2))
	check(map[int]int{0: 2, 1: 2}, 4)
	runs = 0
	check(map[int]int{0: 2, 1: 2}, 4)
	equal(t, "runs for what is kept", runs, 0)
	ok(t, in.Set(1, 6))
	check(map[int]int{0: 6, 1: 6, 2: 6, 3: 6, 4: 6, 5: 6}, 36)
	ok(t, in.Set(1, 5))
	check(map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5}, 25)
}

// TestVolatileContentsAndBuilder: what was built one by one is there as well, and is what
// is built now.
func TestVolatileContentsAndBuilder(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 5, 2: 1}}))
	runs := 0
	c := must(Register(m, "c", Spec[int, int]{BuildAll: upTo(in, &runs), Build: func(ctx context.Context, k int) (int, error) {
		if k == 5 {
			return 0, errPlanned
		}
		v, err := in.Get(ctx, 2)
		return -v, err
	}}))
	wantCollected(t, c, map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5})
	equal(t, "built by itself", must(c.Get(t.Context(), 8)), -1)
	if _, err := c.Get(t.Context(), 5); !errors.Is(err, errPlanned) {
		t.Fatal(err)
	}
	wantCollected(t, c, map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5, 8: -1})
	ok(t, in.Set(2, 2))
	wantCollected(t, c, map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5, 8: -2})
	ok(t, in.Set(1, 6))
	wantCollected(t, c, map[int]int{0: 6, 1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 8: -2})
}

// TestContentsBecomeVolatileAtOnce: so do contents after somebody has looked whether they
// are right, and before he looks at the entry.
func TestContentsBecomeVolatileAtOnce(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 2}}))
	runs := 0
	build := upTo(in, &runs)
	var c *Cache[int, int]
	var all *graph.Node
	c = must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		if all != nil {
			c.all = all
		}
		return build(ctx)
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: c.Get}))
	equal(t, "value", must(top.Get(t.Context(), 1)), 2)
	ok(t, in.Set(1, 5))
	all, c.all = c.all, nil // as if there were nothing to be looked at
	equal(t, "value", must(c.Get(context.Background(), 1)), 5)
}

// TestSupersededContents: a builder waits for contents that are kept, if something is
// removed while they are built.
func TestSupersededContents(t *testing.T) {
	m := newManager(t)
	runs := 0
	var c *Cache[int, int]
	c = must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) {
		if runs++; runs == 1 {
			removed := make(chan error)
			go func() { removed <- c.Delete(3) }()
			if err := <-removed; err != nil {
				return nil, err
			}
		}
		return map[int]int{1: 1, 2: 2}, nil
	}}))
	ok(t, c.Set(3, 3))
	tops := 0
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
		tops++
		keys, err := c.CollectKeys(ctx)
		return len(keys), err
	}}))
	equal(t, "keys", must(top.Get(t.Context(), 1)), 2)
	tops = 0
	equal(t, "keys", must(top.Get(t.Context(), 1)), 2)
	equal(t, "runs of what is kept", tops, 0)
}

// TestComeLater: who asks after a write has returned is not given what was computed from
// what was there before, also if the builder under way has read something that cannot be
// recorded, so that nobody tells it of the write. Who came with it gets that; who comes
// later shares one more run.
func TestComeLater(t *testing.T) {
	type world struct {
		m, other *Manager
		in       *Cache[int, int]
	}
	for name, mid := range map[string]func(w world) *Cache[int, int]{
		"failure": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				v, _ := w.in.Get(ctx, k)
				return v, fmt.Errorf("failed with %d", v)
			}}))
		},
		"panic": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				v, _ := w.in.Get(ctx, k)
				panic(v)
			}}))
		},
		"off": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{Off: true, Build: w.in.Get}))
		},
		"expired": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				ExpireAt(ctx, time.Now())
				return w.in.Get(ctx, k)
			}}))
		},
		"contents that expired": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
				ExpireAt(ctx, time.Now())
				v, err := w.in.Get(ctx, 1)
				return map[int]int{1: v}, err
			}}))
		},
		"inputs of another Manager": func(w world) *Cache[int, int] {
			return must(Register(w.m, "mid", Spec[int, int]{Build: w.in.Get}))
		},
		"another Manager": func(w world) *Cache[int, int] {
			return must(Register(w.other, "mid", Spec[int, int]{Build: w.in.Get}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := world{m: newDisk().open(t, Options{}), other: newDisk().open(t, Options{})}
				if strings.Contains(name, "another Manager") {
					w.in = must(Register(w.other, "in", Spec[int, int]{}))
				} else {
					w.in = must(Register(w.m, "in", Spec[int, int]{}))
				}
				below := mid(w)
				runs := 0
				top := must(Register(w.m, "top", Spec[int, string]{Build: func(ctx context.Context, k int) (string, error) {
					runs++
					v, err := below.Get(ctx, k)
					time.Sleep(time.Second)
					if err != nil {
						return strings.Split(err.Error(), "\n")[0], nil
					}
					return fmt.Sprint(v), nil
				}}))
				ok(t, w.in.Set(1, 10))
				first := make(chan string, 1)
				go func() { first <- must(top.Get(t.Context(), 1)) }()
				time.Sleep(time.Millisecond)
				ok(t, w.in.Set(1, 11))
				later := make(chan string, 10)
				for range cap(later) {
					go func() { later <- must(top.Get(t.Context(), 1)) }()
				}
				was := <-first
				for range cap(later) {
					if now := <-later; now == was {
						t.Fatalf("who came after the write gets %s, too", now)
					}
				}
				equal(t, "runs", runs, 2)
			})
		})
	}
}

// TestUnkeptContentsLackOne: what a BuildAll that cannot be kept does not list is made by Build, and
// is not what the contents before had.
func TestUnkeptContentsLackOne(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	part := must(Register(m, "part", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if v < 0 {
			return 0, errPlanned
		}
		return v, err
	}}))
	c := must(Register(m, "c", Spec[int, int]{
		BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := part.Get(ctx, 1)
			if err != nil {
				return nil, nil
			}
			return map[int]int{1: v}, nil
		},
		Build: func(ctx context.Context, k int) (int, error) { return part.Get(ctx, k) },
	}))
	for _, v := range []int{1, -1, 2, -1} {
		ok(t, in.Set(1, v))
		got, err := c.Get(t.Context(), 1)
		if v > 0 && (err != nil || got != v) || v < 0 && !errors.Is(err, errPlanned) {
			t.Errorf("of %d it gives %d, %v", v, got, err)
		}
	}
}
