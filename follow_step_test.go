package cacheman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// stagedReader is a Reader that stops at certain points, to let others get in between.
type stagedReader struct {
	*logstore.Reader
	prepared func()             // what is new was read and does not show
	showing  func()             // it shows
	read     func(cache string) // a record, or the first of several, was read
}

func (s *stagedReader) Refresh(ctx context.Context, with func([]string, []store.Info, func())) ([]string, error) {
	return s.Reader.Refresh(ctx, func(changed []string, caches []store.Info, show func()) {
		s.prepared()
		with(changed, caches, func() {
			show()
			s.showing()
		})
	})
}

func (s *stagedReader) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	rec, err := s.Reader.Get(ctx, cache, key)
	s.read(cache)
	return rec, err
}

func (s *stagedReader) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		first := true
		for rec, err := range s.Reader.Load(ctx, cache) {
			if first {
				s.read(cache)
			}
			first = false
			if !yield(rec, err) {
				return
			}
		}
	}
}

// twins are caches a, b and late of a writer, with the same entries, and still,
// which does not change; and a Manager that follows, and has registered some of them.
type twins struct {
	w        *Manager
	written  []*Cache[int, int]
	n        int // of entries
	s        *stagedReader
	r        *Manager
	a, b     *Cache[int, int]
	still    *Cache[int, int]
	register func(name string) *Cache[int, int]
}

// newTwins returns twins with the value 1, which are read one by one if partial.
func newTwins(t *testing.T, n int, partial bool) *twins {
	t.Helper()
	dir := t.TempDir()
	x := &twins{w: openDir(t, dir, Options{Autosync: &Autosync{Off: true}}), n: n}
	for _, name := range []string{"a", "b", "late"} {
		x.written = append(x.written, must(Register(x.w, name, Spec[int, int]{})))
	}
	still := must(Register(x.w, "still", Spec[int, int]{}))
	for i := range n {
		ok(t, still.Set(i, 1))
	}
	x.set(t, 1)
	x.s = &stagedReader{
		Reader:   must(logstore.OpenReader(dir, logstore.Options{})),
		prepared: func() {},
		showing:  func() {},
		read:     func(string) {},
	}
	x.r = openDir(t, "", Options{Store: x.s, ReadOnly: true})
	x.r.partialFrom, x.r.readCost = 1, 0
	if !partial {
		x.r.partialFrom = 1 << 30
	}
	x.register = func(name string) *Cache[int, int] { return must(Register(x.r, name, Spec[int, int]{})) }
	x.a, x.b, x.still = x.register("a"), x.register("b"), x.register("still")
	return x
}

// set gives all entries the value v and saves that.
func (x *twins) set(t *testing.T, v int) {
	t.Helper()
	for _, c := range x.written {
		for i := range x.n {
			ok(t, c.Set(i, v))
		}
	}
	ok(t, x.w.Sync(t.Context()))
}

func (x *twins) follow(t *testing.T) {
	t.Helper()
	must(x.r.Follow(t.Context()))
}

// wantPeek checks what Peek returns.
func wantPeek(t *testing.T, c *Cache[int, int], k, want int) {
	t.Helper()
	v, found := c.Peek(k)
	equal(t, c.Name(), fmt.Sprint(v, found), fmt.Sprint(want, true))
}

// bothWays runs test with entries that are read one by one, and with all of a cache.
func bothWays(t *testing.T, test func(t *testing.T, partial bool)) {
	for _, partial := range []bool{true, false} {
		t.Run(fmt.Sprintf("partial=%v", partial), func(t *testing.T) { test(t, partial) })
	}
}

// TestFollowShowsNothingEarly: before the caches of the Manager go on nothing that
// is new can be read, whether other entries are in memory or not; also not in a
// cache that is registered just then.
func TestFollowShowsNothingEarly(t *testing.T) {
	bothWays(t, func(t *testing.T, partial bool) {
		x := newTwins(t, 3, partial)
		wantPeek(t, x.b, 0, 1)
		x.set(t, 2)
		var late *Cache[int, int]
		x.s.prepared = func() {
			late = x.register("late")
			wantPeek(t, late, 0, 1)
			wantPeek(t, x.a, 0, 1)
			wantPeek(t, x.b, 0, 1)
			wantPeek(t, x.b, 1, 1)
		}
		x.s.showing = func() {
			// What is in memory is old yet, and the rest has to wait for the gate.
			wantPeek(t, x.b, 0, 1)
			if x.r.gate.TryRLock() {
				x.r.gate.RUnlock()
				t.Error("what is new can be read beside what is old")
			}
		}
		x.follow(t)
		for k := range x.n {
			wantPeek(t, x.a, k, 2)
			wantPeek(t, x.b, k, 2)
			wantPeek(t, late, k, 2)
		}
	})
}

// TestFollowOvertakes: what was read before Follow, and comes back after it, is read
// again; of a cache that has not changed it is used.
func TestFollowOvertakes(t *testing.T) {
	asks := map[string]func(*Cache[int, int]) (int, bool){
		"Peek": func(c *Cache[int, int]) (int, bool) { return c.Peek(1) },
		"Get": func(c *Cache[int, int]) (int, bool) {
			v, err := c.Get(t.Context(), 1)
			return v, err == nil
		},
		"All": func(c *Cache[int, int]) (int, bool) {
			all := maps.Collect(c.All())
			v, found := all[1]
			return v, found && len(all) == 3 && c.Len() == 3
		},
	}
	bothWays(t, func(t *testing.T, partial bool) {
		for name, ask := range asks {
			for _, changes := range []bool{true, false} {
				x := newTwins(t, 3, partial)
				c, want := x.still, 1
				if changes {
					c, want = x.a, 2
				}
				x.set(t, 2)
				var once sync.Once
				x.s.read = func(cache string) {
					if cache == c.Name() {
						once.Do(func() { x.follow(t) })
					}
				}
				v, found := ask(c)
				equal(t, name+" of "+c.Name(), fmt.Sprint(v, found), fmt.Sprint(want, true))
				wantPeek(t, x.b, 1, 2)
			}
		}
	})
}

// TestFollowDuringAll: an iteration gives every entry once, and from Follow on what
// is new.
func TestFollowDuringAll(t *testing.T) {
	bothWays(t, func(t *testing.T, partial bool) {
		x := newTwins(t, 3000, partial)
		seen := map[int]bool{}
		want := 1
		for k, v := range x.a.All() {
			equal(t, fmt.Sprint("value of ", k), v, want)
			if seen[k] = true; len(seen) == 100 {
				x.set(t, 2)
				x.follow(t)
				want = 2
			}
			wantPeek(t, x.b, k, want)
		}
		equal(t, "entries", len(seen), x.n)
	})
}

// TestFollowIsOneStep: a and b are always equal; nobody reads a value of one that is
// older than what was read of the other before, or none at all.
func TestFollowIsOneStep(t *testing.T) {
	bothWays(t, func(t *testing.T, partial bool) {
		x := newTwins(t, 4, partial)
		done := make(chan struct{})
		var readers sync.WaitGroup
		for i := range 4 {
			first, second := x.a, x.b
			if i%2 == 1 {
				first, second = second, first
			}
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					before, found := first.Peek(i)
					after, err := second.Get(t.Context(), 3-i)
					if !found || err != nil || after < before {
						t.Errorf("%d, %v, and then %d, %v", before, found, after, err)
						return
					}
				}
			})
		}
		for v := range 100 {
			x.set(t, v+2)
			x.follow(t)
		}
		close(done)
		readers.Wait()
	})
}

// TestFollowOfDropped: when one of two caches that were dropped together is seen
// to be empty, so is the other.
func TestFollowOfDropped(t *testing.T) {
	bothWays(t, func(t *testing.T, partial bool) {
		x := newTwins(t, 1, partial)
		for v := range 50 {
			x.set(t, v+2)
			x.follow(t)
			wantPeek(t, x.a, 0, v+2)
			wantPeek(t, x.b, 0, v+2)
			var readers sync.WaitGroup
			for _, c := range [][2]*Cache[int, int]{{x.a, x.b}, {x.b, x.a}} {
				readers.Go(func() {
					for c[0].Has(0) {
					}
					if v, found := c[1].Peek(0); found {
						t.Errorf("%s is empty, and %s has %d", c[0].Name(), c[1].Name(), v)
					}
				})
			}
			for _, c := range x.written {
				ok(t, c.InvalidateAll())
			}
			ok(t, x.w.Sync(t.Context()))
			x.follow(t)
			readers.Wait()
		}
	})
}

// dyingFS is what a process sees of a disk that does not sync, until it dies.
type dyingFS struct {
	vfs.FS
	sync func() error // of files
	lock io.Closer
}

type dyingFile struct {
	vfs.File
	of *dyingFS
}

func (d *dyingFS) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return dyingFile{f, d}, err
}

func (d *dyingFS) Lock(name string) (lock io.Closer, err error) {
	d.lock, err = d.FS.Lock(name)
	return d.lock, err
}

func (f dyingFile) Sync() error { return errors.Join(f.of.sync(), f.File.Sync()) }

// TestFollowOfFailedBatch: a batch that a reader has seen, and that does not count, for the disk
// did not sync. Its writer dies, and what the reader has computed of it is not taken for what
// would be computed from what the next one saves.
func TestFollowOfFailedBatch(t *testing.T) {
	disk := faultfs.New()
	open := func(fs vfs.FS) (*Manager, *Cache[int, int]) {
		opts := quietly
		opts.Store = must(logstore.Open("the disk", logstore.Options{FS: fs, CompactAt: -1}))
		m := must(Open("", opts))
		return m, must(Register(m, "in", Spec[int, int]{}))
	}
	fs := &dyingFS{FS: disk, sync: func() error { return nil }}
	w, in := open(fs)
	ok(t, in.Set(1, 1))
	ok(t, w.Sync(t.Context()))

	r := must(Open("", Options{Store: must(logstore.OpenReader("the disk", logstore.Options{FS: disk})), ReadOnly: true}))
	defer r.Close()
	read := must(Register(r, "in", Spec[int, int]{}))
	twice := must(Register(r, "twice", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := read.Get(ctx, k)
		return 2 * v, err
	}}))
	ok(t, in.Set(1, 2))
	seen := sync.OnceFunc(func() {
		must(r.Follow(t.Context()))
		equal(t, "before it is durable", must(twice.Get(t.Context(), 1)), 4)
	})
	fs.sync = func() error {
		seen()
		return errPlanned
	}
	if err := w.Sync(t.Context()); !errors.Is(err, errPlanned) {
		t.Fatalf("Sync: %v", err)
	}
	ok(t, fs.lock.Close()) // it is dead

	w, in = open(disk)
	wantPeek(t, in, 1, 1)
	ok(t, in.Set(1, 3))
	ok(t, w.Close())
	must(r.Follow(t.Context()))
	equal(t, "after the next writer", must(twice.Get(t.Context(), 1)), 6)
}

// TestBuildAllBesideLoading: what is loaded while a BuildAll runs, that began before there was
// anything to load, is what was saved of earlier contents, and was not set by hand.
func TestBuildAllBesideLoading(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	var load func() // called in the reader's BuildAll
	register := func(m *Manager) (in, all *Cache[int, int]) {
		in = must(Register(m, "in", Spec[int, int]{}))
		all = must(Register(m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := in.Get(ctx, 0)
			if m.opts.ReadOnly {
				load()
			}
			return map[int]int{1: v, v: v}, err
		}}))
		return in, all
	}
	w := openDir(t, dir, Options{Autosync: &Autosync{Off: true}})
	in, all := register(w)
	set := func(v int) {
		ok(t, in.Set(0, v))
		ok(t, w.Sync(ctx))
	}
	set(2)
	ok(t, all.Load(ctx))
	set(3)

	s := &stagedReader{
		Reader:   must(logstore.OpenReader(dir, logstore.Options{})),
		prepared: func() {},
		showing:  func() {},
		read:     func(string) {},
	}
	r := openDir(t, "", Options{Store: s, ReadOnly: true})
	_, rall := register(r)
	load = func() {
		done := make(chan struct{})
		go func() { // not as a part of what it builds
			defer close(done)
			rall.Len()
		}()
		<-done
		equal(t, "state", rall.state.Load(), stateReady)
	}
	s.read = func(cache string) {
		if cache == "in" { // to see whether what was loaded is to be built
			s.read = func(string) {}
			ok(t, all.Set(9, 9))
			set(4)
			must(r.Follow(ctx))
			equal(t, "state", rall.state.Load(), stateUnloaded)
		}
	}
	ok(t, rall.Load(ctx))
	if got, want := maps.Collect(rall.All()), map[int]int{1: 4, 4: 4}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
