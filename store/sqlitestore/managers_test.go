package sqlitestore_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
)

// pair is a Manager of a database that others may have open too, with inputs and
// what is computed from them.
type pair struct {
	m       *cacheman.Manager
	in, out *cacheman.Cache[string, string]
	builds  int
}

// beside is a store whose caches are listed just before somebody else does something.
type beside struct {
	*sqlitestore.Store
	do func()
}

func (b *beside) Caches(ctx context.Context) ([]store.Info, error) {
	infos, err := b.Store.Caches(ctx)
	if b.do != nil {
		b.do()
	}
	return infos, err
}

func openPair(t *testing.T, path string, meanwhile func()) *pair {
	t.Helper()
	s, err := sqlitestore.Open(path, sqlitestore.Options{})
	ok(t, err)
	p := &pair{}
	p.m, err = cacheman.Open("", cacheman.Options{Store: &beside{s, meanwhile}, Autosync: &cacheman.Autosync{Off: true}})
	ok(t, err)
	t.Cleanup(func() { p.m.Close() })
	p.in, err = cacheman.Register(p.m, "in", cacheman.Spec[string, string]{})
	ok(t, err)
	p.out, err = cacheman.Register(p.m, "out", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, k string) (string, error) {
			p.builds++
			v, err := p.in.Get(ctx, k)
			return "of " + v, err
		},
	})
	ok(t, err)
	return p
}

func (p *pair) want(t *testing.T, k, v string) {
	t.Helper()
	if got, err := p.out.Get(t.Context(), k); got != v || err != nil {
		t.Errorf("out[%s] is %q, %v; want %q", k, got, err, v)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTwoManagers has two Managers write one database. What one has computed from a
// value of its own does not pass for computed from that of the other.
func TestTwoManagers(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		twoManagers(t, path, openPair(t, path, nil), openPair(t, path, nil))
	})
	t.Run("at once", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		var b *pair
		a := openPair(t, path, func() { b = openPair(t, path, nil) })
		twoManagers(t, path, a, b)
	})
}

func twoManagers(t *testing.T, path string, a, b *pair) {
	for _, k := range []string{"x", "y"} {
		ok(t, a.in.Set(k, "a"))
		a.want(t, k, "of a")
		ok(t, b.in.Set(k, "b"))
		ok(t, a.m.Sync(t.Context()))
		ok(t, b.m.Sync(t.Context()))
	}
	ok(t, a.m.Reload(t.Context(), cacheman.All()))
	a.want(t, "x", "of b")
	ok(t, a.in.Set("y", "a"))
	a.want(t, "y", "of a")
	for err := range a.m.Check() {
		t.Error(err)
	}
	ok(t, b.m.Close())
	ok(t, a.m.Close())

	c := openPair(t, path, nil)
	c.want(t, "x", "of b")
	c.want(t, "y", "of a")
	if c.builds > 0 {
		t.Errorf("%d builds after a restart", c.builds)
	}
	ok(t, c.in.Set("x", "c"))
	c.want(t, "x", "of c")
	ok(t, c.m.Close())

	d := openPair(t, path, nil)
	d.want(t, "x", "of c")
	d.want(t, "y", "of a")
	if d.builds > 0 {
		t.Errorf("%d builds after a restart", d.builds)
	}
	for err := range d.m.Check() {
		t.Error(err)
	}
}

// TestReloadOfAnothers: a Manager sees, after Reload, what another has saved of a cache of
// which there was nothing when it was opened.
func TestReloadOfAnothers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	a, b := openPair(t, path, nil), openPair(t, path, nil)
	ok(t, b.in.Set("a", "1"))
	ok(t, b.m.Sync(t.Context()))
	ok(t, a.in.Reload(t.Context()))
	a.want(t, "a", "of 1")
}

// TestBuildAllOfAnothers: contents that another Manager has built as a whole of inputs of its own
// are built anew, and nothing of them is left.
func TestBuildAllOfAnothers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	open := func() (p *pair, all *cacheman.Cache[string, string]) {
		p = openPair(t, path, nil)
		all, err := cacheman.Register(p.m, "all", cacheman.Spec[string, string]{
			BuildAll: func(ctx context.Context) (map[string]string, error) {
				v, err := p.in.Get(ctx, "a")
				return map[string]string{v: v}, err
			},
		})
		ok(t, err)
		return p, all
	}
	want := func(all *cacheman.Cache[string, string], v string) {
		t.Helper()
		contents, err := all.Collect(t.Context())
		ok(t, err)
		if len(contents) != 1 || contents[v] != v {
			t.Errorf("it is %v, and not of %s", contents, v)
		}
	}
	p, all := open()
	ok(t, p.in.Set("a", "1"))
	want(all, "1")
	ok(t, p.m.Close())
	a, ofA := open()
	b, ofB := open()
	if v, err := a.in.Get(t.Context(), "a"); v != "1" || err != nil {
		t.Fatal(v, err)
	}
	ok(t, b.in.Set("a", "2"))
	want(ofB, "2")
	ok(t, b.m.Sync(t.Context()))
	want(ofA, "1")
	ok(t, a.in.Set("a", "3"))
	want(ofA, "3")
}
