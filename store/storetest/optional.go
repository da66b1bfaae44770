package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

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

// checkRedescribe checks a [store.Sharer].
func checkRedescribe(t *suite) {
	first := t.store()
	if _, ok := first.(store.Sharer); !ok {
		t.Skip("the store is no Sharer")
	}
	second := t.store() // as another process would have it
	t.apply(first, put("c", "k", "v"), describe("other", "described"))
	m := model{}
	m.apply(put("c", "k", "v"), describe("other", "described"))

	// Nobody adds to what somebody else has just replaced.
	const each = 20
	grow := func(old []byte) []byte { return append(bytes.Clone(old), 'x') }
	var all sync.WaitGroup
	for _, s := range []store.Store{first, second} {
		for range 3 {
			all.Go(func() {
				for range each {
					if err := s.(store.Sharer).Redescribe(t.Context(), "c", grow); err != nil {
						t.Errorf("Redescribe: %v", err)
					}
				}
			})
		}
	}
	all.Wait()
	m.apply(describe("c", strings.Repeat("x", 2*3*each)))
	t.want(first, m)

	if err := second.(store.Sharer).Redescribe(t.Context(), "new", grow); err != nil {
		t.Errorf("Redescribe of a cache that is not known: %v", err)
	}
	m.apply(describe("new", "x"))
	t.want(first, m)
	t.want(second, m)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.(store.Sharer).Redescribe(ctx, "new", grow); !errors.Is(err, context.Canceled) {
		t.Errorf("Redescribe with a context that has ended: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.(store.Sharer).Redescribe(t.Context(), "new", grow); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Redescribe of a closed store: %v", err)
	}
	t.want(t.reopen(first), m)
}
