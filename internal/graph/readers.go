package graph

import (
	"runtime"
	"slices"
	"unsafe"
)

// Node.above lists the nodes that have read a node. Whatever is clean, or being
// built, is in the lists of all that it has read, and those are watched. What is
// not clean may be in lists as well: a node that is found unchanged, or reads the
// same again, needs not be entered again.
//
// Lists of up to few nodes are kept when they are followed, and a node is in them
// once. So are longer ones of which at least half was clean. The others are emptied,
// so that a change costs what has been checked since the last one, and not what has
// ever been read.
const few = 16

// unlisted is a bit of Node.roomAbove: others than those in the list may have read the
// node, and be valid as long as it is as it was then.
const unlisted = 1 << 7

// readers returns the list of n. It is not to be kept.
func (n *Node) readers() []*Node {
	return unsafe.Slice(n.above, roomOf(n.class()))[:n.lenAbove]
}

// class returns the class of the capacity of n's list.
func (n *Node) class() uint8 { return n.roomAbove &^ unlisted }

// setReaders makes above, which has the capacity of the list or the given class,
// the list of n.
func (n *Node) setReaders(above []*Node, class uint8) {
	n.above, n.lenAbove, n.roomAbove = unsafe.SliceData(above), uint32(len(above)), class|n.roomAbove&unlisted
}

// roomOf returns the capacities of lists: 0, 1, 2, 3, 4, 6, 8, 12, 16 and so on.
func roomOf(class uint8) int {
	if class < 2 {
		return int(class)
	}
	return (2 + int(class&1)) << (class/2 - 1)
}

// join sees to it that y is in the list of n, which is clean.
func (n *Node) join(y *Node) {
	n.watched = true
	above := n.readers()
	if k := len(above); k <= few && slices.Contains(above, y) || k > few && above[k-1] == y {
		return
	}
	class := n.class()
	if len(above) == roomOf(class) {
		if len(above) >= few {
			above = n.compact(above)
		}
		if len(above) >= roomOf(class)*3/4 {
			class++
			above = append(make([]*Node, 0, roomOf(class)), above...)
		}
	}
	n.setReaders(append(above, y), class)
	if !slices.Contains(n.owner.readers, y.owner) {
		n.owner.readers = append(n.owner.readers, y.owner)
	}
}

// unlist notes that y is not in the list of n any more, which it may have read.
func (n *Node) unlist(y *Node) {
	y.joined = false
	if y.epoch != forgotten {
		n.roomAbove |= unlisted
	}
}

// ReadElsewhere notes that n may have been read by what is stored. The graph is locked.
func (n *Node) ReadElsewhere() { n.roomAbove |= unlisted }

// compact takes out of above, the list of n, what is there twice, or needs not
// be there.
func (n *Node) compact(above []*Node) []*Node {
	seen := make(map[*Node]struct{}, len(above))
	kept := above[:0]
	for _, y := range above {
		if _, twice := seen[y]; twice {
			continue
		}
		switch {
		case !y.reads(n): // nor does it matter to y
		case !y.active():
			n.unlist(y)
		default:
			seen[y] = struct{}{}
			kept = append(kept, y)
		}
	}
	clear(above[len(kept):])
	return kept
}

// Patient returns the run for which those are to wait who are going to overtake that of n,
// as for Mark, if there is one: it was superseded too often, or who needs it did not come to
// read what it made. The graph is locked.
func (n *Node) Patient() *Run {
	r := n.run()
	if r == nil || r.waiter == nil {
		return nil
	}
	w, running := r.waiter, n.owner.g.running
	if !w.patient || int(w.at) >= len(running) || running[w.at] != w {
		return nil
	}
	w.shown = true
	return w
}

// active reports that what n has read is watched: n is being built, even if it is dead and nobody
// gets what that comes to, or clean, or may become so with its wave.
func (n *Node) active() bool {
	if n.run() != nil || n.dead() {
		return n.run() != nil
	}
	s := State(n.word.Load() & 3)
	return s == Clean || s == marked && n.wave != nil && !n.wave.root().broke
}

// reads reports that n has read d, as far as it is known without asking runs.
func (n *Node) reads(d *Node) bool {
	return !n.strays || n.run() != nil || slices.ContainsFunc(n.Edges(), func(e Edge) bool { return e.Node == d })
}

// needs reports that y is, or may be found, valid as long as n, which is in no use otherwise,
// is what it was; or if value is not set, whether there is a value of n. It is known
// without asking which nodes y has read.
func (y *Node) needs(value bool) bool {
	switch {
	case y.epoch == forgotten:
		return false
	case y.active() || !value:
		return y.active()
	}
	return y.dead() || State(y.word.Load()&3) != Dirty // what is in the place of a dead one was stored
}

// Unread reports that nobody needs to know what n, which is to lose its value, had: none
// that has read it can be found valid by that. It may be so without Unread knowing. The
// graph is locked.
func (n *Node) Unread() bool {
	if n.roomAbove&unlisted != 0 || n.run() != nil || n.lenAbove > few {
		return false
	}
	for _, y := range n.readers() {
		if y.needs(true) && (y.lenEdges > fewEdges || y.reads(n)) {
			return false
		}
	}
	return true
}

// Unneeded returns those of nodes that nobody needs, in their memory: they have no value, nothing clean
// has read them, and nothing can be found valid by what they had, if that is remembered. Its cost
// follows the edges of what has read them. The graph is locked.
func (g *Graph) Unneeded(nodes []*Node) []*Node {
	read := make(map[*Node]bool)      // of those that may have been read: whether they were
	asked := make(map[*Node]struct{}) // by whom
	unneeded := nodes[:0]
	for _, n := range nodes {
		if n.calm(); n.isNeeded(read, asked) {
			continue
		}
		unneeded = append(unneeded, n)
	}
	for y := range asked {
		edges := y.Edges()
		if r := y.run(); r != nil {
			edges = slices.Concat(edges, r.edges)
		}
		for _, e := range edges {
			if _, may := read[e.Node]; may {
				read[e.Node] = true
			}
		}
	}
	unneeded = slices.DeleteFunc(unneeded, func(n *Node) bool { return read[n] })
	for _, n := range unneeded {
		n.watched = false
	}
	return unneeded
}

// isNeeded is Unneeded for one node, as far as that is known without a look at edges. If it depends on
// these, it is entered in read, and those that may have read it in asked.
func (n *Node) isNeeded(read map[*Node]bool, asked map[*Node]struct{}) bool {
	value := n.Old() != nil
	if n.run() != nil || n.owner.g.mayBeTold(n) || value && n.roomAbove&unlisted != 0 {
		return true
	}
	for _, y := range n.readers() {
		switch {
		case !y.needs(value):
		case !y.strays && y.run() == nil:
			return true
		default:
			read[n], asked[y] = false, struct{}{}
		}
	}
	return false
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
	if Debug {
		g.assertLocked()
	}
	if n.watched || n.wave != nil { // most that are set are not
		patient = g.follow(n)
	}
	return patient
}

// follow is Mark for a node that may be watched.
func (g *Graph) follow(n *Node) (patient *Run) {
	if n.calm(); !n.watched {
		n.advance()
		return nil
	}
	w := &wave{}
	root := w
	n.wave = nil // those that have read it are on the front of w
	var next [followAtOnce]*Node
	for stack := append(g.stack[:0], n); len(stack) > 0; g.stack = stack[:0] {
		some := next[:copy(next[:], stack[max(0, len(stack)-len(next)):])]
		stack = stack[:len(stack)-len(some)]
		clear(stack[len(stack):][:len(some)]) // lest it keeps a node alive
		if len(some) > 2 {
			touchReaders(some)
		}
		for _, x := range some {
			if !x.watched {
				continue // since it was followed last, nothing above it was found clean
			}
			x.watched, x.leads = false, false
			above, kept, passed := x.readers(), 0, 0
			for i, y := range above {
				if r := y.run(); r != nil {
					r.poison++
					if r.patient {
						r.shown = true
						patient = r
					}
				}
				if y.wave != w {
					if y.wave != nil {
						root = y.meet(root)
					}
					if State(y.word.Load()&3) == Clean {
						if !y.reads(x) {
							continue // and is not listed any more
						}
						y.set(marked)
						if y.wave == nil && !y.watched {
							y.leads = true // none has
						}
						y.wave = w
						if y.owner.covers != nil {
							y.owner.covers.Doubt()
						}
						stack = append(stack, y)
					}
				}
				dead := y.dead()
				if (dead || x == n && y.wave != nil) && State(y.word.Load()&3) == marked {
					y.set(Check)
					if y.front = !dead; y.front {
						root.front++
					}
				}
				if dead {
					x.unlist(y)
					continue
				}
				if kept != i { // mostly all are kept, and to write a pointer is not cheap
					above[kept] = y
				}
				if kept++; y.wave == w { // by way of x or another
					passed++
				}
			}
			if kept > few && passed < kept/2 {
				for _, y := range above[:kept] {
					x.unlist(y)
				}
				kept = 0
				root.broke = root.broke || x != n
			}
			clear(above[kept:])
			x.lenAbove = uint32(kept)
		}
	}
	return patient
}

// followAtOnce is how many lists of readers are touched before they are followed.
const followAtOnce = 16

// touchReaders is touch for what Mark is going to look at.
func touchReaders(nodes []*Node) {
	touched := uint64(0)
	for _, x := range nodes {
		if x.watched && x.lenAbove > 0 && *x.above == x {
			touched++
		}
	}
	for _, x := range nodes {
		if x.watched && x.lenAbove <= few {
			for _, y := range x.readers() {
				touched += y.word.Load() + uint64(y.roomAbove)
			}
		}
	}
	runtime.KeepAlive(touched)
}
