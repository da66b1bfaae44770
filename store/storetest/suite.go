package storetest

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// suite is a test with a place to open stores in.
type suite struct {
	*testing.T
	open Open
}

// store opens the store, and closes it when the test ends.
func (t *suite) store() store.Store {
	t.Helper()
	s, err := t.open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// reopen closes s and opens what it kept.
func (t *suite) reopen(s store.Store) store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return t.store()
}

// apply applies ops as one batch, which must succeed.
func (t *suite) apply(s store.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Apply(t.Context(), batch(ops...)); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// caches returns what s lists.
func (t *suite) caches(s store.Store) []store.Info {
	t.Helper()
	infos, err := s.Caches(t.Context())
	if err != nil {
		t.Fatalf("Caches: %v", err)
	}
	return infos
}

// want checks that s holds exactly what the model does.
func (t *suite) want(s store.Store, m model) {
	t.Helper()
	described := s.Caps().Described
	var names []string
	for _, info := range t.caches(s) {
		names = append(names, info.Cache)
		c, ok := m[info.Cache]
		if !ok {
			continue // reported below
		}
		if info.Records != -1 && info.Records != len(c.records) {
			t.Errorf("Caches says that %s has %d records, not %d", short(info.Cache), info.Records, len(c.records))
		}
		if info.Records == -1 && info.AtMost != 0 && info.AtMost < len(c.records) {
			t.Errorf("Caches says that %s has at most %d records, not %d", short(info.Cache), info.AtMost, len(c.records))
		}
		if described && !bytes.Equal(info.Description, c.description) {
			t.Errorf("%s is described as %s, not %s", short(info.Cache), short(info.Description), short(c.description))
		}
	}
	if want := slices.Sorted(maps.Keys(m)); !slices.Equal(names, want) {
		t.Fatalf("Caches lists %s, not %s", short(names), short(want))
	}
	for name, c := range m {
		t.wantRecords(s, name, c.records)
	}
}

// wantRecords checks that the cache has exactly these records.
func (t *suite) wantRecords(s store.Store, cache string, want map[string]store.Record) {
	t.Helper()
	described := s.Caps().Described
	seen := make(map[string]bool)
	for r, err := range s.Load(t.Context(), cache) {
		if err != nil {
			t.Fatalf("Load of %s: %v", short(cache), err)
		}
		key := string(r.Key)
		w, ok := want[key]
		switch {
		case seen[key]:
			t.Errorf("%s gives key %s twice", short(cache), short(key))
		case !ok:
			t.Errorf("%s has key %s, which it should not", short(cache), short(key))
		case !bytes.Equal(r.Value, w.Value):
			t.Errorf("%s has value %s for key %s, not %s", short(cache), short(r.Value), short(key), short(w.Value))
		case described && !bytes.Equal(r.Meta, w.Meta):
			t.Errorf("%s has meta %s for key %s, not %s", short(cache), short(r.Meta), short(key), short(w.Meta))
		}
		seen[key] = true
	}
	for key := range want {
		if !seen[key] {
			t.Errorf("%s has no key %s", short(cache), short(key))
		}
	}
}

// short renders v so that a failure can be read.
func short(v any) string {
	s := fmt.Sprintf("%q", v)
	if len(s) > 80 {
		s = fmt.Sprintf("%s… (%d bytes)", s[:60], len(s))
	}
	return s
}

// batch yields ops.
func batch(ops ...store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

func put(cache, key, value string) store.Op {
	return store.Op{Kind: store.Put, Cache: cache, Key: []byte(key), Value: []byte(value), Meta: []byte("meta of " + key)}
}

func del(cache, key string) store.Op {
	return store.Op{Kind: store.Delete, Cache: cache, Key: []byte(key)}
}

func clearAll(cache string) store.Op { return store.Op{Kind: store.Clear, Cache: cache} }

func drop(cache string) store.Op { return store.Op{Kind: store.Drop, Cache: cache} }

func describe(cache, description string) store.Op {
	return store.Op{Kind: store.Describe, Cache: cache, Value: []byte(description)}
}
