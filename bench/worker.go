package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// Every system is measured in child processes of its own: heap sizes, the
// garbage collector's work and peak memory are then its own too. A child is
// this program again, started with workerCommand; it reads requests from its
// standard input, one JSON object a line, and answers each on its standard
// output. The parent asks one child at a time, so rounds of different systems
// alternate and nothing else runs while one is timed.

const workerCommand = "_worker"

// workerConfig is what a child needs to know before the first request.
type workerConfig struct {
	Suite  string
	System string
	N, Ops int
	Dir    string
	// Profile is a directory for a CPU profile of each step, if not empty.
	Profile string `json:",omitempty"`
}

// request asks a child for one step of a suite.
type request struct {
	Step  string
	Round int
	// Updates is for the store suite: what was changed after the save.
	Updates []int `json:",omitempty"`
}

// reply gives the measurements of a step, by the name of the work.
type reply struct {
	Samples map[string][]float64 `json:",omitempty"`
	Err     string               `json:",omitempty"`
}

// worker is the child's side of a suite.
type worker interface {
	do(req request) (map[string][]float64, error)
}

func workerMain(args []string, in io.Reader, out, errOut io.Writer) int {
	signal.Ignore(os.Interrupt) // the parent decides
	if err := serveWorker(args, in, out); err != nil {
		fmt.Fprintln(errOut, err)
		return 1
	}
	return 0
}

func serveWorker(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("worker: one argument expected")
	}
	var cfg workerConfig
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return err
	}
	suite := findSuite(cfg.Suite)
	if suite == nil {
		return fmt.Errorf("worker: no suite %q", cfg.Suite)
	}
	w, err := suite.Worker(cfg)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var req request
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			return err
		}
		var rep reply
		rep.Samples, err = profiled(cfg, req, w.do)
		if err != nil {
			rep.Err = err.Error()
		}
		if err := enc.Encode(rep); err != nil {
			return err
		}
	}
	return lines.Err()
}

// profiled does a step, with a CPU profile of it if that is wanted. The last
// round's stays.
func profiled(cfg workerConfig, req request, do func(request) (map[string][]float64, error)) (map[string][]float64, error) {
	if cfg.Profile == "" {
		return do(req)
	}
	if err := os.MkdirAll(cfg.Profile, 0o777); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(cfg.Profile, cfg.Suite+"-"+cfg.System+"-"+req.Step+".prof"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	defer pprof.StopCPUProfile()
	return do(req)
}

// child is the parent's side of a worker.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func startWorker(ctx context.Context, cfg workerConfig) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, exe, workerCommand, string(arg))}
	c.cmd.WaitDelay = 5 * time.Second
	c.cmd.Stderr = &c.stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// call has the child do one step.
func (c *child) call(req request) (map[string][]float64, error) {
	line, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return nil, c.died(err)
	}
	answer, err := c.out.ReadBytes('\n')
	if err != nil {
		return nil, c.died(err)
	}
	var rep reply
	if err := json.Unmarshal(answer, &rep); err != nil {
		return nil, fmt.Errorf("worker said %q: %w", answer, err)
	}
	if rep.Err != "" {
		return nil, errors.New(rep.Err)
	}
	return rep.Samples, nil
}

// died explains why a child does not answer.
func (c *child) died(err error) error {
	c.in.Close()
	if werr := c.cmd.Wait(); werr != nil {
		err = werr
	}
	said := bytes.TrimSpace(c.stderr.Bytes())
	if len(said) > 2000 {
		said = said[:2000]
	}
	return fmt.Errorf("worker ended: %w: %s", err, said)
}

// stop ends the child, without its having a say: what it holds is temporary.
func (c *child) stop() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
