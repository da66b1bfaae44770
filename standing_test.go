package cacheman

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// standingRun is a program with a cache, one that is declared to depend on it, and one that is on that. Where each
// is kept is said by a letter: m is the Manager's store, s another one, h are hooks, v is memory.
type standingRun struct {
	t      *testing.T
	places string
	stores map[byte]*disk
	hooks  [3]map[int]int
	fail   bool // of the hooks
	m      *Manager
	c      [3]*Cache[int, int]
	builds int
	alone  bool // no dependency is declared any more
}

func (x *standingRun) open(registered ...int) {
	x.m = openOn(x.stores['m'])
	x.t.Cleanup(func() { x.m.Close() })
	x.c, x.builds = [3]*Cache[int, int]{}, 0
	for _, i := range registered {
		spec := Spec[int, int]{}
		switch x.places[i] {
		case 's':
			spec.Store = x.stores['s']
		case 'v':
			spec.Memory = true
		case 'h':
			spec.Load = func(context.Context) (map[int]int, error) {
				if x.hooks[i] == nil {
					return nil, ErrNotFound
				}
				return maps.Clone(x.hooks[i]), nil
			}
			spec.Save = func(_ context.Context, contents map[int]int) error {
				if x.fail {
					return errPlanned
				}
				x.hooks[i] = contents
				return nil
			}
			spec.Delete = func(ctx context.Context) error { return spec.Save(ctx, nil) }
		}
		if i > 0 && !x.alone {
			on := x.c[i-1]
			spec.DependsOnChange = []string{on.Name()}
			spec.BuildAll = func(ctx context.Context) (map[int]int, error) {
				x.builds++
				if err := on.Load(context.Background()); err != nil { // not tracked
					return nil, err
				}
				v, _ := on.Peek(1)
				return map[int]int{1: v + 10}, nil
			}
		}
		x.c[i] = must(Register(x.m, fmt.Sprint("c", i), spec))
	}
}

// down makes the places with these letters fail, and no others.
func (x *standingRun) down(places string) {
	for place, s := range x.stores {
		s.setFail(nil)
		if strings.ContainsRune(places, rune(place)) {
			s.setFail(errPlanned)
		}
	}
	x.fail = strings.Contains(places, "h")
}

// agree checks that the second and the third cache are what is built from the first.
func (x *standingRun) agree() {
	x.t.Helper()
	input, err := x.c[0].Get(x.t.Context(), 1)
	ok(x.t, err)
	for i, c := range x.c {
		v, err := c.Get(x.t.Context(), 1)
		ok(x.t, err)
		equal(x.t, c.Name(), v, input+10*i)
	}
}

// want checks what the first cache has, and the others, and how many of them were built.
func (x *standingRun) want(input, builds int) {
	x.t.Helper()
	v, err := x.c[0].Get(x.t.Context(), 1)
	ok(x.t, err)
	equal(x.t, "c0", v, input)
	x.agree()
	equal(x.t, "builds", x.builds, builds)
}

// startStanding returns a program whose first run has built and saved all three.
func startStanding(t *testing.T, places string) *standingRun {
	x := &standingRun{t: t, places: places, stores: map[byte]*disk{'m': newDisk(), 's': newDisk()}}
	x.open(0, 1, 2)
	ok(t, x.c[0].Set(1, 1))
	x.want(1, 2)
	ok(t, x.m.Close())
	return x
}

// TestKeptApart: a cache that is kept elsewhere than what it is declared to depend on is not
// served when it is from before a change of that, or from after one that was lost; and it is served
// otherwise.
func TestKeptApart(t *testing.T) {
	for _, places := range []string{"mms", "msm", "mss", "smm", "sms", "ssm", "sss", "mmh", "mhm", "mhh", "hmm", "hms", "hsh", "hhh", "mmm"} {
		t.Run(places, func(t *testing.T) {
			t.Run("nothing changed", func(t *testing.T) {
				x := startStanding(t, places)
				x.open(0, 1, 2)
				x.want(1, 0)
				ok(t, x.m.Close())
				x.open(0)
				ok(t, x.m.Close())
				x.open(0, 1, 2)
				x.want(1, 0)
			})
			t.Run("not registered", func(t *testing.T) {
				for _, registered := range [][]int{{0}, {0, 1}} {
					x := startStanding(t, places)
					x.open(registered...)
					ok(t, x.c[0].Set(1, 2))
					ok(t, x.m.Close())
					x.open(0, 1, 2)
					x.want(2, 2)
					ok(t, x.m.Close())
					x.open(0, 1, 2)
					x.want(2, 0)
				}
			})
			t.Run("touched", func(t *testing.T) {
				for _, registered := range [][]int{{0}, {0, 1}} {
					x := startStanding(t, places)
					x.open(registered...)
					ok(t, x.c[0].Touch())
					ok(t, x.m.Close())
					x.open(0, 1, 2)
					x.want(1, 2)
				}
			})
			t.Run("registered without what it depends on", func(t *testing.T) {
				x := startStanding(t, places)
				x.open(0)
				ok(t, x.c[0].Set(1, 2))
				ok(t, x.m.Close())
				x.alone = true
				x.open(2)
				ok(t, x.c[2].Load(t.Context()))
				equal(t, "entries", x.c[2].Len(), 0)
			})
			// The program ends after some places were saved, and others not.
			for _, down := range []string{"m", "s", "h", "ms", "mh", "sh"} {
				for name, read := range map[string]bool{"built": true, "not built": false} {
					t.Run("fails in "+down+", "+name, func(t *testing.T) {
						x := startStanding(t, places)
						x.open(0, 1, 2)
						ok(t, x.c[0].Set(1, 2))
						if read {
							x.agree()
						}
						x.down(down)
						x.m.Sync(t.Context()) // it may not concern these places
						x.open(0, 1, 2)
						x.down("")
						x.agree()
						ok(t, x.m.Close())
						x.open(0, 1, 2)
						x.agree()
						equal(t, "builds", x.builds, 0)
					})
				}
			}
		})
	}
}

// TestKeptApartOfNothing: what depends on a cache that has nothing, and through that on what was lost, is not
// served, though it was not registered when that was found out.
func TestKeptApartOfNothing(t *testing.T) {
	main, other := newDisk(), newDisk()
	saved, fail := map[int]int{}, false
	open := func(withTop bool) (m *Manager, input, top *Cache[int, int]) {
		m = openOn(main)
		t.Cleanup(func() { m.Close() })
		input = must(Register(m, "input", Spec[int, int]{
			Load: func(context.Context) (map[int]int, error) { return maps.Clone(saved), nil },
			Save: func(_ context.Context, contents map[int]int) error {
				if fail {
					return errPlanned
				}
				saved = contents
				return nil
			},
		}))
		must(Register(m, "nothing", Spec[int, int]{DependsOnChange: []string{"input"}}))
		if withTop {
			top = must(Register(m, "top", Spec[int, int]{Store: other, DependsOn: []string{"nothing"}}))
		}
		return m, input, top
	}
	m, input, top := open(true)
	ok(t, input.Set(1, 1))
	ok(t, top.Set(1, 1))
	ok(t, m.Close())

	m, input, top = open(true)
	ok(t, input.Set(1, 2))
	ok(t, top.Set(1, 2))
	fail = true
	if m.Sync(t.Context()) == nil || saved[1] != 1 {
		t.Fatal("the input was to be lost")
	}
	m, _, _ = open(false)
	fail = false
	ok(t, m.Close())

	_, _, top = open(true)
	ok(t, top.Load(t.Context()))
	equal(t, "entries", top.Len(), 0)
}

// TestKeptApartRenamed: it is known also of a cache that has another name now from when it is.
func TestKeptApartRenamed(t *testing.T) {
	main, other := newDisk(), newDisk()
	for i, name := range []string{"c", "c", "", "renamed"} {
		m := openOn(main)
		t.Cleanup(func() { m.Close() })
		input := must(Register(m, "input", Spec[int, int]{}))
		if name != "" {
			spec := Spec[int, int]{Store: other, DependsOnChange: []string{"input"}}
			if name != "c" {
				spec.Formerly = []string{"c"}
			}
			c := must(Register(m, name, spec))
			ok(t, c.Load(t.Context()))
			equal(t, fmt.Sprint("entries in run ", i), c.Len(), []int{0, 1, 0, 0}[i])
			ok(t, c.Set(1, 1))
		}
		if i == 2 {
			ok(t, input.Set(1, 1))
		}
		ok(t, m.Close())
	}
}

// TestStandingAlone: the hook of a cache that others depend on is not asked for its contents to note
// that it was touched.
func TestStandingAlone(t *testing.T) {
	main, loads := newDisk(), 0
	for range 2 {
		m := openOn(main)
		t.Cleanup(func() { m.Close() })
		input := must(Register(m, "input", Spec[int, int]{
			Load: func(context.Context) (map[int]int, error) { loads++; return map[int]int{1: 1}, nil },
			Save: func(context.Context, map[int]int) error { return nil },
		}))
		must(Register(m, "c", Spec[int, int]{DependsOn: []string{"input"}}))
		ok(t, input.Touch())
		ok(t, m.Sync(t.Context()))
		equal(t, "loads", loads, 0)
		ok(t, m.Close())
	}
}

// TestStandingOfOneBatch: what is saved in one batch stands when that is, also of a cache that has a standing only
// since another in the batch has one.
func TestStandingOfOneBatch(t *testing.T) {
	d, apart, builds := newDisk(), newDisk(), 0
	open := func() (m *Manager, in, mid *Cache[int, int]) {
		m = openOn(d)
		t.Cleanup(func() { m.Close() })
		in = must(Register(m, "in", Spec[int, int]{}))
		mid = must(Register(m, "mid", Spec[int, int]{DependsOn: []string{"in"}, Build: func(context.Context, int) (int, error) {
			builds++
			return 1, nil
		}}))
		must(Register(m, "apart", Spec[int, int]{DependsOn: []string{"mid"}, Store: apart}))
		return m, in, mid
	}
	m, in, mid := open()
	ok(t, in.Set(1, 1))
	must(mid.Get(t.Context(), 1))
	ok(t, m.Sync(t.Context()))
	_, _, mid = open() // the process has died
	must(mid.Get(t.Context(), 1))
	equal(t, "builds", builds, 1)
}

// TestNoStandingOfFormerNames: what depends on caches that have other names now is not built again for that, run after
// run; nor is there anything to compare where all is in one store.
func TestNoStandingOfFormerNames(t *testing.T) {
	for _, apart := range []bool{false, true} {
		d, builds := newDisk(), 0
		var elsewhere store.Store
		if apart {
			elsewhere = newDisk()
		}
		open := func(prefix string) (m *Manager, in, out *Cache[int, int]) {
			m = openOn(d)
			formerly := func(name string) []string {
				if prefix == "" {
					return nil
				}
				return []string{name}
			}
			in = must(Register(m, prefix+"in", Spec[int, int]{Formerly: formerly("in")}))
			must(Register(m, prefix+"empty", Spec[int, int]{Formerly: formerly("empty")}))
			return m, in, must(Register(m, "out", Spec[int, int]{Store: elsewhere, DependsOn: []string{prefix + "in", prefix + "empty"},
				BuildAll: func(context.Context) (map[int]int, error) {
					builds++
					return map[int]int{1: 1}, nil
				}}))
		}
		m, in, out := open("")
		ok(t, in.Set(1, 1))
		must(out.Get(t.Context(), 1))
		ok(t, m.Close())
		for range 4 {
			m, in, out = open("new ")
			equal(t, "input", must(in.Get(t.Context(), 1)), 1)
			must(out.Get(t.Context(), 1))
			ok(t, m.Close())
		}
		equal(t, "builds", builds, 1)
	}
}

// TestStandingInMemory: what is in memory between a cache and what depends on it is on the way as any other: a change
// reaches what is saved, also in a run of the program in which only the changed cache is registered, and if the program ends
// after one of two places was saved. Where nothing has changed nothing is built.
func TestStandingInMemory(t *testing.T) {
	for _, places := range []string{"mvm", "mvs", "svm", "svs", "mvh", "hvm"} {
		t.Run(places, func(t *testing.T) {
			t.Run("nothing changed", func(t *testing.T) {
				x := startStanding(t, places)
				for range 2 {
					x.open(0, 1, 2)
					must(x.c[2].Get(t.Context(), 1))
					equal(t, "builds", x.builds, 0)
					ok(t, x.m.Close())
				}
			})
			t.Run("not registered", func(t *testing.T) {
				x := startStanding(t, places)
				x.open(0)
				ok(t, x.c[0].Set(1, 2))
				ok(t, x.m.Close())
				x.open(0, 1, 2)
				x.want(2, 2)
			})
			t.Run("touched", func(t *testing.T) {
				x := startStanding(t, places)
				x.open(0)
				ok(t, x.c[0].Touch())
				ok(t, x.m.Close())
				x.open(0, 1, 2)
				x.want(1, 2)
			})
			t.Run("touched itself", func(t *testing.T) {
				for _, registered := range [][]int{{0, 1}, {0, 1, 2}} {
					x := startStanding(t, places)
					x.open(registered...)
					ok(t, x.c[1].Touch())
					if len(registered) == 3 {
						x.want(1, 2)
					}
					ok(t, x.m.Close())
					x.open(0, 1, 2)
					must(x.c[2].Get(t.Context(), 1))
					equal(t, "builds", x.builds, 6-2*len(registered))
				}
			})
			for _, down := range []string{"m", "s", "h"} {
				t.Run("fails in "+down, func(t *testing.T) {
					x := startStanding(t, places)
					x.open(0, 1, 2)
					ok(t, x.c[0].Set(1, 2))
					x.down(down)
					x.m.Sync(t.Context()) // it may not concern this place
					x.open(0, 1, 2)
					x.down("")
					x.agree()
				})
			}
		})
	}
}

// TestCircleKeptApart: a run that registers one of several caches that depend on each other, sets something there and
// touches it, makes the others void, which were told of that when they come back, and not what it has set.
func TestCircleKeptApart(t *testing.T) {
	for _, places := range []string{"mmm", "mms", "msm", "smm", "mss", "sms", "ssm", "sss"} {
		for _, first := range []int{0, 1, 2} {
			t.Run(fmt.Sprint(places, first), func(t *testing.T) {
				x := &standingRun{t: t, places: places, stores: map[byte]*disk{'m': newDisk(), 's': newDisk()}, alone: true}
				circle := func() {
					x.open(first, (first+1)%3, (first+2)%3)
					for i := range x.c {
						ok(t, x.m.Depend(fmt.Sprint("c", (i+1)%3), fmt.Sprint("c", i)))
					}
				}
				want := func(has ...bool) {
					t.Helper()
					for i, c := range x.c {
						ok(t, c.Load(t.Context()))
						_, there := c.Peek(1)
						equal(t, c.Name(), there, has[i])
					}
				}
				circle()
				for _, c := range x.c {
					ok(t, c.Set(1, 1))
				}
				ok(t, x.m.Close())
				circle()
				want(true, true, true)
				ok(t, x.m.Close())
				x.open(0)
				ok(t, x.c[0].Set(1, 2))
				ok(t, x.c[0].Touch())
				ok(t, x.m.Sync(t.Context())) // and the program is killed
				for range 2 {
					circle()
					want(true, false, false)
					v, _ := x.c[0].Peek(1)
					equal(t, "c0", v, 2)
					ok(t, x.m.Close())
				}
			})
		}
	}
}

// TestStandingThroughMemory: what was computed through a cache in memory is built again when that was declared to depend on
// what a run of the program has changed that did not register it, or that died before the other place was saved.
func TestStandingThroughMemory(t *testing.T) {
	for _, apart := range []bool{false, true} {
		main, other, builds := newDisk(), newDisk(), 0
		open := func(all bool) (m *Manager, in, top *Cache[int, int]) {
			m = openOn(main)
			t.Cleanup(func() { m.Close() })
			spec := Spec[int, int]{}
			if apart {
				spec.Store = other
			}
			in = must(Register(m, "in", spec))
			if !all {
				return m, in, nil
			}
			mid := must(Register(m, "mid", Spec[int, int]{Memory: true, DependsOnChange: []string{"in"}, Build: func(ctx context.Context, k int) (int, error) {
				return in.Get(context.Background(), k) // not tracked
			}}))
			top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				builds++
				return mid.Get(ctx, k)
			}}))
			return m, in, top
		}
		m, in, top := open(true)
		ok(t, in.Set(1, 1))
		equal(t, "top", must(top.Get(t.Context(), 1)), 1)
		ok(t, m.Close())
		m, _, top = open(true)
		equal(t, "top", must(top.Get(t.Context(), 1)), 1)
		equal(t, "builds", builds, 1)
		ok(t, m.Close())

		m, in, _ = open(false)
		ok(t, in.Set(1, 2))
		ok(t, m.Close())
		m, in, top = open(true)
		equal(t, "top", must(top.Get(t.Context(), 1)), 2)
		ok(t, m.Sync(t.Context()))

		ok(t, in.Set(1, 3))
		if apart {
			other.after = func() { main.setFail(errPlanned) } // so what is noted afterwards is lost, too
			if in.Sync(t.Context()) == nil {
				t.Error("it does not fail")
			}
			other.after = nil
			main.setFail(nil)
			_, in, top = open(true)
			equal(t, "top", must(top.Get(t.Context(), 1)), must(in.Get(t.Context(), 1)))
		}
	}
}

// TestKeptApartOfRenamed: a cache that has another name now is what others depend on, also in runs that do not register
// these, and after those.
func TestKeptApartOfRenamed(t *testing.T) {
	for first := range 2 { // whether it is changed first, or read
		testKeptApartOfRenamed(t, first)
	}
}

func testKeptApartOfRenamed(t *testing.T, first int) {
	main, other, builds := newDisk(), newDisk(), 0
	open := func(all bool, name string, formerly ...string) (m *Manager, in, out *Cache[int, int]) {
		m = openOn(main)
		t.Cleanup(func() { m.Close() })
		in = must(Register(m, name, Spec[int, int]{Formerly: formerly}))
		if all {
			out = must(Register(m, "out", Spec[int, int]{Store: other, DependsOnChange: []string{name}, Build: func(_ context.Context, k int) (int, error) {
				builds++
				return in.Get(context.Background(), k) // not tracked
			}}))
		}
		return m, in, out
	}
	m, in, out := open(true, "old")
	ok(t, in.Set(1, 1))
	equal(t, "out", must(out.Get(t.Context(), 1)), 1)
	ok(t, m.Close())
	for v := 1 + first; v < 4; v++ {
		m, in, _ = open(false, "new", "old")
		ok(t, in.Set(1, v))
		ok(t, m.Close())
		m, _, out = open(true, "new", "old")
		equal(t, "out", must(out.Get(t.Context(), 1)), v)
		equal(t, "builds", builds, v)
		ok(t, m.Close())
	}
}
