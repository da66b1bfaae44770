package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
	"github.com/fsnotify/fsnotify"
)

// world is a directory that is watched, and a cache of what is in its files.
type world struct {
	*testing.T
	dir     string
	w       *Watcher
	texts   *cacheman.Cache[string, string]
	builds  atomic.Int64
	reports chan error
}

func watched(t *testing.T, roots ...string) *world {
	t.Helper()
	x := untold(t, roots...)
	go x.w.run()
	return x
}

// untold is a world in which what the system has said is not passed on yet.
func untold(t *testing.T, roots ...string) *world {
	t.Helper()
	dir := t.TempDir()
	if len(roots) == 0 {
		roots = []string{dir}
	}
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	files, err := cacheman.OpenFiles(m)
	if err != nil {
		t.Fatal(err)
	}
	x := &world{T: t, dir: dir, reports: make(chan error, 100)}
	x.texts, err = cacheman.Register(m, "texts", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, name string) (string, error) {
			x.builds.Add(1)
			text, err := files.Get(ctx, name)
			if errors.Is(err, cacheman.ErrNotFound) {
				return "nothing", nil
			}
			if _, kept := errors.AsType[*cacheman.KeptError](err); kept {
				return "an error", nil
			}
			return string(text), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if x.w, err = watch(m, func(err error) { x.reports <- err }, roots...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.w.Close() })
	return x
}

func (x *world) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *world) path(name string) string { return filepath.Join(x.dir, name) }

func (x *world) write(name, text string) {
	x.Helper()
	x.ok(os.MkdirAll(filepath.Dir(x.path(name)), 0o777))
	x.ok(os.WriteFile(x.path(name), []byte(text), 0o666))
}

// want waits until a file is seen to hold text.
func (x *world) want(name, text string) {
	x.Helper()
	x.wantPath(x.path(name), text)
}

func (x *world) wantPath(path, text string) {
	x.Helper()
	var got string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var err error
		if got, err = x.texts.Get(x.Context(), path); err != nil {
			x.Fatal(err)
		}
		if got == text {
			return
		}
	}
	x.Fatalf("%s is seen to hold %q, not %q", path, got, text)
}

func TestChanges(t *testing.T) {
	x := watched(t)
	x.want("a", "nothing")
	x.write("b", "b")
	x.want("b", "b")
	x.write("a", "one")
	x.want("a", "one")
	x.write("a", "two")
	x.want("a", "two")
	x.write("new", "renamed onto it")
	x.ok(os.Rename(x.path("new"), x.path("a")))
	x.want("a", "renamed onto it")
	x.ok(os.Remove(x.path("a")))
	x.want("a", "nothing")
	before := x.builds.Load()
	x.want("b", "b")
	if n := x.builds.Load() - before; n != 0 {
		t.Errorf("what has not changed was built %d times", n)
	}
}

// What is made in a directory before that is watched is seen, and so is what
// happens there later.
func TestDirectories(t *testing.T) {
	x := watched(t)
	x.want("d/e/f/a", "nothing")
	x.write("d/e/f/a", "one")
	x.want("d/e/f/a", "one")
	x.write("d/e/f/a", "two")
	x.want("d/e/f/a", "two")
	x.want("moved/e/f/a", "nothing")
	x.ok(os.Rename(x.path("d"), x.path("moved")))
	x.want("d/e/f/a", "nothing")
	x.want("moved/e/f/a", "two")
	x.write("moved/e/f/a", "three")
	x.want("moved/e/f/a", "three")
	x.write("moved/e/f/new/b", "b")
	x.want("moved/e/f/new/b", "b")
	x.ok(os.RemoveAll(x.path("moved")))
	x.want("moved/e/f/a", "nothing")
	x.write("moved/e/f/a", "back")
	x.want("moved/e/f/a", "back")
}

// What is beneath a name is seen to change when the name becomes a file that is no
// directory, or is one no more.
func TestBeneathAFile(t *testing.T) {
	x := watched(t)
	blocked := "an error"
	x.write("x", "")
	if _, err := os.Stat(x.path("x/f")); errors.Is(err, fs.ErrNotExist) {
		blocked = "nothing" // the system does not tell the two apart
	}
	for range 2 {
		x.want("x/f", blocked)
		x.ok(os.Remove(x.path("x")))
		x.want("x/f", "nothing")
		x.write("x", "")
		x.want("x/f", blocked)
		x.ok(os.Remove(x.path("x")))
		x.write("x/f", "text")
		x.want("x/f", "text")
		x.ok(os.RemoveAll(x.path("x")))
		x.write("x", "")
	}
}

// What was read beneath a directory, or a link to one, of which the Watcher has not been told is
// gone when it is told and a file is there, which may have been replaced meanwhile.
func TestToldLate(t *testing.T) {
	for name, come := range map[string]func(x *world, name string) error{
		"directory": func(x *world, name string) error {
			return errors.Join(os.Mkdir(name, 0o777), os.WriteFile(filepath.Join(name, "f"), []byte("text"), 0o666))
		},
		"link": func(x *world, name string) error {
			dir := x.TempDir()
			return errors.Join(os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o666), os.Symlink(dir, name))
		},
	} {
		for replaced := range 2 {
			t.Run(fmt.Sprintf("%s %d", name, replaced), func(t *testing.T) {
				x := untold(t)
				if err := come(x, x.path("x")); err != nil {
					x.Skip(err) // a link takes a right on Windows
				}
				if text := must(x.texts.Get(x.Context(), x.path("x/f"))); text != "text" {
					x.Fatalf("it is %q", text)
				}
				x.ok(os.RemoveAll(x.path("x")))
				x.write("x", "")
				gone := "an error"
				if _, err := os.Stat(x.path("x/f")); errors.Is(err, fs.ErrNotExist) {
					gone = "nothing" // the system does not tell the two apart
				}
				if replaced > 0 {
					x.w.changed(<-x.w.notify.Events)
					other := filepath.Join(x.TempDir(), "other")
					x.ok(os.WriteFile(other, nil, 0o666))
					x.ok(os.Rename(other, x.path("x")))
				}
				go x.w.run()
				x.want("x/f", gone)
			})
		}
	}
}

// What is beneath a link to a directory is gone when the link is, or is a file.
func TestLinkGoes(t *testing.T) {
	x := watched(t)
	elsewhere := t.TempDir()
	x.ok(os.WriteFile(filepath.Join(elsewhere, "f"), []byte("text"), 0o666))
	link := func(name string) {
		t.Helper()
		if err := os.Symlink(elsewhere, x.path(name)); err != nil {
			if runtime.GOOS != "windows" { // where it takes a right
				t.Fatal(err)
			}
			t.Skip(err)
		}
		x.want(name+"/f", "text")
	}
	link("l")
	x.ok(os.Remove(x.path("l")))
	x.want("l/f", "nothing")
	link("l")
	x.write("file", "")
	x.ok(os.Rename(x.path("file"), x.path("l")))
	_, err := os.Stat(x.path("l/f"))
	gone := "an error"
	if errors.Is(err, fs.ErrNotExist) {
		gone = "nothing" // the system does not tell the two apart
	}
	x.want("l/f", gone)
	x.ok(os.MkdirAll(x.path("new"), 0o777))
	link("new/l") // in a directory that is moved, as in one that was there before
	x.ok(os.Rename(x.path("new"), x.path("moved")))
	x.want("moved/l/f", "text")
	x.ok(os.Remove(x.path("moved/l")))
	x.want("moved/l/f", "nothing")
}

// A link that was there before is known, too.
func TestLinkThatWasThere(t *testing.T) {
	x := watched(t)
	x.ok(x.w.Close())
	x.write("elsewhere/f", "text")
	if err := os.Symlink(x.path("elsewhere"), x.path("l")); err != nil {
		if runtime.GOOS != "windows" { // where it takes a right
			t.Fatal(err)
		}
		t.Skip(err)
	}
	w := &Watcher{files: x.w.files, notify: must(fsnotify.NewWatcher()), dirs: make(map[string]bool), links: make(map[string]bool)}
	t.Cleanup(func() { w.Close() })
	x.ok(w.add(x.dir)) // nobody runs it
	x.want("l/f", "text")
	x.ok(os.Remove(x.path("l")))
	w.changed(fsnotify.Event{Name: x.path("l"), Op: fsnotify.Remove})
	x.want("l/f", "nothing")
}

// What was seen in a directory that is gone before it is watched is looked at again.
func TestDirectoryGoneBeforeWatched(t *testing.T) {
	x := watched(t)
	x.ok(x.w.Close())
	w := &Watcher{files: x.w.files, notify: must(fsnotify.NewWatcher()), dirs: make(map[string]bool), links: make(map[string]bool)}
	t.Cleanup(func() { w.Close() })
	x.ok(w.add(x.dir)) // nobody runs it
	x.write("d/f", "text")
	x.want("d/f", "text")
	x.ok(os.RemoveAll(x.path("d")))
	w.changed(fsnotify.Event{Name: x.path("d"), Op: fsnotify.Create})
	w.changed(fsnotify.Event{Name: x.path("d"), Op: fsnotify.Remove})
	x.want("d/f", "nothing")
}

// A file is found by each of its names.
func TestNames(t *testing.T) {
	t.Chdir(t.TempDir())
	x := watched(t, "../"+filepath.Base(must(os.Getwd())))
	x.dir = must(os.Getwd())
	paths := []string{x.path("a"), "a", filepath.Join("..", filepath.Base(x.dir), "a")}
	for _, text := range []string{"one", "two"} {
		x.write("a", text)
		for _, path := range paths {
			x.wantPath(path, text)
		}
	}
}

// When notifications were lost, directories of which nothing was said are
// watched all the same.
func TestOverflow(t *testing.T) {
	x := watched(t)
	x.write("d/a", "one")
	x.want("d/a", "one")
	x.w.notify.Errors <- fsnotify.ErrEventOverflow
	x.write("d/a", "two")
	x.want("d/a", "two")
	x.write("e/a", "one")
	x.want("e/a", "one")
}

func TestVanishedRoot(t *testing.T) {
	x := watched(t)
	x.write("a", "one")
	x.want("a", "one")
	x.ok(os.RemoveAll(x.dir))
	x.want("a", "nothing")
	select {
	case err := <-x.reports:
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was reported")
	}
}

// Directories that are being added when the Watcher is closed are no trouble.
func TestClose(t *testing.T) {
	x := watched(t)
	x.ok(x.w.Close())
	x.write("d/e/a", "one")
	x.w.changed(fsnotify.Event{Name: x.path("d"), Op: fsnotify.Create}) // as run would that has just got it
	x.w.renew()
	x.ok(x.w.Close())
	select {
	case err := <-x.reports:
		t.Error(err)
	default:
	}
}

func TestNoRoot(t *testing.T) {
	x := watched(t)
	x.write("file", "")
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	x.ok(err)
	defer m.Close()
	if _, err := Files(m, nil, x.path("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there: %v", err)
	}
	if _, err := Files(m, nil, x.path("file")); err == nil {
		t.Error("a root that is a file: no error")
	}
	if _, err := Files(m, nil); err == nil {
		t.Error("no root: no error")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
