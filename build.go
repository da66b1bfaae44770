package cacheman

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// building is a run of the builder of one entry.
type building[K comparable, V any] struct {
	graph.Run
	c     *Cache[K, V]
	k     K
	value V
	none  bool       // there is no value
	kept  *KeptError // the error that is the result
}

// nodes is what the graph sees of a cache, which is not embedded: wrappers of all its
// methods would be compiled for each pair of types.
type nodes[K comparable, V any] struct{ of *Cache[K, V] }

// NewTask implements graph.Type.
func (as nodes[K, V]) NewTask() graph.Task { return &building[K, V]{c: as.of} }

// Name implements graph.Type.
func (as nodes[K, V]) Name(n *graph.Node) string {
	return entryName(as.of.slot.name, as.of.entryOf(n).key)
}

// Base implements graph.Task.
func (b *building[K, V]) Base() *graph.Run { return &b.Run }

// Start implements graph.Task.
func (b *building[K, V]) Start(n *graph.Node) { b.k = b.c.entryOf(n).key }

// Reset implements graph.Task.
func (b *building[K, V]) Reset() {
	var zero V
	b.value, b.none, b.kept = zero, false, nil
}

func (b *building[K, V]) result() (V, error) {
	switch {
	case b.none:
		return b.value, ErrNotFound
	case b.kept != nil:
		return b.value, b.failure(b.kept)
	}
	return b.value, nil
}

// Build implements graph.Task.
func (b *building[K, V]) Build(ctx context.Context) (err error) {
	b.c.heed()
	start := now()
	failed := exited // unless the builder returns
	defer func() {
		b.Took += now() - start
		if failed != nil {
			b.Err = b.failure(failed)
		}
	}()
	var zero V
	b.value, b.none, b.kept = zero, false, nil
	guard(&failed, func() (err error) {
		if probe := b.c.spec.Probe; probe != nil {
			old, ok, _ := b.c.lookup(b.k)
			b.value, err = probe(ctx, b.k, old, ok)
		} else {
			b.value, err = b.c.spec.Build(ctx, b.k)
		}
		return err
	})
	if failed == nil {
		b.value, failed = b.c.afterLoad(ctx, b.k, b.value)
	}
	failed = refuse(&b.Run, failed)
	switch b.none, b.kept = resultOf(failed); {
	case b.none:
		b.value = zero
		return ErrNotFound
	case b.kept != nil:
		b.value = zero
		return b.failure(b.kept)
	case failed != nil:
		return b.failure(failed)
	}
	return nil
}

// refuse returns err, or ErrClosed if the Manager was closed while the builder of r was running: what that has
// read without ctx may have been told it to be nothing.
func refuse(r *graph.Run, err error) error {
	if r.Over() && r.Cause() == ErrClosed {
		return ErrClosed
	}
	return err
}

// exited is the error of a builder, or a hook, that ends its goroutine; see Done.
var exited error = &PanicError{}

// now returns the time since began: one clock is read, where time.Now reads two.
func now() time.Duration { return time.Since(began) }

var began = time.Now()

// failure is how an error of the builder is shown.
func (b *building[K, V]) failure(err error) error {
	if b.Cause() == ErrClosed {
		err = ErrClosed
	}
	return b.c.err(context.Background(), "build", b.k, err)
}

// Keeps implements graph.Task.
func (b *building[K, V]) Keeps(err error) bool { return b.none || b.kept != nil }

// Publish implements graph.Task.
func (b *building[K, V]) Publish() graph.Outcome {
	st := state[V]{value: b.value, kind: decoded}
	switch {
	case b.none:
		st = state[V]{kind: missing}
	case b.kept != nil:
		st = state[V]{kind: broken, raw: b.kept.Error()}
		if errors.Is(b.kept, ErrNotFound) {
			st.kind = lacking
		}
	}
	graph.At("publish")
	outcome, was, compare := b.publish(st, comparison{})
	if compare {
		compared := b.c.compare(b.k, was, st)
		graph.At("compared")
		outcome, _, _ = b.publish(st, compared)
	}
	return outcome
}

// publish makes st the entry's state, if the run may publish. If st was not compared
// yet with what the entry had before, and that takes code of the user's, publish
// changes nothing, and returns what is to be compared.
func (b *building[K, V]) publish(st state[V], compared comparison) (outcome graph.Outcome, was state[V], compare bool) {
	c, n := b.c, b.Node()
	m := c.m
	quiet := false // there is nothing to be saved
	m.gate.RLock()
	t := c.table.Load()
	s := t.shard(b.k)
	s.mu.Lock()
	m.graph.Lock()
	outcome = b.Verdict()
	if outcome == graph.Published && (c.off || c.writable() != nil || n.Kind() == graph.Input) {
		outcome = graph.Volatile // or a BuildAll has listed k, and not when it ran last, which is not kept
	}
	if outcome == graph.Published && !compared.done {
		was, compared = c.compareAtOnce(n, st)
		compare = !compared.done
	}
	publish := outcome == graph.Published && !compare
	if publish {
		e := c.entryOf(n)
		if quiet = compared.identical && b.SameReads() && n.Kind() == c.derived() && e.kind != absent; !quiet {
			s.change(t, e, e.lockedVersion)
		}
		b.Commit(compared.same, b.none, c.derived())
		if keys := c.keys.Load(); keys != nil && st.kind.held() != e.kind.held() { // which it may have read itself
			m.graph.Mark(keys)
			c.keyChanged(keys, b.k, st.kind.held())
		}
		before := e.kind
		e.hold(st)
		s.live += held(st.kind) - held(before)
	}
	m.graph.Unlock()
	grow := len(t.shards) == 1 && len(s.entries) > growAt
	if c.off && s.entries[b.k] == c.entryOf(n) {
		delete(s.entries, b.k)
	}
	s.mu.Unlock()
	if publish && !quiet {
		// Nobody can have seen another value since the last change of k was
		// reported, so this concerns no declared dependents.
		c.edited(1)
	}
	m.gate.RUnlock()
	if grow {
		c.grow()
	}
	return outcome, was, compare
}

func held(k kind) int {
	if k.held() {
		return 1
	}
	return 0
}

// Done implements graph.Task.
func (b *building[K, V]) Done() {
	c := b.c
	if b.Exited() {
		b.Err = b.failure(&PanicError{Stack: debug.Stack()})
	}
	c.trust()
	if b.Err == graph.ErrStale {
		return // nobody gets what it has made, and it has not failed
	}
	switch {
	case b.Err != nil && !b.none && b.kept == nil:
		c.failed(b.Err)
		c.m.emit(Event{Kind: EventBuildFailed, Cache: c.slot.name, Key: b.k, Duration: b.Took, Err: c.said(b.k, b.Err)})
	case c.m.watched(EventBuilt):
		c.m.emit(Event{Kind: EventBuilt, Cache: c.slot.name, Key: b.k, Duration: b.Took, Reason: c.reason(b.Why)})
	}
}

// rebuild builds what an invalidation took: the whole contents if there is a
// BuildAll, else the entries of keys. It goes on after errors and returns them, but those
// that are results.
func (c *Cache[K, V]) rebuild(ctx context.Context, keys []any) error {
	if c.spec.BuildAll != nil || c.spec.Build == nil {
		return c.err(ctx, "rebuild", nil, c.prepare(ctx, true))
	}
	var errs errorList
	if err := each(ctx, 1, keys, func(ctx context.Context, k any) {
		_, err := c.get(ctx, graph.FrameOf(ctx), k.(K))
		errs.add(c.err(ctx, "get", k, failure(err)))
	}); err != nil {
		return c.err(ctx, "rebuild", nil, err)
	}
	return errs.join()
}

// keysToRebuild returns the keys that rebuild is to be called with.
func (c *Cache[K, V]) keysToRebuild() []any {
	if c.spec.BuildAll != nil || c.spec.Build == nil {
		return nil
	}
	if _, single := any(Single{}).(K); single {
		return []any{Single{}} // also if it has no value yet
	}
	var keys []any
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for k, e := range s.entries {
			if e.kind.held() {
				keys = append(keys, k)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}
