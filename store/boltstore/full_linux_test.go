package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

func init() { children["full"] = fillDisk }

// limit limits the size of files, which is as good as a full disk.
func limit(size uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return err
	}
	l.Cur = min(size, l.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

// fillDisk has a batch fail and a compaction, and goes on when there is room.
func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	large := strings.Repeat("v", 1000)
	if err := s.Apply(ctx, puts("c", 100, large)); err != nil {
		return err
	}
	whole := func(n int, value string) (err error) {
		got := 0
		for r, loadErr := range s.Load(ctx, "c") {
			if err = errors.Join(err, loadErr); loadErr == nil && string(r.Value) != value {
				err = fmt.Errorf("record %s has value %.20q", r.Key, r.Value)
			}
			got++
		}
		if got != n {
			err = errors.Join(err, fmt.Errorf("%d records of %d", got, n))
		}
		return err
	}

	if err := limit(150_000); err != nil {
		return err
	}
	for range 2 {
		if err := s.Apply(ctx, puts("c", 10_000, large)); err == nil || errors.Is(err, store.ErrCorrupt) {
			return fmt.Errorf("a batch for which there is no room: %w", err)
		}
	}
	if err := limit(50_000); err != nil {
		return err
	}
	if err := s.Compact(ctx); err == nil || errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("a compaction for which there is no room: %w", err)
	}
	if err := whole(100, large); err != nil {
		return err
	}
	if err := limit(1 << 40); err != nil {
		return err
	}
	if err := s.Apply(ctx, puts("c", 10_000, large)); err != nil {
		return err
	}
	return errors.Join(s.Compact(ctx), whole(10_000, large))
}

// A batch for which there is no room is an error and changes nothing, and the
// next one is written when there is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if out, err := child(t, "full", place(t)).Output(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
