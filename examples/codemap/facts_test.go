package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestFacts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		file string // if not x.go
		src  string
		want Facts
	}{
		{
			name: "empty",
			want: Facts{Problem: "1:1: expected 'package', found 'EOF'"},
		},
		{
			name: "no newline at the end",
			src:  "package p",
			want: Facts{Package: "p", Counts: Counts{Lines: 1, Code: 1}},
		},
		{
			name: "comments",
			src: lines(
				"// Package p does nothing.",
				"package p // for now",
				"",
				"/* One",
				"",
				"three. */",
				"var a, B = 1, /* two */ 2 // three",
				"/* x */ var c = 3 /* y",
				"z */",
				"\t ",
			),
			want: Facts{Package: "p", Counts: Counts{Lines: 10, Code: 3, Comments: 5, Blank: 2, Exported: 1}},
		},
		{
			name: "raw strings",
			src: lines(
				"package p",
				"const a = `",
				"// no comment",
				"",
				"/* nor this`",
				`const b = "// nor this"`,
				"const c = '\"' // this is",
				"// and this",
			),
			want: Facts{Package: "p", Counts: Counts{Lines: 8, Code: 7, Comments: 1}},
		},
		{
			name: "CRLF",
			src:  "//go:build ignore\r\n\r\npackage p\r\n\r\n/* a\r\n\r\nb */\r\nvar s = `x\r\n\r\ny`\r\n",
			want: Facts{Package: "p", Ignored: true, Counts: Counts{Lines: 10, Code: 4, Comments: 4, Blank: 2}},
		},
		{
			name: "BOM",
			src:  "\ufeffpackage p\n\n// X is one.\nconst X = 1\n",
			want: Facts{Package: "p", Counts: Counts{Lines: 4, Code: 2, Comments: 1, Blank: 1, Exported: 1}},
		},
		{
			name: "line directives change no line",
			src:  lines("package p", "", "//line other.go:100", "var x = 1", "", "//go:noinline", "func f() {}"),
			want: Facts{Package: "p", Counts: Counts{Lines: 7, Code: 3, Comments: 2, Blank: 2, Functions: 1, Complexity: 1}, Worst: Function{"f", 1}},
		},
		{
			name: "build constraint that ignores nothing",
			src:  lines("//go:build linux && !cgo", "", "package p", "", "//go:build ignore"),
			want: Facts{Package: "p", Counts: Counts{Lines: 5, Code: 1, Comments: 2, Blank: 2}},
		},
		{
			name: "build constraint in the old form",
			src:  lines("// +build ignore", "", "package main"),
			want: Facts{Package: "main", Ignored: true, Counts: Counts{Lines: 3, Code: 1, Comments: 1, Blank: 1}},
		},
		{
			name: "build constraint that ignore satisfies",
			src:  lines("//go:build !ignore", "", "package p"),
			want: Facts{Package: "p", Counts: Counts{Lines: 3, Code: 1, Comments: 1, Blank: 1}},
		},
		{
			name: "build constraint that needs no ignore",
			src:  lines("//go:build ignore || linux && !arm", "", "package p"),
			want: Facts{Package: "p", Counts: Counts{Lines: 3, Code: 1, Comments: 1, Blank: 1}},
		},
		{
			name: "build constraint that needs ignore and more",
			src:  lines("//go:build linux && (ignore || ignore && !arm)", "", "package p"),
			want: Facts{Package: "p", Ignored: true, Counts: Counts{Lines: 3, Code: 1, Comments: 1, Blank: 1}},
		},
		{
			name: "test",
			file: "x_test.go",
			src:  lines("package p_test", `import "testing"`, "func TestX(*testing.T) {}"),
			want: Facts{
				Package: "p_test", Test: true, Imports: []string{"testing"},
				Counts: Counts{Lines: 3, Code: 3, Functions: 1, Complexity: 1}, Worst: Function{"TestX", 1},
			},
		},
		{
			name: "imports",
			src: lines(
				"package p",
				`import "C"`,
				"import (",
				`	. "fmt"`,
				`	_ "embed"`,
				"	x `a/b`",
				")",
			),
			want: Facts{Package: "p", Imports: []string{"C", "fmt", "embed", "a/b"}, Counts: Counts{Lines: 7, Code: 7}},
		},
		{
			name: "generics and methods",
			src: lines(
				"package p",
				"type List[T any] struct{ next *List[T] }",
				"type pair[K comparable, V any] struct{}",
				"func (l *List[T]) Len() int { return 0 }",
				"func (List[T]) each(f func(T)) {}",
				"func (p pair[K, V]) Key() (k K) { return }",
				"func Map[T, U any](l *List[T], f func(T) U) *List[U] { return nil }",
				"func (*(pair[K, V])) odd() {}",
			),
			want: Facts{
				Package: "p",
				Counts:  Counts{Lines: 8, Code: 8, Functions: 5, Complexity: 5, Exported: 3}, // List, its Len, Map
				Worst:   Function{"(*List).Len", 1},
			},
		},
		{
			name: "exported names",
			src: lines(
				"package p",
				"const (",
				"	A, b = iota, iota",
				"	C, _",
				")",
				"type (",
				"	T = int",
				"	u struct{ Field int }",
				")",
				"var _, V = 1, 2",
				"func Ünder() { type Local int; const X = 1 }",
			),
			want: Facts{
				Package: "p", Counts: Counts{Lines: 11, Code: 11, Functions: 1, Complexity: 1, Exported: 5},
				Worst: Function{"Ünder", 1},
			},
		},
		{
			name: "does not parse",
			src:  lines("package p", "// still counted", "func {", "", "x := `", "` // here too"),
			want: Facts{
				Counts:  Counts{Lines: 6, Code: 4, Comments: 1, Blank: 1},
				Problem: "3:6: expected 'IDENT', found '{' (and 2 more errors)",
			},
		},
		{
			name: "not Go at all",
			src:  "\x00\xff`\n\n",
			want: Facts{Counts: Counts{Lines: 2, Code: 2}, Problem: "any"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := tt.file
			if file == "" {
				file = "x.go"
			}
			got := facts(file, []byte(tt.src))
			if tt.want.Problem == "any" && got.Problem != "" {
				tt.want.Problem = got.Problem
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("facts of\n%s\ngot  %+v\nwant %+v", tt.src, got, tt.want)
			}
			if sum := got.Code + got.Comments + got.Blank; sum != got.Lines {
				t.Errorf("%d lines of code, comments and nothing, but %d lines", sum, got.Lines)
			}
		})
	}
}

func TestComplexity(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       int
	}{
		{"nothing", "", 1},
		{"if", "if a {}", 2},
		{"if else", "if a {} else {}", 2},
		{"else if", "if a {} else if b {} else {}", 3},
		{"and, or", "x = a && b || c", 3},
		{"bits are no branches", "x = a & b | c", 1},
		{"for", "for {}; for range 3 {}; for i := 0; i < 3; i++ {}", 4},
		{"switch", "switch x { case 1, 2: case 3: default: }", 3},
		{"type switch", "switch x.(type) { case int: default: }", 2},
		{"select", "select { case <-c: case c <- 1: default: }", 3},
		{"functions inside", "f := func() { if a {} }; defer func() { for {} }(); f()", 3},
		{"goto", "L: goto L", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := facts("x.go", []byte("package p\nfunc simple() {}\nfunc f() { "+tt.body+" }\n"))
			if f.Problem != "" {
				t.Fatal(f.Problem)
			}
			if f.Complexity-1 != tt.want {
				t.Errorf("complexity of %q is %d, want %d", tt.body, f.Complexity-1, tt.want)
			}
			want := Function{"f", tt.want}
			if tt.want == 1 {
				want.Name = "simple" // the first
			}
			if f.Worst != want {
				t.Errorf("worst is %v, want %v", f.Worst, want)
			}
		})
	}
}

func lines(l ...string) string { return strings.Join(l, "\n") + "\n" }
