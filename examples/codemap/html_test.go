package main

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	t.Parallel()
	files := map[string]string{"x/evil<script>.go": "package x\n\nfunc F() {}\n"}
	maps.Copy(files, tree)
	file := filepath.Join(t.TempDir(), "page.html")
	mustRun(t, writeTree(t, files), t.TempDir(), "-html", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)

	// The template is written so that it is XML as well, for which there is a
	// strict parser.
	dec := xml.NewDecoder(strings.NewReader(page))
	dec.Entity = xml.HTMLEntity
	elements := map[string]int{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
			for _, attr := range start.Attr {
				switch attr.Name.Local {
				case "src", "href", "action", "data", "srcset":
					t.Errorf("<%s %s=%q> loads something", start.Name.Local, attr.Name.Local, attr.Value)
				}
			}
		}
	}
	for _, name := range []string{"svg", "title", "rect", "circle", "table", "h1", "h2"} {
		if elements[name] == 0 {
			t.Errorf("no <%s>", name)
		}
	}
	for _, name := range []string{"script", "link", "img", "iframe"} {
		if elements[name] > 0 {
			t.Errorf("%d <%s>", elements[name], name)
		}
	}
	if found := regexp.MustCompile(`(?i)https?://|url\(|@import|ZgotmplZ`).FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
	for _, want := range []string{"example.com/m/lib", "Two", "lib/testdata/x.go", "prefers-color-scheme: dark"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestSquarify(t *testing.T) {
	t.Parallel()
	sizes := []int{600, 300, 300, 200, 100, 100, 1}
	in := rect{0.25, 10, 0.5, 400}
	total, area := 1601.0, 0.5*mapWidth*400
	laid := squarify(sizes, func(n int) int { return n }, in)
	if len(laid) != len(sizes) {
		t.Fatalf("%d places for %d", len(laid), len(sizes))
	}
	for i, r := range laid {
		if got, want := r.w*mapWidth*r.h, area*float64(sizes[i])/total; math.Abs(got-want) > 1e-6 {
			t.Errorf("%d has an area of %v, want %v", sizes[i], got, want)
		}
		const near = 1e-9
		if r.x < in.x-near || r.y < in.y-near || r.x+r.w > in.x+in.w+near || r.y+r.h > in.y+in.h+near {
			t.Errorf("%v is outside of %v", r, in)
		}
		for _, s := range laid[:i] {
			if r.x+near < s.x+s.w && s.x+near < r.x+r.w && r.y+near < s.y+s.h && s.y+near < r.y+r.h {
				t.Errorf("%v and %v overlap", r, s)
			}
		}
	}
}
