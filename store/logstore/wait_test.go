package logstore_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Whoever waits for the lock has it soon after the holder has closed; a wait
// that ends before says for whom it was.
func TestOpenWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := faultfs.New()
		s := open(t, quiet(mem))
		apply(t, s, put("a", "1", "one"))
		go func() {
			time.Sleep(time.Hour)
			s.Close()
		}()
		began := time.Now()

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := logstore.OpenWait(ctx, "test", quiet(mem))
		var locked *store.LockedError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, store.ErrLocked) ||
			!errors.As(err, &locked) || locked.PID != os.Getpid() || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		locked = nil
		if _, err := logstore.OpenWait(ctx, "test", quiet(mem)); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &locked) {
			t.Errorf("a context that has ended: %v", err)
		}
		free, err := logstore.OpenWait(ctx, "test", quiet(faultfs.New()))
		if err != nil {
			t.Fatalf("a context that has ended, and nobody to wait for: %v", err)
		}
		free.Close()

		next, err := logstore.OpenWait(t.Context(), "test", quiet(mem))
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		if d := time.Since(began) - time.Hour; d < 0 || d > 100*time.Millisecond {
			t.Errorf("it took %v longer than the lock was held", d)
		}
		want(t, next, state{"a": {"1": "one/m"}})
	})
}
