package cacheman

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// core is a registered cache without its types.
type core struct {
	m     *Manager
	slot  *slot
	typed typed // the Cache around it
	off   bool

	owner   *graph.Owner // the cache in the graph
	derives bool         // there is a builder of entries
	all     *graph.Node  // stands for the contents as a whole; nil without BuildAll
	version uint64       // what records keep of Spec.Version

	lane      *lane       // where changes are saved; nil for a cache in memory only
	triggers  []trigger   // of autosync; nil if it is off
	whole     bool        // saved as a whole by a hook, and not entry by entry
	described description // what the store is to know of it; dependencies are in slot

	keys     atomic.Pointer[graph.Node] // stands for which keys there are; nil as long as nobody has asked
	keyLog   keyLog                     // of when they came and went since
	formerly []string                   // the names in Spec.Formerly

	heirOf *slot // what is saved there is what is saved of c, as long as nothing is under its own name; guarded by the gate
	taken  bool  // it was taken over: loaded, or replaced, and is to be saved under the own name; guarded by the gate

	state     atomic.Int32 // of the contents; changed only with the gate held exclusively
	epoch     uint64       // counts what replaced the contents, or what is saved of them; guarded by the gate
	builtFrom []byte       // what BuildAll has read for the contents, as it is stored; guarded by the gate
	saving    bool         // a cut is being written; guarded by the gate
	sealed    int          // how many are deregistering it: writes are refused; guarded by the gate

	foreign atomic.Uint64 // no stamp that records of it have of an entry kept elsewhere is above this; see batch.reserve

	spent atomic.Int64 // on reading single records, while the contents are partial; as loadCost

	limits []*limiter // that c is subject to; not changed once it is registered

	expiring atomic.Bool // a timer will end the trust in what Probe gave

	edits       atomic.Int64 // unsaved edits
	failedEdits atomic.Int64 // how many of them could not be saved: they are not counted by the rules of autosync; changed with the gate held exclusively
	oldest      atomic.Int64 // when the first of the others was made, in ns since m.opened

	counts
}

// The states of a cache's contents.
const (
	stateUnloaded = int32(iota) // the store was not read yet; only what was set since is there
	statePartial                // entries are read from the store when they are asked for; what is in the table is known, also that there is none
	stateUnbuilt                // nothing valid was there; BuildAll is to run when they are asked for
	stateReady                  // they are there
	stateClosed                 // the cache was deregistered or its Manager closed
)

// loaded reports whether the table says of every key what there is.
func (c *core) loaded() bool { return c.state.Load() > statePartial }

// typed is what a Manager asks of a Cache without knowing its types.
type typed interface {
	typeName() string
	stats() Stats

	// With the gate held exclusively:

	outdated() bool    // see migrate.go; the gate may be held shared
	hasFormer() bool   // likewise
	early() bool       // see load.go; the gate may be held shared
	unbuilt() bool     // BuildAll is yet to make the contents, and nothing was set; the gate may be held shared
	drop()             // replaces the contents by none
	cut(all bool) part // takes what is unsaved, to be written; nil if nothing is
	check(nodes []*graph.Node, fault func(key any, what string)) []*graph.Node
	forget(sure bool) // notes that what was saved was, or may have been, deleted
	follow()          // replaces the contents by what is saved now

	// With nothing held:

	prepare(ctx context.Context, build bool) error
	residents(all []resident) []resident // appends the entries that may be evicted
	evict(ctx context.Context, entry any, age uint64, whole bool) (size, left int64, ok bool)
	reload(ctx context.Context) error
	keysToRebuild() []any
	explain(key any) (Explanation, error)
	explaining(key any) explaining // see Manager.path
	entryNodes() []*graph.Node     // the gate may be held shared
	rebuild(ctx context.Context, keys []any) error
	callDelete(ctx context.Context) error                        // the Delete hook
	stale(ctx context.Context, q *graph.Request) (doubts, error) // what may have to be built
	probes(ctx context.Context) (int, error)
	refreshAll(ctx context.Context, done func(n int)) error

	// For the caches that stand for the keys:

	keyCodec() codec.Codec[any]
	digest(ctx context.Context) (digest, error)
	has(ctx context.Context, key any) (bool, error)
}

// counts are the statistics that are no property of the contents.
type counts struct {
	syncs, syncErrors, bytes atomic.Int64
	lastSync                 atomic.Int64 // Unix time in ns
	evictions                atomic.Int64

	mu        sync.Mutex
	lastError error // guarded by mu
}

func (c *counts) failed(err error) {
	c.mu.Lock()
	c.lastError = err
	c.mu.Unlock()
}

// saves reports whether changes to c are saved.
func (c *core) saves() bool { return c.lane != nil && !c.m.opts.ReadOnly }

// refuses returns why nobody may write at all here and now, or nil.
func (m *Manager) refuses() error {
	switch {
	case m.opts.ReadOnly:
		return ErrReadOnly
	case graph.InBuilder():
		return ErrInBuilder
	}
	return nil
}

// writable returns why c cannot be changed, or nil. The gate is held.
func (c *core) writable() error {
	if c.sealed > 0 || c.m.closed || c.state.Load() == stateClosed {
		return ErrClosed
	}
	return nil
}

// err puts err under an *Error about c.
func (c *core) err(ctx context.Context, op string, key any, err error) error {
	return wrap(ctx, op, c.slot.name, key, err)
}

// said returns what err, of the builder of key, says beside whose builder it is of.
func (c *core) said(key any, err error) error {
	if e, is := err.(*Error); is && e.Op == "build" && e.Cache == plainName(c.slot.name) && e.Key == key {
		return e.Err
	}
	return err
}
