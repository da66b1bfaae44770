package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Report is the outcome of a run, and the shape of the JSON file.
type Report struct {
	Suite   string    `json:"suite"`
	N       int       `json:"n"`
	Rows    []Row     `json:"rows"`
	Wrong   []Wrong   `json:"wrong,omitempty"`
	Targets []Target  `json:"targets,omitempty"`
	Growth  []Growth  `json:"growth,omitempty"`
	Runs    int       `json:"runs"`
	Go      string    `json:"go"`
	OS      string    `json:"os"`
	CPUs    int       `json:"cpus"`
	Time    time.Time `json:"time"`
}

// Target is one line of what cacheman has to reach.
type Target struct {
	Name string  `json:"name"`
	Want string  `json:"want"`
	Got  string  `json:"got"`
	Met  Verdict `json:"met"`
}

// Verdict says how a target stands after a run.
type Verdict string

const (
	Met    Verdict = "met"
	Missed Verdict = "missed"
	NoData Verdict = "no data" // a row it needs is not in this run
)

func verdict(ok bool) Verdict {
	if ok {
		return Met
	}
	return Missed
}

func newReport(suite *Suite, r *Run) *Report {
	return &Report{
		Suite: suite.Name, N: r.N, Rows: r.samples.rows(suite), Wrong: r.wrong, Runs: r.Runs,
		Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0),
		Time: time.Now().UTC().Truncate(time.Second),
	}
}

func (r *Report) row(system, work string) (Row, bool) {
	for _, row := range r.Rows {
		if row.System == system && row.Work == work {
			return row, true
		}
	}
	return Row{}, false
}

// value is the median of a row, NaN if there is none.
func (r *Report) value(system, work string) float64 {
	if row, ok := r.row(system, work); ok {
		return row.Value
	}
	return math.NaN()
}

// ratio is value(a, work) / value(b, work), NaN if one is missing.
func (r *Report) ratio(a, b, work string) float64 { return r.value(a, work) / r.value(b, work) }

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes the report for reading.
func (r *Report) WriteText(w io.Writer, suite *Suite) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, n=%d, %d rounds, %s %s, %d CPUs\n", r.Suite, r.N, r.Runs, r.Go, r.OS, r.CPUs)
	for _, bad := range r.Wrong {
		fmt.Fprintf(&b, "WRONG: %s: %s\n", bad.System, bad.Why)
	}
	for _, work := range suite.Works {
		t := table{right: []bool{false, true, true, true}}
		for _, system := range suite.Systems {
			row, ok := r.row(system, work.Name)
			if !ok {
				continue
			}
			t.add("  "+system, format(row.Value, row.Unit), span(row), r.vsCacheman(row))
		}
		if len(t.rows) > 0 {
			fmt.Fprintf(&b, "\n%s: %s\n", work.Name, work.About)
			t.write(&b)
		}
	}
	if len(r.Growth) > 0 {
		fmt.Fprintf(&b, "\ngrowth of the cost (0 = flat, 1 = linear; per entry where the work covers all entries)\n")
		t := table{right: []bool{false, false, true, false}}
		for _, g := range r.Growth {
			var points []string
			for _, p := range g.Points {
				points = append(points, fmt.Sprintf("%d: %s", p.N, format(p.Value, r.unit(suite, g.Work))))
			}
			name := g.Work
			if g.PerEntry {
				name += " per entry"
			}
			t.add("  "+name, g.System, fmt.Sprintf("%+.2f", g.Exponent), strings.Join(points, "  "))
		}
		t.write(&b)
	}
	fmt.Fprintf(&b, "\ntargets\n")
	t := table{right: []bool{false, false, false, false}}
	for _, target := range r.Targets {
		t.add("  "+strings.ToUpper(string(target.Met)), target.Name, target.Want, target.Got)
	}
	t.write(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes medians, systems across, one line for each work.
func (r *Report) WriteMarkdown(w io.Writer, suite *Suite) error {
	var b strings.Builder
	fmt.Fprintf(&b, "n = %d, %d rounds, %s %s, %d CPUs\n\n", r.N, r.Runs, r.Go, r.OS, r.CPUs)
	for _, bad := range r.Wrong {
		fmt.Fprintf(&b, "- **Wrong**: %s: %s\n", bad.System, strings.Join(strings.Fields(bad.Why), " "))
	}
	if len(r.Wrong) > 0 {
		fmt.Fprintln(&b)
	}
	var systems []string
	for _, s := range suite.Systems {
		for _, row := range r.Rows {
			if row.System == s {
				systems = append(systems, s)
				break
			}
		}
	}
	fmt.Fprintf(&b, "| work | %s |\n|---%s|\n", strings.Join(systems, " | "), strings.Repeat("|---:", len(systems)))
	for _, work := range suite.Works {
		cells, some := []string{}, false
		for _, s := range systems {
			if row, ok := r.row(s, work.Name); ok {
				cells, some = append(cells, format(row.Value, row.Unit)), true
			} else {
				cells = append(cells, "–")
			}
		}
		if some {
			fmt.Fprintf(&b, "| `%s` | %s |\n", work.Name, strings.Join(cells, " | "))
		}
	}
	fmt.Fprintf(&b, "\n| target | wanted | measured | |\n|---|---|---|---|\n")
	for _, t := range r.Targets {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", t.Name, t.Want, t.Got, t.Met)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) unit(suite *Suite, work string) Unit {
	for _, w := range suite.Works {
		if w.Name == work {
			return w.Unit
		}
	}
	return ""
}

// vsCacheman is the ratio column: this system's cost over cacheman's.
func (r *Report) vsCacheman(row Row) string {
	base := r.value("cacheman", row.Work)
	if row.Unit == Share || base == 0 || math.IsNaN(base) {
		return ""
	}
	return times(row.Value / base)
}

func times(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f×", x)
	case x < 0.1 && x > 0:
		return fmt.Sprintf("%.3f×", x)
	default:
		return fmt.Sprintf("%.2f×", x)
	}
}

func span(row Row) string {
	if row.Count < 2 {
		return ""
	}
	return format(row.Min, row.Unit) + " – " + format(row.Max, row.Unit)
}

// format writes v for reading.
func format(v float64, unit Unit) string {
	if math.IsNaN(v) {
		return "–"
	}
	switch unit {
	case Seconds:
		return formatSeconds(v)
	case Nanoseconds:
		return formatSeconds(v / 1e9)
	case Bytes:
		if math.Abs(v) >= 1<<20 {
			return fmt.Sprintf("%.1f MiB", v/(1<<20))
		}
		return fmt.Sprintf("%.1f B", v)
	case Share:
		return fmt.Sprintf("%.4f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func formatSeconds(v float64) string {
	switch {
	case v >= 1:
		return fmt.Sprintf("%.2f s", v)
	case v >= 1e-3:
		return fmt.Sprintf("%.2f ms", v*1e3)
	case v >= 1e-6:
		return fmt.Sprintf("%.1f µs", v*1e6)
	default:
		return fmt.Sprintf("%.1f ns", v*1e9)
	}
}

// table aligns columns by the number of characters.
type table struct {
	right []bool
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(b *strings.Builder) {
	width := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
			line.WriteString("  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// progress says on the standard error what is running: one changing line on a
// terminal, otherwise a line whenever the round or the step changes.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	prefix   string
	last     string
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil {
			p.terminal = st.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

func (p *progress) step(what, system string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\033[K%s %s: %s", p.prefix, what, system)
	case what != p.last:
		fmt.Fprintf(p.w, "%s %s\n", p.prefix, what)
	}
	p.last = what
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
