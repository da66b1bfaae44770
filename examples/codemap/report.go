package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Report is the whole tree at a glance.
type Report struct {
	Files     int `json:"files"`
	TestFiles int `json:"test_files"`
	Packages  int `json:"packages"`

	Lines      int `json:"lines"`
	Code       int `json:"code"`
	Comments   int `json:"comments"`
	Blank      int `json:"blank"`
	Functions  int `json:"functions"`
	Complexity int `json:"complexity"`
	Exported   int `json:"exported"`

	Largest      []Ranked `json:"largest"`       // packages, by lines of code
	MostComplex  []Ranked `json:"most_complex"`  // functions, the worst of each file
	MostImported []Ranked `json:"most_imported"` // packages, by direct importers
	MostReached  []Ranked `json:"most_reached"`  // packages, by direct and indirect importers

	Unparsable      int       `json:"unparsable"`
	UnparsableFiles []Problem `json:"unparsable_files"`
	Unreadable      int       `json:"unreadable"`
	UnreadableFiles []Problem `json:"unreadable_files"` // and directories
}

// PerFunction is the mean complexity of a function.
func (r Report) PerFunction() float64 {
	return float64(r.Complexity) / float64(max(r.Functions, 1))
}

// Ranked has a place in a list of the first of their kind.
type Ranked struct {
	Name string `json:"name"`
	In   string `json:"in,omitempty"` // the file, of a function
	N    int    `json:"n"`
}

// ranks is how long the lists of a report are.
const ranks = 20

// buildReport makes the report from the packages and the imports.
func (m *codemap) buildReport(ctx context.Context) (Report, error) {
	tree, err := m.tree.Get(ctx)
	if err != nil {
		return Report{}, err
	}
	r := Report{UnparsableFiles: []Problem{}, UnreadableFiles: append([]Problem{}, tree.Unread...)}
	var sum Counts
	for _, dir := range tree.Dirs {
		p, err := m.packages.Get(ctx, dir)
		if err != nil {
			return Report{}, err
		}
		r.Packages++
		r.Files += p.Files
		r.TestFiles += p.TestFiles
		sum.add(p.Counts)
		r.Largest = append(r.Largest, Ranked{Name: title(p), N: p.Code})
		r.MostComplex = append(r.MostComplex, p.Worst...)
		r.UnparsableFiles = append(r.UnparsableFiles, p.Unparsed...)
		r.UnreadableFiles = append(r.UnreadableFiles, p.Unread...)
	}
	r.Lines, r.Code, r.Comments, r.Blank = sum.Lines, sum.Code, sum.Comments, sum.Blank
	r.Functions, r.Complexity, r.Exported = sum.Functions, sum.Complexity, sum.Exported

	imports, err := m.imports.Get(ctx)
	if err != nil {
		return Report{}, err
	}
	for path, n := range imports {
		r.MostImported = append(r.MostImported, Ranked{Name: path, N: n.By})
		r.MostReached = append(r.MostReached, Ranked{Name: path, N: n.ByTransitive})
	}
	for _, list := range []*[]Ranked{&r.Largest, &r.MostComplex, &r.MostImported, &r.MostReached} {
		*list = first(*list)
	}
	for _, list := range [][]Problem{r.UnparsableFiles, r.UnreadableFiles} {
		slices.SortFunc(list, func(a, b Problem) int { return cmp.Compare(a.File, b.File) })
	}
	r.Unparsable, r.Unreadable = len(r.UnparsableFiles), len(r.UnreadableFiles)
	return r, nil
}

// title is what a package is called: its import path, or for a program at the
// top of a tree without a module its name.
func title(p Package) string { return cmp.Or(p.Needs.Path, p.Name, ".") }

// first returns the first of a list, those with the largest N, sorted.
func first(list []Ranked) []Ranked {
	list = slices.DeleteFunc(list, func(r Ranked) bool { return r.N == 0 })
	slices.SortFunc(list, func(a, b Ranked) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name), cmp.Compare(a.In, b.In))
	})
	return append([]Ranked{}, list[:min(ranks, len(list))]...)
}

// Outcome is what one run of the program has to say.
type Outcome struct {
	Dir string `json:"dir"`
	Report
	Levels  []Level  `json:"levels"`
	Built   int      `json:"built"`         // by all levels
	Reused  int      `json:"reused"`        // by all levels
	Why     []Reason `json:"why,omitempty"` // of what was built, if that is asked for
	Seconds float64  `json:"seconds"`
}

// Level is what one of the caches had to do.
type Level struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"`
	Built   int    `json:"built"`  // runs of its builder
	Reused  int    `json:"reused"` // entries that were there and still hold
}

func (o *Outcome) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(o)
}

func (o *Outcome) writeText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", o.Dir)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		n    int
		what string
	}{
		{o.Packages, "packages"}, {o.Files, "files"}, {o.Lines, "lines"}, {o.Code, "of code"},
		{o.Comments, "of comments"}, {o.Blank, "blank"}, {o.Functions, "functions"}, {o.Exported, "exported names"},
	} {
		fmt.Fprintf(tw, "%s\t %s\n", thousands(row.n), row.what)
	}
	tw.Flush()
	for _, list := range []struct {
		title string
		rows  []Ranked
	}{
		{"Largest packages (lines of code)", o.Largest},
		{"Most complex functions (cyclomatic complexity; the worst of each file)", o.MostComplex},
		{"Most imported packages (importers)", o.MostImported},
		{"Most imported packages (direct and indirect importers)", o.MostReached},
	} {
		fmt.Fprintf(&b, "\n%s\n", list.title)
		for _, r := range list.rows[:min(5, len(list.rows))] {
			fmt.Fprintf(&b, "%10s  %s\n", thousands(r.N), strings.TrimSpace(r.Name+"  "+r.In))
		}
	}
	problems(&b, "could not be parsed", o.UnparsableFiles)
	problems(&b, "could not be read", o.UnreadableFiles)
	fmt.Fprintln(&b)
	fmt.Fprintln(tw, "\tentries\tbuilds\treused\t")
	for _, l := range append(o.Levels, Level{"together", 0, o.Built, o.Reused}) {
		entries := ""
		if l.Entries > 0 {
			entries = thousands(l.Entries)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", l.Name, entries, thousands(l.Built), thousands(l.Reused))
	}
	tw.Flush()
	writeReasons(&b, o.Why)
	fmt.Fprintf(&b, "%.2f seconds\n", o.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}

// problems names the files that have one, the first few if there are many.
func problems(w io.Writer, what string, list []Problem) {
	const most = 5
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s %s:\n", plural(len(list), "file"), what)
	for _, p := range list[:min(most, len(list))] {
		fmt.Fprintf(w, "  %s: %s\n", p.File, p.Why)
	}
	if more := len(list) - most; more > 0 {
		fmt.Fprintf(w, "  and %d more, all of which -json names\n", more)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// thousands writes 1234567 as 1 234 567.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
