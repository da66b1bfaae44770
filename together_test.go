package cacheman

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store/logstore"
)

var (
	togetherFor  = flag.Duration("together.for", time.Second, "how long TestTogether lasts")
	togetherSeed = flag.Uint64("together.seed", 1, "what TestTogether begins with")
)

// TestTogether has everything at the same time: inputs that are set, deleted, written in
// batches and probed; builders of builders that read what they have read before, fail, and
// are cancelled; limits, saving to a disk that fails now and then, compacting, invalidating,
// explaining; a Manager that follows; and crashes. A value says of which version of each input
// it was made. So no builder may see two of one, and no Get that begins after a write has
// returned may give anything older. When all is quiet, everything is what the inputs say,
// also after a restart, and what was made is not made again.
func TestTogether(t *testing.T) {
	w := &world{t: t, rng: rand.New(rand.NewPCG(*togetherSeed, 0)), fs: faultfs.New(), memory: *togetherSeed%2 == 0}
	end := time.Now().Add(*togetherFor)
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		w.limited = round/2%2 == 1
		w.open()
		if round == 0 {
			w.begin()
		}
		w.quiet("after opening")
		w.quiet("once more")
		w.together(200 * time.Millisecond)
		w.quiet("afterwards")
		if round%3 == 2 {
			w.crash()
			w.open()
			w.recount()
			w.quiet("after a crash")
		}
		w.close()
	}
	t.Logf("%d reads, %d writes, %d other", w.reads.Load(), w.writes.Load(), w.others.Load())
}

const (
	togetherSet    = 12 // inputs that are set and deleted
	togetherPairs  = 4  // inputs that are two entries, written in one batch
	togetherProbed = 4  // inputs that are probed
	togetherInputs = togetherSet + togetherPairs + togetherProbed
	togetherLevels = 4
	togetherWidth  = 24 // entries of a level
)

// madeOf is a value: which version of each input it was made of.
type madeOf [togetherInputs]int64

const (
	notRead = -1
	notThat = -2 // it was not there
)

// inputHistory counts the versions of an input. One goroutine at a time makes them.
type inputHistory struct {
	mu             sync.Mutex
	begun, written atomic.Int64
}

// deletedAt reports whether an input is deleted in that version, which is more than 0.
func deletedAt(input int, version int64) bool { return input < togetherSet && version%5 == 4 }

type world struct {
	t       *testing.T
	rng     *rand.Rand
	fs      *faultfs.FS
	memory  bool // level 1 is never saved
	limited bool // values are evicted
	made    bool // there is nothing to be made

	*shelf
	inputs  [togetherInputs]inputHistory
	builds  [togetherLevels]atomic.Int64 // those that have a result that is kept
	reasons sync.Map                     // of the last build of each entry

	reads, writes, others atomic.Int64
}

// shelf is the caches of one Manager.
type shelf struct {
	w      *world
	m      *Manager
	set    *Cache[int, int64]
	pair   *Cache[int, int64]
	probed *Cache[int, int64]
	coarse *Cache[int, int64] // of set
	whole  *Cache[int, int64] // all pairs
	keys   *Cache[int, int64] // of set
	level  [togetherLevels]*Cache[int, madeOf]
}

func (w *world) open() {
	opts := Options{
		Store:    must(logstore.Open("together", logstore.Options{FS: w.fs, CompactAt: 20_000})),
		Autosync: &Autosync{Every: 5 * time.Millisecond},
		Observe: func(e Event) {
			if e.Kind == EventBuilt {
				w.reasons.Store(fmt.Sprint(e.Cache, e.Key), e.Reason)
			}
			if e.Err != nil && !w.expected(e.Err) {
				w.t.Errorf("told of %v", e)
			}
		},
	}
	if w.limited {
		opts.Limit.Bytes = 8000
	}
	w.shelf = w.register(must(Open("", opts)), w.builds[:])
}

// follow opens a Manager that shows what is saved.
func (w *world) follow() *shelf {
	s := must(logstore.OpenReader("together", logstore.Options{FS: w.fs}))
	return w.register(must(Open("", Options{Store: s, ReadOnly: true})), make([]atomic.Int64, togetherLevels))
}

func (w *world) register(m *Manager, builds []atomic.Int64) *shelf {
	s := &shelf{w: w, m: m}
	s.set = must(Register(m, "set", Spec[int, int64]{}))
	s.pair = must(Register(m, "pair", Spec[int, int64]{}))
	s.probed = must(Register(m, "probed", Spec[int, int64]{Probe: func(_ context.Context, k int, _ int64, _ bool) (int64, error) {
		return w.inputs[togetherSet+togetherPairs+k].begun.Load(), nil
	}}))
	s.coarse = must(Select(s.set, "coarse", Spec[int, int64]{}, func(v int64) int64 { return v / 8 }))
	s.whole = must(Register(m, "whole", Spec[int, int64]{BuildAll: s.buildWhole}))
	s.keys = must(Register(m, "keys", Spec[int, int64]{Build: s.buildKeys}))
	for l := range s.level {
		spec := Spec[int, madeOf]{Build: func(ctx context.Context, k int) (madeOf, error) {
			v, err := w.build(l, k, reading{s, ctx})
			if err == nil || isKept(err) || errors.Is(err, ErrNotFound) {
				builds[l].Add(1)
			}
			return v, err
		}}
		switch {
		case l == 0 && w.limited:
			spec.Limit.Entries = togetherWidth / 2
		case l == 1:
			spec.Memory = w.memory
		}
		s.level[l] = must(Register(m, fmt.Sprint("level", l), spec))
	}
	return s
}

// readPair reads both halves.
func (s *shelf) readPair(ctx context.Context, p int) (int64, error) {
	a, err := s.pair.Get(ctx, 2*p)
	if err != nil {
		return 0, err
	}
	b, err := s.pair.Get(ctx, 2*p+1)
	if err == nil && a != b {
		s.w.t.Errorf("a builder has read %d and %d of pair %d", a, b, p)
	}
	return b, err
}

func (s *shelf) buildWhole(ctx context.Context) (map[int]int64, error) {
	all := map[int]int64{}
	for p := range togetherPairs {
		v, err := s.readPair(ctx, p)
		if err != nil {
			return nil, err
		}
		all[p] = v
	}
	return all, nil
}

// buildKeys makes of key 0 how many there are, and of key 1 a bit for each.
func (s *shelf) buildKeys(ctx context.Context, k int) (int64, error) {
	n, err := s.set.Count(ctx)
	if err != nil || k == 0 {
		return int64(n), err
	}
	keys, err := s.set.CollectKeys(ctx)
	if err == nil && len(keys) != n {
		s.w.t.Errorf("a builder has read %d keys, and that there are %d", len(keys), n)
	}
	bits := int64(0)
	for _, k := range keys {
		bits |= 1 << k
	}
	return bits, err
}

// source gives what builders read: caches, or how it must be.
type source interface {
	input(i int) (int64, error)
	coarse(i int) (int64, error)
	whole(p int) (int64, error)
	level(l, k int) (madeOf, error)
}

// build makes an entry of level l. What it reads depends on what it has read.
func (w *world) build(l, k int, from source) (madeOf, error) {
	var m madeOf
	for i := range m {
		m[i] = notRead
	}
	see := func(i int, v int64) {
		if m[i] != notRead && m[i] != v {
			w.t.Errorf("the builder of level %d, %d has read %d and %d of input %d", l, k, m[i], v, i)
		}
		m[i] = v
	}
	h := scramble(uint64(l*togetherWidth + k))
	for n := range 2 + int(h%4) {
		h = scramble(h)
		at := int(h >> 8 % (1 << 32))
		switch kind := h % 8; {
		case kind < 4 && l > 0:
			below, err := from.level(at%l, at/l%togetherWidth)
			if isKept(err) {
				continue
			} else if err != nil {
				return m, err
			}
			for i, v := range below {
				if v != notRead {
					see(i, v)
				}
			}
		case kind == 4 && l > 0:
			i := at % togetherSet
			v, err := from.coarse(i)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return m, err
			}
			if m[i] != notRead && (err != nil) != (m[i] == notThat) || err == nil && m[i] >= 0 && m[i]/8 != v {
				w.t.Errorf("the builder of level %d, %d has read %d and coarsely %d, %v of input %d", l, k, m[i], v, err, i)
			}
		case kind == 5 && l > 0:
			p := at % togetherPairs
			v, err := from.whole(p)
			if err != nil {
				return m, err
			}
			see(togetherSet+p, v)
		default:
			i := at % togetherInputs
			v, err := from.input(i)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return m, err
			}
			if err != nil {
				v = notThat
			}
			see(i, v)
			if n == 0 {
				h = scramble(h + uint64(v)/4) // it decides what is read next
			}
			switch {
			case v%11 == 7 && k%5 == 0:
				return m, errPlanned
			case v%11 == 8 && k%5 == 1:
				return m, Keep(errPlanned)
			case v%11 == 9 && k%5 == 2:
				return m, ErrNotFound
			}
		}
	}
	return m, nil
}

// isKept reports whether err is one that is kept. It may be errPlanned, too.
func isKept(err error) bool {
	_, is := errors.AsType[*KeptError](err)
	return is
}

// scramble is the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// reading is the source that a builder has.
type reading struct {
	s   *shelf
	ctx context.Context
}

func (r reading) input(i int) (int64, error) {
	switch {
	case i < togetherSet:
		return r.s.set.Get(r.ctx, i)
	case i < togetherSet+togetherPairs:
		return r.s.readPair(r.ctx, i-togetherSet)
	}
	return r.s.probed.Get(r.ctx, i-togetherSet-togetherPairs)
}

func (r reading) coarse(i int) (int64, error)    { return r.s.coarse.Get(r.ctx, i) }
func (r reading) whole(p int) (int64, error)     { return r.s.whole.Get(r.ctx, p) }
func (r reading) level(l, k int) (madeOf, error) { return r.s.level[l].Get(r.ctx, k) }

// truth is how it must be when all is quiet.
type truth struct{ w *world }

func (s truth) input(i int) (int64, error) {
	v := s.w.inputs[i].written.Load()
	if i < togetherSet && (v == 0 || deletedAt(i, v)) {
		return 0, ErrNotFound
	}
	return v, nil
}

func (s truth) coarse(i int) (int64, error) {
	v, err := s.input(i)
	return v / 8, err
}

func (s truth) whole(p int) (int64, error)     { return s.input(togetherSet + p) }
func (s truth) level(l, k int) (madeOf, error) { return s.w.build(l, k, s) }

// begin writes the pairs for the first time.
func (w *world) begin() {
	for p := range togetherPairs {
		h := &w.inputs[togetherSet+p]
		h.begun.Store(1)
		h.written.Store(1)
		ok(w.t, errors.Join(w.pair.Set(2*p, 1), w.pair.Set(2*p+1, 1)))
	}
}

// quiet checks everything, twice.
func (w *world) quiet(when string) {
	w.giveUp()
	ok(w.t, w.m.Refresh(w.t.Context(), nil))
	for again := range 2 {
		for l, c := range w.level {
			before := w.builds[l].Load()
			for _, k := range w.rng.Perm(togetherWidth) {
				got, err := c.Get(w.t.Context(), k)
				want, wantErr := truth{w}.level(l, k)
				same := isKept(err) == isKept(wantErr) && errors.Is(err, ErrNotFound) == errors.Is(wantErr, ErrNotFound)
				if (err == nil) != (wantErr == nil) || !same || err == nil && got != want {
					w.t.Errorf("%s: level %d, %d is %v, %v, not %v, %v\n%v", when, l, k, got, err, want, wantErr, c.Explain(k))
				}
			}
			// What was evicted is made again. And what was read through a cache in memory is
			// known of that after a restart only.
			inVain := !w.limited && (again > 0 || w.made && (l == 0 || !w.memory))
			if n := w.builds[l].Load() - before; n > 0 && inVain {
				w.t.Errorf("%s: %d values of level %d were made in vain; what was built, and why: %v", when, n, l, w.why())
			}
		}
		for p := range togetherPairs {
			got, err := w.whole.Get(w.t.Context(), p)
			if want, _ := (truth{w}).whole(p); err != nil || got != want {
				w.t.Errorf("%s: pair %d is %d as a whole, %v, not %d", when, p, got, err, want)
			}
		}
		var want [2]int64
		for i := range togetherSet {
			if _, err := (truth{w}).input(i); err == nil {
				want[0]++
				want[1] |= 1 << i
			}
		}
		for k, want := range want {
			if got, err := w.keys.Get(w.t.Context(), k); err != nil || got != want {
				w.t.Errorf("%s: keys %d is %d, %v, not %d", when, k, got, err, want)
			}
		}
	}
	for fault := range w.m.Check() {
		w.t.Errorf("%s: %v", when, fault)
	}
	w.made = !w.limited
	w.giveUp()
}

func (w *world) why() string {
	var b strings.Builder
	w.reasons.Range(func(entry, reason any) bool {
		fmt.Fprintf(&b, "\n\t%v: %v", entry, reason)
		return true
	})
	return b.String()
}

// giveUp ends the test if it has failed.
func (w *world) giveUp() {
	if w.t.Failed() {
		w.t.FailNow()
	}
	w.reasons.Clear()
}

func (w *world) close() { ok(w.t, w.m.Close()) }

// crash ends the process while everybody is at work, or the power.
func (w *world) crash() {
	after := make(chan *faultfs.FS, 1)
	pause, seed := time.Duration(w.rng.IntN(30_000))*time.Microsecond, w.rng.Uint64()
	time.AfterFunc(pause, func() {
		if seed%2 == 0 {
			after <- w.fs.Clone()
		} else {
			after <- w.fs.Restart(seed)
		}
	})
	w.together(40 * time.Millisecond)
	w.close()
	w.fs = <-after
}

// recount finds out which versions of the inputs were saved.
func (w *world) recount() {
	for i := range togetherSet + togetherPairs {
		v, err := reading{w.shelf, w.t.Context()}.input(i)
		if errors.Is(err, ErrNotFound) && i < togetherSet {
			v, err = 4, nil // or another one in which it is deleted
		}
		ok(w.t, err)
		w.inputs[i].begun.Store(v)
		w.inputs[i].written.Store(v)
	}
}

// expected reports whether an error is one that may come while all are at work.
func (w *world) expected(err error) bool {
	for _, e := range []error{errPlanned, ErrNotFound, ErrStale, context.Canceled, context.DeadlineExceeded, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isKept(err)
}

// together has many goroutines at work for a while.
func (w *world) together(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	w.made = false
	full := w.rng.IntN(3) == 0
	w.fs.Hook(func(n int, op faultfs.Op, _ string) error {
		if full && n%50 < 20 && (op == faultfs.OpWrite || op == faultfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	})
	defer w.fs.Hook(nil)
	var all sync.WaitGroup
	for range 6 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
		all.Go(func() {
			for ctx.Err() == nil && !w.t.Failed() {
				switch n := rng.IntN(100); {
				case n < 70:
					w.read(rng)
				case n < 92:
					w.write(rng)
				default:
					w.other(rng)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
	all.Go(func() { w.readElsewhere(ctx, rng) })
	all.Wait()
}

// read reads a value of a level, which is to be made of nothing older than there is now.
func (w *world) read(rng *rand.Rand) {
	w.reads.Add(1)
	ctx := w.t.Context()
	if rng.IntN(20) == 0 {
		c, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(100))*time.Microsecond)
		defer cancel()
		ctx = c
	}
	l, k := rng.IntN(togetherLevels), rng.IntN(togetherWidth)
	var before madeOf
	for i := range before {
		before[i] = w.inputs[i].written.Load()
	}
	got, err := w.level[l].Get(ctx, k)
	if err != nil {
		if !w.expected(err) {
			w.t.Errorf("level %d, %d: %v", l, k, err)
		}
		return
	}
	for i, v := range got {
		after := w.inputs[i].begun.Load()
		switch {
		case v == notRead:
		case v == notThat:
			x := before[i]
			for x <= after && x != 0 && !deletedAt(i, x) {
				x++
			}
			if x > after {
				w.t.Errorf("level %d, %d was made when there was no input %d, and it was of version %d, and is of %d", l, k, i, before[i], after)
			}
		case v < before[i] || v > after:
			w.t.Errorf("level %d, %d is of version %d of input %d, which was of %d, and is of %d\n%v", l, k, v, i, before[i], after, w.level[l].Explain(k))
		}
	}
}

// readElsewhere reads what another Manager has saved. Inputs never become older.
func (w *world) readElsewhere(ctx context.Context, rng *rand.Rand) {
	s := w.follow()
	defer func() { ok(w.t, s.m.Close()) }()
	var last madeOf
	for ctx.Err() == nil && !w.t.Failed() {
		if rng.IntN(20) == 0 {
			if _, err := s.m.Follow(ctx); err != nil && ctx.Err() == nil {
				w.t.Errorf("following: %v", err)
			}
		}
		l, k := rng.IntN(togetherLevels), rng.IntN(togetherWidth)
		got, err := s.level[l].Get(ctx, k)
		if err != nil {
			if !w.expected(err) {
				w.t.Errorf("elsewhere level %d, %d: %v", l, k, err)
			}
			continue
		}
		for i, v := range got {
			if i >= togetherSet+togetherPairs || v < 0 {
				continue // what is probed is not saved by anybody
			}
			if v < last[i] {
				w.t.Errorf("elsewhere level %d, %d is of version %d of input %d, and something of %d was read before\n%v", l, k, v, i, last[i], s.level[l].Explain(k))
			}
			last[i] = v
		}
	}
	for fault := range s.m.Check() {
		w.t.Errorf("elsewhere: %v", fault)
	}
}

// write makes the next version of an input.
func (w *world) write(rng *rand.Rand) {
	i := rng.IntN(togetherInputs)
	h := &w.inputs[i]
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	w.writes.Add(1)
	v := h.begun.Add(1)
	var err error
	switch {
	case deletedAt(i, v):
		err = w.set.Delete(i)
	case i < togetherSet && rng.IntN(2) == 0:
		_, err = w.set.Update(i, func(old int64, ok bool) (int64, bool) {
			if ok != (v > 1 && !deletedAt(i, v-1)) || ok && old != v-1 {
				w.t.Errorf("Update got %d, %v of input %d, not %d", old, ok, i, v-1)
			}
			return v, true
		})
	case i < togetherSet:
		err = w.set.Set(i, v)
	case i < togetherSet+togetherPairs:
		p := i - togetherSet
		err = w.m.Batch(func(b *Batch) error {
			w.pair.SetIn(b, 2*p, v)
			w.pair.SetIn(b, 2*p+1, v)
			return nil
		})
	case rng.IntN(2) == 0:
		w.probed.Recheck(i - togetherSet - togetherPairs)
	default:
		err = w.probed.Refresh(w.t.Context(), i-togetherSet-togetherPairs)
	}
	if err != nil {
		w.t.Error(err)
	}
	h.written.Store(v)
}

// other does something else that anybody may do at any time.
func (w *world) other(rng *rand.Rand) {
	w.others.Add(1)
	ctx := w.t.Context()
	k := rng.IntN(togetherWidth)
	c := w.level[rng.IntN(togetherLevels)]
	var err error
	switch rng.IntN(18) {
	case 0, 1:
		err = c.Invalidate(k)
	case 2:
		err = c.InvalidateAll()
	case 3:
		err = c.Delete(k)
	case 4:
		err = w.m.Sync(ctx)
	case 5:
		err = w.m.Compact(ctx)
	case 6:
		_ = c.Explain(k).String()
	case 7:
		_ = c.Plan(k)
	case 8:
		for range c.All() {
		}
	case 9:
		err = w.m.Build(ctx, Only(c.Name()), nil)
	case 10:
		err = w.whole.Rebuild(ctx)
	case 11:
		err = w.whole.InvalidateAll()
	case 12:
		err = w.m.Export(ctx, io.Discard)
	case 13:
		_, _ = c.Peek(k)
		_, _, _ = c.Has(k), c.Len(), w.m.Stats()
	case 14:
		_, err = c.Collect(ctx)
	case 15:
		err = c.Load(ctx)
	case 16:
		err = c.Reload(ctx)
	case 17:
		if rng.IntN(20) == 0 {
			err = w.m.Backup(ctx, filepath.Join(w.t.TempDir(), "backup"))
		}
	}
	if err != nil && !w.expected(err) {
		w.t.Error(err)
	}
}
