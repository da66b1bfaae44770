package main

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman"
	"golang.org/x/mod/modfile"
)

// Tree says where in a tree there are Go files. Paths are relative to it and
// have slashes; the tree itself is ".".
type Tree struct {
	Dirs   []string  // directories with Go files, sorted
	Unread []Problem // directories that could not be read
}

// Problem says what is wrong with a file or directory.
type Problem struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// buildTree walks over the tree. It depends on the directories it looked into.
func (m *codemap) buildTree(ctx context.Context) (t Tree, err error) {
	err = m.walk(ctx, ".", &t)
	slices.Sort(t.Dirs)
	return t, err
}

// walk adds dir, and what is below it, to t. Hidden directories and symbolic
// links are left out.
func (m *codemap) walk(ctx context.Context, dir string, t *Tree) error {
	entries, err := m.files.ReadDir(ctx, m.path(dir))
	if why, ok := unreadable(err); ok && dir != "." {
		t.Unread = append(t.Unread, Problem{dir, why})
		return nil
	} else if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, isSource) {
		t.Dirs = append(t.Dirs, dir)
	}
	for _, e := range entries {
		if e.Type.IsDir() && !strings.HasPrefix(e.Name, ".") {
			if err := m.walk(ctx, path.Join(dir, e.Name), t); err != nil {
				return err
			}
		}
	}
	return nil
}

// isSource reports whether an entry of a directory is a file of Go source.
func isSource(e cacheman.DirEntry) bool { return e.Type.IsRegular() && path.Ext(e.Name) == ".go" }

// unreadable returns why a file or directory cannot be read, if that is what
// err says. Of the error that is kept only the text is left after a restart.
func unreadable(err error) (why string, ok bool) {
	if errors.Is(err, cacheman.ErrNotFound) {
		return "it is not there", true
	}
	kept, ok := errors.AsType[*cacheman.KeptError](err)
	if ok {
		why = kept.Text[strings.LastIndex(kept.Text, ": ")+1:] // the name is known
	}
	return strings.TrimSpace(why), ok
}

// importPath returns the path by which a directory of the tree is imported. It
// goes by the nearest go.mod file in or above it, or else is the path from the
// top of the tree. It depends on all go.mod files it looked for.
func (m *codemap) importPath(ctx context.Context, dir string) (string, error) {
	for at, below := m.path(dir), ""; ; at, below = filepath.Dir(at), path.Join(filepath.Base(at), below) {
		mod, err := m.files.Get(ctx, filepath.Join(at, "go.mod"))
		if _, none := unreadable(err); err != nil && !none {
			return "", err
		}
		switch module := modfile.ModulePath(mod); {
		case module == "std": // is a module too, but its name is not part of the path
			return below, nil
		case module != "":
			return path.Join(module, below), nil
		case at == filepath.Dir(at):
			return strings.TrimPrefix(dir, "."), nil
		}
	}
}
