package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
)

// lock has another connection write until the test ends or unlock is called.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return func() {
		if _, err := db.Exec("ROLLBACK"); err != nil {
			t.Error(err)
		}
	}
}

// Who writes waits for others as long as it was told to, and not longer than
// its context lasts.
func TestLocked(t *testing.T) {
	t.Parallel()
	path := place(t)
	patient := open(t, path)
	apply(t, patient, puts("c", 10, "v"))
	for _, wait := range []time.Duration{-1, 10 * time.Millisecond} {
		s, err := sqlitestore.Open(path, sqlitestore.Options{Wait: wait})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		unlock := lock(t, path)
		err = s.Apply(t.Context(), puts("c", 10, "new"))
		locked, ok := errors.AsType[*store.LockedError](err)
		if !ok || !errors.Is(err, store.ErrLocked) || locked.Path != path {
			t.Errorf("Apply to what is locked, waiting %v: %v", wait, err)
		}
		wantAll(t, s, "c", 10, "v") // reading is possible

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- patient.Apply(ctx, puts("c", 10, "new")) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Apply that is cancelled while it waits: %v", err)
		}

		// One that waits for its own process.
		first := make(chan error)
		go func() { first <- patient.Apply(t.Context(), puts("c", 10, "new")) }()
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- patient.Apply(ctx, puts("c", 10, "newer")) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Apply that is cancelled while it waits for another: %v", err)
		}
		unlock()
		if err := <-first; err != nil {
			t.Errorf("Apply after the lock is gone: %v", err)
		}
		wantAll(t, s, "c", 10, "new")
		apply(t, s, puts("c", 10, "v"))
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a ?#%41&=;'\"é dir")
	if runtime.GOOS == "windows" {
		dir = filepath.Join(t.TempDir(), "a #%41&=;'é dir")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "c"))
	apply(t, s, puts("c", 100, "v"))
	if err := errors.Join(s.Compact(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "c" {
		t.Errorf("files %v, %v", entries, err)
	}
}

// Each connection writes so that a commit is durable.
func TestSettings(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	apply(t, s, puts("c", 10, "v"))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "fullfsync": "1", "checkpoint_fullfsync": "1", "auto_vacuum": "2",
	} {
		if got := sqlitestore.Pragma(s, pragma); got != want {
			t.Errorf("%s is %s, not %s", pragma, got, want)
		}
	}
}
