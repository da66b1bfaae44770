package cacheman

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cacheman-go/cacheman/codec"
)

// The oracle runs random programs. A program is a set of entries in a few
// caches, some of which have stores of their own: inputs, derived ones, each with
// an expression over entries before it, probed ones, for which the world outside is
// asked, some of which have such an expression as well, and what caches have to say
// of others: their keys, and parts of values. After every step two things are
// compared: values with what comes out when everything is computed from the inputs
// alone, and the builders that ran, one by one and in order, with those that an ideal
// engine would have run.
//
// The ideal is as simple as it can be: nothing is ever known to be clean. To
// read an entry, whatever it was built from is read again, in the order in which
// its builder did that; at the first stamp that differs the builder runs. A
// value that equals the old one keeps its stamp. An input that is absent, and
// an entry that a builder says is not there, have the stamp 0. A kept error is
// like a value. What an entry had when it was invalidated is remembered, also over
// a restart, and compared with what is built. What the world outside has said is
// so until somebody says that it may have changed, or until a restart, or until
// something that the probe has read differs. The keys of a cache are what they are
// when they are read. An entry whose value was evicted is read again like any other;
// it is built when its value is wanted.

var (
	oracleOps  = flag.Int("oracle.ops", 100000, "steps of TestOracle")
	oracleSeed = flag.Int("oracle.seed", -1, "the only program of TestOracle")
)

// oracleCache is a cache of a program. Entries with the same number modulo the number
// of caches are in one, under their number divided by that.
type oracleCache struct {
	name   string
	input  bool
	memory bool
	probe  bool
	apart  bool // it has a store of its own
	facet  int  // it is of another cache, …
	of     int  // … which is this one
}

// What a cache has to say of another. These are built as well, but not by builders of
// the program, and but for the first only for builders.
const (
	oraclePart     = 1 + iota // of each value
	oraclePresence            // of each key
	oracleNumber              // of keys, under the key 0
	oracleKeys                // all, under the key 0
)

var oracleCaches = []oracleCache{
	{name: "in", input: true},
	{name: "in in memory", input: true, memory: true},
	{name: "a"},
	{name: "b"},
	{name: "in memory", memory: true},
	{name: "in apart", input: true, apart: true},
	{name: "apart", apart: true},
	{name: "part of a", facet: oraclePart, of: 2},
	{name: "presence", facet: oraclePresence},
	{name: "number", facet: oracleNumber},
	{name: "keys", facet: oracleKeys},
	{name: "probed", probe: true},
	{name: "probed in memory", memory: true, probe: true},
}

const (
	oracleIn      = iota // is an input
	oracleProbe          // is what the world outside has, and nothing else
	oracleSum            // of all arguments
	oracleMod            // of one by a constant
	oracleSelect         // the second or the third, as the first says
	oracleElse           // a constant where there is no value
	oracleRescue         // a constant where there is a failure
	oracleFail           // fails for some values
	oracleNone           // says for some values that there is none
	oraclePass           // says that there is none if its argument says so
	oracleCut            // reads, and is constant
	oracleTwice          // reads the same twice, with another between
	oracleNewer          // differs between some versions
	oracleKeep           // fails for some values, which is kept
	oracleCollect        // of all entries of the cache that the facets are of
	oracleKinds
	oracleFacet // what a facet is
)

type oracleExpr struct {
	kind int
	args [3]int
	n    int // a constant

	asks  bool // the world outside …
	world int  // … which has this
}

// oracleReader is how an expression reads.
type oracleReader struct {
	read    func(id int) (int, error)
	collect func() (sum int, err error) // of the cache that the facets are of
}

// eval computes e, of a cache in the given version. What a probe reads depends
// on the world outside, and so does what it makes of that.
func (e *oracleExpr) eval(version int, from oracleReader) (int, error) {
	read := from.read
	if e.asks {
		switch e.world {
		case 5:
			return 0, errPlanned
		case 6:
			return 0, ErrNotFound
		case 7:
			return 0, Keep(errPlanned)
		}
		if e.kind == oracleProbe || e.world == 4 {
			return e.world, nil
		}
	}
	if e.kind == oracleCollect {
		return from.collect()
	}
	a, err := read(e.args[0])
	a += e.world
	switch e.kind {
	case oracleElse:
		if errors.Is(err, ErrNotFound) {
			return e.n, nil
		}
	case oracleFacet + oraclePresence:
		if errors.Is(err, ErrNotFound) {
			return 0, nil
		}
	case oracleRescue:
		if err != nil {
			return e.n, nil
		}
	case oraclePass:
		if errors.Is(err, ErrNotFound) {
			return 0, ErrNotFound
		}
	}
	if err != nil {
		return 0, err
	}
	switch e.kind {
	case oracleMod:
		return a % e.n, nil
	case oracleSelect:
		return read(e.args[1+a&1])
	case oracleFail:
		if a%4 == 0 {
			return 0, errPlanned
		}
	case oracleNone:
		if a%3 == 0 {
			return 0, ErrNotFound
		}
	case oracleNewer:
		return a + version/2, nil
	case oracleFacet + oraclePart:
		return partOf(a), nil
	case oracleFacet + oraclePresence:
		return 1, nil
	case oracleFacet + oracleNumber:
		return bits.OnesCount(uint(a)), nil
	case oracleKeep:
		if a%4 == 1 {
			return 0, Keep(fmt.Errorf("%w: %d", errPlanned, a%8))
		}
	case oracleSum, oracleCut, oracleTwice:
		b, err := read(e.args[1])
		if err != nil {
			return 0, err
		}
		last := e.args[2]
		if e.kind == oracleTwice {
			last = e.args[0]
		}
		c, err := read(last)
		if err != nil {
			return 0, err
		}
		if e.kind == oracleCut {
			return e.n, nil
		}
		return (a + b + c) & 0xff, nil
	}
	return a, nil
}

// partOf is what a part of a value is.
func partOf(v int) int { return v % 3 }

type oracleEdge struct {
	id, stamp int
	epoch     int // of id, when it was looked for
}

// oracleNode is an entry as the ideal engine has it.
type oracleNode struct {
	has, none bool // a value; a builder that says there is none
	val       int
	broken    string // the text of an error that is kept
	asked     bool   // the world outside, and nobody has said since that it may have changed …
	world     int    // … and had this
	told      bool   // it was set
	forced    bool   // it is to be built whatever its edges say
	dropped   bool   // its value was evicted, and is old
	stamp     int
	edges     []oracleEdge
	hasOld    bool // what it held before it was invalidated: a value …
	old       int
	oldBroken string // … or the text of an error
	outdated  bool   // that is of another version, and was not invalidated since
	print     bool   // of that only a fingerprint is left
	unsaved   bool
	early     bool // it was written before its cache was loaded
	linked    bool // its edges are known to the engine
}

type oracleRecord struct {
	none, told bool
	dropped    bool
	forced     bool // it was invalidated, and val and broken are what it had
	val        int
	broken     string
	stamp      int
	version    int
	edges      []oracleEdge
}

type oracleResult struct {
	val  int
	err  error // nil, ErrNotFound itself, or a failure
	kept bool  // it is an entry's value now
}

// oracle is a program, the ideal engine, and the real one.
type oracle struct {
	exprs []oracleExpr

	nodes    []oracleNode
	disk     map[int]oracleRecord
	stamp    int
	hand     map[int]int // stamps of what was written by hand to caches in memory: see handEntry
	handDisk map[int]int
	versions []int
	saved    []int // versions that the store knows
	loaded   []bool
	dropped  []bool
	epochs   []int       // how often contents were replaced, …
	released map[int]int // … and entries in memory evicted with all that was known of them
	verified map[int]bool
	failed   map[int]oracleResult // in the course of a call from outside
	want     []int                // entries that are to be built, in order

	kinds    []oracleCache
	partial  bool  // caches are read entry by entry, …
	readCost int64 // … until that has cost too much

	d      *disk
	apart  map[int]*disk // of caches with a store of their own
	m      *Manager
	caches []*Cache[int, int]
	log    []string

	mu     sync.Mutex // while builders run side by side
	got    []int      // entries that were built
	builds int
}

func newOracle(rng *rand.Rand) *oracle {
	n := len(oracleCaches)
	o := &oracle{
		kinds:    slices.Clone(oracleCaches),
		exprs:    make([]oracleExpr, 2*n+rng.IntN(6*n)),
		disk:     map[int]oracleRecord{},
		handDisk: map[int]int{},
		versions: make([]int, n),
		saved:    make([]int, n),
		dropped:  make([]bool, n),
		epochs:   make([]int, n),
		released: map[int]int{},
		partial:  rng.IntN(2) == 0,
		readCost: int64(rng.IntN(2)),
		d:        newDisk(),
		apart:    map[int]*disk{},
	}
	for c, kind := range o.kinds {
		if kind.apart {
			o.apart[c] = newDisk()
		}
	}
	of := rng.IntN(3)
	if of == 2 {
		of = slices.IndexFunc(o.kinds, func(c oracleCache) bool { return c.input && c.apart })
	}
	for c := range o.kinds {
		if k := &o.kinds[c]; k.facet > oraclePart {
			k.of, k.memory = of, o.kinds[of].memory
		}
	}
	for id := range o.exprs {
		e := &o.exprs[id]
		if o.kinds[id%n].input {
			continue
		}
		if k := o.kinds[id%n]; k.facet > 0 {
			e.kind, e.args[0] = oracleFacet+k.facet, id-id%n+k.of
			if k.facet == oracleNumber {
				e.args[0] = o.keys()
			}
			continue
		}
		if o.kinds[id%n].probe {
			e.kind, e.asks, e.world = oracleProbe, true, rng.IntN(8)
			continue
		}
		o.compute(rng, id)
	}
	for id := range o.exprs {
		if e := &o.exprs[id]; e.asks && rng.IntN(2) == 0 {
			o.compute(rng, id)
		}
	}
	return o
}

// compute makes the entry of a number an expression over those before it.
func (o *oracle) compute(rng *rand.Rand, id int) {
	e := &o.exprs[id]
	e.kind, e.n = oracleSum+rng.IntN(oracleKinds-oracleSum), 2+rng.IntN(5)
	for i := range e.args {
		e.args[i] = rng.IntN(id)
		if rng.IntN(2) == 0 {
			e.args[i] = max(0, id-1-rng.IntN(4))
		}
		if c := o.cache(e.args[i]); o.kinds[c].facet >= oracleNumber {
			e.args[i] = c
		}
	}
}

// keys returns the entry with the keys of the cache that the facets are of: a bit for
// each.
func (o *oracle) keys() int {
	return slices.IndexFunc(o.kinds, func(c oracleCache) bool { return c.facet == oracleKeys })
}

// keySet returns the keys of the cache that the facets are of, if has says which
// entries have a value.
func (o *oracle) keySet(has func(id int) bool) (set int) {
	for id := o.kinds[o.keys()].of; id < len(o.exprs); id += len(o.kinds) {
		if has(id) {
			set |= 1 << o.key(id)
		}
	}
	return set
}

// reader makes one that reads by read, which reads all entries after their keys.
func (o *oracle) reader(read func(int) (int, error)) oracleReader {
	return oracleReader{read, func() (sum int, err error) {
		keys, err := read(o.keys())
		for k := 0; err == nil && keys>>k > 0; k++ {
			if keys>>k&1 > 0 {
				var v int
				v, err = read(o.kinds[o.keys()].of + k*len(o.kinds))
				sum += v
			}
		}
		return sum, err
	}}
}

// handEntry, handWhole and handVersion number what the ideal notes of an entry, all, or the
// version of a cache in memory with a builder: edges on it have these instead of an entry.
func handEntry(id int) int   { return -1 - id }
func handWhole(c int) int    { return -1000 - c }
func handVersion(c int) int  { return -2000 - c }
func (o *oracle) note(n int) { o.stamp++; o.hand[n] = o.stamp }

func (o *oracle) cache(id int) int { return id % len(o.kinds) }
func (o *oracle) key(id int) int   { return id / len(o.kinds) }

// Truth.

// truth computes an entry from the inputs, what was told, and what the world
// outside has, or had when the ideal asked.
func (o *oracle) truth(id int) (int, error) {
	n := &o.nodes[id]
	if n.told {
		return n.val, nil
	}
	if o.kinds[o.cache(id)].input {
		return 0, ErrNotFound
	}
	if id == o.keys() {
		return o.keySet(func(id int) bool { return o.nodes[id].has }), nil
	}
	e := o.exprs[id]
	if _, failed := o.failed[id]; n.asked && !failed {
		e.world = n.world
	}
	v, err := e.eval(o.versions[o.cache(id)], o.reader(func(id int) (int, error) {
		v, err := o.truth(id)
		if err != nil {
			err = fmt.Errorf("read: %w", err)
		}
		return v, err
	}))
	return v, passedOn(err)
}

// passedOn is what an error of a builder says: that there is nothing, also if it has that
// from what it has read.
func passedOn(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// The ideal.

func (n *oracleNode) result() oracleResult {
	if n.broken != "" {
		return oracleResult{err: &KeptError{Text: n.broken}, kept: true}
	}
	if !n.has {
		return oracleResult{err: ErrNotFound, kept: true}
	}
	return oracleResult{val: n.val, kept: true}
}

// there reports whether something is known of n that was not invalidated.
func (n *oracleNode) there() bool { return n.has || n.none || n.broken != "" || n.dropped }

// left reports whether there is what n had before it was invalidated.
func (n *oracleNode) left() bool { return n.hasOld || n.oldBroken != "" }

// bring brings an entry up to date, and builds it if its value was evicted and is
// wanted.
func (o *oracle) bring(id int, wanted bool) oracleResult {
	o.load(o.cache(id))
	n := &o.nodes[id]
	if id == o.keys() {
		o.load(o.kinds[id].of)
		set := o.keySet(func(id int) bool { return o.nodes[id].has })
		if !n.has || n.val != set {
			o.stamp++
			*n = oracleNode{has: true, val: set, stamp: o.stamp, unsaved: true}
		}
		return n.result()
	}
	switch {
	case o.verified[id] && n.dropped && wanted:
		return o.build(id)
	case n.told || o.kinds[o.cache(id)].input || o.verified[id]:
		return n.result()
	case n.forced || !n.there() || o.exprs[id].asks && !n.asked:
		return o.build(id)
	}
	if !n.linked {
		for _, e := range n.edges {
			if e.id >= 0 {
				o.load(o.cache(e.id))
			}
		}
		n.linked = true
	}
	for i := range n.edges {
		e := n.edges[i]
		if e.id >= 0 && e.epoch != o.epoch(e.id) { // all are looked for again
			n.edges = slices.Clone(n.edges)
			for i := range n.edges {
				if id := n.edges[i].id; id >= 0 {
					n.edges[i].epoch = o.epoch(id)
				}
			}
		}
		if e.id < 0 {
			if o.hand[e.id] != e.stamp {
				return o.build(id)
			}
			continue
		}
		r, is := o.failed[e.id]
		if !is {
			r = o.bring(e.id, false)
		}
		if !r.kept {
			return o.build(id) // which is told what came of it
		}
		if o.nodes[e.id].stamp != e.stamp {
			return o.build(id)
		}
	}
	o.verified[id] = true
	return o.bring(id, wanted)
}

// build runs the builder of an entry. What has come to nothing that can be kept
// since the call from outside began, it is told when it asks for the first time.
func (o *oracle) build(id int) oracleResult {
	n, e := &o.nodes[id], &o.exprs[id]
	if o.kinds[o.cache(id)].facet == 0 {
		o.want = append(o.want, id)
	}
	if e.asks {
		o.want = append(o.want, previous(n.val, n.has))
	}
	var edges []oracleEdge
	volatile := false
	told := map[int]bool{}
	val, err := e.eval(o.versions[o.cache(id)], o.reader(func(on int) (int, error) {
		r, is := o.failed[on]
		if !is || told[on] {
			r = o.bring(on, true)
		}
		told[on] = true
		switch {
		case !r.kept:
			volatile = true
		case !slices.ContainsFunc(edges, func(e oracleEdge) bool { return e.id == on }):
			edges = append(edges, oracleEdge{on, o.nodes[on].stamp, o.epoch(on)})
		}
		if r.err != nil {
			return 0, fmt.Errorf("read: %w", r.err)
		}
		return r.val, nil
	}))
	err = passedOn(err)
	broken := ""
	if kept, is := errors.AsType[*KeptError](err); is {
		broken = kept.Text
	}
	if err != nil && err != ErrNotFound && broken == "" || volatile {
		o.failed[id] = oracleResult{val, err, false}
		return o.failed[id]
	}
	same := n.stamp != 0
	switch {
	case broken != "":
		same = same && (n.broken == broken || n.oldBroken == broken)
	case n.has:
		same = same && n.val == val
	default:
		same = same && n.hasOld && n.old == val
	}
	switch {
	case err == ErrNotFound:
		n.stamp, val = 0, 0
	case !same:
		o.stamp++
		n.stamp = o.stamp
	}
	*n = oracleNode{has: err == nil, none: err == ErrNotFound, val: val, broken: broken, stamp: n.stamp, edges: edges, unsaved: true, linked: true, asked: e.asks, world: e.world}
	o.verified[id] = true
	return n.result()
}

// previous is how it is noted what a probe is told that it gave last.
func previous(v int, ok bool) int {
	if !ok {
		return -1
	}
	return -2 - v
}

// write makes v the value of an entry, or without has removes it.
func (o *oracle) write(id int, has bool, v int) {
	if c := o.kinds[o.cache(id)]; c.memory && !c.input {
		o.note(handEntry(id))
	}
	n := &o.nodes[id]
	early := !o.loaded[o.cache(id)]
	if early && !n.early {
		*n = oracleNode{early: true} // what it was is not known yet
	}
	was := *n
	*n = oracleNode{has: has, told: has, val: v, early: early, unsaved: true}
	switch derived := !o.kinds[o.cache(id)].input; {
	case has && was.has && was.val == v:
		n.stamp, n.unsaved = was.stamp, was.unsaved || !was.told
	case has:
		o.stamp++
		n.stamp = o.stamp
	case derived:
		n.forced = true
		n.stamp, n.edges = was.stamp, was.edges
		n.hasOld, n.old, n.oldBroken = was.hasOld, was.old, was.oldBroken
		if was.has {
			n.hasOld, n.old = true, was.val
		} else if was.broken != "" {
			n.oldBroken = was.broken
		}
	}
}

// load reads the contents of a cache: what equals what was written before has
// not changed.
func (o *oracle) load(c int) {
	if o.loaded[c] {
		return
	}
	o.loaded[c] = true
	for id := c; id < len(o.nodes); id += len(o.kinds) {
		n := &o.nodes[id]
		r, ok := o.disk[id]
		if !n.early || !ok || r.told && o.saved[c] != o.versions[c] {
			continue
		}
		if has := !r.none && r.broken == "" && !r.dropped && !r.forced; n.has && has && n.val == r.val && (r.told || r.version == o.versions[c]) {
			n.stamp = r.stamp
		} else if !n.has && !o.kinds[c].input {
			n.hasOld, n.old, n.oldBroken, n.stamp, n.forced = !r.none && r.broken == "", r.val, r.broken, r.stamp, true
		}
	}
}

// drop invalidates a cache.
func (o *oracle) drop(c int) {
	o.note(handWhole(c))
	for id := c; id < len(o.nodes); id += len(o.kinds) {
		o.nodes[id] = oracleNode{}
	}
	o.loaded[c] = true
	o.dropped[c] = true
	o.epochs[c]++
}

// save makes changes durable: those in cache c, or all. What was invalidated as a
// whole is so in all of a store.
func (o *oracle) save(c int) {
	concerned := func(i int) bool { return c < 0 || o.apart[i] == o.apart[c] }
	for i := range o.kinds {
		if o.saved[i] != o.versions[i] && concerned(i) {
			o.load(i) // by now
		}
	}
	for id := range o.nodes {
		i := o.cache(id)
		if o.nodes[id].early && !o.kinds[i].memory && concerned(i) {
			o.load(i) // by now, to know what it had
		}
	}
	for id := range o.nodes {
		if i := o.cache(id); o.dropped[i] && concerned(i) {
			delete(o.disk, id)
		}
	}
	for i := range o.dropped {
		o.dropped[i] = o.dropped[i] && !concerned(i)
	}
	if c < 0 {
		o.handDisk = maps.Clone(o.hand)
	}
	for id := range o.nodes {
		n, i := &o.nodes[id], o.cache(id)
		if o.kinds[i].memory || c >= 0 && c != i {
			continue
		}
		o.saved[i] = o.versions[i]
		if !n.unsaved {
			continue
		}
		n.unsaved = false
		r := oracleRecord{n.none, n.told, n.dropped, n.forced, n.val, n.broken, n.stamp, o.versions[i], o.flat(n.edges)}
		switch {
		case n.dropped:
			r.val = n.old
		case n.forced && n.left():
			r.val, r.broken, r.edges = n.old, n.oldBroken, nil
		case !n.there():
			delete(o.disk, id)
			continue
		}
		o.disk[id] = r
	}
}

// flat replaces what a restart does not find again by what it was built from,
// and what says whether it was written by hand, which comes first.
func (o *oracle) flat(edges []oracleEdge) []oracleEdge {
	var by, to []oracleEdge
	add := func(to *[]oracleEdge, e oracleEdge) {
		if !slices.Contains(*to, e) {
			*to = append(*to, e)
		}
	}
	var walk func(edges []oracleEdge)
	walk = func(edges []oracleEdge) {
		for _, e := range edges {
			if e.id < 0 {
				add(&to, e)
				continue
			}
			n := &o.nodes[e.id]
			if c := o.kinds[o.cache(e.id)]; c.memory && !c.input && !c.probe && c.facet != oracleKeys && !n.told && !n.forced && n.there() && n.stamp == e.stamp && e.epoch == o.epoch(e.id) {
				for _, h := range []int{handWhole(o.cache(e.id)), handVersion(o.cache(e.id)), handEntry(e.id)} {
					add(&by, oracleEdge{id: h, stamp: o.hand[h]})
				}
				walk(n.edges)
				continue
			}
			add(&to, oracleEdge{id: e.id, stamp: e.stamp}) // after a restart all is of the first epoch
		}
	}
	walk(edges)
	return slices.Concat(by, to)
}

// restart is what is there after opening the store again.
func (o *oracle) restart() {
	o.nodes = make([]oracleNode, len(o.exprs))
	o.loaded = make([]bool, len(o.kinds))
	clear(o.dropped)
	clear(o.epochs)
	clear(o.released)
	o.hand = maps.Clone(o.handDisk)
	for c, v := range o.versions {
		o.hand[handVersion(c)] = v // records from before are built again
	}
	for id, r := range o.disk {
		n, c := &o.nodes[id], o.cache(id)
		switch {
		case r.told && o.saved[c] != o.versions[c]:
			n.unsaved = true // it was told to another version
			continue
		case !r.told && r.version != o.versions[c] || r.forced:
			*n = oracleNode{forced: true, hasOld: !r.none && r.broken == "", old: r.val, oldBroken: r.broken, outdated: !r.forced, print: r.dropped, stamp: r.stamp}
			continue
		}
		if r.dropped {
			*n = oracleNode{dropped: true, hasOld: true, old: r.val, stamp: r.stamp, edges: r.edges}
			continue
		}
		*n = oracleNode{has: !r.none && r.broken == "", none: r.none, broken: r.broken, told: r.told, val: r.val, stamp: r.stamp, edges: r.edges}
	}
}

// The engine.

func (o *oracle) open() {
	o.restart()
	o.m = must(Open("", Options{Store: o.d, Autosync: &Autosync{Off: true}}))
	if o.partial {
		o.m.partialFrom, o.m.readCost = 0, o.readCost
	}
	o.caches = o.caches[:0]
	for i, kind := range o.kinds {
		spec := Spec[int, int]{Memory: kind.memory}
		if kind.apart {
			spec.Store = o.apart[i]
		}
		version := o.versions[i]
		if !kind.input {
			spec.Version = fmt.Sprint(version)
		}
		switch {
		case kind.probe:
			spec.Probe = func(ctx context.Context, k, last int, ok bool) (int, error) {
				id := k*len(o.kinds) + i
				o.built(id, previous(last, ok))
				return o.exprs[id].eval(version, o.engine(ctx))
			}
		case !kind.input:
			spec.Codec = oracleCodec
			spec.Build = func(ctx context.Context, k int) (int, error) {
				id := k*len(o.kinds) + i
				o.built(id)
				return o.exprs[id].eval(version, o.engine(ctx))
			}
		}
		var c *Cache[int, int]
		switch {
		case kind.facet == 0:
			c = must(Register(o.m, kind.name, spec))
		case kind.facet == oraclePart:
			c = must(Select(o.caches[kind.of], kind.name, Spec[int, int]{Codec: oracleCodec}, partOf))
		default:
			o.caches = append(o.caches, nil)
			o.loaded[i] = true
			continue
		}
		if o.caches = append(o.caches, c); c.state.Load() == statePartial {
			o.loaded[i] = true // whoever writes an entry knows what it was
		}
	}
}

// engine makes a reader of a builder that is called with ctx.
func (o *oracle) engine(ctx context.Context) oracleReader {
	return oracleReader{func(id int) (int, error) {
		kind := o.kinds[o.cache(id)]
		switch kind.facet {
		case oraclePresence:
			has, err := o.caches[kind.of].Contains(ctx, o.key(id))
			if has {
				return 1, err
			}
			return 0, err
		case oracleNumber:
			return o.caches[kind.of].Count(ctx)
		case oracleKeys:
			keys, err := o.caches[kind.of].CollectKeys(ctx)
			set := 0
			for _, k := range keys {
				set |= 1 << k
			}
			return set, err
		}
		return o.caches[o.cache(id)].Get(ctx, o.key(id))
	}, func() (sum int, err error) {
		all, err := o.caches[o.kinds[o.keys()].of].Collect(ctx)
		for _, v := range all {
			sum += v
		}
		return sum, err
	}}
}

// oracleFault is what a step panics with when the engine is wrong.
type oracleFault string

func (o *oracle) fatal(format string, args ...any) {
	var b strings.Builder
	for id, e := range o.exprs {
		if e.kind != oracleIn {
			fmt.Fprintf(&b, "%d in %s: kind %d of %v, %d, %d outside\n", id, o.kinds[o.cache(id)].name, e.kind, e.args, e.n, e.world)
		}
	}
	panic(oracleFault(fmt.Sprintf("%s\nafter %s\nin the program\n%s", fmt.Sprintf(format, args...), strings.Join(o.log, ", "), &b)))
}

func (o *oracle) ok(err error) {
	if err != nil {
		o.fatal("%v", err)
	}
}

// get reads an entry, and checks its value and the builders that ran for it.
func (o *oracle) get(id int) {
	o.got, o.want = o.got[:0], o.want[:0]
	o.verified, o.failed = map[int]bool{}, map[int]oracleResult{}
	ideal := o.bring(id, true)
	val, err := o.truth(id) // as of what the ideal has asked
	if ideal.err == nil && (err != nil || ideal.val != val) || ideal.err != nil && err == nil {
		o.fatal("the ideal engine has %d, %v for %d, which is %d, %v", ideal.val, ideal.err, id, val, err)
	}
	v, got := o.caches[o.cache(id)].Get(context.Background(), o.key(id))
	o.compare(id, err, got)
	if err == nil && v != val {
		o.fatal("%d is %d, not %d", id, v, val)
	}
}

// buildCache brings all of a cache up to date, as one call from outside, in whatever
// order.
func (o *oracle) buildCache(c int) {
	o.want, o.verified, o.failed = o.want[:0], map[int]bool{}, map[int]oracleResult{}
	o.load(c)
	fails := false
	for id := c; id < len(o.nodes) && !o.kinds[c].input; id += len(o.kinds) {
		n := &o.nodes[id]
		if n.told || !n.has && !n.none && n.broken == "" && !n.outdated {
			continue
		}
		r, is := o.failed[id]
		if !is {
			r = o.bring(id, false)
		}
		_, result := errors.AsType[*KeptError](r.err)
		fails = fails || !r.kept && r.err != nil && r.err != ErrNotFound && !result
	}
	if err := o.caches[c].Build(context.Background()); (err != nil) != fails {
		o.fatal("building all of %s: %v, but fails is %v", o.kinds[c].name, err, fails)
	}
	slices.Sort(o.got)
	slices.Sort(o.want)
	if !slices.Equal(o.got, o.want) {
		o.fatal("in %s there were built %v, not %v", o.kinds[c].name, o.got, o.want)
	}
	for fault := range o.m.Check() {
		o.fatal("%v", fault)
	}
}

// built notes that an entry is being built.
func (o *oracle) built(what ...int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, what...)
	o.builds++
}

// compare checks the error of a read, and the builders that ran.
func (o *oracle) compare(id int, err, got error) {
	kept, _ := errors.AsType[*KeptError](err)
	if k, is := errors.AsType[*KeptError](got); is && kept != nil && k.Text == kept.Text {
		err, got = nil, nil // only the text is left after a restart
	} else if is || kept != nil {
		o.fatal("the error for %d is %v, not %v", id, got, err)
	}
	for _, e := range []error{nil, ErrNotFound, errPlanned} {
		if (e == nil && err == nil || e != nil && errors.Is(err, e)) != (e == nil && got == nil || e != nil && errors.Is(got, e)) {
			o.fatal("the error for %d is %v, not %v", id, got, err)
		}
	}
	if !slices.Equal(o.got, o.want) {
		o.fatal("for %d there were built %v, not %v", id, o.got, o.want)
	}
}

// step makes one step of the kind, with the entry and value, that three bytes
// stand for.
func (o *oracle) step(op, key, val byte) {
	ctx := context.Background()
	id, v := int(key)%len(o.exprs), int(val)%8
	if c := o.cache(id); o.kinds[c].facet > oraclePart {
		id -= c - o.kinds[c].of
	}
	c := o.cache(id)
	note := func(what string) {
		o.log = append(o.log, fmt.Sprintf("%s(%s %d, %d)", what, o.kinds[c].name, id, v))
	}
	o.got = o.got[:0]
	switch op % 32 {
	default:
		note("get")
		o.get(id)
	case 0, 1, 2, 3, 4, 5, 6, 7: // mostly inputs
		if op%8 != 0 {
			if id += int(op)%2 - c; id >= len(o.exprs) {
				id -= len(o.kinds)
			}
			c = o.cache(id)
		}
		note("set")
		o.ok(o.caches[c].Set(o.key(id), v))
		o.write(id, true, v)
	case 8:
		note("set as it is")
		v, held := o.caches[c].Peek(o.key(id))
		o.load(c) // also if there is none
		if held {
			o.ok(o.caches[c].Set(o.key(id), v))
			o.write(id, true, v)
		}
	case 9:
		note("delete")
		o.ok(o.caches[c].Delete(o.key(id)))
		o.write(id, false, 0)
	case 10, 11:
		note("invalidate")
		o.ok(o.caches[c].Invalidate(o.key(id)))
		o.write(id, false, 0)
	case 12:
		if v < 4 {
			break
		}
		note("invalidate all")
		o.ok(o.caches[c].InvalidateAll())
		o.drop(c)
	case 13:
		note("peek")
		got, held := o.caches[c].Peek(o.key(id))
		o.load(c)
		if n := &o.nodes[id]; held != n.has || held && got != n.val {
			o.fatal("%d holds %d, %v, not %d, %v", id, got, held, n.val, n.has)
		}
	case 14:
		note("sync")
		o.ok(o.m.Sync(ctx))
		o.save(-1)
	case 15:
		note("sync one")
		o.ok(o.caches[c].Sync(ctx))
		if !o.kinds[c].memory {
			o.save(c)
		}
	case 16:
		note("reopen")
		o.ok(o.m.Close())
		o.save(-1)
		o.open()
	case 17:
		note("crash")
		o.d = &disk{Store: o.d.Store}
		for c, d := range o.apart {
			o.apart[c] = &disk{Store: d.Store}
		}
		o.open()
	case 18:
		if v < 3 {
			break
		}
		note("new version")
		o.ok(o.m.Close())
		o.save(-1)
		if k := o.kinds[c]; !k.input && k.facet == 0 {
			o.versions[c]++
			if k.memory {
				o.saved[c]++
			}
		}
		o.open()
	case 19:
		note("len")
		o.load(c)
		n := 0
		for id := c; id < len(o.nodes); id += len(o.kinds) {
			n += held(map[bool]kind{true: decoded}[o.nodes[id].has])
		}
		if got := o.caches[c].Len(); got != n {
			o.fatal("%s has %d entries, not %d", o.kinds[c].name, got, n)
		}
	case 20:
		note("get all")
		for id := range o.exprs {
			if o.kinds[o.cache(id)].facet <= oraclePart {
				o.get(id)
			}
		}
		for fault := range o.m.Check() {
			o.fatal("%v", fault)
		}
	case 26, 27:
		writes := o.batch(id, v)
		note(fmt.Sprint("batch of ", writes, " from"))
		o.ok(o.m.Batch(func(b *Batch) error {
			for _, w := range writes {
				if c := o.caches[o.cache(w.id)]; w.has {
					c.SetIn(b, o.key(w.id), w.v)
				} else {
					c.DeleteIn(b, o.key(w.id))
				}
			}
			return nil
		}))
		for _, w := range writes {
			o.write(w.id, w.has, w.v)
		}
	case 25:
		note("build")
		o.buildCache(c)
	case 24:
		if o.kinds[c].probe {
			break // the world outside would be asked again
		}
		note("evict")
		o.ok(o.caches[c].Load(ctx))
		o.load(c)
		o.evict(id, v >= 5)
	case 21, 22, 23:
		if id += len(o.kinds) - 2 + int(key)%2 - c; id >= len(o.exprs) {
			id -= len(o.kinds)
		}
		c = o.cache(id)
		switch {
		case op%32 == 21:
			note("outside")
			o.exprs[id].world = v
		case op%32 == 22 && v < 6:
			note("recheck")
			o.caches[c].Recheck(o.key(id))
			o.nodes[id].asked = false
		case op%32 == 22:
			note("recheck all")
			o.caches[c].Recheck()
			for id := c; id < len(o.nodes); id += len(o.kinds) {
				o.nodes[id].asked = false
			}
		default:
			note("refresh")
			o.nodes[id].asked = false
			o.want, o.verified, o.failed = o.want[:0], map[int]bool{}, map[int]oracleResult{}
			r := o.bring(id, true)
			o.compare(id, failure(r.err), o.caches[c].Refresh(ctx, o.key(id)))
		}
	}
	if op%32 <= 19 && len(o.got) > 0 {
		o.fatal("%v were built", o.got)
	}
	o.prune()
}

// oracleWrite is a part of a batch.
type oracleWrite struct {
	id  int
	has bool
	v   int
}

// batch returns writes that are to be one change: of an entry, of two inputs, and of
// some entry further on.
func (o *oracle) batch(id, v int) []oracleWrite {
	writes := []oracleWrite{{id, v != 3, v}}
	for i, next := range []int{id - o.cache(id), id - o.cache(id) + 1, (id + 5*v) % len(o.exprs)} {
		known := slices.ContainsFunc(writes, func(w oracleWrite) bool { return w.id == next })
		if next < len(o.exprs) && o.kinds[o.cache(next)].facet <= oraclePart && !known {
			writes = append(writes, oracleWrite{next, (v+i)%4 > 0, (v + i) % 8})
		}
	}
	return writes
}

// evict evicts the value of an entry, or the whole of it.
func (o *oracle) evict(id int, whole bool) {
	c, n := o.caches[o.cache(id)], &o.nodes[id]
	trace := n.dropped || n.forced && n.left() && (!n.outdated || n.print || n.oldBroken != "")
	if trace && !whole {
		return
	}
	evicted := false
	for _, r := range c.residents(nil) {
		if r.entry.(*entry[int, int]).key == o.key(id) {
			_, _, evicted = c.evict(context.Background(), r.entry, r.age, whole)
		}
	}
	left := false
	for _, r := range c.residents(nil) {
		left = left || r.entry.(*entry[int, int]).key == o.key(id)
	}
	switch there := n.there() || trace || n.outdated; {
	case evicted != there:
		o.fatal("%d is there: %v, and was evicted: %v", id, there, evicted)
	case evicted && !whole && n.has && !n.told && !left:
		if o.isRead(id) {
			o.fatal("%d has left nothing, and was read", id)
		}
		whole = true
	}
	switch {
	case !evicted:
	case n.told || o.kinds[o.cache(id)].input:
		o.write(id, false, 0)
		n.hasOld = false
	case n.outdated && n.left() && !whole:
		n.print, n.unsaved = true, true
	case n.has && !whole:
		*n = oracleNode{dropped: true, hasOld: true, old: n.val, stamp: n.stamp, edges: n.edges, linked: n.linked, unsaved: true}
	default:
		*n = oracleNode{unsaved: true}
		if o.kinds[o.cache(id)].memory { // and who has read it knows only its name
			o.released[id]++
		}
	}
}

// isRead reports whether something was computed from an entry that may be valid by that.
func (o *oracle) isRead(id int) bool {
	reads := func(e oracleEdge) bool { return e.id == id && e.stamp == o.nodes[id].stamp }
	for i := range o.nodes {
		if n := &o.nodes[i]; n.there() && !n.told && !n.forced && slices.ContainsFunc(n.edges, reads) {
			return true
		}
	}
	for i, r := range o.disk {
		if !o.loaded[o.cache(i)] && !r.told && !r.forced && slices.ContainsFunc(r.edges, reads) {
			return true
		}
	}
	return false
}

// prune has the engine forget what nobody needs, and notes what it has forgotten.
func (o *oracle) prune() {
	there := func(id int) *entry[int, int] {
		return o.caches[o.cache(id)].table.Load().shard(o.key(id)).entries[o.key(id)]
	}
	before := make([]*entry[int, int], len(o.nodes))
	for id := range o.nodes {
		if o.kinds[o.cache(id)].facet <= oraclePart {
			before[id] = there(id)
		}
	}
	for _, c := range o.caches {
		if c != nil {
			t := c.table.Load()
			for i := range t.shards {
				c.pruneNow(t, &t.shards[i])
			}
		}
	}
	for id := range o.nodes {
		n, c := &o.nodes[id], o.cache(id)
		if o.kinds[c].facet > oraclePart {
			continue
		}
		e := there(id)
		if before[id] != nil && before[id].node != nil && e == nil && o.kinds[c].memory { // and who has read it knows only its name
			o.released[id]++
		}
		if !n.forced || !n.left() || n.outdated || n.early || !o.caches[c].loaded() {
			continue
		}
		if e != nil {
			if _, remembered := e.old(); remembered {
				continue
			}
		}
		if o.isRead(id) {
			o.fatal("%d is not remembered, and was read", id)
		}
		n.hasOld, n.oldBroken, n.stamp, n.edges = false, "", 0, nil
	}
}

// epoch changes when an entry has to be looked for again.
func (o *oracle) epoch(id int) int { return o.epochs[o.cache(id)] + o.released[id] }

// oracleCodec makes so many bytes of a value that its fingerprint is shorter.
var oracleCodec = codec.Codec[int]{
	Name: "oracle",
	Append: func(dst []byte, v int) ([]byte, error) {
		return append(binary.BigEndian.AppendUint64(dst, uint64(v)), make([]byte, fingerprintSize)...), nil
	},
	Decode: func(src []byte) (int, error) { return int(binary.BigEndian.Uint64(src)), nil },
}

// oracleStep is what step is told.
type oracleStep struct{ op, key, val byte }

// play runs the program of a seed, and returns how many builders ran, and what
// was wrong, or "".
func play(seed, stream uint64, steps []oracleStep) (builds int, fault oracleFault) {
	o := newOracle(rand.New(rand.NewPCG(seed, stream)))
	defer func() {
		builds = o.builds
		if r := recover(); r != nil {
			var is bool
			if fault, is = r.(oracleFault); !is {
				panic(r)
			}
		}
	}()
	o.open()
	for _, s := range steps {
		o.step(s.op, s.key, s.val)
	}
	return o.builds, ""
}

// shrink leaves out steps as long as something is wrong.
func shrink(seed, stream uint64, steps []oracleStep, fault oracleFault) oracleFault {
	for n := len(steps) / 2; n > 0; n /= 2 {
		for i := 0; i+n <= len(steps); {
			fewer := slices.Concat(steps[:i], steps[i+n:])
			if _, f := play(seed, stream, fewer); f != "" {
				steps, fault = fewer, f
			} else {
				i += n
			}
		}
	}
	return fault
}

// FuzzOracle: eight bytes make a program, the others are its steps.
func FuzzOracle(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		data := make([]byte, 8+3*(20+rng.IntN(100)))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 8 || len(data) > 3000 {
			return
		}
		seed := binary.LittleEndian.Uint64(data)
		var steps []oracleStep
		for data = data[8:]; len(data) >= 3; data = data[3:] {
			steps = append(steps, oracleStep{data[0], data[1], data[2]})
		}
		if _, fault := play(seed, 0, steps); fault != "" {
			t.Fatal(shrink(seed, 0, steps, fault))
		}
	})
}

// TestOracle runs random programs; -oracle.ops says how many steps, and
// -oracle.seed that there is to be only one, of those that it can be.
func TestOracle(t *testing.T) {
	ops := *oracleOps
	if testing.Short() {
		ops = min(ops, 5000)
	}
	start := time.Now()
	builds := 0
	for seed := uint64(max(0, *oracleSeed)); ops > 0; seed++ {
		rng := rand.New(rand.NewPCG(seed, 2))
		steps := make([]oracleStep, min(ops, 20+rng.IntN(300)))
		for i := range steps {
			steps[i] = oracleStep{byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}
		}
		ops -= len(steps)
		n, fault := play(seed, 1, steps)
		if builds += n; fault != "" {
			t.Fatalf("seed %d: %s", seed, shrink(seed, 1, steps, fault))
		}
		if *oracleSeed >= 0 {
			break
		}
	}
	t.Logf("%d builds in %v", builds, time.Since(start).Round(time.Millisecond))
}
