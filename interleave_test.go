package cacheman

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// TestInterleavings runs small programs of two or three goroutines in every
// order that there is, up to a number of preemptions: each goroutine stops at
// each point of user code, and goes on when it is its turn. With
// -tags cachemandebug it also stops where the engine holds no lock.
//
// Nobody reads anything older than what was certain when the read began: what was
// written by a call that had returned, or read by one. No builder sees a half of
// a batch. At the end all is what the inputs say, and nobody is left.
func TestInterleavings(t *testing.T) {
	total, diverged := 0, 0
	for _, p := range weavePrograms {
		t.Run(p.name, func(t *testing.T) {
			bound := p.preemptions
			switch { // with Debug there are more places to stop at
			case graph.Debug && testing.Short():
				bound -= 3
			case graph.Debug || testing.Short():
				bound -= 2
			}
			n, other := 0, 0
			for choices := []weaveChoice(nil); n == 0 || choices != nil; n++ {
				ran, faults := p.play(t, choices, bound)
				if len(faults) > 0 {
					t.Fatalf("schedule %d: %s", n, strings.Join(faults, "\n"))
				}
				if !slices.EqualFunc(choices, ran[:min(len(choices), len(ran))], func(a, b weaveChoice) bool { return a.of == b.of }) {
					other++
				}
				choices = nextChoices(ran)
			}
			t.Logf("%d schedules", n)
			total, diverged = total+n, diverged+other
		})
	}
	t.Logf("%d schedules, %d of them not as planned", total, diverged)
}

// weaveChoice is which of how many goroutines goes on.
type weaveChoice struct{ which, of int }

// nextChoices returns how the next schedule begins, in the order of a search
// that goes deep first, or nil.
func nextChoices(ran []weaveChoice) []weaveChoice {
	for i := len(ran) - 1; i >= 0; i-- {
		if c := ran[i]; c.which+1 < c.of {
			return append(slices.Clone(ran[:i]), weaveChoice{c.which + 1, c.of})
		}
	}
	return nil
}

// weaveProgram is what goroutines do side by side.
type weaveProgram struct {
	name        string
	preemptions int // less with -short
	setup       func(w *weave) []func()
}

// weave is a program in one order.
type weave struct {
	d    *disk
	m    *Manager
	in   *Cache[int, int]
	ends []func() // called when all is over

	mu      sync.Mutex
	who     map[string]int // goroutines by the number that the runtime gives them
	stopped []*weaveStop
	running int
	trace   []string
	faults  []string
	floor   [4]int // the oldest values of inputs that may still be read
	builds  int
	outside int // what some builders read and the engine does not know of
}

type weaveStop struct {
	who  int
	goOn chan struct{}
}

// at stops the calling goroutine until it is its turn.
func (w *weave) at(point string) {
	var buf [32]byte
	id, _, _ := bytes.Cut(bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine ")), []byte(" "))
	w.mu.Lock()
	if w.who == nil { // the program has not begun, or is over
		w.mu.Unlock()
		return
	}
	who, known := w.who[string(id)]
	if !known {
		who = len(w.who)
		w.who[string(id)] = who
	}
	w.trace = append(w.trace, fmt.Sprintf("%d %s", who, point))
	s := &weaveStop{who, make(chan struct{})}
	w.stopped = append(w.stopped, s)
	w.mu.Unlock()
	<-s.goOn
}

func (w *weave) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...)+"; order: "+strings.Join(w.trace, ", "))
}

func (w *weave) ok(err error) {
	if err != nil {
		w.fault("%v", err)
	}
}

// play plays the program in the order that begins with choices; then whoever is
// running goes on as long as it can.
func (p *weaveProgram) play(t *testing.T, choices []weaveChoice, preemptions int) (ran []weaveChoice, faults []string) {
	synctest.Test(t, func(t *testing.T) {
		w := &weave{d: newDisk(), floor: [4]int{1, 1, 1, 1}, outside: 1}
		w.m = must(Open("", Options{Store: w.d, Autosync: &Autosync{Off: true}, Observe: func(e Event) { w.at(string(e.Kind)) }}))
		w.in = must(Register(w.m, "in", Spec[int, int]{Contents: map[int]int{1: 1, 2: 1}, Equal: w.equal}))
		ops := p.setup(w)
		graph.Hook = w.at
		defer func() { graph.Hook = nil }()
		w.who = map[string]int{}
		for _, op := range ops {
			w.running++
			go func() {
				w.at("begin")
				op()
				w.mu.Lock()
				w.running--
				w.mu.Unlock()
			}()
			synctest.Wait()
		}
		current, waits := -1, 0
		for {
			synctest.Wait()
			w.mu.Lock()
			stopped := w.stopped
			place := func(s *weaveStop) int {
				if s.who == current {
					return -1
				}
				return s.who
			}
			slices.SortFunc(stopped, func(a, b *weaveStop) int { return cmp.Compare(place(a), place(b)) })
			over := w.running == 0 && len(stopped) == 0
			w.mu.Unlock()
			if over {
				break
			}
			if len(stopped) == 0 {
				if waits++; waits > 10 {
					w.fault("nobody goes on")
					faults = w.faults
					panic(strings.Join(faults, "\n")) // they would be waited for
				}
				time.Sleep(time.Minute) // a writer waits for a builder, though not for ever
				continue
			}
			c := weaveChoice{of: len(stopped)}
			preempts := stopped[0].who == current
			if preempts && preemptions == 0 {
				c.of = 1
			}
			if i := len(ran); i < len(choices) {
				c.which = min(choices[i].which, c.of-1)
			}
			if preempts && c.which > 0 {
				preemptions--
			}
			ran = append(ran, c)
			next := stopped[c.which]
			w.mu.Lock()
			w.stopped = slices.Delete(w.stopped, c.which, c.which+1)
			current = next.who
			w.trace = append(w.trace, fmt.Sprintf("%d goes on", current))
			w.mu.Unlock()
			close(next.goOn)
		}
		w.mu.Lock()
		w.who = nil
		w.mu.Unlock()
		for _, end := range w.ends {
			end()
		}
		for fault := range w.m.Check() {
			w.fault("%v", fault)
		}
		w.ok(w.m.Close())
		faults = w.faults
	})
	return ran, faults
}

// What programs are made of.

func (w *weave) equal(a, b int) bool {
	w.at("equal")
	return a == b
}

// cache registers a cache with a builder that is counted and stops.
func (w *weave) cache(name string, build func(ctx context.Context, k int) (int, error)) *Cache[int, int] {
	return must(Register(w.m, name, Spec[int, int]{Equal: w.equal, Build: w.builder(build)}))
}

func (w *weave) builder(build func(ctx context.Context, k int) (int, error)) func(context.Context, int) (int, error) {
	return func(ctx context.Context, k int) (int, error) {
		w.mu.Lock()
		w.builds++
		w.mu.Unlock()
		w.at("build")
		v, err := build(ctx, k)
		w.at("made")
		return v, err
	}
}

// pair registers a cache of what the first two inputs are, as two digits, read
// in one order or the other. If they change together they are seen so.
func (w *weave) pair(name string, together bool) *Cache[int, int] {
	return w.cache(name, func(ctx context.Context, k int) (int, error) { return w.both(ctx, k, together) })
}

func (w *weave) both(ctx context.Context, k int, together bool) (int, error) {
	first, second := 1+(k+1)%2, 1+k%2
	a, err := w.in.Get(ctx, first)
	if err != nil {
		return 0, err
	}
	w.at("between")
	b, err := w.in.Get(ctx, second)
	if err != nil {
		return 0, err
	}
	if together && a != b {
		w.fault("a builder has seen %d and %d", a, b)
	}
	if first == 2 {
		a, b = b, a
	}
	return 10*a + b, nil
}

// digits are what the first two inputs are, of what a pair makes; first is the
// first of them.
func digits(v int) [4]int { return [4]int{0, v / 10, v % 10, 0} }
func first(v int) [4]int  { return [4]int{0, v, 0, 0} }
func beside(v int) [4]int { return [4]int{v, 0, 0, 0} }

// get reads an entry, of which parts says what it says about inputs.
func (w *weave) get(ctx context.Context, c *Cache[int, int], k int, parts func(v int) [4]int) {
	w.mu.Lock()
	least := w.floor
	w.mu.Unlock()
	v, err := c.Get(ctx, k)
	if err != nil {
		w.fault("%v", err)
		return
	}
	w.saw(least, c.Name(), v, parts(v))
}

// saw notes what a read that began when the floor was least has given.
func (w *weave) saw(least [4]int, name string, v int, parts [4]int) {
	for i, part := range parts {
		if part != 0 && part < least[i] {
			w.fault("%s is %d, which is older than %v", name, v, least)
		}
	}
	w.wrote(parts)
}

// wrote notes what is certain from now on.
func (w *weave) wrote(parts [4]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, part := range parts {
		w.floor[i] = max(w.floor[i], part)
	}
}

func (w *weave) reads(c *Cache[int, int], k int, parts func(v int) [4]int) func() {
	return func() { w.get(context.Background(), c, k, parts) }
}

func (w *weave) sets(k int, values ...int) func() {
	return func() {
		for _, v := range values {
			w.ok(w.in.Set(k, v))
			var parts [4]int
			parts[k] = v
			w.wrote(parts)
		}
	}
}

// batches sets the first two inputs at once.
func (w *weave) batches(v int) func() {
	return func() {
		w.ok(w.m.Batch(func(b *Batch) error {
			w.in.SetIn(b, 1, v)
			w.in.SetIn(b, 2, v)
			return nil
		}))
		w.wrote([4]int{0, v, v, 0})
	}
}

// finally checks a value when all is over, and that it is built once at most.
func (w *weave) finally(c *Cache[int, int], k, want int) {
	w.ends = append(w.ends, func() {
		for i := range 2 {
			w.builds = 0
			if v, err := c.Get(context.Background(), k); v != want || err != nil {
				w.fault("%s is %d, %v in the end, not %d", c.Name(), v, err, want)
			}
			if i > 0 && w.builds > 0 {
				w.fault("%s is built again, and nothing has changed", c.Name())
			}
		}
	})
}

// ran checks how many builders have run.
func (w *weave) ran(builds int) {
	w.ends = append(w.ends, func() {
		if w.builds != builds {
			w.fault("%d builders have run, not %d", w.builds, builds)
		}
	})
}

func steps(all ...func()) func() {
	return func() {
		for _, f := range all {
			f()
		}
	}
}

var weavePrograms = []weaveProgram{
	{"two readers", 5, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.ran(1)
		w.finally(c, 1, 11)
		return []func(){w.reads(c, 1, digits), w.reads(c, 1, digits)}
	}},
	{"reader and writer", 6, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.finally(c, 1, 21)
		return []func(){w.reads(c, 1, digits), steps(w.sets(1, 2), w.reads(c, 1, digits))}
	}},
	{"builder, writer, reader", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.finally(c, 1, 31)
		return []func(){w.reads(c, 1, digits), w.sets(1, 2, 3), w.reads(c, 1, digits)}
	}},
	{"what was built, writer, readers", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		must(c.Get(context.Background(), 1))
		w.finally(c, 1, 12)
		return []func(){w.reads(c, 1, digits), w.sets(2, 2), steps(func() {
			v, _ := w.in.Peek(2)
			w.wrote([4]int{0, 0, v, 0})
		}, w.reads(c, 1, digits))}
	}},
	{"batch and builder", 5, func(w *weave) []func() {
		c := w.pair("pair", true)
		w.finally(c, 1, 22)
		r := w.reads(c, 1, digits)
		return []func(){steps(r, r), w.batches(2)}
	}},
	{"batch, builders, inputs crossed", 4, func(w *weave) []func() {
		c := w.pair("pair", true)
		w.finally(c, 1, 22)
		w.finally(c, 2, 22)
		return []func(){w.reads(c, 1, digits), w.batches(2), w.reads(c, 2, digits)}
	}},
	{"two levels", 4, func(w *weave) []func() {
		c := w.pair("pair", true)
		top := w.cache("top", func(ctx context.Context, k int) (int, error) {
			a, err := w.in.Get(ctx, 1)
			if err != nil {
				return 0, err
			}
			w.at("between")
			v, err := c.Get(ctx, k)
			if err == nil && v != 11*a {
				w.fault("a builder has seen %d and %d", a, v)
			}
			return v, err
		})
		w.finally(top, 1, 22)
		return []func(){w.reads(top, 1, digits), w.batches(2), w.reads(c, 1, digits)}
	}},
	{"one run for two", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		top := w.cache("top", func(ctx context.Context, k int) (int, error) { return c.Get(ctx, 1) })
		w.finally(top, 1, 12)
		w.finally(top, 2, 12)
		return []func(){w.reads(top, 1, digits), w.reads(top, 2, digits), w.sets(2, 2)}
	}},
	{"cutoff", 4, func(w *weave) []func() {
		half := w.cache("half", func(ctx context.Context, k int) (int, error) {
			v, err := w.in.Get(ctx, k)
			return 1 + v/4, err
		})
		top := w.cache("top", half.Get)
		must(top.Get(context.Background(), 1))
		w.finally(top, 1, 2)
		most := func(v int) [4]int { return [4]int{0, 4*v - 4, 0, 0} } // the least that half can have read
		r := func() {
			w.mu.Lock()
			least := w.floor[1]
			w.mu.Unlock()
			v, err := top.Get(context.Background(), 1)
			if w.ok(err); v < 1+least/4 {
				w.fault("top is %d, which is older than %d", v, least)
			}
			w.wrote(most(v))
		}
		return []func(){steps(r, r), w.sets(1, 3, 4), r}
	}},
	{"invalidated", 4, func(w *weave) []func() {
		return w.invalidated(func(c *Cache[int, int]) error { return c.Invalidate(1) })
	}},
	{"deleted", 4, func(w *weave) []func() {
		return w.invalidated(func(c *Cache[int, int]) error { return c.Delete(1) })
	}},
	{"all invalidated", 4, func(w *weave) []func() {
		return w.invalidated(func(c *Cache[int, int]) error { return c.InvalidateAll() })
	}},
	{"rechecked", 4, func(w *weave) []func() {
		probe := must(Register(w.m, "probe", Spec[int, int]{Equal: w.equal, Probe: func(ctx context.Context, k, _ int, _ bool) (int, error) {
			v := w.source()
			w.at("probed")
			return v, nil
		}}))
		top := w.cache("top", probe.Get)
		w.finally(top, 1, 2)
		return []func(){w.reads(top, 1, beside), func() {
			w.setSource(2)
			probe.Recheck(1)
			w.wrote(beside(2))
			w.get(context.Background(), probe, 1, beside)
		}, w.reads(top, 1, beside)}
	}},
	{"refreshed", 3, func(w *weave) []func() {
		probe := must(Register(w.m, "probe", Spec[int, int]{Equal: w.equal, Probe: func(ctx context.Context, k, _ int, _ bool) (int, error) {
			v := w.source()
			w.at("probed")
			return v, nil
		}}))
		top := w.cache("top", probe.Get)
		must(top.Get(context.Background(), 1))
		w.finally(top, 1, 2)
		return []func(){w.reads(top, 1, beside), func() {
			w.setSource(2)
			w.ok(probe.Refresh(context.Background()))
			w.wrote(beside(2))
			w.get(context.Background(), top, 1, beside)
		}}
	}},
	{"set while it is built", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.finally(c, 1, 55)
		return []func(){w.reads(c, 1, digits), func() {
			w.ok(c.Set(1, 55))
			w.wrote(digits(55))
			w.get(context.Background(), c, 1, digits)
		}, w.sets(1, 2)}
	}},
	{"absent", 4, func(w *weave) []func() {
		c := w.cache("c", func(ctx context.Context, k int) (int, error) {
			v, err := w.in.Get(ctx, k)
			if errors.Is(err, ErrNotFound) {
				return 2, nil // it is there, then not, and then again
			}
			return v, err
		})
		w.finally(c, 1, 3)
		return []func(){w.reads(c, 1, first), steps(func() {
			w.ok(w.in.Delete(1))
			w.wrote(first(2))
		}, w.sets(1, 3)), w.reads(c, 1, first)}
	}},
	{"another dependency", 4, func(w *weave) []func() {
		c := w.cache("c", func(ctx context.Context, k int) (int, error) {
			which, err := w.in.Get(ctx, 1)
			if err != nil || which == 1 {
				return 10 + 1, err
			}
			w.at("between")
			v, err := w.in.Get(ctx, 2)
			return 10*which + v, err
		})
		must(c.Get(context.Background(), 1))
		w.finally(c, 1, 23)
		return []func(){w.reads(c, 1, func(v int) [4]int {
			if v == 11 {
				return first(1)
			}
			return digits(v)
		}), w.sets(1, 2), w.sets(2, 2, 3)}
	}},
	{"a circle", 5, func(w *weave) []func() {
		var c *Cache[int, int]
		c = w.cache("c", func(ctx context.Context, k int) (int, error) { return c.Get(ctx, 1-k) })
		get := func(k int) func() {
			return func() {
				if _, err := c.Get(context.Background(), k); !errors.Is(err, ErrCycle) {
					w.fault("the error is %v", err)
				}
			}
		}
		return []func(){get(0), get(1)}
	}},
	{"a circle comes and goes", 4, func(w *weave) []func() {
		// Of two, one reads the other, as an input says.
		var c *Cache[int, int]
		c = w.cache("c", func(ctx context.Context, k int) (int, error) {
			who, err := w.in.Get(ctx, 1)
			if err != nil || who%2 != k {
				return who, err
			}
			w.at("between")
			v, err := c.Get(ctx, 1-k)
			if err == nil && v != who {
				w.fault("a builder has seen %d and %d", who, v)
			}
			return v, err
		})
		w.finally(c, 0, 2)
		w.finally(c, 1, 2)
		return []func(){w.reads(c, 0, first), w.sets(1, 2), w.reads(c, 1, first)}
	}},
	{"who came first leaves", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		ctx, cancel := context.WithCancel(context.Background())
		w.finally(c, 1, 11)
		return []func(){func() {
			if _, err := c.Get(ctx, 1); err != nil && !errors.Is(err, context.Canceled) {
				w.fault("%v", err)
			}
		}, cancel, w.reads(c, 1, digits)}
	}},
	{"a builder fails", 4, func(w *weave) []func() {
		failed := false
		c := w.cache("c", func(ctx context.Context, k int) (int, error) {
			v, err := w.in.Get(ctx, k)
			if v == 1 && err == nil {
				failed = true
				return 0, errPlanned
			}
			return v, err
		})
		get := func() {
			w.mu.Lock()
			least := w.floor
			w.mu.Unlock()
			switch v, err := c.Get(context.Background(), 1); {
			case err == nil:
				w.saw(least, "c", v, first(v))
			case !errors.Is(err, errPlanned) || !failed || least[1] > 1:
				w.fault("%v", err)
			}
		}
		w.finally(c, 1, 2)
		return []func(){get, w.sets(1, 2), get}
	}},
	{"written again and again", 3, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.finally(c, 1, 71)
		return []func(){w.reads(c, 1, digits), w.sets(1, 2, 3, 4, 5, 6, 7)}
	}},
	{"contents as a whole", 4, func(w *weave) []func() {
		c := must(Register(w.m, "all", Spec[int, int]{Equal: w.equal, BuildAll: func(ctx context.Context) (map[int]int, error) {
			v, err := w.both(ctx, 1, true)
			return map[int]int{1: v}, err
		}}))
		top := w.cache("top", c.Get)
		w.finally(top, 1, 22)
		return []func(){w.reads(top, 1, digits), w.batches(2), w.reads(c, 1, digits)}
	}},
	{"keys", 4, func(w *weave) []func() {
		c := w.cache("c", func(ctx context.Context, k int) (int, error) { return w.in.Count(ctx) })
		w.finally(c, 1, 3)
		return []func(){w.reads(c, 1, beside), func() {
			w.ok(w.in.Set(3, 1))
			w.wrote(beside(3))
		}, w.reads(c, 1, beside)}
	}},
	{"a reader is left behind", 4, func(w *weave) []func() {
		built := 0
		middle := w.cache("middle", func(ctx context.Context, k int) (int, error) {
			if k == 2 {
				built++
				return k, nil
			}
			go func() {
				w.at("left behind")
				w.in.Get(ctx, 1)
			}()
			return k, nil
		})
		top := w.cache("top", func(ctx context.Context, k int) (int, error) {
			a, err := middle.Get(ctx, 1)
			if err != nil {
				return 0, err
			}
			b, err := middle.Get(ctx, 2) // perhaps by the run that has built the other
			return a + b, err
		})
		w.ends = append(w.ends, func() {
			w.ok(w.in.Set(1, 7))
			w.get(context.Background(), top, 1, beside)
			if built != 1 {
				w.fault("what has read nothing was built %d times", built)
			}
		})
		return []func(){w.reads(top, 1, beside)}
	}},
	{"saved", 4, func(w *weave) []func() {
		w.d.before = func() { w.at("apply") }
		w.d.after = func() { w.at("applied") }
		c := w.pair("pair", true)
		w.ends = append(w.ends, func() {
			// What another process would find is the one or the other, and what
			// was built of it does not pass for what it is not.
			m := must(Open("", Options{Store: &disk{Store: w.d.Store}, Autosync: &Autosync{Off: true}}))
			in := must(Register(m, "in", Spec[int, int]{}))
			a, _ := in.Peek(1)
			b, _ := in.Peek(2)
			v := must(must(Register(m, "pair", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
				return 10*must(in.Get(ctx, 1)) + must(in.Get(ctx, 2)), nil
			}})).Get(context.Background(), 1))
			if a != b || v != 10*a+b {
				w.fault("there were saved %d, %d and %d", a, b, v)
			}
		})
		return []func(){w.reads(c, 1, digits), w.batches(2), func() { w.ok(w.m.Sync(context.Background())) }}
	}},
	{"moves, builder", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		w.finally(c, 1, 21)
		return []func(){w.reads(c, 1, digits), steps(w.in.grow, w.sets(1, 2))}
	}},
	{"moves, reader", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		must(c.Get(context.Background(), 1))
		w.finally(c, 1, 21)
		return []func(){steps(w.sets(1, 2), w.reads(c, 1, digits)), steps(c.grow, w.reads(c, 1, digits))}
	}},
	{"moves, updates", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		must(c.Get(context.Background(), 1))
		w.finally(c, 1, 31)
		add := func() {
			must(w.in.Update(1, func(v int, ok bool) (int, bool) { return v + 1, true }))
		}
		return []func(){add, steps(w.in.grow, add)}
	}},
	{"moves, set as before", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		must(c.Get(context.Background(), 1))
		w.ends = append(w.ends, func() {
			v, _ := w.in.Peek(1)
			if pair := must(c.Get(context.Background(), 1)); pair != 10*v+1 {
				w.fault("pair is %d in the end, and the input is %d", pair, v)
			}
		})
		return []func(){func() { w.ok(w.in.Set(1, 1)) }, steps(w.in.grow, w.sets(1, 2), w.reads(c, 1, beside))}
	}},
	{"closed", 4, func(w *weave) []func() {
		c := w.pair("pair", false)
		get := func() {
			if v, err := c.Get(context.Background(), 1); err != nil && !errors.Is(err, ErrClosed) || err == nil && v != 11 {
				w.fault("%d, %v", v, err)
			}
		}
		return []func(){get, func() { w.ok(w.m.Close()) }, get}
	}},
}

// invalidated is a program in which something changes of which the engine does
// not know until it is told so.
func (w *weave) invalidated(tell func(c *Cache[int, int]) error) []func() {
	c := w.cache("c", func(ctx context.Context, k int) (int, error) {
		v := w.source()
		w.at("between")
		return v, nil
	})
	top := w.cache("top", c.Get)
	w.finally(top, 1, 2)
	return []func(){w.reads(top, 1, beside), func() {
		w.setSource(2)
		w.ok(tell(c))
		w.wrote(beside(2))
	}, w.reads(c, 1, beside)}
}

func (w *weave) source() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outside
}

func (w *weave) setSource(v int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outside = v
}

// TestKeysOvertaken: who looks for the keys of a cache when what stands for them is
// replaced does not get in the way of who looks for them afterwards.
func TestKeysOvertaken(t *testing.T) {
	if !graph.Debug {
		t.Skip("without the places to stop at")
	}
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := openOn(newDisk())
		in := must(Register(m, "in", Spec[int, int]{}))
		n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return in.Count(ctx) }}))
		must(n.Get(ctx, 0))
		ok(t, m.Invalidate(All()))
		stopped, goOn := make(chan string), make(chan bool)
		var on atomic.Bool
		graph.Hook = func(point string) {
			var stack [8192]byte
			where := stack[:runtime.Stack(stack[:], false)]
			if on.Load() && point == "look" && bytes.Contains(where, []byte(").node(")) && bytes.Contains(where, []byte("keysOf")) {
				stopped <- point
				<-goOn
			}
		}
		defer func() { graph.Hook = nil }()
		on.Store(true)
		go n.Get(ctx, 1)
		<-stopped // where it looks for the node
		on.Store(false)
		ok(t, m.Invalidate(All()))
		equal(t, "number", must(n.Get(ctx, 2)), 0)
		goOn <- true
		synctest.Wait()
		ok(t, in.Set(1, 1))
		equal(t, "number after a change", must(n.Get(ctx, 2)), 1)
		ok(t, m.Close())
	})
}

// TestKeysListed: a key that is there only while keys are listed is not in the list that a builder
// gets, for afterwards they are what it is noted to have read.
func TestKeysListed(t *testing.T) {
	if !graph.Debug {
		t.Skip("without the places to stop at")
	}
	m := openOn(newDisk())
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{}))
	ok(t, in.Set(1, 1))
	runs := 0
	n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) {
		runs++
		keys, err := in.CollectKeys(ctx)
		return len(keys), err
	}}))
	elsewhere := func(f func() error) {
		done := make(chan error)
		go func() { done <- f() }()
		ok(t, <-done)
	}
	graph.Hook = func(point string) {
		switch point {
		case "list":
			elsewhere(func() error { return in.Set(2, 2) })
		case "listed":
			graph.Hook = nil
			elsewhere(func() error { return in.Delete(2) })
		}
	}
	defer func() { graph.Hook = nil }()
	equal(t, "keys", must(n.Get(context.Background(), 0)), 1)
	equal(t, "runs", runs, 1)
}

// TestInvalidatedIsNotAbsent: who asks for what BuildAll lists when the contents are invalidated is not told that
// it is not there.
func TestInvalidatedIsNotAbsent(t *testing.T) {
	if !graph.Debug {
		t.Skip("without the places to stop at")
	}
	m := openOn(newDisk())
	defer m.Close()
	c := must(Register(m, "c", Spec[int, int]{BuildAll: func(context.Context) (map[int]int, error) {
		return map[int]int{1: 1}, nil
	}}))
	ok(t, c.Load(t.Context()))
	graph.Hook = func(point string) {
		if point == "fresh" {
			graph.Hook = nil
			ok(t, c.InvalidateAll())
		}
	}
	defer func() { graph.Hook = nil }()
	equal(t, "value", must(c.Get(t.Context(), 1)), 1)
}
