package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/cacheman-go/cacheman"
	"golang.org/x/sync/errgroup"
)

// version is that of all levels. Raise it when the same source gives other
// results than before, and the next run makes all of them anew.
const version = "3"

// codemap is one tree and the caches of what is known of it. Nothing says what
// depends on what: each builder reads what it needs, and that is recorded.
type codemap struct {
	dir      string
	files    *cacheman.Files                   // the world outside
	facts    *cacheman.Cache[string, Facts]    // by path of the file below dir
	tree     *cacheman.Value[Tree]             // where there are packages
	packages *cacheman.Cache[string, Package]  // by directory below dir
	needs    *cacheman.Cache[string, Needs]    // likewise; the part of a package that imports are made from
	imports  *cacheman.Value[map[string]Usage] // by import path
	report   *cacheman.Value[Report]
}

// register registers the caches of the tree at dir, which must be absolute.
// They carry its name, so that one Manager can hold the maps of many trees.
func register(c *cacheman.Manager, dir string) (*codemap, error) {
	m := &codemap{dir: dir}
	named := func(level string) string { return level + " of " + dir }
	var errs [7]error
	m.files, errs[0] = cacheman.OpenFiles(c)
	m.facts, errs[1] = cacheman.Register(c, named("facts"), cacheman.Spec[string, Facts]{
		Version: version,
		Build:   m.buildFacts,
	})
	m.tree, errs[2] = cacheman.RegisterValue(c, named("tree"), cacheman.Spec[cacheman.Single, Tree]{
		Version: version,
		Build:   func(ctx context.Context, _ cacheman.Single) (Tree, error) { return m.buildTree(ctx) },
	})
	m.packages, errs[3] = cacheman.Register(c, named("packages"), cacheman.Spec[string, Package]{
		Version: version,
		Build:   m.buildPackage,
	})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	m.needs, errs[4] = cacheman.Select(m.packages, named("needs"), cacheman.Spec[string, Needs]{
		Version: version,
	}, func(p Package) Needs { return p.Needs })
	m.imports, errs[5] = cacheman.RegisterValue(c, named("imports"), cacheman.Spec[cacheman.Single, map[string]Usage]{
		Version: version,
		Build:   func(ctx context.Context, _ cacheman.Single) (map[string]Usage, error) { return m.buildImports(ctx) },
	})
	m.report, errs[6] = cacheman.RegisterValue(c, named("report"), cacheman.Spec[cacheman.Single, Report]{
		Version: version,
		Build:   func(ctx context.Context, _ cacheman.Single) (Report, error) { return m.buildReport(ctx) },
	})
	return m, errors.Join(errs[:]...)
}

// path is where the operating system has a file or directory of the tree.
func (m *codemap) path(name string) string { return filepath.Join(m.dir, filepath.FromSlash(name)) }

// update asks for all there is, the packages on all processors. Whatever still
// holds is not built, and no file read that looks as it did. Progress goes to w.
func (m *codemap) update(ctx context.Context, w io.Writer) (Report, error) {
	tree, err := m.tree.Get(ctx)
	if err != nil {
		return Report{}, err
	}
	bar := newProgress(w, len(tree.Dirs))
	defer bar.Exit()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for some := range slices.Chunk(tree.Dirs, 16) {
		g.Go(func() error {
			for _, dir := range some {
				if _, err := m.needs.Get(ctx, dir); err != nil {
					return err
				}
				bar.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	return m.report.Get(ctx)
}

// outcome sums up a run: what is known, and how much of it was made anew.
func (m *codemap) outcome(report Report) *Outcome {
	o := &Outcome{Dir: m.dir, Report: report}
	add := func(name string, entries int, builds int64) {
		l := Level{Name: name, Entries: entries, Built: int(builds), Reused: entries - int(builds)}
		o.Levels = append(o.Levels, l)
		o.Built += l.Built
		o.Reused += l.Reused
	}
	add("facts", report.Files, m.facts.Stats().Builds)
	add("tree", 1, m.tree.Stats().Builds)
	add("packages", report.Packages, m.packages.Stats().Builds)
	add("needs", report.Packages, m.needs.Stats().Builds)
	add("imports", 1, m.imports.Stats().Builds)
	add("report", 1, m.report.Stats().Builds)
	return o
}
