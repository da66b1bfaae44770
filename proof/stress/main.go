// Command stress has writers, readers, builders, invalidations and batches work
// side by side, and checks each read.
//
//	go run ./proof/stress [-n 1e9] [-workers 8] [-keys 64] [-json]
//
// No read may be older than what was certainly written before it began, or newer
// than what anybody has begun to write, and of a batch everybody sees all or
// nothing. The exit status is 1 if one is.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "stress: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "stress:", err)
		os.Exit(1)
	}
}

// result is what is printed at the end.
type result struct {
	Operations    int64   `json:"operations"`
	Reads         int64   `json:"reads"`
	Writes        int64   `json:"writes"`
	Invalidations int64   `json:"invalidations"`
	Builds        int64   `json:"builds"`
	Seconds       float64 `json:"seconds"`
	Rate          float64 `json:"operations_per_second"`
	Stale         int64   `json:"stale"`
	Torn          int64   `json:"torn"`
	Invented      int64   `json:"invented"`
	Failed        int64   `json:"failed"`
}

func (r result) String() string {
	return fmt.Sprintf("%d operations in %.1f s, %.2f million/s (%d reads, %d writes, %d invalidations, %d builds): %d stale, %d torn, %d invented, %d failed",
		r.Operations, r.Seconds, r.Rate/1e6, r.Reads, r.Writes, r.Invalidations, r.Builds, r.Stale, r.Torn, r.Invented, r.Failed)
}

// run is main without the process: it carries out one command line.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("stress", flag.ContinueOnError)
	fs.SetOutput(progress)
	n := fs.Float64("n", 1e7, "number of operations")
	workers := fs.Int("workers", 4*runtime.GOMAXPROCS(0), "number of goroutines")
	keys := fs.Int("keys", 64, "number of inputs")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *n < 1 || *n > math.MaxInt64/2 || *workers < 1 || *keys < 1 {
		return fmt.Errorf("-n %g -workers %d -keys %d: each is to be at least 1", *n, *workers, *keys)
	}
	s, err := open(*keys)
	if err != nil {
		return err
	}
	r, err := s.run(ctx, int64(*n), *workers, progress)
	if *asJSON {
		err = cmp.Or(json.NewEncoder(out).Encode(r), err)
	} else {
		fmt.Fprintln(out, r)
	}
	err = errors.Join(err, s.m.Close())
	if err == nil && r.Stale+r.Torn+r.Invented+r.Failed > 0 {
		err = errors.New("what was read is wrong; the first few are above")
	}
	return err
}

// counter is what is known of the values of a key, which grow by one. One
// goroutine writes it.
type counter struct {
	begun, written atomic.Int64
	_              [48]byte // a cache line of its own
}

// system is the library, with caches that are built of each other.
type system struct {
	m      *cacheman.Manager
	in     *cacheman.Cache[int, int64] // the inputs
	double *cacheman.Cache[int, int64] // of in
	sum    *cacheman.Cache[int, int64] // of double and in
	pair   *cacheman.Cache[int, int64] // 2k and 2k+1 are written together, and equal
	both   *cacheman.Cache[int, int64] // of these two

	ins, pairs []counter

	done                                  atomic.Int64
	reads, writes, invalidations          atomic.Int64
	stale, torn, invented, failed, showed atomic.Int64
	progress                              io.Writer
}

func open(keys int) (s *system, err error) {
	s = &system{ins: make([]counter, keys), pairs: make([]counter, keys)}
	if s.m, err = cacheman.Open("", cacheman.Options{Store: memstore.New()}); err != nil {
		return nil, err
	}
	register := func(name string, build func(context.Context, int) (int64, error)) *cacheman.Cache[int, int64] {
		c, e := cacheman.Register(s.m, name, cacheman.Spec[int, int64]{Memory: true, Build: build})
		err = errors.Join(err, e)
		return c
	}
	s.in = register("in", nil)
	s.pair = register("pair", nil)
	s.double = register("double", func(ctx context.Context, k int) (int64, error) {
		v, err := s.in.Get(ctx, k)
		return 2 * v, err
	})
	s.sum = register("sum", func(ctx context.Context, k int) (int64, error) {
		a, err1 := s.double.Get(ctx, k)
		if err1 != nil {
			return 0, err1
		}
		b, err := s.in.Get(ctx, k)
		if err == nil && a != 2*b {
			s.wrong(&s.torn, "a builder has read %d and %d of input %d", a, b, k)
		}
		return a + b, err
	})
	s.both = register("both", func(ctx context.Context, k int) (int64, error) {
		a, err1 := s.pair.Get(ctx, 2*k)
		if err1 != nil {
			return 0, err1
		}
		b, err := s.pair.Get(ctx, 2*k+1)
		if err == nil && a != b {
			s.wrong(&s.torn, "a builder has read %d and %d of pair %d", a, b, k)
		}
		return b, err
	})
	for k := range keys {
		err = errors.Join(err, s.in.Set(k, 0), s.setPair(k, 0))
	}
	return s, err
}

func (s *system) setPair(k int, v int64) error {
	return s.m.Batch(func(b *cacheman.Batch) error {
		s.pair.SetIn(b, 2*k, v)
		s.pair.SetIn(b, 2*k+1, v)
		return nil
	})
}

// wrong counts a fault, and shows the first few.
func (s *system) wrong(count *atomic.Int64, format string, args ...any) {
	count.Add(1)
	if s.showed.Add(1) <= 10 {
		fmt.Fprintf(s.progress, "stress: "+format+"\n", args...)
	}
}

const chunk = 1024 // operations between two looks at the clock and at ctx

// run has n operations made by so many workers.
func (s *system) run(ctx context.Context, n int64, workers int, progress io.Writer) (result, error) {
	s.progress = progress
	start := time.Now()
	var all sync.WaitGroup
	for id := range workers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 0))
			for ctx.Err() == nil && s.done.Add(chunk) <= n+chunk-1 {
				w := worker{s, rng, id, workers, 0, 0}
				for range chunk {
					w.step()
				}
				s.writes.Add(w.writes)
				s.invalidations.Add(w.invalidations)
				s.reads.Add(chunk - w.writes - w.invalidations)
			}
		})
	}
	over := make(chan struct{})
	go func() {
		all.Wait()
		close(over)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-over:
			running = false
		case <-tick.C:
			fmt.Fprintf(progress, "\r%5.1f%%  %s ", 100*min(1, float64(s.done.Load())/float64(n)), s.result(start))
		}
	}
	fmt.Fprintln(progress)
	for fault := range s.m.Check() {
		s.wrong(&s.failed, "%v", fault)
	}
	return s.result(start), ctx.Err()
}

func (s *system) result(start time.Time) result {
	r := result{
		Reads: s.reads.Load(), Writes: s.writes.Load(), Invalidations: s.invalidations.Load(),
		Stale: s.stale.Load(), Torn: s.torn.Load(), Invented: s.invented.Load(), Failed: s.failed.Load(),
		Seconds: time.Since(start).Seconds(),
	}
	for _, c := range []*cacheman.Cache[int, int64]{s.double, s.sum, s.both} {
		r.Builds += c.Stats().Builds
	}
	r.Operations = r.Reads + r.Writes + r.Invalidations
	r.Rate = float64(r.Operations) / r.Seconds
	return r
}

// worker is a goroutine; it writes each workers-th key.
type worker struct {
	*system
	rng                   *rand.Rand
	id, workers           int
	writes, invalidations int64
}

// step makes one operation.
func (w *worker) step() {
	x := w.rng.Uint32()
	k := int(x>>16) % len(w.ins)
	switch own := k - k%w.workers + w.id; {
	case x%64 == 0 && own < len(w.ins):
		w.writes++
		w.write(&w.ins[own], func(v int64) error { return w.in.Set(own, v) })
	case x%64 == 1 && own < len(w.ins):
		w.writes++
		w.write(&w.ins[own], func(v int64) error {
			_, err := w.in.Update(own, func(old int64, ok bool) (int64, bool) {
				if old != v-1 {
					w.wrong(&w.stale, "Update got %d of input %d, not %d", old, own, v-1)
				}
				return v, true
			})
			return err
		})
	case x%64 == 2 && own < len(w.ins):
		w.writes++
		w.write(&w.pairs[own], func(v int64) error { return w.setPair(own, v) })
	case x%128 == 3:
		w.invalidations++
		w.check(w.double.Invalidate(k))
	case x%128 == 4:
		w.invalidations++
		w.check(w.sum.Invalidate(k))
	case x%(1<<14) == 5:
		w.invalidations++
		w.check(w.double.InvalidateAll())
	case x%(1<<14) == 6:
		before := w.ins[k].written.Load()
		w.check(w.m.Build(context.Background(), cacheman.Only("sum"), nil))
		if v, ok := w.sum.Peek(k); ok && v < 3*before {
			w.wrong(&w.stale, "sum[%d] is %d when all are up to date, and %d was written before", k, v, 3*before)
		}
	case x%4 == 0:
		w.read(w.in, k, &w.ins[k], 1)
	case x%4 == 1:
		w.read(w.sum, k, &w.ins[k], 3)
	case x%8 == 2:
		w.read(w.double, k, &w.ins[k], 2)
	case x%8 == 6:
		w.read(w.both, k, &w.pairs[k], 1)
	default:
		// Whoever sees the second half of a batch sees the first.
		b := w.read(w.pair, 2*k+1, &w.pairs[k], 1)
		if a := w.read(w.pair, 2*k, &w.pairs[k], 1); a < b {
			w.wrong(&w.torn, "pair %d is %d after %d was read", k, a, b)
		}
	}
}

// write makes the next write of a key.
func (w *worker) write(c *counter, set func(v int64) error) {
	v := c.begun.Add(1)
	w.check(set(v))
	c.written.Store(v)
}

// read reads an entry, whose value is to be the input's times factor.
func (w *worker) read(c *cacheman.Cache[int, int64], k int, of *counter, factor int64) int64 {
	before := of.written.Load()
	v, err := c.Get(context.Background(), k)
	after := of.begun.Load()
	switch {
	case err != nil:
		w.check(err)
	case v < factor*before:
		w.wrong(&w.stale, "%s[%d] is %d, and %d was written before", c.Name(), k, v, factor*before)
	case v > factor*after || v%factor != 0:
		w.wrong(&w.invented, "%s[%d] is %d, and %d is the newest", c.Name(), k, v, factor*after)
	}
	return v
}

func (w *worker) check(err error) {
	if err != nil {
		w.wrong(&w.failed, "%v", err)
	}
}
