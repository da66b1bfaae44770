package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// checkKinds: each kind, in a batch of its own.
func checkKinds(t *suite) {
	s := t.store()
	m := make(model)
	for _, op := range []store.Op{
		put("c", "a", "1"), put("c", "b", "2"), put("c", "a", "3"), del("c", "b"), del("c", "b"), del("c", "never"),
		put("d", "a", "other"), clearAll("c"), put("c", "b", "4"), drop("c"), drop("c"), put("c", "c", "5"),
	} {
		t.apply(s, op)
		m.apply(op)
		t.want(s, m)
		if t.Failed() {
			t.Fatalf("after %v %q %q", op.Kind, op.Cache, op.Key)
		}
	}
}

// checkOrder: within a batch the order counts.
func checkOrder(t *suite) {
	for _, ops := range [][]store.Op{
		{put("c", "k", "1"), put("c", "k", "2")},
		{put("c", "k", "1"), del("c", "k")},
		{put("c", "k", "1"), del("c", "k"), put("c", "k", "2")},
		{del("c", "old"), put("c", "old", "2")},
		{put("c", "k", "1"), clearAll("c")},
		{clearAll("c"), put("c", "k", "1")},
		{put("c", "k", "1"), clearAll("c"), put("c", "j", "2")},
		{drop("c"), put("c", "k", "1")},
		{put("c", "k", "1"), drop("c")},
		{put("c", "k", "1"), drop("c"), put("c", "j", "2")},
		{drop("c"), clearAll("c"), del("c", "old")},
		{put("d", "k", "1"), drop("d")},
		{put("d", "k", "1"), put("c", "k", "2"), clearAll("d"), put("e", "k", "3"), del("e", "k")},
	} {
		t.Run("", func(tt *testing.T) {
			t := &suite{T: tt, open: t.open}
			s := t.store()
			m := make(model)
			before := []store.Op{drop("c"), drop("d"), drop("e"), put("c", "old", "0"), put("c", "older", "00")}
			for _, ops := range [][]store.Op{before, ops} {
				t.apply(s, ops...)
				m.apply(ops...)
			}
			t.want(s, m)
			t.apply(s, drop("c"), drop("d"), drop("e"))
			s.Close()
		})
	}
}

// checkEmpty: empty slices are values like others, and nil is empty.
func checkEmpty(t *suite) {
	s := t.store()
	m := make(model)
	ops := []store.Op{
		{Kind: store.Put, Cache: "nil"},
		{Kind: store.Put, Cache: "empty", Key: []byte{}, Value: []byte{}, Meta: []byte{}},
		{Kind: store.Put, Cache: "no key", Value: []byte("v"), Meta: []byte("m")},
		{Kind: store.Put, Cache: "no value", Key: []byte("k"), Meta: []byte("m")},
		{Kind: store.Put, Cache: "no meta", Key: []byte("k"), Value: []byte("v")},
		{Kind: store.Put, Cache: "zeros", Key: []byte{0}, Value: []byte{0}, Meta: []byte{0}},
		{Kind: store.Put, Cache: "zeros", Key: []byte{0, 0}, Value: []byte{0, 0}, Meta: []byte{0, 0}},
		{Kind: store.Put, Cache: "zeros"},
		{Kind: store.Put, Cache: "bytes", Key: []byte("\xff\xfe\r\n\",;"), Value: []byte("\r\n\n\r\"\"'\\ ")},
	}
	for b := range 256 {
		ops = append(ops, store.Op{Kind: store.Put, Cache: "bytes", Key: []byte{byte(b)}, Value: []byte{byte(b), '\n', byte(b)}})
	}
	t.apply(s, ops...)
	m.apply(ops...)
	t.want(s, m)
	if s.Caps().Persistent {
		s = t.reopen(s)
		t.want(s, m)
	}
	gone := store.Op{Kind: store.Delete, Cache: "nil", Value: []byte("of no use"), Meta: []byte("likewise")}
	t.apply(s, gone)
	m.apply(gone)
	t.want(s, m)
}

// checkLarge: a key and a value of some size.
func checkLarge(t *suite) {
	s := t.store()
	size := 5 << 20
	if testing.Short() {
		size = 1 << 20
	}
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i * i >> 7)
	}
	m := make(model)
	ops := []store.Op{
		put("c", "small", "1"),
		{Kind: store.Put, Cache: "c", Key: []byte("large"), Value: value},
		{Kind: store.Put, Cache: "c", Key: []byte(strings.Repeat("key", 20000)), Value: []byte("v"), Meta: bytes.Repeat([]byte("m"), 70000)},
		{Kind: store.Put, Cache: "c", Key: []byte("text"), Value: bytes.Repeat([]byte("line\n"), size/5)},
	}
	t.apply(s, ops...)
	m.apply(ops...)
	t.want(s, m)
	if s.Caps().Persistent {
		t.want(t.reopen(s), m)
	}
}

// checkMany: one batch of many records.
func checkMany(t *suite) {
	s := t.store()
	n := 100_000
	if testing.Short() {
		n = 5_000
	}
	m := make(model)
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = put("c", fmt.Sprintf("key %d", i), fmt.Sprintf("value %d", i*i))
	}
	t.apply(s, ops...)
	m.apply(ops...)
	t.want(s, m)
	ops = ops[:0]
	for i := 0; i < n; i += 3 {
		ops = append(ops, del("c", fmt.Sprintf("key %d", i)))
	}
	t.apply(s, ops...)
	m.apply(ops...)
	if s.Caps().Persistent {
		s = t.reopen(s)
	}
	t.want(s, m)
}

// checkReuse: the slices of an Op are changed as soon as the next is asked for.
func checkReuse(t *suite) {
	s := t.store()
	m := make(model)
	var key, value, meta []byte
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		for i := range 300 {
			key = fmt.Appendf(key[:0], "key %03d", i)
			value = fmt.Appendf(value[:0], "value %03d", i)
			meta = fmt.Appendf(meta[:0], "meta %03d", i)
			op := store.Op{Kind: store.Put, Cache: "c", Key: key, Value: value, Meta: meta}
			if i%100 == 99 {
				op = store.Op{Kind: store.Describe, Cache: "c", Value: value}
			}
			m.apply(op)
			if !yield(op, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	for _, b := range [][]byte{key, value, meta} {
		for i := range b {
			b[i] = '!'
		}
	}
	t.want(s, m)
	if s.Caps().Persistent {
		t.want(t.reopen(s), m)
	}
}

var errFromOps = errors.New("from the sequence of ops")

// checkFailingBatch: an error in ops, wherever it is, undoes the batch.
func checkFailingBatch(t *suite) {
	t.failing(func(_ context.CancelFunc, yield func(store.Op, error) bool) bool {
		return yield(store.Op{}, errFromOps)
	}, errFromOps)
}

// checkCancelledBatch: so does the end of the context.
func checkCancelledBatch(t *suite) {
	t.failing(func(cancel context.CancelFunc, yield func(store.Op, error) bool) bool {
		cancel()
		return yield(put("c", "late", "v"), nil)
	}, context.Canceled)
	t.failing(func(cancel context.CancelFunc, _ func(store.Op, error) bool) bool {
		cancel() // after the last op
		return false
	}, context.Canceled)

	s := t.store()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, batch(put("c", "k", "v"))); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply with a context that has ended: %v", err)
	}
	t.want(s, model{})

	// One whose turn has not come does not wait for it.
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		if !yield(put("c", "k", "v"), nil) {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Apply(ctx, batch(put("c", "k", "other"))) }()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Apply with a context that ends during another: %v", err)
		}
		yield(put("c", "k", "last"), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	m := model{}
	m.apply(put("c", "k", "last"))
	t.want(s, m)
}

// failing applies batches which fail after any number of ops, by what fail
// does, and checks that they leave no trace.
func (t *suite) failing(fail func(context.CancelFunc, func(store.Op, error) bool) bool, want error) {
	t.Helper()
	s := t.store()
	m := make(model)
	before := []store.Op{put("c", "k", "1"), put("c", "j", "1"), put("d", "k", "1"), describe("c", "d")}
	t.apply(s, before...)
	m.apply(before...)
	ops := []store.Op{
		put("c", "k", "2"), put("c", "new", "2"), del("c", "j"), put("new", "k", "2"), clearAll("d"),
		describe("c", "2"), drop("d"), put("d", "k", strings.Repeat("long", 100_000)),
	}
	for n := range len(ops) + 1 {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Apply(ctx, func(yield func(store.Op, error) bool) {
			for _, op := range ops[:n] {
				if !yield(op, nil) {
					t.Errorf("Apply ended early, after fewer than %d ops", n)
					return
				}
			}
			if fail(cancel, yield) {
				// It may have asked for more before it looked.
				yield(store.Op{}, errFromOps)
			}
		})
		cancel()
		if !errors.Is(err, want) {
			t.Errorf("a batch that fails after %d ops: %v, want %v", n, err, want)
		}
		t.want(s, m)
		if t.Failed() {
			t.Fatalf("a batch that failed after %d ops left a trace", n)
		}
	}
	after := put("c", "after", "3")
	t.apply(s, after)
	m.apply(after)
	t.want(s, m)
	if s.Caps().Persistent {
		s = t.reopen(s)
		t.want(s, m)
	}
	t.apply(s, drop("c"), drop("d"))
	s.Close()
}
