package cacheman

import (
	"context"
	"fmt"
	"slices"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Batch collects writes to any caches of one Manager that are to be one change.
type Batch struct {
	m      *Manager
	writes []staged
}

// staged is a write of a batch, without the types of its cache.
type staged interface {
	core() *core
	of() any // the key
	note() error
	// find finds the place of the write; lock and unlock lock it.
	find()
	lock(held map[any]bool)
	unlock(held map[any]bool)
	compare()         // a value with what is there
	uncompared() bool // that has changed since
	mark() *graph.Run
	apply(stamp uint64) (changed bool)
	prune() // what nobody needs, when all are applied
}

// Batch calls fn, and then makes the writes that fn has put into the batch, as
// one change with one revision: a reader who sees one of them sees all, and
// so does a builder. If fn returns an error, Batch returns that and nothing
// is written. Of several writes to one key the last counts. A cache that depends
// on changes of another (see Spec.DependsOnChange) is invalidated together with
// what the batch has put into it. fn must not keep the batch; it is called
// without any lock, and may read, but what it reads may have changed when the
// batch is written.
func (m *Manager) Batch(fn func(b *Batch) error) error {
	if err := m.refuses(); err != nil {
		return &Error{Op: "batch", Err: err}
	}
	b := &Batch{m: m}
	var err error
	guard(&err, func() error { return fn(b) })
	if err != nil {
		return wrap(context.Background(), "batch", "", nil, err)
	}
	b.keepLast()
	heeded := make(map[*core]bool)
	for _, w := range b.writes {
		if c := w.core(); c.limits != nil && !heeded[c] {
			heeded[c] = true
			c.heed()
		}
	}
	if err := b.note(); err != nil {
		return wrap(context.Background(), "batch", "", nil, err)
	}
	for tries := 0; ; tries++ {
		graph.At("batch")
		wait, again, err := b.commit(tries < compareAgain)
		graph.At("written")
		if err == nil && wait == nil && !again {
			err = b.note()
		}
		switch {
		case err != nil:
			return wrap(context.Background(), "batch", "", nil, err)
		case again:
			for _, w := range b.writes {
				w.compare()
			}
		case wait != nil:
			wait.Yield()
		default:
			return nil
		}
	}
}

// keepLast keeps, of several writes to one key, the last: those before it could make a change
// of what is none in the end.
func (b *Batch) keepLast() {
	if len(b.writes) < 2 {
		return
	}
	type place struct{ cache, key any }
	later := make(map[place]bool, len(b.writes))
	for i, w := range slices.Backward(b.writes) {
		if p := (place{w.core(), w.of()}); later[p] {
			b.writes[i] = nil
		} else {
			later[p] = true
		}
	}
	b.writes = slices.DeleteFunc(b.writes, func(w staged) bool { return w == nil })
}

// note notes the writes that are not to be forgotten.
func (b *Batch) note() error {
	for _, w := range b.writes {
		if err := w.note(); err != nil {
			return err
		}
	}
	return nil
}

// commit makes the writes. It changes nothing if it returns a run for which the writer has to
// wait, or, which it does only if exact is set, again: then values are to be compared first with
// what has come meanwhile.
func (b *Batch) commit(exact bool) (wait *graph.Run, again bool, err error) {
	m := b.m
	var gone []*slot
	m.gate.Lock() // no other writer, so that shards may be locked in any order
	defer func() {
		m.gate.Unlock()
		if e := m.noteWhole(gone); err == nil {
			err = e
		}
		m.emitInvalidated(gone, "entries they depend on changed")
	}()
	for _, w := range b.writes {
		err := fmt.Errorf("%w: the cache belongs to another Manager", ErrSpec)
		if w.core().m == m {
			err = w.core().writable()
		}
		if err != nil {
			return nil, false, w.core().err(context.Background(), "batch", nil, err)
		}
	}
	held := make(map[any]bool)
	for _, w := range b.writes {
		w.find()
		w.lock(held)
	}
	m.graph.Lock()
	again = exact && slices.ContainsFunc(b.writes, staged.uncompared)
	for _, w := range b.writes {
		if again {
			break
		}
		if r := w.mark(); r != nil {
			wait = r
		}
	}
	var changed []*core
	if wait == nil && !again {
		stamp := m.graph.Next()
		for _, w := range b.writes {
			if w.apply(stamp) {
				changed = append(changed, w.core())
			}
		}
	}
	m.graph.Unlock()
	seen := make(map[*core]bool)
	for _, c := range changed {
		c.edited(1)
		if !seen[c] {
			seen[c] = true
			for _, s := range c.changing() {
				if !slices.Contains(gone, s) {
					gone = append(gone, s)
				}
			}
		}
	}
	m.drop(gone, nil) // before anybody sees the changes
	for _, w := range b.writes {
		w.prune()
	}
	for _, w := range b.writes {
		w.unlock(held)
	}
	return wait, again, nil
}

// write is a staged Set or Delete.
type write[K comparable, V any] struct {
	c     *Cache[K, V]
	key   K
	state state[V]
	equal bool   // it equals what is there …
	seen  uint64 // … as long as that has this stamp

	t *table[K, V]
	s *shard[K, V]
	e *entry[K, V]

	unknown bool // the store may have another value

	keys *graph.Node // to be told that the keys have changed
}

// SetIn puts a Set into b, which is of the same Manager.
func (c *Cache[K, V]) SetIn(b *Batch, k K, v V) {
	w := &write[K, V]{c: c, key: k, state: state[V]{value: v, kind: decoded}}
	w.compare()
	b.writes = append(b.writes, w)
}

// DeleteIn puts a Delete into b, which is of the same Manager.
func (c *Cache[K, V]) DeleteIn(b *Batch, k K) {
	c.hashed(k)
	c.knew(k)
	b.writes = append(b.writes, &write[K, V]{c: c, key: k})
}

func (w *write[K, V]) core() *core { return &w.c.core }

func (w *write[K, V]) of() any { return w.key }

func (w *write[K, V]) note() error {
	if err := w.c.fits(w.key); err != nil {
		return w.c.err(context.Background(), "batch", w.key, err)
	}
	return w.c.note(w.key)
}

func (w *write[K, V]) find() {
	w.t = w.c.table.Load()
	w.s = w.t.shard(w.key)
}

func (w *write[K, V]) lock(held map[any]bool) {
	if !held[w.s] {
		held[w.s] = true
		w.s.mu.Lock()
	}
	w.e = w.s.entries[w.key]
	w.unknown = w.c.unknown(w.e)
	if w.e == nil && (w.state.kind.held() || w.unknown && w.t.recorded) {
		w.e = w.s.entry(w.key)
	}
}

func (w *write[K, V]) unlock(held map[any]bool) {
	if held[w.s] {
		held[w.s] = false
		w.s.mu.Unlock()
	}
}

func (w *write[K, V]) prune() {
	w.s.drop(w.t, w.key)
	w.c.prune(w.t, w.s)
}

func (w *write[K, V]) compare() {
	if w.state.kind.held() {
		w.equal, w.seen = w.c.holds(w.key, w.state.value)
	}
}

func (w *write[K, V]) uncompared() bool {
	return w.state.kind.held() && w.e.kind.held() && w.e.current() != w.seen
}

func (w *write[K, V]) mark() *graph.Run {
	if w.e == nil {
		return nil
	}
	w.keys = w.c.keys.Load()
	if w.equal = w.equal && w.e.kind.held() && w.e.current() == w.seen && !w.c.allBuilding(); w.equal {
		return nil
	}
	if !w.state.kind.held() {
		w.c.remembers(w.e)
		w.c.overtakeAll()
	}
	return w.c.mark(w.e, w.keys)
}

func (w *write[K, V]) apply(stamp uint64) bool {
	switch {
	case w.e == nil || w.c.off:
		return false
	case w.equal && w.e.kind.held() && w.e.current() == w.seen:
		return w.c.confirmed(w.t, w.s, w.e, w.state.value)
	case !w.state.kind.held():
		stamp = 0
	}
	if w.state.kind.held() == w.e.kind.held() {
		w.keys = nil // they stay the same
	}
	return w.c.putMarked(w.t, w.s, w.e, w.keys, w.state, stamp, w.unknown)
}
