package main

import (
	"errors"

	"github.com/dgraph-io/badger/v4"
)

// badgerStore has SyncWrites on. Its largest transaction is smaller than the
// whole, so saving all is a WriteBatch: durable at the end, but not atomic.
type badgerStore struct {
	held
	db *badger.DB
}

func openBadger(dir string) (storeDB, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return &badgerStore{db: db}, nil
}

func (s *badgerStore) SaveAll() error {
	b := s.db.NewWriteBatch()
	defer b.Cancel()
	for k, v := range s.entries {
		if err := b.Set([]byte(k), v); err != nil {
			return err
		}
	}
	return b.Flush()
}

func (s *badgerStore) LoadAll(n int) error {
	s.reserve(n)
	return s.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			s.entries[string(it.Item().Key())] = v
		}
		return nil
	})
}

func (s *badgerStore) Ready(int) error { return nil }

func (s *badgerStore) SaveChanges(keys []string, values [][]byte) error {
	return s.db.Update(func(tx *badger.Txn) error {
		for i, k := range keys {
			if err := tx.Set([]byte(k), values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *badgerStore) ReadOne(key string) (v []byte, err error) {
	err = s.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get([]byte(key))
		if err != nil {
			return err
		}
		v, err = item.ValueCopy(nil)
		return err
	})
	return v, err
}

func (s *badgerStore) Close() error { return s.db.Close() }

func compactBadger(dir string) error {
	db, err := openBadger(dir)
	if err != nil {
		return err
	}
	return errors.Join(db.(*badgerStore).db.Flatten(2), db.Close())
}
