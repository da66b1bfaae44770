package cacheman

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"testing"
)

// Shapes that libraries for reactive programs are measured with: kairo, cellx
// and the layers of reactively, with the published sums and counts.

// shape is a graph of numbered nodes. Those without a function are inputs.
type shape struct {
	t      *testing.T
	in     *Cache[int, float64]
	nodes  *Cache[int, float64]
	fns    map[int]func(read func(int) float64) float64
	builds int
}

func newShape(t *testing.T) *shape {
	m := newManager(t)
	s := &shape{t: t, fns: map[int]func(func(int) float64) float64{}}
	same := func(a, b float64) bool { return a == b }
	s.in = must(Register(m, "in", Spec[int, float64]{Memory: true, Equal: same}))
	s.nodes = must(Register(m, "nodes", Spec[int, float64]{Memory: true, Equal: same, Build: func(ctx context.Context, k int) (float64, error) {
		s.builds++
		var failed error
		v := s.fns[k](func(k int) float64 {
			if _, derived := s.fns[k]; derived {
				v, err := s.nodes.Get(ctx, k)
				if err != nil {
					failed = err
				}
				return v
			}
			v, err := s.in.Get(ctx, k)
			if err != nil {
				failed = err
			}
			return v
		})
		return v, failed
	}}))
	return s
}

func (s *shape) set(k int, v float64) { ok(s.t, s.in.Set(k, v)) }

func (s *shape) get(k int) float64 { return must(s.nodes.Get(context.Background(), k)) }

// want runs f and checks how many builders that took.
func (s *shape) want(what string, builds int, f func()) {
	s.t.Helper()
	s.builds = 0
	f()
	equal(s.t, what+": builds", s.builds, builds)
}

func plus(on int, n float64) func(func(int) float64) float64 {
	return func(read func(int) float64) float64 { return read(on) + n }
}

func TestKairo(t *testing.T) {
	const rounds = 100
	t.Run("avoidable", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		s.fns[1] = plus(0, 0)
		s.fns[2] = func(read func(int) float64) float64 { read(1); return 0 }
		s.fns[3], s.fns[4], s.fns[5] = plus(2, 1), plus(3, 2), plus(4, 3)
		equal(t, "value", s.get(5), 6)
		s.want("change", 2*rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				equal(t, "value", s.get(5), 6)
			}
		})
	})
	t.Run("broad", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		for i := range 50 {
			s.fns[100+i], s.fns[200+i] = plus(0, float64(i)), plus(100+i, 1)
			s.get(200 + i)
		}
		s.want("change", 100*rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				for k := range 50 {
					equal(t, "value", s.get(200+k), float64(i+1+k+1))
				}
			}
		})
	})
	t.Run("deep", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		for i := range 50 {
			s.fns[i+1] = plus(i, 1)
		}
		s.get(50)
		s.want("change", 50*rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				equal(t, "value", s.get(50), float64(i+51))
			}
		})
	})
	t.Run("diamond", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		for i := range 5 {
			s.fns[i+1] = plus(0, 1)
		}
		s.fns[9] = func(read func(int) float64) (sum float64) {
			for i := range 5 {
				sum += read(i + 1)
			}
			return sum
		}
		s.get(9)
		s.want("change", 6*rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				equal(t, "value", s.get(9), float64(5*(i+2)))
			}
		})
	})
	t.Run("mux", func(t *testing.T) {
		s := newShape(t)
		all := func(read func(int) float64) (sum float64) {
			for i := range 100 {
				sum += read(i)
			}
			return sum
		}
		for i := range 100 {
			s.set(i, 0)
			s.fns[1000+i] = func(read func(int) float64) float64 { read(999); return read(i) }
			s.fns[2000+i] = plus(1000+i, 1)
		}
		s.fns[999] = all
		for i := range 100 {
			s.get(2000 + i)
		}
		s.want("change", 10*(1+100+1), func() {
			for i := range 10 {
				s.set(i, float64(i+1))
				for k := range 100 {
					s.get(2000 + k)
				}
				equal(t, "value", s.get(2000+i), float64(i+2))
			}
		})
	})
	t.Run("repeated", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		s.fns[1] = func(read func(int) float64) (sum float64) {
			for range 30 {
				sum += read(0)
			}
			return sum
		}
		s.get(1)
		s.want("change", rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				equal(t, "value", s.get(1), float64(30*(i+1)))
			}
		})
	})
	t.Run("triangle", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		for i := range 10 {
			s.fns[i+1] = plus(i, 1)
		}
		s.fns[99] = func(read func(int) float64) (sum float64) {
			for i := range 10 {
				sum += read(i)
			}
			return sum
		}
		s.get(99)
		s.want("change", 10*rounds, func() {
			for i := range rounds {
				s.set(0, float64(i+1))
				equal(t, "value", s.get(99), float64(10*(i+1)+45))
			}
		})
	})
	t.Run("unstable", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 0)
		s.fns[1] = func(read func(int) float64) float64 { return read(0) * 2 }
		s.fns[2] = func(read func(int) float64) float64 { return -read(0) }
		s.fns[3] = func(read func(int) float64) (sum float64) {
			for range 20 {
				if int(read(0))%2 != 0 {
					sum += read(1)
				} else {
					sum += read(2)
				}
			}
			return sum
		}
		s.get(3)
		s.want("change", 2*rounds, func() {
			for i := range rounds {
				v := float64(i + 1)
				s.set(0, v)
				want := 40 * v
				if (i+1)%2 == 0 {
					want = -20 * v
				}
				equal(t, "value", s.get(3), want)
			}
		})
	})
}

// TestCellx: four properties in a layer, each of the layer before.
func TestCellx(t *testing.T) {
	for _, layers := range []int{10, 1000} {
		s := newShape(t)
		at := func(layer, i int) int { return 4*layer + i }
		for i := range 4 {
			s.set(i, float64(i+1))
		}
		for l := 1; l <= layers; l++ {
			s.fns[at(l, 0)] = plus(at(l-1, 1), 0)
			s.fns[at(l, 1)] = func(read func(int) float64) float64 { return read(at(l-1, 0)) - read(at(l-1, 2)) }
			s.fns[at(l, 2)] = func(read func(int) float64) float64 { return read(at(l-1, 1)) + read(at(l-1, 3)) }
			s.fns[at(l, 3)] = plus(at(l-1, 2), 0)
		}
		check := func() {
			v := [4]float64{}
			for i := range v {
				v[i] = must(s.in.Get(t.Context(), i))
			}
			for range layers {
				v = [4]float64{v[1], v[0] - v[2], v[1] + v[3], v[2]}
			}
			for i := range v {
				equal(t, "value", s.get(at(layers, i)), v[i])
			}
		}
		s.want("first", 4*layers, check)
		for i := range 4 {
			s.set(i, float64(4-i))
		}
		s.builds = 0
		check()
		if s.builds > 4*layers {
			t.Errorf("%d builds, more than there are nodes", s.builds)
		}
		s.want("again", 0, check)
	}
}

// layers is a configuration of the "layers" of milomg/js-reactivity-benchmark
// (packages/core/src/config.ts), which come from reactively: a rectangle of
// nodes, each of which is the sum of sources of the layer before.
type layers struct {
	width, layers, sources int
	static                 float64 // the part of nodes that read all their sources
	read                   float64 // the part of the last layer that is read
	iterations             int
	sum                    float64 // published: of what is read after the iterations …
	count                  int     // … and the builders that ran in them
}

var allLayers = []layers{
	{10, 5, 2, 1, 0.2, 600000, 19199968, 3480000},
	{10, 10, 6, 0.75, 0.2, 15000, 302310782860, 1155000},
	{1000, 12, 4, 0.95, 1, 7000, 29355933696000, 1463000},
	{1000, 5, 25, 1, 1, 3000, 1171484375000, 732000},
	{5, 500, 3, 1, 1, 500, 3.0239642676898464e241, 1246500},
	{100, 15, 6, 0.5, 1, 2000, 15664996402790400, 1078000},
}

// random is what the benchmark draws from: sfc32, seeded by MurmurHash3 of the
// string "seed" (packages/core/src/util/pseudoRandom.ts).
func random() func() float64 {
	h := uint32(2166136261)
	for _, c := range []byte("seed") {
		h ^= bits.RotateLeft32(uint32(c)*3432918353, 15) * 461845907
		h = bits.RotateLeft32(h, 13)*5 + 3864292196
	}
	h ^= uint32(len("seed"))
	hash := func() uint32 {
		h ^= h >> 16
		h *= 2246822507
		h ^= h >> 13
		h *= 3266489909
		h ^= h >> 16
		return h
	}
	a, b, c, d := hash(), hash(), hash(), hash()
	return func() float64 {
		t := a + b + d + 1
		a, b, c, d = b^b>>9, c+c<<3, bits.RotateLeft32(c, 21)+t, d+1
		return float64(t) / (1 << 32)
	}
}

// nodes returns the functions of all nodes but the inputs, which are the first,
// and the leaves that are read (makeGraph in dependencyGraph.ts).
func (l *layers) nodes() (fns []func(read func(int) float64) float64, leaves []int) {
	fns = make([]func(func(int) float64) float64, l.width*l.layers)
	rand := random()
	for k := l.width; k < len(fns); k++ {
		layer, i := k/l.width, k%l.width
		from := make([]int, l.sources)
		for j := range from {
			from[j] = (layer-1)*l.width + (i+j)%l.width
		}
		static := rand() < l.static
		fns[k] = func(read func(int) float64) float64 {
			sum := read(from[0])
			drop := -1
			if !static && int(sum)&1 != 0 { // what the first one says is not read
				drop = int(sum) % (l.sources - 1)
			}
			for j, k := range from[1:] {
				if j != drop {
					sum += read(k)
				}
			}
			return sum
		}
	}
	for i := range l.width {
		leaves = append(leaves, (l.layers-1)*l.width+i)
	}
	rand = random()
	for range int(math.Round(float64(l.width) * (1 - l.read))) {
		i := int(rand() * float64(len(leaves)))
		leaves = slices.Delete(leaves, i, i+1)
	}
	return fns, leaves
}

// plainEngine does in the simplest way what an engine is to do: it looks at
// whatever a node has read, in that order, and computes it at the first change.
type plainEngine struct {
	fns    []func(read func(int) float64) float64
	values []float64
	known  [][]plainEdge
	looked []int // when the node was last looked at
	now    int
	builds int
}

type plainEdge struct {
	node  int
	value float64
}

func (p *plainEngine) get(k int) float64 {
	fn := p.fns[k]
	if fn == nil || p.looked[k] == p.now {
		return p.values[k]
	}
	p.looked[k] = p.now
	known := p.known[k] != nil
	for _, e := range p.known[k] {
		if p.get(e.node) != e.value {
			known = false
			break
		}
	}
	if known {
		return p.values[k]
	}
	p.builds++
	edges := make([]plainEdge, 0, len(p.known[k]))
	p.values[k] = fn(func(on int) float64 {
		v := p.get(on)
		edges = append(edges, plainEdge{on, v})
		return v
	})
	p.known[k] = edges
	return p.values[k]
}

// TestLayers: sums, and the number of builders that run, are the published ones.
// With -short there are few iterations, compared with plainEngine only.
func TestLayers(t *testing.T) {
	for _, l := range allLayers {
		t.Run(fmt.Sprintf("%dx%d", l.width, l.layers), func(t *testing.T) {
			fns, leaves := l.nodes()
			s := newShape(t)
			for k := l.width; k < len(fns); k++ {
				s.fns[k] = fns[k]
			}
			p := &plainEngine{fns: fns, values: make([]float64, len(fns)), known: make([][]plainEdge, len(fns)), looked: make([]int, len(fns))}
			set := func(k int, v float64) {
				s.set(k, v)
				p.values[k] = v
				p.now++
			}
			read := func() (sum float64) {
				for _, k := range leaves {
					v := s.get(k)
					if want := p.get(k); v != want {
						t.Fatalf("node %d: got %v, want %v", k, v, want)
					}
					sum += v
				}
				return sum
			}
			// The iterations are repeated until one is like the next.
			for i := range l.width {
				last := (l.iterations-1-i)/l.width*l.width + i
				set(i, float64(last+i))
			}
			read()
			iterations := l.iterations
			if testing.Short() {
				iterations = max(20, 20000*l.iterations/l.count)
			}
			s.builds, p.builds = 0, 0
			for i := range iterations {
				set(i%l.width, float64(i+i%l.width))
				read()
			}
			equal(t, "builds", s.builds, p.builds)
			if iterations == l.iterations {
				equal(t, "sum", read(), l.sum)
				equal(t, "builds, as published", s.builds, l.count)
			}
		})
	}
}

func TestLargeGraphs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const million = 1 << 20
	t.Run("chain", func(t *testing.T) {
		m := newManager(t)
		builds := 0
		in := must(Register(m, "in", Spec[int, int]{Memory: true}))
		var c *Cache[int, int]
		c = must(Register(m, "c", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
			builds++
			if k == 0 {
				return in.Get(ctx, 0)
			}
			return c.Get(ctx, k-1)
		}}))
		ok(t, in.Set(0, 1))
		for k := range million {
			must(c.Get(context.Background(), k))
		}
		ok(t, in.Set(0, 2))
		equal(t, "top", must(c.Get(context.Background(), million-1)), 2)
		equal(t, "builds", builds, 2*million)
	})
	t.Run("fan", func(t *testing.T) {
		m := newManager(t)
		builds := 0
		in := must(Register(m, "in", Spec[int, int]{Memory: true}))
		c := must(Register(m, "c", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
			builds++
			return in.Get(ctx, 0)
		}}))
		for v := range 2 {
			ok(t, in.Set(0, v))
			for k := range million {
				must(c.Get(context.Background(), k))
			}
		}
		equal(t, "builds", builds, 2*million)
		for v := range million { // nobody reads: each costs the same
			ok(t, in.Set(0, v+2))
		}
	})
	t.Run("ladder", func(t *testing.T) {
		s := newShape(t)
		s.set(0, 1)
		s.set(1, 1)
		for l := 1; l <= 64; l++ {
			for i := range 2 {
				s.fns[2*l+i] = func(read func(int) float64) float64 { return read(2*l-2) + read(2*l-1) }
			}
		}
		s.get(128)
		s.want("change", 127, func() { s.set(0, 2); s.get(128) })
	})
	t.Run("alternating", func(t *testing.T) {
		s := newShape(t)
		for k := range 3 {
			s.set(k, float64(k))
		}
		s.fns[9] = func(read func(int) float64) float64 { return read(1 + int(read(0))%2) }
		heap := func() uint64 {
			var st runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&st)
			return st.HeapAlloc
		}
		var before uint64
		for i := range million {
			s.set(0, float64(i))
			s.get(9)
			if i == million/16 {
				before = heap()
			}
		}
		if after := heap(); after > before+1<<20 {
			t.Errorf("the heap has grown from %d to %d bytes", before, after)
		}
	})
}
