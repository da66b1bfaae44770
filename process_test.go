package cacheman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
)

// childDir names the directory that a child process is to hold.
const childDir = "CACHEMAN_TEST_CHILD_DIR"

// TestMain lets the test binary be the other process.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child has dir open until it is killed, or its parent is gone. For each line
// that it reads it sets and syncs the next number, in two caches, sets another one
// that it does not sync, and answers with what it synced last.
func child(dir string) error {
	m, err := Open(dir, Options{Autosync: &Autosync{Off: true}})
	if err != nil {
		return err
	}
	synced, err := Register(m, "synced", Spec[int, int]{})
	if err != nil {
		return err
	}
	twin, err := Register(m, "twin", Spec[int, int]{})
	if err != nil {
		return err
	}
	unsynced, err := Register(m, "unsynced", Spec[int, int]{})
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for i := 1; in.Scan(); i++ {
		synced.Set(i, i*i)
		twin.Set(i, i*i)
		if err := m.Sync(context.Background(), Only("synced", "twin")); err != nil {
			return err
		}
		unsynced.Set(i, i)
		fmt.Println(i)
	}
	return nil // without Close, like a crash
}

// holder is a running child.
type holder struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(t *testing.T, dir string) *holder {
	t.Helper()
	h := &holder{Cmd: exec.CommandContext(t.Context(), must(os.Executable()))}
	h.Env = append(os.Environ(), childDir+"="+dir)
	h.Stderr = os.Stderr
	h.in = must(h.StdinPipe())
	h.out = bufio.NewScanner(must(h.StdoutPipe()))
	ok(t, h.Start())
	t.Cleanup(func() { h.kill() })
	return h
}

// step has the child do one step, and waits until it has done it.
func (h *holder) step(t *testing.T, n int) {
	t.Helper()
	must(io.WriteString(h.in, "\n"))
	if !h.out.Scan() || h.out.Text() != strconv.Itoa(n) {
		t.Fatalf("the child answers %q, not %d: %v", h.out.Text(), n, h.out.Err())
	}
}

func (h *holder) kill() {
	h.Process.Kill()
	h.Wait()
}

// TestLockedByAnotherProcess: the error says by whom; once that process was
// killed, what it had synced is there, and nothing else.
func TestLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	start := time.Now()
	h := startChild(t, dir)
	for i := range 3 {
		h.step(t, i+1)
	}

	for range 2 { // looking does not disturb the holder
		m, err := Open(dir, Options{})
		if m != nil || !errors.Is(err, ErrLocked) {
			t.Fatalf("Open: %v, %v", m, err)
		}
		locked, is := errors.AsType[*store.LockedError](err)
		if !is {
			t.Fatalf("Open: %v", err)
		}
		equal(t, "path", locked.Path, dir)
		equal(t, "process", locked.PID, h.Process.Pid)
		equal(t, "host", locked.Host, must(os.Hostname()))
		if locked.Since.Before(start.Add(-2*time.Second)) || locked.Since.After(time.Now().Add(2*time.Second)) {
			t.Errorf("locked since %v, started at %v", locked.Since, start)
		}
		for _, want := range []string{
			"open", dir, fmt.Sprintf("process %d ", h.Process.Pid), locked.Host, locked.Since.Format(time.RFC3339),
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not name %q: %v", want, err)
			}
		}
	}
	h.step(t, 4)

	h.kill()
	m := must(Open(dir, Options{}))
	wantContents(t, must(Register(m, "synced", Spec[int, int]{})), map[int]int{1: 1, 2: 4, 3: 9, 4: 16})
	wantContents(t, must(Register(m, "unsynced", Spec[int, int]{})), map[int]int{})
	ok(t, m.Close())
}

// TestKilledWhileSyncing: whenever the kill comes, each sync is there as a
// whole or not at all, and the ones that were reported are.
func TestKilledWhileSyncing(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := startChild(t, dir)
			const asked = 400
			// The pipe takes all of it at once; the kill comes in between.
			must(io.WriteString(h.in, strings.Repeat("\n", asked)))
			reported := 0
			for range 1 + 5*i {
				if !h.out.Scan() {
					t.Fatalf("the child ended after %d: %v", reported, h.out.Err())
				}
				reported = must(strconv.Atoi(h.out.Text()))
			}
			h.Process.Kill()
			for h.out.Scan() { // what it wrote before it died
				reported = must(strconv.Atoi(h.out.Text()))
			}
			h.Wait()

			m := must(Open(dir, Options{}))
			c := must(Register(m, "synced", Spec[int, int]{}))
			got := maps.Collect(c.All())
			if n := len(got); n != reported && n != min(reported+1, asked) {
				t.Errorf("%d were reported as synced, %d are there", reported, n)
			}
			for i := range len(got) {
				equal(t, fmt.Sprintf("value %d", i+1), got[i+1], (i+1)*(i+1))
			}
			wantContents(t, must(Register(m, "unsynced", Spec[int, int]{})), map[int]int{})
			ok(t, m.Close())
		})
	}
}

// TestFollowAnotherProcess: what is seen of one cache is there in the other, also
// while Follow is under way, and in the end all is there.
func TestFollowAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startChild(t, dir)
	h.step(t, 1)
	const n = 300
	must(io.WriteString(h.in, strings.Repeat("\n", n-1)))
	r := openDir(t, dir, Options{ReadOnly: true})
	r.partialFrom = 20 // both ways of reading
	caches := [2]*Cache[int, int]{must(Register(r, "synced", Spec[int, int]{})), must(Register(r, "twin", Spec[int, int]{}))}
	var readers sync.WaitGroup
	for i := range caches {
		readers.Go(func() {
			for k := 1; k <= n && !t.Failed(); {
				if !caches[i].Has(k) {
					continue
				}
				if v, found := caches[1-i].Peek(k); v != k*k || !found {
					t.Errorf("%d is in %s, and %s has %d, %v", k, caches[i].Name(), caches[1-i].Name(), v, found)
					return
				}
				k++
			}
		})
	}
	for range n - 1 {
		if !h.out.Scan() {
			t.Errorf("the child ended: %v", h.out.Err())
			break
		}
		must(r.Follow(t.Context()))
	}
	readers.Wait()
	for _, c := range caches {
		equal(t, c.Name(), c.Len(), n)
	}
}
