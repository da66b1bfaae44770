package main

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// graphSuite measures what knowing dependencies costs.
func graphSuite() *Suite {
	return &Suite{
		Name:    "graph",
		About:   "marking, checking and rebuilding what was computed from a change; space per entry",
		Systems: graphSystems(),
		Works: []Work{
			{Name: "invalidate", Unit: Nanoseconds, About: "per edge: set the one input of n entries, 4 edges each at random"},
			{Name: "sweep", Unit: Nanoseconds, About: "per entry: then bring all up to date; nothing but the first has to be built"},
			{Name: "bytes_per_entry", Unit: Bytes, About: "live heap per entry of the same, beyond 8 bytes of key and of value"},
			{Name: "verify", Unit: Nanoseconds, About: "per entry: read the top of n/10, after their input was set; nothing but the first has to be built"},
			{Name: "chain", Unit: Nanoseconds, About: "per rebuilt entry: set the input of a chain of n/100, read the top"},
			{Name: "fanout", Unit: Nanoseconds, About: "the same, n/100 entries that read one input, under one top"},
			{Name: "ladder", Unit: Nanoseconds, About: "the same, n/200 levels of two that read both below"},
			{Name: "layers", Unit: Nanoseconds, About: "the same, 100 layers of n/1000 that read 4 below at random; set one input of n/1000"},
		},
		Run: func(ctx context.Context, r *Run) error {
			return inTurns(ctx, r, "graph", nil, []string{"random", "verify", "chain", "fanout", "ladder", "layers"},
				func(system, step string) bool { return system != "builders" || step != "random" && step != "verify" })
		},
		Targets: func(r *Report) []Target {
			return []Target{
				atMost(r, "marking, per edge (10M edges/s)", "invalidate", 100),
				atMost(r, "verify without change, from the top", "verify", 100),
				atMost(r, "verify without change, a sweep", "sweep", 40),
				beyondBuilders(r, "rebuild a chain, per entry", "chain", 400),
				beyondBuilders(r, "rebuild a fan-out, per entry", "fanout", 400),
				beyondBuilders(r, "rebuild a ladder, per entry", "ladder", 400),
				beyondBuilders(r, "rebuild layers, per entry", "layers", 400),
				atMost(r, "space per entry with 4 edges", "bytes_per_entry", 200),
			}
		},
		Worker: func(cfg workerConfig) (worker, error) { return &graphWorker{cfg}, nil },
	}
}

// beyondBuilders is atMost for what a work costs beyond the builders' own work.
func beyondBuilders(r *Report, name, work string, limit float64) Target {
	t := Target{Name: name, Want: "≤ " + format(limit, Nanoseconds) + " beyond the builders", Met: NoData}
	all, ok := r.row("cacheman", work)
	own, also := r.row("builders", work)
	if ok && also {
		v := all.Value - own.Value
		t.Got, t.Met = fmt.Sprintf("%s - %s = %s", format(all.Value, all.Unit), format(own.Value, own.Unit), format(v, all.Unit)), verdict(v <= limit)
	}
	return t
}

type graphWorker struct{ cfg workerConfig }

func (w *graphWorker) do(req request) (map[string][]float64, error) {
	n := w.cfg.N
	switch req.Step {
	case "random":
		return w.random(random(n, false))
	case "verify":
		return w.fromTop(req.Step, random(n/10, true))
	case "chain":
		return w.fromTop(req.Step, chain(n/100))
	case "fanout":
		return w.fromTop(req.Step, fanOut(n/100))
	case "ladder":
		return w.fromTop(req.Step, ladder(n/200))
	case "layers":
		return w.fromTop(req.Step, layered(100, max(n/1000, readsEach), true))
	}
	return nil, fmt.Errorf("unknown step %q", req.Step)
}

// open makes the entries of a wiring, and compares what they are now, and
// after a change, with the model.
func (w *graphWorker) open(wires *wiring, all bool) (*checkedGraph, error) {
	s, err := openGraph(w.cfg.System, wires)
	if err != nil {
		return nil, err
	}
	for id := range wires.inputs {
		if err := s.set(id, inputOf(id, 0)); err != nil {
			return nil, err
		}
	}
	g := &checkedGraph{graphSystem: s, model: newModel(wires, all)}
	if err := g.compare(s.get); err != nil {
		return nil, err
	}
	return g, nil
}

// checkedGraph is a system whose work is checked.
type checkedGraph struct {
	graphSystem
	*model
	gen int
}

// change sets an input and has read read what that is for. It returns how long
// both took, and how many builders ran, which must not be more than necessary.
func (g *checkedGraph) change(read func() error) (set, get time.Duration, runs int, err error) {
	g.gen++
	v := inputOf(0, g.gen)
	want := g.model.set(0, v)
	before := g.runs()
	start := time.Now()
	if err := g.graphSystem.set(0, v); err != nil {
		return 0, 0, 0, err
	}
	set = time.Since(start)
	if err := read(); err != nil {
		return 0, 0, 0, err
	}
	get = time.Since(start) - set
	if runs = int(g.runs() - before); runs != want {
		err = fmt.Errorf("%d runs of builders, want %d", runs, want)
	}
	return set, get, runs, err
}

func (g *checkedGraph) readTop() error {
	v, err := g.get(g.top())
	if err == nil && v != g.values[g.top()] {
		err = fmt.Errorf("the top is %d, want %d", v, g.values[g.top()])
	}
	return err
}

// random gives the works that n entries are for.
func (w *graphWorker) random(wires *wiring) (map[string][]float64, error) {
	before := liveHeap()
	g, err := w.open(wires, true)
	if err != nil {
		return nil, err
	}
	defer g.close()
	// The model has 9 bytes for each.
	grown := liveHeap() - before - 9*int64(wires.size())
	samples := map[string][]float64{"bytes_per_entry": {float64(grown)/float64(wires.entries()) - 16}}
	if _, _, _, err := g.change(g.bring); err != nil {
		return nil, err
	}
	if err := g.compare(g.get); err != nil {
		return nil, err
	}
	for range 3 {
		runtime.GC()
		set, get, _, err := g.change(g.bring)
		if err != nil {
			return nil, err
		}
		samples["invalidate"] = append(samples["invalidate"], float64(set.Nanoseconds())/float64(len(wires.reads)))
		samples["sweep"] = append(samples["sweep"], float64(get.Nanoseconds())/float64(wires.entries()))
	}
	return samples, nil
}

// fromTop times reads of the top after changes of an input, with these where
// something is built.
func (w *graphWorker) fromTop(work string, wires *wiring) (map[string][]float64, error) {
	g, err := w.open(wires, false)
	if err != nil {
		return nil, err
	}
	defer g.close()
	if _, _, _, err := g.change(g.readTop); err != nil {
		return nil, err
	}
	if err := g.compare(g.get); err != nil {
		return nil, err
	}
	runtime.GC()
	var took time.Duration
	entries := 0
	for range max(5, min(20, 100_000/wires.entries())) {
		set, get, runs, err := g.change(g.readTop)
		if err != nil {
			return nil, err
		}
		took += get
		if wires.still { // what is set is marked: that is measured by itself
			entries += wires.entries()
		} else {
			took += set
			entries += runs
		}
	}
	return map[string][]float64{work: {float64(took.Nanoseconds()) / float64(entries)}}, nil
}

// inTurns has each system do the checks, in a process of its own, and then in
// each round the steps, one step of all systems before the next: drift of the
// machine meets all. If there are no checks, each step has a process of its own,
// so that none is done in the heap that another has left. can, if not nil, says which
// system can do which step.
func inTurns(ctx context.Context, r *Run, suite string, checks, steps []string, can func(system, step string) bool) error {
	children := map[string]*child{}
	defer func() {
		for _, c := range children {
			c.stop()
		}
	}()
	call := func(system string, req request) (map[string][]float64, error) {
		c := children[system]
		if c == nil {
			var err error
			if c, err = startWorker(ctx, workerConfig{Suite: suite, System: system, N: r.N, Ops: r.Ops, Profile: r.Profile}); err != nil {
				return nil, err
			}
			children[system] = c
		}
		if len(checks) == 0 {
			defer func() {
				c.stop()
				delete(children, system)
			}()
		}
		return c.call(req)
	}
	do := func(steps []string, round int) error {
		for _, step := range steps {
			for _, system := range r.Systems {
				if can != nil && !can(system, step) {
					continue
				}
				r.progress.step(fmt.Sprintf("round %d/%d %s", round+1, r.Runs, step), system)
				got, err := call(system, request{Step: step, Round: round})
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					r.markWrong(system, fmt.Errorf("%s: %w", step, err))
					continue
				}
				for work, v := range got {
					r.samples.add(system, work, v...)
				}
			}
		}
		return nil
	}
	if err := do(checks, 0); err != nil {
		return err
	}
	for round := range r.Runs {
		if err := do(steps, round); err != nil {
			return err
		}
	}
	return nil
}
