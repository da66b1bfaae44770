package cacheman

import (
	"bytes"
	"reflect"
	"slices"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// equality returns how values are compared, or nil if that is by their bytes.
func equality[K comparable, V any](spec *Spec[K, V]) func(a, b V) bool {
	switch equal := any(bytes.Equal).(type) {
	case func(a, b V) bool:
		if spec.Equal == nil {
			return equal
		}
	}
	switch {
	case spec.Equal != nil:
		return spec.Equal
	case plain(reflect.TypeFor[V]()):
		return func(a, b V) bool { return any(a) == any(b) }
	case plainPointer(reflect.TypeFor[V]()):
		return func(a, b V) bool {
			x, y := reflect.ValueOf(a), reflect.ValueOf(b)
			if x.IsNil() || y.IsNil() {
				return x.IsNil() && y.IsNil()
			}
			return x.Elem().Equal(y.Elem())
		}
	case spec.Codec.Append == nil: // in memory only
		return func(a, b V) bool { return false }
	}
	return nil
}

// plain reports whether == on values of t compares all that they are, and no
// more: no pointers, which others may have changed what they point to, and no
// floats, of which some do not equal themselves.
func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	case reflect.Array:
		return plain(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !plain(f.Type) {
				return false
			}
		}
		return true
	}
	return false
}

// plainPointer reports whether t is of pointers to what is plain.
func plainPointer(t reflect.Type) bool { return t.Kind() == reflect.Pointer && plain(t.Elem()) }

// same reports whether v equals what an entry in state st holds. If that cannot
// be found out, they differ. No lock is held.
func (c *Cache[K, V]) same(k K, st state[V], v V) bool {
	same := false
	var failed error
	guard(&failed, func() error {
		switch {
		case st.kind == decoded && c.equal != nil:
			same = c.equal(st.value, v)
		case st.kind == decoded:
			a, err1 := c.spec.Codec.Append(nil, st.value)
			b, err2 := c.spec.Codec.Append(nil, v)
			same = err1 == nil && err2 == nil && bytes.Equal(a, b)
		case st.kind == encoded && c.spec.Equal != nil:
			old, err := c.spec.Codec.Decode(slices.Clone(rawBytes(st.raw)))
			if err == nil {
				if old, err = c.afterLoad(c.m.ctx, k, old); err == nil {
					same = c.equal(old, v)
				}
			}
		case st.kind == encoded:
			b, err := c.encode(c.m.ctx, k, v, nil)
			same = err == nil && string(b) == st.raw
		}
		return nil
	})
	return same && failed == nil
}

// sameAsBefore reports whether st, which was built for n, equals what n had
// before, and whether it would be saved as the same bytes.
func (c *Cache[K, V]) sameAsBefore(n *graph.Node, k K, st state[V]) (same, identical bool) {
	c.m.gate.RLock() // so that n keeps its entry
	s := c.table.Load().shard(k)
	s.mu.RLock()
	c.m.graph.Lock()
	known := !n.Dead() && (n.Stamp != 0 || st.kind == missing)
	old, _ := n.Old().(state[V])
	c.m.graph.Unlock()
	was := old
	if known {
		if e := n.Entry.(*entry[K, V]); e.kind != absent {
			was = e.state()
		}
	}
	s.mu.RUnlock()
	c.m.gate.RUnlock()
	if !known {
		return false, false
	}
	switch {
	case was.kind == dropped && st.kind.held():
		b, err := c.encode(c.m.ctx, k, st.value, nil)
		return err == nil && was.raw != "" && fingerprint(b) == was.raw, false
	case !was.kind.held() || !st.kind.held():
		same = was.kind == st.kind && was.raw == st.raw
		return same, same
	case was.kind == decoded && c.plain && any(was.value) == any(st.value):
		return true, true
	case !c.same(k, was, st.value):
		return false, false
	case c.spec.Equal == nil:
		return true, true
	}
	a, b := []byte(was.raw), []byte(nil)
	var err1, err2 error
	if was.kind == decoded {
		a, err1 = c.encode(c.m.ctx, k, was.value, nil)
	}
	b, err2 = c.encode(c.m.ctx, k, st.value, nil)
	return true, err1 == nil && err2 == nil && bytes.Equal(a, b)
}

func rawBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
