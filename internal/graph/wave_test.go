package graph

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	waveSteps = flag.Int("wave.steps", 0, "steps of TestWaves, if not the usual number")
	waveSeed  = flag.Uint64("wave.seed", 0, "the only world of TestWaves")
)

// world is some caches as the engine sees them, which are changed as real ones are, and
// what is true of them.
type world struct {
	mu     sync.RWMutex // of all items; taken before the graph's lock
	g      *Graph
	t      testing.TB
	seed   uint64
	step   int
	items  []*item
	parts  []*part
	inputs *part // which are set
	whole  *part // contents that are built as a whole
	all    *item // which stands for that
	keys   *item // which of them there are
	saved  map[string][]record
	calls  int // of builders
	chance sync.Mutex
	rnd    *rand.Rand
	many   bool // goroutines
	log    []string
}

// part is a cache.
type part struct {
	*world
	o     *Owner
	makes Kind
	items []*item
}

// item is an entry. What is not there has the value none.
type item struct {
	*part
	id      int
	n       *Node
	stamp   uint64 // if there is no n
	value   int
	known   bool         // value is there, or remembered
	hand    bool         // it was set
	dropped bool         // the value was evicted
	outside atomic.Int64 // what Probe finds
	fails   bool
	during  func() // what else happens while it is built
	changes bool   // what it makes cannot be kept

	sel, other *item // it reads other only while sel is even, or odd
	odd        int
	reads      [][2]*item // the one or the other, as what was read before says
	mod        int
}

type record struct {
	it    *item
	stamp uint64
}

const none = -1

func (w *world) n(n int) int {
	w.chance.Lock()
	defer w.chance.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) one(in int) bool { return w.n(in) == 0 }

func (w *world) note(format string, args ...any) {
	if !w.many && *waveSeed != 0 {
		w.log = append(w.log, fmt.Sprintf("%d: ", w.step)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fault(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.log[max(0, len(w.log)-40):] {
		w.t.Log(l)
	}
	panic(fmt.Sprintf("world %d, step %d: ", w.seed, w.step) + fmt.Sprintf(format, args...))
}

func (it *item) String() string { return fmt.Sprint("item ", it.id) }

// eval is what the builder of it makes of what read returns.
func (it *item) eval(read func(*item) (int, error)) (int, error) {
	acc := it.id + 3*int(it.outside.Load())
	if it.sel != nil {
		s, err := read(it.sel)
		if err != nil {
			return 0, err
		}
		if s&1 == it.odd {
			if s, err = read(it.other); err != nil {
				return 0, err
			}
			acc += s
		}
	}
	for _, r := range it.reads {
		v, err := read(r[acc&1])
		if err != nil {
			return 0, err
		}
		acc = (acc*3 + v + 7) % 1009
	}
	if acc = acc % it.mod; acc == 4 {
		acc = none
	}
	return acc, nil
}

// part of what BuildAll makes for the item.
func (it *item) of(all int) int {
	if v := (all + 1) >> slices.Index(it.part.items, it) & 3; v < 3 {
		return v
	}
	return none
}

func (w *world) mask() (m int) {
	for i, it := range w.whole.items {
		if it.value != none {
			m |= 1 << i
		}
	}
	return m
}

// --- graph.Type and graph.Task

func (p *part) Name(n *Node) string { return EntryOf[item](n).String() }
func (p *part) NewTask() Task       { return &job{part: p} }
func (p *part) Link(_ context.Context, lists []List) {
	w := p.world
	for i := range lists {
		l := &lists[i]
		w.mu.RLock()
		was := w.saved[l.Saved]
		w.mu.RUnlock()
		if l.Saved == "" {
			for _, e := range l.Edges {
				was = append(was, record{EntryOf[item](e.Node), e.Stamp})
			}
		} else if w.one(20) {
			l.Err = errors.New("nobody knows")
			continue
		}
		for _, r := range was {
			w.mu.Lock()
			l.Linked = append(l.Linked, Edge{w.ensure(r.it), r.stamp})
			w.mu.Unlock()
		}
	}
}

type job struct {
	Run
	*part
	v     int
	began uint64
}

func (j *job) Base() *Run { return &j.Run }
func (j *job) Reset()     {}
func (j *job) Start(n *Node) {
	j.calls++
	if n.word.Load()&3 == uint64(Dirty) || n.kind == Probed && !n.Asked() || n.Saved() != "" || !wholeIsClean(n.owner) {
		return
	}
	for _, e := range n.Edges() {
		if !isClean(e.Node) || e.Node.Stamp != e.Stamp {
			return
		}
	}
	j.fault("%v is built, and all that it has read is unchanged", EntryOf[item](n))
}
func (j *job) Keeps(error) bool { return false }
func (j *job) Done()            {}

var errFails = errors.New("it fails")

func (j *job) Build(ctx context.Context) error {
	w, f, it := j.world, FrameOf(ctx), EntryOf[item](j.Node())
	j.began = w.g.Revision()
	between := func() {
		if w.one(12) && !w.many {
			w.change()
			w.check()
		}
	}
	between()
	if it == w.all && w.one(3) { // what is set meanwhile stays
		w.mu.Lock()
		w.g.Lock()
		if d := w.whole.items[w.n(3)]; w.mark(1, d) {
			w.set(d, 1, w.g.Next())
		}
		w.g.Unlock()
		w.mu.Unlock()
	}
	w.mu.RLock()
	fails, changes := it.fails, it.changes
	w.mu.RUnlock()
	if it == w.keys {
		for !w.all.n.Fresh() {
			if r, _, err := w.g.Resolve(ctx, nil, w.all.n); r != nil || err != nil {
				f.Volatile()
				return err
			}
		}
		w.mu.RLock()
		j.v = w.mask()
		w.mu.RUnlock()
		between()
		return nil
	}
	v, err := it.eval(func(d *item) (int, error) {
		v, err := w.read(ctx, f, d)
		between()
		if err != nil && err != ErrStale && it.id%3 == 0 { // it makes do
			f.Volatile()
			return 0, nil
		}
		return v, err
	})
	if it.during != nil {
		it.during()
	}
	if fails {
		err = errFails
	}
	if changes {
		f.Volatile()
	}
	j.v = v
	return err
}

// read is how a builder reads.
func (w *world) read(ctx context.Context, f *Frame, it *item) (int, error) {
	for {
		w.want(it)
		w.mu.RLock()
		n := it.n
		if n == nil || it.dropped {
			w.mu.RUnlock()
			continue
		}
		is, v := f.Read(n), it.value
		w.mu.RUnlock()
		switch is {
		case Recorded, Untracked:
			return v, nil
		case Stale:
			return 0, ErrStale
		case Doubtful:
			if !f.Recheck() {
				return 0, ErrStale
			}
		case NotClean:
			r, _, err := w.g.Resolve(ctx, nil, n)
			if err != nil {
				return 0, err
			}
			if r != nil {
				f.Volatile()
				return r.Task().(*job).v, nil
			}
		}
	}
}

func (j *job) Publish() Outcome {
	w := j.world
	w.mu.Lock()
	defer w.mu.Unlock()
	w.g.Lock()
	defer w.g.Unlock()
	n := j.Node()
	outcome, it := j.Verdict(), EntryOf[item](n)
	switch {
	case outcome != Published:
	case it == w.all:
		w.replaceWhole(j)
	case n.kind == Input:
		return Volatile
	default:
		j.Commit(it.known && it.value == j.v, j.v == none, j.makes)
		it.value, it.known, it.hand, it.dropped = j.v, true, false, false
	}
	return outcome
}

// --- what caches do; all is locked, unless said otherwise

// ensure returns the node of it.
func (w *world) ensure(it *item) *Node {
	if it.n == nil {
		w.g.Lock()
		defer w.g.Unlock()
		switch {
		case it.hand || it.makes == Input:
			it.n = NewNode(it.o, it, Input, Clean, it.stamp)
		default:
			it.n = NewNode(it.o, it, it.makes, Dirty, 0)
		}
	}
	return it.n
}

// want sees to it that it has a node, and if its value is needed that it is built. Nothing is locked.
func (w *world) want(it *item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.ensure(it)
	if !it.dropped {
		return
	}
	w.g.Lock()
	defer w.g.Unlock()
	if n.State() == Clean && !n.Building() {
		w.g.Mark(n)
		n.Distrust(Evicted)
	}
	it.dropped = false
}

// mark marks items that are to be set, and reports whether they may be.
func (w *world) mark(v int, its ...*item) bool {
	var r *Run
	for _, it := range its {
		if it.n != nil {
			r = cmp.Or(r, w.g.Mark(it.n))
		}
		if it.part == w.whole {
			if (v == none) != (it.value == none) && w.keys.n != nil {
				r = cmp.Or(r, w.g.Mark(w.keys.n))
			}
			if v == none {
				w.all.o.Overtake()
			}
		}
	}
	return r == nil
}

// set gives it, which was marked, a value.
func (w *world) set(it *item, v int, stamp uint64) {
	if v == none {
		stamp = 0
	}
	if it.n != nil {
		it.n.SetInput(stamp)
	}
	if it.part == w.whole && (v == none) != (it.value == none) && w.keys.n != nil {
		w.keys.n.Force(Probed, Changed)
	}
	it.value, it.hand, it.known, it.dropped, it.stamp = v, true, true, false, stamp
}

func (w *world) keysReplaced() {
	if w.keys.n != nil {
		w.g.Mark(w.keys.n)
		w.keys.n.Force(Probed, Changed)
	}
}

func (w *world) replaceWhole(j *job) {
	if p := w.parts[3].items[0]; p.n != nil && w.one(4) { // Recheck holds no lock that Publish waits for
		p.outside.Store(int64(w.n(3)))
		w.g.Mark(p.n)
		p.n.Doubt()
	}
	w.g.Wrote()
	w.whole.o.Replace()
	w.keysReplaced()
	for _, it := range w.whole.items {
		if it.n != nil {
			it.stamp = it.n.Stamp
		}
		switch v := it.of(j.v); {
		case it.hand && it.stamp > j.began:
			if it.n != nil {
				w.whole.o.Adopt(it.n)
			}
			continue
		case v == none:
			it.stamp = 0
		case v != it.value:
			it.stamp = w.g.Next()
		}
		it.value, it.n, it.hand = it.of(j.v), nil, false
	}
	w.g.Mark(w.all.n)
	w.all.n.Force(Derived, Missing)
	j.Settle()
	w.all.value, w.all.known = j.v, true
}

// reload replaces the contents of p: items stay, or are lost or read anew.
func (w *world) reload(p *part) {
	w.g.Wrote()
	p.o.Replace()
	if p == w.whole {
		w.keysReplaced()
	}
	room := p.o.Restorer(4)
	keep := w.n(4)
	if p == w.whole {
		keep = 0
	}
	for _, it := range p.items {
		n := it.n
		switch {
		case n == nil:
		case w.n(4) < keep:
			p.o.Adopt(n)
		case n.kind == Input: // with another value, or the same
			it.n, it.stamp = nil, n.Stamp
			if p == w.inputs && w.one(3) {
				it.value, it.stamp = w.n(4), w.g.Next()
			}
		case n.word.Load()&3 == uint64(Dirty) || !it.known || n.run() != nil || w.one(3):
			it.n, it.known, it.dropped = nil, false, false
		default:
			saved := n.Saved()
			if saved == "" {
				saved = fmt.Sprint(len(w.saved))
				var list []record
				for _, e := range n.Edges() {
					list = append(list, record{EntryOf[item](e.Node), e.Stamp})
				}
				w.saved[saved] = list
			}
			it.n = room.Node(n.kind, n.Stamp, saved)
			SetEntry(it.n, it)
		}
	}
	if p == w.whole { // they are yet to be built
		w.g.Mark(w.all.n)
		w.all.n.Force(Derived, Missing)
	}
}

// change changes something. Nothing is locked.
func (w *world) change() {
	it := w.items[w.n(len(w.items))]
	input := w.inputs.items[w.n(len(w.inputs.items))]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.g.Lock()
	defer w.g.Unlock()
	derived := it.makes != Input && it != w.all && it != w.keys
	switch op := w.n(24); {
	case op < 8:
		w.note("set %v", input)
		if v := w.n(5) - 1; w.mark(v, input) {
			w.set(input, v, w.g.Next())
		}
	case op < 10:
		its := []*item{input, w.inputs.items[w.n(len(w.inputs.items))], w.inputs.items[0]}
		w.note("set %v", its)
		if v := w.n(4); w.mark(v, its...) {
			stamp := w.g.Next()
			for _, it := range its {
				w.set(it, v, stamp)
			}
		}
	case op == 10: // only said to be changed
		w.note("mark %v", it)
		if it.n != nil {
			w.g.Mark(it.n)
		}
	case op < 13 && (derived || it.part == w.whole):
		v := w.n(4)
		w.note("set by hand: %v", it)
		if it.n != nil && it.known && it.n.kind != Input && v < 2 && it.value != none { // to what it is
			it.n.SetInput(it.n.Stamp)
			it.hand, it.dropped = true, false
		} else if w.one(3) && it.part == w.whole && w.mark(none, it) {
			w.set(it, none, 0)
		} else if w.mark(v, it) {
			w.set(it, v, w.g.Next())
		}
	case op == 13 && derived && it.n != nil:
		w.note("invalidate %v", it)
		if w.mark(none, it) {
			it.n.Remember(1)
			it.n.Force(it.makes, Invalidated)
			it.hand, it.dropped = false, false
		}
	case op == 14 && it.makes == Probed && it != w.keys && it.n != nil:
		w.note("ask again: %v", it)
		it.outside.Store(int64(w.n(3)))
		w.g.Mark(it.n)
		it.n.Doubt()
	case op == 15 && w.one(3):
		w.note("ask again")
		p := w.parts[3]
		for _, it := range p.items {
			it.outside.Store(int64(w.n(2)))
		}
		p.o.Overtake()
		p.o.Doubt()
	case op == 16 && derived && it.n != nil && it.n.kind != Input && it.known && !it.n.Building():
		w.note("evict %v", it)
		it.dropped = true
	case op == 17 && derived && it.n != nil && it.n.kind != Input && !it.n.Building():
		w.note("evict all of %v", it)
		if w.g.Needed(it.n) || w.g.Mark(it.n) != nil {
			return
		}
		it.n.Force(it.n.kind, Evicted)
		it.known, it.dropped = false, false
		if it.n.Remember(nil); it.n.Forget() {
			it.n = nil
		}
	case op == 18 && it.makes == Input && it.n != nil && it.value == none:
		w.note("forget %v", it)
		if it.n.Forget() {
			it.n, it.stamp = nil, 0
		}
	case op == 19 && w.one(3):
		p := w.parts[w.n(len(w.parts)-2)]
		w.note("reload part %d", slices.Index(w.parts, p))
		w.reload(p)
	case op == 20:
		it.fails = w.one(8)
	case op == 21:
		it.changes = w.one(8)
	case op == 22 && w.one(4):
		w.note("overtake")
		w.parts[w.n(len(w.parts))].o.Overtake()
	}
}

// get brings an item up to date, as one who reads does. Nothing is locked.
func (w *world) get(it *item) {
	w.note("get %v", it)
	for {
		w.want(it)
		w.mu.RLock()
		n := it.n
		w.mu.RUnlock()
		if n == nil {
			continue
		}
		w.g.Lock()
		clean := n.clean()
		w.g.Unlock()
		if clean {
			return
		}
		if r, _, err := w.g.Resolve(context.Background(), nil, n); r != nil || err != nil {
			return
		}
	}
}

// act does something. Nothing is locked.
func (w *world) act() {
	switch op := w.n(16); {
	case op < 7:
		w.change()
	case op < 12:
		w.get(w.items[w.n(len(w.items))])
	case op == 12:
		w.get(w.items[len(w.items)-1-w.n(6)])
	default:
		var nodes []*Node
		w.mu.Lock()
		some := w.n(3)
		p := w.parts[w.n(len(w.parts))]
		for _, it := range p.items {
			if it.n != nil && w.n(3) <= some {
				nodes = append(nodes, it.n)
			}
		}
		w.mu.Unlock()
		w.note("look at %d", len(nodes))
		switch op {
		case 13:
			w.g.Verify(nodes)
		case 14:
			w.g.Unsettled(nodes)
		case 15:
			w.g.Link(context.Background(), nodes)
		}
	}
}

// --- what is true

func rootOf(v *wave) *wave {
	for v.into != nil {
		v = v.into
	}
	return v
}

func wholeIsClean(o *Owner) bool { return o.whole == nil || isClean(o.whole) }

// isClean is Node.clean without noting that.
func isClean(n *Node) bool {
	word := n.word.Load()
	switch s := State(word & 3); {
	case n.dead():
		return false
	case word == n.owner.clean.Load():
		return true
	case n.kind == Input && s == Clean:
		return wholeIsClean(n.owner)
	case s == marked && n.wave != nil:
		return rootOf(n.wave).settled() && word>>2 == n.owner.suspect && wholeIsClean(n.owner)
	}
	return false
}

type truths map[*item]truth

type truth struct {
	value int
	reads []*item
	err   error
}

var errUnknown = errors.New("what was set by hand may stay or not")

// of returns what a builder of it would make now.
func (ts truths) of(it *item) truth {
	if t, known := ts[it]; known {
		return t
	}
	w := it.world
	t := truth{value: it.value}
	read := func(d *item) (int, error) {
		if !slices.Contains(t.reads, d) {
			t.reads = append(t.reads, d)
		}
		of := ts.of(d)
		return of.value, of.err
	}
	switch {
	case it.part == w.whole:
		if all := ts.of(w.all); !it.hand {
			t.value, t.err = it.of(all.value), all.err
		} else if !isClean(w.all.n) {
			t.err = errUnknown
		}
	case it.hand, it.makes == Input:
	case it == w.keys:
		t.value = 0
		for i, d := range w.whole.items {
			if of := ts.of(d); of.err != nil {
				t.err = of.err
			} else if of.value != none {
				t.value |= 1 << i
			}
		}
	default:
		t.value, t.err = it.eval(read)
	}
	ts[it] = t
	return t
}

// check compares all that is clean with what is true. Nothing is locked.
func (w *world) check() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	w.g.Lock()
	defer w.g.Unlock()
	ts := make(truths)
	for _, it := range w.items {
		n := it.n
		if n == nil {
			continue
		}
		if n.dead() {
			w.fault("%v has a node that is dead", it)
		}
		if !isClean(n) {
			continue
		}
		t := ts.of(it)
		if t.err != nil || t.value != it.value {
			w.fault("%v is clean, and %d, not %d (%v)", it, it.value, t.value, t.err)
		}
		if len(n.Edges()) != len(t.reads) {
			w.fault("%v has %d edges, not %d", it, len(n.Edges()), len(t.reads))
		}
		for i, e := range n.Edges() {
			if d := t.reads[i]; e.Node != d.n || e.Stamp != d.n.Stamp || !isClean(d.n) {
				w.fault("edge %d of %v is not %v as that is now", i, it, d)
			}
		}
	}
}

// invariants is Check, which notes what is clean. Nothing is locked.
func (w *world) invariants() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	w.g.Lock()
	defer w.g.Unlock()
	var nodes []*Node
	waves := make(map[*wave]bool)
	for _, it := range w.items {
		if it.n != nil {
			nodes = append(nodes, it.n)
			for v := it.n.wave; v != nil; v = v.into {
				waves[v] = true
			}
		}
	}
	if len(waves) > len(w.items) {
		w.fault("%d nodes keep %d waves alive", len(nodes), len(waves))
	}
	w.g.Check(nodes, func(n *Node, what string, on *Node) {
		var name any
		if on != nil {
			name = EntryOf[item](on)
		}
		w.fault("%v: %s (%v)", EntryOf[item](n), what, name)
	})
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{g: New(), t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), saved: make(map[string][]record)}
	w.g.Raise(10)
	add := func(makes Kind, n int) *part {
		p := &part{world: w, makes: makes}
		p.o = w.g.NewOwner(p, makes)
		for range n {
			it := &item{part: p, id: len(w.items), value: none, mod: 1 + w.n(1+w.n(6))}
			p.items = append(p.items, it)
			w.items = append(w.items, it)
		}
		w.parts = append(w.parts, p)
		return p
	}
	inputs := 2 + w.n(5)
	size := []int{4, 10, 30, 60}[w.n(4)]
	w.inputs = add(Input, inputs)
	whole := add(Input, 3)
	low := add(Derived, size)
	probed := add(Probed, 1+w.n(4))
	high := add(Derived, size)
	keys := add(Probed, 1)
	w.whole, w.keys = whole, keys.items[0]
	// What BuildAll reads, and is there without any item of the list above.
	all := &part{world: w, makes: Derived}
	w.all = &item{part: all, id: len(w.items), value: none, mod: 16}
	w.all.n = whole.o.Whole(all)
	SetEntry(w.all.n, w.all)
	all.o, all.items = w.all.n.owner, []*item{w.all}
	w.items, w.parts = append(w.items, w.all), append(w.parts, all)
	keys.o.About(whole.o)
	choose := func(it *item, from []*item, n int) {
		if w.one(2) { // many read the same
			from = from[:min(len(from), 1+w.n(3))]
		}
		for range n {
			it.reads = append(it.reads, [2]*item{from[w.n(len(from))], from[w.n(len(from))]})
		}
	}
	choose(w.all, slices.Concat(probed.items[:1], w.inputs.items, low.items), 1+w.n(2))
	for i, it := range low.items {
		choose(it, slices.Concat(w.inputs.items, low.items[:i]), 1+w.n(3))
	}
	for _, it := range probed.items {
		choose(it, slices.Concat(w.inputs.items, low.items), w.n(2))
	}
	for i, it := range high.items {
		choose(it, slices.Concat(high.items[:i], probed.items, low.items, whole.items, keys.items, w.inputs.items), 1+w.n(3))
		if i+1 < len(high.items) && w.one(5) { // now the one reads the other, and now the other way round
			a, b := it, high.items[i+1]
			if a.sel == nil {
				a.sel, b.sel = w.inputs.items[0], w.inputs.items[0]
				a.other, b.other, b.odd = b, a, 1
			}
		}
	}
	for i, it := range high.items { // those must not meet otherwise
		if it.sel != nil && it.odd == 1 {
			it.reads = slices.Clone(high.items[i-1].reads)
		}
	}
	return w
}

// TestWaves: in worlds that change at random whatever is clean is what it would be if it
// were built now, the invariants hold, and no builder runs of which all that it has read is
// unchanged.
func TestWaves(t *testing.T) {
	steps, worlds := 400, uint64(150)
	if !testing.Short() {
		worlds = 600
	}
	if *waveSteps > 0 {
		worlds = uint64(max(1, *waveSteps/steps))
	}
	settled := 0
	for seed := uint64(1); seed <= worlds; seed++ {
		if *waveSeed != 0 {
			seed, worlds = *waveSeed, 0
		}
		w := newWorld(t, seed)
		func() {
			defer func() {
				if what := recover(); what != nil {
					t.Fatal(strings.SplitN(fmt.Sprint(what), "\n", 2)[0])
				}
			}()
			often := []int{1, 5, 50}[seed%3] // it changes what comes next
			for w.step = range steps {
				w.act()
				w.check()
				if w.step%often == 0 {
					w.invariants()
					w.check()
				}
				for _, it := range w.items {
					if n := it.n; n != nil && n.wave != nil && n.Marked() && isClean(n) {
						settled++
					}
				}
			}
		}()
	}
	t.Logf("%d times a node was clean because its wave had settled", settled)
}

// TestWavesOfMany is TestWaves with several goroutines.
func TestWavesOfMany(t *testing.T) {
	worlds := uint64(10)
	if !testing.Short() {
		worlds = 40
	}
	if *waveSteps > 0 {
		worlds = uint64(max(1, *waveSteps/1200))
	}
	for seed := uint64(1); seed <= worlds; seed++ {
		w := newWorld(t, seed)
		w.many = true
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range 400 {
					w.act()
					w.check()
					if w.one(10) {
						w.invariants()
					}
				}
			})
		}
		all.Wait()
	}
}

// TestSetWhileFailing: what is set by hand to what it was, while its builder fails, is no reason
// to build what was computed from it.
func TestSetWhileFailing(t *testing.T) {
	w := newWorld(t, 1)
	w.many = true // nothing else happens
	in, mid, top, side := w.inputs.items[0], w.parts[2].items[0], w.parts[2].items[1], w.parts[2].items[2]
	mid.reads, top.reads, side.reads = [][2]*item{{in, in}}, [][2]*item{{mid, mid}}, [][2]*item{{in, in}}
	mid.mod = 1
	w.get(top)
	w.get(side) // or the wave settles when mid is set
	mid.fails, mid.during = true, func() {
		w.g.Lock()
		defer w.g.Unlock()
		mid.n.SetInput(mid.n.Stamp)
		mid.hand = true
	}
	w.g.Lock()
	w.g.Mark(in.n)
	w.set(in, 1, w.g.Next())
	w.g.Unlock()
	calls := w.calls
	w.get(top)
	if w.calls != calls+1 {
		t.Errorf("%d builders ran, not that of the first alone", w.calls-calls)
	}
	w.check()
}

// layers is an input, nodes that have read it and what each layer of nodes above them has read of
// the one below, all clean.
func layers(sizes ...int) (g *Graph, in *Node, above [][]*Node) {
	g = New()
	g.Lock()
	defer g.Unlock()
	o := g.NewOwner(&pair{}, Derived)
	in = o.newNode(Input, Clean, g.Next())
	below := []*Node{in}
	for _, size := range sizes {
		var layer []*Node
		for i := range size {
			y := o.newNode(Derived, Check, g.Next())
			y.SetEdges([]Edge{{below[i%len(below)], below[i%len(below)].Stamp}})
			layer = append(layer, y)
		}
		above, below = append(above, layer), layer
		for _, y := range layer {
			y.holds()
		}
	}
	return g, in, above
}

// same makes n, which was marked, what it was: it was built, and is the same.
func same(n *Node) {
	n.SetEdges(slices.Clone(n.Edges()))
	for i := range n.Edges() {
		e := &n.Edges()[i]
		e.Node.join(n)
		e.Stamp = e.Node.Stamp
	}
	n.joined = true
	n.set(Clean)
}

func setInput(n *Node) {
	n.owner.g.Mark(n)
	n.SetInput(n.owner.g.Next())
}

// TestWaveSettles: a change that comes to nothing costs what its front does, again and again, and
// though one of that becomes another that nobody has read; so it does if there is one that
// nobody asks for, from the second time on.
func TestWaveSettles(t *testing.T) {
	for _, unasked := range []int{0, 1} {
		g, in, above := layers(2+unasked, 6, 1002, 1002)
		g.Lock()
		defer g.Unlock()
		leaf := in.owner.newNode(Derived, Check, 0)
		leaf.SetEdges([]Edge{{in, in.Stamp}})
		leaf.holds()
		for round := range 10 {
			setInput(in)
			setInput(in) // before anybody has looked
			g.Mark(leaf) // and nobody has read that
			leaf.Stamp = g.Next()
			same(leaf)
			for _, y := range above[0][:2] {
				same(y)
			}
			looked := 0
			for _, layer := range above {
				for i, y := range layer {
					switch {
					case unasked > 0 && i%3 == 2: // above what nobody asks for
					case y.word.Load() == y.owner.clean.Load():
						looked++
					case !y.clean() && (unasked == 0 || round > 0):
						t.Fatalf("with %d that are not asked for, round %d: a node is %v", unasked, round, State(y.word.Load()&3))
					case !y.clean() && !y.holds():
						t.Fatal("what was read has changed")
					}
				}
			}
			if looked > 2 && (unasked == 0 || round > 0) {
				t.Errorf("%d nodes were looked at", looked)
			}
		}
	}
}

// TestForgottenOnWave: a node is not forgotten while something above it is clean with its wave, and
// what has read one that was forgotten does not become clean so.
func TestForgottenOnWave(t *testing.T) {
	for _, settled := range []bool{false, true} {
		g, in, above := layers(1, 1, 1)
		g.Lock()
		defer g.Unlock()
		setInput(in)
		if settled {
			same(above[0][0])
		}
		if above[1][0].Forget() == settled {
			t.Errorf("its wave has settled: %v: it was forgotten: %v", settled, settled)
		}
		if !settled {
			same(above[0][0])
		}
		if above[2][0].clean() != settled {
			t.Errorf("its wave has settled: %v: what has read it is %v", settled, above[2][0].State())
		}
	}
}

// TestEmptiedListBreaksWave: those that are taken from a long list, because most of what it has
// was not clean, do not become clean with their wave, also if that becomes a part of another
// afterwards.
func TestEmptiedListBreaksWave(t *testing.T) {
	for _, meets := range []bool{false, true} {
		g, in, above := layers(3)
		g.Lock()
		defer g.Unlock()
		o := in.owner
		hub, second, unasked := above[0][0], above[0][1], above[0][2]
		var readers []*Node // of hub
		for range 40 {
			r := o.newNode(Derived, Check, g.Next())
			r.SetEdges([]Edge{{hub, hub.Stamp}})
			r.holds()
			readers = append(readers, r)
		}
		in2 := o.newNode(Input, Clean, g.Next())
		a, y := o.newNode(Derived, Check, g.Next()), o.newNode(Derived, Check, g.Next())
		a.SetEdges([]Edge{{in2, in2.Stamp}})
		y.SetEdges([]Edge{{a, a.Stamp}, {second, second.Stamp}})
		a.holds()
		y.holds()
		setInput(in)
		same(hub)
		same(second)
		for _, r := range append(readers[:5:5], y) {
			if !r.holds() {
				t.Fatal("what was read has changed")
			}
		}
		if meets {
			setInput(in2)
		}
		setInput(in) // and most of what has read hub was not clean
		same(hub)
		same(second)
		same(a)
		if unasked.clean() {
			t.Error("what nobody has asked for is clean")
		}
		for _, r := range readers {
			if r.clean() && !slices.Contains(hub.readers(), r) {
				t.Fatalf("meets another: %v: it is clean, and not registered", meets)
			}
		}
	}
}

// TestWavesCostNothing: an input that is set without end, and not read, costs nothing, also in
// turns with another; and waves do not keep each other alive.
func TestWavesCostNothing(t *testing.T) {
	g, in, above := layers(3, 30)
	g.Lock()
	defer g.Unlock()
	o := in.owner
	other := o.newNode(Input, Clean, g.Next())
	top := o.newNode(Derived, Check, g.Next())
	top.SetEdges([]Edge{{other, other.Stamp}, {above[1][0], above[1][0].Stamp}})
	top.holds()
	setInput(in)
	setInput(other)
	if n := testing.AllocsPerRun(100000, func() {
		setInput(in)
		setInput(other)
	}); n != 0 {
		t.Errorf("it takes %v allocations to set what nobody reads", n)
	}
	all := append(slices.Concat(above...), in, other, top)
	for round := range 10000 {
		for i, n := range []*Node{in, other} {
			setInput(n)
			for j, y := range above[0] {
				if round>>j&1 == i && y.run() == nil {
					same(y)
				}
			}
		}
		if round%7 == 0 {
			for _, y := range slices.Concat(above...) {
				if !y.clean() {
					same(y)
				}
			}
			same(top)
		}
		waves := make(map[*wave]bool)
		for _, n := range all {
			for w := n.wave; w != nil; w = w.into {
				waves[w] = true
			}
		}
		if len(waves) > 10 {
			t.Fatalf("round %d: %d waves are alive", round, len(waves))
		}
	}
}
