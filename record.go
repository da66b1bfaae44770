package cacheman

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unsafe"

	"github.com/cacheman-go/cacheman/internal/graph"
)

// What the store keeps beside an entry's value, under the same checksum:
//
//	flags   byte
//	stamp   uvarint
//	for an entry that was built:
//	version 8 bytes: the first of the SHA-256 of Spec.Version and, if the codec
//	        has one, a zero byte and its Schema
//	built   uvarint: the revision at which it was built, or a later one at which it
//	        was found to be what would be built of its edges
//	took    uvarint: microseconds
//	edges   for each dependency, in the order of reading:
//	        cache uvarint: 0 and its name, or n for the nth that was named here
//	        key   as its cache encodes it
//	        stamp uvarint
//
// Names and keys have their length before them, as a uvarint. An entry without
// any of this was saved by hand or by a store that keeps values only.
const (
	flagBuilt   = 1 << iota // a builder made it
	flagProbed              // the world outside was asked for it
	flagNone                // there is no value: the builder said so
	flagError               // the value is the text of an error that is kept; with flagNone, of one that says that there is no value
	flagDropped             // the value is gone; there is its fingerprint, or nothing
	flagForced              // it was invalidated: it is to be built, and compared with what is left
)

// revisions is a cache in every store whose description is a revision that no
// stamp in the store is above. It is part of every batch, so that a crash cannot
// lead to a stamp that is used twice.
const revisions = ours + "revisions"

func revisionOf(description []byte) uint64 {
	rev, _ := binary.Uvarint(description)
	return rev
}

// versionHash is what records keep of a version, and of what values look like.
func versionHash(version, schema string) uint64 {
	if schema != "" {
		version += "\x00" + schema
	}
	sum := sha256.Sum256([]byte(version))
	return binary.BigEndian.Uint64(sum[:])
}

// record is the head of what is kept beside a value.
type record struct {
	flags   byte
	stamp   uint64
	version uint64
	built   uint64
	took    time.Duration
	edges   string // not parsed
	size    uint32 // see entry
}

var errRecord = errors.New("what was kept beside the value cannot be read")

func parseRecord(meta []byte) (r record, err error) {
	if len(meta) == 0 {
		return r, nil
	}
	d := decoder{unsafe.String(unsafe.SliceData(meta), len(meta))[1:]}
	r.flags = meta[0]
	r.stamp = d.uvarint()
	if r.flags&flagBuilt != 0 {
		r.version = d.fixed()
		r.built = d.uvarint()
		r.took = time.Duration(d.uvarint()) * time.Microsecond
		r.edges = d.rest
	}
	if d.rest == failed {
		return record{}, errRecord
	}
	return r, nil
}

// decoder reads from a string; once something is missing, everything is.
type decoder struct{ rest string }

const failed = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" // not what any edges begin with

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint([]byte(d.rest[:min(len(d.rest), binary.MaxVarintLen64)]))
	if n <= 0 || d.rest == failed {
		d.rest = failed
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) fixed() uint64 {
	if len(d.rest) < 8 || d.rest == failed {
		d.rest = failed
		return 0
	}
	v := binary.BigEndian.Uint64([]byte(d.rest[:8]))
	d.rest = d.rest[8:]
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if d.rest == failed || n > uint64(len(d.rest)) {
		d.rest = failed
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// savedEdge is an edge as it is stored.
type savedEdge struct {
	cache string
	key   string
	stamp uint64
}

// unknownEdges stand for those that are not known: an edge to a cache that cannot be
// there. What has them is built again.
const unknownEdges = "\x00\x00\x00\x00"

// savedEdges returns the edges that were stored, up to the first that cannot be read.
func savedEdges(saved string) iter.Seq2[savedEdge, error] {
	return func(yield func(savedEdge, error) bool) {
		var names []string
		for d := (decoder{saved}); d.rest != ""; {
			var e savedEdge
			if i := d.uvarint(); i == 0 {
				e.cache = d.text()
				names = append(names, e.cache)
			} else if i <= uint64(len(names)) {
				e.cache = names[i-1]
			} else {
				d.rest = failed
			}
			e.key = d.text()
			e.stamp = d.uvarint()
			if d.rest == failed {
				yield(savedEdge{}, errRecord)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// parseEdges returns the edges that were stored.
func parseEdges(saved string) (edges []savedEdge, err error) {
	for e, err := range savedEdges(saved) {
		if err != nil {
			return nil, err
		}
		edges = append(edges, e)
	}
	return edges, nil
}

// keyed is what saving asks of a cache that somebody has read from.
type keyed interface {
	cache() *core
	appendKey(dst []byte, n *graph.Node) ([]byte, error)
	decodeKey(key string) any // nil if that fails
	keyOf(n *graph.Node) any
	ask(ctx context.Context, n *graph.Node) error // Get
	renew(ctx context.Context, n *graph.Node) (*graph.Node, error)
	nodeOf(ctx context.Context, key string) (*graph.Node, error)
	known(key string) *graph.Node                                      // nodeOf, of what is in memory; else nil
	find(ctx context.Context, edges []storedEdge, found []*graph.Node) // fills in nodes of edges to the cache that are there
}

// recorder makes records; it keeps what it needs for that from one to the next.
type recorder struct {
	m     *Manager
	g     *graph.Graph
	c     *core                        // whose records they are
	by    []savedEdge                  // for what edges pass through
	known map[*graph.Node][3]savedEdge // of what they may pass through
	edges []graph.Edge
	names []string
	key   []byte
	seen  map[graph.Edge]bool

	encoded []byte
	newest  uint64 // the last stamp of the edges that were appended
}

// append appends what is to be kept beside the value of an entry.
func (r *recorder) append(dst []byte, v *trace, kind kind, version uint64) ([]byte, error) {
	if v.kind == graph.Input {
		if v.stamp == 0 {
			return dst, nil
		}
		return binary.AppendUvarint(append(dst, 0), v.stamp), nil
	}
	flags := byte(flagBuilt)
	if v.kind == graph.Probed {
		flags |= flagProbed
	}
	switch kind {
	case missing:
		flags |= flagNone
	case broken:
		flags |= flagError
	case lacking:
		flags |= flagNone | flagError
	case dropped:
		flags |= flagDropped
	}
	if v.forced {
		flags |= flagForced
	}
	dst = binary.AppendUvarint(append(dst, flags), v.stamp)
	dst = binary.BigEndian.AppendUint64(dst, version)
	built, edges := v.built, rawBytes(v.saved)
	if v.saved == "" {
		var err error
		if r.encoded, err = r.appendEdges(r.encoded[:0], v.edges); err != nil {
			return dst, err
		}
		edges, built = r.encoded, max(built, r.newest)
	}
	dst = binary.AppendUvarint(dst, built)
	dst = binary.AppendUvarint(dst, uint64(v.took.Microseconds()))
	return append(dst, edges...), nil
}

func (r *recorder) appendEdges(dst []byte, edges []graph.Edge) ([]byte, error) {
	r.g.Lock()
	through := r.flatten(edges, false)
	r.g.Unlock()
	clear(r.known)
	for n := range through {
		if by, ok := r.m.handEdges(n.Owner().Type.(keyed), n); ok {
			if r.known == nil {
				r.known = make(map[*graph.Node][3]savedEdge)
			}
			r.known[n] = by
		}
	}
	r.g.Lock()
	if len(through) > 0 {
		r.flatten(edges, true)
	}
	r.g.Unlock()
	r.names = r.names[:0]
	name := func(name string) {
		at := 0
		for at < len(r.names) && r.names[at] != name {
			at++
		}
		if at < len(r.names) {
			dst = binary.AppendUvarint(dst, uint64(at+1))
		} else {
			r.names = append(r.names, name)
			dst = binary.AppendUvarint(append(dst, 0), uint64(len(name)))
			dst = append(dst, name...)
		}
	}
	foreign := uint64(0)
	r.newest = 0
	for _, e := range r.by {
		r.newest = max(r.newest, e.stamp)
		if r.c.lane != r.m.main {
			foreign = max(foreign, e.stamp)
		}
		name(e.cache)
		dst = append(binary.AppendUvarint(dst, uint64(len(e.key))), e.key...)
		dst = binary.AppendUvarint(dst, e.stamp)
	}
	for _, e := range r.edges {
		r.newest = max(r.newest, e.Stamp)
		t := e.Node.Owner().Type.(keyed)
		if t.cache().lane != r.c.lane {
			foreign = max(foreign, e.Stamp)
		}
		name(t.cache().slot.name)
		var err error
		if r.key, err = t.appendKey(r.key[:0], e.Node); err != nil {
			return dst, fmt.Errorf("a dependency on %s cannot be saved: %w", t.cache().slot.name, err)
		}
		dst = binary.AppendUvarint(dst, uint64(len(r.key)))
		dst = append(dst, r.key...)
		dst = binary.AppendUvarint(dst, e.Stamp)
	}
	for was := r.c.foreign.Load(); was < foreign && !r.c.foreign.CompareAndSwap(was, foreign); {
		was = r.c.foreign.Load()
	}
	return dst, nil
}

// flatten puts edges into r.edges, with what caches in memory were computed
// from in place of their own entries, which a restart does not find again, and into
// r.by what says whether those were written by hand. It returns the entries that
// it passes through; if known is set only through those that r.known has. The
// graph is locked.
func (r *recorder) flatten(edges []graph.Edge, known bool) (through map[*graph.Node]bool) {
	r.edges, r.by = r.edges[:0], r.by[:0]
	inMemory := func(e graph.Edge) bool {
		if _, ok := r.known[e.Node]; known && !ok {
			return false
		}
		return e.Node.Owner().Type.(keyed).cache().lane == nil && e.Node.Kind() == graph.Derived && e.Node.Stamp == e.Stamp &&
			!e.Node.Dead() && e.Node.State() != graph.Dirty
	}
	flat := !slices.ContainsFunc(edges, inMemory)
	if flat {
		r.edges = append(r.edges, edges...)
		return nil
	}
	through = make(map[*graph.Node]bool)
	whole := make(map[*graph.Owner]bool)
	clear(r.seen)
	if r.seen == nil {
		r.seen = make(map[graph.Edge]bool)
	}
	stack := [][]graph.Edge{edges}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(*top) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		e := (*top)[0]
		*top = (*top)[1:]
		switch {
		case r.seen[e]: // but not with another stamp: one of them has changed, then
		case inMemory(e):
			r.seen[e] = true
			through[e.Node] = true
			if by := r.known[e.Node]; known {
				if o := e.Node.Owner(); !whole[o] {
					whole[o] = true
					r.by = append(r.by, by[0], by[2])
				}
				r.by = append(r.by, by[1])
			}
			stack = append(stack, e.Node.Edges())
		default:
			r.seen[e] = true
			r.edges = append(r.edges, e)
		}
	}
	return through
}

// cache implements keyed.
func (as nodes[K, V]) cache() *core { return &as.of.core }

// appendKey implements keyed.
func (as nodes[K, V]) appendKey(dst []byte, n *graph.Node) ([]byte, error) {
	return as.of.encodeKey(dst, as.of.entryOf(n).key)
}

// entryOf returns the entry that n, a node of c, stands for, without any lock.
func (c *Cache[K, V]) entryOf(n *graph.Node) *entry[K, V] { return graph.EntryOf[entry[K, V]](n) }

// keyOf implements keyed.
func (as nodes[K, V]) keyOf(n *graph.Node) any { return as.of.entryOf(n).key }

// ask implements keyed.
func (as nodes[K, V]) ask(ctx context.Context, n *graph.Node) error {
	_, err := as.of.get(ctx, nil, as.of.entryOf(n).key)
	return err
}

// decodeKey implements keyed.
func (as nodes[K, V]) decodeKey(key string) (decoded any) {
	c := as.of
	var err error
	guard(&err, func() error {
		k, err := c.spec.KeyCodec.Decode([]byte(key))
		if err == nil {
			decoded = k
		}
		return err
	})
	return decoded
}

// base is the revision up to which entries of c may have stamps of earlier processes;
// those that they get in this one are above it.
func (c *core) base() uint64 {
	if c.lane == nil {
		return c.m.main.base
	}
	return c.lane.base
}

// reason says why a builder of c runs, for people.
func (c *core) reason(why graph.Cause) string {
	switch why.Reason {
	case graph.Missing:
		return "it was not there"
	case graph.Changed:
		if why.Node == nil {
			return "keys were added or removed"
		}
		return c.m.called(why.Node) + " has changed"
	case graph.Failed:
		return c.m.called(why.Node) + " cannot be built"
	case graph.Unkept:
		return c.m.called(why.Node) + " cannot be kept"
	case graph.Invalidated:
		return "it was invalidated"
	case graph.Outdated:
		return "the builder, or the type of its values, has a new version"
	case graph.Asked:
		return c.asked()
	case graph.Evicted:
		return "its value was evicted"
	}
	return "what it was built from cannot be found out"
}

// asked says where the values of c come from, which are probed.
func (c *core) asked() string {
	if _, _, facet := ofFacet(c.slot.name); facet {
		return "the cache was looked at"
	}
	return "the world outside was asked"
}

// called is how n is named as a cause. No lock is held.
func (m *Manager) called(n *graph.Node) string {
	if t := n.Owner().Type.(keyed); t.cache().slot.name == ours+handCache {
		return entryName(m.handOf(t.keyOf(n).(string)))
	}
	return n.Owner().Type.Name(n)
}
