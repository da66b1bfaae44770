package cacheman

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSecondRunSavesNothing: a run in which nothing has changed builds nothing and saves
// nothing, whatever builders have read.
func TestSecondRunSavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.txt", "b.txt", "sub/c.txt"} {
		ok(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777))
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o666))
	}
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"a.txt", "b.txt", "sub/c.txt", "sub", "."} {
		ok(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	d := newDisk()
	for round := range 4 {
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		ctx := t.Context()
		files := must(OpenFiles(m))
		env := must(Env(m))
		in := must(Register(m, "in", Spec[string, int]{}))
		memory := must(Register(m, "memory", Spec[string, int]{Memory: true, Build: func(ctx context.Context, k string) (int, error) { return in.Get(ctx, k) }}))
		all := must(Register(m, "all", Spec[string, int]{BuildAll: func(ctx context.Context) (map[string]int, error) {
			n, err := in.Get(ctx, "x")
			return map[string]int{"a": n, "b": 2}, err
		}}))
		half := must(Select(in, "half", Spec[string, int]{}, func(n int) int { return n / 2 }))
		runs := 0
		kinds := map[string]func(ctx context.Context) error{
			"content":          func(ctx context.Context) error { _, err := files.Get(ctx, dir+"/a.txt"); return err },
			"hash":             func(ctx context.Context) error { _, err := files.Hash(ctx, dir+"/b.txt"); return err },
			"no file":          func(ctx context.Context) error { _, err := files.Get(ctx, dir+"/none"); return err },
			"no dir":           func(ctx context.Context) error { _, err := files.Get(ctx, dir+"/no/no/none"); return err },
			"in file":          func(ctx context.Context) error { files.Stat(ctx, dir+"/a.txt/none"); return nil },
			"stat":             func(ctx context.Context) error { _, err := files.Stat(ctx, dir+"/sub/c.txt"); return err },
			"exists":           func(ctx context.Context) error { _, err := files.Exists(ctx, dir+"/sub/d.txt"); return err },
			"readdir":          func(ctx context.Context) error { _, err := files.ReadDir(ctx, dir); return err },
			"read file as dir": func(ctx context.Context) error { files.ReadDir(ctx, dir+"/a.txt"); return nil },
			"read dir as file": func(ctx context.Context) error { files.Get(ctx, dir+"/sub"); return nil },
			"glob":             func(ctx context.Context) error { _, err := fs.Glob(files.FS(ctx, dir), "*/*.txt"); return err },
			"walk": func(ctx context.Context) error {
				return fs.WalkDir(files.FS(ctx, dir), ".", func(string, fs.DirEntry, error) error { return nil })
			},
			"env":      func(ctx context.Context) error { _, err := env.Get(ctx, "HOME"); return err },
			"no env":   func(ctx context.Context) error { _, err := env.Get(ctx, "CACHEMAN_NONE"); return err },
			"now":      func(ctx context.Context) error { _, err := Now(ctx, 1000*time.Hour); return err },
			"expire":   func(ctx context.Context) error { return ExpireAt(ctx, old.Add(1000*time.Hour)) },
			"input":    func(ctx context.Context) error { _, err := in.Get(ctx, "x"); return err },
			"none":     func(ctx context.Context) error { _, err := in.Get(ctx, "none"); return err },
			"keys":     func(ctx context.Context) error { _, err := in.CollectKeys(ctx); return err },
			"collect":  func(ctx context.Context) error { _, err := in.Collect(ctx); return err },
			"count":    func(ctx context.Context) error { _, err := in.Count(ctx); return err },
			"contains": func(ctx context.Context) error { _, err := in.Contains(ctx, "y"); return err },
			"memory":   func(ctx context.Context) error { _, err := memory.Get(ctx, "x"); return err },
			"all":      func(ctx context.Context) error { _, err := all.Get(ctx, "a"); return err },
			"all keys": func(ctx context.Context) error { _, err := all.Count(ctx); return err },
			"select":   func(ctx context.Context) error { _, err := half.Get(ctx, "x"); return err },
			"kept": func(ctx context.Context) error {
				_, err := in.Get(ctx, "x")
				return errors.Join(err, Keep(errors.New("wrong")))
			},
		}
		c := must(Register(m, "c", Spec[string, string]{Build: func(ctx context.Context, k string) (string, error) {
			runs++
			return k, kinds[k](ctx)
		}}))
		if round == 0 {
			ok(t, in.Set("x", 10))
			ok(t, in.Set("y", 11))
		}
		before := d.count()
		for k := range kinds {
			if _, err := c.Get(ctx, k); err != nil && !errors.Is(err, ErrNotFound) && k != "kept" {
				t.Errorf("%s: %v", k, err)
			}
		}
		if round > 0 {
			for _, st := range m.Stats() {
				if st.Edits > 0 || st.Dirty > 0 {
					t.Errorf("round %d: %s has %d edits, %d unsaved", round, st.Cache, st.Edits, st.Dirty)
				}
			}
			equal(t, "runs", runs, 0)
		}
		ok(t, m.Close())
		if round > 0 {
			equal(t, "batches", d.count()-before, 0)
		}
	}
}
