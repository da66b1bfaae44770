package sqlitestore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/cacheman-go/cacheman/store"
)

const loadSQL = `
SELECT c.records, r.key, r.value, r.meta, r.sum
FROM caches c LEFT JOIN records r ON r.cache = c.id WHERE c.name = ? ORDER BY r.key`

// Load implements [store.Store]. It is one statement, and so one instant.
func (s *Store) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		fail := func(err error) bool {
			return yield(store.Record{}, s.explain(fmt.Sprintf("load of cache %.80q", cache), err))
		}
		if err := s.check(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		rows, err := s.db.QueryContext(ctx, loadSQL, []byte(cache))
		if err != nil {
			fail(err)
			return
		}
		defer rows.Close()
		expected, seen, last := -1, 0, []byte(nil)
		for rows.Next() {
			var r store.Record
			var want sql.NullInt64
			err := rows.Scan(&expected, &r.Key, &r.Value, &r.Meta, &want)
			if ended := s.check(ctx); ended != nil { // which makes Scan fail, too
				yield(store.Record{}, ended)
				return
			}
			switch {
			case err != nil:
				seen++
				err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
			case expected == 0 && !want.Valid:
				continue // the cache has no records
			case sum(cache, r.Key, r.Value, r.Meta) != want.Int64:
				seen++
				err = fmt.Errorf("record %.80q: %w", r.Key, errDamaged)
			case last != nil && bytes.Compare(last, r.Key) >= 0:
				fail(fmt.Errorf("%w: its keys are out of order", store.ErrCorrupt))
				return
			default:
				seen++
				last = append(last[:0], r.Key...)
			}
			if err == nil && !yield(r, nil) || err != nil && !fail(err) {
				return
			}
		}
		err, ended := rows.Err(), s.check(ctx)
		switch {
		case ended != nil:
			yield(store.Record{}, ended)
		case err != nil:
			fail(err)
		case expected < 0:
			fail(s.absent(ctx, cache))
		case seen != expected:
			fail(fmt.Errorf("%w: it has %d records, not %d", store.ErrCorrupt, seen, expected))
		}
	}
}

// absentSQL looks for a cache by its key, and in all rows.
const absentSQL = `
SELECT (SELECT count(*) FROM caches WHERE name = ?1), (SELECT count(*) FROM caches WHERE CAST(name AS BLOB) = ?1)`

// absent returns why a cache was not found: it is not known, or it is, but
// the way to it is damaged.
func (s *Store) absent(ctx context.Context, cache string) error {
	var found, there int
	if err := s.db.QueryRowContext(ctx, absentSQL, []byte(cache)).Scan(&found, &there); err != nil {
		return err
	}
	if found < there {
		return fmt.Errorf("%w: it is there but cannot be found", store.ErrCorrupt)
	}
	return store.ErrNotFound
}
