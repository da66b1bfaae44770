package graph

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Graph holds the nodes of all caches of a manager.
type Graph struct {
	mu      sync.Mutex
	rev     atomic.Uint64 // the last revision issued
	nodes   atomic.Int64  // never less than the nodes in use, which bounds the length of a path
	running []*Run        // in any order; see building
	closed  error
	stack   []*Node // reused by Mark
	paths   []path  // not in use; see begin
	writes  uint64  // counts what is changed from outside
	calls   uint64  // counts calls of builders
	shared  atomic.Bool
	linking atomic.Int32          // how many calls of Link there are
	failing map[*Request]struct{} // in which something has failed, until they are over
}

// New returns an empty graph.
func New() *Graph { return &Graph{failing: make(map[*Request]struct{})} }

// Lock locks the graph, for what is said to need that. Locks of shards are
// taken before it; nothing is taken, and no user code called, while it is held.
func (g *Graph) Lock() { g.mu.Lock() }

// Unlock undoes Lock.
func (g *Graph) Unlock() { g.mu.Unlock() }

// Next issues a revision, which is used as a stamp.
func (g *Graph) Next() uint64 { return g.rev.Add(1) }

// Revision returns the last revision that was issued.
func (g *Graph) Revision() uint64 { return g.rev.Load() }

// Raise sees to it that no revision up to rev is issued any more.
func (g *Graph) Raise(rev uint64) {
	for now := g.rev.Load(); now < rev; now = g.rev.Load() {
		if g.rev.CompareAndSwap(now, rev) {
			return
		}
	}
}

// Share says that others issue revisions, too: stamps that come from elsewhere may be
// above the last one, but none is one that is issued here.
func (g *Graph) Share() { g.shared.Store(true) }

// Linking reports whether nodes are just being linked: what is looked up for that is in no list
// yet, and were it forgotten, would have to be looked up again, maybe for ever.
func (g *Graph) Linking() bool { return g.linking.Load() > 0 }

// Wrote notes that something was changed from outside. What a node says of
// itself, that it was set or forced, is noted already. The graph is locked.
func (g *Graph) Wrote() { g.writes++ }

// Close ends all runs with the given cause; later ones do not begin.
func (g *Graph) Close(cause error) {
	g.mu.Lock()
	g.closed = cause
	runs := slices.Clone(g.running)
	g.mu.Unlock()
	for _, r := range runs {
		r.Cancel(cause)
	}
}

// Type is what the graph asks of a cache.
type Type interface {
	// Name returns how the node is called in errors. It is called with or
	// without the graph's lock.
	Name(n *Node) string

	// NewTask makes a task, which is told by Start what it builds.
	NewTask() Task

	// Link fills in lists, which are of nodes of one owner. No lock is held; it may
	// load caches.
	Link(ctx context.Context, lists []List)
}

// List is what a node was built from, to be brought to nodes that are alive.
type List struct {
	Node  *Node
	Edges []Edge // some of their nodes are dead,
	Saved string // or, if it is not empty, this stands for them, as it was stored

	Linked []Edge // the result, or
	Err    error  // why there is none
}

// Owner is a cache as the graph sees it.
type Owner struct {
	g    *Graph
	Type Type

	clean   atomic.Uint64 // the word of a node that is clean
	marks   atomic.Uint64 // see Marks
	suspect uint64        // counts what made all nodes doubtful at once, from 1 on; guarded by g.mu
	doubted uint64        // suspect since the world outside is to be asked anew for all nodes; guarded by g.mu
	epoch   uint32        // counts replaced contents: nodes of another epoch are dead; guarded by g.mu
	readers []*Owner      // caches with a node that has read one of this; guarded by g.mu
	whole   *Node         // what the contents as a whole were built from; nil if they were not
	spare   []Task        // to be used again; guarded by g.mu
	tally   Tally         // guarded by g.mu
	makes   Kind          // of nodes that are built; Input: none is
	entries atomic.Value  // the type of the entries, if Debug is set
	covers  *Owner        // the cache whose contents as a whole the node of this one stands for
}

// NewOwner adds a cache to the graph; makes is the kind of nodes that are built there,
// or Input if none is.
func (g *Graph) NewOwner(t Type, makes Kind) *Owner {
	o := &Owner{g: g, Type: t, makes: makes, suspect: 1, doubted: 1}
	o.clean.Store(word(Clean, 1))
	return o
}

// Whole returns the node that stands for the contents of o as a whole: its nodes
// are clean only while that is. t is what the graph asks about it. It is called
// once, before o is shared.
func (o *Owner) Whole(t Type) *Node {
	o.g.mu.Lock()
	defer o.g.mu.Unlock()
	w := o.g.NewOwner(t, Derived)
	w.readers = []*Owner{o}
	o.whole = w.newNode(Derived, Dirty, 0)
	w.covers = o
	return o.whole
}

// About says that nodes of o tell of the contents of another cache as a whole: they, too, are clean
// only while the node that stands for those is, if there is one. It is called once, before o is shared.
func (o *Owner) About(of *Owner) {
	o.g.mu.Lock()
	defer o.g.mu.Unlock()
	if o.whole = of.whole; o.whole != nil {
		of.readers = append(of.readers, o)
	}
}

// wholeClean reports whether the contents of o as a whole are clean, or not built as that.
// The graph is locked.
func (o *Owner) wholeClean() bool { return o.whole == nil || o.whole.clean() }

// Tally counts runs of builders, and how long they took in all.
type Tally struct {
	Built, Failed int64
	Took          time.Duration
	Repeated      int64 // reads of nodes that Frame.Next has told of
}

func (t *Tally) add(took time.Duration, failed bool) {
	t.Took += took
	if failed {
		t.Failed++
	} else {
		t.Built++
	}
}

// Tally returns the figures of the runs that are over. The graph is locked.
func (o *Owner) Tally() Tally { return o.tally }

// Repeated counts a read of a node that Frame.Next has told of. The graph is locked.
func (o *Owner) Repeated() { o.tally.Repeated++ }

// Marks counts, without any lock, how often a node of o has ceased to be clean: a
// node that was found Fresh is so as long as the number is what it was before.
func (o *Owner) Marks() uint64 { return o.marks.Load() }

// Graph returns the graph that o belongs to.
func (o *Owner) Graph() *Graph { return o.g }

// Replace makes all nodes of o dead, and all that have read one of them
// doubtful. Its cost follows the number of caches. The graph is locked.
func (o *Owner) Replace() {
	o.epoch++
	o.doubtAbove(false)
}

// Doubt makes all nodes of o, and all that have read one of them, doubtful:
// they are checked when they are read, and for those of o that are Probed the
// world outside is asked. The graph is locked.
func (o *Owner) Doubt() {
	o.g.Wrote()
	o.doubtAbove(true)
	o.doubted = o.suspect
}

// Overtake supersedes the runs of nodes of o. The graph is locked.
func (o *Owner) Overtake() {
	for _, r := range o.g.running {
		if r.node.owner == o && r.node.run() == r {
			r.node.supersede()
		}
	}
}

func (o *Owner) doubtAbove(self bool) {
	seen := map[*Owner]bool{o: true}
	for queue := []*Owner{o}; len(queue) > 0; queue = queue[1:] {
		x := queue[0]
		if x != o || self {
			x.suspect++
			x.clean.Store(word(Clean, x.suspect))
			x.marks.Add(1)
		}
		for _, y := range x.readers {
			if y == o && !self {
				self = true // it reads itself
				o.suspect++
				o.clean.Store(word(Clean, o.suspect))
				o.marks.Add(1)
			}
			if !seen[y] {
				seen[y] = true
				queue = append(queue, y)
			}
		}
	}
	// Runs have read nodes that are dead or doubtful now.
	for _, r := range o.g.running {
		r.poison++
	}
}

// IsRead reports whether something may have been computed from nodes of o. The graph
// is locked.
func (o *Owner) IsRead() bool { return len(o.readers) > 0 }

// Adopt makes n, a node of o from before its contents were replaced, alive
// again. The graph is locked.
func (o *Owner) Adopt(n *Node) { n.epoch = o.epoch }
