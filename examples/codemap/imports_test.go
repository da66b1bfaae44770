package main

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cacheman-go/cacheman"
)

func TestImportPath(t *testing.T) {
	t.Parallel()
	const std, module = "module std\n", "module example.com/m\n"
	tests := []struct {
		mods map[string]string // go.mod files by directory; the tree is in a/b
		dir  string
		want string
	}{
		{map[string]string{"a/b": std}, ".", ""},
		{map[string]string{"a/b": std}, "net/http", "net/http"},
		{map[string]string{"a/b": std, "a/b/cmd": "module cmd\n"}, "cmd", "cmd"},
		{map[string]string{"a/b": std, "a/b/cmd": "module cmd\n"}, "cmd/go/internal/work", "cmd/go/internal/work"},
		{map[string]string{"a/b": module}, ".", "example.com/m"},
		{map[string]string{"a/b": module, "a/b/tools/gen": "module example.com/gen\n"}, "tools", "example.com/m/tools"},
		{map[string]string{"a/b": module, "a/b/tools/gen": "module example.com/gen\n"}, "tools/gen/x", "example.com/gen/x"},
		{map[string]string{"a/b": module, "a/b/tools/gen": "module example.com/gen\n"}, "tools/generic", "example.com/m/tools/generic"},
		{map[string]string{"a/b": module, "a/b/tools": "// no module\n"}, "tools", "example.com/m/tools"},
		{map[string]string{".": module}, "graph", "example.com/m/a/b/graph"},
		{nil, ".", ""},
		{nil, "a/b", "a/b"},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		for name, text := range tt.mods {
			write(t, dir, name+"/go.mod", text)
		}
		_, m := open(t, filepath.Join(dir, "a", "b"), t.TempDir(), cacheman.Options{})
		if got, err := m.importPath(t.Context(), tt.dir); got != tt.want || err != nil {
			t.Errorf("with %q %s is imported as %q, want %q: %v", tt.mods, tt.dir, got, tt.want, err)
		}
	}
}

func TestImportGraph(t *testing.T) {
	t.Parallel()
	graph := importGraph(map[string]Needs{
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
	graph := importGraph(map[string]Needs{
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
