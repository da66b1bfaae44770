package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cacheman-go/cacheman/store"
)

// Apply implements [store.Store].
func (s *Store) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	t := &transaction{s: s, ctx: ctx}
	defer t.end()
	r := newRun()
	for op, err := range ops {
		if err == nil {
			err = s.check(ctx)
		}
		if err == nil {
			err = r.add(op)
		}
		if err != nil {
			return err
		}
		if r.size >= s.run {
			if err := t.write(r); err != nil {
				return s.explain("batch", err)
			}
			r = newRun()
		}
	}
	if len(r.changes) > 0 {
		if err := t.write(r); err != nil {
			return s.explain("batch", err)
		}
	}
	return s.explain("batch", t.commit())
}

// transaction is one that writes. It begins with its first run.
//
// Only what may take long is told of the context. The rest would take twice as
// long for it, and checks it by itself.
type transaction struct {
	s      *Store
	ctx    context.Context
	conn   *sql.Conn            // nil before it has begun and after it has ended
	stmts  map[string]*sql.Stmt // by their text
	caches map[string]*row

	count, next int64 // the row of store
	counted     bool  // it has changed
}

// row is that of a cache, or stands for that there is none.
type row struct {
	info
	known   bool
	changed bool
}

func (t *transaction) begin() error {
	if err := t.s.applying.take(t.ctx); err != nil {
		return err
	}
	conn, err := t.s.db.Conn(t.ctx)
	if err != nil {
		t.s.applying.leave()
		return err
	}
	t.conn = conn
	t.stmts = make(map[string]*sql.Stmt)
	t.caches = make(map[string]*row)
	if _, err := conn.ExecContext(t.ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	return t.query("SELECT caches, next FROM store").Scan(&t.count, &t.next)
}

// commit ends the transaction with success, which is more than the last
// context: from here on it cannot be undone.
func (t *transaction) commit() error {
	t.s.mu.RLock() // the store cannot be closed meanwhile
	defer t.s.mu.RUnlock()
	if err := t.s.check(t.ctx); err != nil || t.conn == nil {
		return err
	}
	if err := t.writeRows(); err != nil {
		return err
	}
	if err := t.exec("COMMIT"); err != nil {
		return err
	}
	t.closeStmts()
	_ = t.conn.Close() // gives it back to the pool
	t.conn = nil
	t.s.applying.leave()
	return nil
}

// end undoes what was not committed.
func (t *transaction) end() {
	if t.conn == nil {
		return
	}
	t.closeStmts()
	_ = discard(t.conn) // closing it undoes everything, whatever it says
	t.conn = nil
	t.s.applying.leave()
}

func (t *transaction) closeStmts() {
	for _, stmt := range t.stmts {
		_ = stmt.Close()
	}
}

// exec runs a statement.
func (t *transaction) exec(text string, args ...any) error {
	return t.execContext(context.Background(), text, args...)
}

func (t *transaction) execContext(ctx context.Context, text string, args ...any) error {
	stmt, err := t.stmt(text)
	if err == nil {
		_, err = stmt.ExecContext(ctx, args...)
	}
	return err
}

// query runs a statement that gives one row at most.
func (t *transaction) query(text string, args ...any) interface{ Scan(...any) error } {
	stmt, err := t.stmt(text)
	if err != nil {
		return failed{err}
	}
	return stmt.QueryRowContext(context.Background(), args...)
}

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func (t *transaction) stmt(text string) (*sql.Stmt, error) {
	if stmt, ok := t.stmts[text]; ok {
		return stmt, nil
	}
	stmt, err := t.conn.PrepareContext(context.Background(), text)
	if err == nil {
		t.stmts[text] = stmt
	}
	return stmt, err
}

// row returns the row of a cache.
func (t *transaction) row(cache string) (*row, error) {
	if r, ok := t.caches[cache]; ok {
		return r, nil
	}
	r := &row{known: true}
	var want int64
	err := t.query("SELECT id, description, records, bytes, sum FROM caches WHERE name = ?", []byte(cache)).
		Scan(&r.id, &r.description, &r.records, &r.bytes, &want)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		r.known = false
	case err != nil:
		return nil, err
	case r.sum(cache) != want:
		return nil, fmt.Errorf("its description: %w", errDamaged)
	}
	t.caches[cache] = r
	return r, nil
}

// write carries out a run.
func (t *transaction) write(r *run) error {
	if t.conn == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	for _, cache := range slices.Sorted(maps.Keys(r.changes)) {
		if err := t.change(cache, r.changes[cache]); err != nil {
			return fmt.Errorf("cache %.80q: %w", cache, err)
		}
	}
	return nil
}

// change carries out a change but for the cache's row, which is written in the
// end.
func (t *transaction) change(cache string, c *change) error {
	r, err := t.row(cache)
	if err != nil {
		return err
	}
	if r.known && c.drop {
		if err := t.clear(r); err != nil {
			return err
		}
		if err := t.exec("DELETE FROM caches WHERE name = ?", []byte(cache)); err != nil {
			return err
		}
		*r = row{}
		t.count, t.counted = t.count-1, true
	}
	if !r.known {
		if !c.known {
			return nil
		}
		r.known, r.id = true, t.next
		t.count, t.next, t.counted = t.count+1, t.next+1, true
	}
	r.changed = true
	if c.clear {
		if err := t.clear(r); err != nil {
			return err
		}
	}
	if c.describe {
		r.description = c.description
	}
	return t.records(cache, r, c.records)
}

// clear removes all records of a cache.
func (t *transaction) clear(r *row) error {
	r.records, r.bytes = 0, 0
	return t.execContext(t.ctx, "DELETE FROM records WHERE cache = ?", r.id)
}

const putSQL = `
INSERT INTO records (cache, key, value, meta, sum) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (cache, key) DO UPDATE SET value = excluded.value, meta = excluded.meta, sum = excluded.sum`

func (t *transaction) records(cache string, r *row, records map[string]*record) error {
	empty := r.records == 0
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if err := t.s.check(t.ctx); err != nil {
			return err
		}
		k, rec := append([]byte{}, key...), records[key]
		exists := false
		if !empty {
			var size int64
			err := t.query("SELECT length(value) + length(meta) FROM records WHERE cache = ? AND key = ?", r.id, k).Scan(&size)
			if exists = err == nil; exists {
				r.records--
				r.bytes -= int64(len(k)) + size
			} else if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		switch {
		case rec != nil:
			if err := t.exec(putSQL, r.id, k, rec.value, rec.meta, sum(cache, k, rec.value, rec.meta)); err != nil {
				return fmt.Errorf("record %.80q: %w", key, err)
			}
			r.records++
			r.bytes += int64(len(k) + len(rec.value) + len(rec.meta))
		case exists:
			if err := t.exec("DELETE FROM records WHERE cache = ? AND key = ?", r.id, k); err != nil {
				return fmt.Errorf("record %.80q: %w", key, err)
			}
		}
	}
	return nil
}

const rowSQL = `
INSERT INTO caches (name, id, description, records, bytes, sum) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET id = excluded.id, description = excluded.description,
	records = excluded.records, bytes = excluded.bytes, sum = excluded.sum`

// writeRows writes the rows of what has changed.
func (t *transaction) writeRows() error {
	for _, cache := range slices.Sorted(maps.Keys(t.caches)) {
		r := t.caches[cache]
		if !r.known || !r.changed {
			continue
		}
		if err := t.exec(rowSQL, []byte(cache), r.id, r.description, r.records, r.bytes, r.sum(cache)); err != nil {
			return err
		}
	}
	if !t.counted {
		return nil
	}
	return t.exec("UPDATE store SET caches = ?, next = ?", t.count, t.next)
}
