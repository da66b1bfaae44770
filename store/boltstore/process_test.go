package boltstore_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

// kills is how often TestKilled kills; 1000 takes some minutes.
var kills = flag.Int("kills", 0, "how many processes are killed while they write; 0 means a few")

const (
	childEnv = "BOLTSTORE_TEST_CHILD"
	pathEnv  = "BOLTSTORE_TEST_PATH"
)

// children are what the test binary does as another process.
var children = map[string]func(path string) error{
	"write": writeBatches,
	"try":   tryOpen,
}

// keys is how many records a batch of writeBatches has.
const keys = 50

// writeBatches applies batches until it is killed, or its parent is gone. Each
// gives all records of cache c its number, in values of several sizes; the
// numbers go on from what is there. It compacts now and then. It says of each
// batch when it begins and when it is durable.
func writeBatches(path string) error {
	ctx := context.Background()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	n, err := written(s)
	if err != nil {
		return err
	}
	for {
		n++
		fmt.Println("begin", n)
		compacted := make(chan error, 1)
		if n%10 == 0 {
			go func() { compacted <- s.Compact(ctx) }()
		} else {
			compacted <- nil
		}
		err := s.Apply(ctx, func(yield func(store.Op, error) bool) {
			for k := range keys {
				if !yield(put("c", strconv.Itoa(k), value(n, k)), nil) {
					return
				}
			}
			// Many pages, most of which are free again after the next batch.
			yield(put("other", "large", strings.Repeat("x", n%7*10_000)), nil)
		})
		if err != nil {
			return err
		}
		fmt.Println("done", n)
		if err := <-compacted; err != nil {
			return err
		}
	}
}

func value(n, k int) string { return strconv.Itoa(n) + " " + strings.Repeat("v", (n+k)%100*k) }

// written returns the number of the last batch that s has, and checks that it
// has the whole of it.
func written(s store.Store) (n int, err error) {
	got := 0
	for r, err := range s.Load(context.Background(), "c") {
		if errors.Is(err, store.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		number, _, _ := strings.Cut(string(r.Value), " ")
		if got == 0 {
			if n, err = strconv.Atoi(number); err != nil {
				return 0, err
			}
		}
		k, err := strconv.Atoi(string(r.Key))
		if err != nil {
			return 0, err
		}
		if string(r.Value) != value(n, k) {
			return 0, fmt.Errorf("key %d has the value of batch %s beside those of batch %d", k, number, n)
		}
		got++
	}
	if got != keys {
		return 0, fmt.Errorf("%d records of %d", got, keys)
	}
	return n, nil
}

// tryOpen reports why the store cannot be opened.
func tryOpen(path string) error {
	s, err := boltstore.Open(path, boltstore.Options{})
	if locked, ok := errors.AsType[*store.LockedError](err); ok {
		fmt.Println("locked", locked.Path)
		return nil
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// child starts the test binary as another process.
func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+what, pathEnv+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// Whenever a process is killed, what it had been told to be durable is there,
// and of the batch it was at either all or nothing. The next process goes on
// from there, in the same file.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := place(t)
	before := 0
	rounds := *kills
	if rounds == 0 {
		rounds = few(12, 4)
	}
	for i := range rounds {
		cmd := child(t, "write", path)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		begun, done := 0, before
		lines, stop := bufio.NewScanner(stdout), 1+rand.IntN(60)
		for seen := 0; lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "begin "); ok {
				begun, _ = strconv.Atoi(n)
			} else if n, ok := strings.CutPrefix(lines.Text(), "done "); ok {
				done, _ = strconv.Atoi(n)
			} else {
				t.Fatalf("the child says %q", lines.Text())
			}
			if seen++; seen == stop {
				// Somewhere in what comes next; the delay is not for
				// anything to happen, but to find it at various places.
				time.AfterFunc(time.Duration(rand.IntN(1500))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if begun == 0 || begun <= before {
			t.Fatalf("kill %d: the child began batch %d, after %d", i, begun, before)
		}
		s := open(t, path)
		n, err := written(s)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		if n != done && n != begun {
			t.Fatalf("kill %d: batch %d is there; %d was durable, %d begun", i, n, done, begun)
		}
		before = n
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d batches", before)
}

// One process at a time has the file open, also while it is compacted.
func TestLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	apply(t, s, puts("c", 1000, "v"))
	try := func(want string) {
		t.Helper()
		out, err := child(t, "try", path).Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("another process says %q, %v; want %q", out, err, want)
		}
	}
	try("locked " + path)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	try("locked " + path)
	wantAll(t, s, "c", 1000, "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	try("")
}
