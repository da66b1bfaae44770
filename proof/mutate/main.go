// Command mutate takes the mechanisms of the engine out, one at a time, and says
// which test of the repository notices.
//
//	go run ./proof/mutate [-quick] [-only name,...] [-share k/n] [-jobs 2]
//
// Nothing in the tree changes: what is taken out is laid over the sources for
// one run of go test. The exit status is 1 if something can be taken out without
// a test failing, or is no longer where it was.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

const module = "github.com/cacheman-go/cacheman"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "mutate: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// run is main without the process: it carries out one command line.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	fs := flag.NewFlagSet("mutate", flag.ContinueOnError)
	fs.SetOutput(progress)
	quick := fs.Bool("quick", false, "run the tests that are named for each mutation, and not all tests if those pass")
	only := fs.String("only", "", "comma-separated `names` of the mutations to run; all if empty")
	share := fs.String("share", "1/1", "`k/n`: of these only each n-th, from the k-th on")
	jobs := fs.Int("jobs", runtime.GOMAXPROCS(0), "how many to take out at a time")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *jobs < 1 {
		return fmt.Errorf("-jobs %d: it is to be at least 1", *jobs)
	}
	chosen, err := choose(*only)
	if err == nil {
		chosen, err = shareOf(chosen, *share)
	}
	if err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("finding %s: %w", module, err)
	}
	tmp, err := os.MkdirTemp("", "cacheman-mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := runner{root: string(bytes.TrimSpace(root)), tmp: tmp, progress: progress}

	fmt.Fprintf(progress, "nothing taken out, then %d, %d at a time\n", len(chosen), *jobs)
	// A test that fails anyway would seem to notice everything.
	if failed, err := r.untouched(ctx, chosen, *quick); err != nil || failed != "" {
		return cmp.Or(err, fmt.Errorf("%s fails though nothing was taken out", failed))
	}
	found := make([]string, len(chosen))
	errs := make([]error, len(chosen))
	turn := make(chan struct{}, *jobs)
	var all sync.WaitGroup
	for i, m := range chosen {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			if ctx.Err() != nil {
				return
			}
			start := time.Now()
			failed, err := r.try(ctx, m, *quick)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				errs[i] = fmt.Errorf("%s: %w", m.name, err)
				failed = "cannot be taken out"
			case failed == "":
				errs[i] = fmt.Errorf("%s: no test notices", m.name)
				failed = "none"
			}
			found[i] = failed
			fmt.Fprintf(progress, "%s: %s, %.0fs\n", m.name, failed, time.Since(start).Seconds())
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "taken out\tfirst test to fail")
	for i, m := range chosen {
		fmt.Fprintf(table, "%s\t%s\n", m.name, found[i])
	}
	return errors.Join(append(errs, table.Flush())...)
}

// choose returns the mutations with the given names.
func choose(only string) ([]mutation, error) {
	if only == "" {
		return mutations, nil
	}
	var chosen []mutation
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(mutations, func(m mutation) bool { return m.name == name })
		if i < 0 {
			var names []string
			for _, m := range mutations {
				names = append(names, m.name)
			}
			return nil, fmt.Errorf("there is no mutation %q; there are %q", name, names)
		}
		chosen = append(chosen, mutations[i])
	}
	return chosen, nil
}

// shareOf returns each n-th of all, from the k-th on, where share is k/n.
func shareOf(all []mutation, share string) ([]mutation, error) {
	var k, n int
	if _, err := fmt.Sscanf(share, "%d/%d", &k, &n); err != nil || k < 1 || k > n {
		return nil, fmt.Errorf("-share %s: it is to be like 1/3", share)
	}
	var part []mutation
	for i := k - 1; i < len(all); i += n {
		part = append(part, all[i])
	}
	return part, nil
}

// runner runs tests of the library with other sources.
type runner struct {
	root, tmp string
	progress  io.Writer
}

// untouched runs the tests with nothing taken out, and returns the first that
// fails.
func (r *runner) untouched(ctx context.Context, chosen []mutation, quick bool) (failed string, err error) {
	type run struct {
		in    string
		stops bool
	}
	patterns := map[run][]string{}
	for _, m := range chosen {
		patterns[run{m.in, m.stops}] = append(patterns[run{m.in, m.stops}], m.tests)
	}
	for run, tests := range patterns {
		if failed == "" && err == nil {
			failed, err = r.engine(ctx, mutation{tests: strings.Join(tests, "|"), in: run.in, stops: run.stops})
		}
	}
	if failed == "" && err == nil && !quick {
		failed, err = r.all(ctx, mutation{})
	}
	return failed, err
}

// try takes m out and returns the first test that fails, or "".
func (r *runner) try(ctx context.Context, m mutation, quick bool) (failed string, err error) {
	failed, err = r.engine(ctx, m)
	if failed == "" && err == nil && !quick {
		fmt.Fprintf(r.progress, "%s: %s passes; all tests\n", m.name, m.tests)
		failed, err = r.all(ctx, m)
	}
	return failed, err
}

// engine runs the tests that are expected to notice that m is taken out. Of the
// library only the files that declare them are compiled, for all tests take ten times as
// long.
func (r *runner) engine(ctx context.Context, m mutation) (failed string, err error) {
	replace, err := r.without(m)
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(r.root, "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if needed, err := declares(file, m.tests); err != nil {
			return "", err
		} else if !needed && filepath.Base(file) != sharedTests {
			replace[file] = "" // as if it were not there
		}
	}
	// Not optimized, it is compiled in half the time.
	args := []string{"-gcflags=-N -l", "-run", m.tests, cmp.Or(m.in, ".")}
	if m.stops {
		args = append([]string{"-tags=cachemandebug"}, args...)
	}
	return r.test(ctx, replace, args...)
}

// sharedTests is what the other test files of the library have in common.
const sharedTests = "helper_test.go"

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// declares reports whether file has one of the tests of a pattern.
func declares(file, pattern string) (bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	for one := range strings.SplitSeq(pattern, "|") {
		one, _, _ = strings.Cut(one, "/") // what follows are parts of the test
		name, err := regexp.Compile(one)
		if err != nil {
			return false, err
		}
		for _, test := range testFunc.FindAllSubmatch(text, -1) {
			if name.Match(test[1]) {
				return true, nil
			}
		}
	}
	return false, nil
}

// all runs all tests of the library with m taken out.
func (r *runner) all(ctx context.Context, m mutation) (failed string, err error) {
	replace, err := r.without(m)
	if err != nil {
		return "", err
	}
	return r.test(ctx, replace, "./...")
}

// without writes the sources that m changes, and returns which file is in whose
// place.
func (r *runner) without(m mutation) (replace map[string]string, err error) {
	replace = map[string]string{}
	sources := map[string]string{}
	for _, e := range m.edits {
		text, ok := sources[e.file]
		if !ok {
			read, err := os.ReadFile(filepath.Join(r.root, filepath.FromSlash(e.file)))
			if err != nil {
				return nil, err
			}
			text = strings.ReplaceAll(string(read), "\r\n", "\n")
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has this %d times, not once:\n%s", e.file, n, e.old)
		}
		sources[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	dir, err := os.MkdirTemp(r.tmp, "")
	if err != nil {
		return nil, err
	}
	for file, text := range sources {
		other := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			return nil, err
		}
		replace[filepath.Join(r.root, filepath.FromSlash(file))] = other
	}
	return replace, nil
}

// event is what go test -json says.
type event struct {
	Action      string
	Test        string
	Package     string
	Output      string
	FailedBuild string
}

// test runs go test with the given files replaced, and returns the first test
// that fails, or "" if none does.
func (r *runner) test(ctx context.Context, replace map[string]string, args ...string) (failed string, err error) {
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(r.tmp, "*.json")
	if err != nil {
		return "", err
	}
	_, err = file.Write(overlay)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	args = append([]string{"test", "-json", "-short", "-failfast", "-vet=off", "-count=1", "-timeout=5m", "-overlay", file.Name()}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go passes it on to the tests
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = r.root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var said strings.Builder
	var running []string // tests that have not ended
	build, ran := "", 0
	for d := json.NewDecoder(out); ; {
		var e event
		if err := d.Decode(&e); err != nil {
			break // the end
		}
		said.WriteString(e.Output)
		switch e.Action {
		case "run":
			ran++
			running = append(running, e.Test)
		case "pass", "skip":
			running = slices.DeleteFunc(running, func(t string) bool { return t == e.Test })
		case "fail":
			build = cmp.Or(build, e.FailedBuild)
			failed = cmp.Or(failed, e.Test)
			if e.Test == "" && len(running) > 0 { // the process has died
				failed = cmp.Or(failed, running[len(running)-1])
			}
		}
	}
	io.Copy(io.Discard, out)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case build != "":
		return "", fmt.Errorf("%s does not compile:\n%s", build, said.String())
	case failed != "":
		return failed, nil
	case err != nil:
		return "", fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, stderr.String(), said.String())
	case ran == 0:
		return "", fmt.Errorf("go %s: there are no such tests", strings.Join(args, " "))
	}
	return "", nil
}
