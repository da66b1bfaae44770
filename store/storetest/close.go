package storetest

import (
	"errors"

	"github.com/cacheman-go/cacheman/store"
)

// checkReopen: what a Persistent store holds when it is closed is there when
// it is opened again, and can be changed.
func checkReopen(t *suite) {
	s := t.store()
	if !s.Caps().Persistent {
		t.Skip("the store is not Persistent")
	}
	s = t.reopen(s) // with nothing in it
	m := make(model)
	for _, ops := range [][]store.Op{
		{put("c", "k", "1"), put("c", "j", "1"), describe("d", "no records")},
		{},
		{put("c", "k", "2"), del("c", "j"), put("d", "k", "1")},
		{clearAll("c")},
		{drop("d"), put("e", "k", "1")},
		{drop("c"), drop("e")},
		{put("c", "k", "3")},
	} {
		if !s.Caps().Described {
			ops = withoutDescriptions(ops)
		}
		t.apply(s, ops...)
		m.apply(ops...)
		s = t.reopen(s)
		t.want(s, m)
	}
}

func withoutDescriptions(ops []store.Op) []store.Op {
	var rest []store.Op
	for _, op := range ops {
		if op.Kind != store.Describe {
			rest = append(rest, op)
		}
	}
	return rest
}

// checkClose: a closed store says so, and can be closed again.
func checkClose(t *suite) {
	s := t.store()
	t.fill(s, 10)
	loop := s.Load(t.Context(), "c")
	for range 3 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	closed := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s on a closed store: %v, want ErrClosed", what, err)
		}
	}
	s.Caps()
	_, err := s.Caches(t.Context())
	closed("Caches", err)
	closed("Apply", s.Apply(t.Context(), batch(put("c", "k", "v"))))
	closed("Apply of nothing", s.Apply(t.Context(), batch()))
	for _, cache := range []string{"c", "unknown"} {
		n := 0
		for _, err := range s.Load(t.Context(), cache) {
			n++
			closed("Load", err)
		}
		if n != 1 {
			t.Errorf("Load on a closed store yields %d times", n)
		}
	}
	for _, err := range loop {
		closed("a Load from before", err)
	}
	if g, ok := s.(store.Getter); ok {
		_, err := g.Get(t.Context(), "c", []byte("k"))
		closed("Get", err)
	}
	if c, ok := s.(store.Compactor); ok {
		closed("Compact", c.Compact(t.Context()))
	}
}

// checkCloseWhileLoading: a loop does not hold up Close, and ends by it.
func checkCloseWhileLoading(t *suite) {
	s := t.store()
	t.fill(s, 5000)
	n := 0
	var last error
	for _, err := range s.Load(t.Context(), "c") {
		if last != nil {
			t.Error("the loop goes on after an error")
		}
		last = err
		if n++; n == 1 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
	if !errors.Is(last, store.ErrClosed) {
		t.Errorf("a loop during which the store is closed: %d records of 5000, and error %v", n, last)
	}

	// A batch either is complete before the store closes, or fails.
	s = t.store()
	closed := make(chan error)
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		if yield(put("late", "k", "1"), nil) {
			go func() { closed <- s.Close() }()
			yield(put("late", "k", "2"), nil)
		}
	})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		t.Errorf("a batch during which the store is closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close during a batch: %v", err)
	}
}
