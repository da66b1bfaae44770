package main

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleStore writes one batch with Sync.
type pebbleStore struct {
	held
	db *pebble.DB
}

func openPebble(dir string) (storeDB, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             quiet{},
	})
	if err != nil {
		return nil, err
	}
	return &pebbleStore{db: db}, nil
}

func (s *pebbleStore) SaveAll() error {
	b := s.db.NewBatch()
	defer b.Close()
	for k, v := range s.entries {
		if err := b.Set([]byte(k), v, nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (s *pebbleStore) LoadAll(n int) error {
	s.reserve(n)
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			it.Close()
			return err
		}
		s.entries[string(it.Key())] = bytes.Clone(v)
	}
	return it.Close() // and its error
}

func (s *pebbleStore) Ready(int) error { return nil }

func (s *pebbleStore) SaveChanges(keys []string, values [][]byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	for i, k := range keys {
		if err := b.Set([]byte(k), values[i], nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (s *pebbleStore) ReadOne(key string) ([]byte, error) {
	v, closer, err := s.db.Get([]byte(key))
	if err != nil {
		return nil, err
	}
	v = bytes.Clone(v)
	return v, closer.Close()
}

func (s *pebbleStore) Close() error { return s.db.Close() }

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("pebble: " + format)
}

func compactPebble(dir string) error {
	db, err := openPebble(dir)
	if err != nil {
		return err
	}
	err = db.(*pebbleStore).db.Compact(context.Background(), []byte("0"), []byte("g"), true) // all keys are hexadecimal
	return errors.Join(err, db.Close())
}
