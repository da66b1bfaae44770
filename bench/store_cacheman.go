package main

import (
	"context"
	"errors"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// cachemanStore has its entries in the cache itself, not in a map beside it.
// Nothing is saved but by Sync.
type cachemanStore struct {
	m     *cacheman.Manager
	cache *cacheman.Cache[string, []byte]
	ctx   context.Context
}

func openCachemanStore(dir string) (storeDB, error) {
	m, err := cacheman.Open(dir, cacheman.Options{Autosync: &cacheman.Autosync{Off: true}})
	if err != nil {
		return nil, err
	}
	cache, err := cacheman.Register(m, "bench", cacheman.Spec[string, []byte]{})
	if err != nil {
		m.Close()
		return nil, err
	}
	return &cachemanStore{m, cache, context.Background()}, nil
}

func (s *cachemanStore) Fill(n int) error {
	return s.cache.SetAll(func(yield func(string, []byte) bool) {
		for i := 0; i < n && yield(keyOf(i), valueOf(i, 0)); i++ {
		}
	})
}

func (s *cachemanStore) SaveAll() error    { return s.m.Sync(s.ctx) }
func (s *cachemanStore) LoadAll(int) error { return s.cache.Load(s.ctx) }
func (s *cachemanStore) Ready(int) error   { return s.cache.Load(s.ctx) }

func (s *cachemanStore) Each(f func(key string, value []byte)) error {
	for k, v := range s.cache.All() {
		f(k, v)
	}
	return nil
}

func (s *cachemanStore) Change(keys []string, values [][]byte) error {
	for i, key := range keys {
		if err := s.cache.Set(key, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *cachemanStore) SaveChanges([]string, [][]byte) error { return s.m.Sync(s.ctx) }

func (s *cachemanStore) ReadOne(key string) ([]byte, error) { return s.cache.Get(s.ctx, key) }

func (s *cachemanStore) Close() error { return s.m.Close() }

// compactCacheman does what the store does in the background after a while.
func compactCacheman(dir string) error {
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		return err
	}
	return errors.Join(s.Compact(context.Background()), s.Close())
}
