package cacheman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cacheman-go/cacheman/codec"
)

func TestSchemaChange(t *testing.T) {
	d := newDisk()
	type before struct{ Lines int }
	type after struct{ Lines, Words int }
	{
		m := d.open(t, Options{})
		set := must(Register(m, "set", Spec[string, before]{}))
		built := must(Register(m, "built", Spec[string, before]{Build: func(context.Context, string) (before, error) { return before{1}, nil }}))
		ok(t, set.Set("a", before{5}))
		must(built.Get(t.Context(), "a"))
		ok(t, m.Close())
	}
	var reasons []string
	m := d.open(t, Options{Observe: func(e Event) {
		if e.Kind == EventBuilt {
			reasons = append(reasons, e.Reason)
		}
	}})
	set := must(Register(m, "set", Spec[string, after]{}))
	built := must(Register(m, "built", Spec[string, after]{Build: func(context.Context, string) (after, error) { return after{1, 2}, nil }}))
	equal(t, "what was set", must(set.Get(t.Context(), "a")), after{5, 0})
	equal(t, "what was built", must(built.Get(t.Context(), "a")), after{1, 2})
	if len(reasons) != 1 || !strings.Contains(reasons[0], "type of its values") {
		t.Errorf("reasons: %q", reasons)
	}
}

func TestSchemaChangeOfBuildAll(t *testing.T) {
	d := newDisk()
	type before struct{ N int }
	type after struct{ N, M int }
	m := d.open(t, Options{})
	old := must(Register(m, "c", Spec[int, before]{BuildAll: func(context.Context) (map[int]before, error) { return map[int]before{1: {1}}, nil }}))
	must(old.Get(t.Context(), 1))
	ok(t, m.Close())
	m = d.open(t, Options{})
	c := must(Register(m, "c", Spec[int, after]{BuildAll: func(context.Context) (map[int]after, error) { return map[int]after{1: {1, 2}}, nil }}))
	equal(t, "1", must(c.Get(t.Context(), 1)), after{1, 2})
}

// asJSON is a codec that is none of ours.
func asJSON[T any]() codec.Codec[T] {
	return codec.Codec[T]{
		Name:   "json",
		Append: func(dst []byte, v T) ([]byte, error) { b, err := json.Marshal(v); return append(dst, b...), err },
		Decode: func(src []byte) (v T, err error) { return v, json.Unmarshal(src, &v) },
	}
}

func TestMigrate(t *testing.T) {
	d := newDisk()
	ctx := t.Context()
	{
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{Version: "1", Codec: asJSON[int]()}))
		for i := range 10 {
			ok(t, c.Set(i, i))
		}
		sum := must(RegisterValue(m, "sum", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (int, error) {
			a, err1 := c.Get(ctx, 1)
			b, err2 := c.Get(ctx, 2)
			return a + b, errors.Join(err1, err2)
		}}))
		equal(t, "sum", must(sum.Get(ctx)), 3)
		ok(t, m.Close())
	}
	calls := 0
	var damaged []any
	open := func() (*Manager, *Cache[int, string], *Value[string]) {
		m := d.open(t, Options{Observe: func(e Event) {
			if e.Kind == EventDamaged {
				damaged = append(damaged, e.Key)
			}
		}})
		c := must(Register(m, "c", Spec[int, string]{Version: "2", Migrate: func(_ context.Context, from Saved, k int, data []byte) (string, error) {
			calls++
			equal(t, "version", from.Version, "1")
			equal(t, "codec", from.Codec, "json")
			equal(t, "type", from.Type, "map[int]int")
			switch k {
			case 7:
				return "", errors.New("not this one")
			case 8:
				return "", ErrNotFound
			case 9:
				panic("neither this")
			}
			return "was " + string(data), nil
		}}))
		sum := must(RegisterValue(m, "sum", Spec[Single, string]{Build: func(ctx context.Context, _ Single) (string, error) {
			a, err1 := c.Get(ctx, 1)
			b, err2 := c.Get(ctx, 2)
			return a + ", " + b, errors.Join(err1, err2)
		}}))
		return m, c, sum
	}
	m, c, sum := open()
	equal(t, "1", must(c.Get(ctx, 1)), "was 1")
	equal(t, "what was computed from them", must(sum.Get(ctx)), "was 1, was 2")
	equal(t, "calls", calls, 10)
	equal(t, "damaged", fmt.Sprint(len(damaged)), "2")
	ok(t, m.Close())

	_, c, sum = open()
	want := map[int]string{}
	for i := range 7 {
		want[i] = fmt.Sprint("was ", i)
	}
	if got := maps.Collect(c.All()); !maps.Equal(got, want) {
		t.Errorf("after a restart: %v", got)
	}
	equal(t, "what was computed from them", must(sum.Get(ctx)), "was 1, was 2")
	equal(t, "calls", calls, 10)
}

// TestMigrateUnread: a cache that nobody reads, but writes to, is migrated
// before it is saved, and one that nobody touches is left alone.
func TestMigrateUnread(t *testing.T) {
	d := newDisk()
	write := func(version string, migrate func(context.Context, Saved, int, []byte) (int, error), k int) {
		m := d.open(t, Options{})
		c := must(Register(m, "c", Spec[int, int]{Version: version, Migrate: migrate}))
		if k > 0 {
			ok(t, c.Set(k, k))
		}
		ok(t, m.Close())
	}
	write("1", nil, 1)
	double := func(_ context.Context, from Saved, _ int, data []byte) (int, error) {
		v, err := must(codec.For[int]()).Decode(data)
		return 10 * v, err
	}
	write("2", double, 0)
	write("2", double, 2)
	write("2", double, 3)
	m := d.open(t, Options{})
	wantContents(t, must(Register(m, "c", Spec[int, int]{Version: "2"})), map[int]int{1: 10, 2: 2, 3: 3})
}

// Nothing is lost of what is being migrated when nobody waits for it any more.
func TestMigrationIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := openOn(d)
		ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
		ok(t, m.Close())
		m = openOn(d)
		ctx, cancel := context.WithCancel(t.Context())
		c := must(Register(m, "c", Spec[int, int]{Version: "2", Migrate: func(within context.Context, _ Saved, _ int, data []byte) (int, error) {
			if ctx.Err() == nil {
				cancel()
				<-within.Done()
			}
			return 2, within.Err()
		}}))
		if err := c.Load(ctx); err != context.Canceled {
			t.Fatal(err)
		}
		synctest.Wait()
		wantContents(t, c, map[int]int{1: 2})
		ok(t, m.Close())
	})
}

// TestSavedOtherwise: what cannot be used of what was saved does not come back after
// another restart, whether or not anybody has looked at it meanwhile.
func TestSavedOtherwise(t *testing.T) {
	refuse := func(context.Context, Saved, int, []byte) (int, error) { return 0, errors.New("not this one") }
	for what, spec := range map[string]Spec[int, int]{
		"another version":       {Version: "2"},
		"another codec":         {Version: "1", Codec: asJSON[int]()},
		"another codec of keys": {Version: "1", KeyCodec: asJSON[int]()},
		"cannot be migrated":    {Version: "2", Migrate: refuse},
	} {
		for how, use := range map[string]func(c *Cache[int, int]) error{
			"left alone": func(c *Cache[int, int]) error { return nil },
			"loaded":     func(c *Cache[int, int]) error { return c.Load(context.Background()) },
			"reloaded":   func(c *Cache[int, int]) error { return c.Reload(context.Background()) },
			"written to": func(c *Cache[int, int]) error { return c.Set(2, 2) },
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				d := newDisk()
				m := d.open(t, Options{})
				ok(t, must(Register(m, "c", Spec[int, int]{Version: "1"})).Set(1, 1))
				ok(t, m.Close())
				m = d.open(t, Options{})
				ok(t, use(must(Register(m, "c", spec))))
				ok(t, m.Close())
				m = d.open(t, Options{})
				want := map[int]int{}
				if how == "written to" {
					want[2] = 2
				}
				wantContents(t, must(Register(m, "c", spec)), want)
			})
		}
	}
}

// TestNotSavedBetween: to turn a cache off for a while, or keep it in memory, changes
// nothing of what is saved, nor of what is known of that.
func TestNotSavedBetween(t *testing.T) {
	ctx := t.Context()
	for what, between := range map[string]struct {
		opts Options
		spec Spec[int, int]
	}{
		"all are off": {opts: Options{Off: true}},
		"off":         {spec: Spec[int, int]{Version: "2", Off: true}},
		"in memory":   {spec: Spec[int, int]{Version: "2", Memory: true}},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDisk()
			open := func(opts Options, spec Spec[int, int]) (in, set, all *Cache[int, int], m *Manager) {
				m = d.open(t, opts)
				in = must(Register(m, "in", Spec[int, int]{}))
				set = must(Register(m, "set", spec))
				spec.BuildAll = func(ctx context.Context) (map[int]int, error) {
					v, err := in.Get(ctx, 1)
					if errors.Is(err, ErrNotFound) {
						err = nil // it is off
					}
					return map[int]int{1: v}, err
				}
				all = must(Register(m, "all", spec))
				return in, set, all, m
			}
			in, set, all, m := open(Options{}, Spec[int, int]{Version: "1"})
			ok(t, in.Set(1, 1))
			ok(t, set.Set(1, 1))
			equal(t, "all", must(all.Get(ctx, 1)), 1)
			ok(t, m.Close())

			_, _, all, m = open(between.opts, between.spec)
			must(all.Get(ctx, 1))
			ok(t, m.Close())

			in, set, all, m = open(Options{}, Spec[int, int]{Version: "1"})
			wantContents(t, set, map[int]int{1: 1})
			equal(t, "all", must(all.Get(ctx, 1)), 1)
			equal(t, "builds", all.Stats().Builds, 0)
			ok(t, in.Set(1, 2))
			equal(t, "after a change", must(all.Get(ctx, 1)), 2)
			ok(t, m.Close())

			_, _, _, m = open(between.opts, between.spec)
			ok(t, m.Close())
			_, set, _, _ = open(Options{}, Spec[int, int]{Version: "2"})
			wantContents(t, set, map[int]int{}) // it was told to another version
		})
	}
}

func TestFormerly(t *testing.T) {
	d := newDisk()
	ctx := t.Context()
	builds := 0
	open := func(name string, formerly ...string) (*Manager, *Cache[int, int], *Cache[int, int]) {
		m := d.open(t, Options{})
		in := must(Register(m, name, Spec[int, int]{Formerly: formerly}))
		twice := must(Register(m, "twice", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			builds++
			v, err := in.Get(ctx, k)
			return 2 * v, err
		}}))
		return m, in, twice
	}
	m, in, twice := open("old")
	for i := range 5 {
		ok(t, in.Set(i, i))
		equal(t, "twice", must(twice.Get(ctx, i)), 2*i)
	}
	ok(t, m.Close())
	equal(t, "builds", builds, 5)

	m, in, twice = open("new", "older", "old")
	ok(t, in.Set(4, 40))
	equal(t, "twice", must(twice.Get(ctx, 3)), 6)
	equal(t, "twice", must(twice.Get(ctx, 4)), 80)
	equal(t, "builds", builds, 6)
	ok(t, m.Close())
	equal(t, "names on disk", strings.Contains(fmt.Sprint(must(d.Caches(ctx))), "old"), false)

	m, in, twice = open("new", "older", "old")
	wantContents(t, in, map[int]int{0: 0, 1: 1, 2: 2, 3: 3, 4: 40})
	equal(t, "twice", must(twice.Get(ctx, 2)), 4)
	equal(t, "builds", builds, 6)
	ok(t, m.Close())

	// What is invalidated under the new name does not come back under the old one.
	d = newDisk()
	m, in, _ = open("old")
	ok(t, in.Set(1, 1))
	ok(t, m.Close())
	m, in, _ = open("new", "old")
	ok(t, in.InvalidateAll())
	ok(t, m.Close())
	_, in, _ = open("new", "old")
	wantContents(t, in, map[int]int{})
}

// TestKeysFormerly: what was computed from the keys of a cache stays valid when that has
// another name.
func TestKeysFormerly(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	builds := 0
	open := func(name string, formerly ...string) (*Manager, *Cache[int, int], *Cache[int, int]) {
		m := d.open(t, Options{})
		in := must(Register(m, name, Spec[int, int]{Formerly: formerly}))
		top := must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			builds++
			switch k {
			case 0:
				keys, err := in.CollectKeys(ctx)
				return len(keys), err
			case 1:
				return in.Count(ctx)
			}
			has, err := in.Contains(ctx, 1)
			return len(fmt.Sprint(has)), err
		}}))
		return m, in, top
	}
	for _, name := range []string{"old", "new", "new"} {
		m, in, top := open(name, "old")
		if name == "old" {
			ok(t, in.Set(1, 1))
		}
		builds = 0
		for k, want := range []int{1, 1, len("true")} {
			equal(t, "keys", must(top.Get(ctx, k)), want)
		}
		if name == "new" {
			equal(t, "builds", builds, 0)
		}
		ok(t, m.Close())
	}
	equal(t, "names on disk", strings.Contains(fmt.Sprint(must(d.Caches(ctx))), "old"), false)
	m, in, top := open("new", "old")
	ok(t, in.Delete(1))
	equal(t, "keys after a change", must(top.Get(ctx, 0)), 0)
	ok(t, m.Close())
}

// TestFormerlyReadOnly: who only reads finds what is saved under the old name, as long as
// it is, and goes on with that.
func TestFormerlyReadOnly(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	quiet := Options{Autosync: &Autosync{Off: true}}
	m := must(Open(dir, quiet))
	old := must(Register(m, "old", Spec[int, int]{}))
	ok(t, old.Set(1, 1))
	ok(t, m.Sync(ctx))

	r := must(Open(dir, Options{ReadOnly: true}))
	c := must(Register(r, "new", Spec[int, int]{Formerly: []string{"older", "old"}}))
	builds := 0
	n := must(RegisterValue(r, "n", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (int, error) {
		builds++
		return c.Count(ctx)
	}}))
	for range 2 {
		wantContents(t, c, map[int]int{1: 1})
		equal(t, "number", must(n.Get(ctx)), 1)
		ok(t, c.Reload(ctx))
	}
	ok(t, old.Set(2, 2))
	ok(t, m.Sync(ctx))
	wantContents(t, c, map[int]int{1: 1})
	equal(t, "followed", fmt.Sprint(must(r.Follow(ctx))), "[new]")
	wantContents(t, c, map[int]int{1: 1, 2: 2})
	equal(t, "number", must(n.Get(ctx)), 2)
	ok(t, m.Close())

	m = must(Open(dir, quiet))
	now := must(Register(m, "new", Spec[int, int]{Formerly: []string{"older", "old"}}))
	ok(t, now.Set(3, 3))
	ok(t, m.Sync(ctx))
	wantContents(t, c, map[int]int{1: 1, 2: 2})
	equal(t, "followed", fmt.Sprint(must(r.Follow(ctx))), "[new]")
	wantContents(t, c, map[int]int{1: 1, 2: 2, 3: 3})
	equal(t, "number", must(n.Get(ctx)), 3)
	ok(t, now.InvalidateAll())
	ok(t, m.Sync(ctx))
	must(r.Follow(ctx))
	wantContents(t, c, map[int]int{})
	equal(t, "builds", builds, 3)
	for fault := range r.Check() {
		t.Error(fault)
	}
	ok(t, r.Close())
	ok(t, m.Close())
}

// TestFormerlyWithContents: contents that are given take the place also of what is saved under
// the old name.
func TestFormerlyWithContents(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	ok(t, must(Register(m, "old", Spec[int, int]{})).Set(1, 1))
	ok(t, m.Close())
	m = d.open(t, Options{})
	must(Register(m, "new", Spec[int, int]{Formerly: []string{"old"}, Contents: map[int]int{2: 2}}))
	ok(t, m.Close())
	equal(t, "names on disk", strings.Contains(fmt.Sprint(must(d.Caches(t.Context()))), "old"), false)
	m = d.open(t, Options{})
	wantContents(t, must(Register(m, "new", Spec[int, int]{Formerly: []string{"old"}})), map[int]int{2: 2})
}

// TestFormerlyTaken: a name that a cache had formerly is no other's as long as that cache is
// there, for what is saved under it would be taken for either of them.
func TestFormerlyTaken(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	formerly := Spec[int, int]{Formerly: []string{"older", "old"}}
	must(Register(m, "old", Spec[int, int]{}))
	if _, err := Register(m, "new", formerly); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
	ok(t, m.Deregister(ctx, Only("old")))
	must(Register(m, "new", formerly))
	if _, err := Register(m, "old", Spec[int, int]{}); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
	ok(t, m.Deregister(ctx, Only("new")))
	must(Register(m, "old", Spec[int, int]{}))
}

// TestFormerlyReload: what was taken over and not saved yet is read again, and so it is if
// saving has failed.
func TestFormerlyReload(t *testing.T) {
	for name, before := range map[string]func(*disk, *Cache[int, int]){
		"at once":  func(*disk, *Cache[int, int]) {},
		"loaded":   func(_ *disk, c *Cache[int, int]) { must(0, c.Load(t.Context())) },
		"reloaded": func(_ *disk, c *Cache[int, int]) { must(0, c.Reload(t.Context())) },
		"written":  func(_ *disk, c *Cache[int, int]) { must(0, c.Set(2, 2)) },
		"cleared":  func(_ *disk, c *Cache[int, int]) { must(0, c.Clear()) },
		"saved":    func(_ *disk, c *Cache[int, int]) { must(0, c.m.Sync(t.Context())) },
		"not saved": func(d *disk, c *Cache[int, int]) {
			c.Load(t.Context())
			d.fail = errPlanned
			c.m.Sync(t.Context())
			d.fail = nil
		},
		"saved later": func(d *disk, c *Cache[int, int]) {
			c.Load(t.Context())
			d.fail = errPlanned
			c.m.Sync(t.Context())
			d.fail = nil
			must(0, c.m.Sync(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			m := openOn(d)
			ok(t, must(Register(m, "old", Spec[int, int]{})).Set(1, 1))
			ok(t, m.Close())
			open := func() *Cache[int, int] {
				m = openOn(d)
				return must(Register(m, "new", Spec[int, int]{Formerly: []string{"old"}}))
			}
			c := open()
			before(d, c)
			for range 2 {
				ok(t, c.Reload(t.Context()))
				wantContents(t, c, map[int]int{1: 1})
			}
			ok(t, m.Close())
			equal(t, "names on disk", strings.Contains(fmt.Sprint(must(d.Caches(t.Context()))), "old"), false)
			wantContents(t, open(), map[int]int{1: 1})
			ok(t, m.Close())
		})
	}
}

// TestFormerlyOthersSaved: what is under the old name stays until there is something under
// the new one, whatever else is saved.
func TestFormerlyOthersSaved(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	ok(t, must(Register(m, "old", Spec[int, int]{})).Set(1, 1))
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	c := must(Register(m, "new", Spec[int, int]{Formerly: []string{"old"}}))
	other := must(Register(m, "other", Spec[int, int]{}))
	ok(t, c.Load(t.Context()))
	ok(t, other.Set(1, 1))
	ok(t, other.Sync(t.Context()))
	after := openOn(&disk{Store: d.Store}) // as if the process had died here
	defer after.Close()
	wantContents(t, must(Register(after, "new", Spec[int, int]{Formerly: []string{"old"}})), map[int]int{1: 1})
}

// TestFormerlyGone: what was saved under an old name, while something is under the new one, does
// not take the place of that when it is invalidated or deleted.
func TestFormerlyGone(t *testing.T) {
	spec := Spec[int, int]{Formerly: []string{"old"}}
	for how, gone := range map[string]func(*Manager) error{
		"invalidated": func(m *Manager) error {
			return errors.Join(m.Invalidate(Only("new")), m.Sync(t.Context()))
		},
		"deleted": func(m *Manager) error { return m.DeleteSaved(t.Context(), Only("new")) },
	} {
		for _, names := range [][]string{{"old", "new"}, {"old"}, {"new"}} {
			t.Run(fmt.Sprint(how, names), func(t *testing.T) {
				d := newDisk()
				for i, name := range names {
					m := d.open(t, Options{})
					must(Register(m, name, Spec[int, int]{})).Set(1, i)
					ok(t, m.Close())
				}
				m := openOn(d)
				defer m.Close()
				must(Register(m, "new", spec))
				ok(t, gone(m))
				after := openOn(&disk{Store: d.Store}) // as if the process had died here
				defer after.Close()
				wantContents(t, must(Register(after, "new", spec)), map[int]int{})
			})
		}
	}
}

// TestFormerlyInMemory: what was invalidated in a cache in memory is not forgotten when that has another name, nor
// what was written to it, also by a program that still has the old one.
func TestFormerlyInMemory(t *testing.T) {
	for name, change := range map[string]func(*Cache[int, int]) error{
		"all":   func(c *Cache[int, int]) error { return c.InvalidateAll() },
		"entry": func(c *Cache[int, int]) error { return c.Invalidate(1) },
	} {
		t.Run(name, func(t *testing.T) {
			d, outside := newDisk(), 1
			open := func(opts Options, name string, formerly ...string) (m *Manager, mid, top *Cache[int, int]) {
				m = d.open(t, opts)
				mid = must(Register(m, name, Spec[int, int]{Memory: true, Formerly: formerly, Build: func(context.Context, int) (int, error) {
					return outside, nil
				}}))
				top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return mid.Get(ctx, k) }}))
				return m, mid, top
			}
			m, mid, top := open(Options{}, "old")
			equal(t, "top", must(top.Get(t.Context(), 1)), 1)
			ok(t, m.Sync(t.Context()))
			outside = 2
			ok(t, change(mid))
			ok(t, m.Sync(t.Context()))
			_, _, reading := open(Options{ReadOnly: true}, "new", "old")
			equal(t, "top of a reader", must(reading.Get(t.Context(), 1)), 2)
			ok(t, m.Close())
			m, _, top = open(Options{}, "new", "old")
			equal(t, "top", must(top.Get(t.Context(), 1)), 2)
			ok(t, m.Close())
			_, mid, top = open(Options{}, "new", "old")
			equal(t, "top", must(top.Get(t.Context(), 1)), 2)
			equal(t, "builds", top.Stats().Builds, 0)
			ok(t, change(mid))
			outside = 3
			equal(t, "top", must(top.Get(t.Context(), 1)), 3)
		})
	}
}
