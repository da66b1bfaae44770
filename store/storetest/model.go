package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/cacheman-go/cacheman/store"
)

// model is what a store should hold: package store's description of the kinds
// in a form that runs.
type model map[string]*modelCache

type modelCache struct {
	description []byte
	records     map[string]store.Record
}

func (m model) apply(ops ...store.Op) {
	for _, op := range ops {
		c := m[op.Cache]
		if c == nil && (op.Kind == store.Put || op.Kind == store.Describe) {
			c = &modelCache{records: make(map[string]store.Record)}
			m[op.Cache] = c
		}
		if c == nil {
			continue
		}
		switch op.Kind {
		case store.Put:
			c.records[string(op.Key)] = store.Record{Value: bytes.Clone(op.Value), Meta: bytes.Clone(op.Meta)}
		case store.Delete:
			delete(c.records, string(op.Key))
		case store.Clear:
			clear(c.records)
		case store.Describe:
			c.description = bytes.Clone(op.Value)
		case store.Drop:
			delete(m, op.Cache)
		}
	}
}

// checkModel applies batches made by chance, and compares with the model. It
// reopens a Persistent store now and then, and compacts a Compactor.
func checkModel(t *suite) {
	s := t.store()
	m := make(model)
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		ops := make([]store.Op, r.IntN(20))
		for i := range ops {
			ops[i] = randomOp(r)
		}
		t.apply(s, ops...)
		m.apply(ops...)
		if c, ok := s.(store.Compactor); ok && r.IntN(5) == 0 {
			if err := c.Compact(t.Context()); err != nil {
				t.Fatalf("Compact: %v", err)
			}
		}
		if s.Caps().Persistent && r.IntN(5) == 0 {
			s = t.reopen(s)
		}
		t.want(s, m)
		if t.Failed() {
			t.Fatalf("after batch %v", maps.Collect(summary(ops)))
		}
	}
}

// summary counts the kinds in a batch.
func summary(ops []store.Op) func(yield func(store.Kind, int) bool) {
	n := make(map[store.Kind]int)
	for _, op := range ops {
		n[op.Kind]++
	}
	return maps.All(n)
}

func randomOp(r *rand.Rand) store.Op {
	cache := []string{"a", "b", "A", "a/b"}[r.IntN(4)]
	key := fmt.Sprint(r.IntN(10))
	switch n := r.IntN(100); {
	case n < 60:
		return put(cache, key, strings.Repeat(string(rune(r.IntN(300))), r.IntN(40)))
	case n < 80:
		return del(cache, key)
	case n < 88:
		return clearAll(cache)
	case n < 96:
		return describe(cache, fmt.Sprint("description ", r.IntN(100)))
	default:
		return drop(cache)
	}
}
