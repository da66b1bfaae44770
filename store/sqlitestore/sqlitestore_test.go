package sqlitestore_test

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "cache.db")
		return func() (store.Store, error) { return sqlitestore.Open(path, sqlitestore.Options{}) }
	})
}

// TestMain lets the test binary be another process.
func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := children[what](os.Getenv(pathEnv)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// few returns how often something is done, or how much of it: less with -short.
func few(usually, short int) int {
	if testing.Short() {
		return short
	}
	return usually
}

// place is a path for a database that is not there yet.
func place(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "cache.db")
}

func open(t *testing.T, path string) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(path, sqlitestore.Options{Wait: time.Minute}) // the machine may be slow
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(cache, key, value string) store.Op {
	return store.Op{Kind: store.Put, Cache: cache, Key: []byte(key), Value: []byte(value)}
}

// puts yields n ops that give the keys from 0 on the same value.
func puts(cache string, n int, value string) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for i := range n {
			if !yield(put(cache, fmt.Sprintf("%06d", i), value), nil) {
				return
			}
		}
	}
}

func batch(ops ...store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

func apply(t *testing.T, s store.Store, ops iter.Seq2[store.Op, error]) {
	t.Helper()
	if err := s.Apply(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
}

// wantAll checks that a cache has the keys from 0 to n-1, all with this value.
func wantAll(t *testing.T, s store.Store, cache string, n int, value string) {
	t.Helper()
	got := 0
	for r, err := range s.Load(context.Background(), cache) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%06d", got); string(r.Key) != want || string(r.Value) != value {
			t.Fatalf("record %.80q has value %.80q; want %s and %.80q", r.Key, r.Value, want, value)
		}
		got++
	}
	if got != n {
		t.Fatalf("%d records of %d", got, n)
	}
}
