package logstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// A copy that is made while batches and compactions go on is what was there at
// one instant during it, is a store of its own, and leaves the original alone.
func TestBackupOfLiveStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := logstore.Open(dir, logstore.Options{CompactAt: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := logstore.OpenReader(dir, logstore.Options{})
	if err == nil {
		err = r.Backup(t.Context(), t.TempDir())
		r.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "nothing was ever stored") {
		t.Errorf("copying a new store by a reader: %v", err)
	}

	states := []string{state{}.String()}
	now := state{}
	step := func() {
		n := len(states)
		var ops []store.Op
		for k := range 20 {
			ops = append(ops, put("a", fmt.Sprint(k), strings.Repeat(fmt.Sprint(n), 200)))
		}
		ops = append(ops, put("b", fmt.Sprint(n%7), "b"), del("b", fmt.Sprint((n+3)%7)))
		apply(t, s, ops...)
		now = now.after(ops...)
		states = append(states, now.String())
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	for round := range 6 {
		copied := filepath.Join(t.TempDir(), "made", "by", "backup")
		acked := len(states)
		go func() {
			defer func() { stopped <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					step()
				}
			}
		}()
		var err error
		if round%2 == 0 {
			err = s.Backup(t.Context(), copied)
		} else {
			var r *logstore.Reader
			if r, err = logstore.OpenReader(dir, logstore.Options{}); err == nil {
				err = r.Backup(t.Context(), copied)
				r.Close()
			}
		}
		stop <- struct{}{}
		<-stopped
		if err != nil {
			t.Fatal(err)
		}
		b, err := logstore.Open(copied, logstore.Options{Damage: logstore.Fail, Observe: failOnTrouble(t)})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := dump(t, b)
		at := -1
		for i, st := range states {
			if st == got.String() {
				at = i
			}
		}
		if at < acked-1 {
			t.Errorf("the copy is of batch %d, when %d had been acknowledged: %v", at, acked-1, got)
		}
		apply(t, b, op(store.Drop, "a"), put("c", "1", "of the copy"))
		if err := b.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Close()
		want(t, s, now)

		if err := s.Backup(t.Context(), copied); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("a copy to a directory with something in it: %v", err)
		}
	}
	s.Close()
	if err := s.Backup(t.Context(), filepath.Join(dir, "never")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Backup of a closed store: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("it made the directory")
	}
}

// The copy holds what was acknowledged, not what is being written, and not what
// failed.
func TestBackupOfAcknowledged(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	empty := faultfs.New()
	if err := s.BackupTo(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	want(t, openReader(t, quiet(empty)), state{})
	apply(t, s, put("a", "1", "one"))
	mem.Hook(func(_ int, op faultfs.Op, name string) error {
		if op == faultfs.OpSync || op == faultfs.OpTruncate {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Apply(t.Context(), batch(put("a", "1", "two"))); err == nil {
		t.Fatal("no error")
	}
	mem.Hook(nil)
	to := faultfs.New()
	if err := s.BackupTo(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, quiet(to)), state{"a": {"1": "one/m"}})

	// Batches and a compaction that come while it copies are not in it.
	apply(t, s, put("a", "1", "three"))
	to = faultfs.New()
	view := &calling{FS: to}
	calls := 0
	view.before = func() {
		calls++
		apply(t, s, put("a", fmt.Sprint(calls), "late"))
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.BackupTo(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, quiet(to)), state{"a": {"1": "three/m"}})
}

// The copy fails, is cancelled, or the power is lost at any call on the side of
// the copy. What is left either says that it is unfinished, or has no store in
// it, or is the whole; once Backup has returned nil it is the whole.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "1", large[:5000]), put("b", "1", "x"))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", "2", large[:5000]), put("c", "1", "y"))
	sure, _ := dump(t, s)
	check := func(t *testing.T, to *faultfs.FS, whole bool) {
		t.Helper()
		files := len(to.Files())
		r, err := logstore.OpenReader("copy", quiet(to.Clone()))
		if err == nil {
			want(t, r, sure)
			r.Close()
		} else if whole || !errors.Is(err, store.ErrUnfinished) && files > 0 {
			t.Errorf("OpenReader with %d files: %v", files, err)
		}
		w, err2 := logstore.Open("copy", quiet(to.Clone()))
		if err2 == nil {
			if err == nil {
				want(t, w, sure)
			} else if files > 0 {
				t.Error("Open took for whole what OpenReader did not")
			}
			w.Close()
		} else if err == nil {
			t.Errorf("Open: %v", err2)
		}
	}
	for n := 1; ; n++ {
		to := faultfs.New()
		to.LoseAt(n)
		err := s.BackupTo(t.Context(), to)
		lost := to.Lost()
		if !lost && err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(5) {
			check(t, to.Restart(seed), !lost)
		}
		to = faultfs.New()
		to.FailAt(n, syscall.ENOSPC, n%2 == 0)
		err = s.BackupTo(t.Context(), to)
		if lost && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("call %d: %v", n, err)
		}
		to.Hook(nil)
		check(t, to, err == nil)
		for seed := range uint64(5) {
			check(t, to.Restart(seed), err == nil)
		}
		if !lost {
			if n < 15 {
				t.Errorf("there were only %d calls", n)
			}
			break
		}
	}
	// It fails, and then the power is lost while it removes what it made.
	for n := 1; n < 20; n++ {
		for later := n + 1; later < n+6; later++ {
			to := faultfs.New()
			changes := 0
			to.Hook(func(_ int, op faultfs.Op, _ string) error {
				if op.Changes() {
					changes++
				}
				switch {
				case changes >= later:
					return faultfs.ErrPowerLost
				case changes == n:
					return syscall.ENOSPC
				}
				return nil
			})
			err := s.BackupTo(t.Context(), to)
			for seed := range uint64(4) {
				check(t, to.Restart(seed), err == nil)
			}
		}
	}
	for n := range 12 {
		to := faultfs.New()
		ctx, cancel := context.WithCancel(t.Context())
		to.Hook(func(call int, op faultfs.Op, name string) error {
			if call == 3*n {
				cancel()
			}
			return nil
		})
		err := s.BackupTo(ctx, to)
		to.Hook(nil)
		if err != nil && (!errors.Is(err, context.Canceled) || len(to.Files()) > 0) {
			t.Errorf("%v; %d files are left", err, len(to.Files()))
		}
		check(t, to, err == nil)
		cancel()
	}
}

// TestBackupOfDamaged: what is damaged is copied as it is, also if a file was cut off, with all else.
func TestBackupOfDamaged(t *testing.T) {
	t.Parallel()
	mem := faultfs.New()
	s := open(t, quiet(mem))
	apply(t, s, put("a", "1", large[:5000]), put("b", "1", large[:9000]))
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("c", "1", "y"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range mem.Files() {
		if strings.HasSuffix(name, ".snap") && len(data) > 100 {
			mem.WriteFile(name, data[:len(data)/2])
			break
		}
	}
	opts := quiet(mem)
	opts.Damage = logstore.Discard
	s = open(t, opts)
	was, damaged := dump(t, s)
	to := faultfs.New()
	if err := s.BackupTo(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	opts.FS = to
	if copied, n := dump(t, open(t, opts)); copied.String() != was.String() || n != damaged || n == 0 {
		t.Errorf("%d are damaged, and in the copy %d", damaged, n)
	}
}
