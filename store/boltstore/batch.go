package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
)

// batch is a sequence of ops, as what it comes to for each cache. bbolt wants
// keys in order: in any other, large transactions take minutes.
type batch map[string]*change

// change is what becomes of one cache. First it is dropped or cleared, if it
// is to be, then the rest happens.
type change struct {
	seed        uint32
	drop, clear bool
	known       bool // it is known afterwards, even if it was not before
	describe    bool
	description []byte
	records     map[string][]byte // by keys of bbolt's; nil is a deletion
}

// collect takes in ops. Nothing of them is kept.
func collect(ctx context.Context, ops iter.Seq2[store.Op, error]) (batch, error) {
	b := make(batch)
	for op, err := range ops {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = b.add(op)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b batch) add(op store.Op) error {
	if op.Kind < store.Put || op.Kind > store.Drop || op.Cache == "" {
		return fmt.Errorf("boltstore: invalid operation: %v on cache %q", op.Kind, op.Cache)
	}
	c := b[op.Cache]
	if c == nil {
		c = &change{seed: seed(op.Cache), records: make(map[string][]byte)}
		b[op.Cache] = c
	}
	switch op.Kind {
	case store.Put:
		c.known = true
		key := boltKey(op.Key)
		c.records[string(key)] = encode(c.seed, key, op)
	case store.Delete:
		c.records[string(boltKey(op.Key))] = nil
	case store.Clear:
		c.clear = true
		clear(c.records)
	case store.Describe:
		c.known = true
		c.describe, c.description = true, bytes.Clone(op.Value)
	case store.Drop:
		*c = change{seed: c.seed, drop: true, records: make(map[string][]byte)}
	}
	return nil
}

// write carries out b in a transaction.
func (b batch) write(ctx context.Context, tx *bolt.Tx) error {
	root, caches := tx.Bucket(rootBucket), tx.Bucket(cachesBucket)
	count, err := decodeCount(root.Get(countKey))
	if err != nil {
		return err
	}
	before := count
	for _, name := range slices.Sorted(maps.Keys(b)) {
		more, err := b[name].write(ctx, caches, []byte(name))
		if err != nil {
			return fmt.Errorf("cache %.80q: %w", name, err)
		}
		count += more
	}
	if count == before {
		return nil
	}
	return root.Put(countKey, encodeCount(count))
}

// write carries out c, and returns how many caches more there are.
func (c *change) write(ctx context.Context, caches *bolt.Bucket, name []byte) (more int, err error) {
	b := caches.Bucket(name)
	if b != nil && c.drop {
		if err := caches.DeleteBucket(name); err != nil {
			return 0, err
		}
		b, more = nil, -1
	}
	if b == nil && !c.known {
		return more, nil
	}
	var i info
	if b != nil {
		if i, err = decodeInfo(c.seed, b.Get(infoKey)); err != nil {
			return 0, fmt.Errorf("its description: %w", err)
		}
		if c.clear {
			i.records, i.bytes = 0, 0
			if err := caches.DeleteBucket(name); err != nil {
				return 0, err
			}
			b, more = nil, -1
		}
	}
	if b == nil {
		if b, err = caches.CreateBucket(name); err != nil {
			return 0, err
		}
		more++
	}
	if c.describe {
		i.described, i.description = true, c.description
	}
	if err := c.writeRecords(ctx, b, &i); err != nil {
		return 0, err
	}
	return more, b.Put(infoKey, i.encode(c.seed))
}

func (c *change) writeRecords(ctx context.Context, b *bolt.Bucket, i *info) error {
	keys := slices.Sorted(maps.Keys(c.records))
	if len(keys) > 0 {
		if last, _ := b.Cursor().Last(); string(last) < keys[0] {
			b.FillPercent = appending
		}
	}
	for n, key := range keys {
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		k, value := []byte(key), c.records[key]
		if old := b.Get(k); old != nil {
			i.records--
			i.bytes -= int64(len(k) + len(old))
		} else if value == nil {
			continue
		}
		if value == nil {
			if err := b.Delete(k); err != nil {
				return err
			}
			continue
		}
		if err := b.Put(k, value); err != nil {
			return err
		}
		i.records++
		i.bytes += int64(len(k) + len(value))
	}
	return nil
}

// appending is how full pages get to which only more is appended. bbolt fills
// the others by half, for what may come between.
const appending = 0.9
