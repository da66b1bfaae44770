package graph

import (
	"math"
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"
)

// Node is an entry as the graph sees it.
//
// Its fields are guarded by the graph's lock, but that those with capital
// letters, and what the methods set, are read without it by those who hold the
// lock of the entry, which is held as well when they are changed.
//
// There may be millions. So slices are stored as what they need, and what few
// nodes have, or only for a while, is in extra.
type Node struct {
	// What is looked at when a node that has read this one is checked comes
	// first, so that it is on one cache line.

	word    atomic.Uint64
	owner   *Owner
	Stamp   uint64 // the revision at which its value last changed; 0: it has none
	epoch   uint32
	kind    Kind
	front   bool // it counts in wave.front
	watched bool // some of above may be clean, or being built; false unless this one is clean
	joined  bool // it is in above of the node of each of its edges

	edges     *Edge // what it was built from, in the order of reading; replaced, never changed
	lenEdges  uint32
	lenAbove  uint32
	above     **Node // nodes that have read this one; see readers.go
	extra     *extra
	entry     unsafe.Pointer // see EntryOf
	Built     uint64         // the revision at which it was built, or proven to be what a builder would make
	took      float32        // nanoseconds; seven digits are enough
	roomAbove uint8          // the class of its capacity, and unlisted
	strays    bool           // it may be in above of nodes that are not among its edges
	why       Reason         // why it is Dirty
	leads     bool           // those that have read it, and are on its wave, are of the front
	wave      *wave          // the last one that has come by; nil if that is of no use any more
}

// extra is what few nodes have, or only for a while. It is a part of the run, or
// else of what is kept.
type extra struct {
	run  *Run // what is building the node
	kept *kept
}

// kept is what a node had before it was invalidated, or since it was loaded. It
// is never changed.
type kept struct {
	old   any    // what it held, to be compared with what is built; the owner's
	saved string // its edges as they were stored, if they were not linked yet
	extra extra
}

// Edge says that a value was read.
type Edge struct {
	Node  *Node
	Stamp uint64
}

// Kind is what a node's value comes from.
type Kind uint8

const (
	Input   = Kind(iota) // it was set, or there is no builder
	Derived              // a builder made it, or is to make it
	Probed               // like Derived, but the world outside has to be asked once after each start, and after each Doubt
)

// State is what is known of a node's value.
type State uint8

const (
	Check  = State(iota) // something below may have changed
	Dirty                // it has to be built
	Clean                // it is what a builder would make now
	marked               // Check, or Clean once its wave has settled
)

func (s State) String() string { return [...]string{"check", "dirty", "clean", "marked"}[s] }

// Cause says why a builder runs.
type Cause struct {
	Reason Reason
	Node   *Node // the dependency, if it is one
}

// Reason is the kind of a Cause.
type Reason uint8

const (
	Missing     = Reason(iota) // there was no value
	Changed                    // a dependency has changed
	Failed                     // a dependency cannot be built
	Unkept                     // what was built of a dependency is right but cannot be kept
	Invalidated                // by call
	Outdated                   // the builder has another version
	Unknown                    // what it was built from cannot be found out
	Asked                      // the world outside has to be asked
	Evicted                    // there was no room for its value
)

// word is what is known of a node, and since when: how often all nodes of its
// owner had been made doubtful when it was last clean, or was to be built; 0 is
// before any of that.
func word(s State, suspect uint64) uint64 { return uint64(s) | suspect<<2 }

// NewNode returns a node of o that stands for entry. The graph is locked.
func NewNode[E any](o *Owner, entry *E, kind Kind, state State, stamp uint64) *Node {
	n := o.newNode(kind, state, stamp)
	SetEntry(n, entry)
	return n
}

func (o *Owner) newNode(kind Kind, state State, stamp uint64) *Node {
	n := &Node{Stamp: stamp, Built: stamp, owner: o, epoch: o.epoch, kind: kind}
	n.set(state)
	o.g.nodes.Add(1)
	return n
}

// Restorer makes nodes as they were stored, for one goroutine. They are allocated
// together; one that stays keeps its neighbours' room.
type Restorer struct {
	owner *Owner
	epoch uint32
	room  int
	nodes []Node
	kept  []kept // apart, for they are needed for a shorter time
}

// Restorer returns a Restorer of nodes of o, for contents that are there now. It
// makes room for so many at a time. The graph is locked.
func (o *Owner) Restorer(room int) *Restorer { return &Restorer{owner: o, epoch: o.epoch, room: room} }

// Node returns a node as it was stored: it is to be checked, and its edges are not
// linked yet. No lock is needed; it is the only one to know the node. SetEntry comes next.
func (r *Restorer) Node(kind Kind, stamp uint64, saved string) *Node {
	if len(r.nodes) == 0 {
		r.nodes = make([]Node, r.room)
		r.kept = make([]kept, r.room)
		r.owner.g.nodes.Add(int64(r.room))
	}
	n, k := &r.nodes[0], &r.kept[0]
	r.nodes, r.kept = r.nodes[1:], r.kept[1:]
	n.Stamp, n.owner, n.epoch, n.kind = stamp, r.owner, r.epoch, kind
	n.word.Store(word(Check, 0))
	n.roomAbove = unlisted // by what is stored as well
	if saved != "" {
		k.saved, k.extra.kept = saved, k
		n.extra = &k.extra
	}
	return n
}

// EntryOf returns the entry that n stands for, without any lock; the owner's. All entries of
// an owner are of the type E: a node has no room to say which.
func EntryOf[E any](n *Node) *E { return (*E)(atomic.LoadPointer(&n.entry)) }

// SetEntry makes e, which has the same key as the one before, the entry that n stands
// for. That one is locked.
func SetEntry[E any](n *Node, e *E) {
	if Debug {
		n.owner.assertEntry(reflect.TypeFor[E]())
	}
	atomic.StorePointer(&n.entry, unsafe.Pointer(e))
}

// Owner returns the cache of n.
func (n *Node) Owner() *Owner { return n.owner }

// Kind returns what n's value comes from. The graph is locked.
func (n *Node) Kind() Kind { return n.kind }

// Edges returns what n was built from.
func (n *Node) Edges() []Edge { return unsafe.Slice(n.edges, n.lenEdges) }

// SetEdges replaces the edges of n, with which it is not registered. The graph is locked.
func (n *Node) SetEdges(edges []Edge) {
	n.strays = n.strays || n.lenEdges > 0
	n.joined = false
	n.edges, n.lenEdges = unsafe.SliceData(edges), uint32(len(edges))
}

// Saved returns the edges of n as they were stored, if they were not linked yet.
// The graph is locked.
func (n *Node) Saved() string { return n.kept().saved }

// Old returns what n held before it was invalidated, if that is remembered. The
// graph is locked.
func (n *Node) Old() any { return n.kept().old }

// Remember keeps old to be compared with what is built. The graph is locked.
func (n *Node) Remember(old any) { n.keep(old, n.Saved()) }

// Took returns how long it took to build n.
func (n *Node) Took() time.Duration { return time.Duration(n.took) }

// SetTook notes how long it took to build n. The graph is locked.
func (n *Node) SetTook(d time.Duration) { n.took = float32(d) }

func (n *Node) run() *Run {
	if n.extra == nil {
		return nil
	}
	return n.extra.run
}

func (n *Node) kept() kept {
	if n.extra == nil || n.extra.kept == nil {
		return kept{}
	}
	return *n.extra.kept
}

// keep changes what n has kept.
func (n *Node) keep(old any, saved string) {
	r := n.run()
	if old == nil && saved == "" {
		n.extra = nil
	} else {
		k := &kept{old: old, saved: saved}
		k.extra.kept = k
		n.extra = &k.extra
	}
	n.setRun(r)
}

// setRun makes r, or nothing, what is building n.
func (n *Node) setRun(r *Run) {
	var k *kept
	if n.extra != nil {
		k = n.extra.kept
	}
	switch {
	case r != nil:
		r.extra = extra{r, k}
		n.extra = &r.extra
	case k != nil:
		n.extra = &k.extra
	default:
		n.extra = nil
	}
}

// Untouched reports, without any lock, that n may be as it was restored.
func (n *Node) Untouched() bool { return n.word.Load() == word(Check, 0) }

// Marked reports, without any lock, that n is clean if others are; see Graph.Unsettled.
func (n *Node) Marked() bool { return State(n.word.Load()&3) == marked }

// Fresh reports, without any lock, that n is clean. It may be so without Fresh
// knowing.
func (n *Node) Fresh() bool { return n.word.Load() == n.owner.clean.Load() }

// State returns what is known of n. The graph is locked.
func (n *Node) State() State {
	if n.clean() {
		return Clean
	}
	if State(n.word.Load()&3) == Dirty {
		return Dirty
	}
	return Check
}

// clean reports whether n is clean.
func (n *Node) clean() bool {
	w := n.word.Load()
	if n.dead() {
		return false
	}
	if w == n.owner.clean.Load() {
		return true
	}
	if n.kind == Input && w&3 == uint64(Clean) && n.owner.wholeClean() {
		n.set(Clean) // nothing below it could have changed
		return true
	}
	if w&3 == uint64(marked) && n.wave != nil {
		n.calm()
		return n.word.Load() == n.owner.clean.Load()
	}
	return false
}

// Asked reports that nobody has said that the world outside may have changed since
// it was asked for n, which is Probed: n is checked like what is Derived. The graph
// is locked.
func (n *Node) Asked() bool { return n.word.Load()>>2 >= n.owner.doubted }

// Dead reports that the contents n belongs to were replaced. The graph is locked.
func (n *Node) Dead() bool { return n.dead() }

// Forget makes n dead for good, if nothing clean has read it and nothing is building it:
// those that have read it before will look for the node that is in its place
// then. It is called for a node without a value. The graph is locked.
func (n *Node) Forget() bool {
	if n.calm(); n.watched || n.run() != nil {
		return false
	}
	n.advance()
	n.epoch = forgotten
	return true
}

// forgotten is the epoch of nodes that are not adopted any more.
const forgotten = math.MaxUint32

// dead reports that the contents n belongs to were replaced.
func (n *Node) dead() bool { return n.epoch != n.owner.epoch }

func (n *Node) set(s State) {
	was := n.word.Load()
	since := n.owner.suspect
	switch {
	case s == Check || s == marked:
		since = was >> 2 // for Asked
	case s == Clean && n.kind == Input && !n.owner.wholeClean():
		since-- // not before the contents are
	}
	n.word.Store(word(s, since))
	if was&3 == uint64(Clean) && s != Clean {
		n.owner.marks.Add(1) // afterwards
	}
	if s == Clean && n.front {
		n.front = false
		w := n.wave.root()
		w.front--
		w.begun = true
	}
}

// SetInput makes n an input with a new value. Mark was called before, in the
// same critical section. What is building n is superseded. The graph is locked.
func (n *Node) SetInput(stamp uint64) {
	if Debug {
		n.assertChange(stamp)
	}
	n.supersede()
	n.Stamp, n.Built, n.took = stamp, stamp, 0
	n.SetEdges(nil)
	n.extra = nil
	n.kind = Input
	n.set(Clean)
}

// Force makes n a node that has to be built, whatever its edges say, and what
// is building it superseded. Mark was called before, in the same critical
// section. The graph is locked.
func (n *Node) Force(kind Kind, why Reason) {
	if Debug {
		n.assertMarked(false)
	}
	n.supersede()
	n.kind = kind
	n.Distrust(why)
}

// Distrust makes n, which is new, a node that has to be built, whatever was
// stored of it. The graph is locked.
func (n *Node) Distrust(why Reason) {
	n.why = why
	n.set(Dirty)
}

// Restore makes n a node whose edges were stored. The graph is locked.
func (n *Node) Restore(kind Kind, saved string) {
	n.kind = kind
	n.advance()
	n.SetEdges(nil)
	n.keep(n.Old(), saved)
	n.set(Check)
}

// Doubt makes n a node that is to be checked, and if it is Probed the world
// outside asked. A run that is finding out its value is superseded, for it may
// have looked too early. Mark was called before, in the same critical section.
// The graph is locked.
func (n *Node) Doubt() {
	if Debug {
		n.assertMarked(false)
	}
	n.supersede()
	if State(n.word.Load()&3) != Dirty {
		n.set(Check)
	}
	n.word.And(3) // not asked
}

// supersede notes that n is changed from outside.
func (n *Node) supersede() {
	n.owner.g.Wrote()
	if r := n.run(); r != nil {
		r.superseded = true
		n.strays = n.strays || r.moved // it is in lists of what only r has read
		n.setRun(nil)
	}
}
