package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/sync/errgroup"
)

// Tree is what a walk over a directory found. Paths are relative to it and
// have slashes; the directory itself is ".".
type Tree struct {
	Files   map[string]Stamp  // every Go file
	Modules map[string]string // directories where a module starts → the import path they stand for
	Unread  []Problem         // what the walk could not read
}

// Problem says what is wrong with a file or directory.
type Problem struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// problem is what err says about a file: its cause, for the name is known.
func problem(name string, err error) Problem {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return Problem{name, err.Error()}
}

// walk looks at every file below dir, on all processors. Of Go files it takes
// the size and the time of the last change; it reads nothing but the go.mod
// files. Hidden directories and symbolic links are left out.
func walk(ctx context.Context, dir string) (*Tree, error) {
	w := walker{dir: dir, tree: Tree{Files: map[string]Stamp{}, Modules: map[string]string{".": prefixAbove(dir)}}}
	w.group.SetLimit(runtime.GOMAXPROCS(0))
	err := w.visit(ctx, ".")
	err = cmp.Or(err, w.group.Wait())
	slices.SortFunc(w.tree.Unread, func(a, b Problem) int { return cmp.Compare(a.File, b.File) })
	return &w.tree, err
}

// walker is a walk under way.
type walker struct {
	dir   string
	group errgroup.Group
	mu    sync.Mutex // for what the tree holds
	tree  Tree
}

// visit looks at a directory and all below it. It leaves those below it to
// others where these have time.
func (w *walker) visit(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(w.path(dir))
	if err != nil && dir == "." {
		return err
	} else if err != nil {
		w.unread(dir, err)
	}
	for _, d := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := path.Join(dir, d.Name())
		switch {
		case d.IsDir():
			visit := func() error { return w.visit(ctx, name) }
			if strings.HasPrefix(d.Name(), ".") || w.group.TryGo(visit) {
				continue
			}
			if err := visit(); err != nil {
				return err
			}
		case !d.Type().IsRegular():
		case d.Name() == "go.mod":
			mod, err := os.ReadFile(w.path(name))
			if err != nil {
				w.unread(name, err)
			} else if module := modfile.ModulePath(mod); module != "" {
				w.mu.Lock()
				w.tree.Modules[dir] = importPath(module, ".")
				w.mu.Unlock()
			}
		case path.Ext(name) == ".go":
			info, err := d.Info()
			if err == nil {
				w.mu.Lock()
				w.tree.Files[name] = stampOf(info.Size(), info.ModTime())
				w.mu.Unlock()
			} else if !errors.Is(err, fs.ErrNotExist) { // it may just have gone
				w.unread(name, err)
			}
		}
	}
	return nil
}

func (w *walker) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *walker) unread(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.Unread = append(w.tree.Unread, problem(name, err))
}

// prefixAbove returns the import path of a directory inside a module, or "" if
// no directory above it has a go.mod file.
func prefixAbove(dir string) string {
	for above := filepath.Dir(dir); ; above = filepath.Dir(above) {
		if mod, err := os.ReadFile(filepath.Join(above, "go.mod")); err == nil {
			rel, _ := filepath.Rel(above, dir) // dir is below above
			return importPath(modfile.ModulePath(mod), filepath.ToSlash(rel))
		}
		if above == filepath.Dir(above) {
			return ""
		}
	}
}

// importPath is the path by which a directory of a module is imported. The
// standard library is a module too, but its name is not part of the path.
func importPath(module, dir string) string {
	if module == "std" {
		module = ""
	}
	if p := path.Join(module, dir); p != "." {
		return p
	}
	return ""
}
