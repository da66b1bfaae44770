// Codemap maps a tree of Go source: the facts of each file, each package and
// all imports, and a report of the whole. What it found is cached, and made
// anew only where the tree has changed.
//
//	codemap [-dir DIR] [-cache DIR] [-json] [-html FILE] [-why]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cacheman-go/cacheman"
)

func main() {
	start := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	os.Exit(run(ctx, start, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake in how the program was called; its exit status is 2.
type usageError struct{ error }

var errInterrupted = errors.New("interrupted; what was built is saved, and the next run goes on from there")

// ended returns the error of a run that ended with err, and whose caches were closed with
// another.
func ended(ctx context.Context, err, closed error) error {
	if err != nil && ctx.Err() != nil && closed == nil {
		return errInterrupted
	}
	return errors.Join(err, closed)
}

// run is the program; it returns the exit status.
func run(ctx context.Context, start time.Time, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("codemap", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "map the tree in `DIR` (default: the source of the Go installation)")
	cache := flags.String("cache", "", "keep the caches in `DIR` (default: in the user's cache directory)")
	asJSON := flags.Bool("json", false, "print one JSON object")
	page := flags.String("html", "", "also write a page with the report and pictures to `FILE`")
	why := flags.Bool("why", false, "say why what was built was built")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}

	outcome, err := func() (*Outcome, error) {
		if flags.NArg() > 0 {
			return nil, usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
		}
		root, err := treeRoot(ctx, *dir)
		if err != nil {
			return nil, err
		}
		if !*why {
			return mapTree(ctx, root, *cache, *page, stderr, nil)
		}
		r := &reasons{dir: root}
		outcome, err := mapTree(ctx, root, *cache, *page, stderr, r.observe)
		if err == nil {
			outcome.Why = r.all
		}
		return outcome, err
	}()
	if err == nil {
		outcome.Seconds = time.Since(start).Seconds()
		if *asJSON {
			err = outcome.writeJSON(stdout)
		} else {
			err = outcome.writeText(stdout)
		}
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "codemap:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// treeRoot returns the absolute path of the directory to be mapped.
func treeRoot(ctx context.Context, dir string) (string, error) {
	if dir == "" {
		dir = filepath.Join(build.Default.GOROOT, "src") // as it was when codemap was built
		if _, err := os.Stat(dir); err != nil || build.Default.GOROOT == "" {
			goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
			if err != nil {
				return "", fmt.Errorf("finding the Go installation (-dir names another tree): %w", err)
			}
			dir = filepath.Join(strings.TrimSpace(string(goroot)), "src")
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", usageError{err}
	}
	if !info.IsDir() {
		return "", usageError{fmt.Errorf("%s is not a directory", dir)}
	}
	return filepath.Abs(dir)
}

// mapTree brings the map of a tree up to date, and saves it, also if it fails
// or is interrupted on the way. observe may be nil.
func mapTree(ctx context.Context, dir, cacheDir, page string, progress io.Writer, observe func(cacheman.Event)) (_ *Outcome, err error) {
	caches, err := cacheman.Open(cacheDir, cacheman.Options{
		Program:  "codemap",
		Autosync: &cacheman.Autosync{Every: time.Second}, // a crash loses no more work than that
		Observe:  observe,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = ended(ctx, err, caches.Close()) }()

	m, err := register(caches, dir)
	if err != nil {
		return nil, err
	}
	// All will be needed, and all files looked at: on all processors that takes
	// half the time of doing it one by one when they are asked for.
	if err := caches.Load(ctx, cacheman.All()); err != nil {
		return nil, err
	}
	// That a file cannot be looked at is told whoever asks for it, if anybody does.
	_ = caches.Refresh(ctx, nil)
	report, err := m.update(ctx, progress)
	if err != nil {
		return nil, err
	}
	if report.Packages == 0 {
		return nil, usageError{fmt.Errorf("no Go files in %s", dir)}
	}
	if page != "" {
		if err := m.writePage(ctx, page, report); err != nil {
			return nil, err
		}
	}
	return m.outcome(report), nil
}
