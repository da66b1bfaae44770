package sqlitestore_test

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
	"sync"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
)

// kills is how often TestKilled kills; 1000 takes some minutes.
var kills = flag.Int("kills", 0, "how many processes are killed while they write; 0 means a few")

const (
	childEnv = "SQLITESTORE_TEST_CHILD"
	pathEnv  = "SQLITESTORE_TEST_PATH"
	nameEnv  = "SQLITESTORE_TEST_NAME"
)

// children are what the test binary does as another process.
var children = map[string]func(path string) error{
	"write": writeBatches,
	"try":   tryOpen,
}

// keys is how many records of cache c a batch of writeBatches has.
const keys = 30

// writeBatches applies batches as long as its parent gives it lines. Each puts
// a number into all records of cache c that have the process's name, and into a
// new record of cache log; the numbers go on from what is there. It says of each
// batch when it is durable.
func writeBatches(path string) error {
	ctx, name := context.Background(), os.Getenv(nameEnv)
	s, err := sqlitestore.Open(path, sqlitestore.Options{Wait: time.Minute})
	if err != nil {
		return err
	}
	all, err := written(s)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for in, n := bufio.NewScanner(os.Stdin), all[name]; in.Scan(); {
		n++
		err := s.Apply(ctx, func(yield func(store.Op, error) bool) {
			for k := range keys {
				if !yield(put("c", fmt.Sprintf("%s/%d", name, k), value(n, k)), nil) {
					return
				}
			}
			// Many pages, most of which are free again after the next batch.
			_ = yield(put("large", name, strings.Repeat("x", n%7*10_000)), nil) &&
				yield(put("log", fmt.Sprintf("%s/%d", name, n), ""), nil)
		})
		if err != nil {
			return err
		}
		if n%20 == 0 {
			if err := s.Compact(ctx); err != nil {
				return err
			}
		}
		fmt.Println(n)
	}
	return s.Close()
}

func value(n, k int) string { return strconv.Itoa(n) + " " + strings.Repeat("v", (n+k)%100*k) }

// written returns, for each name, the number of the last batch that s has,
// and checks that it has the whole of it.
func written(s store.Store) (map[string]int, error) {
	n, got := make(map[string]int), make(map[string]int)
	for r, err := range s.Load(context.Background(), "c") {
		if errors.Is(err, store.ErrNotFound) {
			return n, nil
		}
		if err != nil {
			return nil, err
		}
		name, key, _ := strings.Cut(string(r.Key), "/")
		number, _, _ := strings.Cut(string(r.Value), " ")
		if n[name] == 0 {
			if n[name], err = strconv.Atoi(number); err != nil {
				return nil, err
			}
		}
		k, err := strconv.Atoi(key)
		if err != nil {
			return nil, err
		}
		if string(r.Value) != value(n[name], k) {
			return nil, fmt.Errorf("%s has the value of batch %s beside those of batch %d", r.Key, number, n[name])
		}
		got[name]++
	}
	for name, got := range got {
		if got != keys {
			return nil, fmt.Errorf("%s has %d records of %d", name, got, keys)
		}
	}
	return n, nil
}

// wantLog checks that no batch is missing in cache log, and none is too much.
func wantLog(t *testing.T, s store.Store, want map[string]int) {
	t.Helper()
	total := 0
	for name, n := range want {
		total += n
		for i := range n {
			if _, err := s.(store.Getter).Get(t.Context(), "log", fmt.Appendf(nil, "%s/%d", name, i+1)); err != nil {
				t.Fatalf("batch %d of %s, which has done %d: %v", i+1, name, n, err)
			}
		}
	}
	infos, err := s.Caches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Cache == "log" && info.Records != total {
			t.Errorf("%d batches in the log, of %d", info.Records, total)
		}
	}
}

// tryOpen reports why the store cannot be opened.
func tryOpen(path string) error {
	s, err := sqlitestore.Open(path, sqlitestore.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// child starts the test binary as another process.
func child(t *testing.T, what, path, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+what, pathEnv+"="+path, nameEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// writer is a process that writes.
type writer struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	done int // the last batch that it said to be durable
}

// startWriter starts one and waits until it has opened the database.
func startWriter(t *testing.T, path, name string) *writer {
	t.Helper()
	w := &writer{Cmd: child(t, "write", path, name)}
	var err error
	if w.in, err = w.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewScanner(out)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	if !w.out.Scan() || w.out.Text() != "ready" {
		t.Fatalf("the process says %q, %v", w.out.Text(), w.Wait())
	}
	return w
}

// read takes in one answer, and reports whether there was one.
func (w *writer) read(t *testing.T) bool {
	if !w.out.Scan() {
		return false
	}
	n, err := strconv.Atoi(w.out.Text())
	if err != nil {
		t.Fatalf("the process says %q", w.out.Text())
	}
	w.done = n
	return true
}

// Several processes write at once and nothing is lost; one that reads
// meanwhile sees whole batches, and each not before the one that came before.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	path := place(t)
	const processes = 3
	batches := few(60, 10)
	var ws []*writer // all have made the file, and only one of them really
	for i := range processes {
		ws = append(ws, startWriter(t, path, strconv.Itoa(i)))
	}
	var wg sync.WaitGroup
	for _, w := range ws {
		if _, err := io.WriteString(w.in, strings.Repeat("\n", batches)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for w.done < batches && w.read(t) {
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		s := open(t, path)
		last := make(map[string]int)
		for {
			select {
			case <-stop:
				return
			default:
			}
			now, err := written(s)
			if err != nil {
				t.Error(err)
				return
			}
			for name, n := range last {
				if now[name] < n {
					t.Errorf("after batch %d of %s there is batch %d", n, name, now[name])
				}
			}
			last = now
		}
	})
	own := open(t, path) // this process writes too
	for i := range batches {
		apply(t, own, puts("own", 20, strconv.Itoa(i)))
	}
	wg.Wait()
	close(stop)
	reader.Wait()
	want := make(map[string]int)
	for i, w := range ws {
		w.in.Close()
		if err := w.Wait(); err != nil {
			t.Errorf("process %d: %v, %s", i, err, w.out.Text())
		}
		if w.done != batches {
			t.Errorf("process %d has done %d batches of %d", i, w.done, batches)
		}
		want[strconv.Itoa(i)] = batches
	}
	if got, err := written(own); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the last batches are %v, %v; want %v", got, err, want)
	}
	wantLog(t, own, want)
	wantAll(t, own, "own", 20, strconv.Itoa(batches-1))
}

// Whenever a process is killed, what it had been told to be durable is there,
// and of the batch it was at either all or nothing, and another one that
// writes at the same time does not notice.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := place(t)
	other := startWriter(t, path, "other")
	before := 0
	rounds := *kills
	if rounds == 0 {
		rounds = few(12, 4)
	}
	for i := range rounds {
		w := startWriter(t, path, "killed")
		w.done = before
		stop := before + 1 + rand.IntN(30)
		// The pipes take all of it at once.
		if _, err := io.WriteString(w.in, strings.Repeat("\n", 500)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(other.in, strings.Repeat("\n", 3)); err != nil {
			t.Fatal(err)
		}
		for killed := false; w.read(t); {
			if !killed && w.done >= stop {
				// Somewhere in what comes next; the delay is not for
				// anything to happen, but to find it at various places.
				time.AfterFunc(time.Duration(rand.IntN(1500))*time.Microsecond, func() { w.Process.Kill() })
				killed = true
			}
		}
		_ = w.Wait()
		for range 3 {
			if !other.read(t) {
				t.Fatalf("kill %d: the other process: %v", i, other.Wait())
			}
		}
		s := open(t, path)
		got, err := written(s)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		n := got["killed"]
		if n != w.done && n != w.done+1 {
			t.Fatalf("kill %d: batch %d is there; %d was durable", i, n, w.done)
		}
		if got["other"] != other.done {
			t.Fatalf("kill %d: batch %d of the other is there; %d was durable", i, got["other"], other.done)
		}
		wantLog(t, s, got)
		before = n
		if i%3 == 0 { // now and then no process has it open but those two
			other.in.Close()
			if err := errors.Join(other.Wait(), s.Close()); err != nil {
				t.Fatal(err)
			}
			done := other.done
			other = startWriter(t, path, "other")
			other.done = done
		}
	}
	other.in.Close()
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d and %d batches", before, other.done)
}
