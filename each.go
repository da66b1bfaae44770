package cacheman

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/internal/flight"
)

// each calls do for all items, as many at once as perCPU times the number of
// processors, and waits for all calls. When ctx ends it begins no more of them
// and returns the reason. A do that ends its goroutine is an error, for which the others
// are called all the same. do is to use the ctx it is given: who waits with that
// for an entry needs no goroutine of its own for it.
func each[T any](ctx context.Context, perCPU int, items []T, do func(context.Context, T)) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	outer := ctx
	workers := min(perCPU*runtime.GOMAXPROCS(0), len(items))
	// Neighbours are often under one lock, so those that are at work at one time
	// come from different parts of the items.
	part := (len(items) + workers - 1) / max(workers, 1)
	var exit atomic.Pointer[PanicError]
	var work func()
	work = func() {
		returned := false
		defer func() {
			if !returned {
				exit.Store(&PanicError{Stack: debug.Stack()})
				wg.Go(work)
			}
		}()
		run, ctx := flight.New(ctx, nil)
		defer run.Finish()
		defer context.AfterFunc(outer, func() { run.Cancel(flight.Cause(outer)) })()
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= part*workers {
				break
			}
			if i = i%workers*part + i/workers; i < len(items) {
				do(ctx, items[i])
			}
		}
		returned = true
	}
	for range workers {
		wg.Go(work)
	}
	wg.Wait()
	if ctx.Err() != nil {
		return flight.Cause(ctx)
	}
	if e := exit.Load(); e != nil {
		return e
	}
	return nil
}

// numbers returns those from 0 on that are less than n.
func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
