package boltstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

func TestLocked(t *testing.T) {
	t.Parallel()
	path := place(t)
	s := open(t, path)
	for _, wait := range []time.Duration{0, time.Millisecond} {
		_, err := boltstore.Open(path, boltstore.Options{Wait: wait})
		locked, ok := errors.AsType[*store.LockedError](err)
		if !ok || !errors.Is(err, store.ErrLocked) || locked.Path != path {
			t.Errorf("Open of what is open: %v", err)
		}
	}
	opened := make(chan error)
	go func() {
		s, err := boltstore.Open(path, boltstore.Options{Wait: time.Hour})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open that waits: %v", err)
	}
}

// A program that uses bbolt itself is respected.
func TestLockedByBolt(t *testing.T) {
	t.Parallel()
	path := place(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := boltstore.Open(path, boltstore.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Open of what is open: %v", err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a ?#%&=;'\"é dir")
	if runtime.GOOS == "windows" {
		dir = filepath.Join(t.TempDir(), "a #%&=;'é dir")
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
	if err != nil || len(entries) != 2 || entries[0].Name() != "c" || entries[1].Name() != "c.lock" {
		t.Errorf("files %v, %v", entries, err)
	}
	for _, e := range entries {
		if i, err := e.Info(); err != nil || runtime.GOOS != "windows" && i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), i.Mode(), err)
		}
	}
}
