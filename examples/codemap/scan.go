package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
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

// walk looks at every file below dir. Of Go files it takes the size and the
// time of the last change; it reads nothing but the go.mod files. Hidden
// directories and symbolic links are left out.
func walk(ctx context.Context, dir string) (*Tree, error) {
	t := &Tree{Files: map[string]Stamp{}, Modules: map[string]string{".": prefixAbove(dir)}}
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && name == ".":
			return err
		case err != nil:
			t.Unread = append(t.Unread, problem(name, err))
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.Type().IsRegular():
		case d.Name() == "go.mod":
			mod, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Unread = append(t.Unread, problem(name, err))
			} else if module := modfile.ModulePath(mod); module != "" {
				t.Modules[path.Dir(name)] = importPath(module, ".")
			}
		case path.Ext(name) == ".go":
			info, err := d.Info()
			if err == nil {
				t.Files[name] = stampOf(info.Size(), info.ModTime())
			} else if !errors.Is(err, fs.ErrNotExist) { // it may just have gone
				t.Unread = append(t.Unread, problem(name, err))
			}
		}
		return nil
	})
	return t, err
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
