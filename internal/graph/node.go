package graph

import (
	"slices"
	"sync/atomic"
	"time"
)

// Node is an entry as the graph sees it.
//
// Its fields are guarded by the graph's lock, but that those with capital
// letters are read without it by those who hold the lock of the entry, which
// is held as well when they are changed.
type Node struct {
	// What checking looks at comes first, so that it is on one cache line.

	word  atomic.Uint64
	owner *Owner
	Stamp uint64 // the revision at which its value last changed; 0: it has none
	epoch uint32
	kind  Kind
	why   Reason // why it is Dirty
	run   *Run   // what is building it
	Edges []Edge // what it was built from, in the order of reading; replaced, never changed

	above []*Node // nodes that have read this one and may be clean; empty unless this one is clean
	Entry any     // the entry; the owner's
	Old   any     // what it held before it was invalidated, to be compared with what is built; the owner's
	Saved string  // the same as it was stored, if it was not linked yet
	Built uint64  // the revision at which it was built, or proven to be what a builder would make
	Took  time.Duration

	covers *Owner // the cache whose contents as a whole n stands for
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
	Probed               // like Derived, but the world outside has to be asked once in every session
)

// State is what is known of a node's value.
type State uint8

const (
	Check = State(iota) // something below may have changed
	Dirty               // it has to be built
	Clean               // it is what a builder would make now
)

func (s State) String() string { return [...]string{"check", "dirty", "clean"}[s] }

// Cause says why a builder runs.
type Cause struct {
	Reason Reason
	Node   *Node // the dependency, if it is one
	run    *Run  // of it, if its builder failed
}

// Reason is the kind of a Cause.
type Reason uint8

const (
	Missing     = Reason(iota) // there was no value
	Changed                    // a dependency has changed
	Failed                     // a dependency cannot be brought up to date
	Invalidated                // by call
	Outdated                   // the builder has another version
	Unknown                    // what it was built from cannot be found out
	Asked                      // the world outside has to be asked
)

func word(s State, suspect uint64) uint64 { return uint64(s) | suspect<<2 }

// NewNode returns a node of o. The graph is locked.
func (o *Owner) NewNode(entry any, kind Kind, state State, stamp uint64) *Node {
	n := &Node{Entry: entry, Stamp: stamp, owner: o, epoch: o.epoch, kind: kind}
	n.set(state)
	o.g.nodes++
	return n
}

// Owner returns the cache of n.
func (n *Node) Owner() *Owner { return n.owner }

// Kind returns what n's value comes from. The graph is locked.
func (n *Node) Kind() Kind { return n.kind }

// Fresh reports, without any lock, that n is clean. It may be so without Fresh
// knowing.
func (n *Node) Fresh() bool { return n.word.Load() == n.owner.clean.Load() }

// State returns what is known of n. The graph is locked.
func (n *Node) State() State {
	s := State(n.word.Load() & 3)
	if s == Clean && !n.clean() {
		return Check
	}
	return s
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
	if n.kind == Input && w&3 == uint64(Clean) && (n.owner.whole == nil || n.owner.whole.clean()) {
		n.set(Clean) // nothing below it could have changed
		return true
	}
	return false
}

// Dead reports that the contents n belongs to were replaced. The graph is locked.
func (n *Node) Dead() bool { return n.dead() }

// Forget makes n dead, if nothing clean has read it and nothing is building it:
// those that have read it before will look for the node that is in its place
// then. It is called for a node without a value. The graph is locked.
func (n *Node) Forget() bool {
	if len(n.above) > 0 || n.run != nil {
		return false
	}
	n.epoch = n.owner.epoch - 1
	return true
}

// dead reports that the contents n belongs to were replaced.
func (n *Node) dead() bool { return n.epoch != n.owner.epoch }

func (n *Node) set(s State) { n.word.Store(word(s, n.owner.suspect)) }

// join adds y to those that have read n.
func (n *Node) join(y *Node) {
	if k := len(n.above); k > 0 && n.above[k-1] == y {
		return
	}
	if len(n.above) == cap(n.above) && len(n.above) >= 16 {
		n.compact()
	}
	n.above = append(n.above, y)
	if slices.Contains(n.owner.readers, y.owner) {
		return
	}
	n.owner.readers = append(n.owner.readers, y.owner)
}

// compact takes out of n.above what is there twice, or needs not be there.
func (n *Node) compact() {
	seen := make(map[*Node]struct{}, len(n.above))
	kept := n.above[:0]
	for _, y := range n.above {
		if _, twice := seen[y]; !twice && !y.dead() && (y.run != nil || y.word.Load()&3 == uint64(Clean)) {
			seen[y] = struct{}{}
			kept = append(kept, y)
		}
	}
	clear(n.above[len(kept):])
	n.above = kept
}

// SetInput makes n an input with a new value. Mark was called before, in the
// same critical section. What is building n is superseded. The graph is locked.
func (n *Node) SetInput(stamp uint64) {
	n.supersede()
	n.Stamp, n.Edges, n.Saved, n.Old = stamp, nil, "", nil
	n.kind = Input
	n.Built, n.Took = stamp, 0
	n.set(Clean)
}

// Force makes n a node that has to be built, whatever its edges say, and what
// is building it superseded. Mark was called before, in the same critical
// section. The graph is locked.
func (n *Node) Force(kind Kind, why Reason) {
	n.supersede()
	n.Begin(kind, why)
}

// Begin is Force for a node that nobody has seen yet: it is no change. The graph
// is locked.
func (n *Node) Begin(kind Kind, why Reason) {
	n.kind = kind
	n.why = why
	n.set(Dirty)
}

// Restore makes n a node whose edges were stored. The graph is locked.
func (n *Node) Restore(kind Kind, saved string) {
	n.kind = kind
	n.Saved = saved
	n.set(Check)
}

// Doubt makes n a node that is to be checked. Mark was called before, in the
// same critical section. The graph is locked.
func (n *Node) Doubt() {
	if State(n.word.Load()&3) == Clean {
		n.set(Check)
	}
}

// supersede notes that n is changed from outside.
func (n *Node) supersede() {
	n.owner.g.Wrote()
	if n.run != nil {
		n.run.superseded = true
		n.run = nil
	}
}

// Mark makes everything that was computed from n, directly or through others,
// doubtful, and poisons the runs that have read any of it. It comes before the
// change that is the reason, in the same critical section: otherwise somebody
// could see the new value, and then one that was computed from the old one.
//
// A run that has had to begin again too often asks writers to wait for it. Mark
// then returns it, and the writer is to release its locks, call Run.Yield, and
// begin again. Each edge is followed at most once between two checks of what
// is above it. The graph is locked.
func (g *Graph) Mark(n *Node) (patient *Run) {
	stack := append(g.stack[:0], n)
	for len(stack) > 0 {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, y := range x.above {
			if y.run != nil {
				y.run.poison++
				if y.run.patient {
					patient = y.run
				}
			}
			if y.word.Load()&3 == uint64(Clean) {
				y.set(Check)
				if y.covers != nil {
					y.covers.Doubt()
				}
				if len(y.above) > 0 {
					stack = append(stack, y)
				}
			}
		}
		clear(x.above)
		x.above = x.above[:0]
	}
	g.stack = stack
	return patient
}
