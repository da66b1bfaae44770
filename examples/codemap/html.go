package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

//go:embed report.html
var pageSource string

var pageTemplate = template.Must(template.New("report.html").Funcs(template.FuncMap{
	"thousands": thousands,
	"bars":      newBars,
	"row":       func(i int) int { return i * rowHeight },
}).Parse(pageSource))

// page is what the template gets. The pictures are as wide as the window, so
// horizontal places are in percent, while vertical ones are in pixels.
type page struct {
	Dir      string
	Report   Report
	Packages []pagePackage // the largest
	Steps    []string      // the legend of the colours
	Groups   []group
	Dots     []dot
	XTicks   []tick
	YTicks   []tick
}

// pagePackage is a package as the pictures see it, without its tests.
type pagePackage struct {
	Title, Dir string
	Files      int
	Code       int
	Functions  int
	Complexity int
	Imports    Usage
}

// PerFunction is the mean complexity of the package's functions.
func (p pagePackage) PerFunction() float64 {
	return float64(p.Complexity) / float64(max(p.Functions, 1))
}

// steps are the upper bounds of the colours, in complexity per function.
var steps = []float64{1.5, 2.5, 3.5, 5, 8}

// Step is the number of the package's colour.
func (p pagePackage) Step() int {
	i, _ := slices.BinarySearch(steps, p.PerFunction())
	return i
}

// Hover is what the pointer is told.
func (p pagePackage) Hover() string {
	return fmt.Sprintf("%s\n%s of code, %s\ncomplexity %.1f per function, %s in all",
		p.Title, plural(p.Code, "line"), plural(p.Functions, "function"), p.PerFunction(), thousands(p.Complexity))
}

// writePage writes the page to file.
func (m *codemap) writePage(ctx context.Context, file string, report Report) error {
	tree, err1 := m.tree.Get(ctx)
	imports, err2 := m.imports.Get(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var all []pagePackage
	for _, dir := range tree.Dirs {
		p, err := m.packages.Get(ctx, dir)
		if err != nil {
			return err
		}
		all = append(all, pagePackage{
			Title: title(p), Dir: dir, Files: p.Files - p.TestFiles, Imports: imports[p.Needs.Path],
			Code:       p.Code - p.Tests.Code,
			Functions:  p.Functions - p.Tests.Functions,
			Complexity: p.Complexity - p.Tests.Complexity,
		})
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, newPage(m.dir, report, all)); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o666)
}

func newPage(dir string, report Report, all []pagePackage) *page {
	all = slices.DeleteFunc(all, func(p pagePackage) bool { return p.Code == 0 })
	slices.SortFunc(all, func(a, b pagePackage) int {
		return cmp.Or(cmp.Compare(b.Code, a.Code), cmp.Compare(a.Dir, b.Dir))
	})
	pg := &page{Dir: dir, Report: report, Packages: all[:min(50, len(all))], Groups: treemap(all)}
	for _, s := range steps {
		pg.Steps = append(pg.Steps, fmt.Sprintf("≤ %g", s))
	}
	pg.Steps = append(pg.Steps, fmt.Sprintf("> %g", steps[len(steps)-1]))
	pg.scatter(all)
	return pg
}

// rect is a place in a picture: across in parts of its width, down in pixels.
type rect struct{ x, y, w, h float64 }

func (r rect) X() string { return pct(r.x) }
func (r rect) Y() string { return px(r.y) }
func (r rect) W() string { return pct(r.w) }
func (r rect) H() string { return px(r.h) }

func pct(part float64) string  { return fmt.Sprintf("%.4g%%", 100*part) }
func px(pixels float64) string { return fmt.Sprintf("%.4g", pixels) }

// The treemap is laid out for a window of this many pixels; in others it is
// stretched, but its writing is not.
const (
	mapWidth  = 1080
	mapHeight = 640
	mapHead   = 18 // above the tiles of a group, for its name
)

// group is a part of the treemap: the packages below one directory.
type group struct {
	rect
	Name  string
	Code  int
	Tiles []tile
	all   []pagePackage
}

// tile is a package in the treemap.
type tile struct {
	rect
	pagePackage
}

// Label says in which windows there is room for the package's name: "any",
// "wide", or "" for none.
func (t tile) Label() string {
	switch w := t.w * mapWidth; {
	case t.h < 17 || w < 44:
		return ""
	case w < 120:
		return "wide"
	}
	return "any"
}

// Short is the last part of the package's directory.
func (t tile) Short() string { return t.Dir[strings.LastIndex(t.Dir, "/")+1:] }

// treemap lays out packages, the largest first, by directory.
func treemap(all []pagePackage) []group {
	byName := map[string]*group{}
	total := 0
	for _, p := range all {
		total += p.Code
	}
	size := map[string]int{}
	for _, p := range all {
		size[top(p.Dir, 1)] += p.Code
	}
	for _, p := range all {
		name := top(p.Dir, 1)
		if size[name] > total/6 {
			name = top(p.Dir, 2) // a large one is better told apart
		}
		if byName[name] == nil {
			byName[name] = &group{Name: name}
		}
		byName[name].Code += p.Code
		byName[name].all = append(byName[name].all, p)
	}
	groups := slices.SortedFunc(maps.Values(byName), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.Code, a.Code), cmp.Compare(a.Name, b.Name))
	})
	var laid []group
	for i, r := range squarify(groups, func(g *group) int { return g.Code }, rect{0, 0, 1, mapHeight}) {
		g := groups[i]
		g.rect = r
		inner := r
		if g.Named() {
			inner.y += mapHead
			inner.h -= mapHead
		}
		for j, r := range squarify(g.all, func(p pagePackage) int { return p.Code }, inner) {
			g.Tiles = append(g.Tiles, tile{r, g.all[j]})
		}
		laid = append(laid, *g)
	}
	return laid
}

// Named reports whether there is room for the name of the group.
func (g group) Named() bool { return g.h > 2.5*mapHead && g.w*mapWidth > 60 }

// Wide reports whether there is room for a number after the name.
func (g group) Wide() bool { return g.w*mapWidth > 140 }

// top returns the first n parts of a directory.
func top(dir string, n int) string {
	parts := strings.SplitN(dir, "/", n+1)
	return strings.Join(parts[:min(n, len(parts))], "/")
}

// squarify divides a rectangle among items, the largest first, so that areas
// are as sizes and shapes near to squares. (Bruls, Huizing and van Wijk,
// "Squarified Treemaps", 2000.)
func squarify[T any](items []T, size func(T) int, in rect) []rect {
	in.x, in.w = in.x*mapWidth, in.w*mapWidth
	total := 0.0
	for _, it := range items {
		total += float64(size(it))
	}
	scale := in.w * in.h / total
	area := func(i int) float64 { return float64(size(items[i])) * scale }
	// worst is the most stretched shape in a row along side.
	worst := func(largest, smallest, sum, side float64) float64 {
		return max(side*side*largest/(sum*sum), sum*sum/(side*side*smallest))
	}
	var laid []rect
	for from := 0; from < len(items); {
		side := min(in.w, in.h)
		sum, to := area(from), from+1
		for to < len(items) && worst(area(from), area(to), sum+area(to), side) <= worst(area(from), area(to-1), sum, side) {
			sum += area(to)
			to++
		}
		thick := sum / side
		along := 0.0
		for i := from; i < to; i++ {
			long := area(i) / thick
			r := rect{in.x, in.y + along, thick, long}
			if in.w < in.h {
				r = rect{in.x + along, in.y, long, thick}
			}
			along += long
			laid = append(laid, rect{r.x / mapWidth, r.y, r.w / mapWidth, r.h})
		}
		if in.w < in.h {
			in.y, in.h = in.y+thick, in.h-thick
		} else {
			in.x, in.w = in.x+thick, in.w-thick
		}
		from = to
	}
	return laid
}

// rowHeight is the height of a bar with the line of text above it, in pixels.
const rowHeight = 38

// bars is a chart of bars.
type bars struct {
	ID, Title, Text string
	Height          int
	Rows            []bar
}

// bar is one of them.
type bar struct {
	Ranked
	Width string
}

func newBars(id, title, text string, rows []Ranked) bars {
	rows = rows[:min(12, len(rows))]
	b := bars{ID: id, Title: title, Text: text, Height: len(rows) * rowHeight}
	for _, r := range rows {
		b.Rows = append(b.Rows, bar{r, pct(float64(r.N) / float64(rows[0].N))})
	}
	return b
}

// dot is a package in the scatter plot.
type dot struct {
	pagePackage
	X, Y string
}

// tick is a mark on an axis.
type tick struct{ At, Text string }

const plotHeight = 420

// scatter places the packages with functions: size across, complexity up,
// both in powers.
func (pg *page) scatter(all []pagePackage) {
	const minX, minY = 10, 1.0
	maxX, maxY := 100.0, 10.0
	for _, p := range all {
		maxX = max(maxX, float64(p.Code)*1.2)
		maxY = max(maxY, p.PerFunction()*1.2)
	}
	x := func(v float64) string { return pct(math.Log(max(v, minX)/minX) / math.Log(maxX/minX)) }
	y := func(v float64) string { return px(plotHeight * (1 - math.Log(v/minY)/math.Log(maxY/minY))) }
	for _, p := range all {
		if p.Functions > 0 {
			pg.Dots = append(pg.Dots, dot{pagePackage: p, X: x(float64(p.Code)), Y: y(p.PerFunction())})
		}
	}
	for v := 10.0; v <= maxX; v *= 10 {
		pg.XTicks = append(pg.XTicks, tick{x(v), thousands(int(v))})
	}
	for _, v := range []float64{1, 2, 5, 10, 20, 50, 100, 200} {
		if v <= maxY {
			pg.YTicks = append(pg.YTicks, tick{y(v), fmt.Sprint(v)})
		}
	}
}
