package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/cacheman-go/cacheman/store"
)

// applicationID marks a database as one of this package ("cman"), and
// userVersion says what is in it.
const (
	applicationID = 0x636d616e
	userVersion   = 1
)

// Each table is a single tree, so that damage cannot make an index and a
// table differ. The table store has one row, with the number of caches and the
// next one's id.
const schema = `
CREATE TABLE store (
	one    INTEGER PRIMARY KEY CHECK (one = 1),
	caches INTEGER NOT NULL,
	next   INTEGER NOT NULL
) STRICT;
CREATE TABLE caches (
	name        BLOB PRIMARY KEY,
	id          INTEGER NOT NULL,
	description BLOB,
	records     INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	sum         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
	cache INTEGER NOT NULL,
	key   BLOB NOT NULL,
	value BLOB NOT NULL,
	meta  BLOB NOT NULL,
	sum   INTEGER NOT NULL,
	PRIMARY KEY (cache, key)
) STRICT, WITHOUT ROWID;
INSERT INTO store VALUES (1, 0, 1);
`

// initialize makes an empty database one of this package, and refuses one that
// is something else.
func initialize(ctx context.Context, db *sql.DB, wait time.Duration) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	empty, err := inspect(ctx, conn)
	if err != nil {
		return err
	}
	if empty {
		// It can be chosen for an empty database only, and before the mode.
		if _, err := conn.ExecContext(ctx, "PRAGMA auto_vacuum = INCREMENTAL"); err != nil {
			return err
		}
	}
	if err := logAhead(ctx, conn, wait); err != nil || !empty {
		return err
	}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if empty, err = inspect(ctx, conn); empty { // another process may have been faster
		_, err = conn.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d",
			schema, applicationID, userVersion))
	}
	if err != nil {
		return errors.Join(err, discard(conn))
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// inspect reports whether a database is empty, or returns an error if it is
// neither that nor one of this package.
func inspect(ctx context.Context, conn *sql.Conn) (empty bool, err error) {
	var id, version, tables int
	err = conn.QueryRowContext(ctx, `SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return false, err
	case id == 0 && version == 0 && tables == 0:
		return true, nil
	case id != applicationID:
		return false, fmt.Errorf("%w: it is an SQLite database of another program", store.ErrFormat)
	case version != userVersion:
		return false, fmt.Errorf("%w: its version is %d, not %d", store.ErrFormat, version, userVersion)
	}
	return false, nil
}

// logAhead gives the database a write-ahead log, if it has none. SQLite does
// not always wait for others by itself when it changes the mode.
func logAhead(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	var mode string
	for end := time.Now().Add(wait); ; {
		err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if err == nil && mode != "wal" {
			return fmt.Errorf("there can be no write-ahead log here: the journal mode remains %q", mode)
		}
		if !isBusy(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a record. The cache's name is under it too, so a
// record is damaged if it turns up in another cache.
func sum(cache string, key, value, meta []byte) int64 {
	s := part(0, []byte(cache))
	s = part(s, key)
	s = part(s, value)
	return int64(part(s, meta))
}

// part goes on with a checksum, with b and its length.
func part(sum uint32, b []byte) uint32 {
	var n [binary.MaxVarintLen64]byte
	sum = crc32.Update(sum, castagnoli, binary.AppendUvarint(n[:0], uint64(len(b))))
	return crc32.Update(sum, castagnoli, b)
}

// info is the row of a cache.
type info struct {
	id          int64
	description []byte
	records     int
	bytes       int64 // of keys, values and metadata
}

// sum is the checksum of a cache's row.
func (i *info) sum(cache string) int64 {
	var n [4 * binary.MaxVarintLen64]byte
	b := binary.AppendUvarint(n[:0], uint64(i.id))
	b = binary.AppendUvarint(b, uint64(i.records))
	b = binary.AppendUvarint(b, uint64(i.bytes))
	s := part(0, []byte(cache))
	return int64(part(part(s, b), i.description))
}
