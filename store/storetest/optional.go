package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cacheman-go/cacheman/store"
)

// checkGet checks a [store.Getter].
func checkGet(t *suite) {
	s := t.store()
	g, ok := s.(store.Getter)
	if !ok {
		t.Skip("the store is no Getter")
	}
	m := t.fill(s, 500)
	empty := store.Op{Kind: store.Put, Cache: "c"}
	gone := []store.Op{put("c", "gone", "v"), del("c", "gone"), put("dropped", "k", "v"), drop("dropped"), empty}
	t.apply(s, gone...)
	m.apply(gone...)

	all := func(s store.Store) {
		t.Helper()
		g := s.(store.Getter)
		for key, want := range m["c"].records {
			r, err := g.Get(t.Context(), "c", []byte(key))
			if err != nil || string(r.Key) != key || !bytes.Equal(r.Value, want.Value) ||
				s.Caps().Described && !bytes.Equal(r.Meta, want.Meta) {
				t.Fatalf("Get(%q): %s, %v; want %s", key, short(r), err, short(want))
			}
		}
		for _, miss := range [][2]string{{"c", "gone"}, {"c", "never"}, {"dropped", "k"}, {"unknown", "k"}, {"", "k"}} {
			if r, err := g.Get(t.Context(), miss[0], []byte(miss[1])); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get(%q, %q): %s, %v; want ErrNotFound", miss[0], miss[1], short(r), err)
			}
		}
	}
	all(s)
	if s.Caps().Persistent {
		s = t.reopen(s)
		g = s.(store.Getter)
		all(s)
	}

	var got, copies []store.Record
	for _, i := range []int{3, 4, 3} {
		r, err := g.Get(t.Context(), "c", fmt.Appendf(nil, "key %05d", i))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
		copies = append(copies, store.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Meta: bytes.Clone(r.Meta)})
	}
	t.unrelated(got, copies)
	all(s)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Get(ctx, "c", []byte("key 00001")); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a context that has ended: %v", err)
	}
}

// checkCompact checks a [store.Compactor].
func checkCompact(t *suite) {
	s := t.store()
	c, ok := s.(store.Compactor)
	if !ok {
		t.Skip("the store is no Compactor")
	}
	if err := c.Compact(t.Context()); err != nil {
		t.Fatalf("Compact of an empty store: %v", err)
	}
	m := t.fill(s, 2000)
	change := []store.Op{describe("c", "described"), put("d", "k", "v"), put("dropped", "k", "v"), drop("dropped")}
	for i := range 1500 {
		change = append(change, del("c", fmt.Sprintf("key %05d", i)))
	}
	t.apply(s, change...)
	m.apply(change...)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Compact with a context that has ended: %v", err)
	}
	t.want(s, m)
	ctx, cancel = context.WithCancel(t.Context())
	go cancel()
	if err := c.Compact(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Compact with a context that ends: %v", err)
	}
	t.want(s, m)

	// Reads and batches go on beside it.
	n := 0
	for _, err := range s.Load(t.Context(), "c") {
		if err != nil {
			t.Fatalf("Load beside Compact: %v", err)
		}
		if n++; n%200 == 1 {
			if err := c.Compact(t.Context()); err != nil {
				t.Fatalf("Compact beside Load: %v", err)
			}
		}
	}
	if want := len(m["c"].records); n != want {
		t.Errorf("Load beside Compact gave %d records of %d", n, want)
	}
	done := make(chan error)
	go func() { done <- c.Compact(t.Context()) }()
	for i := range 50 {
		op := put("c", fmt.Sprintf("beside %d", i), "v")
		t.apply(s, op)
		m.apply(op)
		if i%10 == 0 {
			t.want(s, m)
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("Compact: %v", err)
	}
	t.want(s, m)
	for range 2 {
		if err := c.Compact(t.Context()); err != nil {
			t.Fatalf("Compact again: %v", err)
		}
	}
	t.want(s, m)
	if s.Caps().Persistent {
		t.want(t.reopen(s), m)
	}
}
