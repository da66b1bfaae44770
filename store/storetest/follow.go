package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// RunFollower checks a [store.Follower]. place returns a new store and an opened
// Follower of it, and may use its t to close and to remove them.
func RunFollower(t *testing.T, place func(t *testing.T) (w, f store.Store)) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%v", compact), func(t *testing.T) {
			w, f := place(t)
			checkFollower(&suite{T: t}, w, f, compact)
		})
	}
}

func checkFollower(t *suite, w, f store.Store, compact bool) {
	follower := f.(store.Follower)
	if err := f.Apply(t.Context(), batch(put("c", "k", "v"))); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Apply: %v; want ErrReadOnly", err)
	}
	before, now := model{}, model{}
	// step has w go on, and f follow it in the way of with.
	step := func(want []string, with func(show func()), ops ...store.Op) {
		t.Helper()
		t.apply(w, ops...)
		now.apply(ops...)
		if c, is := w.(store.Compactor); is && compact {
			if err := c.Compact(t.Context()); err != nil {
				t.Fatalf("Compact: %v", err)
			}
		}
		t.want(f, before)
		calls := 0
		names, err := follower.Refresh(t.Context(), func(changed []string, caches []store.Info, show func()) {
			calls++
			t.want(f, before)
			if !slices.Equal(changed, want) {
				t.Errorf("Refresh is about to show that %q have changed, not %q", changed, want)
			}
			with(func() {
				show()
				t.want(f, now)
				if infos := t.caches(f); !reflect.DeepEqual(infos, caches) {
					t.Errorf("Refresh is about to show %v, and shows %v", caches, infos)
				}
			})
		})
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("Refresh: %q, %v; want %q", names, err, want)
		}
		if calls != min(len(want), 1) {
			t.Errorf("Refresh has called with %d times", calls)
		}
		t.want(f, now)
		before.apply(ops...)
	}
	shows := func(show func()) { show() }
	step([]string{"a", "b"}, shows, put("a", "k", "1"), put("b", "k", "1"), put("b", "l", "1"))
	step(nil, shows)
	step([]string{"a", "c"}, shows, drop("a"), describe("c", "described"))
	step([]string{"b"}, func(func()) {}, put("b", "k", "2")) // it shows all the same
	step([]string{"b"}, func(show func()) { show(); show() }, del("b", "l"))

	// An iteration that has begun gives what showed then.
	values := map[string]int{}
	for r, err := range f.Load(t.Context(), "b") {
		if err != nil {
			t.Fatal(err)
		}
		step([]string{"b"}, shows, put("b", "k", "3"), put("b", "new", "3"))
		values[string(r.Key)+"="+string(r.Value)]++
	}
	if len(values) != 1 || values["k=2"] != 1 {
		t.Errorf("Load during Refresh gives %v", values)
	}

	t.apply(w, put("b", "k", "4"))
	now.apply(put("b", "k", "4"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if names, err := follower.Refresh(ctx, nil); !errors.Is(err, context.Canceled) || len(names) > 0 {
		t.Errorf("Refresh with a context that has ended: %q, %v", names, err)
	}
	t.want(f, before)
	if names, err := follower.Refresh(t.Context(), nil); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("Refresh: %q, %v", names, err)
	}
	t.want(f, now)
	if err := f.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := follower.Refresh(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Refresh after Close: %v; want ErrClosed", err)
	}
}
