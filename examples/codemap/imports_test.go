package main

import (
	"maps"
	"slices"
	"testing"
)

func TestPathOf(t *testing.T) {
	t.Parallel()
	std := map[string]string{".": "", "cmd": "cmd"}
	module := map[string]string{".": "example.com/m", "tools/gen": "example.com/gen"}
	inside := map[string]string{".": "example.com/m/internal"}
	tests := []struct {
		modules map[string]string
		dir     string
		want    string
	}{
		{std, ".", ""},
		{std, "net/http", "net/http"},
		{std, "cmd", "cmd"},
		{std, "cmd/go/internal/work", "cmd/go/internal/work"},
		{std, "vendor/golang.org/x/net", "vendor/golang.org/x/net"},
		{module, ".", "example.com/m"},
		{module, "tools", "example.com/m/tools"},
		{module, "tools/gen", "example.com/gen"},
		{module, "tools/gen/x", "example.com/gen/x"},
		{module, "tools/generic", "example.com/m/tools/generic"},
		{inside, "graph", "example.com/m/internal/graph"},
		{nil, "a/b", "a/b"},
	}
	for _, tt := range tests {
		if got := pathOf(tt.dir, tt.modules); got != tt.want {
			t.Errorf("pathOf(%q, %v) = %q, want %q", tt.dir, tt.modules, got, tt.want)
		}
	}
}

func TestImportGraph(t *testing.T) {
	t.Parallel()
	graph := importGraph(map[string]Package{
		"fmt":                           {Path: "fmt", Imports: []string{"C", "io", "unsafe"}},
		"io":                            {Path: "io"},
		"net/http":                      {Path: "net/http", Imports: []string{"fmt", "golang.org/x/net/idna"}},
		"vendor/golang.org/x/net/idna":  {Path: "vendor/golang.org/x/net/idna", Imports: []string{"golang.org/x/text/norm"}},
		"vendor/golang.org/x/text/norm": {Path: "vendor/golang.org/x/text/norm", Imports: []string{"io"}},
		"cmd/go":                        {Path: "cmd/go", Imports: []string{"golang.org/x/mod", "net/http", "example.com/outside"}},
		"cmd/vendor/golang.org/x/mod":   {Path: "cmd/vendor/golang.org/x/mod", Imports: []string{"golang.org/x/text/norm"}},
		"cmd/go/testdata/x":             {Path: "cmd/go/testdata/x", Imports: []string{"./y", "../z", "cmd/go/testdata/x"}},
		"cmd/go/testdata/x/y":           {Path: "cmd/go/testdata/x/y"},
	})
	tests := []struct {
		from string
		want []string
	}{
		{"fmt", []string{"io", "unsafe"}},
		{"io", nil},
		{"net/http", []string{"fmt", "io", "unsafe", "vendor/golang.org/x/net/idna", "vendor/golang.org/x/text/norm"}},
		{"cmd/go", []string{
			"cmd/vendor/golang.org/x/mod", "example.com/outside", "fmt", "io", "net/http", "unsafe",
			"vendor/golang.org/x/net/idna", "vendor/golang.org/x/text/norm",
		}},
		{"cmd/go/testdata/x", []string{"cmd/go/testdata/x/y", "cmd/go/testdata/z"}},
	}
	for _, tt := range tests {
		if got := slices.Sorted(maps.Keys(reach(graph, tt.from))); !slices.Equal(got, tt.want) {
			t.Errorf("%s needs\n%q, want\n%q", tt.from, got, tt.want)
		}
	}
	if !graph["cmd/go"].inBuild || graph["cmd/go/testdata/x"].inBuild {
		t.Error("testdata is in the build, or a program is not")
	}
}

func TestImportCycles(t *testing.T) {
	t.Parallel()
	graph := importGraph(map[string]Package{
		"a":    {Path: "a", Imports: []string{"b"}},
		"b":    {Path: "b", Imports: []string{"c", "x"}},
		"c":    {Path: "c", Imports: []string{"a"}},
		"self": {Path: "self", Imports: []string{"self"}},
	})
	for from, want := range map[string][]string{
		"a": {"b", "c", "x"}, "b": {"a", "c", "x"}, "c": {"a", "b", "x"}, "self": nil, "x": nil,
	} {
		if got := slices.Sorted(maps.Keys(reach(graph, from))); !slices.Equal(got, want) {
			t.Errorf("%s needs %q, want %q", from, got, want)
		}
	}
}
