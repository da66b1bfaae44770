package memstore

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// closing is a context whose first call of Err has the store closed as soon as
// nobody reads it.
type closing struct {
	context.Context
	s      *Store
	closed chan error
}

func (c *closing) Err() error {
	if c.closed == nil {
		c.closed = make(chan error, 1)
		go func() { c.closed <- c.s.Close() }()
		for closed := false; !closed && c.s.mu.TryRLock(); { // until Close is done or waits for the lock
			closed = c.s.caches == nil
			c.s.mu.RUnlock()
			runtime.Gosched()
		}
	}
	return c.Context.Err()
}

// A load beside which the store is closed says that, and not that there is no
// such cache.
func TestCloseWhileLoadBegins(t *testing.T) {
	t.Parallel()
	s := New()
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		yield(store.Op{Kind: store.Put, Cache: "c"}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := &closing{Context: t.Context(), s: s}
	for _, err := range s.Load(ctx, "c") {
		if err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("%v; want ErrClosed", err)
		}
	}
	if err := <-ctx.closed; err != nil {
		t.Error(err)
	}
}
