package cacheman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// counting counts the reads of a store, and can fail them.
type counting struct {
	*disk
	gets, loads atomic.Int64
	fail        atomic.Pointer[error]
}

func (s *counting) Get(ctx context.Context, cache string, key []byte) (store.Record, error) {
	s.gets.Add(1)
	if err := s.fail.Load(); err != nil {
		return store.Record{}, *err
	}
	return s.disk.Get(ctx, cache, key)
}

func (s *counting) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	s.loads.Add(1)
	return s.disk.Load(ctx, cache)
}

// large returns a store with 2000 inputs, and 2000 entries built of two of them.
func large(t *testing.T) *counting {
	d := newDisk()
	m := d.open(t, Options{})
	in, squares, _ := largeCaches(t, m)
	for i := range 2000 {
		ok(t, in.Set(i, i))
	}
	for i := range 2000 {
		equal(t, "built", must(squares.Get(t.Context(), i)), i+(i+1)%2000)
	}
	ok(t, m.Close())
	return &counting{disk: d}
}

func largeCaches(t *testing.T, m *Manager) (in, sums *Cache[int, int], builds *int) {
	builds = new(int)
	in = must(Register(m, "in", Spec[int, int]{}))
	sums = must(Register(m, "sums", Spec[int, int]{
		Build: func(ctx context.Context, i int) (int, error) {
			*builds++
			a, err1 := in.Get(ctx, i)
			b, err2 := in.Get(ctx, (i+1)%2000)
			return a + b, errors.Join(err1, err2)
		},
	}))
	return in, sums, builds
}

func (s *counting) reopen(t *testing.T) *Manager {
	m := must(Open("", Options{Store: s, Autosync: &Autosync{Off: true}}))
	t.Cleanup(func() {
		for fault := range m.Check() {
			t.Error(fault)
		}
		m.Close()
	})
	return m
}

func TestReadOneOfMany(t *testing.T) {
	s := large(t)
	m := s.reopen(t)
	in, sums, builds := largeCaches(t, m)
	equal(t, "sum", must(sums.Get(t.Context(), 7)), 15)
	equal(t, "builders", *builds, 0)
	equal(t, "records read", s.gets.Load(), 3)
	equal(t, "sum", must(sums.Get(t.Context(), 7)), 15)
	if _, err := in.Get(t.Context(), 5000); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := in.Get(t.Context(), 5000); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	equal(t, "records read", s.gets.Load(), 4)
	if v, found := in.Peek(9); !found || v != 9 {
		t.Errorf("Peek gives %d, %v", v, found)
	}
	equal(t, "loads", s.loads.Load(), 0)
	if st := in.Stats(); st.Loaded || st.Entries != 3 {
		t.Errorf("of a cache of which three entries were read: %+v", st)
	}
	equal(t, "state", sums.Explain(11).State, Check)

	// What is written is compared with what was there.
	ok(t, in.Set(7, 7))
	ok(t, in.Set(20, 20))
	ok(t, in.Set(21, 0))
	equal(t, "sum", must(sums.Get(t.Context(), 7)), 15)
	equal(t, "sum", must(sums.Get(t.Context(), 19)), 39)
	equal(t, "builders", *builds, 0)
	equal(t, "sum", must(sums.Get(t.Context(), 20)), 20)
	equal(t, "builders", *builds, 1)

	// Who asks for everything gets everything.
	ok(t, in.Delete(30))
	must(in.Update(31, func(v int, held bool) (int, bool) { return v + 1000, held }))
	equal(t, "Len", in.Len(), 1999)
	equal(t, "loads", s.loads.Load(), 1)
	all := maps.Collect(in.All())
	equal(t, "31", all[31], 1031)
	equal(t, "21", all[21], 0)
	if _, found := all[30]; found {
		t.Error("a deleted entry is back")
	}
	ok(t, m.Close())

	m = s.reopen(t)
	in, sums, builds = largeCaches(t, m)
	if v, found := in.Peek(30); found {
		t.Errorf("a deleted entry is back, with %d", v)
	}
	equal(t, "sum", must(sums.Get(t.Context(), 31)), 1031+32)
	equal(t, "builders", *builds, 1)
}

// TestReadManyOfMany: when single reads have cost what loading costs, all is
// loaded, and what was read or written before stays.
func TestReadManyOfMany(t *testing.T) {
	s := large(t)
	m := s.reopen(t)
	in, sums, builds := largeCaches(t, m)
	for i := range 10 {
		ok(t, in.Set(i, i)) // as it is
	}
	ok(t, in.Delete(1500))
	for i := range 1400 {
		equal(t, fmt.Sprint("sum ", i), must(sums.Get(t.Context(), i)), 2*i+1)
	}
	equal(t, "builders", *builds, 0)
	if n, all := s.gets.Load(), in.slot.loadCost()+sums.slot.loadCost(); n > all/readCost+2 {
		t.Errorf("%d records were read one by one", n)
	}
	equal(t, "loads", s.loads.Load(), 2)
	equal(t, "Len", in.Len(), 1999)
}

// TestReadOneOfFew: what counts of contents is what there is to be read, not how many they are; and of
// single reads, what was read.
func TestReadOneOfFew(t *testing.T) {
	const n, size = 100, 100 << 10
	d := newDisk()
	m := d.open(t, Options{})
	blobs := must(Register(m, "blobs", Spec[int, []byte]{}))
	for i := range n {
		ok(t, blobs.Set(i, bytes.Repeat([]byte{byte(i)}, size)))
	}
	ok(t, m.Close())
	s := &counting{disk: d}
	m = s.reopen(t)
	blobs = must(Register(m, "blobs", Spec[int, []byte]{}))
	for range 5 {
		equal(t, "value", must(blobs.Get(t.Context(), 3))[size-1], 3)
	}
	equal(t, "records read", s.gets.Load(), 1)
	equal(t, "loads", s.loads.Load(), 0)
	for i := range n {
		equal(t, "value", must(blobs.Get(t.Context(), i))[0], byte(i))
	}
	if s.gets.Load() < n/2 || s.loads.Load() != 1 {
		t.Errorf("%d records were read one by one, and all %d times", s.gets.Load(), s.loads.Load())
	}
}

func TestReadOneFails(t *testing.T) {
	s := large(t)
	var failed atomic.Int64
	m := must(Open("", Options{Store: s, Observe: func(e Event) {
		if e.Kind == EventLoadFailed {
			failed.Add(1)
		}
	}}))
	defer m.Close()
	in, sums, builds := largeCaches(t, m)
	broken := errors.New("the disk is on fire")
	s.fail.Store(&broken)
	var e *Error
	if _, err := in.Get(t.Context(), 7); !errors.Is(err, broken) || !errors.As(err, &e) || e.Cache != "in" || e.Key != 7 {
		t.Errorf("Get: %v", err)
	}
	if _, err := sums.Get(t.Context(), 7); !errors.Is(err, broken) {
		t.Errorf("Get: %v", err)
	}
	if _, err := in.Update(7, func(v int, _ bool) (int, bool) { return v, true }); !errors.Is(err, broken) {
		t.Errorf("Update: %v", err)
	}
	if _, found := in.Peek(7); found {
		t.Error("Peek found something")
	}
	ok(t, in.Set(8, 80)) // writing needs no reading
	if n := failed.Load(); n != 5 {
		t.Errorf("%d events", n)
	}
	s.fail.Store(nil)
	equal(t, "7", must(in.Get(t.Context(), 7)), 7)
	equal(t, "sum", must(sums.Get(t.Context(), 7)), 87)
	equal(t, "builders", *builds, 1)
}

// TestDeleteOneFails: what is deleted while it cannot be read is gone nevertheless, also
// after a restart.
func TestDeleteOneFails(t *testing.T) {
	for _, remove := range []func(m *Manager, in *Cache[int, int]) error{
		func(m *Manager, in *Cache[int, int]) error { return in.Delete(7) },
		func(m *Manager, in *Cache[int, int]) error {
			return m.Batch(func(b *Batch) error { in.DeleteIn(b, 7); return nil })
		},
	} {
		s := large(t)
		m := s.reopen(t)
		in, _, _ := largeCaches(t, m)
		broken := errors.New("the disk is on fire")
		s.fail.Store(&broken)
		ok(t, remove(m, in))
		s.fail.Store(nil)
		ok(t, m.Close())
		in, _, _ = largeCaches(t, s.reopen(t))
		if in.Has(7) || !in.Has(8) {
			t.Errorf("7 is there: %v, and 8: %v", in.Has(7), in.Has(8))
		}
	}
}

// TestReadOneInvalidated: what was invalidated is not read again.
func TestReadOneInvalidated(t *testing.T) {
	s := large(t)
	m := s.reopen(t)
	in, _, _ := largeCaches(t, m)
	equal(t, "7", must(in.Get(t.Context(), 7)), 7)
	ok(t, in.Invalidate(8))
	ok(t, m.Sync(t.Context()))
	if v, found := in.Peek(8); found {
		t.Errorf("8 is back, with %d", v)
	}
	ok(t, in.InvalidateAll())
	for _, k := range []int{7, 8, 9} {
		if v, found := in.Peek(k); found {
			t.Errorf("%d is back, with %d", k, v)
		}
	}
}

// TestNothingRemoved: that what is not there is removed is nothing to be saved.
func TestNothingRemoved(t *testing.T) {
	ctx := t.Context()
	for _, partial := range []int64{1, 1000} {
		d := newDisk()
		open := func() (m *Manager, in, out *Cache[int, int]) {
			m = openOn(d)
			m.partialFrom, m.readCost = partial, 0
			in = must(Register(m, "in", Spec[int, int]{}))
			out = must(Register(m, "out", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Get(ctx, k) }}))
			return m, in, out
		}
		m, in, out := open()
		for k := range 5 {
			ok(t, in.Set(k, k))
			must(out.Get(ctx, k))
		}
		ok(t, m.Close())
		m, in, out = open()
		must(out.Get(ctx, 1))
		ok(t, out.Invalidate(1))
		if _, err := in.Get(ctx, 7); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		ok(t, m.Sync(ctx))
		for range 2 {
			ok(t, in.Delete(7))
			ok(t, out.Invalidate(1, 7))
			ok(t, m.Batch(func(b *Batch) error {
				in.DeleteIn(b, 7)
				out.DeleteIn(b, 1)
				return nil
			}))
			equal(t, "unsaved", in.Stats().Dirty+out.Stats().Dirty, 0)
			equal(t, "edits", in.Stats().Edits+out.Stats().Edits, 0)
		}
		must(out.Get(ctx, 1))
		equal(t, "unsaved", out.Stats().Dirty, 1)
		ok(t, m.Close())
	}
}
