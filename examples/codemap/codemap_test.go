package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
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
	check(t, "first run", first, 17, builds{"facts": 6, "tree": 1, "packages": 4, "needs": 4, "imports": 1, "report": 1})
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
	check(t, "second run", second, 0, nil)
	if a, b := toJSON(t, first.Report), toJSON(t, second.Report); a != b {
		t.Errorf("the second run says\n%s\nthe first said\n%s", b, a)
	}
}

// TestChanges: after each change exactly that is built which the change can have
// to do with, and what is made of it, until something comes out as it was.
func TestChanges(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, tree)
	cache := t.TempDir()
	mustRun(t, dir, cache)
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name   string
		change func()
		total  int
		built  builds
		files  int
		lines  int // more than before
	}{
		{
			// A line more in the package and the report, but the imports stay.
			"a comment was added", func() { write(t, dir, "lib/lib.go", tree["lib/lib.go"]+"// The end.\n") },
			4, builds{"facts": 1, "packages": 1, "needs": 1, "report": 1}, 6, 1,
		},
		{
			"a file was touched", func() {
				if err := os.Chtimes(filepath.Join(dir, "main.go"), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
			},
			0, nil, 6, 0,
		},
		{
			"a file was written as it is", func() { write(t, dir, "lib/gen.go", tree["lib/gen.go"]) },
			0, nil, 6, 0,
		},
		{
			// The walk is made again, and finds the same directories.
			"a file was added", func() { write(t, dir, "lib/more.go", "package lib\n") },
			5, builds{"facts": 1, "tree": 1, "packages": 1, "needs": 1, "report": 1}, 7, 1,
		},
		{
			// There are facts of another name, but the package comes out as it was.
			"a file was renamed", func() { move("lib/more.go", "lib/most.go") },
			3, builds{"facts": 1, "tree": 1, "packages": 1}, 7, 0,
		},
		{
			// The report says where the functions are.
			"a file with functions was renamed", func() { move("lib/gen.go", "lib/tool.go") },
			5, builds{"facts": 1, "tree": 1, "packages": 1, "needs": 1, "report": 1}, 7, 0,
		},
		{
			"a file was removed", func() { remove(t, dir, "lib/most.go") },
			4, builds{"tree": 1, "packages": 1, "needs": 1, "report": 1}, 6, -1,
		},
		{
			"an import was added", func() { write(t, dir, "lib/tool.go", "package lib\n\nimport _ \"io\"\n\n\n\n\n") },
			5, builds{"facts": 1, "packages": 1, "needs": 1, "imports": 1, "report": 1}, 6, 0,
		},
		{
			// Also the package above, whose directory has an entry more; it comes
			// out as it was.
			"a package was added", func() { write(t, dir, "new/new.go", "package new\n\nimport _ \"fmt\"\n") },
			7, builds{"facts": 1, "tree": 1, "packages": 2, "needs": 1, "imports": 1, "report": 1}, 7, 3,
		},
		{
			"the module was renamed", func() { write(t, dir, "go.mod", "module example.com/other\n") },
			12, builds{"packages": 5, "needs": 5, "imports": 1, "report": 1}, 7, 0,
		},
		{
			// What is no source concerns those who have looked at the directory.
			"a text was added", func() { write(t, dir, "lib/readme.txt", "no Go\n") },
			2, builds{"tree": 1, "packages": 1}, 7, 0,
		},
	} {
		before := mustRun(t, dir, cache)
		check(t, "before "+step.name, before, 0, nil)
		step.change()
		o := mustRun(t, dir, cache)
		check(t, step.name, o, step.total, step.built)
		if o.Files != step.files || o.Lines != before.Lines+step.lines {
			t.Errorf("%s: %d files and %d lines, want %d and %d", step.name, o.Files, o.Lines, step.files, before.Lines+step.lines)
		}
		if a, b := toJSON(t, o.Report), toJSON(t, mustRun(t, dir, t.TempDir()).Report); a != b {
			t.Errorf("%s: the report is\n%s\nmade from nothing it is\n%s", step.name, a, b)
		}
	}
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

// What cannot be read is named, and seen as soon as it can be.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir, cache := writeTree(t, tree), t.TempDir()
	file := filepath.Join(dir, "lib", "lib.go")
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(file); err == nil {
		t.Skip("this user can read everything")
	}
	for range 2 {
		o := mustRun(t, dir, cache)
		if o.Files != 6 || o.Unreadable != 1 || o.UnreadableFiles[0] != (Problem{"lib/lib.go", "permission denied"}) {
			t.Errorf("%d files, unreadable: %v", o.Files, o.UnreadableFiles)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	o := mustRun(t, dir, cache)
	check(t, "once readable", o, 5, builds{"facts": 1, "packages": 1, "needs": 1, "imports": 1, "report": 1})
	if o.Unreadable != 0 {
		t.Errorf("once readable: %v", o.UnreadableFiles)
	}
}

// What nobody can read is none, and no reason for the next run to fail.
func TestUnreadableModule(t *testing.T) {
	t.Parallel()
	dir, cache := writeTree(t, map[string]string{"go.mod/readme.txt": "a directory\n", "a/a.go": "package a\n"}), t.TempDir()
	if o := mustRun(t, dir, cache); o.Packages != 1 || o.Largest[0].Name != "a" {
		t.Errorf("%+v", o.Report)
	}
	check(t, "second run", mustRun(t, dir, cache), 0, nil)
}

// A file may go between two looks at it.
func TestGone(t *testing.T) {
	t.Parallel()
	dir, cache := writeTree(t, tree), t.TempDir()
	for _, want := range []Facts{{Unread: "it is not there"}, {Package: "late", Counts: Counts{Lines: 1, Code: 1}}} {
		caches, m := open(t, dir, cache, cacheman.Options{})
		if f, err := m.facts.Get(t.Context(), "late.go"); err != nil || toJSON(t, f) != toJSON(t, want) {
			t.Errorf("%+v, %v, want %+v", f, err, want)
		}
		if err := caches.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "late.go", "package late\n")
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
	ctx, cancel := context.WithCancel(t.Context())
	var built atomic.Int32
	caches, m := open(t, dir, cache, cacheman.Options{Observe: func(e cacheman.Event) {
		if e.Kind == cacheman.EventBuilt && e.Cache == "facts of "+dir && built.Add(1) == 100 {
			cancel()
		}
	}})
	if _, err := m.update(ctx, io.Discard); !errors.Is(err, context.Canceled) {
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

// That an interrupted run has saved what it built is said only if it has.
func TestInterruptedUnsaved(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	full := errors.New("the disk is full")
	if err := ended(ctx, nil, nil); err != nil {
		t.Errorf("got %v", err)
	}
	if err := ended(ctx, nil, full); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := ended(ctx, ctx.Err(), nil); err != errInterrupted {
		t.Errorf("got %v", err)
	}
	if err := ended(ctx, ctx.Err(), full); !errors.Is(err, full) || errors.Is(err, errInterrupted) {
		t.Errorf("got %v", err)
	}
}

// A program built with -trimpath does not know where Go was. It asks, and does not
// take a directory named src for it that happens to be there.
func TestTrimmedPath(t *testing.T) {
	was := build.Default.GOROOT
	t.Cleanup(func() { build.Default.GOROOT = was })
	build.Default.GOROOT = ""
	t.Chdir(writeTree(t, map[string]string{"src/a.go": "package a\n"}))
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip(err)
	}
	want := filepath.Join(strings.TrimSpace(string(out)), "src")
	if got, err := treeRoot(t.Context(), ""); got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
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

// TestWhy: of each entry that was built it is said why, and of no other.
func TestWhy(t *testing.T) {
	t.Parallel()
	dir, cache := writeTree(t, tree), t.TempDir()
	why := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), time.Now(), append(args, "-dir", dir, "-cache", cache, "-why"), &stdout, &stderr); code != 0 {
			t.Fatalf("exit status %d: %s", code, stderr.String())
		}
		_, why, _ := strings.Cut(stdout.String(), "What was built, and why\n")
		return why
	}
	if first := why(); strings.Count(first, ": it was not there\n") != 17 {
		t.Errorf("first run:\n%s", first)
	}
	write(t, dir, "lib/lib.go", tree["lib/lib.go"]+"// a comment\n")
	lines := strings.Split(why(), "\n")
	want := []string{
		fmt.Sprintf("  facts lib/lib.go: files[%q] has changed", filepath.Join(dir, "lib", "lib.go")),
		`  packages lib: facts["lib/lib.go"] has changed`,
		`  needs lib: packages["lib"] has changed`,
		`  report: packages["lib"] has changed`,
	}
	if len(lines) < len(want) || !slices.Equal(lines[:len(want)], want) {
		t.Errorf("after a comment:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if third := why(); third != "" {
		t.Errorf("third run:\n%s", third)
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

// builds is how often the builders of the levels ran.
type builds map[string]int

func check(t *testing.T, when string, o *Outcome, total int, want builds) {
	t.Helper()
	entries := 0
	for _, l := range o.Levels {
		entries += l.Entries
		if l.Built != want[l.Name] || l.Reused != l.Entries-l.Built {
			t.Errorf("%s, %s: %d built and %d reused of %d, want %d built", when, l.Name, l.Built, l.Reused, l.Entries, want[l.Name])
		}
	}
	if o.Built != total || o.Reused != entries-total {
		t.Errorf("%s: %d built and %d reused of %d, want %d built", when, o.Built, o.Reused, entries, total)
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
