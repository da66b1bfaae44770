package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/cacheman-go/cacheman"
	"golang.org/x/sync/errgroup"
)

// version is that of all levels. Raise it when the same source gives other
// results than before, and the next run makes all of them anew.
const version = "1"

// codemap is one tree and the caches of what is known of it. Each level is
// made from those above it, and goes when one of their entries changes.
type codemap struct {
	dir      string
	files    *cacheman.Cache[string, File]      // by path below dir; each built alone
	modules  *cacheman.Value[map[string]string] // set by hand: directory → import path
	packages *cacheman.Cache[string, Package]   // by directory; built as a whole
	imports  *cacheman.Cache[string, Imports]   // by import path; built as a whole
	report   *cacheman.Value[Report]
}

// register registers the caches of the tree at dir, which must be absolute.
// They carry its name, so that one Manager can hold the maps of many trees.
func register(c *cacheman.Manager, dir string) (*codemap, error) {
	m := &codemap{dir: dir}
	named := func(level string) string { return level + " of " + dir }
	var errs [5]error
	m.files, errs[0] = cacheman.Register(c, named("files"), cacheman.Spec[string, File]{
		Version: version,
		Build: func(_ context.Context, name string) (File, error) {
			return readFile(filepath.Join(dir, filepath.FromSlash(name)), name)
		},
	})
	m.modules, errs[1] = cacheman.RegisterValue(c, named("modules"), cacheman.Spec[cacheman.Single, map[string]string]{})
	m.packages, errs[2] = cacheman.Register(c, named("packages"), cacheman.Spec[string, Package]{
		Version:         version,
		BuildAll:        m.buildPackages,
		DependsOnChange: []string{named("files"), named("modules")},
	})
	m.imports, errs[3] = cacheman.Register(c, named("imports"), cacheman.Spec[string, Imports]{
		Version:         version,
		BuildAll:        m.buildImports,
		DependsOnChange: []string{named("packages")},
	})
	m.report, errs[4] = cacheman.RegisterValue(c, named("report"), cacheman.Spec[cacheman.Single, Report]{
		Version:         version,
		Build:           func(ctx context.Context, _ cacheman.Single) (Report, error) { return m.buildReport(ctx) },
		DependsOnChange: []string{named("files"), named("packages"), named("imports")},
	})
	return m, errors.Join(errs[:]...)
}

// walk walks over the tree. What is known of its files is read meanwhile, for
// that takes about as long, and needs no disk but a processor.
func (m *codemap) walk(ctx context.Context) (*Tree, error) {
	var tree *Tree
	var g errgroup.Group
	g.Go(func() (err error) {
		tree, err = walk(ctx, m.dir)
		return err
	})
	for range m.files.All() {
	}
	err := g.Wait()
	return tree, err
}

// update brings the files up to date with the tree: what is gone is deleted,
// what has changed or is new is built, and the rest is not even read. It
// returns what could not be read. Progress goes to w.
func (m *codemap) update(ctx context.Context, tree *Tree, w io.Writer) ([]Problem, error) {
	if known, _ := m.modules.Peek(); !maps.Equal(known, tree.Modules) {
		if err := m.modules.Set(tree.Modules); err != nil {
			return nil, err
		}
	}
	for name := range m.files.Keys() {
		if _, ok := tree.Files[name]; !ok {
			if err := m.files.Delete(name); err != nil {
				return nil, err
			}
		}
	}
	var stale []string
	for name, stamp := range tree.Files {
		if f, ok := m.files.Peek(name); !ok || f.Stamp != stamp {
			stale = append(stale, name)
		}
	}
	if len(stale) == 0 {
		return nil, nil
	}
	// What was known of them is wrong. For those that are new nothing was, and
	// building them would be no change to the levels that never saw them.
	if err := errors.Join(m.files.Invalidate(stale...), m.files.Touch()); err != nil {
		return nil, err
	}
	slices.Sort(stale)
	return m.build(ctx, stale, w)
}

// build builds the facts of files, on all processors. A file that cannot be
// read is a problem, but no reason to stop.
func (m *codemap) build(ctx context.Context, names []string, w io.Writer) ([]Problem, error) {
	bar := newProgress(w, len(names))
	defer bar.Exit()
	var mu sync.Mutex
	var unread []Problem
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			defer bar.Add(1)
			_, err := m.files.Get(ctx, name)
			if _, ok := errors.AsType[*fs.PathError](err); !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			unread = append(unread, problem(name, err))
			return nil
		})
	}
	return unread, cmp.Or(g.Wait(), ctx.Err())
}

// outcome sums up a run: what is known, and how much of it was made anew.
func (m *codemap) outcome(report Report, unread []Problem) *Outcome {
	o := &Outcome{
		Dir:             m.dir,
		Report:          report,
		Unreadable:      len(unread),
		UnreadableFiles: append([]Problem{}, unread...),
	}
	add := func(name string, entries int, whole bool, builds int64) {
		l := Level{Name: name, Entries: entries, Built: int(builds)}
		if !whole || builds == 0 {
			l.Reused = max(entries-l.Built, 0)
		}
		o.Levels = append(o.Levels, l)
		o.Built += l.Built
		o.Reused += l.Reused
	}
	add("files", m.files.Len(), false, m.files.Stats().Builds)
	add("packages", m.packages.Len(), true, m.packages.Stats().Builds)
	add("imports", m.imports.Len(), true, m.imports.Stats().Builds)
	add("report", 1, true, m.report.Stats().Builds)
	return o
}
