package cacheman

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestJoinAfterChange: a builder has read an input, which then changes. Who asks
// after that waits for the run, but does not get what comes of the old value,
// also if the run is taken from its entry before it finds out.
func TestJoinAfterChange(t *testing.T) {
	for name, overtake := range map[string]func(*Cache[int, int]) error{
		"Invalidate": func(c *Cache[int, int]) error { return c.Invalidate(1) },
		"Delete":     func(c *Cache[int, int]) error { return c.Delete(1) },
		"nothing":    func(*Cache[int, int]) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				in := must(Register(m, "in", Spec[int, int]{Contents: map[int]int{1: 1}}))
				began, end := make(chan struct{}), make(chan struct{})
				runs := 0
				c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
					v, err := in.Get(ctx, k)
					if runs++; runs == 1 {
						close(began)
						<-end
					}
					return v, err
				}}))
				early, late := make(chan int, 1), make(chan int, 1)
				go func() { early <- must(c.Get(context.Background(), 1)) }()
				<-began
				ok(t, in.Set(1, 2))
				go func() { late <- must(c.Get(context.Background(), 1)) }()
				synctest.Wait()
				ok(t, overtake(c))
				close(end)
				<-early
				equal(t, "after the change", <-late, 2)
			})
		})
	}
}
