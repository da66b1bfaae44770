package main

import (
	"database/sql"
	"errors"
	"path/filepath"

	_ "modernc.org/sqlite"
)

// sqliteStore uses a write-ahead log and synchronous=FULL, which makes each
// commit durable. Rows go in by key, which is faster.
type sqliteStore struct {
	held
	db *sql.DB
}

func openSQLite(dir string) (storeDB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "bench.db"))+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS bench (k TEXT PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"); err != nil {
		db.Close()
		return nil, err
	}
	return &sqliteStore{db: db}, nil
}

const sqliteUpsert = "INSERT INTO bench (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"

func (s *sqliteStore) SaveAll() error {
	keys := sortedKeys(s.entries)
	return s.commit("INSERT INTO bench (k, v) VALUES (?, ?)", len(keys), func(i int) (string, []byte) {
		return keys[i], s.entries[keys[i]]
	})
}

// commit runs a statement for each of n entries in one transaction.
func (s *sqliteStore) commit(query string, n int, entry func(int) (string, []byte)) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt, err := tx.Prepare(query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i := range n {
		k, v := entry(i)
		if _, err := stmt.Exec(k, v); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *sqliteStore) LoadAll(n int) error {
	s.reserve(n)
	rows, err := s.db.Query("SELECT k, v FROM bench")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k string
		var v []byte // a copy: Scan says so
		if err := rows.Scan(&k, &v); err != nil {
			return err
		}
		s.entries[k] = v
	}
	return rows.Err()
}

func (s *sqliteStore) Ready(int) error { return nil }

func (s *sqliteStore) SaveChanges(keys []string, values [][]byte) error {
	order := inOrder(keys)
	return s.commit(sqliteUpsert, len(keys), func(i int) (string, []byte) {
		return keys[order[i]], values[order[i]]
	})
}

func (s *sqliteStore) ReadOne(key string) (v []byte, err error) {
	err = s.db.QueryRow("SELECT v FROM bench WHERE k = ?", key).Scan(&v)
	return v, err
}

func (s *sqliteStore) Close() error { return s.db.Close() }

func compactSQLite(dir string) error {
	db, err := openSQLite(dir)
	if err != nil {
		return err
	}
	_, err = db.(*sqliteStore).db.Exec("VACUUM")
	return errors.Join(err, db.Close())
}
