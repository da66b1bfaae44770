package main

import (
	"fmt"
	"slices"
)

// wiring says which entry is computed from which. Ids below inputs are inputs,
// the rest are entries, each computed from ids below its own; the last is the
// top.
type wiring struct {
	inputs int
	start  []int32 // where the reads of an entry begin; one more at the end
	reads  []int32
	still  bool // the first entry is the same whatever it reads
}

func newWiring(inputs int) *wiring { return &wiring{inputs: inputs, start: []int32{0}} }

func (w *wiring) add(reads ...int32) {
	w.reads = append(w.reads, reads...)
	w.start = append(w.start, int32(len(w.reads)))
}

func (w *wiring) size() int    { return w.inputs + w.entries() }
func (w *wiring) entries() int { return len(w.start) - 1 }
func (w *wiring) top() int     { return w.size() - 1 }

// of returns what entry id reads.
func (w *wiring) of(id int) []int32 { return w.reads[w.start[id-w.inputs]:w.start[id-w.inputs+1]] }

// compute is the builders' own work, on the sum of what an entry reads.
func (w *wiring) compute(id int, sum uint64) uint64 {
	if w.still && id == w.inputs {
		return 1
	}
	return mix64(sum + uint64(id))
}

// inputOf is the value of an input after gen changes.
func inputOf(id, gen int) uint64 { return mix64(uint64(id)<<32 + uint64(gen) + 1) }

// model computes everything from scratch, which is what results are compared
// with, and how often builders have to run.
type model struct {
	*wiring
	values []uint64
	wanted []bool // the top needs it
}

// newModel computes all values of w. If all is set, each entry is read, and
// otherwise the top.
func newModel(w *wiring, all bool) *model {
	m := &model{w, make([]uint64, w.size()), w.needed(all)}
	for id := range w.inputs {
		m.values[id] = inputOf(id, 0)
	}
	for id := w.inputs; id < w.size(); id++ {
		m.values[id] = m.value(id)
	}
	return m
}

// each gets all entries, in order.
func (w *wiring) each(get func(id int) (uint64, error)) error {
	for id := w.inputs; id < w.size(); id++ {
		if _, err := get(id); err != nil {
			return err
		}
	}
	return nil
}

// needed says which ids the top needs, or of the entries all.
func (w *wiring) needed(all bool) []bool {
	wanted := make([]bool, w.size())
	wanted[w.top()] = true
	for id := w.top(); id >= w.inputs; id-- {
		wanted[id] = wanted[id] || all
		if wanted[id] {
			for _, on := range w.of(id) {
				wanted[on] = true
			}
		}
	}
	return wanted
}

// reach returns the entries that the top needs and that change with an input, in
// the order in which they can be built.
func (w *wiring) reach(input int) []int {
	wanted, changed := w.needed(false), make([]bool, w.size())
	changed[input] = true
	var reached []int
	for id := w.inputs; id < w.size(); id++ {
		if wanted[id] && slices.ContainsFunc(w.of(id), func(on int32) bool { return changed[on] }) {
			changed[id] = true
			reached = append(reached, id)
		}
	}
	return reached
}

func (m *model) value(id int) uint64 {
	sum := uint64(0)
	for _, on := range m.of(id) {
		sum += m.values[on]
	}
	return m.compute(id, sum)
}

// set changes an input and returns how many builders have to run.
func (m *model) set(input int, v uint64) (runs int) {
	changed := make([]bool, m.size())
	changed[input] = m.values[input] != v
	m.values[input] = v
	for id := m.inputs; id < m.size(); id++ {
		if m.wanted[id] && slices.ContainsFunc(m.of(id), func(on int32) bool { return changed[on] }) {
			runs++
			now := m.value(id)
			changed[id] = now != m.values[id]
			m.values[id] = now
		}
	}
	return runs
}

// compare reads every entry that is wanted.
func (m *model) compare(get func(id int) (uint64, error)) error {
	for id := m.inputs; id < m.size(); id++ {
		if !m.wanted[id] {
			continue
		}
		if v, err := get(id); err != nil {
			return err
		} else if v != m.values[id] {
			return fmt.Errorf("entry %d is %d, want %d", id, v, m.values[id])
		}
	}
	return nil
}

// The shapes.

func chain(n int) *wiring {
	w := newWiring(1)
	for id := range n {
		w.add(int32(id))
	}
	return w
}

// fanOut has n entries that read one input, and a top that reads them.
func fanOut(n int) *wiring {
	w := newWiring(1)
	all := make([]int32, n)
	for i := range n {
		w.add(0)
		all[i] = int32(i + 1)
	}
	w.add(all...)
	return w
}

// ladder has two entries on each level, that read both of the level below.
func ladder(levels int) *wiring {
	w := newWiring(2)
	for l := range levels {
		w.add(int32(2*l), int32(2*l+1))
		w.add(int32(2*l), int32(2*l+1))
	}
	w.add(int32(2*levels), int32(2*levels+1))
	return w
}

const readsEach = 4

// layered has layers, the lowest of inputs, of which each entry reads some of
// the one below, and if that is wanted a top that reads the highest.
func layered(layers, width int, top bool) *wiring {
	w := newWiring(width)
	r := rng("layered", 0)
	for l := range layers {
		for range width {
			w.add(distinct(func() int32 { return int32(l*width + r.IntN(width)) })...)
		}
	}
	if top {
		all := make([]int32, width)
		for i := range all {
			all[i] = int32(layers*width + i)
		}
		w.add(all...)
	}
	return w
}

// random has n entries that read some of the entries before them, the first
// the only input. It is what a change of that comes down to: nothing else
// changes. If linked is set each reads the one before, so that the top needs all.
func random(n int, linked bool) *wiring {
	w := newWiring(1)
	w.still = true
	r := rng("random", 0)
	w.add(0)
	for id := 2; id <= n; id++ {
		if id <= readsEach {
			w.add(int32(id - 1))
			continue
		}
		reads := distinct(func() int32 { return 1 + int32(r.IntN(id-1)) })
		if linked && !slices.Contains(reads, int32(id-1)) {
			reads[0] = int32(id - 1)
		}
		w.add(reads...)
	}
	return w
}

func distinct(pick func() int32) []int32 {
	var reads []int32
	for len(reads) < readsEach {
		if id := pick(); !slices.Contains(reads, id) {
			reads = append(reads, id)
		}
	}
	return reads
}
