package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman"
)

// tree is a small module: app imports lib, and both fmt.
var tree = map[string]string{
	"go.mod":              "module example.com/m\n",
	"main.go":             "package main\n\nimport (\n\t\"example.com/m/lib\"\n\t\"fmt\"\n)\n\nfunc main() { fmt.Println(lib.Two()) }\n",
	"lib/lib.go":          "// Package lib counts.\npackage lib\n\nimport \"fmt\"\n\nfunc Two() string {\n\tif true && !false {\n\t\treturn fmt.Sprint(2)\n\t}\n\treturn \"\"\n}\n",
	"lib/lib_test.go":     "package lib\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) {}\n",
	"lib/gen.go":          "//go:build ignore\n\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(0) }\n",
	"lib/testdata/x.go":   "package {\n",
	"docs/readme.txt":     "no Go\n",
	".hidden/secret.go":   "package hidden\n",
	"dir.go/real/real.go": "package real\n",
}

func TestCodemap(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, tree)
	cache := t.TempDir()

	first := mustRun(t, dir, cache)
	check(t, "first run", first, levels{files: 6, upper: 1}, levels{})
	if first.Packages != 4 || first.Files != 6 || first.TestFiles != 1 || first.Functions != 4 {
		t.Errorf("first run: %+v", first.Report)
	}
	if first.Unparsable != 1 || first.UnparsableFiles[0].File != "lib/testdata/x.go" {
		t.Errorf("unparsable: %v", first.UnparsableFiles)
	}
	if want := (Ranked{"Two", "lib/lib.go", 3}); first.MostComplex[0] != want {
		t.Errorf("most complex: %v, want %v", first.MostComplex[0], want)
	}
	wantImported := []Ranked{{Name: "fmt", N: 2}, {Name: "example.com/m/lib", N: 1}}
	if !slices.Equal(first.MostImported, wantImported) {
		t.Errorf("most imported: %v, want %v", first.MostImported, wantImported)
	}

	second := mustRun(t, dir, cache)
	check(t, "second run", second, levels{}, levels{files: 6, upper: 1})
	if a, b := toJSON(t, first.Report), toJSON(t, second.Report); a != b {
		t.Errorf("the second run says\n%s\nthe first said\n%s", b, a)
	}

	write(t, dir, "lib/lib.go", tree["lib/lib.go"]+"\nfunc Three() int { return 3 }\n")
	edited := mustRun(t, dir, cache)
	check(t, "after an edit", edited, levels{files: 1, upper: 1}, levels{files: 5})
	if edited.Functions != first.Functions+1 || edited.Lines != first.Lines+2 {
		t.Errorf("after an edit: %d functions and %d lines", edited.Functions, edited.Lines)
	}

	remove(t, dir, "lib/gen.go")
	removed := mustRun(t, dir, cache)
	check(t, "after a file was removed", removed, levels{upper: 1}, levels{files: 5})
	if removed.Files != 5 || removed.Functions != edited.Functions-1 {
		t.Errorf("after a file was removed: %d files, %d functions", removed.Files, removed.Functions)
	}

	write(t, dir, "new/new.go", "package new\n\nimport \"fmt\"\n")
	added := mustRun(t, dir, cache)
	check(t, "after a file was added", added, levels{files: 1, upper: 1}, levels{files: 5})
	if added.Packages != 5 || added.MostImported[0].N != 3 {
		t.Errorf("after a file was added: %d packages, most imported %v", added.Packages, added.MostImported)
	}

	write(t, dir, "go.mod", "module example.com/other\n")
	renamed := mustRun(t, dir, cache)
	check(t, "after the module was renamed", renamed, levels{upper: 1}, levels{files: 6})
	if want := []Ranked{{Name: "fmt", N: 3}, {Name: "example.com/m/lib", N: 1}, {Name: "example.com/other/lib"}}; !slices.Equal(renamed.MostImported, want[:2]) {
		t.Errorf("after the module was renamed: most imported %v", renamed.MostImported)
	}

	check(t, "at the end", mustRun(t, dir, cache), levels{}, levels{files: 6, upper: 1})
}

// One directory of caches holds the maps of many trees.
func TestTwoTrees(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	a := writeTree(t, map[string]string{"a.go": "package a\n"})
	b := writeTree(t, map[string]string{"a.go": "package b\n", "b.go": "package b\n"})
	for round, built := range []int{1, 0} {
		for i, dir := range []string{a, b} {
			o := mustRun(t, dir, cache)
			if o.Files != i+1 || o.Levels[0].Built != built*(i+1) {
				t.Errorf("round %d, tree %d: %d files, %d built", round, i, o.Files, o.Levels[0].Built)
			}
		}
	}
}

// A file that cannot be read is named, and seen as soon as it can be.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir, cache := writeTree(t, tree), t.TempDir()
	seen, err := walk(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	seen.Files["lib/late.go"] = Stamp{Size: 12} // as if it had gone since
	for range 2 {
		caches, m := open(t, dir, cache, cacheman.Options{})
		unread, err := m.update(t.Context(), seen, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if len(unread) != 1 || unread[0].File != "lib/late.go" || strings.Contains(unread[0].Why, "late") {
			t.Errorf("unreadable: %v", unread)
		}
		report, err := m.report.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o := m.outcome(report, unread); o.Files != 6 || o.Unreadable != 1 {
			t.Errorf("%d files, %d unreadable", o.Files, o.Unreadable)
		}
		if err := caches.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "lib/late.go", "package lib\n")
	if o := mustRun(t, dir, cache); o.Files != 7 || o.Unreadable != 0 {
		t.Errorf("once readable: %d files, unreadable %v", o.Files, o.UnreadableFiles)
	}
}

// An interrupted run keeps what it built, and the next goes on from there.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 500 {
		files[fmt.Sprintf("p%d/f%d.go", i%7, i)] = "package p\n"
	}
	dir, cache := writeTree(t, files), t.TempDir()
	seen, err := walk(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var built atomic.Int32
	caches, m := open(t, dir, cache, cacheman.Options{Observe: func(e cacheman.Event) {
		if e.Kind == cacheman.EventBuilt && built.Add(1) == 100 {
			cancel()
		}
	}})
	if _, err := m.update(ctx, seen, io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted, and the error is %v", err)
	}
	if err := caches.Close(); err != nil {
		t.Fatal(err)
	}
	o := mustRun(t, dir, cache)
	if l := o.Levels[0]; l.Reused < 100 || l.Reused == 500 || l.Reused+l.Built != 500 {
		t.Errorf("interrupted when 100 of 500 were built; then %d were reused and %d built", l.Reused, l.Built)
	}

	var stdout, stderr bytes.Buffer
	code := run(ctx, time.Now(), []string{"-dir", dir, "-cache", cache, "-json"}, &stdout, &stderr)
	if code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d; it says %q", code, stderr.String())
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	empty := writeTree(t, map[string]string{"readme.txt": "no Go\n"})
	file := filepath.Join(empty, "readme.txt")
	good := writeTree(t, tree)
	tests := []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"no Go files", []string{"-dir", empty}, 2, "no Go files in " + empty},
		{"no directory", []string{"-dir", filepath.Join(empty, "none")}, 2, "none"},
		{"a file", []string{"-dir", file}, 2, file + " is not a directory"},
		{"an argument", []string{"-dir", good, "more"}, 2, `unexpected argument "more"`},
		{"a flag that is none", []string{"-fast"}, 2, "-fast"},
		{"help", []string{"-h"}, 0, "-html"},
		{"cache in a file", []string{"-dir", good, "-cache", file}, 1, file},
		{"page nowhere", []string{"-dir", good, "-html", filepath.Join(empty, "none", "x.html")}, 1, "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := tt.args
			if !slices.Contains(args, "-cache") {
				args = append([]string{"-cache", t.TempDir()}, args...)
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), time.Now(), args, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.say) {
				t.Errorf("exit status %d, want %d; it says %q, want %q in it", code, tt.code, stderr.String(), tt.say)
			}
			if stdout.Len() > 0 {
				t.Errorf("standard output: %q", stdout.String())
			}
		})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), time.Now(), []string{"-dir", writeTree(t, tree), "-cache", t.TempDir()}, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit status %d: %s", code, stderr.String())
	}
	for _, want := range []string{"6 files", "lib/testdata/x.go", "example.com/m/lib", "Two  lib/lib.go", "seconds"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}

// levels is what the levels had to do; the upper ones go together.
type levels struct{ files, upper int }

func check(t *testing.T, when string, o *Outcome, built, reused levels) {
	t.Helper()
	sumBuilt, sumReused := 0, 0
	for i, l := range o.Levels {
		wantBuilt, wantReused := built.upper, reused.upper*l.Entries
		if i == 0 {
			wantBuilt, wantReused = built.files, reused.files
		}
		if l.Built != wantBuilt || l.Reused != wantReused {
			t.Errorf("%s, %s: %d built and %d reused of %d, want %d and %d",
				when, l.Name, l.Built, l.Reused, l.Entries, wantBuilt, wantReused)
		}
		sumBuilt += l.Built
		sumReused += l.Reused
	}
	if o.Built != sumBuilt || o.Reused != sumReused {
		t.Errorf("%s: %d built and %d reused, in the levels %d and %d", when, o.Built, o.Reused, sumBuilt, sumReused)
	}
}

// open opens the caches of a tree as the program does.
func open(t *testing.T, dir, cache string, opts cacheman.Options) (*cacheman.Manager, *codemap) {
	t.Helper()
	caches, err := cacheman.Open(cache, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caches.Close() })
	m, err := register(caches, dir)
	if err != nil {
		t.Fatal(err)
	}
	return caches, m
}

// mustRun runs the program as with -json, and returns what it printed.
func mustRun(t *testing.T, dir, cache string, more ...string) *Outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := append([]string{"-dir", dir, "-cache", cache, "-json"}, more...)
	if code := run(t.Context(), time.Now(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit status %d: %s", code, stderr.String())
	}
	dec := json.NewDecoder(&stdout)
	dec.DisallowUnknownFields()
	var o Outcome
	if err := dec.Decode(&o); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatal("more than one object on standard output")
	}
	if o.Seconds <= 0 {
		t.Errorf("it took %v seconds", o.Seconds)
	}
	return &o
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir, name, text)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		t.Fatal(err)
	}
}
