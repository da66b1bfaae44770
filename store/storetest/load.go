package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cacheman-go/cacheman/store"
)

// fill puts n records into cache c and into the model.
func (t *suite) fill(s store.Store, n int) model {
	t.Helper()
	m := make(model)
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = put("c", fmt.Sprintf("key %05d", i), fmt.Sprintf("value %05d", i))
	}
	t.apply(s, ops...)
	m.apply(ops...)
	return m
}

// checkLoad: a loop may end early, start again, and be one of many.
func checkLoad(t *suite) {
	s := t.store()
	m := t.fill(s, 1000)
	for _, stop := range []int{1, 2, 500, 999} {
		n := 0
		for _, err := range s.Load(t.Context(), "c") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break
			}
		}
	}
	t.want(s, m)
	loop := s.Load(t.Context(), "c")
	for range 2 {
		n := 0
		for _, err := range loop {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			t.Errorf("%d of 1000 records were given by an iterator that may be used again", n)
		}
	}
	t.apply(s, put("d", "k", "v")) // no loop that ended holds anything up
	for range s.Load(t.Context(), "d") {
		t.wantRecords(s, "c", m["c"].records)
	}
}

// checkLoadOwnership: what is loaded can be changed and appended to, and
// nothing else changes.
func checkLoadOwnership(t *suite) {
	s := t.store()
	m := t.fill(s, 200)
	var kept, copies []store.Record
	for r, err := range s.Load(t.Context(), "c") {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r)
		copies = append(copies, store.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Meta: bytes.Clone(r.Meta)})
	}
	t.unrelated(kept, copies)
	t.want(s, m)
}

// unrelated appends to every slice of the records, then changes them all, and
// checks each time that the others are as before.
func (t *suite) unrelated(records, copies []store.Record) {
	t.Helper()
	for _, r := range records {
		_ = append(r.Key, "appended"...)
		_ = append(r.Value, "appended"...)
		_ = append(r.Meta, "appended"...)
	}
	for i, r := range records {
		for name, b := range map[string][2][]byte{
			"key": {r.Key, copies[i].Key}, "value": {r.Value, copies[i].Value}, "meta": {r.Meta, copies[i].Meta},
		} {
			if !bytes.Equal(b[0], b[1]) {
				t.Fatalf("appending to other slices made the %s %s of %s", name, short(b[0]), short(b[1]))
			}
		}
	}
	for i, r := range records {
		for _, b := range [][]byte{r.Key, r.Value, r.Meta} {
			for j := range b {
				b[j] = '!'
			}
		}
		if i+1 < len(records) && !bytes.Equal(records[i+1].Value, copies[i+1].Value) {
			t.Fatalf("changing one record made the next one's value %s", short(records[i+1].Value))
		}
	}
}

// checkLoadCancelled: the end of the context ends the loop, with its error.
func checkLoadCancelled(t *suite) {
	s := t.store()
	t.fill(s, 10_000)
	for _, after := range []int{0, 1, 5000} {
		ctx, cancel := context.WithCancel(t.Context())
		if after == 0 {
			cancel()
		}
		n := 0
		var last error
		for _, err := range s.Load(ctx, "c") {
			if last != nil {
				t.Error("the loop goes on after an error")
			}
			last = err
			if n++; n == after {
				cancel()
			}
		}
		cancel()
		if !errors.Is(last, context.Canceled) {
			t.Errorf("a context that ends after %d of 10000 records: %d were given, and error %v", after, n, last)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Caches(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Caches with a context that has ended: %v", err)
	}
}

// checkLoadSnapshot: a batch that is applied during a loop is not seen in it,
// not even in part.
func checkLoadSnapshot(t *suite) {
	for _, change := range [][]store.Op{
		{put("c", "key 00000", "changed"), put("c", "key 00999", "changed"), del("c", "key 00500"), put("c", "new", "new")},
		{clearAll("c")},
		{drop("c")},
		{drop("c"), put("c", "key 00000", "again")},
	} {
		s := t.store()
		m := t.fill(s, 1000)
		n := 0
		for r, err := range s.Load(t.Context(), "c") {
			if err != nil {
				t.Fatalf("Load beside Apply: %v", err)
			}
			if n++; n == 10 {
				t.apply(s, change...)
			}
			if w, ok := m["c"].records[string(r.Key)]; !ok || !bytes.Equal(r.Value, w.Value) {
				t.Errorf("record %s with value %s was not there when the loop began", short(r.Key), short(r.Value))
			}
		}
		if n != 1000 {
			t.Errorf("%d of 1000 records were given, while %v went on", n, change[0].Kind)
		}
		m.apply(change...)
		t.want(s, m)
		t.apply(s, drop("c"))
		s.Close()
	}
}

// checkLoadNested: a loop over one cache can feed a batch.
func checkLoadNested(t *suite) {
	s := t.store()
	m := t.fill(s, 500)
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		for r, err := range s.Load(t.Context(), "c") {
			op := store.Op{Kind: store.Put, Cache: "copy", Key: r.Key, Value: r.Value, Meta: r.Meta}
			m.apply(op)
			if !yield(op, err) {
				return
			}
		}
	})
	if err != nil {
		t.Fatalf("Apply of what Load gives: %v", err)
	}
	t.want(s, m)
}
