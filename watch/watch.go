// Package watch tells the files of a Manager of changes as the operating system
// notices them, so that nobody has to call Refresh.
//
//	w, err := watch.Files(m, nil, "src", "templates")
//	...
//	defer w.Close()
//
// # What it promises
//
// When the system has notified the process of a change beneath a root, what was
// asked of the file, and what was computed from it, is checked before it is
// given again. That is soon after the change, and not at once: whoever has written a
// file and must see that in the next Get calls [cacheman.Files.Recheck].
//
// Watches are set before anything is looked at again: [Files] has all files
// looked at once more when it is done, and so do directories, and symbolic links, that
// come, go or are moved. So a change is seen whether it came before its watch or after.
// If the system has dropped notifications because there were too many, all watches are
// set anew, and all files are looked at again.
//
// A notification costs a few lookups. Files are read when somebody asks for what
// was computed from them, and only those that look changed.
//
// # What it does not promise
//
// Changes are not seen that the system does not notify of: those that another
// host makes to a network file system, those through a memory mapping, those
// beneath a symbolic link within a root, and those through a hard link elsewhere.
// So it is with files outside of the roots. They are seen after Refresh, as ever.
//
// A file is found by its name relative to the working directory, by its absolute one,
// and by the one that begins as the root was given, all as [filepath.Clean] has
// them. Names that lead there otherwise, through links or "..", are not.
//
// If a symbolic link is renamed onto a name, and then a file, the system may speak of that once, and
// what was read beneath the link in between is kept until Refresh.
//
// While a file is changed more often than it can be read, a builder that reads it
// waits.
package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cacheman-go/cacheman"
	"github.com/fsnotify/fsnotify"
)

// A Watcher passes notifications on until it is closed.
type Watcher struct {
	files  *cacheman.Files
	notify *fsnotify.Watcher
	report func(error)
	closed atomic.Bool // what fails because of that is no error
	roots  []root
	dirs   map[string]bool // absolute names of what is watched; of run alone
	links  map[string]bool // likewise of symbolic links, beneath which there may be files

	// created has the files that were seen when their names had come, as long as they are there.
	// One that is seen once more when its name comes again is not what had come before: that was
	// gone already, and may have been a directory.
	created map[string]fs.FileInfo
}

// maxCreated is how many files are remembered; with more, all are looked at again instead.
const maxCreated = 10_000

// root is a directory that is watched with all beneath it.
type root struct{ given, abs string }

// Files watches directories, with all that are or will be beneath them, for the
// files of m that are in them. report, if not nil, is told what goes wrong later,
// such as a directory that cannot be watched, from one goroutine; what is
// beneath that is then seen after Refresh only. A root that is removed or moved
// is such an error: it is not watched any more, even if it comes back.
//
// Files returns when the watches are set. Close the Watcher before m.
func Files(m *cacheman.Manager, report func(error), roots ...string) (*Watcher, error) {
	w, err := watch(m, report, roots...)
	if err == nil {
		go w.run()
	}
	return w, err
}

// watch sets the watches; nobody is told of anything before run.
func watch(m *cacheman.Manager, report func(error), roots ...string) (*Watcher, error) {
	if len(roots) == 0 {
		return nil, errors.New("watch: no directory is given")
	}
	files, err := cacheman.OpenFiles(m)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watcher{
		files: files, report: report,
		dirs: make(map[string]bool), links: make(map[string]bool), created: make(map[string]fs.FileInfo),
	}
	for _, given := range roots {
		abs, err := filepath.Abs(given)
		if err != nil {
			return nil, fmt.Errorf("watch: %s: %w", given, err)
		}
		w.roots = append(w.roots, root{filepath.Clean(given), abs})
	}
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	for _, r := range w.roots {
		if err := w.add(r.abs); err != nil {
			return nil, errors.Join(err, w.notify.Close())
		}
	}
	files.Recheck()
	return w, nil
}

// Close ends the watching. What the system has already said may still be
// passed on, and a call of report be under way, when it returns. What fails because
// the Watcher is being closed is not reported.
func (w *Watcher) Close() error {
	w.closed.Store(true)
	return w.notify.Close()
}

func (w *Watcher) run() {
	events, errs := w.notify.Events, w.notify.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if e.Name != "" {
				w.changed(e)
			}
		case err, ok := <-errs:
			switch {
			case !ok:
				errs = nil
			case errors.Is(err, fsnotify.ErrEventOverflow):
				w.renew()
			default:
				w.fail(fmt.Errorf("watch: %w", err))
				w.files.Recheck()
			}
		}
	}
}

// changed passes on what an event says.
func (w *Watcher) changed(e fsnotify.Event) {
	name := filepath.Clean(e.Name)
	gone := e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)
	if gone && w.dirs[name] {
		w.remove(name)
		for _, r := range w.roots {
			if within(name, r.abs) {
				w.fail(fmt.Errorf("watch: %s: the root is gone: %w", r.given, fs.ErrNotExist))
			}
		}
		w.files.Recheck() // all that was beneath it is gone, and nothing says so
	}
	beneath := w.links[name] && (gone || e.Has(fsnotify.Create)) // there may be files, or have been, of which nothing is said
	if beneath {
		delete(w.links, name)
	}
	if e.Has(fsnotify.Create) {
		switch info, err := os.Lstat(name); {
		case err != nil: // it is gone already, and may have been a directory
			beneath = true
		case info.IsDir():
			if err := w.add(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.fail(err)
			}
			beneath = true
		case info.Mode()&fs.ModeSymlink != 0:
			w.links[name], beneath = true, true
		case w.again(name, info):
			beneath = true
		}
	} else if gone && w.created[name] != nil {
		if _, err := os.Lstat(name); err != nil {
			delete(w.created, name)
		}
	}
	if beneath {
		w.files.Recheck()
		return
	}
	names := w.names(nil, name)
	if gone || e.Has(fsnotify.Create) {
		names = w.names(names, filepath.Dir(name)) // a directory has a time, too
	}
	w.files.Recheck(names...)
}

// again remembers which file is at a name that has come, and reports whether something else may
// have been there before it that was not looked at.
func (w *Watcher) again(name string, info fs.FileInfo) bool {
	full := len(w.created) >= maxCreated
	if full {
		clear(w.created)
	}
	was := w.created[name]
	w.created[name] = info
	return full || was != nil && os.SameFile(was, info)
}

// add watches a directory and all beneath it. Each is listed after its watch is
// set, so none that is made meanwhile is missed. What vanishes on the way is not
// an error, but for dir itself.
func (w *Watcher) add(dir string) error {
	var errs []error
	for stack := []string{dir}; len(stack) > 0; {
		name := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		entries, err := w.addOne(name)
		if err != nil && (name == dir || !errors.Is(err, fs.ErrNotExist)) {
			errs = append(errs, fmt.Errorf("watch: %s: %w", name, err))
		}
		for _, e := range entries {
			switch path := filepath.Join(name, e.Name()); {
			case e.IsDir():
				stack = append(stack, path)
			case e.Type()&fs.ModeSymlink != 0:
				w.links[path] = true
			}
		}
	}
	return errors.Join(errs...)
}

func (w *Watcher) addOne(dir string) ([]fs.DirEntry, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, errors.New("not a directory")
	}
	if err := w.notify.Add(dir); err != nil {
		return nil, err
	}
	w.dirs[dir] = true
	return os.ReadDir(dir)
}

// remove ends the watches of a directory and of all beneath it: those of what
// was moved would go on with the old names.
func (w *Watcher) remove(dir string) {
	for name := range w.dirs {
		if within(dir, name) {
			delete(w.dirs, name)
			_ = w.notify.Remove(name) // the system may have done so
		}
	}
	maps.DeleteFunc(w.links, func(name string, _ bool) bool { return within(dir, name) })
	maps.DeleteFunc(w.created, func(name string, _ fs.FileInfo) bool { return within(dir, name) })
}

// renew sets all watches anew, as directories may have come, gone or been moved.
func (w *Watcher) renew() {
	for name := range w.dirs {
		_ = w.notify.Remove(name)
	}
	clear(w.dirs)
	clear(w.links)
	clear(w.created)
	for _, r := range w.roots {
		if err := w.add(r.abs); err != nil {
			w.fail(err)
		}
	}
	w.files.Recheck()
}

func (w *Watcher) fail(err error) {
	if w.report != nil && !w.closed.Load() {
		w.report(err)
	}
}

// names adds to names those by which somebody may have asked for a file.
func (w *Watcher) names(names []string, abs string) []string {
	names = append(names, abs)
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, abs); err == nil {
			names = append(names, rel)
		}
	}
	for _, r := range w.roots {
		if within(r.abs, abs) {
			rest, err := filepath.Rel(r.abs, abs)
			if err == nil {
				names = append(names, filepath.Join(r.given, rest))
			}
		}
	}
	return names
}

// within reports whether name is dir or beneath it; both are clean.
func within(dir, name string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || os.IsPathSeparator(rest[0]) || os.IsPathSeparator(dir[len(dir)-1]))
}
