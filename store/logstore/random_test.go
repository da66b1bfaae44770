package logstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Several processes, one after the other, each with calls that fail here and there, batches
// beside compactions, and an end of any kind. Whatever the next one reads, or is there after a
// loss of power, is what was acknowledged, or that and a batch that was said to have
// failed; and what was read once stays.
func TestRandomFailures(t *testing.T) {
	t.Parallel()
	seeds := uint64(500)
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		h := history{t: t, rng: rand.New(rand.NewPCG(seed, 9)), name: fmt.Sprint("seed ", seed), fs: faultfs.New(), sure: state{}}
		h.at = h.rng.IntN(len(scenario))
		for range 4 {
			h.process()
			if h.rng.IntN(4) == 0 {
				h.fs = h.fs.Restart(seed)
				h.r = nil
			}
		}
	}
}

// history is what several processes have done.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	name  string
	fs    *faultfs.FS
	at    int // in the scenario
	sure  state
	maybe []state          // with batches that may show after a restart
	r     *logstore.Reader // nil if there is none yet
}

// fails returns a hook by which, now and then, some calls of some kinds fail.
func (h *history) fails() func(int, faultfs.Op, string) error {
	kinds := [][]faultfs.Op{
		{faultfs.OpSyncDir},
		{faultfs.OpSyncDir, faultfs.OpSync},
		{faultfs.OpSyncDir, faultfs.OpCreate},
		{faultfs.OpSyncDir, faultfs.OpSync, faultfs.OpRemove, faultfs.OpTruncate},
		{faultfs.OpSyncDir, faultfs.OpSync, faultfs.OpRemove, faultfs.OpTruncate, faultfs.OpCreate, faultfs.OpWrite, faultfs.OpRename, faultfs.OpMkdir},
	}[h.rng.IntN(5)]
	often, long := 10+h.rng.IntN(40), 4+h.rng.IntN(20)
	left, share := 0, 0.0
	return func(_ int, op faultfs.Op, _ string) error {
		if left--; left < 0 && h.rng.IntN(often) == 0 {
			left, share = h.rng.IntN(long), []float64{0.3, 0.6, 1}[h.rng.IntN(3)]
		}
		if left > 0 && slices.Contains(kinds, op) && h.rng.Float64() < share {
			return syscall.EIO
		}
		return nil
	}
}

// process is the life of one process.
func (h *history) process() {
	h.t.Helper()
	dir := &pausing{FS: h.fs}
	opts := quiet(h.fs)
	opts.FS = dir
	h.fs.Hook(h.fails())
	s, err := logstore.Open("test", opts)
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		h.fs.NewProcess()
		s, err = logstore.Open("test", opts)
	}
	if err != nil {
		h.t.Fatalf("%s: %v", h.name, err)
	}
	h.sure, h.maybe = h.check("next process", s), nil
	next := func() {
		ops := scenario[h.at%len(scenario)].ops
		after := h.sure.after(ops...)
		if s.Apply(h.t.Context(), batch(ops...)) != nil {
			h.maybe = append(h.maybe, after)
		} else {
			h.sure, h.maybe = after, nil
		}
		h.at++
	}
	for range h.rng.IntN(12) {
		switch scenario[h.at%len(scenario)].word {
		case "":
			next()
		case repair:
			_ = s.Repair(h.t.Context())
			h.at++
		default:
			h.at++
			dir.before = func(name string) {
				if strings.HasSuffix(name, ".snap") && scenario[h.at%len(scenario)].word == "" && h.rng.IntN(2) == 0 {
					next()
				}
			}
			_ = s.Compact(h.t.Context())
			dir.before = nil
		}
		want(h.t, s, h.sure)
		h.look()
	}
	switch h.rng.IntN(3) {
	case 0:
		s.Close()
	case 1:
		h.fs.Hook(nil)
		s.Close()
	}
	h.fs.NewProcess()
	for way := range uint64(3) {
		s, err := logstore.Open("test", quiet(h.fs.Restart(way)))
		if err != nil {
			h.t.Fatalf("%s: after a loss of power: %v", h.name, err)
		}
		h.check("loss of power", s)
		s.Close()
	}
}

// look checks what a reader shows who has been there for long, or is new after a loss of
// power.
func (h *history) look() {
	h.t.Helper()
	if h.r == nil {
		h.r = openReader(h.t, quiet(h.fs))
	} else if h.rng.IntN(3) > 0 {
		before, _ := dump(h.t, h.r)
		changed := refresh(h.t, h.r)
		after, _ := dump(h.t, h.r)
		for _, cache := range differing(before, after) {
			if !slices.Contains(changed, cache) {
				h.t.Fatalf("%s: %s has changed, and Refresh says %v", h.name, cache, changed)
			}
		}
	} else {
		return
	}
	h.check("Refresh", h.r)
}

// check checks that s holds what it may, and returns that.
func (h *history) check(after string, s readable) state {
	h.t.Helper()
	got, damaged := dump(h.t, s)
	allowed := func(m state) bool { return m.String() == got.String() }
	if damaged > 0 || !allowed(h.sure) && !slices.ContainsFunc(h.maybe, allowed) {
		h.t.Fatalf("%s: after %s %d damaged\n  got %v\n sure %v\nmaybe %v", h.name, after, damaged, got, h.sure, h.maybe)
	}
	return got
}
