package cacheman

import (
	"context"
	"errors"
	"iter"
	"maps"
	"runtime"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
)

var errPlanned = errors.New("planned")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// wantContents checks all entries of c.
func wantContents[K, V comparable](t *testing.T, c *Cache[K, V], want map[K]V) {
	t.Helper()
	if got := maps.Collect(c.All()); !maps.Equal(got, want) {
		t.Fatalf("%s holds %v, want %v", c.Name(), got, want)
	}
	if c.Len() != len(want) {
		t.Fatalf("%s: Len is %d, want %d", c.Name(), c.Len(), len(want))
	}
}

// sideBySide has Build work on two entries at a time at least, on one processor, too.
func sideBySide(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n < 2 {
		runtime.GOMAXPROCS(2)
		t.Cleanup(func() { runtime.GOMAXPROCS(n) })
	}
}

// openOn opens a Manager that saves in s when it is told to.
func openOn(s store.Store) *Manager {
	return must(Open("", Options{Store: s, Autosync: &Autosync{Off: true}}))
}

// savedIn returns what somebody else would find of the cache c in d.
func savedIn(d *disk, c string) map[int]int {
	m := must(Open("", Options{Store: &disk{Store: d.Store}, ReadOnly: true}))
	defer m.Close()
	return maps.Collect(must(Register(m, c, Spec[int, int]{})).All())
}

// disk is a store that survives the Managers on it, like a directory, and can
// be made to fail.
type disk struct {
	*memstore.Store
	mu      sync.Mutex
	applies int
	ops     []store.Op // of the last batch, without keys and values
	fail    error      // what Apply returns
	before  func()     // called by Apply first
	after   func()     // called when it has been given all ops
}

func newDisk() *disk { return &disk{Store: memstore.New()} }

func (d *disk) Close() error { return nil }

func (d *disk) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	d.mu.Lock()
	fail, before := d.fail, d.before
	d.mu.Unlock()
	if before != nil {
		before()
	}
	var seen []store.Op
	err := d.Store.Apply(ctx, func(yield func(store.Op, error) bool) {
		for op, err := range ops {
			if op.Cache != revisions {
				seen = append(seen, store.Op{Kind: op.Kind, Cache: op.Cache})
			}
			if !yield(op, err) {
				return
			}
		}
		if d.after != nil {
			d.after()
		}
		if fail != nil {
			yield(store.Op{}, fail)
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applies++
	d.ops = seen
	return err
}

func (d *disk) setFail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applies
}

// open opens a Manager on d, to be closed at the end of the test.
func (d *disk) open(t *testing.T, opts Options) *Manager {
	t.Helper()
	opts.Store = d
	m, err := Open("", opts)
	ok(t, err)
	t.Cleanup(func() {
		for fault := range m.Check() {
			t.Error(fault)
		}
		m.Close()
		for fault := range checkStore(context.Background(), d) {
			t.Error(fault)
		}
	})
	return m
}

func newManager(t *testing.T) *Manager { return newDisk().open(t, Options{}) }

// checkTable verifies the invariants of a table at rest.
func checkTable[K comparable, V any](t *testing.T, c *Cache[K, V]) {
	t.Helper()
	tab := c.table.Load()
	if tab.saving {
		t.Error("a cut is left behind")
	}
	for i := range tab.shards {
		s := &tab.shards[i]
		live, dirty := 0, 0
		for k, e := range s.entries {
			if e.key != k || tab.shard(k) != s {
				t.Errorf("the entry of %v is in the wrong place", k)
			}
			if e.kind.held() {
				live++
			}
			switch {
			case e.dirty == tab.gen:
				dirty++
			case e.dirty != 0:
				t.Errorf("%v is marked for cut %d, the next is %d", k, e.dirty, tab.gen)
			case e.kind == absent && e.node == nil && e.len == 0 && c.state.Load() == stateReady:
				t.Errorf("a trace of %v is left", k)
			}
		}
		if live != s.live || dirty != len(s.dirty) || len(s.taken)+len(s.before) != 0 {
			t.Errorf("shard %d: live %d, counted %d; dirty %d, listed %d; taken %d, before %d",
				i, s.live, live, dirty, len(s.dirty), len(s.taken), len(s.before))
		}
	}
}
