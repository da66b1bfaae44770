package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Suite is one command of the program: pieces of work, the systems that are
// put to them, and what cacheman has to reach.
type Suite struct {
	Name, About string
	Works       []Work   // in the order of the table
	Systems     []string // in the order of the table
	Run         func(ctx context.Context, r *Run) error
	Targets     func(r *Report) []Target
	// Worker makes the child-process side of the suite; see worker.go.
	Worker func(cfg workerConfig) (worker, error)
}

// suites lists the suites there are. A new one is added here.
func suites() []*Suite {
	return []*Suite{hitSuite(), storeSuite(), graphSuite(), restartSuite(), loadSuite()}
}

func findSuite(name string) *Suite {
	for _, s := range suites() {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func suiteNames() string {
	var names []string
	for _, s := range suites() {
		names = append(names, s.Name)
	}
	return "the suites are " + strings.Join(names, ", ")
}

// pickSystems resolves the -only flag.
func pickSystems(s *Suite, only string) ([]string, error) {
	if only == "" {
		return s.Systems, nil
	}
	want := strings.Split(only, ",")
	for _, name := range want {
		if !slices.Contains(s.Systems, name) {
			return nil, fmt.Errorf("suite %s has no system %q; it has %s", s.Name, name, strings.Join(s.Systems, ", "))
		}
	}
	var picked []string
	for _, name := range s.Systems {
		if slices.Contains(want, name) {
			picked = append(picked, name)
		}
	}
	return picked, nil
}

// Work is one thing that is measured.
type Work struct {
	Name  string
	Unit  Unit
	About string
	// PerEntry says that the value covers all n entries, so that its growth
	// is looked at per entry.
	PerEntry bool
}

// Unit is what a value counts. For all but [Share] less is better.
type Unit string

const (
	Seconds     Unit = "s"
	Nanoseconds Unit = "ns" // per operation
	Bytes       Unit = "B"
	Allocations Unit = "allocs" // per operation
	Share       Unit = "share"  // of 1
	Runs        Unit = "runs"   // of builders
)

// Run is one execution of a suite at one size.
type Run struct {
	N, Ops, Runs int
	Systems      []string
	Dir          string // for temporary files; removed by the caller
	Profile      string // a directory for CPU profiles, or empty

	samples  *samples
	progress *progress
	wrong    []Wrong
}

// Wrong is a system that failed or gave wrong results. It is not timed any
// further, and what was measured of it before is not reported.
type Wrong struct {
	System string `json:"system"`
	Why    string `json:"why"`
}

// markWrong takes system out of the run.
func (r *Run) markWrong(system string, err error) {
	maps.DeleteFunc(r.samples.byRow, func(k rowKey, _ []float64) bool { return k.system == system })
	r.wrong = append(r.wrong, Wrong{system, err.Error()})
	r.Systems = slices.DeleteFunc(slices.Clone(r.Systems), func(s string) bool { return s == system })
}

// Row is the result of one system at one piece of work.
type Row struct {
	System string  `json:"system"`
	Work   string  `json:"work"`
	Value  float64 `json:"value"` // the median
	Unit   Unit    `json:"unit"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Count  int     `json:"count"` // of measurements
}

// samples collects the measurements of a run.
type samples struct {
	byRow map[rowKey][]float64
}

type rowKey struct{ system, work string }

func newSamples() *samples { return &samples{byRow: map[rowKey][]float64{}} }

func (s *samples) add(system, work string, values ...float64) {
	k := rowKey{system, work}
	s.byRow[k] = append(s.byRow[k], values...)
}

// rows gives the results in the order of the suite.
func (s *samples) rows(suite *Suite) []Row {
	rows := []Row{}
	for _, w := range suite.Works {
		for _, system := range suite.Systems {
			v := s.byRow[rowKey{system, w.Name}]
			if len(v) == 0 {
				continue
			}
			rows = append(rows, Row{
				System: system, Work: w.Name, Unit: w.Unit,
				Value: median(v), Min: slices.Min(v), Max: slices.Max(v), Count: len(v),
			})
		}
	}
	return rows
}

// median returns the middle of v, or the mean of the two in the middle.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// Growth is how one cost of one system follows n.
type Growth struct {
	System   string        `json:"system"`
	Work     string        `json:"work"`
	PerEntry bool          `json:"per_entry"` // cost divided by n before the fit
	Exponent float64       `json:"exponent"`  // 0 = flat, 1 = linear
	Points   []GrowthPoint `json:"points"`
}

// GrowthPoint is the cost at one size.
type GrowthPoint struct {
	N     int     `json:"n"`
	Value float64 `json:"value"`
}

// growSizes are the sizes at which growth up to n is looked at.
func growSizes(n int) []int {
	sizes := []int{max(n/100, 100), max(n/10, 100), n}
	return slices.Compact(sizes)
}

// growth fits cost = c·n^exponent through the reports of several sizes.
func growth(suite *Suite, reports []*Report) []Growth {
	var all []Growth
	for _, w := range suite.Works {
		if w.Unit == Share || w.Unit == Allocations {
			continue
		}
		for _, system := range suite.Systems {
			g := Growth{System: system, Work: w.Name, PerEntry: w.PerEntry}
			for _, r := range reports {
				row, ok := r.row(system, w.Name)
				if !ok || row.Value <= 0 {
					continue
				}
				v := row.Value
				if w.PerEntry {
					v /= float64(r.N)
				}
				g.Points = append(g.Points, GrowthPoint{r.N, v})
			}
			if len(g.Points) > 1 {
				g.Exponent = exponent(g.Points)
				all = append(all, g)
			}
		}
	}
	return all
}

// exponent is the least-squares slope of log value over log n.
func exponent(points []GrowthPoint) float64 {
	var sx, sy, sxx, sxy float64
	for _, p := range points {
		x, y := math.Log(float64(p.N)), math.Log(p.Value)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	k := float64(len(points))
	return (k*sxy - sx*sy) / (k*sxx - sx*sx)
}
