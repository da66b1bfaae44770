package main

import (
	"context"
	"sync/atomic"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// graphSystem holds the entries of a wiring.
type graphSystem interface {
	set(input int, v uint64) error
	get(id int) (uint64, error)
	bring() error // brings all entries up to date
	runs() int64  // of builders, so far
	close() error
}

func graphSystems() []string { return []string{"cacheman", "builders", "floor"} }

func openGraph(system string, w *wiring) (graphSystem, error) {
	switch system {
	case "builders":
		return newBuildersGraph(w), nil
	case "floor":
		return newFloorGraph(w), nil
	}
	return openCachemanGraph(w, "")
}

// buildersGraph is the builders' own work: after a change each is called once, in
// the right order, and looks up what it reads by its key in a Go map.
type buildersGraph struct {
	w      *wiring
	values map[int]uint64
	above  map[int][]int // what has to be built when an input has changed
	stale  []int
	ran    int64
}

func newBuildersGraph(w *wiring) *buildersGraph {
	g := &buildersGraph{w: w, values: make(map[int]uint64, w.size()), above: make(map[int][]int)}
	for id := w.inputs; id < w.size(); id++ {
		g.stale = append(g.stale, id)
	}
	return g
}

func (g *buildersGraph) set(input int, v uint64) error {
	_, again := g.values[input]
	g.values[input] = v
	if again {
		if g.above[input] == nil {
			g.above[input] = g.w.reach(input)
		}
		g.stale = g.above[input]
	}
	return nil
}

func (g *buildersGraph) get(id int) (uint64, error) {
	for _, id := range g.stale {
		g.ran++
		sum := uint64(0)
		for _, on := range g.w.of(id) {
			sum += g.values[int(on)]
		}
		g.values[id] = g.w.compute(id, sum)
	}
	g.stale = nil
	return g.values[id], nil
}

func (g *buildersGraph) bring() error { return nil }
func (g *buildersGraph) runs() int64  { return g.ran }
func (g *buildersGraph) close() error { return nil }

type cachemanGraph struct {
	m               *cacheman.Manager
	inputs, entries *cacheman.Cache[int, uint64]
	ctx             context.Context
	ran             atomic.Int64
}

// openCachemanGraph opens caches for w, in memory if dir is empty.
func openCachemanGraph(w *wiring, dir string) (*cachemanGraph, error) {
	memory := dir == ""
	m, err := openManager(dir)
	if err != nil {
		return nil, err
	}
	g := &cachemanGraph{m: m, ctx: context.Background()}
	if g.inputs, err = cacheman.Register(m, "inputs", cacheman.Spec[int, uint64]{Memory: memory}); err == nil {
		g.entries, err = cacheman.Register(m, "entries", cacheman.Spec[int, uint64]{
			Memory: memory,
			Build: func(ctx context.Context, id int) (uint64, error) {
				g.ran.Add(1)
				sum := uint64(0)
				for _, on := range w.of(id) {
					from := g.entries
					if int(on) < w.inputs {
						from = g.inputs
					}
					v, err := from.Get(ctx, int(on))
					if err != nil {
						return 0, err
					}
					sum += v
				}
				return w.compute(id, sum), nil
			},
		})
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return g, nil
}

// openManager opens a manager that saves in dir, or nowhere if that is empty,
// and only when told to.
func openManager(dir string) (*cacheman.Manager, error) {
	o := cacheman.Options{Autosync: &cacheman.Autosync{Off: true}}
	if dir == "" {
		o.Store = memstore.New()
	}
	return cacheman.Open(dir, o)
}

func (g *cachemanGraph) set(input int, v uint64) error { return g.inputs.Set(input, v) }
func (g *cachemanGraph) get(id int) (uint64, error)    { return g.entries.Get(g.ctx, id) }
func (g *cachemanGraph) bring() error                  { return g.entries.Build(g.ctx) }
func (g *cachemanGraph) runs() int64                   { return g.ran.Load() }
func (g *cachemanGraph) close() error                  { return g.m.Close() }

// floorGraph does the same in arrays: no keys, no locks, no callers that
// wait, and the edges known beforehand. It shows what the memory accesses cost.
type floorGraph struct {
	*wiring
	ran    int64
	rev    uint32
	values []uint64
	stamps []uint32 // when the value last changed; 0: it was never built
	seen   []uint32 // for each of reads, the stamp that was read
	clean  []bool
	above  []int32 // for each id, who reads it
	first  []int32 // where those begin
	stack  []int32
	path   []floorVisit
}

// floorVisit is an entry on the way from the top to where the search is.
type floorVisit struct {
	id      int32
	changed bool
	next    int // read to be looked at
}

func newFloorGraph(w *wiring) *floorGraph {
	n := w.size()
	g := &floorGraph{
		wiring: w, values: make([]uint64, n), stamps: make([]uint32, n), clean: make([]bool, n),
		seen: make([]uint32, len(w.reads)), above: make([]int32, len(w.reads)), first: make([]int32, n+1),
	}
	for _, on := range w.reads {
		g.first[on+1]++
	}
	for id := range n {
		g.first[id+1] += g.first[id]
	}
	next := make([]int32, n)
	copy(next, g.first)
	for id := w.inputs; id < n; id++ {
		for _, on := range w.of(id) {
			g.above[next[on]] = int32(id)
			next[on]++
		}
	}
	return g
}

func (g *floorGraph) set(input int, v uint64) error {
	g.rev++
	g.values[input], g.stamps[input], g.clean[input] = v, g.rev, true
	g.stack = append(g.stack[:0], int32(input))
	for len(g.stack) > 0 {
		x := g.stack[len(g.stack)-1]
		g.stack = g.stack[:len(g.stack)-1]
		for _, y := range g.above[g.first[x]:g.first[x+1]] {
			if g.clean[y] {
				g.clean[y] = false
				g.stack = append(g.stack, y)
			}
		}
	}
	return nil
}

func (g *floorGraph) get(id int) (uint64, error) {
	if g.clean[id] {
		return g.values[id], nil
	}
	g.path = append(g.path[:0], floorVisit{id: int32(id)})
search:
	for len(g.path) > 0 {
		top := &g.path[len(g.path)-1]
		x := int(top.id)
		from := g.start[x-g.inputs]
		reads := g.of(x)
		for ; top.next < len(reads); top.next++ {
			if on := reads[top.next]; !g.clean[on] {
				g.path = append(g.path, floorVisit{id: on})
				continue search
			} else if g.stamps[on] != g.seen[int(from)+top.next] {
				top.changed = true
			}
		}
		if top.changed || g.stamps[x] == 0 {
			g.build(x, reads, g.seen[from:])
		}
		g.clean[x] = true
		g.path = g.path[:len(g.path)-1]
	}
	return g.values[id], nil
}

func (g *floorGraph) build(x int, reads []int32, seen []uint32) {
	g.ran++
	sum := uint64(0)
	for i, on := range reads {
		sum += g.values[on]
		seen[i] = g.stamps[on]
	}
	if v := g.compute(x, sum); v != g.values[x] || g.stamps[x] == 0 {
		g.rev++
		g.values[x], g.stamps[x] = v, g.rev
	}
}

func (g *floorGraph) bring() error { return g.each(g.get) }
func (g *floorGraph) runs() int64  { return g.ran }
func (g *floorGraph) close() error { return nil }
