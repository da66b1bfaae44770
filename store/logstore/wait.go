package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// OpenWait is [Open], except that it waits while somebody else has the
// directory open. If ctx ends first, the error matches both store.ErrLocked,
// as a *store.LockedError that says who has it, and the error of ctx. Nothing
// but the wait depends on ctx.
//
// It looks again every 100 ms at the latest. Of several who wait, any one may
// be the next.
func OpenWait(ctx context.Context, dir string, opts Options) (*Store, error) {
	s, err := openWith(dir, opts, func(fs vfs.FS, dir string) (io.Closer, error) {
		return waitForLock(ctx, fs, dir)
	})
	if err != nil {
		return nil, openError(dir, err)
	}
	return s, nil
}

func waitForLock(ctx context.Context, fs vfs.FS, dir string) (io.Closer, error) {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		lock, err := takeLock(fs, dir)
		if !errors.Is(err, store.ErrLocked) {
			return lock, err
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w; waited until %w", err, ctx.Err())
		}
	}
}
