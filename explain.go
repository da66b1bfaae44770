package cacheman

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// Explanation says where an entry comes from, and what is known of it. It is
// as it was at one instant, but for Path. What was saved of the entry, and of those on
// Path, is read for it, but nothing is checked or built: call [Manager.Refresh] before to
// learn what has changed outside.
type Explanation struct {
	Cache string
	Key   any
	State EntryState
	Why   string // why it is in that state

	Input    bool          // it was set, or there is no builder
	Stamp    uint64        // the revision at which its value last changed
	Built    uint64        // the revision at which it was last built
	Took     time.Duration // how long that took
	Revision uint64        // the revision now

	Dependencies []Dependency // what it was built from, in the order of reading
	Dependents   []Reached    // what was built from it and is not known to be stale

	// Path is the reason for State Check, if it was found: the first of Dependencies that may
	// have changed, what that was built from, and so on, down to what has changed, has to be
	// built, or is to be looked at. What comes on the way may still turn out to be what it was.
	Path []Dependency
}

// EntryState is what is known of an entry.
type EntryState string

// The states of entries.
const (
	Absent   EntryState = "absent"   // there is none
	Clean    EntryState = "clean"    // it is what its builder would make now
	Check    EntryState = "check"    // something it was built from may have changed, or it was not looked at since the Manager was opened
	Dirty    EntryState = "dirty"    // it will be built when somebody asks for it
	Building EntryState = "building" // a builder is running
)

// Dependency is something that an entry was built from.
type Dependency struct {
	Cache   string
	Key     any    // nil if its cache is not registered
	Seen    uint64 // the stamp that was read; 0: there was no value
	Stamp   uint64 // the stamp now, if State is Clean
	State   EntryState
	Changed bool // its stamp is known to be another
}

// Reached is an entry that depends on another.
type Reached struct {
	Cache string
	Key   any
	Depth int // 1: directly
}

// Explain says where the entry of k comes from, and why it is or is not clean.
func (c *Cache[K, V]) Explain(k K) Explanation {
	c.m.ring()
	x := c.explainEntry(k, true)
	x.Path = c.m.path(x)
	switch {
	case x.because >= 0 && x.State == Check:
		x.Why = c.m.whatOf(x.Dependencies[x.because])
	case len(x.Path) > 0 && x.Path[len(x.Path)-1].Changed:
		x.Why = c.m.whatOf(x.Path[0])
	}
	for i, d := range x.Path {
		x.Path[i] = c.m.shown(d)
	}
	x.Dependencies = c.m.listed(x.Dependencies)
	return x.Explanation
}

// Explain is Cache.Explain of a cache whose types are not known: key has the type of its keys.
// The error matches ErrUnknown or ErrType.
func (m *Manager) Explain(cache string, key any) (Explanation, error) {
	c, err := m.lookup(cache)
	if err != nil {
		return Explanation{}, &Error{Op: "explain", Cache: cache, Key: key, Err: err}
	}
	return c.typed.explain(key)
}

// explain implements typed.
func (c *Cache[K, V]) explain(key any) (Explanation, error) {
	k, is := key.(K)
	if !is {
		return Explanation{}, c.err(c.m.ctx, "explain", nil, fmt.Errorf("%w: the key is of type %T, and those of the cache are of type %s", ErrType, key, reflect.TypeFor[K]()))
	}
	return c.Explain(k), nil
}

// explaining is an Explanation with names as the package has them.
type explaining struct {
	Explanation
	because int  // the first of Dependencies that may have changed, as far as that is known, or -1
	asks    bool // the world outside is to be asked
}

// explaining implements typed.
func (c *Cache[K, V]) explaining(key any) explaining {
	if k, is := key.(K); is {
		return c.explainEntry(k, false)
	}
	return explaining{Explanation: Explanation{State: Absent}}
}

// explainEntry is Explain without Path, and if all is not set without Dependents.
func (c *Cache[K, V]) explainEntry(k K, all bool) explaining {
	c.know(c.m.ctx, k) // on failure there is nothing to explain
	noted := c.handNodes(k)
	var by savedDependencies
	for {
		x, n, saved := c.explainBy(k, noted, by, all)
		if saved == by.saved {
			return x
		}
		by = c.savedDependencies(n, saved)
	}
}

// explainBy is explainEntry. by is what was found of what the entry's node was built from, if that
// was saved; if it is of something else than saved, x is of no use.
func (c *Cache[K, V]) explainBy(k K, noted []*graph.Node, by savedDependencies, all bool) (x explaining, n *graph.Node, saved string) {
	x.Explanation = Explanation{Cache: c.slot.name, Key: k, State: Absent, Why: "nobody has set or built it", Input: !c.derives}
	x.because = -1
	_, s := c.rlock(k)
	defer s.mu.RUnlock()
	e := s.entries[k]
	g := c.m.graph
	g.Lock()
	defer g.Unlock()
	if all && e != nil && e.node != nil {
		x.Dependents = appendReached(nil, e.node.Above())
	}
	for _, n := range noted { // what was built through an entry in memory, before it was lost
		if all {
			x.Dependents = appendReached(x.Dependents, n.Above())
		}
	}
	x.Revision = g.Revision()
	if n = c.madeBy(e); n == nil {
		if e != nil && e.kind.held() {
			x.State, x.Why, x.Stamp, x.Built, x.Input = Clean, "it was set", e.current(), e.current(), true
			if c.all != nil && c.all.State() != graph.Clean {
				x.State, x.Why = Check, wholeInDoubt
			}
		}
		return x, nil, by.saved
	}
	x.Input = n.Kind() == graph.Input
	x.Stamp, x.Built, x.Took = e.current(), n.Built, n.Took()
	x.State = stateOf(n)
	x.asks = n.Kind() == graph.Probed && !n.Asked()
	for _, edge := range n.Edges() {
		x.Dependencies = append(x.Dependencies, dependencyOn(edge))
	}
	x.Why = why(n, e.kind)
	if x.Why == "" {
		x.because = n.Doubtful()
	}
	if saved = n.Saved(); saved != "" {
		x.Dependencies = by.now()
		if by.err != nil {
			x.Why = by.err.Error()
		} else {
			x.because = slices.IndexFunc(x.Dependencies, func(d Dependency) bool { return d.Changed })
		}
	}
	return x, n, saved
}

// lookedAt is how many reads of entries are looked at to find a Path.
const lookedAt = 1000

// path returns a Path for x. What it comes by is looked at one after the other. No lock
// is held.
func (m *Manager) path(x explaining) (path []Dependency) {
	if x.State != Check || x.asks {
		return nil
	}
	type read struct { // one may be what it was for one of its readers, and not for another
		cache string
		key   any
		seen  uint64
	}
	looked := map[read]bool{}
	for rest := [][]Dependency{x.Dependencies}; len(rest) > 0; { // of each on the path what is yet to be looked at
		last := len(rest) - 1
		path = path[:last]
		if len(rest[last]) == 0 {
			rest = rest[:last]
			continue
		}
		d := rest[last][0]
		rest[last] = rest[last][1:]
		switch {
		case d.State == Clean && !d.Changed:
			continue
		case d.State != Check:
			return append(path, d)
		}
		id := read{d.Cache, d.Key, d.Seen}
		c, err := m.readable(d.Cache)
		if err != nil || d.Key == nil || looked[id] || len(looked) == lookedAt {
			continue
		}
		looked[id] = true
		y := c.typed.explaining(d.Key)
		d.State = y.State
		switch known := y.State == Clean || y.State == Absent && y.Input; { // of which nothing was in memory before
		case known && y.Stamp == d.Seen:
			continue
		case known, y.State == Check && y.Stamp != d.Seen:
			d.Stamp = y.Stamp
			d.Changed = known || d.Seen > 0 // whatever else it turns out to be, but that there is none again
		}
		path = append(path, d)
		if y.State != Check || y.Stamp != d.Seen || y.asks {
			return path
		}
		rest = append(rest, y.Dependencies)
	}
	return nil
}

// whatOf says what may have become of d. The key, which may have a String method, is named
// without locks.
func (m *Manager) whatOf(d Dependency) string {
	changed := d.Changed
	d = m.shown(d)
	if changed {
		return entryName(d.Cache, d.Key) + " has changed"
	}
	return entryName(d.Cache, d.Key) + " may have changed"
}

// savedDependencies are what a node was built from, as it was saved.
type savedDependencies struct {
	saved string
	of    []Dependency
	nodes []*graph.Node // theirs, as far as they are known
	err   error         // why there is nothing
}

// savedDependencies returns what saved says, of what a node of c was built from. For it
// nothing else is read. No lock is held.
func (c *core) savedDependencies(n *graph.Node, saved string) savedDependencies {
	edges, err := parseEdges(saved)
	by := savedDependencies{saved: saved, err: err}
	for _, e := range edges {
		d := Dependency{Cache: e.cache, Seen: e.stamp, State: Check}
		if e.cache == ours+handCache {
			d.Key = e.key
		} else if on, err := c.m.readable(e.cache); err == nil {
			d.Key = on.keyed().decodeKey(e.key)
		}
		by.of = append(by.of, d)
	}
	by.nodes = make([]*graph.Node, len(by.of))
	i := 0
	for e, err := range c.stored(&graph.List{Node: n, Saved: saved}) {
		if err != nil {
			break // it is built anew, whatever the others are
		}
		by.nodes[i] = e.on.keyed().known(e.key)
		i++
	}
	return by
}

// now returns what by is as it is now. The graph is locked.
func (by savedDependencies) now() []Dependency {
	of := slices.Clone(by.of)
	for i, n := range by.nodes {
		if n != nil && !n.Dead() {
			d := &of[i]
			d.Stamp, d.State = n.Stamp, stateOf(n)
			d.Changed = d.State == Clean && d.Seen != d.Stamp
		}
	}
	return of
}

// known implements keyed.
func (as nodes[K, V]) known(key string) *graph.Node {
	c := as.of
	k, is := as.decodeKey(key).(K)
	state := c.state.Load()
	if !is || state == stateUnloaded {
		return nil
	}
	if state == statePartial {
		_, s := c.rlock(k)
		there := s.entries[k] != nil
		s.mu.RUnlock()
		if !there {
			return nil
		}
	}
	n, err := c.node(c.m.ctx, k)
	if err != nil {
		return nil
	}
	return n
}

// listed returns what is shown of dependencies, in their memory: no builder has read the
// version of a cache in memory, or all of it. No lock is held.
func (m *Manager) listed(of []Dependency) []Dependency {
	listed := of[:0]
	for _, d := range of {
		byHand := d.Cache == ours+handCache
		if d = m.shown(d); !byHand || d.Key != nil || d.Changed {
			listed = append(listed, d)
		}
	}
	return listed
}

// shown returns d as people see it. In place of what was noted of a cache in memory there is
// what that is about. No lock is held.
func (m *Manager) shown(d Dependency) Dependency {
	if key, is := d.Key.(string); is && d.Cache == ours+handCache {
		d.Cache, d.Key = m.handOf(key)
	}
	d.Cache, d.Key = plainName(d.Cache), plainKey(d.Cache, d.Key)
	return d
}

// appendReached appends those of nodes that are alive. The graph is locked.
func appendReached(all []Reached, nodes []*graph.Node) []Reached {
	for _, y := range nodes {
		if !y.Dead() {
			all = append(all, reached(y, 1))
		}
	}
	return all
}

// madeBy returns the node that says where e comes from: that of the contents as a whole,
// if a BuildAll has made it. If it was set, or there is none, there may be no node. The
// entry and the graph are locked.
func (c *Cache[K, V]) madeBy(e *entry[K, V]) *graph.Node {
	switch {
	case e == nil:
		return nil
	case c.all != nil && e.kind.held() && (e.node == nil || e.node.Kind() == graph.Input) && e.current() <= max(c.all.Stamp, c.base()):
		return c.all // what was set since has a later stamp
	}
	return e.node
}

// why says why n is in its state, or nothing if that is because of a dependency that is
// Doubtful. The graph is locked.
func why(n *graph.Node, k kind) string {
	of := n.Owner().Type.(keyed).cache()
	switch stateOf(n) {
	case Clean:
		switch {
		case n.Kind() == graph.Input && k == absent:
			return "there is none, and somebody has asked for it"
		case n.Kind() == graph.Input:
			return "it was set"
		case n.Kind() == graph.Probed:
			return of.asked()
		case k == missing || k == lacking:
			return "its builder said that there is none"
		case k == dropped:
			return "its value was evicted, and nothing that it was built from has changed"
		}
		return "nothing that it was built from has changed"
	case Building:
		return "its builder is running"
	case Dirty:
		return of.reason(n.Why())
	}
	if n.Kind() == graph.Probed && !n.Asked() {
		return "the world outside is to be asked again"
	}
	if n.Saved() != "" {
		return "it was loaded, and what it was built from was not looked at yet"
	}
	if n.Doubtful() >= 0 {
		return ""
	}
	if n.Kind() == graph.Input {
		return wholeInDoubt
	}
	return "what it was built from was in doubt, and has not changed"
}

// wholeInDoubt is why what a BuildAll has made is not known to be clean.
const wholeInDoubt = "the contents as a whole are to be checked"

func stateOf(n *graph.Node) EntryState {
	if n.Building() {
		return Building
	}
	switch n.State() {
	case graph.Clean:
		return Clean
	case graph.Dirty:
		return Dirty
	}
	return Check
}

func dependencyOn(e graph.Edge) Dependency {
	t := e.Node.Owner().Type.(keyed)
	d := Dependency{Cache: t.cache().slot.name, Key: t.keyOf(e.Node), Seen: e.Stamp, Stamp: e.Node.Stamp, State: stateOf(e.Node)}
	d.Changed = d.State == Clean && d.Seen != d.Stamp
	return d
}

func reached(n *graph.Node, depth int) Reached {
	t := n.Owner().Type.(keyed)
	return Reached{plainName(t.cache().slot.name), t.keyOf(n), depth}
}

// shownAtMost is how many dependencies String shows, and pathShown how much of Path.
const (
	shownAtMost = 32
	pathShown   = 8
)

// String writes x as a few lines, with a tree of what it was built from. Of that it shows
// the first few dozen, and says how many more there are; Dependencies has all.
func (x Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s\n", entryName(x.Cache, x.Key), x.State, x.Why)
	if x.Stamp > 0 {
		fmt.Fprintf(&b, "  changed at revision %d of %d", x.Stamp, x.Revision)
		if !x.Input && x.Built > 0 { // it is not known of what was loaded as a whole
			fmt.Fprintf(&b, ", built at %d in %v", x.Built, x.Took)
		}
		b.WriteByte('\n')
	}
	if len(x.Path) > 1 {
		b.WriteString("  because of ")
		for i, d := range x.Path {
			switch {
			case i == 0:
			case len(x.Path) > pathShown && i == pathShown/2:
				b.WriteString(" ← …")
				continue
			case len(x.Path) > pathShown && i > pathShown/2 && i < len(x.Path)-pathShown/2:
				continue
			default:
				b.WriteString(" ← ")
			}
			b.WriteString(entryName(d.Cache, d.Key))
		}
		switch last := x.Path[len(x.Path)-1]; {
		case last.Changed:
			fmt.Fprintf(&b, ", which changed at revision %d\n", last.Stamp)
		case last.State == Check:
			b.WriteString(", which is to be looked at\n")
		default:
			fmt.Fprintf(&b, ", which is %s\n", last.State)
		}
	}
	rest := x.Dependencies
	if len(rest) > shownAtMost {
		rest = rest[shownAtMost:]
	} else {
		rest = nil
	}
	for i, d := range x.Dependencies[:len(x.Dependencies)-len(rest)] {
		branch := "├─"
		if i == len(x.Dependencies)-1 {
			branch = "└─"
		}
		fmt.Fprintf(&b, "  %s %s", branch, entryName(d.Cache, d.Key))
		switch {
		case d.Changed:
			fmt.Fprintf(&b, ": changed at revision %d, read at %d", d.Stamp, d.Seen)
		default:
			fmt.Fprintf(&b, ": %s", d.State)
		}
		b.WriteByte('\n')
	}
	if len(rest) > 0 {
		changed := 0
		for _, d := range rest {
			if d.Changed {
				changed++
			}
		}
		fmt.Fprintf(&b, "  └─ … and %d more", len(rest))
		if changed > 0 {
			fmt.Fprintf(&b, ", of which %d changed", changed)
		}
		b.WriteByte('\n')
	}
	switch n := len(x.Dependents); n {
	case 0:
	case 1:
		b.WriteString("  1 entry was built from it\n")
	default:
		fmt.Fprintf(&b, "  %d entries were built from it\n", n)
	}
	return b.String()
}

// Plan returns what would have to be checked if the entries of keys were
// invalidated or changed, nearest first, without doing anything. That includes what was
// computed from which keys there are, and caches that are declared to depend on changes,
// which are listed without a key and with their entries. It knows what has been read or
// built since the Manager was opened.
func (c *Cache[K, V]) Plan(keys ...K) []Reached {
	if len(keys) == 0 {
		return nil
	}
	var found, noted []*graph.Node
	depth := make(map[*graph.Node]int)
	for _, k := range keys {
		noted = append(noted, c.handNodes(k)...)
		_, s := c.rlock(k)
		if e := s.entries[k]; e != nil && e.node != nil {
			found = append(found, e.node)
			depth[e.node] = 0
		}
		s.mu.RUnlock()
	}
	start := len(found)
	m := c.m
	next := []*graph.Node{c.keys.Load()} // what is reached from the entries besides what has read them
	var plan []Reached
	m.gate.RLock()
	gone := dependentsOf([]*slot{c.slot}, true)
	for _, s := range gone {
		plan = append(plan, Reached{s.name, nil, 1})
		if s.cache != nil {
			next = append(append(next, s.cache.keys.Load()), s.cache.typed.entryNodes()...)
		}
	}
	m.gate.RUnlock()
	g := m.graph
	g.Lock()
	defer g.Unlock()
	reach := func(nodes []*graph.Node, d int) {
		for _, y := range nodes {
			if y == nil || y.Dead() || y.State() != graph.Clean && !y.Building() {
				continue
			}
			if _, known := depth[y]; !known {
				depth[y] = d
				found = append(found, y)
			}
		}
	}
	for i := range start {
		reach(found[i].Above(), 1)
	}
	for _, n := range noted {
		reach(n.Above(), 1)
	}
	reach(next, 1)
	for i := start; i < len(found); i++ {
		above := found[i].Above()
		if of := found[i].Owner().Type.(keyed).cache(); found[i] == of.all { // shards come before the graph
			g.Unlock()
			above = append(above, of.typed.entryNodes()...)
			g.Lock()
		}
		reach(above, depth[found[i]]+1)
	}
	for _, n := range found[start:] {
		plan = append(plan, reached(n, depth[n]))
	}
	return plan
}

// entryNodes implements typed.
func (c *Cache[K, V]) entryNodes() (nodes []*graph.Node) {
	t := c.table.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, e := range s.entries {
			if e.node != nil {
				nodes = append(nodes, e.node)
			}
		}
		s.mu.RUnlock()
	}
	return nodes
}
