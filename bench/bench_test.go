package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the child process that measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(workerMain(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(c.v); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.v, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
	v := []float64{2, 1}
	if median(v); v[0] != 2 {
		t.Error("median sorted its argument")
	}
}

func TestExponent(t *testing.T) {
	for _, want := range []float64{0, 1, 0.5} {
		var points []GrowthPoint
		for _, n := range []int{100, 1000, 10_000} {
			points = append(points, GrowthPoint{n, 7 * math.Pow(float64(n), want)})
		}
		if got := exponent(points); math.Abs(got-want) > 1e-9 {
			t.Errorf("exponent of n^%v = %v", want, got)
		}
	}
}

func TestKeysLeadBack(t *testing.T) {
	for _, i := range []int{0, 1, 77, 999_999, 1<<31 - 1} {
		key := keyOf(i)
		if len(key) != keySize || indexOf(key) != i {
			t.Errorf("keyOf(%d) = %q, which leads back to %d", i, key, indexOf(key))
		}
	}
	if len(valueOf(5, 0)) != valueSize {
		t.Errorf("a value has %d bytes", len(valueOf(5, 0)))
	}
	if bytes.Equal(valueOf(5, 0), valueOf(5, 1)) || bytes.Equal(valueOf(5, 0), valueOf(6, 0)) {
		t.Error("values do not differ")
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit Unit
		want string
	}{
		{0.0123, Seconds, "12.30 ms"},
		{85, Nanoseconds, "85.0 ns"},
		{3 << 20, Bytes, "3.0 MiB"},
		{0.5, Share, "0.5000"},
		{math.NaN(), Seconds, "–"},
	} {
		if got := format(c.v, c.unit); got != c.want {
			t.Errorf("format(%v, %s) = %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func TestHitSystems(t *testing.T) {
	for _, s := range hitSystems() {
		if s.harness {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			w, err := newHitWorker(workerConfig{System: s.name, N: 1000, Ops: 2000})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []string{"fill", "check"} {
				if _, err := w.do(request{Step: step}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A system that loses or confuses entries must be found out.
func TestHitCheckFindsWrongSystems(t *testing.T) {
	w, err := newHitWorker(workerConfig{System: "shard64", N: 1000, Ops: 2000})
	if err != nil {
		t.Fatal(err)
	}
	h := w.(*hitWorker)
	if _, err := h.do(request{Step: "fill"}); err != nil {
		t.Fatal(err)
	}
	right := h.plain.peek
	for name, wrong := range map[string]func(string) *payload{
		"confused": func(string) *payload { return &h.pays[0][3] },
		"empty":    func(string) *payload { return nil },
		"stale":    func(key string) *payload { return h.value(key) }, // overwriting has no effect
		"one missing": func(key string) *payload {
			if key == keyOf(999) {
				return nil
			}
			return right(key)
		},
	} {
		h.plain.peek = wrong
		if _, err := h.check(); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func TestStoreSystems(t *testing.T) {
	for _, s := range storeSystems() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w, err := newStoreWorker(workerConfig{System: s.name, N: 1000, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			do := func(req request) map[string][]float64 {
				t.Helper()
				got, err := w.do(req)
				if err != nil {
					t.Fatalf("%s: %v", req.Step, err)
				}
				return got
			}
			do(request{Step: "save"})
			do(request{Step: "verify"})
			do(request{Step: "load"})
			if s.has("open_read_one") {
				do(request{Step: "read_one"})
			}
			if !s.has("sync_1") {
				return
			}
			done := do(request{Step: "sync"})
			if s.floor {
				return
			}
			updates := []int{len(done["sync_1000"]), len(done["sync_1"])}
			do(request{Step: "verify", Updates: updates})
			if _, err := w.do(request{Step: "verify"}); err == nil {
				t.Error("changed entries pass for unchanged ones")
			}
		})
	}
}

func TestSuitesEndToEnd(t *testing.T) {
	for _, c := range []struct {
		suite, only string
		rows        map[string][]string // some that must be there
		none        map[string]string   // some that must not
	}{
		{"hit", "cacheman,shard64,sync.Map,otter", map[string][]string{
			"cacheman": {"peek_uniform_1g", "get_zipf_2g", "fill_2g", "bytes_per_entry", "kept_fill", "get_under_sets", "allocs_peek"},
			"sync.Map": {"peek_zipf_1g", "mix_50_50_2g"},
		}, map[string]string{"sync.Map": "get_uniform_1g"}},
		{"store", "cacheman,gob,floor", map[string][]string{
			"cacheman": {"save_all", "sync_1000", "sync_1", "load_all", "open_read_one", "disk_bytes"},
			"gob":      {"save_all", "load_all"},
			"floor":    {"save_all", "sync_1"},
		}, map[string]string{"gob": "open_read_one"}},
		{"graph", "cacheman,builders,floor", map[string][]string{
			"cacheman": {"invalidate", "sweep", "bytes_per_entry", "verify", "chain", "fanout", "ladder", "layers"},
			"builders": {"chain", "layers"},
			"floor":    {"invalidate", "layers"},
		}, map[string]string{"builders": "verify"}},
		{"restart", "cacheman,rebuild,floor", map[string][]string{
			"cacheman": {"first_get", "all_verified", "builder_runs", "disk_bytes"},
			"rebuild":  {"first_get", "all_verified"},
			"floor":    {"first_get", "all_verified"},
		}, map[string]string{"rebuild": "disk_bytes"}},
		{"load", "cacheman,otter,theine,singleflight", map[string][]string{
			"cacheman":     {"runs_of_100", "wake_100", "missing_1g", "missing_2g", "missing_leave", "nested_2000"},
			"singleflight": {"nested_2000"},
		}, map[string]string{"theine": "nested_2000"}},
	} {
		t.Run(c.suite, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "out.json")
			work := filepath.Join(dir, "work")
			if err := os.Mkdir(work, 0o700); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			args := []string{c.suite, "-n", "1000", "-ops", "1000", "-runs", "1", "-only", c.only, "-json", file, "-dir", work, "-grow"}
			if err := run(t.Context(), args, &out, io.Discard); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Suite string
				N     int
				Rows  []struct {
					System, Work, Unit string
					Value, Min, Max    *float64
				}
				Wrong   []Wrong
				Targets []Target
				Growth  []Growth
			}
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			if got.Suite != c.suite || got.N != 1000 || len(got.Targets) == 0 || len(got.Growth) == 0 {
				t.Errorf("suite %q, n %d, %d targets, %d growths", got.Suite, got.N, len(got.Targets), len(got.Growth))
			}
			if len(got.Wrong) > 0 {
				t.Errorf("wrong: %v", got.Wrong)
			}
			seen := map[string]bool{}
			for _, row := range got.Rows {
				if row.Value == nil || row.Min == nil || row.Max == nil || row.Unit == "" {
					t.Fatalf("incomplete row %+v", row)
				}
				if *row.Min > *row.Value || *row.Value > *row.Max {
					t.Errorf("%s %s: median %v is not within %v–%v", row.System, row.Work, *row.Value, *row.Min, *row.Max)
				}
				if seen[row.System+" "+row.Work] {
					t.Errorf("%s %s: two rows", row.System, row.Work)
				}
				seen[row.System+" "+row.Work] = true
			}
			for system, works := range c.rows {
				for _, w := range works {
					if !seen[system+" "+w] {
						t.Errorf("no row %s %s", system, w)
					}
				}
			}
			for system, w := range c.none {
				if seen[system+" "+w] {
					t.Errorf("a row %s %s, which that system cannot do", system, w)
				}
			}
			if text := out.String(); !strings.Contains(text, "\ntargets\n") || !strings.Contains(text, "1.00×") {
				t.Errorf("the text has no targets or no ratios:\n%s", text)
			}
			if left, _ := os.ReadDir(work); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	// The first message about progress ends it.
	err := run(ctx, []string{"store", "-n", "1000", "-only", "cacheman,gob", "-dir", dir}, io.Discard, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	if err != context.Canceled {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "the suites are hit, store, graph, restart, load"},
		{"graf", `no suite "graf": the suites are hit, store, graph, restart, load`},
		{"hit -only nobody", `no system "nobody"`},
		{"hit -n 1", "-n must be"},
		{"-n 5 hit", "the suite comes first"},
		{"hit store", "one suite"},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.args, err, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	rows := func(rows ...Row) *Report { return &Report{N: 1000, Rows: rows} }
	find := func(targets []Target, name string) Target {
		t.Helper()
		for _, target := range targets {
			if strings.HasPrefix(target.Name, name) {
				return target
			}
		}
		t.Fatalf("no target %q", name)
		return Target{}
	}
	for _, c := range []struct {
		own, floor float64
		want       Verdict
	}{{1.9, 1, Met}, {2.1, 1, Missed}} {
		r := rows(
			Row{System: "cacheman", Work: "save_all", Value: c.own, Unit: Seconds},
			Row{System: "floor", Work: "save_all", Value: c.floor, Unit: Seconds})
		if got := find(storeTargets(r), "save all against plain"); got.Met != c.want {
			t.Errorf("save at %v of the floor: %+v", c.own/c.floor, got)
		}
	}
	if got := find(storeTargets(rows()), "save all against plain"); got.Met != NoData {
		t.Errorf("without rows: %+v", got)
	}
	var all []Row
	for k, w := range hitTimed {
		all = append(all,
			Row{System: "cacheman", Work: w.Name, Value: 100, Unit: Nanoseconds},
			Row{System: "otter", Work: w.Name, Value: 200, Unit: Nanoseconds},
			Row{System: "theine", Work: w.Name, Value: float64(150 - 20*k), Unit: Nanoseconds})
	}
	got := find(hitTargets(rows(all...)), "Peek against every bounded")
	if got.Met != Missed || !strings.Contains(got.Got, "fastest theine") {
		t.Errorf("slower than one in one work: %+v", got)
	}
}

func ExampleReport_WriteText() {
	r := &Report{Suite: "store", N: 100, Runs: 1, Go: "go1", OS: "any/any", CPUs: 2, Rows: []Row{
		{System: "cacheman", Work: "save_all", Value: 0.002, Unit: Seconds, Min: 0.001, Max: 0.003, Count: 3},
		{System: "bbolt", Work: "save_all", Value: 0.02, Unit: Seconds, Min: 0.01, Max: 0.03, Count: 3},
	}}
	s := &Suite{Works: []Work{{Name: "save_all", Unit: Seconds, About: "all"}}, Systems: []string{"cacheman", "bbolt"}}
	var b strings.Builder
	r.WriteText(&b, s)
	fmt.Print(b.String())
	// Output:
	// store, n=100, 1 rounds, go1 any/any, 2 CPUs
	//
	// save_all: all
	//   cacheman   2.00 ms    1.00 ms – 3.00 ms   1.00×
	//   bbolt     20.00 ms  10.00 ms – 30.00 ms  10.00×
	//
	// targets
}

// A system that was wrong has no column, and the reason is at the top.
func TestMarkdownNamesWrong(t *testing.T) {
	r := &Report{Wrong: []Wrong{{"bbolt", "check: 3 | 4\nis wrong"}}, Rows: []Row{{System: "cacheman", Work: "save_all", Value: 1, Unit: Seconds}}}
	s := &Suite{Works: []Work{{Name: "save_all", Unit: Seconds}}, Systems: []string{"cacheman", "bbolt"}}
	var b strings.Builder
	if err := r.WriteMarkdown(&b, s); err != nil {
		t.Fatal(err)
	}
	above, _, _ := strings.Cut(b.String(), "| work | cacheman |\n")
	if !strings.Contains(above, "bbolt") || !strings.Contains(above, "3 | 4 is wrong") {
		t.Errorf("nothing of bbolt at the top of\n%s", b.String())
	}
}

func TestModelCountsRuns(t *testing.T) {
	for name, c := range map[string]struct {
		wires *wiring
		runs  int
	}{
		"chain":   {chain(50), 50},
		"fan-out": {fanOut(50), 51},
		"ladder":  {ladder(50), 101},
		"random":  {random(50, true), 1},
	} {
		for _, system := range graphSystems() {
			if system == "builders" && c.wires.still {
				continue
			}
			g, err := (&graphWorker{workerConfig{System: system}}).open(c.wires, false)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, runs, err := g.change(g.readTop); err != nil || runs != c.runs {
				t.Errorf("%s of %s: %d runs (%v), want %d", name, system, runs, err, c.runs)
			}
			if g.values[g.top()]++; g.readTop() == nil {
				t.Errorf("%s of %s: a wrong value is not noticed", name, system)
			}
			g.close()
		}
	}
}
