package cacheman

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
)

// What is here is about contents that are built as a whole.

// inputAndWhole registers an input, and contents that are built of it as a whole.
func inputAndWhole(m *Manager) (in, c *Cache[int, int]) {
	in = must(Register(m, "in", Spec[int, int]{}))
	c = must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		v, err := in.Get(ctx, 1)
		return map[int]int{1: v}, err
	}}))
	return in, c
}

// What contents were built from is kept by a run of the program that loads them, and by
// one that does not.
func TestWholeIsKept(t *testing.T) {
	for _, loads := range []bool{true, false} {
		d := newDisk()
		m := openOn(d)
		in, c := inputAndWhole(m)
		in.Set(1, 1)
		equal(t, "built", must(c.Get(t.Context(), 1)), 1)
		ok(t, m.Close())
		m = openOn(d)
		if _, c = inputAndWhole(m); loads {
			equal(t, "loaded", must(c.Get(t.Context(), 1)), 1)
			c.Set(2, 2)
		}
		ok(t, m.Close())
		m = openOn(d)
		in, c = inputAndWhole(m)
		in.Set(1, 2)
		equal(t, "built anew", must(c.Get(t.Context(), 1)), 2)
		ok(t, m.Close())
	}
}

// What was reloaded was built from what it was built from when it was saved.
func TestWholeReloaded(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	in, c := inputAndWhole(m)
	in.Set(1, 1)
	equal(t, "built", must(c.Get(t.Context(), 1)), 1)
	ok(t, m.Sync(t.Context()))
	in.Set(1, 2)
	equal(t, "built", must(c.Get(t.Context(), 1)), 2)
	ok(t, c.Reload(t.Context()))
	c.Set(2, 2)
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	_, c = inputAndWhole(m)
	equal(t, "built anew", must(c.Get(t.Context(), 1)), 2)
}

// Count sees to it that there is something to count.
func TestCountBuildsAll(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil }}))
	equal(t, "count", must(c.Count(t.Context())), 1)
}

// Keys and their number are those that BuildAll would make now, also where others can be built, and
// after a restart. To look at them is no read of an entry.
func TestKeysOfBuildAll(t *testing.T) {
	for _, build := range []func(context.Context, int) (int, error){nil, func(context.Context, int) (int, error) { return 0, nil }} {
		d := newDisk()
		runs := 0
		open := func() (m *Manager, in, c, keys, number *Cache[int, int]) {
			m = d.open(t, Options{})
			in = must(Register(m, "in", Spec[int, int]{}))
			c = must(Register(m, "c", Spec[int, int]{Build: build, BuildAll: func(ctx context.Context) (map[int]int, error) {
				n, err := in.Get(ctx, 1)
				all := map[int]int{}
				for i := range n / 2 {
					all[i] = i
				}
				return all, err
			}}))
			keys = must(Register(m, "keys", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				runs++
				keys, err := c.CollectKeys(ctx)
				return len(keys), err
			}}))
			number = must(Register(m, "number", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				runs++
				return c.Count(ctx)
			}}))
			return m, in, c, keys, number
		}
		m, in, c, keys, number := open()
		for i := range 6 {
			ok(t, in.Set(1, i))
			runs = 0
			equal(t, "number", must(number.Get(t.Context(), 1)), i/2)
			equal(t, "keys", must(keys.Get(t.Context(), 1)), i/2)
			equal(t, "builds", runs, 2-2*(i%2))
			st := c.Stats()
			equal(t, "reads", st.Hits+st.Misses, 0)
			if i == 3 {
				ok(t, m.Close())
				m, in, c, keys, number = open()
			}
		}
	}
}

// TestBuiltBesideAll: what Build has made of entries that BuildAll does not list is not built again
// because BuildAll is, and what was computed from it stays valid.
func TestBuiltBesideAll(t *testing.T) {
	d := newDisk()
	runs := 0
	var m *Manager
	var in, c, above *Cache[int, int]
	open := func() {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		c = must(Register(m, "c", Spec[int, int]{
			BuildAll: func(ctx context.Context) (map[int]int, error) {
				v, err := in.Get(ctx, 1)
				return map[int]int{v: v}, err
			},
			Build: func(ctx context.Context, k int) (int, error) {
				runs++
				v, err := in.Get(ctx, 2)
				return v + k, err
			},
		}))
		above = must(Register(m, "above", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			runs++
			return c.Get(ctx, k)
		}}))
	}
	open()
	for i, step := range []struct{ one, two, want, runs int }{
		{1, 10, 15, 2},
		{2, 10, 15, 0},
		{3, 10, 15, 0},
		{3, 20, 25, 2},
		{5, 20, 5, 1}, // it is listed
		{1, 20, 25, 2},
		{2, 20, 25, 0},
	} {
		ok(t, in.Set(1, step.one))
		ok(t, in.Set(2, step.two))
		runs = 0
		equal(t, "value", must(above.Get(t.Context(), 5)), step.want)
		equal(t, fmt.Sprintf("runs in step %d", i), runs, step.runs)
		if i%2 == 0 {
			ok(t, m.Close())
			open()
		}
	}
}

// TestBuiltBesideUnkept: what Build makes of an entry that a BuildAll does not list, which made do with the
// failure of another, is not kept in the place of that which it lists otherwise.
func TestBuiltBesideUnkept(t *testing.T) {
	d := newDisk()
	var m *Manager
	var in, c *Cache[int, int]
	open := func() {
		m = d.open(t, Options{})
		in = must(Register(m, "in", Spec[int, int]{}))
		bad := must(Register(m, "bad", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			if v, err := in.Get(ctx, k); v < 2 {
				return v, err
			}
			return 0, errPlanned
		}}))
		c = must(Register(m, "c", Spec[int, int]{
			BuildAll: func(ctx context.Context) (map[int]int, error) {
				if _, err := bad.Get(ctx, 1); err != nil {
					return map[int]int{2: 20}, nil
				}
				return map[int]int{1: 10}, nil
			},
			Build: func(ctx context.Context, k int) (int, error) { return 100 + k, nil },
		}))
	}
	open()
	for i := range 4 {
		if i%2 == 1 {
			ok(t, in.Set(1, 2))
			equal(t, "1, which is not listed", must(c.Get(t.Context(), 1)), 101)
			equal(t, "2", must(c.Get(t.Context(), 2)), 20)
		} else {
			ok(t, in.Set(1, 1))
			equal(t, "1", must(c.Get(t.Context(), 1)), 10)
			equal(t, "2, which is not listed", must(c.Get(t.Context(), 2)), 102)
		}
		if i == 1 {
			ok(t, m.Close())
			open()
		}
	}
}

// What is set while BuildAll is running stays, and what it has made before something was deleted is not kept.
func TestWriteWhileBuildAll(t *testing.T) {
	for _, what := range []string{"set another", "set the same", "delete", "invalidate"} {
		t.Run(what, func(t *testing.T) {
			m := newManager(t)
			in := must(Register(m, "in", Spec[int, int]{}))
			in.Set(1, 1)
			var c *Cache[int, int]
			ran, during := 0, func() {}
			c = must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
				ran++
				v, err := in.Get(ctx, 1)
				during()
				return map[int]int{1: v}, err
			}}))
			must(c.Get(t.Context(), 1))
			in.Set(1, 2)
			during = func() {
				during = func() {}
				done := make(chan error)
				go func() {
					switch what {
					case "set another":
						done <- c.Set(1, 7)
					case "set the same":
						done <- c.Set(1, 1)
					case "delete":
						done <- c.Delete(1)
					case "invalidate":
						done <- c.Invalidate(1)
					}
				}()
				ok(t, <-done)
			}
			must(c.Get(t.Context(), 1))
			v, runs := must(c.Get(t.Context(), 1)), 2 // begun afterwards
			switch what {
			case "set another":
				equal(t, "value", v, 7)
			case "set the same":
				equal(t, "value", v, 1)
			default:
				runs = 3
				equal(t, "value", v, 2)
			}
			equal(t, "runs of BuildAll", ran, runs)
		})
	}
}

// Count is not what it is as long as nothing can be loaded.
func TestCountOfUnreadable(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	f := &unreadable{disk: d}
	m = openOn(f)
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{}))
	n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Count(ctx) }}))
	if v, err := n.Get(t.Context(), 1); !errors.Is(err, errPlanned) {
		t.Fatalf("while it cannot be loaded it is %v, %v", v, err)
	}
	f.mended.Store(true)
	ok(t, in.Load(t.Context()))
	equal(t, "number", must(n.Get(t.Context(), 1)), 1)
}

// TestUnbuiltAfterRestart: contents that are yet to be built as a whole are so after a restart,
// too, if nothing was set, whatever was saved meanwhile.
func TestUnbuiltAfterRestart(t *testing.T) {
	for name, do := range map[string]func(c *Cache[int, int]) error{
		"not read":    func(c *Cache[int, int]) error { return nil },
		"looked at":   func(c *Cache[int, int]) error { c.Peek(1); return nil },
		"saved":       func(c *Cache[int, int]) error { return c.Sync(t.Context()) },
		"reloaded":    func(c *Cache[int, int]) error { return errors.Join(c.Sync(t.Context()), c.Reload(t.Context())) },
		"set":         func(c *Cache[int, int]) error { return errors.Join(c.Set(2, 2), c.Sync(t.Context()), c.Delete(2)) },
		"invalidated": func(c *Cache[int, int]) error { return errors.Join(c.InvalidateAll(), c.Set(2, 2), c.Delete(2)) },
	} {
		for _, formerly := range []string{"c", "old"} {
			t.Run(name+" "+formerly, func(t *testing.T) {
				d := newDisk()
				builds := 0
				open := func(name, version string) (*Manager, *Cache[int, int]) {
					m := d.open(t, Options{})
					spec := Spec[int, int]{Version: version, BuildAll: func(context.Context) (map[int]int, error) {
						builds++
						return map[int]int{1: builds}, nil
					}}
					if name != formerly {
						spec.Formerly = []string{formerly}
					}
					return m, must(Register(m, name, spec))
				}
				m, c := open(formerly, "1")
				equal(t, "what is built", must(c.Get(t.Context(), 1)), 1)
				ok(t, m.Close())
				m, c = open("c", "2")
				ok(t, do(c))
				ok(t, m.Close())
				for range 2 {
					m, c = open("c", "2")
					equal(t, "what the new version builds", must(c.Get(t.Context(), 1)), 2)
					ok(t, m.Close())
				}
			})
		}
	}
}

// TestUnkeptAfterRestart: where BuildAll has made what cannot be kept, and entries that it does not list
// were built, the contents are yet to be built after a restart, too.
func TestUnkeptAfterRestart(t *testing.T) {
	d := newDisk()
	open := func(fails bool) (*Manager, *Cache[int, int]) {
		m := d.open(t, Options{})
		bad := must(Register(m, "bad", Spec[int, int]{Build: func(context.Context, int) (int, error) {
			if fails {
				return 0, errPlanned
			}
			return 10, nil
		}}))
		return m, must(Register(m, "c", Spec[int, int]{
			BuildAll: func(ctx context.Context) (map[int]int, error) {
				if v, err := bad.Get(ctx, 0); err == nil {
					return map[int]int{1: v}, nil
				}
				return map[int]int{1: 1}, nil
			},
			Build: func(ctx context.Context, k int) (int, error) { return k, nil },
		}))
	}
	m, c := open(true)
	equal(t, "not listed", must(c.Get(t.Context(), 2)), 2)
	ok(t, m.Close())
	m, c = open(false)
	equal(t, "listed", must(c.Get(t.Context(), 1)), 10)
	equal(t, "not listed", must(c.Get(t.Context(), 2)), 2)
	ok(t, m.Close())
}

// TestCachesReadEachOther: of two caches each may have entries that have read entries of the other.
func TestCachesReadEachOther(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{0: 0, 1: 1}}))
	var all, other *Cache[int, int]
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		switch k {
		case 0:
			return in.Get(ctx, 0)
		case 2:
			return all.Get(ctx, 1)
		}
		a, err := in.Get(ctx, 1)
		if err != nil {
			return 0, err
		}
		b, err := other.Get(ctx, 0)
		return a + b, err
	}}))
	as := func(k int) Spec[int, int] {
		return Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := c.Get(ctx, k)
			return map[int]int{k: v}, err
		}}
	}
	other = must(Register(m, "other", as(0)))
	all = must(Register(m, "all", as(1)))
	equal(t, "through all", must(c.Get(ctx, 2)), 1)
	ok(t, in.Set(0, 1))
	equal(t, "what all is made of", must(c.Get(ctx, 1)), 2)
	for fault := range m.Check() {
		t.Error(fault)
	}
	equal(t, "through all", must(c.Get(ctx, 2)), 2)
}

// TestListedLater: what BuildAll lists is what it says, also if an entry was built by itself before, when it
// was not listed.
func TestListedLater(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	in := must(Register(m, "in", Spec[int, int]{}))
	bad := must(Register(m, "bad", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, errPlanned }}))
	c := must(Register(m, "c", Spec[int, int]{
		BuildAll: func(ctx context.Context) (map[int]int, error) {
			if v, err := in.Get(ctx, 0); err == nil {
				return map[int]int{1: v, 2: v}, nil
			}
			bad.Get(ctx, 0) // so it is not kept
			return map[int]int{1: 1}, nil
		},
		Build: func(ctx context.Context, k int) (int, error) { return -k, nil },
	}))
	equal(t, "not listed", must(c.Get(ctx, 2)), -2)
	ok(t, in.Set(0, 10))
	equal(t, "listed now", must(c.Get(ctx, 2)), 10)
}

// TestUnlistedOnce: who asks for an entry that BuildAll does not list has it called once, also if what it
// makes cannot be kept.
func TestUnlistedOnce(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	bad := must(Register(m, "bad", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, errPlanned }}))
	var runs, builds int
	c := must(Register(m, "c", Spec[int, int]{
		BuildAll: func(ctx context.Context) (map[int]int, error) {
			runs++
			bad.Get(ctx, 0) // so it is not kept
			return nil, nil
		},
		Build: func(ctx context.Context, k int) (int, error) {
			builds++
			return k, nil
		},
	}))
	for i := range 3 {
		equal(t, "value", must(c.Get(ctx, 1)), 1)
		equal(t, "runs of BuildAll", runs, i+1)
		equal(t, "runs of Build", builds, 1)
	}
}

// TestBuildAllWhileClosed: who waits for a BuildAll when the Manager is closed is not given what there was
// before.
func TestBuildAllWhileClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openOn(newDisk())
		goOn := make(chan bool, 1)
		in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
		c := must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := in.Get(ctx, 1)
			<-goOn
			return map[int]int{1: v}, err
		}}))
		goOn <- true
		equal(t, "value", must(c.Get(t.Context(), 1)), 1)
		ok(t, in.Set(1, 2))
		var wg sync.WaitGroup
		wg.Go(func() {
			if v, err := c.Get(context.Background(), 1); !errors.Is(err, ErrClosed) {
				t.Errorf("got %d, %v", v, err)
			}
		})
		synctest.Wait()
		ok(t, m.Close())
		goOn <- true
		wg.Wait()
	})
}

// TestVersionOfBuildAll: after a new Version of a BuildAll, what has read an entry that comes
// out the same is not built.
func TestVersionOfBuildAll(t *testing.T) {
	d := newDisk()
	runs := 0
	open := func(version string, second int) (m *Manager, get func(k, want, builds int)) {
		m = d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{Version: version, BuildAll: func(context.Context) (map[int]int, error) {
			return map[int]int{1: 10, 2: second}, nil
		}}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			runs++
			return c.Get(ctx, k)
		}}))
		return m, func(k, want, builds int) {
			t.Helper()
			runs = 0
			equal(t, "value", must(top.Get(t.Context(), k)), want)
			equal(t, "builds", runs, builds)
		}
	}
	m, get := open("1", 20)
	get(1, 10, 1)
	get(2, 20, 1)
	ok(t, m.Close())
	m, get = open("2", 21)
	get(1, 10, 0)
	get(2, 21, 1)
	ok(t, m.Close())
	m, get = open("2", 21)
	get(1, 10, 0)
	get(2, 21, 0)
	ok(t, m.Close())
}

// TestVersionOfBuildAllLater: that is so, too, if there was a run of the new Version in which nobody asked for the
// contents; unless something else was set meanwhile.
func TestVersionOfBuildAllLater(t *testing.T) {
	for name, first := range map[string]func(c *Cache[int, int]){
		"not looked at": func(*Cache[int, int]) {},
		"looked at": func(c *Cache[int, int]) {
			equal(t, "entries", c.Len(), 0)
			ok(t, c.m.Sync(t.Context()))
		},
		"set": func(c *Cache[int, int]) {
			ok(t, c.Set(3, 30))
			ok(t, c.m.Sync(t.Context()))
			ok(t, c.Set(4, 40))
		},
	} {
		d, all, runs := newDisk(), 0, 0
		open := func(version string) (m *Manager, c, top *Cache[int, int]) {
			m = d.open(t, Options{})
			c = must(Register(m, "c", Spec[int, int]{Version: version, BuildAll: func(context.Context) (map[int]int, error) {
				all++
				return map[int]int{1: 10, 2: 20}, nil
			}}))
			return m, c, must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				runs++
				return c.Get(ctx, k)
			}}))
		}
		m, _, top := open("1")
		must(top.Get(t.Context(), 1))
		ok(t, m.Close())
		m, c, _ := open("2")
		first(c)
		ok(t, m.Close())
		m, c, top = open("2")
		if name == "set" {
			wantContents(t, c, map[int]int{3: 30, 4: 40})
			ok(t, m.Close())
			continue
		}
		equal(t, "value", must(top.Get(t.Context(), 1)), 10)
		equal(t, "builds, "+name, runs, 1)
		equal(t, "builds of all, "+name, all, 2)
		ok(t, m.Close())
	}
}

// orNone reads k of c; where there is no value, it is -1.
func orNone(ctx context.Context, c *Cache[int, int], k int) (int, error) {
	v, err := c.Get(ctx, k)
	if errors.Is(err, ErrNotFound) {
		return -1, nil
	}
	return v, err
}

// TestDeletedFromStaleContents: an entry that is deleted from contents that are to be built anew is
// not known to be absent before they are.
func TestDeletedFromStaleContents(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		if v, err := orNone(ctx, in, 1); err != nil || v < 0 {
			return nil, err
		}
		return map[int]int{1: 10}, nil
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return orNone(ctx, c, k) }}))
	equal(t, "top, without an entry", must(top.Get(t.Context(), 1)), -1)
	c.Set(1, 5)
	in.Set(1, 1)
	c.Delete(1)
	equal(t, "top, when it was built", must(top.Get(t.Context(), 1)), 10)
}

// TestBuiltBesideBuildAll: what was computed from an entry that a builder has made beside BuildAll
// is stale when that makes it, also if the builder is running when it is to.
func TestBuiltBesideBuildAll(t *testing.T) {
	for _, running := range []bool{false, true} {
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{}))
		during := func() {}
		c := must(Register(m, "c", Spec[int, int]{
			Build: func(context.Context, int) (int, error) { during(); return 1, nil },
			BuildAll: func(ctx context.Context) (map[int]int, error) {
				if v, err := orNone(ctx, in, 1); err != nil || v < 0 {
					return nil, err
				}
				return map[int]int{1: 10}, nil
			},
		}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return orNone(ctx, c, k) }}))
		equal(t, "top, of the builder", must(top.Get(t.Context(), 1)), 1)
		if !running {
			ok(t, in.Set(1, 1))
		} else {
			ok(t, c.Invalidate(1))
			during = func() {
				done := make(chan error)
				go func() { done <- in.Set(1, 1) }()
				ok(t, <-done)
			}
			must(c.Get(t.Context(), 1))
		}
		equal(t, "top, of BuildAll", must(top.Get(t.Context(), 1)), 10)
	}
}

// TestVolatileBesideBuilder: a builder can read what another makes beside contents that cannot
// be kept.
func TestVolatileBesideBuilder(t *testing.T) {
	m := newManager(t)
	bad := must(Register(m, "bad", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, errPlanned }}))
	c := must(Register(m, "c", Spec[int, int]{
		Build:    func(_ context.Context, k int) (int, error) { return k, nil },
		BuildAll: func(ctx context.Context) (map[int]int, error) { bad.Get(ctx, 1); return map[int]int{1: 10}, nil },
	}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	for range 2 {
		equal(t, "top, of BuildAll", must(top.Get(t.Context(), 1)), 10)
		equal(t, "top, of the builder", must(top.Get(t.Context(), 7)), 7)
	}
}

// TestBuildAllOfDependents: for what was computed from contents that are to be built as a whole,
// they are built when it comes to them, and if that fails not again for each who asks.
func TestBuildAllOfDependents(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		d := newDisk()
		m := d.open(t, Options{})
		runs := 0
		var in, c, top *Cache[int, int]
		register := func() {
			in = must(Register(m, "in", Spec[int, int]{}))
			c = must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
				runs++
				v, err := in.Get(ctx, 2)
				if v == 13 {
					err = errPlanned
				}
				return map[int]int{1: v}, err
			}}))
			top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				if v, err := in.Get(ctx, 1); v == 0 || err != nil {
					return 0, err
				}
				return c.Get(ctx, 1)
			}}))
		}
		register()
		in.Set(1, 1)
		in.Set(2, 2)
		equal(t, "top", must(top.Get(t.Context(), 1)), 2)
		change := func(k, v int) {
			ok(t, c.InvalidateAll())
			in.Set(k, v)
			if restarted {
				ok(t, m.Close())
				m = d.open(t, Options{})
				register()
			}
			runs = 0
		}
		change(2, 13)
		_, err := top.Get(t.Context(), 1)
		equal(t, "the failure is told", errors.Is(err, errPlanned), true)
		equal(t, "runs that fail", runs, 1)
		in.Set(2, 2)
		equal(t, "top", must(top.Get(t.Context(), 1)), 2)
		change(1, 0)
		equal(t, "top, which does not need it", must(top.Get(t.Context(), 1)), 0)
		equal(t, "runs", runs, 0)
	}
}

// TestSavedBeforeBuildAll: what was set, and saved, before the contents were built as a whole
// is saved with them.
func TestSavedBeforeBuildAll(t *testing.T) {
	d := newDisk()
	open := func() (m *Manager, c *Cache[int, int]) {
		m = d.open(t, Options{})
		return m, must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil }}))
	}
	m, c := open()
	ok(t, c.Set(2, 2))
	ok(t, m.Sync(t.Context()))
	equal(t, "what is built", must(c.Get(t.Context(), 1)), 1)
	wantContents(t, c, map[int]int{1: 1, 2: 2})
	ok(t, m.Close())
	_, c = open()
	wantContents(t, c, map[int]int{1: 1, 2: 2})
}

// TestDeletedBeforeBuildAll: what was deleted before the contents were built as a whole is what
// these make of it, whether that was saved meanwhile or not.
func TestDeletedBeforeBuildAll(t *testing.T) {
	for _, saved := range []bool{false, true} {
		m := newManager(t)
		c := must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) { return map[int]int{1: 1}, nil }}))
		ok(t, c.Set(1, 7))
		ok(t, c.Delete(1))
		if saved {
			ok(t, m.Sync(t.Context()))
		}
		equal(t, "what is built", must(c.Get(t.Context(), 1)), 1)
	}
}

// TestFailingBuildAllAndBuild: to bring everything up to date calls a BuildAll that fails once,
// whoever needs it.
func TestFailingBuildAllAndBuild(t *testing.T) {
	m := newManager(t)
	runs, fail := 0, error(nil)
	c := must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) {
		runs++
		return map[int]int{1: 1}, fail
	}}))
	top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return c.Get(ctx, k) }}))
	must(top.Get(t.Context(), 1))
	ok(t, c.InvalidateAll())
	runs, fail = 0, errPlanned
	equal(t, "the failure is told", errors.Is(m.Build(t.Context(), All(), nil), errPlanned), true)
	equal(t, "runs", runs, 1)
}

// TestWholeLackingUnencodable: contents of which an entry could not be saved are not, after a
// restart, what BuildAll makes; and what comes out equal then is what it was.
func TestWholeLackingUnencodable(t *testing.T) {
	d := newDisk()
	builds, runs, fail := 0, 0, true
	open := func() (*Manager, *Cache[int, int], *Cache[int, int]) {
		m := openOn(d)
		c := must(Register(m, "c", Spec[int, int]{
			BuildAll: func(context.Context) (map[int]int, error) {
				builds++
				return map[int]int{1: 1, 2: 2}, nil
			},
			BeforeSave: func(_ context.Context, k, v int) (int, error) {
				if k == 2 && fail {
					return 0, errPlanned
				}
				return v, nil
			},
		}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			runs++
			return c.Get(ctx, k)
		}}))
		return m, c, top
	}
	m, _, top := open()
	equal(t, "on top of what is saved", must(top.Get(t.Context(), 1)), 1)
	equal(t, "closing tells", errors.Is(m.Close(), errPlanned), true)
	for range 2 { // nor if what is there was saved again meanwhile
		m, c, _ := open()
		ok(t, c.Set(3, 3))
		ok(t, m.Close())
	}
	equal(t, "runs of BuildAll before", builds, 1)
	fail = false
	for range 2 {
		m, c, top := open()
		equal(t, "what could not be saved", must(c.Get(t.Context(), 2)), 2)
		equal(t, "on top of what was saved", must(top.Get(t.Context(), 1)), 1)
		equal(t, "runs of BuildAll", builds, 2)
		equal(t, "runs on top", runs, 1)
		ok(t, m.Close())
	}
}

// TestWholeOfUnsavable: contents that BuildAll has made of what cannot be saved are built again
// after a restart.
func TestWholeOfUnsavable(t *testing.T) {
	d := newDisk()
	open := func() (*Manager, *Cache[int, int], *Cache[int, int]) {
		m := openOn(d)
		keys := must(codec.Key[int]())
		encode := keys.Append
		keys.Append = func(dst []byte, k int) ([]byte, error) {
			if k == 7 {
				return dst, errPlanned
			}
			return encode(dst, k)
		}
		in := must(Register(m, "in", Spec[int, int]{KeyCodec: keys}))
		return m, in, must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := in.Get(ctx, 7)
			return map[int]int{1: v}, failure(err)
		}}))
	}
	m, _, c := open()
	equal(t, "of nothing", must(c.Get(t.Context(), 1)), 0)
	ok(t, m.Close())
	m, in, c := open()
	defer m.Close()
	ok(t, in.Set(7, 5))
	equal(t, "of what was set since", must(c.Get(t.Context(), 1)), 5)
}

// TestWholeOfUnknown: contents of which it cannot be found out what they were built from are built
// again once, also for what was computed from them.
func TestWholeOfUnknown(t *testing.T) {
	d := newDisk()
	builds, runs, version := 0, 0, "1"
	open := func() (m *Manager, top *Cache[int, int]) {
		m = openOn(d)
		low := must(Register(m, "low", Spec[int, int]{Memory: true, Version: version, Build: func(context.Context, int) (int, error) { return 1, nil }}))
		c := must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			builds++
			v, err := low.Get(ctx, 1)
			return map[int]int{1: v}, err
		}}))
		return m, must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			runs++
			return c.Get(ctx, k)
		}}))
	}
	m, top := open()
	equal(t, "top", must(top.Get(t.Context(), 1)), 1)
	ok(t, m.Close())
	version = "2"
	for range 2 {
		m, top = open()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		v, err := top.Get(ctx, 1)
		ok(t, err)
		equal(t, "top", v, 1)
		equal(t, "runs of BuildAll", builds, 2)
		equal(t, "runs on top", runs, 1)
		ok(t, m.Close())
	}
}

// TestWholeLackingDamaged: contents of which an entry was damaged since they were saved are not
// what BuildAll makes: they are built again, once, and what comes out equal is what it was.
func TestWholeLackingDamaged(t *testing.T) {
	bad := errors.New("bad")
	for name, test := range map[string]struct {
		damage store.Record // in place of {2: 2}
		spec   Spec[int, int]
		early  bool // it is found when the contents are loaded
	}{
		"value":    {damage: store.Record{Key: []byte("2"), Value: []byte("x")}},
		"validate": {damage: store.Record{Key: []byte("2"), Value: []byte("x")}, spec: Spec[int, int]{Validate: func(context.Context, map[int]int) error { return nil }}, early: true},
		"key":      {damage: store.Record{Key: []byte("x"), Value: []byte("2")}, early: true},
		"meta":     {damage: store.Record{Key: []byte("2"), Value: []byte("2"), Meta: []byte{0}}, early: true},
		"hook": {damage: store.Record{Key: []byte("2"), Value: []byte("999")}, spec: Spec[int, int]{AfterLoad: func(_ context.Context, k, v int) (int, error) {
			if v == 999 {
				return 0, bad
			}
			return v, nil
		}}},
		"migrate": {damage: store.Record{Key: []byte("2"), Value: []byte("999")}, spec: Spec[int, int]{Version: "2", Migrate: func(_ context.Context, _ Saved, k int, data []byte) (int, error) {
			if string(data) == "999" {
				return 0, bad
			}
			return strconv.Atoi(string(data))
		}}, early: true},
	} {
		for _, reads := range []string{"get lost", "top", "get", "peek", "build", "collect"} {
			t.Run(name+"/"+reads, func(t *testing.T) {
				d := newDisk()
				builds, runs := 0, 0
				open := func() (*Manager, *Cache[int, int], *Cache[int, int]) {
					m := openOn(d)
					spec := test.spec
					if builds == 0 {
						spec = Spec[int, int]{}
					}
					spec.KeyCodec, spec.Codec = codec.JSON[int](), codec.JSON[int]()
					spec.BuildAll = func(context.Context) (map[int]int, error) {
						builds++
						return map[int]int{1: 1, 2: 2}, nil
					}
					c := must(Register(m, "c", spec))
					return m, c, must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
						runs++
						return c.Get(ctx, k)
					}}))
				}
				m, _, top := open()
				equal(t, "on top of what stays", must(top.Get(t.Context(), 1)), 1)
				ok(t, m.Close())
				ok(t, d.Store.Apply(t.Context(), func(yield func(store.Op, error) bool) {
					r := test.damage
					_ = yield(store.Op{Kind: store.Delete, Cache: "c", Key: []byte("2")}, nil) &&
						yield(store.Op{Kind: store.Put, Cache: "c", Key: r.Key, Value: r.Value, Meta: r.Meta}, nil)
				}))
				m, c, top := open()
				switch reads {
				case "top":
					equal(t, "on top", must(top.Get(t.Context(), 1)), 1)
				case "get lost":
					equal(t, "what was lost", must(c.Get(t.Context(), 2)), 2)
				case "get":
					equal(t, "beside what was lost", must(c.Get(t.Context(), 1)), 1)
				case "peek":
					if v, ok := c.Peek(2); ok {
						t.Errorf("what was lost is %v", v)
					}
				case "build":
					ok(t, m.Build(t.Context(), All(), nil))
				case "collect":
					equal(t, "all", len(must(c.Collect(t.Context()))), 2)
				}
				equal(t, "what was lost", must(c.Get(t.Context(), 2)), 2)
				if name != "migrate" {
					equal(t, "on top of what stays", must(top.Get(t.Context(), 1)), 1)
					equal(t, "runs on top", runs, 1)
				}
				equal(t, "runs of BuildAll", builds, 2)
				for fault := range m.Check() {
					t.Error(fault)
				}
				ok(t, m.Close())
				m, c, _ = open()
				defer m.Close()
				equal(t, "what was lost, after a restart", must(c.Get(t.Context(), 2)), 2)
				equal(t, "runs of BuildAll", builds, 2)
			})
		}
	}
}

// TestWholeThroughMemory: contents that were built through a cache in memory depend on what that
// was computed from, so a restart is no change.
func TestWholeThroughMemory(t *testing.T) {
	d := newDisk()
	builds := 0
	for v := range 3 {
		m := openOn(d)
		in := must(Register(m, "in", Spec[int, int]{}))
		half := must(Register(m, "half", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
			v, err := in.Get(ctx, k)
			return v / 2, failure(err)
		}}))
		c := must(Register(m, "c", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			builds++
			v, err := half.Get(ctx, 1)
			return map[int]int{1: v}, err
		}}))
		equal(t, "before", must(c.Get(t.Context(), 1)), max(0, v-1))
		equal(t, "builds", builds, 1+max(0, v-1))
		if v > 0 {
			ok(t, in.Set(1, 2*v))
			equal(t, "after", must(c.Get(t.Context(), 1)), v)
			equal(t, "builds", builds, 1+v)
		}
		ok(t, m.Close())
	}
}

// TestDamagedIsNoWhole: damage in contents that no BuildAll has made does not make them pass
// for some.
func TestDamagedIsNoWhole(t *testing.T) {
	d := newDisk()
	for round := range 2 {
		spec := Spec[int, int]{KeyCodec: codec.JSON[int]()}
		decode := spec.KeyCodec.Decode
		spec.KeyCodec.Decode = func(src []byte) (int, error) {
			k, err := decode(src)
			if round == 1 && k == 1 {
				err = errPlanned
			}
			return k, err
		}
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		c := must(Register(m, "c", spec))
		ok(t, c.Load(t.Context()))
		ok(t, c.Set(1+round, 1))
		ok(t, c.Set(3, round))
		ok(t, m.Close())
		for _, info := range must(d.Caches(t.Context())) {
			if info.Cache == "c" {
				equal(t, "whole", string(must(parseDescription(info.Description)).Whole), "")
			}
		}
	}
}
