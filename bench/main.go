// Command bench compares cacheman with other libraries on the same work, side
// by side in one run, and says which of the project's targets the run meets.
//
//	go run ./bench <suite> [-n 1000000] [-runs 3] [-only system,...] [-grow] [-json FILE]
//
// README.md says what each suite measures and how to read the tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(workerMain(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is main without the process: it carries out one command line.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	opts, err := parseArgs(args, progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(opts.dir, "cacheman-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	sizes := []int{opts.n}
	if opts.grow {
		sizes = growSizes(opts.n)
	}
	var reports []*Report
	for _, n := range sizes {
		r, err := measure(ctx, opts, n, dir, progress)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	last := reports[len(reports)-1]
	if opts.grow {
		last.Growth = growth(opts.suite, reports)
	}
	last.Targets = opts.suite.Targets(last)
	if err := last.WriteText(out, opts.suite); err != nil {
		return err
	}
	for file, write := range map[string]func(io.Writer) error{
		opts.json:     last.WriteJSON,
		opts.markdown: func(w io.Writer) error { return last.WriteMarkdown(w, opts.suite) },
	} {
		if file == "" {
			continue
		}
		if err := writeFile(file, write); err != nil {
			return err
		}
	}
	return nil
}

// measure runs a suite once, at size n.
func measure(ctx context.Context, opts *options, n int, dir string, progress io.Writer) (*Report, error) {
	r := &Run{
		N: n, Ops: max(n, opts.minOps), Runs: opts.runs, Dir: dir, Profile: opts.profile,
		Systems: opts.systems, samples: newSamples(), progress: newProgress(progress),
	}
	r.progress.prefix = fmt.Sprintf("%s n=%d", opts.suite.Name, n)
	err := opts.suite.Run(ctx, r)
	r.progress.done()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return newReport(opts.suite, r), nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// options is a parsed command line.
type options struct {
	suite          *Suite
	systems        []string
	n, runs        int
	minOps         int
	grow           bool
	json, markdown string
	dir, profile   string
}

func parseArgs(args []string, usage io.Writer) (*options, error) {
	o := &options{}
	var only string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(usage)
	fs.IntVar(&o.n, "n", 1_000_000, "number of entries")
	fs.IntVar(&o.runs, "runs", 3, "rounds; the table shows their median, smallest and largest")
	fs.IntVar(&o.minOps, "ops", 1<<18, "smallest number of operations a round of the hit suite times")
	fs.StringVar(&only, "only", "", "comma-separated `systems` to run; all if empty")
	fs.BoolVar(&o.grow, "grow", false, "run n/100, n/10 and n, and show how costs grow")
	fs.StringVar(&o.json, "json", "", "write the results as JSON to `file`")
	fs.StringVar(&o.markdown, "md", "", "write the table as Markdown to `file`")
	fs.StringVar(&o.dir, "dir", "", "where temporary `directories` are made (default: the system's)")
	fs.StringVar(&o.profile, "profile", "", "write CPU profiles of all steps to this `directory`; times are then a little longer")
	fs.Usage = func() {
		fmt.Fprintf(usage, "usage: go run ./bench <suite> [flags]\n\nsuites:\n")
		for _, s := range suites() {
			fmt.Fprintf(usage, "  %-8s %s\n           systems: %s\n", s.Name, s.About, strings.Join(s.Systems, ", "))
		}
		fmt.Fprintf(usage, "\nflags:\n")
		fs.PrintDefaults()
	}
	if len(args) == 0 {
		fs.Usage()
		return nil, errors.New("which suite? " + suiteNames())
	}
	if strings.HasPrefix(args[0], "-") {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		return nil, errors.New("the suite comes first, then the flags: " + suiteNames())
	}
	if o.suite = findSuite(args[0]); o.suite == nil {
		return nil, fmt.Errorf("no suite %q: %s", args[0], suiteNames())
	}
	if err := fs.Parse(args[1:]); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? flags come after the one suite", fs.Arg(0))
	}
	if o.n < 100 || o.runs < 1 || o.minOps < 1 {
		return nil, errors.New("-n must be at least 100, -runs and -ops at least 1")
	}
	var err error
	o.systems, err = pickSystems(o.suite, only)
	return o, err
}
