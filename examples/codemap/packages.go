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
	Needs     Needs
	Files     int
	TestFiles int
	Counts             // of all files
	Tests     Counts   // of the test files among them
	Worst     []Ranked // the most complex function of each file, as far as a report may name it
	Unparsed  []Problem
	Unread    []Problem
}

// Needs is the part of a package that imports are made from. Most changes to a
// package leave it as it is.
type Needs struct {
	Path    string   // by which it is imported
	Imports []string // by its files, tests and ignored files aside
}

// buildPackage makes a package from the facts of its files.
func (m *codemap) buildPackage(ctx context.Context, dir string) (p Package, err error) {
	entries, err := m.files.ReadDir(ctx, m.path(dir))
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if !isSource(e) {
			continue
		}
		name := path.Join(dir, e.Name)
		f, err := m.facts.Get(ctx, name)
		if err != nil {
			return p, err
		}
		p.add(name, f)
	}
	p.Worst = first(p.Worst)
	slices.Sort(p.Needs.Imports)
	p.Needs.Imports = slices.Compact(p.Needs.Imports)
	p.Needs.Path, err = m.importPath(ctx, dir)
	return p, err
}

func (p *Package) add(name string, f Facts) {
	p.Files++
	p.Counts.add(f.Counts)
	if f.Test {
		p.TestFiles++
		p.Tests.add(f.Counts)
	} else if !f.Ignored {
		p.Needs.Imports = append(p.Needs.Imports, f.Imports...)
	}
	if named := !f.Test && !f.Ignored && f.Package != ""; named || p.Name == "" {
		p.Name = strings.TrimSuffix(f.Package, "_test")
	}
	p.Worst = append(p.Worst, Ranked{f.Worst.Name, name, f.Worst.Complexity})
	if f.Problem != "" {
		p.Unparsed = append(p.Unparsed, Problem{name, f.Problem})
	}
	if f.Unread != "" {
		p.Unread = append(p.Unread, Problem{name, f.Unread})
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
