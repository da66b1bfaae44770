package logstore_test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Whatever is left of the journal after a crash, what shows is exactly the
// batches whose frames are whole, and the store goes on from there.
func TestCutJournal(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	states, ends := []state{{}}, []int{0}
	for _, st := range scenario {
		if st.word != "" || len(states) == 4 {
			continue
		}
		ops := st.ops
		for i := range ops {
			if len(ops[i].Value) == len(large) {
				ops = append([]store.Op(nil), ops...)
				ops[i].Value = ops[i].Value[:100]
			}
		}
		apply(t, s, ops...)
		states = append(states, states[len(states)-1].after(ops...))
		ends = append(ends, len(fs.Files()["j-1.log"]))
	}
	want(t, s, states[len(states)-1])
	journal := fs.Files()["j-1.log"]
	crashed := fs.Clone()
	for cut := 64; cut < len(journal); cut++ { // the header was durable before anything else; see TestCutHeader
		fs := crashed.Clone()
		fs.WriteFile("j-1.log", journal[:cut])
		whole := 0
		for ends[whole+1] <= cut {
			whole++
		}
		s := open(t, quiet(fs))
		want(t, s, states[whole])
		apply(t, s, put("new", "k", "v"))
		s.Close()
		s = open(t, quiet(fs))
		want(t, s, states[whole].after(put("new", "k", "v")))
		s.Close()
	}
}

// The power is lost at every call that changes the disk. What was acknowledged
// is there, nothing is torn, nothing is revived, and none of it is taken for
// damage. Then it is lost again while the store recovers.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for n := 1; ; n++ {
		fs := faultfs.New()
		fs.LoseAt(n)
		p := player{opts: quiet(fs)}
		err := p.play(t, scenario)
		if !fs.Lost() {
			if err != nil || n < 50 {
				t.Fatalf("the scenario ends after %d calls with %v", n, err)
			}
			return
		}
		for seed := range seeds {
			t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) {
				p := p
				fs := fs.Restart(seed)
				fs.LoseAt(1 + int(seed))
				p.opts = quiet(fs)
				if p.open() == nil {
					if !fs.Lost() {
						p.check(t, p.s)
					}
					_ = p.play(t, []step{{word: compact}})
					p.s.Close()
				}
				fs = fs.Restart(seed)
				s := open(t, quiet(fs))
				now := p.check(t, s)
				apply(t, s, put("new", "k", "v"))
				want(t, s, now.after(put("new", "k", "v")))
				s.Close()
			})
		}
	}
}

// Names that were not synced may survive a loss of power in any order: a manifest
// is never there without the snapshots that it names.
func TestNamesSurviveInAnyOrder(t *testing.T) {
	t.Parallel()
	steps := []step{{ops: []store.Op{put("a", "1", "one"), put("b", "1", "uno")}}, {word: compact}}
	for n := 1; ; n++ {
		fs := faultfs.New()
		fs.LoseAt(n)
		p := player{opts: quiet(fs)}
		_ = p.play(t, steps)
		for seed := range uint64(100) {
			s := open(t, quiet(fs.Restart(seed)))
			p.check(t, s)
			s.Close()
		}
		if !fs.Lost() {
			return
		}
	}
}

// The process dies at every call, with the power on: the next one sees all that
// was written, also what was never synced. If the power is lost then, what the
// second process has seen or acknowledged is still there.
func TestProcessDeath(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		fs := faultfs.New()
		fs.KillAt(n)
		p := player{opts: quiet(fs)}
		if p.play(t, scenario) == nil {
			return
		}
		fs.NewProcess()
		s := open(t, quiet(fs))
		now := p.check(t, s)
		seen := fs.Restart(uint64(n))
		apply(t, s, put("new", "k", "v"))
		survives(t, fs, 4, now.after(put("new", "k", "v")))
		s = open(t, quiet(seen))
		want(t, s, now)
		s.Close()
	}
}

// The same, but what the dead process left does not say that it was not closed, as
// if somebody had copied it there. Now what was only seen may be lost, but not what was
// acknowledged, nor what that was built upon.
func TestProcessDeathUnnoticed(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		fs := faultfs.New()
		fs.KillAt(n)
		p := player{opts: quiet(fs)}
		if p.play(t, scenario) == nil {
			return
		}
		fs.NewProcess()
		_ = fs.Remove("HOLDER")
		s := open(t, quiet(fs))
		now := p.check(t, s)
		if n%2 == 0 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		apply(t, s, put("new", "k", "v"))
		survives(t, fs, 8, now.after(put("new", "k", "v")))
		s.Close()
	}
}

// Opening what was closed changes and syncs nothing but HOLDER; the first batch syncs
// what was found before it writes. What was not closed is synced at once, also if
// an Open before could not do it.
func TestOpenSyncs(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	var calls []string
	record := func() {
		calls = nil
		fs.Hook(func(_ int, op faultfs.Op, name string) error {
			if op.Changes() && name != "HOLDER" {
				calls = append(calls, fmt.Sprint(op, " ", name))
			}
			return nil
		})
	}
	expect := func(what string, list ...string) {
		t.Helper()
		if !slices.Equal(calls, list) {
			t.Errorf("%s: %q, not %q", what, calls, list)
		}
	}
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "one"))
	s.Close()

	record()
	s = open(t, quiet(fs))
	want(t, s, state{}.after(put("a", "1", "one")))
	s.Close()
	expect("closed")

	record()
	s = open(t, quiet(fs))
	apply(t, s, put("a", "2", "two"))
	synced := []string{"sync MANIFEST-1", "syncdir .", "sync j-1.log"}
	expect("the first batch", append(synced, "write j-1.log", "sync j-1.log")...)
	record()
	apply(t, s, put("a", "3", "three"))
	expect("the second batch", "write j-1.log", "sync j-1.log")

	for range 2 {
		fs.NewProcess() // and nobody has closed s
		fs.Hook(func(_ int, op faultfs.Op, _ string) error {
			if op == faultfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		if _, err := logstore.Open("test", quiet(fs)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Open: %v", err)
		}
	}
	record()
	s = open(t, quiet(fs))
	expect("not closed", "write MANIFEST-1", "sync MANIFEST-1", "create j-2.log", "remove j-2.log", "syncdir .", "write j-1.log", "write j-1.log", "truncate j-1.log", "sync j-1.log")
	record()
	apply(t, s, put("a", "4", "four"))
	expect("the first batch after that", "write j-1.log", "sync j-1.log")
	s.Close()
	record()
	s = open(t, quiet(fs))
	expect("closed again")
	s.Close()
}

// A call fails, once or from then on. Whoever made it is told, what was
// acknowledged stays, the failed batch does not show, and once the cause is
// gone the store works again.
func TestFailingCalls(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, rest := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", err, rest), func(t *testing.T) {
				t.Parallel()
				for n := 1; failAt(t, n, err, rest); n++ {
				}
			})
		}
	}
}

// failAt reports whether anything failed.
func failAt(t *testing.T, n int, fault error, rest bool) bool {
	fs := faultfs.New()
	fs.FailAt(n, fault, rest)
	p := player{opts: quiet(fs)}
	failed := false
	for i, st := range scenario {
		p.maybe = nil
		err := p.play(t, []step{st})
		if err == nil {
			continue
		}
		failed = true
		if !errors.Is(err, fault) {
			t.Fatalf("call %d, step %d: %v", n, i, err)
		}
		if p.s == nil {
			fs.Hook(nil)
			if err := p.open(); err != nil {
				t.Fatalf("call %d, step %d: opening again: %v", n, i, err)
			}
		}
		want(t, p.s, p.sure)
		if p.maybe != nil {
			// A new process may see the failed batch, but nothing else.
			s := open(t, quiet(fs.Clone()))
			p.check(t, s)
			s.Close()
		}
		fs.Hook(nil)
		if err := p.play(t, []step{st}); err != nil {
			t.Fatalf("call %d, step %d: trying again: %v", n, i, err)
		}
		p.maybe = nil
	}
	fs.Hook(nil)
	want(t, p.s, p.sure)
	if err := p.play(t, []step{{word: compact}, {word: reopen}}); err != nil {
		t.Fatal(err)
	}
	want(t, p.s, p.sure)
	// The failed batches are not on the disk either.
	s := open(t, quiet(fs.Restart(uint64(n))))
	want(t, s, p.sure)
	s.Close()
	p.s.Close()
	return failed || n < 20
}

// A batch that ends with an error leaves no trace, neither in memory nor after
// a restart, even if most of it was written.
func TestAbandonedBatch(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "k", "old"), put("b", "k", "old"))
	before := state{}.after(put("a", "k", "old"), put("b", "k", "old"))
	size := len(fs.Files()["j-1.log"])
	stop := errors.New("stop")
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		for i := range 30 {
			if !yield(put("a", fmt.Sprint(i), large), nil) || !yield(put("a", "k", "new"), nil) {
				return
			}
		}
		_ = yield(op(store.Drop, "b"), nil) && yield(store.Op{}, stop)
	})
	if err != stop {
		t.Fatalf("Apply: %v", err)
	}
	want(t, s, before)
	if n := len(fs.Files()["j-1.log"]); n != size {
		t.Errorf("the journal has %d bytes, not %d", n, size)
	}
	func() {
		defer func() { _ = recover() }()
		s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
			yield(put("a", "k", "new"), nil)
			panic("user code")
		})
	}()
	want(t, s, before)
	apply(t, s, put("a", "k", "newest"))
	s.Close()
	want(t, open(t, quiet(fs)), before.after(put("a", "k", "newest")))
}

// After a failed sync nothing is written to that journal any more, and the
// batch does not show after a restart.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	fs := faultfs.New()
	opts := quiet(fs)
	var events []logstore.Event
	opts.Observe = func(e logstore.Event) { events = append(events, e) }
	s := open(t, opts)
	apply(t, s, put("a", "k", "old"))
	once := true
	fs.Hook(func(_ int, op faultfs.Op, name string) error {
		if op == faultfs.OpSync && name == "j-1.log" && once {
			once = false
			return syscall.EIO
		}
		if !once && name == "j-1.log" && (op == faultfs.OpSync || op == faultfs.OpWrite) {
			t.Errorf("%s after a failed sync", op)
		}
		return nil
	})
	if err := s.Apply(t.Context(), batch(put("a", "k", "new"))); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Apply: %v", err)
	}
	if len(events) != 1 || events[0].Kind != logstore.JournalEnded {
		t.Errorf("events: %v", events)
	}
	sure := state{}.after(put("a", "k", "old"))
	want(t, s, sure)
	for seed := range uint64(20) {
		s := open(t, quiet(fs.Restart(seed)))
		want(t, s, sure)
		s.Close()
	}
	apply(t, s, put("a", "k2", "v"))
	want(t, s, sure.after(put("a", "k2", "v")))
}

// A batch of many megabytes is written and synced while it is being made. Whichever
// of these calls fails, the batch is reported as failed, nothing of it shows, now
// or after a loss of power, and the next one succeeds.
func TestLargeBatchFails(t *testing.T) {
	t.Parallel()
	var ops []store.Op
	for i := range 60 { // more than is written between two syncs
		ops = append(ops, put("a", fmt.Sprint(i), large))
	}
	for _, kind := range []faultfs.Op{faultfs.OpWrite, faultfs.OpSync} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			t.Parallel()
			n := 1
			for largeBatchFails(t, ops, kind, n) {
				if n++; kind == faultfs.OpWrite && testing.Short() {
					n += 3
				}
			}
			if n < 3 {
				t.Errorf("there are %d calls", n-1)
			}
		})
	}
}

// largeBatchFails has the nth call of a kind fail, and reports whether there is one.
func largeBatchFails(t *testing.T, ops []store.Op, kind faultfs.Op, n int) bool {
	fs := faultfs.New()
	s := open(t, quiet(fs))
	apply(t, s, put("a", "1", "old"))
	sure := state{}.after(put("a", "1", "old"))
	calls := 0
	fs.Hook(func(_ int, op faultfs.Op, _ string) error {
		if op == kind {
			if calls++; calls == n {
				return syscall.EIO
			}
		}
		return nil
	})
	err := s.Apply(t.Context(), batch(ops...))
	fs.Hook(nil)
	if failed := calls >= n; failed != errors.Is(err, syscall.EIO) || !failed && err != nil {
		t.Fatalf("call %d of %d: %v", n, calls, err)
	} else if !failed {
		return false
	}
	want(t, s, sure)
	for seed := range uint64(4) {
		s := open(t, quiet(fs.Restart(seed)))
		want(t, s, sure)
		s.Close()
	}
	apply(t, s, put("a", "2", "new"))
	s.Close()
	s = open(t, quiet(fs.Restart(uint64(n))))
	want(t, s, sure.after(put("a", "2", "new")))
	s.Close()
	return true
}
