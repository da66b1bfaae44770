package cacheman

import (
	"context"
	"iter"
)

// Single is the key of a cache that holds one value; see RegisterValue.
type Single struct{}

// String returns "".
func (Single) String() string { return "" }

// Value is a cache whose contents are one value of any type, and no map: a
// list, a report, a configuration. Underneath it is a Cache with one key, so all
// that is said there holds here too.
type Value[V any] struct{ c *Cache[Single, V] }

// RegisterValue makes the single-value cache of a name known to m, like
// Register. Spec.Build builds the value; there is no need for BuildAll.
func RegisterValue[V any](m *Manager, name string, spec Spec[Single, V]) (*Value[V], error) {
	c, err := Register(m, name, spec)
	if err != nil {
		return nil, err
	}
	return &Value[V]{c}, nil
}

// Cache returns the cache underneath, with its whole vocabulary.
func (v *Value[V]) Cache() *Cache[Single, V] { return v.c }

// Name returns the cache's name.
func (v *Value[V]) Name() string { return v.c.Name() }

// Get returns the value, which is built if it is not there; see Cache.Get.
func (v *Value[V]) Get(ctx context.Context) (V, error) { return v.c.Get(ctx, Single{}) }

// Peek returns the value if it is there; see Cache.Peek.
func (v *Value[V]) Peek() (V, bool) { return v.c.Peek(Single{}) }

// Set sets the value.
func (v *Value[V]) Set(value V) error { return v.c.Set(Single{}, value) }

// Update changes the value in one step; see Cache.Update.
func (v *Value[V]) Update(fn func(value V, ok bool) (V, bool)) (V, error) {
	return v.c.Update(Single{}, fn)
}

// Clear removes the value; see Cache.Clear.
func (v *Value[V]) Clear() error { return v.c.Clear() }

// Invalidate removes the value and the contents of all dependents for good; see
// Manager.Invalidate.
func (v *Value[V]) Invalidate() error { return v.c.InvalidateAll() }

// Touch invalidates the dependents; see Manager.Touch.
func (v *Value[V]) Touch() error { return v.c.Touch() }

// Sync makes changes durable; see Manager.Sync.
func (v *Value[V]) Sync(ctx context.Context) error { return v.c.Sync(ctx) }

// Reload drops what is unsaved; see Cache.Reload.
func (v *Value[V]) Reload(ctx context.Context) error { return v.c.Reload(ctx) }

// Rebuild invalidates the value and dependents, and builds it anew; see
// Manager.Rebuild.
func (v *Value[V]) Rebuild(ctx context.Context) error { return v.c.Rebuild(ctx) }

// DeleteSaved deletes what was saved; see Manager.DeleteSaved.
func (v *Value[V]) DeleteSaved(ctx context.Context) error { return v.c.DeleteSaved(ctx) }

// Stats returns the figures of the cache underneath.
func (v *Value[V]) Stats() Stats { return v.c.Stats() }

// Set is a cache that holds keys without values. Underneath it is a Cache with
// empty values, so all that is said there holds here too.
type Set[K comparable] struct{ c *Cache[K, struct{}] }

// RegisterSet makes the set-like cache of a name known to m, like Register.
func RegisterSet[K comparable](m *Manager, name string, spec Spec[K, struct{}]) (*Set[K], error) {
	c, err := Register(m, name, spec)
	if err != nil {
		return nil, err
	}
	return &Set[K]{c}, nil
}

// Cache returns the cache underneath, with its whole vocabulary.
func (s *Set[K]) Cache() *Cache[K, struct{}] { return s.c }

// Name returns the cache's name.
func (s *Set[K]) Name() string { return s.c.Name() }

// Add adds keys.
func (s *Set[K]) Add(keys ...K) error {
	for _, k := range keys {
		if err := s.c.Set(k, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes keys.
func (s *Set[K]) Remove(keys ...K) error {
	for _, k := range keys {
		if err := s.c.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether k is in the set.
func (s *Set[K]) Has(k K) bool { return s.c.Has(k) }

// Len returns the number of keys.
func (s *Set[K]) Len() int { return s.c.Len() }

// All iterates over the keys; see Cache.All.
func (s *Set[K]) All() iter.Seq[K] { return s.c.Keys() }

// Clear removes all keys; see Cache.Clear.
func (s *Set[K]) Clear() error { return s.c.Clear() }

// Sync makes changes durable; see Manager.Sync.
func (s *Set[K]) Sync(ctx context.Context) error { return s.c.Sync(ctx) }

// Reload drops what is unsaved; see Cache.Reload.
func (s *Set[K]) Reload(ctx context.Context) error { return s.c.Reload(ctx) }

// Stats returns the figures of the cache underneath.
func (s *Set[K]) Stats() Stats { return s.c.Stats() }
