package sqlitestore

import (
	"bytes"
	"fmt"

	"github.com/cacheman-go/cacheman/store"
)

// run is a part of a batch, as what it comes to for each cache. Keys are
// written in order, as otherwise a page would be written again for each of its
// records.
type run struct {
	changes map[string]*change
	size    int // in memory, about
}

// defaultRun is how large a run becomes.
const defaultRun = 64 << 20

// change is what becomes of one cache. First it is dropped or cleared, if it
// is to be, then the rest happens.
type change struct {
	drop, clear bool
	known       bool // it is known afterwards, even if it was not before
	describe    bool
	description []byte
	records     map[string]*record // nil is a deletion
}

type record struct{ value, meta []byte }

func newRun() *run { return &run{changes: make(map[string]*change)} }

func (r *run) add(op store.Op) error {
	if op.Kind < store.Put || op.Kind > store.Drop || op.Cache == "" {
		return fmt.Errorf("sqlitestore: invalid operation: %v on cache %q", op.Kind, op.Cache)
	}
	c := r.changes[op.Cache]
	if c == nil {
		c = &change{records: make(map[string]*record)}
		r.changes[op.Cache] = c
	}
	r.size += 100 + len(op.Key) + len(op.Value) + len(op.Meta)
	switch op.Kind {
	case store.Put:
		c.known = true
		c.records[string(op.Key)] = &record{blob(op.Value), blob(op.Meta)}
	case store.Delete:
		c.records[string(op.Key)] = nil
	case store.Clear:
		c.clear = true
		clear(c.records)
	case store.Describe:
		c.known = true
		c.describe, c.description = true, blob(op.Value)
	case store.Drop:
		*c = change{drop: true, records: make(map[string]*record)}
	}
	return nil
}

// blob copies b. It is not nil, which would be NULL.
func blob(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	return bytes.Clone(b)
}
