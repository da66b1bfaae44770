package logstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// randomBatch makes a batch of a few ops; now and then a large one.
func randomBatch(rng *rand.Rand) []store.Op {
	caches := []string{"a", "b", "c"}
	n := 1 + rng.IntN(6)
	if rng.IntN(20) == 0 {
		n = 2000
	}
	var ops []store.Op
	for range n {
		cache, key := caches[rng.IntN(len(caches))], fmt.Sprint(rng.IntN(40))
		switch r := rng.IntN(100); {
		case r < 70:
			value := fmt.Sprint(rng.Uint32())
			if rng.IntN(10) == 0 {
				value = strings.Repeat(value, rng.IntN(500))
			}
			ops = append(ops, put(cache, key, value))
		case r < 94 || n > 100:
			ops = append(ops, del(cache, key))
		case r < 96:
			ops = append(ops, op(store.Clear, cache))
		case r < 98:
			ops = append(ops, op(store.Describe, cache))
		default:
			ops = append(ops, op(store.Drop, cache))
		}
	}
	return ops
}

// Random batches, compactions, failures and restarts, against a map.
func TestModel(t *testing.T) {
	t.Parallel()
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 3))
			fs := faultfs.New()
			opts := quiet(fs)
			if seed%2 == 0 {
				opts.CompactAt = 2000 // in the background, beside all else
			}
			p := player{opts: opts}
			for range rounds {
				var st step
				switch r := rng.IntN(40); r {
				case 0:
					st.word = compact
				case 1:
					st.word = reopen
				default:
					st.ops = randomBatch(rng)
				}
				if rng.IntN(10) == 0 {
					fs.FailAt(1+rng.IntN(8), fmt.Errorf("fault"), rng.IntN(2) == 0)
				}
				err := p.play(t, []step{st})
				fs.Hook(nil)
				if err != nil {
					if p.s == nil {
						continue
					}
					want(t, p.s, p.sure)
				}
				if rng.IntN(8) == 0 && p.s != nil {
					want(t, p.s, p.sure)
				}
			}
			if err := p.play(t, []step{{ops: []store.Op{put("a", "last", "")}}, {word: reopen}}); err != nil {
				t.Fatal(err)
			}
			want(t, p.s, p.sure)
			p.s.Close()
		})
	}
}

// pausing is a file system that calls back before it creates a file.
type pausing struct {
	vfs.FS
	before func(name string)
}

func (p *pausing) Create(name string) (vfs.File, error) {
	if p.before != nil {
		p.before(name)
	}
	return p.FS.Create(name)
}

// Batches that come while a compaction is under way, before each of the files
// that it makes, are neither lost nor undone by it; nor do they show in an
// iteration that began before.
func TestApplyWhileCompacting(t *testing.T) {
	t.Parallel()
	setup := []store.Op{put("a", "1", "one"), put("a", "2", "two"), put("b", "1", "x"), put("c", "1", "un"), put("d", "1", "i")}
	more := []store.Op{put("a", "1", "uno"), del("a", "2"), put("b", "2", "y"), put("c", "2", "deux")}
	meanwhile := []store.Op{
		put("a", "2", "back"), del("a", "1"), op(store.Clear, "b"), put("b", "3", "z"),
		op(store.Drop, "c"), op(store.Drop, "d"), put("d", "1", "new"), put("e", "1", "e"),
	}
	for _, prefix := range []string{"c1-", "c2-", "c3-", "c4-", "MANIFEST"} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprint(prefix, again), func(t *testing.T) {
				t.Parallel()
				mem := faultfs.New()
				fs := &pausing{FS: mem}
				opts := logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Fail}
				s := open(t, opts)
				apply(t, s, setup...)
				sure := state{}.after(setup...)
				if again { // there are snapshots to merge with
					if err := s.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
					apply(t, s, more...)
					apply(t, s, put("d", "2", "ii"))
					sure = sure.after(more...).after(put("d", "2", "ii"))
				}
				old := sure
				called := false
				fs.before = func(name string) {
					if called || !strings.HasPrefix(name, prefix) {
						return
					}
					called = true
					apply(t, s, meanwhile...)
					sure = sure.after(meanwhile...)
					want(t, s, sure)
				}
				seen := map[string]string{}
				for r, err := range s.Load(t.Context(), "a") {
					if err != nil {
						t.Fatal(err)
					}
					if len(seen) == 0 {
						if err := s.Compact(t.Context()); err != nil {
							t.Fatal(err)
						}
						want(t, s, sure)
					}
					seen[string(r.Key)] = string(r.Value) + "/" + string(r.Meta)
				}
				if g, w := (state{"a": seen}), (state{"a": old["a"]}); g.String() != w.String() {
					t.Errorf("the iteration gave %v, not %v", g, w)
				}
				if !called {
					t.Fatal("nothing happened meanwhile")
				}
				crashed := mem.Restart(1)
				want(t, s, sure)
				s.Close()
				want(t, open(t, opts), sure)
				want(t, open(t, quiet(crashed)), sure)
			})
		}
	}
}

// After a compaction only what is live is left: its files and the previous
// manifest.
func TestCompactRemoves(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	for range 3 {
		apply(t, s, put("a", "1", large), put("b", "1", large))
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(fs.Files()); n != 7 { // LOCK HOLDER 2×MANIFEST journal 2×snapshot
		t.Errorf("%d files are left", n)
	}
	apply(t, s, op(store.Drop, "a"), op(store.Clear, "b"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(fs.Files()); n != 5 {
		t.Errorf("%d files are left", n)
	}
	calls := fs.Calls()
	if err := s.Compact(t.Context()); err != nil || fs.Calls() != calls {
		t.Errorf("compacting again: %v, %d calls", err, fs.Calls()-calls)
	}
}

// An iteration goes on over files that were removed meanwhile.
func TestLoadOutlivesCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := logstore.Open(dir, logstore.Options{CompactAt: -1, Observe: failOnTrouble(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ops []store.Op
	for i := range 2000 {
		ops = append(ops, put("a", fmt.Sprint(i), large[:1000]))
	}
	apply(t, s, ops...)
	for range 2 { // from the journal, then from a snapshot
		n := 0
		for _, err := range s.Load(t.Context(), "a") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 10 {
				apply(t, s, ops[0])
				if err := s.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n != len(ops) {
			t.Errorf("%d records, not %d", n, len(ops))
		}
	}
}

// Batches, reads and compactions at once; every reader sees whole batches.
func TestParallel(t *testing.T) {
	t.Parallel()
	s, err := logstore.Open(t.TempDir(), logstore.Options{CompactAt: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var readers sync.WaitGroup
	done := make(chan struct{})
	apply(t, s, put("a", "0", "start"))
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				values := map[string]int{}
				for r, err := range s.Load(t.Context(), "a") {
					if err != nil {
						t.Error(err)
						return
					}
					values[string(r.Value)]++
				}
				if len(values) != 1 {
					t.Errorf("a mixture of batches: %v", values)
					return
				}
			}
		})
	}
	for i := range 100 {
		var ops []store.Op
		for k := range 30 {
			ops = append(ops, put("a", fmt.Sprint(k), fmt.Sprintf("batch %d", i)))
		}
		if i%10 == 9 {
			ops = append([]store.Op{op(store.Clear, "a")}, ops...)
		}
		apply(t, s, ops...)
	}
	close(done)
	readers.Wait()
}
