package flight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

func start(ctx context.Context, name string) (*Run, context.Context) {
	return New(ctx, named(name))
}

// TestLastCallerCancels: the run's context ends with the last caller's, and
// not before; then nobody may join.
func TestLastCallerCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, leave := context.WithCancel(t.Context())
		r, ctx := start(caller, "r")
		if !r.Join() {
			t.Fatal("a new run cannot be joined")
		}
		leave()
		if err := r.Wait(caller); err != context.Canceled || ctx.Err() != nil {
			t.Fatalf("Wait: %v; the run's context: %v", err, ctx.Err())
		}
		if err := r.Wait(caller); err != context.Canceled || ctx.Err() == nil {
			t.Fatalf("Wait: %v; the run's context: %v", err, ctx.Err())
		}
		if r.Join() {
			t.Fatal("an abandoned run can be joined")
		}
	})
}

func TestFinishWinsOverCancellation(t *testing.T) {
	r, ctx := start(t.Context(), "r")
	r.Finish()
	if err := r.Wait(t.Context()); err != nil || ctx.Err() == nil {
		t.Fatalf("Wait: %v; the run's context: %v", err, ctx.Err())
	}
}

// TestWithinKeepsValues: the run's context has the caller's values.
func TestWithinKeepsValues(t *testing.T) {
	type k struct{}
	r, ctx := start(context.WithValue(t.Context(), k{}, 1), "r")
	if ctx.Value(k{}) != 1 || From(ctx) != r.Context() || From(ctx).Run() != r {
		t.Fatal("the context of a run is not what it should be")
	}
}

// TestContextIsKept: a context that is kept for longer than its run has ended, also
// when the run has begun again, for somebody else.
func TestContextIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type k struct{}
		r, kept := start(context.WithValue(t.Context(), k{}, 1), "r")
		r.Finish()
		if !r.Alone() {
			t.Fatal("somebody else has a run that nobody has joined")
		}
		r.Init(t.Context(), named("r"))
		if r.Context().Err() != nil || From(r.Context()).Run() != r {
			t.Fatal("a run that has begun again is over")
		}
		derived, cancel := context.WithCancel(kept)
		defer cancel()
		synctest.Wait()
		if kept.Err() != context.Canceled || derived.Err() != context.Canceled || kept.Value(k{}) != 1 {
			t.Fatal("a context that was kept is not what it should be")
		}
		select {
		case <-kept.Done():
		default:
			t.Fatal("a context that was kept is not done")
		}
		if From(kept).Run() != nil {
			t.Fatal("a context that was kept belongs to another run")
		}
		other, _ := start(kept, "other")
		other.Lead(From(kept))
		if other.Join() {
			t.Fatal("who has ended leads a run")
		}
		if err := r.Wait(kept); err != context.Canceled {
			t.Fatalf("Wait: %v", err)
		}
	})
}

// TestAlone: a run is not alone if somebody has joined it, looks at its context, or
// has seen it in a circle.
func TestAlone(t *testing.T) {
	for name, see := range map[string]func(r *Run){
		"joined":         func(r *Run) { r.Join() },
		"its context":    func(r *Run) { r.Context().Done() },
		"a derived one":  func(r *Run) { _, cancel := context.WithCancel(r.Context()); cancel() },
		"canceled":       func(r *Run) { r.Cancel(context.Canceled) },
		"abandoned":      func(r *Run) { r.Join(); r.Wait(ended()); r.Wait(ended()) },
		"in a circle":    func(r *Run) { r.Join(); r.Wait(r.Context()) },
		"waits":          func(r *Run) { other, _ := New(context.Background(), nil); other.Lead(r.Context()) },
		"not over":       nil,
		"while it waits": func(r *Run) { other, _ := New(context.Background(), nil); go other.Wait(r.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := start(t.Context(), "r")
				if see != nil {
					see(r)
					synctest.Wait()
					r.Finish()
				}
				if r.Alone() {
					t.Error("it is alone")
				}
			})
		})
	}
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestLongCircle: a circle of many runs is found by the last to wait, without
// recursion, and its path names them all.
func TestLongCircle(t *testing.T) {
	const n = 10_000
	synctest.Test(t, func(t *testing.T) {
		runs := make([]*Run, n)
		ctxs := make([]context.Context, n)
		for i := range runs {
			runs[i], ctxs[i] = start(t.Context(), fmt.Sprint("r", i))
		}
		for i := range n - 1 {
			go runs[i+1].Wait(ctxs[i])
		}
		synctest.Wait()
		err := runs[0].Wait(ctxs[n-1])
		cycle, ok := errors.AsType[*CycleError](err)
		if !ok || len(cycle.Path) != n+1 || cycle.Path[0] != cycle.Path[n] {
			t.Fatalf("no circle of %d was found", n)
		}
		if !strings.HasPrefix(err.Error(), "needs itself: r9999 → r0 → r1 → ") {
			t.Errorf("the path begins with %.60s", err)
		}
		for _, r := range runs {
			r.Finish()
		}
	})
}

// TestTwoPathsAreNoCircle: a diamond is legal, and a wait that was refused or
// has ended leaves nothing behind that could make a later one look circular.
func TestTwoPathsAreNoCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top, topCtx := start(t.Context(), "top")
		left, leftCtx := start(topCtx, "left")
		right, rightCtx := start(topCtx, "right")
		base, baseCtx := start(leftCtx, "base")
		base.Join()
		top.Join() // or the wait that is refused would end it, and all below
		go left.Wait(topCtx)
		go right.Wait(topCtx)
		go base.Wait(leftCtx)
		synctest.Wait()
		done := make(chan error)
		go func() { done <- base.Wait(rightCtx) }()
		synctest.Wait()
		if _, ok := errors.AsType[*CycleError](top.Wait(baseCtx)); !ok {
			t.Fatal("the circle was not found")
		}
		base.Finish()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(left.waits)+len(right.waits)+len(base.waits) != 0 {
			t.Fatal("waits are left behind")
		}
		left.Finish()
		right.Finish()
		synctest.Wait()
		if len(top.waits) != 0 {
			t.Fatal("waits are left behind")
		}
	})
}

type named string

func (n named) Name() string { return string(n) }
