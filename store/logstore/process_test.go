package logstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

var soak = flag.Int("soak", 0, "how often to kill a writing process; 0 means a few times")

// childDir names the directory that a child process is to write to.
const childDir = "LOGSTORE_TEST_CHILD_DIR"

// TestChild is not a test: it is the process that others start, and kill. It
// applies batch after batch, compacts often, and says the number of each batch
// once it is acknowledged.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("for other tests")
	}
	s, err := logstore.Open(dir, logstore.Options{CompactAt: 100_000, Damage: logstore.Fail, Observe: func(e logstore.Event) {
		if e.Kind != logstore.Compacted && e.Kind != logstore.Swept && e.Kind != logstore.TornTail {
			fmt.Println(e)
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := numbered(s)
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		if _, err := fmt.Println(n); err != nil {
			return // whoever started it is gone
		}
		n++
		if err := s.Apply(context.Background(), batch(numberedBatch(n)...)); err != nil {
			fmt.Println(err)
			return
		}
	}
}

// Batch n puts n under all keys of cache "all", and under one of the keys of
// "log"; every now and then it is a large one, or empties a cache.
const allKeys, logKeys = 8, 50

func numberedBatch(n int) (ops []store.Op) {
	value := strconv.Itoa(n)
	put := func(cache string, key int, value string) {
		ops = append(ops, store.Op{Kind: store.Put, Cache: cache, Key: []byte(strconv.Itoa(key)), Value: []byte(value)})
	}
	for k := range allKeys / 2 {
		put("all", k, value)
	}
	switch n % 10 {
	case 3:
		put("large", 0, value+strings.Repeat(" ", 200_000))
	case 5:
		ops = append(ops, op(store.Clear, "large"))
	case 7:
		put("seven", n, value)
	case 9:
		ops = append(ops, op(store.Drop, "seven"))
	}
	put("log", n%logKeys, value)
	for k := allKeys / 2; k < allKeys; k++ {
		put("all", k, value)
	}
	return ops
}

// numbered returns the number of the last batch that s shows, if it shows all
// of it, and of all batches before.
func numbered(s readable) (int, error) {
	ctx := context.Background()
	read := func(cache string) (map[string]int, error) {
		got := map[string]int{}
		for r, err := range s.Load(ctx, cache) {
			if errors.Is(err, store.ErrNotFound) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(string(bytes.TrimSpace(r.Value)))
			if err != nil {
				return nil, err
			}
			got[string(r.Key)] = n
		}
		return got, nil
	}
	want := map[string]map[string]int{"all": {}, "log": {}, "large": {}, "seven": {}}
	all, err := read("all")
	n := all["0"]
	if err != nil {
		return 0, err
	} else if n == 0 && len(all) > 0 {
		return 0, fmt.Errorf("all: %v", all)
	}
	for i := max(1, n-logKeys+1); i <= n; i++ {
		for _, op := range numberedBatch(i) {
			switch op.Kind {
			case store.Put:
				want[op.Cache][string(op.Key)] = i
			default:
				want[op.Cache] = map[string]int{}
			}
		}
	}
	for cache, want := range want {
		got, err := read(cache)
		if err != nil {
			return 0, err
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return 0, fmt.Errorf("after batch %d, %s is %v, not %v", n, cache, got, want)
		}
	}
	return n, nil
}

// child is a running writer.
type child struct {
	*exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe, "-test.run=^TestChild$", "-test.v")}
	c.Env = append(os.Environ(), childDir+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	if !c.out.Scan() || !strings.HasPrefix(c.out.Text(), "=== RUN") {
		t.Fatalf("the child says %q", c.out.Text())
	}
	return c
}

func (c *child) kill() {
	c.Process.Kill()
	for c.out.Scan() {
	}
	c.Wait()
}

// next returns the next number that the child says, and false once it is dead.
func (c *child) next(t *testing.T) (int, bool) {
	t.Helper()
	if !c.out.Scan() {
		return 0, false
	}
	n, err := strconv.Atoi(c.out.Text())
	if err != nil {
		t.Fatalf("the child says %q", c.out.Text())
	}
	return n, true
}

// A process that writes is killed at a random moment, again and again; each
// time the next one takes over at once. Meanwhile readers that follow it, and
// readers that are opened anew, see whole batches, all of them, and never fewer
// than before. When the writer is dead they see all that it said it had written,
// and at most one batch more, and that is what its successor starts from.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	kills := *soak
	if kills == 0 {
		kills = 20
	}
	if testing.Short() {
		kills = 6
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	opts := logstore.Options{Damage: logstore.Fail}
	s, err := logstore.Open(dir, opts) // so that there is a store
	if err != nil {
		t.Fatal(err)
	}
	s.Close()

	stop := make(chan struct{})
	var readers sync.WaitGroup
	// read calls look until it is time to stop, or something is wrong.
	read := func(name string, look func() (int, error)) {
		readers.Go(func() {
			for last, looks := 0, 0; ; looks++ {
				select {
				case <-stop:
					t.Logf("%s looked %d times", name, looks)
					return
				default:
				}
				n, err := look()
				if err != nil || n < last {
					t.Errorf("%s: batch %d after %d, %v", name, n, last, err)
					return
				}
				last = n
			}
		})
	}
	following, err := logstore.OpenReader(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer following.Close()
	read("the reader that follows", func() (int, error) {
		if _, err := following.Refresh(context.Background(), nil); err != nil {
			return 0, err
		}
		return numbered(following)
	})
	anew := func() (int, error) {
		r, err := logstore.OpenReader(dir, opts)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		return numbered(r)
	}
	read("a new reader", anew)

	last := 0 // the last batch that is there
	for range kills {
		c := startChild(t, dir)
		acked := last
		if rng.IntN(5) > 0 {
			for i := range 1 + rng.IntN(40) {
				n, ok := c.next(t)
				if !ok {
					t.Fatal("the child ended by itself")
				}
				if want := last + i; n != want {
					t.Fatalf("the child goes on with batch %d, not %d", n, want)
				}
				acked = n
			}
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond) // any moment
		c.Process.Kill()
		for {
			n, ok := c.next(t)
			if !ok {
				break
			}
			acked = n
		}
		c.Wait()
		n, err := anew()
		if err != nil || n != acked && n != acked+1 {
			t.Fatalf("after batch %d was acknowledged there is batch %d, %v", acked, n, err)
		}
		last = n
		if t.Failed() {
			break
		}
	}
	close(stop)
	readers.Wait()
	t.Logf("%d batches", last)
	s, err = logstore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := numbered(s); n != last || err != nil {
		t.Errorf("in the end there is batch %d, not %d; %v", n, last, err)
	}
}

// A second process is told which one has the directory, and may have it as soon
// as that one is dead. One that waits gets it then.
func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began := time.Now().Add(-2 * time.Second)
	for _, wait := range []bool{false, true} {
		c := startChild(t, dir)
		c.next(t) // it has the lock
		_, err := logstore.Open(dir, logstore.Options{})
		var locked *store.LockedError
		if !errors.As(err, &locked) || !errors.Is(err, store.ErrLocked) {
			t.Fatalf("Open: %v", err)
		}
		host, _ := os.Hostname()
		if locked.PID != c.Process.Pid || locked.Host != host || locked.Path != dir || locked.Since.Before(began) || locked.Since.After(time.Now().Add(2*time.Second)) {
			t.Errorf("the error names %+v", *locked)
		}
		if !strings.Contains(err.Error(), strconv.Itoa(c.Process.Pid)) || !strings.Contains(err.Error(), host) {
			t.Errorf("the error says %v", err)
		}
		if !wait {
			c.kill()
			s, err := logstore.Open(dir, logstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			continue
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := logstore.OpenWait(ctx, dir, logstore.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("OpenWait with a context that has ended: %v", err)
		}
		opened := make(chan error)
		go func() {
			s, err := logstore.OpenWait(t.Context(), dir, logstore.Options{})
			if err == nil {
				s.Close()
			}
			opened <- err
		}()
		select {
		case err := <-opened:
			t.Fatalf("OpenWait did not wait: %v", err)
		case <-time.After(20 * time.Millisecond): // any time will do
		}
		c.kill()
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
}
