package sqlitestore

import (
	"context"

	"github.com/cacheman-go/cacheman/store"
)

// Redescribe implements [store.Sharer].
func (s *Store) Redescribe(ctx context.Context, cache string, change func(description []byte) []byte) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	t := &transaction{s: s, ctx: ctx}
	defer t.end()
	if err := t.redescribe(cache, change); err != nil {
		return s.explain("description of a cache", err)
	}
	return s.explain("description of a cache", t.commit())
}

func (t *transaction) redescribe(cache string, change func(description []byte) []byte) error {
	if err := t.begin(); err != nil {
		return err
	}
	r, err := t.row(cache)
	if err != nil {
		return err
	}
	var old []byte
	if r.known {
		old = r.description
	}
	changes := newRun()
	if err := changes.add(store.Op{Kind: store.Describe, Cache: cache, Value: change(old)}); err != nil {
		return err
	}
	return t.write(changes)
}
