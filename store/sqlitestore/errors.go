package sqlitestore

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/cacheman-go/cacheman/store"
)

// code returns the number that SQLite gives to a kind of error, 0 if err is
// not of SQLite.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool {
	switch code(err) {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// explain says what was being done, and what the error is in terms of package
// store.
func (s *Store) explain(doing string, err error) error {
	switch {
	case err == nil, err == store.ErrNotFound:
		return err
	case s.closed.Load():
		return store.ErrClosed
	case isBusy(err):
		err = &store.LockedError{Path: s.path}
	case code(err) == lib.SQLITE_CORRUPT, code(err) == lib.SQLITE_ERROR: // the latter is about tables
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case code(err) == lib.SQLITE_NOTADB:
		err = fmt.Errorf("%w: %w", store.ErrFormat, err)
	case code(err) == lib.SQLITE_READONLY, code(err) == lib.SQLITE_PERM:
		err = fmt.Errorf("%w: %w", fs.ErrPermission, err)
	case code(err) == lib.SQLITE_CANTOPEN:
		err = errors.Join(err, s.tryDirectory()) // SQLite does not say why
	}
	return fmt.Errorf("sqlitestore: %s: %w", doing, err)
}

// tryDirectory returns why no file can be made beside the database.
func (s *Store) tryDirectory() error {
	f, err := os.CreateTemp(filepath.Dir(s.path), "sqlitestore-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// discard closes a connection in whatever state it is, which undoes a
// transaction of it, so that nobody gets it from the pool again.
func discard(conn *sql.Conn) error {
	err := conn.Raw(func(any) error { return driver.ErrBadConn })
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}
