package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// storeDB is an opened database, or what stands for one.
type storeDB interface {
	// Fill puts n entries into memory, ready to be saved.
	Fill(n int) error
	// SaveAll makes them durable.
	SaveAll() error
	// LoadAll reads all into memory.
	LoadAll(n int) error
	// Each calls f with every entry in memory. The value is f's for the call.
	Each(f func(key string, value []byte)) error
	// Ready does what has to precede changes, once.
	Ready(n int) error
	// Change changes entries in memory, if they are there.
	Change(keys []string, values [][]byte) error
	// SaveChanges makes what was changed durable, and nothing else.
	SaveChanges(keys []string, values [][]byte) error
	// ReadOne reads one entry without loading the others.
	ReadOne(key string) ([]byte, error)
	Close() error
}

// A flattener lays out what Fill made, untimed, before it is saved.
type flattener interface{ Flatten() }

// storeWorker does one step in a process of its own.
type storeWorker struct {
	cfg    workerConfig
	system *storeSystem
	base   int64 // resident memory before anything was done
}

func newStoreWorker(cfg workerConfig) (worker, error) {
	w := &storeWorker{cfg: cfg, system: findStoreSystem(cfg.System)}
	w.base, _ = residentMemory()
	if w.system == nil {
		return nil, fmt.Errorf("no system %q", cfg.System)
	}
	return w, nil
}

func (w *storeWorker) do(req request) (map[string][]float64, error) {
	switch req.Step {
	case "save":
		return w.save()
	case "verify":
		return nil, w.verify(req.Updates)
	case "load":
		return w.load()
	case "read_one":
		return w.readOne(req.Round)
	case "compact":
		return w.compact()
	case "sync":
		return w.sync()
	}
	return nil, fmt.Errorf("unknown step %q", req.Step)
}

func (w *storeWorker) save() (map[string][]float64, error) {
	db, err := w.system.open(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := db.Fill(w.cfg.N); err != nil {
		return nil, err
	}
	samples := map[string][]float64{}
	debug.FreeOSMemory()
	if held, ok := residentMemory(); ok {
		samples["mem_held"] = []float64{float64(held - w.base)}
	}
	if f, ok := db.(flattener); ok {
		f.Flatten()
		debug.FreeOSMemory()
	}
	reset := resetPeakMemory()
	start := time.Now()
	if err := db.SaveAll(); err != nil {
		return nil, err
	}
	samples["save_all"] = []float64{time.Since(start).Seconds()}
	if peak, ok := peakMemory(); ok && reset {
		samples["mem_save"] = []float64{float64(peak - w.base)}
	}
	start = time.Now()
	if err := db.Close(); err != nil {
		return nil, err
	}
	samples["save_close"] = []float64{time.Since(start).Seconds()}
	return samples, nil
}

func (w *storeWorker) load() (map[string][]float64, error) {
	start := time.Now()
	db, err := w.system.open(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := db.LoadAll(w.cfg.N); err != nil {
		return nil, err
	}
	count, sum := 0, uint64(0)
	if err := db.Each(func(_ string, v []byte) { count++; sum += checksum(v) }); err != nil {
		return nil, err
	}
	took := time.Since(start).Seconds()
	samples := map[string][]float64{"load_all": {took}}
	if peak, ok := peakMemory(); ok {
		samples["mem_load"] = []float64{float64(peak - w.base)}
	}
	var want uint64
	var buf []byte
	for i := range w.cfg.N {
		buf = appendValue(buf[:0], i, 0)
		want += checksum(buf)
	}
	if count != w.cfg.N || sum != want {
		return nil, fmt.Errorf("loaded %d entries of %d, checksum %x instead of %x", count, w.cfg.N, sum, want)
	}
	return samples, db.Close()
}

// checksum looks at both ends of a value.
func checksum(v []byte) uint64 {
	if len(v) == 0 {
		return 1
	}
	return uint64(len(v))<<32 ^ uint64(v[0])<<16 ^ uint64(v[len(v)/3])<<8 ^ uint64(v[len(v)-1])
}

func (w *storeWorker) readOne(seed int) (map[string][]float64, error) {
	i := rng("read one", seed).IntN(w.cfg.N)
	key := keyOf(i)
	start := time.Now()
	db, err := w.system.open(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	v, err := db.ReadOne(key)
	took := time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(v, valueOf(i, 0)) {
		return nil, fmt.Errorf("key %d has the value %q", i, v)
	}
	return map[string][]float64{"open_read_one": {took}}, db.Close()
}

func (w *storeWorker) compact() (map[string][]float64, error) {
	start := time.Now()
	if err := w.system.compact(w.cfg.Dir); err != nil {
		return nil, err
	}
	return map[string][]float64{"compact": {time.Since(start).Seconds()}}, nil
}

// sync changes entries, as often as there is time for.
func (w *storeWorker) sync() (map[string][]float64, error) {
	db, err := w.system.open(w.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := db.Ready(w.cfg.N); err != nil {
		return nil, err
	}
	samples := map[string][]float64{}
	for _, s := range []struct {
		work        string
		batch, most int
	}{{"sync_1000", largeSync, 20}, {"sync_1", smallSync, 50}} {
		begun := time.Now()
		for rep := range s.most {
			if rep >= 3 && time.Since(begun) > 3*time.Second {
				break
			}
			index := updated(w.cfg.N, s.batch, rep)
			keys, values := make([]string, len(index)), make([][]byte, len(index))
			for k, i := range index {
				keys[k], values[k] = keyOf(i), valueOf(i, generation(s.batch, rep))
			}
			start := time.Now()
			if err := db.Change(keys, values); err != nil {
				return nil, err
			}
			changed := time.Now()
			if err := db.SaveChanges(keys, values); err != nil {
				return nil, err
			}
			end := time.Now()
			samples[s.work] = append(samples[s.work], end.Sub(changed).Seconds())
			samples["change_"+s.work] = append(samples["change_"+s.work], end.Sub(start).Seconds())
		}
	}
	return samples, db.Close()
}

// updated lists the entries that repetition rep of a sync changes.
func updated(n, batch, rep int) []int {
	r := rng("update", batch<<10|rep)
	seen := map[int]bool{}
	var index []int
	for len(index) < min(batch, n/2) {
		if i := r.IntN(n); !seen[i] {
			seen[i] = true
			index = append(index, i)
		}
	}
	return index
}

// generation tells the values of a repetition from all others.
func generation(batch, rep int) int {
	if batch == smallSync {
		return 101 + rep
	}
	return 1 + rep
}

// verify compares count and values after a save and the given numbers of
// large and small syncs.
func (w *storeWorker) verify(updates []int) error {
	db, err := w.system.open(w.cfg.Dir)
	if err != nil {
		return err
	}
	gens := map[int]int{}
	if len(updates) == 2 {
		for k, batch := range []int{largeSync, smallSync} {
			for rep := range updates[k] {
				for _, i := range updated(w.cfg.N, batch, rep) {
					gens[i] = generation(batch, rep)
				}
			}
		}
	}
	sample := sampleOf(w.cfg.N, gens)
	if w.system.has("open_read_one") {
		for _, i := range sample {
			v, err := db.ReadOne(keyOf(i))
			if err != nil {
				return fmt.Errorf("reading entry %d: %w", i, err)
			}
			if !bytes.Equal(v, valueOf(i, gens[i])) {
				return fmt.Errorf("read alone, entry %d has the value %q", i, v)
			}
		}
	}
	if err := db.LoadAll(w.cfg.N); err != nil {
		return err
	}
	want := map[string]int{}
	for _, i := range sample {
		want[keyOf(i)] = i
	}
	count, found := 0, 0
	var bad error
	if err := db.Each(func(key string, v []byte) {
		count++
		if i, ok := want[key]; ok {
			if found++; !bytes.Equal(v, valueOf(i, gens[i])) {
				bad = fmt.Errorf("loaded, entry %d has the value %q", i, v)
			}
		}
	}); err != nil {
		return err
	}
	switch {
	case bad != nil:
		return bad
	case count != w.cfg.N:
		return fmt.Errorf("%d entries of %d are there", count, w.cfg.N)
	case found != len(sample):
		return fmt.Errorf("%d keys of a sample of %d are there", found, len(sample))
	}
	return db.Close()
}

// sampleOf picks entries to look at, all changed ones among them.
func sampleOf(n int, changed map[int]int) []int {
	var sample []int
	for i := range changed {
		sample = append(sample, i)
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for _, i := range append(r.Perm(n)[:min(n, 1000)], 0, n-1) {
		if _, ok := changed[i]; !ok {
			sample = append(sample, i)
			changed[i] = 0
		}
	}
	return sample
}
