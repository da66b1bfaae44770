package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Yiling-J/theine-go"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/cacheman-go/cacheman"
)

const (
	stampede = 100  // goroutines that want one key
	deep     = 2000 // builders, each called by the one before
	nestings = 10   // times that is done
)

// loadSuite measures getting what is not there.
func loadSuite() *Suite {
	s := &Suite{
		Name:  "load",
		About: "many goroutines that want one missing key, builders that call builders",
		Works: []Work{
			{Name: "runs_of_100", Unit: Runs, About: "builders that ran for 100 goroutines that want the same missing key"},
			{Name: "wake_100", Unit: Nanoseconds, About: "from the end of the builder until all 100 have the value"},
			{Name: "missing_1g", Unit: Nanoseconds, About: "per key: get a missing key, the builder does nothing"},
			{Name: "missing_2g", Unit: Nanoseconds, About: "the same, two goroutines with different keys"},
			{Name: "missing_leave", Unit: Nanoseconds, About: "missing_1g, with a ctx that may end before the builder does"},
			{Name: "nested_2000", Unit: Nanoseconds, About: "per builder: a builder that gets the next key, 2000 deep"},
		},
		Run: func(ctx context.Context, r *Run) error {
			return inTurns(ctx, r, "load", []string{"check"}, loadSteps, func(system, step string) bool {
				return step != "nested_2000" || findLoadSystem(system).nests
			})
		},
		Targets: func(r *Report) []Target {
			nested := Target{Name: "builders 2000 deep", Want: "works", Met: NoData}
			if row, ok := r.row("cacheman", "nested_2000"); ok {
				nested.Got, nested.Met = format(row.Value, row.Unit)+" each", Met
			}
			return []Target{atMost(r, "runs for 100 goroutines on one missing key", "runs_of_100", 1), nested}
		},
		Worker: func(cfg workerConfig) (worker, error) { return &loadWorker{cfg}, nil },
	}
	for _, system := range loadSystems() {
		s.Systems = append(s.Systems, system.name)
	}
	return s
}

// getter gets a key, from a builder that may call it again with the ctx it has.
type getter func(ctx context.Context, key int) (int, error)

func loadSystems() []loadSystem {
	return []loadSystem{
		{"cacheman", true, loadCacheman},
		{"otter", true, loadOtter},
		{"theine", false, loadTheine}, // its loaders stand still when they need each other
		{"singleflight", true, loadSingleflight},
	}
}

type loadSystem struct {
	name  string
	nests bool // a builder may get another key
	open  func(capacity int, build getter) (get getter, done func(), err error)
}

func findLoadSystem(name string) *loadSystem {
	for _, s := range loadSystems() {
		if s.name == name {
			return &s
		}
	}
	return nil
}

var loadSteps = []string{"wake_100", "missing_1g", "missing_2g", "missing_leave", "nested_2000"}

func loadCacheman(_ int, build getter) (getter, func(), error) {
	m, err := openManager("")
	if err != nil {
		return nil, nil, err
	}
	c, err := cacheman.Register(m, "load", cacheman.Spec[int, int]{Memory: true, Build: build})
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return c.Get, func() { m.Close() }, nil
}

func loadOtter(capacity int, build getter) (getter, func(), error) {
	c, err := otter.New(&otter.Options[int, int]{MaximumSize: capacity})
	if err != nil {
		return nil, nil, err
	}
	load := otter.LoaderFunc[int, int](build)
	return func(ctx context.Context, key int) (int, error) { return c.Get(ctx, key, load) }, func() { c.StopAllGoroutines() }, nil
}

func loadTheine(capacity int, build getter) (getter, func(), error) {
	c, err := theine.NewBuilder[int, int](int64(capacity)).BuildWithLoader(func(ctx context.Context, key int) (theine.Loaded[int], error) {
		v, err := build(ctx, key)
		return theine.Loaded[int]{Value: v, Cost: 1}, err
	})
	if err != nil {
		return nil, nil, err
	}
	return c.Get, c.Close, nil
}

// loadSingleflight is the usual pair of a sync.Map and a singleflight.Group.
func loadSingleflight(_ int, build getter) (getter, func(), error) {
	var m sync.Map
	var group singleflight.Group
	return func(ctx context.Context, key int) (int, error) {
		if v, ok := m.Load(key); ok {
			return v.(int), nil
		}
		v, err, _ := group.Do(fmt.Sprint(key), func() (any, error) {
			if v, ok := m.Load(key); ok {
				return v, nil
			}
			v, err := build(ctx, key)
			if err == nil {
				m.Store(key, v)
			}
			return v, err
		})
		if err != nil {
			return 0, err
		}
		return v.(int), nil
	}, func() {}, nil
}

type loadWorker struct{ cfg workerConfig }

func (w *loadWorker) do(req request) (map[string][]float64, error) {
	switch req.Step {
	case "check":
		for _, step := range loadSteps {
			if step == "nested_2000" && !findLoadSystem(w.cfg.System).nests {
				continue
			}
			if _, err := w.do(request{Step: step}); err != nil {
				return nil, fmt.Errorf("%s: %w", step, err)
			}
		}
		return nil, nil
	case "wake_100":
		return w.stampede()
	case "missing_1g":
		return w.missing(context.Background(), req.Step, 1)
	case "missing_2g":
		return w.missing(context.Background(), req.Step, 2)
	case "missing_leave":
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		return w.missing(ctx, req.Step, 1)
	case "nested_2000":
		return w.nested(req.Step)
	}
	return nil, fmt.Errorf("unknown step %q", req.Step)
}

func (w *loadWorker) open(build getter) (getter, func(), error) {
	return findLoadSystem(w.cfg.System).open(2*w.cfg.N+2*deep*nestings, build)
}

// stampede has goroutines want one key, and its builder last until they have
// had the time to begin to wait.
func (w *loadWorker) stampede() (map[string][]float64, error) {
	var runs, wrong, coming atomic.Int64
	var end time.Time
	get, done, err := w.open(func(_ context.Context, key int) (int, error) {
		runs.Add(1)
		for coming.Load() < stampede {
			runtime.Gosched()
		}
		time.Sleep(5 * time.Millisecond)
		end = time.Now()
		return -key, nil
	})
	if err != nil {
		return nil, err
	}
	defer done()
	samples := map[string][]float64{}
	for key := 1; key <= 20; key++ {
		runs.Store(0)
		coming.Store(0)
		var wg sync.WaitGroup
		for range stampede {
			wg.Go(func() {
				coming.Add(1)
				if v, err := get(context.Background(), key); err != nil || v != -key {
					wrong.Add(1)
				}
			})
		}
		wg.Wait()
		samples["wake_100"] = append(samples["wake_100"], float64(time.Since(end).Nanoseconds()))
		samples["runs_of_100"] = append(samples["runs_of_100"], float64(runs.Load()))
	}
	if wrong.Load() > 0 {
		return nil, fmt.Errorf("%d of the goroutines got no value or a wrong one", wrong.Load())
	}
	return samples, nil
}

// missing gets n keys that are not there, and each again to see that it is kept.
func (w *loadWorker) missing(ctx context.Context, work string, goroutines int) (map[string][]float64, error) {
	var runs atomic.Int64
	get, done, err := w.open(func(_ context.Context, key int) (int, error) {
		runs.Add(1)
		return -key, nil
	})
	if err != nil {
		return nil, err
	}
	defer done()
	var wrong atomic.Int64
	each := func() {
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for key := g; key < w.cfg.N; key += goroutines {
					if v, err := get(ctx, key); err != nil || v != -key {
						wrong.Add(1)
					}
				}
			})
		}
		wg.Wait()
	}
	runtime.GC()
	start := time.Now()
	each()
	took := time.Since(start)
	each()
	if wrong.Load() > 0 || runs.Load() != int64(w.cfg.N) {
		return nil, fmt.Errorf("%d wrong values, %d runs of builders for %d keys", wrong.Load(), runs.Load(), w.cfg.N)
	}
	return map[string][]float64{work: {float64(took.Nanoseconds()) / float64(w.cfg.N)}}, nil
}

// nested gets a key whose builder gets another one, and so on.
func (w *loadWorker) nested(work string) (map[string][]float64, error) {
	var get getter
	runs := 0
	get, done, err := w.open(func(ctx context.Context, key int) (int, error) {
		runs++
		if key%deep == 0 {
			return key, nil
		}
		v, err := get(ctx, key-1)
		return v + 1, err
	})
	if err != nil {
		return nil, err
	}
	defer done()
	runtime.GC()
	start := time.Now()
	for i := 1; i <= nestings; i++ {
		if v, err := get(context.Background(), i*deep-1); err != nil || v != i*deep-1 {
			return nil, fmt.Errorf("got %d (%v), want %d", v, err, i*deep-1)
		}
	}
	took := time.Since(start)
	if runs != nestings*deep {
		return nil, fmt.Errorf("%d runs of builders, want %d", runs, nestings*deep)
	}
	return map[string][]float64{work: {float64(took.Nanoseconds()) / (nestings * deep)}}, nil
}
