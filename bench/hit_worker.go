package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// payload is the value of the hit suite. Caches hold pointers to payloads that
// exist already, so a system that keeps values as any pays nothing for that.
type payload struct {
	ID, Gen uint64
	Rest    [6]uint64
}

// unrelated is how many other keys the background writer goes round.
const unrelated = 10_000

// hitWorker measures one system.
type hitWorker struct {
	cfg    workerConfig
	system *hitSystem

	keys   []string     // n, then the unrelated ones
	pays   [2][]payload // the values of n keys, in two generations
	plain  *hitCache    // all n keys are in it
	loaded *hitCache    // the same, put there by its loader; nil before use
	seqs   map[string][]sequence
}

func newHitWorker(cfg workerConfig) (worker, error) {
	w := &hitWorker{cfg: cfg, system: findHitSystem(cfg.System), seqs: map[string][]sequence{}}
	if w.system == nil {
		return nil, fmt.Errorf("no system %q", cfg.System)
	}
	all := cfg.N + unrelated
	w.keys = makeKeys(func(yield func(int) bool) {
		for i := 0; i < all && yield(i); i++ {
		}
	}, all)
	for gen := range w.pays {
		w.pays[gen] = make([]payload, cfg.N)
		for i := range w.pays[gen] {
			w.pays[gen][i] = payload{ID: uint64(i), Gen: uint64(gen)}
		}
	}
	return w, nil
}

// capacity is the bound given to bounded caches: nothing needs to be evicted,
// and a fair share of headroom lets those that evict by shard keep all.
func (w *hitWorker) capacity() int { return 2*w.cfg.N + 2*unrelated }

// value is what the loaders make of key.
func (w *hitWorker) value(key string) *payload { return &w.pays[0][indexOf(key)%w.cfg.N] }

func (w *hitWorker) do(req request) (map[string][]float64, error) {
	switch req.Step {
	case "fill":
		return w.fillMeasured()
	case "check":
		return w.check()
	case "allocs":
		return w.allocations()
	case getBeside:
		return w.getBeside()
	}
	if w.plain == nil {
		return nil, fmt.Errorf("%q before fill", req.Step)
	}
	ns, extra, err := w.timed(req)
	if err != nil {
		return nil, err
	}
	samples := map[string][]float64{req.Step: {ns}}
	for work, v := range extra {
		samples[work] = []float64{v}
	}
	return samples, nil
}

// fillMeasured fills the cache that the later steps use, and measures its
// space: the process holds nothing else that comes or goes meanwhile.
func (w *hitWorker) fillMeasured() (map[string][]float64, error) {
	samples := map[string][]float64{}
	before := liveHeap()
	var err error
	if w.plain, err = w.system.open(w.capacity(), nil); err != nil {
		return nil, err
	}
	if err := w.populate(w.plain); err != nil {
		return nil, err
	}
	// 24 bytes are the key's string header and the value's pointer.
	perEntry := func(grown int64) []float64 { return []float64{float64(grown)/float64(w.cfg.N) - 24} }
	samples["bytes_per_entry"] = perEntry(liveHeap() - before)
	if w.system.loads {
		before := liveHeap()
		if w.loaded, err = w.system.open(w.capacity(), w.value); err != nil {
			return nil, err
		}
		for _, key := range w.keys[:w.cfg.N] {
			w.loaded.get(key)
		}
		w.loaded.settle()
		samples["bytes_per_derived"] = perEntry(liveHeap() - before)
		for i := w.cfg.N; i < len(w.keys); i++ {
			w.loaded.setOther(w.keys[i], &w.pays[0][i%w.cfg.N])
		}
		w.loaded.settle()
	}
	if w.system.harness {
		samples = nil
	}
	return samples, nil
}

// populate puts all n keys into c, giving caches that may drop a set time to
// take them, and trying again if they did drop one.
func (w *hitWorker) populate(c *hitCache) error {
	missing := 0
	for range 20 {
		missing = 0
		for i, key := range w.keys[:w.cfg.N] {
			if c.peek(key) == nil || w.system.harness {
				c.set(key, &w.pays[0][i])
				if missing++; missing%8192 == 0 {
					c.settle()
				}
			}
		}
		c.settle()
		if missing == 0 || w.system.harness {
			return nil
		}
	}
	return fmt.Errorf("%d of %d keys are not kept, however often they are set", missing, w.cfg.N)
}

// check compares results before anything is timed, and ends with generation 0
// in the cache.
func (w *hitWorker) check() (map[string][]float64, error) {
	if w.system.harness {
		return nil, nil
	}
	n := w.cfg.N
	same := func(c *hitCache, read func(string) *payload, gen int) error {
		for i := range n {
			if i%max(n/1000, 1) != 0 && i != n-1 {
				continue
			}
			// A key of its own, not the string that was stored.
			if p := read(keyOf(i)); p == nil {
				return fmt.Errorf("key %d is missing", i)
			} else if *p != (payload{ID: uint64(i), Gen: uint64(gen)}) {
				return fmt.Errorf("key %d has the value %v", i, *p)
			}
		}
		return nil
	}
	if err := same(w.plain, w.plain.peek, 0); err != nil {
		return nil, err
	}
	if p := w.plain.peek(keyOf(len(w.keys) + 7)); p != nil {
		return nil, fmt.Errorf("a key that was never set has the value %v", *p)
	}
	if w.loaded != nil {
		if err := same(w.loaded, w.loaded.get, 0); err != nil {
			return nil, fmt.Errorf("loaded: %w", err)
		}
	}
	var kept float64
	for _, gen := range []int{1, 0} {
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				for i := g; i < n; i += 2 {
					w.plain.set(w.keys[i], &w.pays[gen][i])
				}
			})
		}
		wg.Wait()
		w.plain.settle()
		if gen == 1 {
			kept = w.share(w.plain, 1)
		}
		if err := same(w.plain, w.plain.peek, gen); err != nil {
			return nil, fmt.Errorf("after overwriting: %w", err)
		}
	}
	return map[string][]float64{"kept_overwrite": {kept}}, nil
}

// share says how much of the n keys c has in generation gen.
func (w *hitWorker) share(c *hitCache, gen int) float64 {
	kept := 0
	for i, key := range w.keys[:w.cfg.N] {
		if c.peek(key) == &w.pays[gen][i] {
			kept++
		}
	}
	return float64(kept) / float64(w.cfg.N)
}

// allocations counts mallocs of the whole process over many operations.
func (w *hitWorker) allocations() (map[string][]float64, error) {
	s := w.sequences("uniform", 1)[0]
	s = s.slice(0, min(len(s.keys), 200_000))
	count := func(f func(sequence) int) []float64 {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f(s)
		runtime.ReadMemStats(&after)
		return []float64{float64(after.Mallocs-before.Mallocs) / float64(len(s.keys))}
	}
	samples := map[string][]float64{
		"allocs_peek":      count(reads(w.plain.peek)),
		"allocs_overwrite": count(w.writes(w.plain, 1)),
	}
	if w.loaded != nil {
		samples["allocs_get"] = count(reads(w.loaded.get))
	}
	fresh, err := w.system.open(w.capacity(), nil)
	if err != nil {
		return nil, err
	}
	defer fresh.close()
	s = w.fillSequences(1)[0]
	samples["allocs_fill"] = count(w.writes(fresh, 0))
	return samples, nil
}

// timed measures one of hitTimed, in wall-clock nanoseconds per operation of
// all goroutines together.
func (w *hitWorker) timed(req request) (float64, map[string]float64, error) {
	kind, goroutines := strings.TrimSuffix(req.Step, "_1g"), 1
	if k, two := strings.CutSuffix(req.Step, "_2g"); two {
		kind, goroutines = k, 2
	}
	gen := 1 - req.Round%2 // each round overwrites with values that are not there
	switch kind {
	case "fill":
		return w.timedFill(goroutines)
	case "overwrite":
		seqs := w.sequences("uniform", goroutines)
		ns, _ := clock(seqs, w.writes(w.plain, gen))
		return ns, nil, nil
	case "mix_90_10", "mix_50_50":
		every := 10
		if kind == "mix_50_50" {
			every = 2
		}
		seqs := w.sequences("zipf", goroutines)
		ns, missed := clock(seqs, w.mixed(w.plain, gen, every))
		return ns, nil, noneMissed(missed)
	case "peek_uniform", "peek_zipf", "get_uniform", "get_zipf":
		how, dist, _ := strings.Cut(kind, "_")
		read := w.plain.peek
		if how == "get" {
			if w.loaded == nil {
				return 0, nil, fmt.Errorf("%s has no loader", w.system.name)
			}
			read = w.loaded.get
		}
		seqs := w.sequences(dist, goroutines)
		warm(seqs, reads(read))
		ns, missed := clock(seqs, reads(read))
		return ns, nil, noneMissed(missed)
	}
	return 0, nil, fmt.Errorf("unknown step %q", req.Step)
}

func noneMissed(missed int) error {
	if missed > 0 {
		return fmt.Errorf("%d reads of present keys found nothing", missed)
	}
	return nil
}

func (w *hitWorker) timedFill(goroutines int) (float64, map[string]float64, error) {
	c, err := w.system.open(w.capacity(), nil)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	ns, _ := clock(w.fillSequences(goroutines), w.writes(c, 0))
	if goroutines == 1 || w.system.harness {
		return ns, nil, nil
	}
	c.settle()
	return ns, map[string]float64{"kept_fill": w.share(c, 0)}, nil
}

// getBeside times Get in turns, alone and beside a writer of other keys.
func (w *hitWorker) getBeside() (map[string][]float64, error) {
	const turns = 8
	seq := w.sequences("uniform", 1)[0]
	body := reads(w.loaded.get)
	warm([]sequence{seq}, body)
	var total [2]float64
	for turn := range turns {
		part := []sequence{seq.slice(turn*len(seq.keys)/turns, (turn+1)*len(seq.keys)/turns)}
		writing := (turn + turn/2) % 2 // 0 1 1 0 0 1 1 0
		stop := func() {}
		if writing == 1 {
			stop = w.setUnrelated()
		}
		ns, missed := clock(part, body)
		stop()
		if err := noneMissed(missed); err != nil {
			return nil, err
		}
		total[writing] += ns / (turns / 2)
	}
	return map[string][]float64{getQuiet: {total[0]}, getUnderSets: {total[1]}}, nil
}

// setUnrelated sets unrelated keys at a rate of 10 000 a second until stopped.
func (w *hitWorker) setUnrelated() (stop func()) {
	var stopped atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		start, done := time.Now(), 0
		for !stopped.Load() {
			for due := int(time.Since(start).Seconds() * 10_000); done < due; done++ {
				i := done % unrelated
				w.loaded.setOther(w.keys[w.cfg.N+i], &w.pays[done/unrelated%2][i%w.cfg.N])
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() { stopped.Store(true); wg.Wait() }
}

// sequence is a stretch of operations, made before anything is timed.
type sequence struct {
	keys  []string
	index []int32 // of the entries
}

func (s sequence) slice(from, to int) sequence {
	return sequence{s.keys[from:to], s.index[from:to]}
}

// sequences returns the operations of each goroutine.
func (w *hitWorker) sequences(distribution string, goroutines int) []sequence {
	n := w.cfg.N
	for g := len(w.seqs[distribution]); g < goroutines; g++ {
		r := rng(distribution, g)
		pick := func() int { return r.IntN(n) }
		if distribution == "zipf" {
			z := rand.NewZipf(r, 1.01, 1, uint64(n-1))
			rank := shuffled(n, rng("rank", 0)) // the same keys are hot for all
			pick = func() int { return rank[z.Uint64()] }
		}
		s := sequence{index: make([]int32, w.cfg.Ops)}
		for k := range s.index {
			s.index[k] = int32(pick())
		}
		s.keys = makeKeys(func(yield func(int) bool) {
			for _, i := range s.index {
				if !yield(int(i)) {
					return
				}
			}
		}, len(s.index))
		w.seqs[distribution] = append(w.seqs[distribution], s)
	}
	return w.seqs[distribution][:goroutines]
}

// fillSequences deals the n keys, in random order, to the goroutines. The
// strings are those that the caches keep.
func (w *hitWorker) fillSequences(goroutines int) []sequence {
	s := w.seqs["fill"]
	if s == nil {
		all := sequence{}
		for _, i := range shuffled(w.cfg.N, rng("fill", 0)) {
			all.keys = append(all.keys, w.keys[i])
			all.index = append(all.index, int32(i))
		}
		s = []sequence{all}
		w.seqs["fill"] = s
	}
	if goroutines == 1 {
		return s
	}
	half := w.cfg.N / 2
	return []sequence{s[0].slice(0, half), s[0].slice(half, w.cfg.N)}
}

// The loops that are timed. They return how many reads found nothing.

func reads(read func(string) *payload) func(sequence) int {
	return func(s sequence) (missed int) {
		for _, key := range s.keys {
			if read(key) == nil {
				missed++
			}
		}
		return missed
	}
}

func (w *hitWorker) writes(c *hitCache, gen int) func(sequence) int {
	pays := w.pays[gen]
	return func(s sequence) int {
		for k, key := range s.keys {
			c.set(key, &pays[s.index[k]])
		}
		return 0
	}
}

func (w *hitWorker) mixed(c *hitCache, gen, every int) func(sequence) int {
	pays := w.pays[gen]
	return func(s sequence) (missed int) {
		for k, key := range s.keys {
			if k%every == 0 {
				c.set(key, &pays[s.index[k]])
			} else if c.peek(key) == nil {
				missed++
			}
		}
		return missed
	}
}

// warm runs a sixteenth of the operations.
func warm(seqs []sequence, body func(sequence) int) {
	for _, s := range seqs {
		body(s.slice(0, len(s.keys)/16))
	}
}

// clock runs body on each sequence in a goroutine of its own and returns the
// time of the whole over the number of operations.
func clock(seqs []sequence, body func(sequence) int) (ns float64, missed int) {
	runtime.GC()
	ops := 0
	for _, s := range seqs {
		ops += len(s.keys)
	}
	if len(seqs) == 1 {
		start := time.Now()
		missed = body(seqs[0])
		return float64(time.Since(start).Nanoseconds()) / float64(ops), missed
	}
	var wg sync.WaitGroup
	var lost atomic.Int64
	begin := make(chan struct{})
	for _, s := range seqs {
		wg.Go(func() {
			<-begin
			lost.Add(int64(body(s)))
		})
	}
	start := time.Now()
	close(begin)
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / float64(ops), int(lost.Load())
}

// liveHeap is the size of what is reachable.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
