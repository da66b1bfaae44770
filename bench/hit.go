package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// hitSuite compares reads and writes of entries in memory.
func hitSuite() *Suite {
	s := &Suite{
		Name:    "hit",
		About:   "reads and writes in memory, space per entry, allocations",
		Works:   hitWorks(),
		Run:     runHit,
		Targets: hitTargets,
		Worker:  newHitWorker,
	}
	for _, system := range hitSystems() {
		s.Systems = append(s.Systems, system.name)
	}
	return s
}

// hitTimed are the works that are timed in alternating rounds. The name ends
// with the number of goroutines.
var hitTimed = []Work{
	{Name: "peek_uniform_1g", About: "read a present key, uniform"},
	{Name: "peek_uniform_2g", About: "the same, two goroutines"},
	{Name: "peek_zipf_1g", About: "read a present key, zipf"},
	{Name: "peek_zipf_2g", About: "the same, two goroutines"},
	{Name: "get_uniform_1g", About: "get-or-build a present key, uniform; cacheman: Get of a clean entry that a builder made from an input"},
	{Name: "get_uniform_2g", About: "the same, two goroutines"},
	{Name: "get_zipf_1g", About: "get-or-build a present key, zipf"},
	{Name: "get_zipf_2g", About: "the same, two goroutines"},
	{Name: "fill_1g", About: "set n new keys in an empty cache"},
	{Name: "fill_2g", About: "the same, two goroutines"},
	{Name: "overwrite_1g", About: "set a present key to a new value, uniform"},
	{Name: "overwrite_2g", About: "the same, two goroutines"},
	{Name: "mix_90_10_1g", About: "90 % reads, 10 % overwrites, zipf"},
	{Name: "mix_90_10_2g", About: "the same, two goroutines"},
	{Name: "mix_50_50_1g", About: "50 % reads, 50 % overwrites, zipf"},
	{Name: "mix_50_50_2g", About: "the same, two goroutines"},
}

// getBeside is a timed step with two results: turns with and without writes.
const (
	getBeside    = "get_beside"
	getQuiet     = "get_quiet"
	getUnderSets = "get_under_sets"
)

func hitWorks() []Work {
	var works []Work
	for _, w := range hitTimed {
		w.Unit = Nanoseconds
		works = append(works, w)
	}
	return append(works,
		Work{Name: getQuiet, Unit: Nanoseconds, About: "get_uniform_1g again, in turns with the next"},
		Work{Name: getUnderSets, Unit: Nanoseconds, About: "get_uniform_1g while 10 000 unrelated sets/s run"},
		Work{Name: "bytes_per_entry", Unit: Bytes, About: "live heap per entry, beyond the key (string and its bytes) and the value (pointer and what it points at)"},
		Work{Name: "bytes_per_derived", Unit: Bytes, About: "the same for entries that a builder made; cacheman: from an input"},
		Work{Name: "allocs_peek", Unit: Allocations, About: "allocations of a read"},
		Work{Name: "allocs_get", Unit: Allocations, About: "allocations of get-or-build of a present key"},
		Work{Name: "allocs_overwrite", Unit: Allocations, About: "allocations of an overwrite"},
		Work{Name: "allocs_fill", Unit: Allocations, About: "allocations of setting a new key"},
		Work{Name: "kept_fill", Unit: Share, About: "of n keys set by two goroutines in fill_2g, how many are there afterwards"},
		Work{Name: "kept_overwrite", Unit: Share, About: "of n keys overwritten by two goroutines, how many have the new value"},
	)
}

func runHit(ctx context.Context, r *Run) error {
	steps := []string{}
	for _, w := range hitTimed {
		steps = append(steps, w.Name)
	}
	return inTurns(ctx, r, "hit", []string{"fill", "check", "allocs"}, append(steps, getBeside), func(system, step string) bool {
		return !strings.HasPrefix(step, "get_") || findHitSystem(system).loads
	})
}

func hitTargets(r *Report) []Target {
	var bounded []string
	for _, s := range hitSystems() {
		if s.bounded {
			bounded = append(bounded, s.name)
		}
	}
	works := func(prefix ...string) (names []string) {
		for _, w := range hitTimed {
			for _, p := range prefix {
				if strings.HasPrefix(w.Name, p) {
					names = append(names, w.Name)
				}
			}
		}
		return names
	}
	return []Target{
		fasterThan(r, "Peek against every bounded cache", works("peek_"), bounded),
		within(r, "Peek against the shards of *entry", 1.3, works("peek_"), "shard64"),
		atMost(r, "Peek allocates nothing", "allocs_peek", 0),
		getAgainstPeek(r),
		atMost(r, "Get allocates nothing", "allocs_get", 0),
		underSets(r),
		within(r, "writes and mixes against sync.Map", 1.5, works("fill", "overwrite", "mix"), "sync.Map"),
		nothingLost(r),
		atMost(r, "space per entry beyond key and value", "bytes_per_entry", 100),
	}
}

// fasterThan wants cacheman below each of the systems in each of the works.
func fasterThan(r *Report, name string, works, systems []string) Target {
	t := Target{Name: name, Want: "faster", Met: NoData}
	ok := true
	var got []string
	for _, w := range works {
		own := r.value("cacheman", w)
		best, who := math.Inf(1), ""
		for _, s := range systems {
			if v := r.value(s, w); v < best {
				best, who = v, s
			}
		}
		if who == "" || math.IsNaN(own) {
			continue
		}
		ok = ok && own < best
		row, _ := r.row("cacheman", w)
		got = append(got, fmt.Sprintf("%s %s, fastest %s %s", w, format(own, row.Unit), who, format(best, row.Unit)))
		t.Met = verdict(ok)
	}
	t.Got = strings.Join(got, "; ")
	return t
}

// within wants cacheman at no more than limit times the system in each work.
func within(r *Report, name string, limit float64, works []string, system string) Target {
	t := Target{Name: name, Want: "≤ " + times(limit), Met: NoData}
	worst := 0.0
	var got []string
	for _, w := range works {
		x := r.ratio("cacheman", system, w)
		if math.IsNaN(x) {
			continue
		}
		worst = max(worst, x)
		got = append(got, w+" "+times(x))
		t.Met = verdict(worst <= limit)
	}
	t.Got = strings.Join(got, ", ")
	return t
}

// atMost wants a value of cacheman's at no more than limit. Allocations are
// counted over many operations and those of the runtime are among them, so
// they are compared after rounding to hundredths.
func atMost(r *Report, name, work string, limit float64) Target {
	row, ok := r.row("cacheman", work)
	t := Target{Name: name, Want: "≤ " + format(limit, row.Unit), Met: NoData}
	if ok {
		v := row.Value
		if row.Unit == Allocations {
			v = math.Round(v*100) / 100
		}
		t.Got, t.Met = format(v, row.Unit), verdict(v <= limit)
	}
	return t
}

func getAgainstPeek(r *Report) Target {
	t := Target{Name: "Get of a clean entry against Peek", Want: "≤ 1.50×", Met: NoData}
	worst := 0.0
	var got []string
	for _, w := range hitTimed {
		kind, found := strings.CutPrefix(w.Name, "get_")
		if !found {
			continue
		}
		x := r.value("cacheman", w.Name) / r.value("cacheman", "peek_"+kind)
		if math.IsNaN(x) {
			continue
		}
		worst = max(worst, x)
		got = append(got, kind+" "+times(x))
		t.Met = verdict(worst <= 1.5)
	}
	t.Got = strings.Join(got, ", ")
	return t
}

func underSets(r *Report) Target {
	t := Target{Name: "Get while 10 000 unrelated sets/s run", Want: "< 1.10× of quiet", Met: NoData}
	x := r.value("cacheman", getUnderSets) / r.value("cacheman", getQuiet)
	if math.IsNaN(x) {
		return t
	}
	t.Got, t.Met = times(x), verdict(x < 1.1)
	var peers []string
	for _, s := range hitSystems() {
		if y := r.value(s.name, getUnderSets) / r.value(s.name, getQuiet); s.name != "cacheman" && !math.IsNaN(y) {
			peers = append(peers, s.name+" "+times(y))
		}
	}
	if len(peers) > 0 {
		t.Got += " (" + strings.Join(peers, ", ") + ")"
	}
	return t
}

func nothingLost(r *Report) Target {
	t := Target{Name: "no set is lost", Want: "all", Met: NoData}
	fill, over := r.value("cacheman", "kept_fill"), r.value("cacheman", "kept_overwrite")
	if math.IsNaN(fill + over) {
		return t
	}
	t.Got, t.Met = fmt.Sprintf("fill %.6f, overwrite %.6f", fill, over), verdict(fill == 1 && over == 1)
	return t
}

func findHitSystem(name string) *hitSystem {
	systems := hitSystems()
	i := slices.IndexFunc(systems, func(s hitSystem) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &systems[i]
}
