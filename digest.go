package cacheman

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/graph"
)

// digest stands for a set of keys: the sum of their hashes, and their number.
// Equal sets have equal digests, also after a restart. A key that comes is added, and
// one that goes subtracted.
type digest struct {
	Hi, Lo uint64
	Count  int
}

// key adds a key, given its encoded form, or if it has gone subtracts it.
func (d *digest) key(encoded []byte, came bool) {
	sum := sha256.Sum256(encoded)
	lo, hi := binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
	var carry uint64
	if came {
		d.Lo, carry = bits.Add64(d.Lo, lo, 0)
		d.Hi, _ = bits.Add64(d.Hi, hi, carry)
		d.Count++
	} else {
		d.Lo, carry = bits.Sub64(d.Lo, lo, 0)
		d.Hi, _ = bits.Sub64(d.Hi, hi, carry)
		d.Count--
	}
}

// follow applies changes to d.
func (d *digest) follow(changes []keyChange, keys codec.Codec[any]) (err error) {
	var buf []byte
	for _, ch := range changes {
		guard(&err, func() (err error) {
			buf, err = keys.Append(buf[:0], ch.key)
			return err
		})
		if err != nil {
			return err
		}
		d.key(buf, ch.came)
	}
	return nil
}

// keyLog is what has happened to the keys of a cache since they were summed up, so
// that not all of them have to be looked at when one has come or gone. It is guarded by
// the graph's lock, and changed in the critical section in which the keys are.
type keyLog struct {
	known   bool        // sum and changes say which keys there are
	sum     digest      // of the keys before changes
	changes []keyChange // not in sum yet
	version uint64      // another one since what was begun with the version before is out of date
}

type keyChange struct {
	key  any
	came bool // it has gone otherwise
}

// lose forgets what is known.
func (l *keyLog) lose() { *l = keyLog{version: l.version + 1} }

// add notes that a key has come or gone.
func (l *keyLog) add(key any, came bool) {
	if !l.known || len(l.changes) >= max(1024, l.sum.Count/4) { // to look at all of them is not much more then
		l.lose()
		return
	}
	l.changes = append(l.changes, keyChange{key, came})
}

// keyChanged says that a key has come or gone, if there is keys, which stands for the
// keys and was marked before the change. The graph is locked.
func (c *core) keyChanged(keys *graph.Node, key any, came bool) {
	keys.Force(graph.Probed, graph.Changed)
	c.keyLog.add(key, came)
}

// keysReplaced says that other contents take the place of those there are. The graph is
// locked.
func (c *core) keysReplaced() {
	c.keyLog.lose()
	if keys := c.keys.Load(); keys != nil {
		c.m.graph.Mark(keys)
		keys.Force(graph.Probed, graph.Changed)
	}
}

// digest implements typed.
func (c *Cache[K, V]) digest(ctx context.Context) (digest, error) {
	b, err := c.volatile(ctx, nil, true)
	if err != nil {
		return digest{}, err
	}
	if b != nil {
		keys, _ := b.all()
		return c.digestOf(slices.Values(keys))
	}
	return c.followKeys(func() (digest, error) { return c.digestOf(c.Keys()) })
}

// followKeys returns the digest of the keys there are, which all takes of all of them.
func (c *core) followKeys(all func() (digest, error)) (digest, error) {
	g, l := c.m.graph, &c.keyLog
	g.Lock()
	l.version++
	version, known, d, changes := l.version, l.known, l.sum, l.changes
	g.Unlock()
	var err error
	if known {
		err = d.follow(changes, c.typed.keyCodec())
	} else {
		d, err = all()
	}
	if err != nil || c.typed.keyCodec().Append == nil {
		return d, err
	}
	g.Lock()
	if l.version == version { // none has come or gone that is not among changes, or noted behind them
		l.known, l.sum, l.changes = true, d, slices.Clone(l.changes[len(changes):])
	}
	g.Unlock()
	if graph.Debug && known {
		c.assertKeys(all)
	}
	return d, nil
}

// assertKeys panics if what the log says is not so.
func (c *core) assertKeys(all func() (digest, error)) {
	g, l := c.m.graph, &c.keyLog
	g.Lock()
	version, n, d := l.version, len(l.changes), l.sum
	g.Unlock()
	now, err := all()
	g.Lock()
	defer g.Unlock()
	if err == nil && n == 0 && l.known && l.version == version && len(l.changes) == 0 && now != d {
		panic(fmt.Sprintf("cacheman: the keys of %q have the digest %v, and not %v", c.slot.name, now, d))
	}
}

func (c *Cache[K, V]) digestOf(keys iter.Seq[K]) (d digest, err error) {
	if c.spec.KeyCodec.Append == nil {
		d.Hi = c.m.graph.Next() // different from all others
		for range keys {
			d.Count++
		}
		return d, nil
	}
	var buf []byte
	for k := range keys {
		if buf, err = c.encodeKey(buf[:0], k); err != nil {
			return d, err
		}
		d.key(buf, true)
	}
	return d, nil
}
