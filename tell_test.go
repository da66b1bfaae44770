package cacheman

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// told collects events.
type told struct {
	mu     sync.Mutex
	events []Event
}

func (t *told) observe(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// of returns the events of one kind.
func (t *told) of(kind EventKind) (of []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		if e.Kind == kind {
			of = append(of, e)
		}
	}
	return of
}

// TestOwnCachesAreNamed: caches of our own have names for people, also in events and errors.
func TestOwnCachesAreNamed(t *testing.T) {
	ctx := t.Context()
	var all told
	m := newDisk().open(t, Options{Observe: all.observe})
	files := must(OpenFiles(m))
	in := must(Register(m, "in", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return 0, errPlanned }}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		if _, err := in.Contains(ctx, 7); !errors.Is(err, errPlanned) {
			t.Error(err)
		}
		n, err := in.Count(ctx)
		return n, err
	}}))
	must(c.Get(ctx, 1))
	_, err := files.Get(ctx, "no such file")
	e, is := errors.AsType[*Error](err)
	equal(t, "error", is, true)
	equal(t, "cache of the error", e.Cache, "files")
	equal(t, "events", fmt.Sprint(len(all.of(EventBuilt)) > 0, len(all.of(EventBuildFailed)) > 0), "true true")
	for _, e := range all.events {
		if strings.Contains(e.Cache, "\x00") {
			t.Errorf("%s of %q", e.Kind, e.Cache)
		}
	}
}
