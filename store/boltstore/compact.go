package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
)

// compactExt is that of the file that a compaction writes.
const compactExt = ".compact"

// Compact implements [store.Compactor]. It copies the database to a new file,
// which in the end takes the place of the old one, so for a time there is room
// for both. Batches that are applied meanwhile are applied to both; the last of
// them, and reads, wait while the files are exchanged.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.compacting.take(ctx); err != nil {
		return err
	}
	defer s.compacting.leave()
	if err := s.check(ctx); err != nil { // it may have been closed while this waited
		return err
	}
	err := s.compact(ctx)
	if s.closed.Load() {
		return store.ErrClosed
	}
	return explain("compaction", err)
}

func (s *Store) compact(ctx context.Context) (err error) {
	path := s.path + compactExt
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // left by a crash
	}
	// Nothing of the copy matters before it is complete, and synced then.
	to, err := openDatabase(path, 0, bolt.Options{NoSync: true, NoGrowSync: true})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, to.close())
			_ = os.Remove(path)
		}
	}()
	if err := to.initialize(); err != nil {
		return err
	}
	c := copying{s: s, to: to}
	if err := c.follow(ctx); err != nil {
		return err
	}
	defer c.unfollow()
	names, err := c.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.copy(ctx, name); err != nil {
			return fmt.Errorf("cache %.80q: %w", name, err)
		}
	}
	return c.finish(ctx, path)
}

// copying is a copy of a database that is being made while batches go on.
//
// What is copied of a cache is no one instant. That does not matter, for each
// batch that was applied since the beginning is applied to the copy too, in
// their order, and what a batch does to a key does not depend on what was there.
type copying struct {
	s  *Store
	to *database
}

// follow has batches kept for the copy from now on.
func (c *copying) follow(ctx context.Context) error {
	if err := c.s.applying.take(ctx); err != nil {
		return err
	}
	defer c.s.applying.leave()
	c.s.following = true
	return nil
}

func (c *copying) unfollow() {
	_ = c.s.applying.take(context.Background())
	defer c.s.applying.leave()
	c.s.following, c.s.since = false, nil
}

func (c *copying) names() (names []string, err error) {
	err = c.s.view(func(tx *bolt.Tx) error {
		names = nil
		return tx.Bucket(cachesBucket).ForEachBucket(func(name []byte) error {
			names = append(names, string(name))
			return nil
		})
	})
	return names, err
}

// copyChunk is how many bytes are copied in one transaction, about.
const copyChunk = 4 << 20

// copy copies a cache, a chunk at a time, and what was applied meanwhile.
func (c *copying) copy(ctx context.Context, name string) error {
	for next := firstRecord; next != nil; {
		if err := c.s.check(ctx); err != nil {
			return err
		}
		part := &change{seed: seed(name), known: true, records: make(map[string][]byte)}
		err := c.s.view(func(tx *bolt.Tx) error {
			b := tx.Bucket(cachesBucket).Bucket([]byte(name))
			if b == nil { // dropped meanwhile
				part.known, next = false, nil
				return nil
			}
			var err error
			next, err = part.readFrom(b, next)
			return err
		})
		if err == nil {
			err = c.apply(ctx, batch{name: part})
		}
		if err == nil {
			err = c.catchUp(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readFrom takes in a part of what is in b, and returns the key to go on from,
// nil at the end. Records are taken as they are, damaged or not.
func (c *change) readFrom(b *bolt.Bucket, next []byte) ([]byte, error) {
	i, err := decodeInfo(c.seed, b.Get(infoKey))
	if err != nil {
		return nil, fmt.Errorf("its description: %w", err)
	}
	c.describe, c.description = i.described, bytes.Clone(i.description)
	size, cursor := 0, b.Cursor()
	for k, v := cursor.Seek(next); k != nil; k, v = cursor.Next() {
		if bytes.Compare(k, next) < 0 {
			return nil, fmt.Errorf("%w: its keys are out of order", store.ErrCorrupt)
		}
		if size >= copyChunk {
			return bytes.Clone(k), nil
		}
		c.records[string(k)] = bytes.Clone(v)
		size += len(k) + len(v)
	}
	return nil, nil
}

// apply applies a batch to the copy.
func (c *copying) apply(ctx context.Context, b batch) error {
	_, err := c.to.update(func(tx *bolt.Tx) error { return b.write(ctx, tx) })
	return err
}

// catchUp applies to the copy what was applied to the original.
func (c *copying) catchUp(ctx context.Context) error {
	if err := c.s.applying.take(ctx); err != nil {
		return err
	}
	since := c.s.since
	c.s.since = nil
	c.s.applying.leave()
	for _, b := range since {
		if err := c.apply(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// finish puts the copy in the place of the original. The last batches are
// applied to it while no others can come.
func (c *copying) finish(ctx context.Context, path string) error {
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	if err := c.s.applying.take(ctx); err != nil {
		return err
	}
	defer c.s.applying.leave()
	if c.s.failed != nil {
		return c.s.failed // of the batch that failed, the copy may have a part
	}
	for _, b := range c.s.since {
		if err := c.apply(ctx, b); err != nil {
			return err
		}
	}
	if err := c.verify(); err != nil {
		return err
	}
	if err := errors.Join(c.to.Sync(), c.to.close()); err != nil {
		return err
	}
	return c.s.exchange(path)
}

// verify compares what is said of the caches. If records are missing in the
// original, only there they are missed.
func (c *copying) verify() error {
	want, err := c.s.caches()
	if err != nil {
		return err
	}
	got, err := c.to.caches()
	if err != nil {
		return err
	}
	if !slices.EqualFunc(want, got, func(a, b store.Info) bool {
		return a.Cache == b.Cache && bytes.Equal(a.Description, b.Description) && a.Records == b.Records && a.Bytes == b.Bytes
	}) {
		return fmt.Errorf("%w: records are missing", store.ErrCorrupt)
	}
	return nil
}

// exchange puts the database in the file path in the place of s.db. It is
// called with s.applying.
func (s *Store) exchange(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return store.ErrClosed
	}
	err := s.db.close()
	if err == nil {
		err = os.Rename(path, s.path)
	}
	if err == nil {
		// Until the new name is durable a batch would not be.
		if err = syncDir(filepath.Dir(s.path)); err != nil {
			s.failed = fmt.Errorf("the compacted file may be lost: %w", err)
		}
	}
	db, reopened := openDatabase(s.path, 0, bolt.Options{})
	if reopened != nil {
		db = &database{}
		db.broken.Store(&reopened)
	}
	s.db = db
	return errors.Join(err, reopened)
}
