package main

import (
	"context"
	"path"
	"slices"
	"strings"
)

// Package is what is known of one directory with Go files.
type Package struct {
	Name      string // from its package clauses; "" if there are none to go by
	Path      string // by which it is imported
	Files     int
	TestFiles int
	Counts           // of all files
	Tests     Counts // of the test files among them
	Worst     Function
	WorstIn   string   // the file that has it
	Imports   []string // by its files, tests and ignored files aside
}

// buildPackages makes the packages from the facts of their files.
func (m *codemap) buildPackages(context.Context) (map[string]Package, error) {
	modules, _ := m.modules.Peek()
	packages := map[string]Package{}
	for name, f := range m.files.All() {
		dir := path.Dir(name)
		p := packages[dir]
		p.add(name, f)
		packages[dir] = p
	}
	for dir, p := range packages {
		p.Path = pathOf(dir, modules)
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		packages[dir] = p
	}
	return packages, nil
}

func (p *Package) add(name string, f File) {
	p.Files++
	p.Counts.add(f.Counts)
	if f.Test {
		p.TestFiles++
		p.Tests.add(f.Counts)
	} else if !f.Ignored {
		p.Imports = append(p.Imports, f.Imports...)
	}
	if named := !f.Test && !f.Ignored && f.Package != ""; named || p.Name == "" {
		p.Name = strings.TrimSuffix(f.Package, "_test")
	}
	if w := f.Worst; w.Complexity > p.Worst.Complexity || w.Complexity == p.Worst.Complexity && name < p.WorstIn {
		p.Worst, p.WorstIn = w, name
	}
}

// pathOf returns the import path of a directory: that of the nearest directory
// above it where a module starts, and the way from there.
func pathOf(dir string, modules map[string]string) string {
	for above := dir; ; above = path.Dir(above) {
		if prefix, ok := modules[above]; ok || above == "." {
			rel := strings.TrimPrefix(strings.TrimPrefix(dir, above), "/")
			if above == "." {
				rel = dir
			}
			return importPath(prefix, rel)
		}
	}
}

// inBuild reports whether the go command would build packages in dir by
// itself. It passes over testdata, and names that start with "_" or ".".
func inBuild(dir string) bool {
	for elem := range strings.SplitSeq(dir, "/") {
		if elem == "testdata" || elem != "." && (elem[0] == '_' || elem[0] == '.') {
			return false
		}
	}
	return true
}
