package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// bboltStore commits with fsync, as is its default. Keys are put in order: a
// large transaction in random order takes minutes.
type bboltStore struct {
	held
	db *bolt.DB
}

var bucketName = []byte("bench")

func openBbolt(dir string) (storeDB, error) {
	db, err := bolt.Open(filepath.Join(dir, "bolt.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	return &bboltStore{db: db}, nil
}

func (s *bboltStore) SaveAll() error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketName)
		if err != nil {
			return err
		}
		b.FillPercent = 0.9 // in order, so pages can be full
		for _, k := range sortedKeys(s.entries) {
			if err := b.Put([]byte(k), s.entries[k]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *bboltStore) LoadAll(n int) error {
	s.reserve(n)
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).ForEach(func(k, v []byte) error {
			s.entries[string(k)] = bytes.Clone(v) // v is in the mapped file
			return nil
		})
	})
}

func (s *bboltStore) Ready(int) error { return nil }

func (s *bboltStore) SaveChanges(keys []string, values [][]byte) error {
	order := inOrder(keys)
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketName)
		for _, i := range order {
			if err := b.Put([]byte(keys[i]), values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *bboltStore) ReadOne(key string) (v []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v = bytes.Clone(tx.Bucket(bucketName).Get([]byte(key)))
		return nil
	})
	return v, err
}

func (s *bboltStore) Close() error { return s.db.Close() }

// inOrder gives the positions of keys in their order.
func inOrder(keys []string) []int {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(keys[a], keys[b]) })
	return order
}
