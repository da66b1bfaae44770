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
	case plainPointer(reflect.TypeFor[V]()) && solid(reflect.TypeFor[V]().Elem()):
		size := reflect.TypeFor[V]().Elem().Size()
		return func(a, b V) bool { // as what follows, without reflection
			x, y := *(**byte)(unsafe.Pointer(&a)), *(**byte)(unsafe.Pointer(&b))
			if x == nil || y == nil {
				return x == y
			}
			return unsafe.String(x, size) == unsafe.String(y, size)
		}
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

// solid reports whether == on values of t, which is plain, compares all bytes that they have
// in memory, and nothing else.
func solid(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String:
		return false
	case reflect.Array:
		return solid(t.Elem())
	case reflect.Struct:
		var size uintptr
		for f := range t.Fields() {
			if !solid(f.Type) {
				return false
			}
			size += f.Type.Size()
		}
		return size == t.Size() // or there is room between fields
	}
	return true
}

// comparesAtOnce reports that values are compared by what is no code of the user's, which locks
// may be held for.
func (c *Cache[K, V]) comparesAtOnce() bool { return c.spec.Equal == nil && c.equal != nil }

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

// compareAgain is how often what is set is compared once more with what there was, for either
// has changed meanwhile: who sets without end is not waited for.
const compareAgain = 3

// comparison is the result of comparing what was built with what there was before.
type comparison struct {
	done      bool
	same      bool // they are equal
	identical bool // and would be saved as the same bytes
}

// compareAtOnce compares st, which was built for n, with what n had before, unless
// that takes code of the user's: then it returns what compare is to be called with.
// The gate, the entry's shard and the graph are locked, and n is not dead.
func (c *Cache[K, V]) compareAtOnce(n *graph.Node, st state[V]) (was state[V], _ comparison) {
	if n.Stamp == 0 && st.kind != missing {
		return was, comparison{done: true}
	}
	if e := c.entryOf(n); e.kind != absent {
		was = e.state()
	} else {
		was, _ = n.Old().(state[V])
	}
	switch {
	case was.kind == dropped && st.kind.held():
	case !was.kind.held() || !st.kind.held():
		same := was.kind == st.kind && was.raw == st.raw
		return was, comparison{true, same, same}
	case was.kind == decoded && c.plain && any(was.value) == any(st.value):
		return was, comparison{true, true, true}
	case was.kind == decoded && c.plain && c.spec.Equal == nil:
		return was, comparison{done: true}
	}
	return was, comparison{}
}

// compare compares st, which was built for k, with what there was before. No lock is
// held.
func (c *Cache[K, V]) compare(k K, was, st state[V]) comparison {
	switch {
	case was.kind == dropped:
		b, err := c.encode(c.m.ctx, k, st.value, nil)
		return comparison{done: true, same: err == nil && was.raw != "" && fingerprint(b) == was.raw}
	case !c.same(k, was, st.value):
		return comparison{done: true}
	case c.spec.Equal == nil:
		return comparison{true, true, true}
	}
	a, b := []byte(was.raw), []byte(nil)
	var err1, err2 error
	if was.kind == decoded {
		a, err1 = c.encode(c.m.ctx, k, was.value, nil)
	}
	b, err2 = c.encode(c.m.ctx, k, st.value, nil)
	return comparison{true, true, err1 == nil && err2 == nil && bytes.Equal(a, b)}
}

func rawBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
