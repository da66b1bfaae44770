package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

// restartSuite measures how soon after a restart derived entries can be used.
func restartSuite() *Suite {
	return &Suite{
		Name:    "restart",
		About:   "from opening what was saved to the first right value, and to all",
		Systems: []string{"cacheman", "rebuild", "floor"},
		Works: []Work{
			{Name: "first_get", Unit: Seconds, About: "a new process opens and reads one of n derived entries, which was computed from 4 that were from 16 inputs; rebuild: the inputs are in memory"},
			{Name: "all_verified", Unit: Seconds, PerEntry: true, About: "the same, until all have been read; rebuild: until all were built"},
			{Name: "builder_runs", Unit: Runs, About: "builders that ran meanwhile"},
			{Name: "disk_bytes", Unit: Bytes, PerEntry: true, About: "space on disk"},
		},
		Run: runRestart,
		Targets: func(r *Report) []Target {
			t := []Target{
				atMost(r, "open → first right Get", "first_get", 0.05),
				atMost(r, "open → all verified", "all_verified", 2),
				atMost(r, "builder runs", "builder_runs", 0),
				{Name: "against building all again", Want: "faster", Met: NoData},
			}
			if x := r.ratio("cacheman", "rebuild", "all_verified"); !math.IsNaN(x) {
				t[3].Got, t[3].Met = times(x), verdict(x < 1)
			}
			return t
		},
		Worker: func(cfg workerConfig) (worker, error) {
			// Ten layers over as many inputs as one has.
			return &restartWorker{cfg, layered(10, max(cfg.N/10, readsEach), false)}, nil
		},
	}
}

// runRestart has every system save once, and a new process for each restart.
func runRestart(ctx context.Context, r *Run) error {
	dirs := map[string]string{}
	steps := []string{"save", "check"}
	for range r.Runs {
		steps = append(steps, "restart")
	}
	for i, step := range steps {
		for _, system := range r.Systems {
			r.progress.step(fmt.Sprintf("%d/%d %s", i+1, len(steps), step), system)
			if step == "save" {
				dir, err := os.MkdirTemp(r.Dir, "restart-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				dirs[system] = dir
			}
			got, err := freshWorker(ctx, r, "restart", system, dirs[system], request{Step: step, Round: i})
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
			if step == "save" && system != "rebuild" {
				size, err := diskUsage(dirs[system])
				if err != nil {
					return err
				}
				r.samples.add(system, "disk_bytes", float64(size))
			}
		}
	}
	return nil
}

type restartWorker struct {
	cfg   workerConfig
	wires *wiring
}

// open opens what was saved, or for rebuild makes the inputs.
func (w *restartWorker) open() (graphSystem, error) {
	switch w.cfg.System {
	case "floor":
		f, err := os.Open(w.floorFile())
		return &floorRestart{f: f, wires: w.wires}, err
	case "rebuild":
		return w.inputs("")
	}
	return openCachemanGraph(w.wires, w.cfg.Dir)
}

func (w *restartWorker) floorFile() string { return filepath.Join(w.cfg.Dir, "entries") }

func (w *restartWorker) inputs(dir string) (*cachemanGraph, error) {
	g, err := openCachemanGraph(w.wires, dir)
	if err != nil {
		return nil, err
	}
	for id := range w.wires.inputs {
		if err := g.set(id, inputOf(id, 0)); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (w *restartWorker) do(req request) (map[string][]float64, error) {
	switch req.Step {
	case "save":
		return nil, w.save()
	case "check":
		s, err := w.open()
		if err != nil {
			return nil, err
		}
		defer s.close()
		return nil, newModel(w.wires, true).compare(s.get)
	case "restart":
		return w.restart(req.Round)
	}
	return nil, fmt.Errorf("unknown step %q", req.Step)
}

func (w *restartWorker) save() error {
	switch w.cfg.System {
	case "floor":
		return w.saveFloor()
	case "rebuild":
		return nil
	}
	g, err := w.inputs(w.cfg.Dir)
	if err != nil {
		return err
	}
	for id := w.wires.inputs; id < w.wires.size(); id++ {
		if _, err := g.get(id); err != nil {
			return err
		}
	}
	if err := g.m.Sync(g.ctx); err != nil {
		return err
	}
	return g.close()
}

func (w *restartWorker) restart(round int) (map[string][]float64, error) {
	width := w.wires.inputs
	one := 2*width + rng("first", round).IntN(width) // of the second layer
	builds := w.cfg.System == "rebuild"
	var s graphSystem
	var err error
	if builds {
		if s, err = w.open(); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	if !builds {
		if s, err = w.open(); err != nil {
			return nil, err
		}
	}
	defer s.close()
	v, err := s.get(one)
	if err != nil {
		return nil, err
	}
	first := time.Since(start)
	bring := s.bring
	if builds { // what nobody has asked for
		bring = func() error { return w.wires.each(s.get) }
	}
	if err := bring(); err != nil {
		return nil, err
	}
	all := time.Since(start)
	m := newModel(w.wires, true)
	if want := m.values[one]; v != want {
		return nil, fmt.Errorf("the first value is %d, want %d", v, want)
	}
	if err := m.compare(s.get); err != nil {
		return nil, err
	}
	return map[string][]float64{
		"first_get": {first.Seconds()}, "all_verified": {all.Seconds()}, "builder_runs": {float64(s.runs())},
	}, nil
}

// The floor's file has for each id its value, its stamp, and the ids and stamps
// of what it read, in 44 bytes. The first value takes as many reads as there
// are entries below it; all are one read, and are then compared in order.
const floorRecord = 12 + 8*readsEach

type floorRestart struct {
	f     *os.File
	wires *wiring
	all   []byte
	clean []bool
	buf   [floorRecord]byte
}

func (w *restartWorker) saveFloor() error {
	m := newModel(w.wires, true)
	var b bytes.Buffer
	for id := range w.wires.size() {
		rec := binary.LittleEndian.AppendUint64(nil, m.values[id])
		rec = binary.LittleEndian.AppendUint32(rec, uint32(id+1))
		if id >= w.wires.inputs {
			for _, on := range w.wires.of(id) {
				rec = binary.LittleEndian.AppendUint32(rec, uint32(on))
				rec = binary.LittleEndian.AppendUint32(rec, uint32(on+1))
			}
		}
		b.Write(rec)
		b.Write(make([]byte, floorRecord-len(rec)))
	}
	return os.WriteFile(w.floorFile(), b.Bytes(), 0o600)
}

// get reads single entries until entry 0 of the first layer is asked for,
// with which reading all of them begins.
func (s *floorRestart) get(id int) (uint64, error) {
	if s.all == nil && id != s.wires.inputs {
		v, _, err := s.one(id)
		return v, err
	}
	if s.all == nil {
		all, err := io.ReadAll(io.NewSectionReader(s.f, 0, math.MaxInt64))
		if err != nil {
			return 0, err
		}
		s.all, s.clean = all, make([]bool, s.wires.size())
	}
	rec := s.all[id*floorRecord:][:floorRecord]
	for i := range readsEach {
		on, seen := floorRead(rec, i)
		if int(on) >= s.wires.inputs && !s.clean[on] || binary.LittleEndian.Uint32(s.all[int(on)*floorRecord+8:]) != seen {
			return 0, fmt.Errorf("entry %d has changed", id)
		}
	}
	s.clean[id] = true
	return binary.LittleEndian.Uint64(rec), nil
}

func floorRead(rec []byte, i int) (on, stamp uint32) {
	return binary.LittleEndian.Uint32(rec[12+8*i:]), binary.LittleEndian.Uint32(rec[16+8*i:])
}

func (s *floorRestart) one(id int) (v uint64, stamp uint32, err error) {
	if _, err := s.f.ReadAt(s.buf[:], int64(id)*floorRecord); err != nil {
		return 0, 0, err
	}
	rec := s.buf
	if id >= s.wires.inputs {
		for i := range readsEach {
			on, seen := floorRead(rec[:], i)
			if _, now, err := s.one(int(on)); err != nil || now != seen {
				return 0, 0, fmt.Errorf("entry %d has changed: %v", id, err)
			}
		}
	}
	return binary.LittleEndian.Uint64(rec[:]), binary.LittleEndian.Uint32(rec[8:]), nil
}

func (s *floorRestart) set(int, uint64) error { return nil }
func (s *floorRestart) bring() error          { return s.wires.each(s.get) }
func (s *floorRestart) runs() int64           { return 0 }
func (s *floorRestart) close() error          { return s.f.Close() }
