package logstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

func openReader(t *testing.T, opts logstore.Options) *logstore.Reader {
	t.Helper()
	r, err := logstore.OpenReader("test", opts)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, r, (*logstore.Reader).Close)
	return r
}

func refresh(t *testing.T, r *logstore.Reader) []string {
	t.Helper()
	changed, err := r.Refresh(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// pair is a store that is written by one and read by another.
type pair struct {
	*logstore.Reader
	w *logstore.Store
}

func (p pair) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	return p.w.Apply(ctx, ops)
}
func (p pair) Compact(ctx context.Context) error { return p.w.Compact(ctx) }
func (p pair) Close() error                      { return errors.Join(p.Reader.Close(), p.w.Close()) }

func (p pair) Caches(ctx context.Context) ([]store.Info, error) {
	if err := p.refresh(ctx); err != nil {
		return nil, err
	}
	return p.Reader.Caches(ctx)
}

func (p pair) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := p.refresh(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		p.Reader.Load(ctx, cache)(yield)
	}
}

func (p pair) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	if err := p.refresh(ctx); err != nil {
		return store.Record{}, err
	}
	return p.Reader.Get(ctx, cache, key)
}

func (p pair) refresh(ctx context.Context) error {
	_, err := p.Refresh(ctx, nil)
	return err
}

// The suite of all stores, with a reader beside the writer that sees
// everything at once.
func TestReader(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{"eager": 1, "never": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Open {
				opts := logstore.Options{CompactAt: at, FS: faultfs.New(), Observe: failOnTrouble(t)}
				return func() (store.Store, error) {
					w, err := logstore.Open("memory", opts)
					if err != nil {
						return nil, err
					}
					r, err := logstore.OpenReader("memory", opts)
					return pair{r, w}, err
				}
			})
		})
	}
}

// What a reader promises as a store.Follower.
func TestFollower(t *testing.T) {
	t.Parallel()
	storetest.RunFollower(t, func(t *testing.T) (w, f store.Store) {
		opts := logstore.Options{CompactAt: -1, FS: faultfs.New(), Observe: failOnTrouble(t)}
		return open(t, opts), openReader(t, opts)
	})
}

// calling is a file system that calls back before each call.
type calling struct {
	vfs.FS
	before func()
}

type callingFile struct {
	vfs.File
	before func()
}

func (c *calling) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return callingFile{f, c.before}, nil
}

func (c *calling) Create(name string) (vfs.File, error) {
	c.before()
	return c.file(c.FS.Create(name))
}

func (c *calling) Open(name string) (vfs.File, error) {
	c.before()
	return c.file(c.FS.Open(name))
}

func (c *calling) OpenWrite(name string) (vfs.File, error) {
	c.before()
	return c.file(c.FS.OpenWrite(name))
}

func (c *calling) Remove(name string) error     { c.before(); return c.FS.Remove(name) }
func (c *calling) List() ([]vfs.Entry, error)   { c.before(); return c.FS.List() }
func (c *calling) SyncDir(name string) error    { c.before(); return c.FS.SyncDir(name) }
func (f callingFile) Truncate(size int64) error { f.before(); return f.File.Truncate(size) }
func (f callingFile) Sync() error               { f.before(); return f.File.Sync() }
func (f callingFile) Size() (int64, error)      { f.before(); return f.File.Size() }

func (f callingFile) ReadAt(p []byte, off int64) (int, error) {
	f.before()
	return f.File.ReadAt(p, off)
}

// WriteAt calls back in the middle of the write too.
func (f callingFile) WriteAt(p []byte, off int64) (int, error) {
	f.before()
	half := len(p) / 2
	if n, err := f.File.WriteAt(p[:half], off); err != nil {
		return n, err
	}
	f.before()
	n, err := f.File.WriteAt(p[half:], off+int64(half))
	return half + n, err
}

// differing returns the names of the caches that are not the same in both.
func differing(a, b state) []string {
	names := map[string]bool{}
	for _, s := range []state{a, b} {
		for name := range s {
			if (state{name: a[name]}).String() != (state{name: b[name]}).String() || (a[name] == nil) != (b[name] == nil) {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Before each call that the writer makes, and in the middle of each write, one
// reader goes on and another one is opened. Both see all that was acknowledged
// or that and the batch that is being written, and what was seen once stays.
// Refresh names exactly the caches that changed.
func TestReaderAtEveryCall(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	view := &calling{FS: mem}
	p := player{opts: quiet(mem)}
	p.opts.FS = view
	var reader *logstore.Reader
	var seen state
	var mu sync.Mutex
	shown, calls := false, 0 // whether the batch that is being written was seen
	view.before = func() {
		mu.Lock()
		defer mu.Unlock()
		calls++
		allowed := func(s state) bool {
			now := s.String() == p.maybe.String()
			if s.String() != p.sure.String() && !now {
				t.Fatalf("call %d\n  got %v\n sure %v\nmaybe %v", calls, s, p.sure, p.maybe)
			}
			if shown && !now {
				t.Errorf("call %d: what was seen is gone: %v", calls, s)
			}
			shown = now && now != (s.String() == p.sure.String())
			return now
		}
		var changed []string
		if reader == nil {
			r, err := logstore.OpenReader("test", quiet(mem))
			if errors.Is(err, fs.ErrNotExist) && calls < 10 {
				return // there is no directory yet
			}
			if err != nil {
				t.Fatal(err)
			}
			reader = r
		} else {
			changed = refresh(t, reader)
		}
		got, _ := dump(t, reader)
		allowed(got)
		if want := differing(seen, got); !slices.Equal(want, changed) {
			t.Errorf("call %d: Refresh says %v, not %v, changed\nfrom %v\n  to %v", calls, changed, want, seen, got)
		}
		seen = got
		r := openReader(t, quiet(mem))
		got, _ = dump(t, r)
		allowed(got)
		r.Close()
	}
	for _, st := range scenario {
		mu.Lock()
		p.maybe, shown = p.sure.after(st.ops...), false
		mu.Unlock()
		// play sets p.sure without the lock, when no call is under way.
		if err := p.play(t, []step{st}); err != nil {
			t.Fatal(err)
		}
		refresh(t, reader)
		want(t, reader, p.sure)
		seen = p.sure
	}
	if calls < 100 {
		t.Errorf("there were only %d calls", calls)
	}
	p.s.Close()
	want(t, reader, p.sure)
	if changed := refresh(t, reader); len(changed) > 0 {
		t.Errorf("closing changed %v", changed)
	}
	reader.Close()
}

// Before the n-th call that a reader makes, the writer goes through several
// steps: batches, and two compactions, which remove what the reader was about
// to open. What it sees is a state that there was, not older than when it began.
func TestWriterBetweenCalls(t *testing.T) {
	t.Parallel()
	rounds := []step{
		{ops: []store.Op{put("a", "1", "uno"), del("a", "2"), put("c", "1", "un"), op(store.Drop, "b")}},
		{word: compact},
		{ops: []store.Op{put("a", "1", "one"), put("b", "1", large)}},
		{word: compact},
		{word: reopen},
		{ops: []store.Op{put("a", "1", "eins")}},
	}
	for _, fresh := range []bool{true, false} {
		for n := 1; ; n++ {
			mem := faultfs.New()
			p := player{opts: quiet(mem)}
			setup := []step{
				{ops: []store.Op{put("a", "1", "first"), put("b", "1", "first"), put("d", "1", "first")}},
				{word: compact},
				{ops: []store.Op{put("a", "2", "second"), put("b", "2", "second")}},
			}
			if err := p.play(t, setup); err != nil {
				t.Fatal(err)
			}
			states := []string{p.sure.String()}
			calls := 0
			view := &calling{FS: mem}
			view.before = func() {
				if calls++; calls != n {
					return
				}
				for _, st := range rounds {
					if err := p.play(t, []step{st}); err != nil {
						t.Fatal(err)
					}
					states = append(states, p.sure.String())
				}
			}
			opts := quiet(mem)
			opts.FS = view
			var r *logstore.Reader
			if fresh {
				r = openReader(t, opts)
			} else {
				at := n
				n = -1 // not yet
				r = openReader(t, opts)
				if err := p.play(t, []step{{ops: []store.Op{put("a", "3", "third")}}, {word: compact}}); err != nil {
					t.Fatal(err)
				}
				states = []string{p.sure.String()}
				n, calls = at, 0
				refresh(t, r)
			}
			made := calls
			got, damaged := dump(t, r)
			if damaged > 0 || !slices.Contains(states, got.String()) {
				t.Fatalf("call %d: %d damaged, %v", n, damaged, got)
			}
			refresh(t, r)
			want(t, r, p.sure)
			p.s.Close()
			if made < n {
				if n < 5 {
					t.Errorf("there were only %d calls", made)
				}
				break
			}
		}
	}
}

// unsteady is a file system with a writer that is at work during each listing:
// what comes or goes then is in it or is not, as rng decides.
type unsteady struct {
	vfs.FS
	rng  *rand.Rand
	busy func()
}

func (u *unsteady) List() ([]vfs.Entry, error) {
	before, err := u.FS.List()
	if err != nil {
		return nil, err
	}
	u.busy()
	after, err := u.FS.List()
	both := after[:0:0]
	for _, e := range after {
		if slices.Contains(before, e) || u.rng.IntN(4) == 0 {
			both = append(both, e)
		}
	}
	for _, e := range before {
		if !slices.Contains(after, e) && u.rng.IntN(4) == 0 {
			both = append(both, e)
		}
	}
	return both, err
}

// A listing that was made while files came and went is no reason to see an
// older state, or none, or damage.
func TestReaderListsWhileWriterCompacts(t *testing.T) {
	t.Parallel()
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		mem := faultfs.New()
		s := open(t, quiet(mem))
		last := 0
		step := func() {
			last++
			apply(t, s, put("a", "n", fmt.Sprint(last)), put("a", "m", ""))
		}
		step()
		var r *logstore.Reader
		acked := last
		check := func() {
			rec, err := r.Get(t.Context(), "a", []byte("n"))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			n, _ := strconv.Atoi(string(rec.Value))
			if n < acked {
				t.Fatalf("seed %d: %d shows when %d was acknowledged or seen", seed, n, acked)
			}
			acked = n
		}
		u := &unsteady{FS: mem, rng: rand.New(rand.NewPCG(seed, 5))}
		var loops []func()
		defer func() {
			for _, stop := range loops {
				stop()
			}
		}()
		u.busy = func() {
			if r != nil {
				check() // what showed before Refresh still does
			}
			for range u.rng.IntN(7) {
				step()
				if u.rng.IntN(3) == 0 { // keeps the writer from removing files for a while
					next, stop := iter.Pull2(s.Load(t.Context(), "a"))
					next()
					loops = append(loops, stop)
				}
				if len(loops) > 2 {
					loops[0]()
					loops = loops[1:]
				}
				if u.rng.IntN(3) > 0 {
					if err := s.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		opts := logstore.Options{FS: u, Damage: logstore.Fail, Observe: func(e logstore.Event) { t.Error(e) }}
		if seed%2 == 0 {
			opts.Damage = logstore.Salvage
		}
		r = openReader(t, opts)
		for range 12 {
			check()
			step()
			now := last
			refresh(t, r)
			acked = now
		}
		r.Close()
		s.Close()
	}
}

// The journal of a process that died is cut off at any byte. A reader sees the
// batches that are whole, without changing anything, and goes on from there
// when the next writer does.
func TestReaderOfTornJournal(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "1", "one"))
	first := len(mem.Files()["j-1.log"])
	sure := state{}.after(put("a", "1", "one"))
	apply(t, s, put("a", "1", "two"), put("b", "1", "x"))
	more := sure.after(put("a", "1", "two"), put("b", "1", "x"))
	journal := mem.Files()["j-1.log"]
	crashed := mem.Clone()
	for cut := first; cut <= len(journal); cut++ {
		mem := crashed.Clone()
		mem.WriteFile("j-1.log", journal[:cut])
		mem.Hook(func(_ int, op faultfs.Op, name string) error {
			if op.Changes() || op == faultfs.OpLock {
				t.Errorf("a reader does: %s %s", op, name)
			}
			return nil
		})
		r := openReader(t, quiet(mem))
		now := sure
		if cut == len(journal) {
			now = more
		}
		want(t, r, now)
		mem.Hook(nil)
		s := open(t, quiet(mem))
		apply(t, s, put("a", "2", "new"))
		if changed := refresh(t, r); !slices.Equal(changed, []string{"a"}) {
			t.Errorf("changed: %v", changed)
		}
		want(t, r, now.after(put("a", "2", "new")))
		s.Close()
		r.Close()
	}
}

// What looked damaged because it was not yet written in full is read again: the
// bytes come before the n-th call.
func TestReaderOfHalfWrittenFiles(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "1", "one"))
	first := len(mem.Files()["j-1.log"])
	apply(t, s, put("a", "2", strings.Repeat(large, 10))) // more than is read at a time
	second := len(mem.Files()["j-1.log"])
	apply(t, s, put("a", "3", "three"))
	final, _ := dump(t, s)
	whole := mem.Files()["j-1.log"]
	for name, missing := range map[string][2]int{"frame": {first, second}, "header": {0, 64}} {
		total := 0 // calls, if they never come
		for n := 0; n <= total/2; n++ {
			mem := mem.Clone()
			data := slices.Clone(whole)
			clear(data[missing[0]:missing[1]])
			mem.WriteFile("j-1.log", data)
			calls := 0
			view := &calling{FS: mem}
			view.before = func() {
				if calls++; calls == n {
					f, err := mem.OpenWrite("j-1.log")
					if err != nil {
						t.Fatal(err)
					}
					f.WriteAt(whole[missing[0]:missing[1]], int64(missing[0]))
				}
			}
			opts := quiet(mem)
			opts.FS = view
			r, err := logstore.OpenReader("test", opts)
			if n == 0 {
				total = calls
				if !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("%s: OpenReader: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s, call %d of %d: %v", name, n, total, err)
			}
			want(t, r, final)
			r.Close()
		}
		if total < 10 {
			t.Errorf("%s: there were only %d calls", name, total)
		}
	}
}

// A compaction changes no cache. A reader that follows knows, also when batches
// came meanwhile.
func TestReaderSeesNoChangeInCompaction(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	view := &pausing{FS: mem}
	opts := quiet(mem)
	opts.FS = view
	s := open(t, opts)
	apply(t, s, put("a", "1", "one"), put("c", "1", "one"))
	r := openReader(t, quiet(mem))
	view.before = func(name string) {
		if !strings.HasPrefix(name, "MANIFEST") {
			return
		}
		apply(t, s, put("b", "1", "two"))
		if changed := refresh(t, r); !slices.Equal(changed, []string{"b"}) {
			t.Errorf("changed: %v", changed)
		}
		apply(t, s, put("c", "1", "three"))
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if changed := refresh(t, r); !slices.Equal(changed, []string{"c"}) {
		t.Errorf("changed: %v", changed)
	}
	want(t, r, state{"a": {"1": "one/m"}, "b": {"1": "two/m"}, "c": {"1": "three/m"}})
}

// A batch that is taken back by the writer never shows, although most of it was
// in the file, and neither do its remains together with those of the next one.
func TestReaderBesideAbandonedBatch(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "k", "old"))
	r := openReader(t, quiet(mem))
	sure := state{}.after(put("a", "k", "old"))
	stop := errors.New("stop")
	for range 3 {
		err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
			for i := range 30 {
				if !yield(put("a", fmt.Sprint(i), large), nil) {
					return
				}
				if changed := refresh(t, r); len(changed) > 0 {
					t.Errorf("changed: %v", changed)
				}
				want(t, r, sure)
			}
			yield(store.Op{}, stop)
		})
		if err != stop {
			t.Fatal(err)
		}
		refresh(t, r)
		want(t, r, sure)
	}
	apply(t, s, put("a", "0", "new"))
	refresh(t, r)
	want(t, r, sure.after(put("a", "0", "new")))
}

// A batch whose sync failed was reported as failed. A reader that had seen it
// forgets it, and says that its cache changed, also if it comes back only after
// a compaction.
func TestReaderAfterFailedSync(t *testing.T) {
	t.Parallel()
	for _, compacted := range []bool{false, true} {
		mem := faultfs.New()
		s := open(t, quiet(mem))
		apply(t, s, put("a", "k", "old"), put("b", "k", "b"))
		sure := state{}.after(put("a", "k", "old"), put("b", "k", "b"))
		r := openReader(t, quiet(mem))
		creates := 0
		mem.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpSync && name == "j-1.log" {
				return errors.New("the disk fails")
			}
			if op == faultfs.OpTruncate {
				return errors.New("so it stays in the file")
			}
			if op == faultfs.OpCreate {
				if creates++; creates == 1 {
					return errors.New("no new journal yet")
				}
			}
			return nil
		})
		if err := s.Apply(t.Context(), batch(put("a", "k", "new"))); err == nil {
			t.Fatal("no error")
		}
		if changed := refresh(t, r); !slices.Equal(changed, []string{"a"}) {
			t.Errorf("changed: %v", changed)
		}
		want(t, r, sure.after(put("a", "k", "new"))) // it is in the file as a whole
		mem.Hook(nil)
		apply(t, s, put("b", "k2", "b2"))
		sure = sure.after(put("b", "k2", "b2"))
		if compacted {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if changed := refresh(t, r); !slices.Equal(changed, []string{"a", "b"}) {
			t.Errorf("changed: %v", changed)
		}
		want(t, r, sure)
		s.Close()
	}
}

// A view stays as it is while the writer compacts and removes the files that
// it consists of, also in an iteration during which it goes on.
func TestReaderOutlivesCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := logstore.Open(dir, logstore.Options{CompactAt: -1, Observe: failOnTrouble(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := logstore.OpenReader(filepath.Join(dir, "none"), logstore.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of nothing: %v", err)
	}
	var ops []store.Op
	for i := range 2000 {
		ops = append(ops, put("a", fmt.Sprint(i), large[:1000]))
	}
	apply(t, s, ops[:1000]...)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, ops[1000:]...)
	r, err := logstore.OpenReader(dir, logstore.Options{Damage: logstore.Fail})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	change := func() {
		apply(t, s, put("a", "0", "changed"), op(store.Clear, "a"), put("b", "0", "new"))
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{"j-1.log", "j-2.log", "c1-*.snap"} {
			if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
		}
	}
	n := 0
	for range r.Load(t.Context(), "a") {
		if n++; n == 1 {
			change()
			n = 1
			for _, err := range r.Load(t.Context(), "a") { // all of it, from removed files
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n-1 != len(ops) {
				t.Errorf("%d records, not %d", n-1, len(ops))
			}
			if changed := refresh(t, r); !slices.Equal(changed, []string{"a", "b"}) {
				t.Errorf("changed: %v", changed)
			}
			n = 1
		}
	}
	if n != len(ops) {
		t.Errorf("%d records, not %d", n, len(ops))
	}
	want(t, r, state{"a": {}, "b": {"0": "new/m"}})
}

// Damage is an error, and what showed before stays. With Salvage what can be
// read shows.
func TestReaderOfDamage(t *testing.T) {
	t.Parallel()
	fresh := func() (*faultfs.FS, *logstore.Store) {
		mem := faultfs.New()
		s := open(t, quiet(mem))
		apply(t, s, put("a", "1", "one"))
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		apply(t, s, put("a", "2", "two"))
		return mem, s
	}
	flip := func(mem *faultfs.FS, name string, at int) {
		data := mem.Files()[name]
		if at < 0 {
			at += len(data)
		}
		data[at] ^= 1
		mem.WriteFile(name, data)
	}
	t.Run("frame", func(t *testing.T) {
		mem, s := fresh()
		at := len(mem.Files()["j-2.log"]) - 1
		apply(t, s, put("a", "3", "three"))
		flip(mem, "j-2.log", at)
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-2.log") {
			t.Errorf("OpenReader: %v", err)
		}
		opts, events := observed(logstore.Options{FS: mem, Damage: logstore.Salvage})
		r := openReader(t, opts)
		want(t, r, state{"a": {"1": "one/m", "3": "three/m"}})
		if len(*events) != 1 || (*events)[0].Kind != logstore.Damaged || (*events)[0].File != "j-2.log" {
			t.Errorf("events: %v", *events)
		}
	})
	t.Run("refresh", func(t *testing.T) {
		mem, s := fresh()
		r := openReader(t, quiet(mem))
		apply(t, s, put("a", "3", "three"))
		at := len(mem.Files()["j-2.log"]) - 1
		apply(t, s, put("a", "4", "four"))
		s.Close()
		sound := mem.Files()["j-2.log"]
		// Readers hold the file, as the operating system would have it: damage
		// what is in it, not the name.
		f, err := mem.OpenWrite("j-2.log")
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte{sound[at] ^ 1}, int64(at))
		for range 2 {
			if changed, err := r.Refresh(t.Context(), nil); !errors.Is(err, store.ErrCorrupt) || len(changed) > 0 {
				t.Errorf("Refresh: %v, %v", changed, err)
			}
			want(t, r, state{"a": {"1": "one/m", "2": "two/m"}})
		}
		// The next writer sets aside what was before the damage.
		w := open(t, logstore.Options{FS: mem, CompactAt: -1})
		if changed := refresh(t, r); !slices.Equal(changed, []string{"a"}) {
			t.Errorf("changed: %v", changed)
		}
		want(t, r, state{"a": {"4": "four/m"}})
		w.Close()
	})
	t.Run("journal before", func(t *testing.T) {
		mem, s := fresh()
		full := errors.New("disk full")
		mem.Hook(func(_ int, op faultfs.Op, name string) error {
			if op == faultfs.OpCreate && strings.HasSuffix(name, ".snap") {
				return full
			}
			return nil
		})
		if err := s.Compact(t.Context()); !errors.Is(err, full) { // but there is j-3
			t.Fatal(err)
		}
		apply(t, s, put("a", "3", "three"), put("b", "1", "x"))
		r := openReader(t, quiet(mem))
		s.Close()
		flip(mem, "j-2.log", -1)
		w := open(t, logstore.Options{FS: mem, CompactAt: -1})
		if changed := refresh(t, r); !slices.Contains(changed, "a") {
			t.Errorf("changed: %v", changed)
		}
		want(t, r, state{"a": {"3": "three/m"}, "b": {"1": "x/m"}})
		w.Close()
	})
	t.Run("manifests", func(t *testing.T) {
		mem, _ := fresh()
		flip(mem, "MANIFEST-3", -1)
		flip(mem, "MANIFEST-1", -1)
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "MANIFEST-3") {
			t.Errorf("OpenReader: %v", err)
		}
	})
	t.Run("newest manifest", func(t *testing.T) {
		mem, _ := fresh()
		flip(mem, "MANIFEST-3", -1)
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-1.log") {
			t.Errorf("OpenReader: %v", err)
		}
	})
	t.Run("journal header", func(t *testing.T) {
		mem, _ := fresh()
		flip(mem, "j-2.log", 20)
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-2.log") {
			t.Errorf("OpenReader: %v", err)
		}
		opts, _ := observed(logstore.Options{FS: mem, Damage: logstore.Salvage})
		want(t, openReader(t, opts), state{"a": {"1": "one/m"}})
	})
	t.Run("no journal", func(t *testing.T) {
		mem, _ := fresh()
		mem.Remove("j-2.log")
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "j-2.log") {
			t.Errorf("OpenReader: %v", err)
		}
	})
	t.Run("snapshot", func(t *testing.T) {
		for _, remove := range []bool{false, true} {
			mem, _ := fresh()
			if remove {
				mem.Remove("c1-2.snap")
			} else {
				flip(mem, "c1-2.snap", 110)
			}
			r := openReader(t, quiet(mem))
			got, damaged := dump(t, r)
			if damaged != 1 || got.String() != (state{"a": {"2": "two/m"}}).String() {
				t.Errorf("%d damaged, %v", damaged, got)
			}
		}
	})
	t.Run("newer", func(t *testing.T) {
		mem, _ := fresh()
		mem.WriteFile("MANIFEST-9", logstore.WithVersion(mem.Files()["MANIFEST-3"], 99, false))
		if _, err := logstore.OpenReader("test", quiet(mem)); !errors.Is(err, store.ErrFormat) {
			t.Errorf("OpenReader: %v", err)
		}
	})
}

// A store that nobody has written to is empty, a directory without one is an
// error, and so is one that is gone.
func TestReaderOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := logstore.OpenReader(dir, logstore.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of an empty directory: %v", err)
	}
	sub := filepath.Join(dir, "sub")
	if _, err := logstore.OpenReader(sub, logstore.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of no directory: %v", err)
	}
	if _, err := os.Stat(sub); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	s, err := logstore.Open(sub, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := logstore.OpenReader(sub, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want(t, r, state{})
	if err := r.Apply(t.Context(), batch(put("a", "1", "one"))); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Apply: %v", err)
	}
	if changed := refresh(t, r); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
	apply(t, s, put("a", "1", "one"))
	if changed := refresh(t, r); !slices.Equal(changed, []string{"a"}) {
		t.Errorf("changed: %v", changed)
	}
	want(t, r, state{"a": {"1": "one/m"}})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Refresh(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Refresh with a context that has ended: %v", err)
	}
	s.Close()
	names, _ := filepath.Glob(filepath.Join(sub, "*"))
	for _, name := range names {
		os.Remove(name)
	}
	if _, err := r.Refresh(t.Context(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Refresh when the files are gone: %v", err)
	}
	want(t, r, state{"a": {"1": "one/m"}})
	r.Close()
	if _, err := r.Refresh(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Refresh of a closed reader: %v", err)
	}
}

// As long as nothing was stored there is nobody to wait for.
func TestReaderOfNothingDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		s, err := logstore.Open("test", quiet(fs))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		began := time.Now()
		r := openReader(t, quiet(fs))
		refresh(t, r)
		if took := time.Since(began); took > 0 {
			t.Errorf("it waits for %v", took)
		}
	})
}

// Watch yields once for each time that it finds a change, and for errors, and
// ends with its context, the loop, or the reader.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := faultfs.New()
		s := open(t, quiet(mem))
		r := openReader(t, quiet(mem))
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan bool)
		go func() {
			for changed, err := range r.Watch(ctx, time.Second) {
				got = append(got, fmt.Sprint(changed, err != nil))
			}
			close(done)
		}()
		synctest.Wait()
		apply(t, s, put("a", "1", "one"))
		apply(t, s, put("b", "1", "one"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		mem.Hook(func(int, faultfs.Op, string) error { return io.ErrUnexpectedEOF })
		time.Sleep(time.Second)
		synctest.Wait()
		mem.Hook(nil)
		apply(t, s, put("c", "1", "one"))
		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		<-done
		if w := []string{"[a b] false", "[] true", "[c] false"}; !slices.Equal(got, w) {
			t.Errorf("got %q, not %q", got, w)
		}
		go func() {
			time.Sleep(time.Minute)
			r.Close()
		}()
		for changed, err := range r.Watch(t.Context(), time.Second) {
			t.Error(changed, err)
		}
	})
}

// BenchmarkRefresh measures a reader that goes on: when nothing has changed,
// after a small batch, and after a compaction, of 10 and of 1000 caches.
func BenchmarkRefresh(b *testing.B) {
	for _, caches := range []int{10, 1000} {
		dir := b.TempDir()
		s, err := logstore.Open(dir, logstore.Options{CompactAt: -1})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		var ops []store.Op
		for i := range caches {
			ops = append(ops, put(fmt.Sprint("cache ", i), "k", large[:1000]))
		}
		change := func() error { return s.Apply(b.Context(), batch(ops[0])) }
		err = errors.Join(s.Apply(b.Context(), batch(ops...)), s.Compact(b.Context()))
		r, err2 := logstore.OpenReader(dir, logstore.Options{})
		if err := errors.Join(err, err2); err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		for name, before := range map[string]func() error{
			"unchanged": func() error { return nil },
			"batch":     change,
			"compacted": func() error { return errors.Join(change(), s.Compact(b.Context())) },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, caches), func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					if err := before(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					if _, err := r.Refresh(b.Context(), nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// A batch is taken back just before any of the calls that a reader makes.
func TestBatchIsTakenBackBetweenCalls(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "k", "old"))
	size := int64(len(mem.Files()["j-1.log"]))
	j, err := mem.OpenWrite("j-1.log")
	if err != nil {
		t.Fatal(err)
	}
	sure := state{}.after(put("a", "k", "old"))
	for _, fresh := range []bool{true, false} {
		for n := 1; ; n++ {
			if _, err := j.WriteAt(make([]byte, 100_000), size); err != nil {
				t.Fatal(err)
			}
			calls, counting := 0, fresh
			view := &calling{FS: mem, before: func() {
				if !counting {
					return
				}
				if calls++; calls == n {
					if err := j.Truncate(size); err != nil {
						t.Error(err)
					}
				}
			}}
			opts := quiet(mem)
			opts.FS = view
			r := openReader(t, opts)
			if counting = true; !fresh {
				refresh(t, r)
			}
			counting = false
			want(t, r, sure)
			r.Close()
			if calls < n {
				break
			}
		}
	}
}
