package main

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// storeSuite compares saving and loading.
func storeSuite() *Suite {
	s := &Suite{
		Name:    "store",
		About:   "saving, durable changes, loading, single reads, space on disk, peak memory",
		Works:   storeWorks(),
		Run:     runStore,
		Targets: storeTargets,
		Worker:  newStoreWorker,
	}
	for _, system := range storeSystems() {
		s.Systems = append(s.Systems, system.name)
	}
	return s
}

// The sizes of the changes that are synced.
const (
	largeSync = 1000
	smallSync = 1
)

func storeWorks() []Work {
	return []Work{
		{Name: "save_all", Unit: Seconds, PerEntry: true, About: "n entries from memory, durable at the end; floor: the same bytes, from one buffer, + fsync"},
		{Name: "save_close", Unit: Seconds, PerEntry: true, About: "closing after that"},
		{Name: "sync_1000", Unit: Seconds, About: "make 1000 random entries durable that were changed in memory; floor: append + fsync of the same bytes"},
		{Name: "sync_1", Unit: Seconds, About: "the same with one; floor: append + fsync of it"},
		{Name: "change_sync_1000", Unit: Seconds, About: "sync_1000 and the changes in memory before it"},
		{Name: "change_sync_1", Unit: Seconds, About: "sync_1 and the change in memory before it"},
		{Name: "load_all", Unit: Seconds, PerEntry: true, About: "open, all entries into memory, look at each value once; floor: a Go map filled from one file (floor-alias: with strings and slices into the file's bytes)"},
		{Name: "open_read_one", Unit: Seconds, About: "a new process opens and reads one entry, nothing else loaded"},
		{Name: "disk_bytes", Unit: Bytes, PerEntry: true, About: "space on disk after saving and closing"},
		{Name: "compact", Unit: Seconds, PerEntry: true, About: "open and compact, for systems that can be told to"},
		{Name: "disk_compacted", Unit: Bytes, PerEntry: true, About: "disk_bytes after that"},
		{Name: "load_compacted", Unit: Seconds, PerEntry: true, About: "load_all after that"},
		{Name: "read_one_compacted", Unit: Seconds, About: "open_read_one after that"},
		{Name: "mem_held", Unit: Bytes, PerEntry: true, About: "growth of resident memory with the entries held, before saving; floor: a Go map"},
		{Name: "mem_save", Unit: Bytes, PerEntry: true, About: "peak growth of resident memory while saving, the held entries included"},
		{Name: "mem_load", Unit: Bytes, PerEntry: true, About: "peak growth of resident memory when opening and loading"},
	}
}

func runStore(ctx context.Context, r *Run) error {
	// First everything once without timing, to compare results.
	for _, system := range slices.Clone(r.Systems) {
		r.progress.step("checking", system)
		if err := checkStore(ctx, r, system); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.markWrong(system, err)
		}
	}
	for round := range r.Runs {
		if err := storeRound(ctx, r, round); err != nil {
			return err
		}
	}
	return nil
}

// checkStore saves, changes and reads back, each in its own process.
func checkStore(ctx context.Context, r *Run, system string) error {
	dir, err := os.MkdirTemp(r.Dir, "check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	step := func(req request) (map[string][]float64, error) {
		got, err := storeStep(ctx, r, system, dir, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", req.Step, err)
		}
		return got, nil
	}
	if _, err := step(request{Step: "save"}); err != nil {
		return err
	}
	if _, err := step(request{Step: "verify"}); err != nil {
		return err
	}
	if !findStoreSystem(system).has("sync_1") {
		return nil
	}
	done, err := step(request{Step: "sync"})
	if err != nil || findStoreSystem(system).floor {
		return err
	}
	updates := []int{len(done["sync_1000"]), len(done["sync_1"])}
	if _, err := step(request{Step: "verify", Updates: updates}); err != nil {
		return err
	}
	if !findStoreSystem(system).has("compact") {
		return nil
	}
	if _, err := step(request{Step: "compact"}); err != nil {
		return err
	}
	if _, err = step(request{Step: "verify", Updates: updates}); err != nil {
		return fmt.Errorf("after compacting: %w", err)
	}
	return nil
}

// storeSteps are done in this order, on what the steps before have left.
var storeSteps = []struct {
	name  string // of the worker's step
	needs string // the work that a system must have for it
	times int
	works map[string]string // under which names results are kept, if not their own
}{
	{name: "save", needs: "save_all"},
	{name: "load", needs: "load_all"},
	{name: "read_one", needs: "open_read_one", times: 5},
	{name: "compact", needs: "compact"},
	{name: "load", needs: "compact", works: map[string]string{"load_all": "load_compacted", "mem_load": ""}},
	{name: "read_one", needs: "compact", times: 5, works: map[string]string{"open_read_one": "read_one_compacted"}},
	{name: "sync", needs: "sync_1"},
}

// storeRound does each step with all systems before the next step.
func storeRound(ctx context.Context, r *Run, round int) error {
	dirs := map[string]string{}
	defer func() {
		for _, dir := range dirs {
			os.RemoveAll(dir)
		}
	}()
	for _, system := range r.Systems {
		dir, err := os.MkdirTemp(r.Dir, "round-")
		if err != nil {
			return err
		}
		dirs[system] = dir
	}
	for _, step := range storeSteps {
		for k := range max(step.times, 1) {
			for _, system := range r.Systems {
				s := findStoreSystem(system)
				// The alias floor has no row for its save, but needs it.
				if !s.has(step.needs) && step.name != "save" {
					continue
				}
				r.progress.step(fmt.Sprintf("round %d/%d %s", round+1, r.Runs, step.name), system)
				got, err := storeStep(ctx, r, system, dirs[system], request{Step: step.name, Round: round<<10 | k})
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					r.markWrong(system, fmt.Errorf("%s: %w", step.name, err))
					continue
				}
				for work, v := range got {
					if name, other := step.works[work]; other {
						work = name
					}
					if s.has(work) {
						r.samples.add(system, work, v...)
					}
				}
				if work := map[string]string{"save": "disk_bytes", "compact": "disk_compacted"}[step.name]; work != "" && s.has(work) {
					size, err := diskUsage(dirs[system])
					if err != nil {
						return err
					}
					r.samples.add(system, work, float64(size))
				}
			}
		}
	}
	return nil
}

// storeStep has a new process do one step in dir.
func storeStep(ctx context.Context, r *Run, system, dir string, req request) (map[string][]float64, error) {
	return freshWorker(ctx, r, "store", system, dir, req)
}

// freshWorker has a new process do one step in dir.
func freshWorker(ctx context.Context, r *Run, suite, system, dir string, req request) (map[string][]float64, error) {
	flushDisks() // what others wrote is not to be waited for in this step
	c, err := startWorker(ctx, workerConfig{Suite: suite, System: system, N: r.N, Dir: dir, Profile: r.Profile})
	if err != nil {
		return nil, err
	}
	defer c.stop()
	return c.call(req)
}

// diskUsage is the space that the files in dir occupy.
func diskUsage(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += allocated(info)
		}
		return err
	})
	return size, err
}

func storeTargets(r *Report) []Target {
	// What is read may have been compacted before or not. Cacheman is judged
	// by the worse, against the peer's better.
	load := []string{"load_all", "load_compacted"}
	targets := []Target{
		timesFaster(r, "save all against databases", 4, []string{"save_all"}, "bbolt", "badger", "sqlite"),
		timesFaster(r, "save all against pebble", 1, []string{"save_all"}, "pebble"),
		within(r, "save all against plain write + fsync", 2, []string{"save_all"}, "floor"),
		timesFaster(r, "sync of 1000 against B-trees", 30, []string{"sync_1000"}, "bbolt", "sqlite"),
		timesFaster(r, "sync of 1000 against pebble", 1, []string{"sync_1000"}, "pebble"),
		within(r, "sync of 1 against append + fsync", 1.5, []string{"sync_1"}, "floor"),
		loadAgainstMap(r, load),
		timesFaster(r, "load all against every peer", 1, load, "bbolt", "pebble", "badger", "sqlite", "gob"),
		readOne(r),
	}
	disk := Target{Name: "disk against raw bytes, with zstd", Want: "≤ 0.65×", Met: NoData}
	raw := float64(r.N) * (keySize + valueSize)
	if x := r.value("cacheman", "disk_bytes") / raw; !math.IsNaN(x) {
		disk.Got, disk.Met = "saved "+times(x), verdict(x <= 0.65)
		if y := r.value("cacheman", "disk_compacted") / raw; !math.IsNaN(y) {
			disk.Got, disk.Met = disk.Got+", compacted "+times(y), verdict(y <= 0.65)
		}
	}
	return append(targets, disk, memory(r, "saving", "mem_save"), memory(r, "loading", "mem_load"))
}

// best and worst give a system's smallest and largest value of some works; NaN
// if it has none of them.
func (r *Report) best(system string, works []string) float64 {
	return r.extreme(system, works, func(v, than float64) bool { return v < than })
}

func (r *Report) worst(system string, works []string) float64 {
	return r.extreme(system, works, func(v, than float64) bool { return v > than })
}

func (r *Report) extreme(system string, works []string, beats func(v, than float64) bool) float64 {
	x := math.NaN()
	for _, w := range works {
		if v := r.value(system, w); math.IsNaN(x) || beats(v, x) {
			x = v
		}
	}
	return x
}

// timesFaster wants cacheman at least factor times faster than each system;
// with factor 1, just faster.
func timesFaster(r *Report, name string, factor float64, works []string, systems ...string) Target {
	t := Target{Name: name, Want: "≥ " + times(factor) + " faster", Met: NoData}
	if factor == 1 {
		t.Want = "faster"
	}
	least := math.Inf(1)
	var got []string
	for _, s := range systems {
		x := r.best(s, works) / r.worst("cacheman", works)
		if math.IsNaN(x) {
			continue
		}
		least = min(least, x)
		got = append(got, s+" takes "+times(x))
		t.Met = verdict(least > 1 && least >= factor)
	}
	t.Got = strings.Join(got, ", ")
	return t
}

// loadAgainstMap judges by the map whose keys and values are allocated one by
// one, and shows the other, too.
func loadAgainstMap(r *Report, works []string) Target {
	t := Target{Name: "load all against filling a Go map", Want: "≤ 1.50×", Met: NoData}
	own := r.worst("cacheman", works)
	x := own / r.value("floor", "load_all")
	if math.IsNaN(x) {
		return t
	}
	t.Got, t.Met = times(x), verdict(x <= 1.5)
	if x := own / r.value("floor-alias", "load_all"); !math.IsNaN(x) {
		t.Got += ", a map into the file's bytes " + times(x)
	}
	return t
}

func readOne(r *Report) Target {
	t := Target{Name: "open and read one entry", Want: "≤ 5 ms and ≤ 2.00× bbolt", Met: NoData}
	works := []string{"open_read_one", "read_one_compacted"}
	own := r.worst("cacheman", works)
	x := own / r.best("bbolt", works)
	if math.IsNaN(own) || math.IsNaN(x) {
		return t
	}
	t.Got, t.Met = formatSeconds(own)+", "+times(x)+" bbolt", verdict(own <= 5e-3 && x <= 2)
	if y := r.best("cacheman", works); y != own {
		t.Got += ", compacted or not: " + formatSeconds(y) + " at best"
	}
	return t
}

// memory compares a peak with the same entries in a Go map.
func memory(r *Report, when, work string) Target {
	t := Target{Name: "peak memory while " + when + ", against a Go map of the entries", Want: "≤ 1.30×", Met: NoData}
	x := r.value("cacheman", work) / r.value("floor", "mem_held")
	if math.IsNaN(x) {
		return t
	}
	t.Got, t.Met = times(x), verdict(x <= 1.3)
	if own := r.value("cacheman", work) / r.value("cacheman", "mem_held"); !math.IsNaN(own) {
		t.Got += ", against the cache itself " + times(own)
	}
	return t
}

func findStoreSystem(name string) *storeSystem {
	systems := storeSystems()
	i := slices.IndexFunc(systems, func(s storeSystem) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &systems[i]
}
