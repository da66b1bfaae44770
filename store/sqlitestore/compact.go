package sqlitestore

import (
	"context"
	"errors"
	"fmt"
)

// vacuumStep is how many pages are given back in one transaction.
const vacuumStep = 1000

// Compact implements [store.Compactor]. It moves pages from the end of the file
// to where there is room, some at a time, and then empties the log if no load
// needs it.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.compacting.take(ctx); err != nil {
		return err
	}
	defer s.compacting.leave()
	err := s.compact(ctx)
	if ended := s.check(ctx); err != nil && ended != nil {
		return ended
	}
	return s.explain("compaction", err)
}

func (s *Store) compact(ctx context.Context) error {
	for before := -1; ; {
		var free int
		if err := s.db.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err != nil {
			return err
		}
		if free == 0 || free == before {
			return s.checkpoint(ctx)
		}
		before = free
		if err := s.vacuum(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) vacuum(ctx context.Context) error {
	if err := s.applying.take(ctx); err != nil {
		return err
	}
	defer s.applying.leave()
	if err := s.check(ctx); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumStep))
	return err
}

// checkpoint writes what is in the log to the file, as far as no load is in the
// way, and empties the log if none is. It waits for nobody, for others would
// wait for it then.
func (s *Store) checkpoint(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout = 0;
		PRAGMA wal_checkpoint(PASSIVE); PRAGMA wal_checkpoint(TRUNCATE);
		PRAGMA busy_timeout = %d`, s.wait.Milliseconds()))
	if err != nil {
		return errors.Join(err, discard(conn))
	}
	return conn.Close()
}
