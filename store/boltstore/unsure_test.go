package boltstore

import (
	"errors"
	"iter"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
)

// A batch that failed such that it may be there is there as a whole or not at
// all, also if it failed beside a compaction.
func TestCompactBesideUnsureBatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	both := func(value string) iter.Seq2[store.Op, error] {
		return func(yield func(store.Op, error) bool) {
			for _, cache := range []string{"a", "b"} {
				if !yield(store.Op{Kind: store.Put, Cache: cache, Value: []byte(value)}, nil) {
					return
				}
			}
		}
	}
	if err := s.Apply(t.Context(), both("old")); err != nil {
		t.Fatal(err)
	}

	to, err := openDatabase(path+compactExt, 0, bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := to.initialize(); err != nil {
		t.Fatal(err)
	}
	c := copying{s: s, to: to}
	err = errors.Join(c.follow(t.Context()), c.copy(t.Context(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	// What Apply leaves if the page with the transaction's number was written but
	// not synced.
	b, err := collect(t.Context(), both("new"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.update(func(tx *bolt.Tx) error { return b.write(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
	s.failed = errors.New("input/output error")

	err = c.copy(t.Context(), "b")
	if err == nil {
		err = c.finish(t.Context(), path+compactExt)
	}
	if !errors.Is(err, s.failed) {
		t.Errorf("the compaction ends with %v", err)
	}
	c.unfollow()
	if err := errors.Join(to.close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	values := map[string]bool{}
	for _, cache := range []string{"a", "b"} {
		r, err := s.Get(t.Context(), cache, nil)
		if err != nil {
			t.Fatal(err)
		}
		values[string(r.Value)] = true
	}
	if len(values) != 1 {
		t.Errorf("of the batch a part is there: %v", values)
	}
}
