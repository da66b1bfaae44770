package main

import (
	"context"
	"hash/maphash"
	"strconv"
	"sync"

	"github.com/Yiling-J/theine-go"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"
	gocache "github.com/patrickmn/go-cache"
	"github.com/puzpuzpuz/xsync/v4"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// hitSystem is a system of the hit suite.
type hitSystem struct {
	name    string
	bounded bool // evicts by itself when full
	loads   bool // can get-or-build a key, once for any number of callers
	harness bool // does nothing, to show what measuring costs
	// open makes an empty cache. With a load function, which is given to
	// systems that can use one, it is a cache that get is called on.
	open func(capacity int, load func(string) *payload) (*hitCache, error)
}

// hitCache is an opened cache. All systems are called through such functions.
type hitCache struct {
	peek     func(key string) *payload    // nil if absent
	get      func(key string) *payload    // through the loader
	set      func(key string, v *payload) //
	setOther func(key string, v *payload) // of an unrelated key
	settle   func()                       // wait until sets have taken effect
	close    func()
}

// with fills in what a system has no need of.
func (c hitCache) with() (*hitCache, error) {
	if c.setOther == nil {
		c.setOther = c.set
	}
	if c.settle == nil {
		c.settle = func() {}
	}
	if c.close == nil {
		c.close = func() {}
	}
	return &c, nil
}

func hitSystems() []hitSystem {
	return []hitSystem{
		{name: "cacheman", loads: true, open: openCacheman(true)},
		{name: "cacheman-persistent", open: openCacheman(false)},
		{name: "shard64", loads: true, open: openShard64},
		{name: "xsync", loads: true, open: openXsync},
		{name: "sync.Map", open: openSyncMap},
		{name: "otter", bounded: true, loads: true, open: openOtter},
		{name: "ristretto", bounded: true, open: openRistretto},
		{name: "theine", bounded: true, loads: true, open: openTheine},
		{name: "ttlcache", bounded: true, loads: true, open: openTTLCache},
		{name: "go-cache", open: openGoCache},
		{name: "harness", harness: true, open: openHarness},
	}
}

// openCacheman opens a cache in memory, or one that would be saved: then sets
// are also noted as changes, but nothing is saved while it is measured.
func openCacheman(memory bool) func(int, func(string) *payload) (*hitCache, error) {
	return func(_ int, load func(string) *payload) (*hitCache, error) {
		m, err := cacheman.Open("", cacheman.Options{
			Store:    memstore.New(),
			Autosync: &cacheman.Autosync{Off: true},
		})
		if err != nil {
			return nil, err
		}
		c := hitCache{close: func() { m.Close() }}
		if load == nil {
			cache, err := cacheman.Register(m, "plain", cacheman.Spec[string, *payload]{Memory: memory})
			if err != nil {
				return nil, err
			}
			c.peek = func(key string) *payload { v, _ := cache.Peek(key); return v }
			c.set = func(key string, v *payload) { cache.Set(key, v) }
			return c.with()
		}
		// Every entry is built from one of a thousand inputs.
		var names [1000]string
		inputs, err := cacheman.Register(m, "inputs", cacheman.Spec[string, *payload]{Memory: true})
		if err != nil {
			return nil, err
		}
		for i := range names {
			names[i] = "input " + strconv.Itoa(i)
			if err := inputs.Set(names[i], &payload{ID: uint64(i)}); err != nil {
				return nil, err
			}
		}
		derived, err := cacheman.Register(m, "derived", cacheman.Spec[string, *payload]{
			Memory: memory,
			Build: func(ctx context.Context, key string) (*payload, error) {
				if _, err := inputs.Get(ctx, names[indexOf(key)%len(names)]); err != nil {
					return nil, err
				}
				return load(key), nil
			},
		})
		if err != nil {
			return nil, err
		}
		ctx := context.Background()
		c.peek = func(key string) *payload { v, _ := derived.Peek(key); return v }
		c.get = func(key string) *payload { v, _ := derived.Get(ctx, key); return v }
		c.set = func(key string, v *payload) { derived.Set(key, v) }
		c.setOther = func(key string, v *payload) { inputs.Set(key, v) }
		return c.with()
	}
}

// shard64 is what one would write for the purpose: 64 maps of pointers to
// entries, each with its lock. A builder runs outside the shard's lock.
type shard64 struct {
	seed   maphash.Seed
	shards [64]struct {
		sync.RWMutex
		m map[string]*shardEntry
		_ [64 - 32]byte // a cache line each
	}
}

type shardEntry struct {
	value    *payload      // nil while it is being built
	building chan struct{} // closed when value is there
}

func openShard64(_ int, load func(string) *payload) (*hitCache, error) {
	t := &shard64{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].m = map[string]*shardEntry{}
	}
	return hitCache{
		peek: t.peek,
		set:  t.set,
		get:  func(key string) *payload { return t.get(key, load) },
	}.with()
}

func (t *shard64) peek(key string) (v *payload) {
	s := &t.shards[maphash.String(t.seed, key)%64]
	s.RLock()
	if e := s.m[key]; e != nil {
		v = e.value
	}
	s.RUnlock()
	return v
}

func (t *shard64) set(key string, v *payload) {
	s := &t.shards[maphash.String(t.seed, key)%64]
	s.Lock()
	if e := s.m[key]; e != nil {
		e.value = v
	} else {
		s.m[key] = &shardEntry{value: v}
	}
	s.Unlock()
}

func (t *shard64) get(key string, load func(string) *payload) *payload {
	if v := t.peek(key); v != nil {
		return v
	}
	s := &t.shards[maphash.String(t.seed, key)%64]
	s.Lock()
	e := s.m[key]
	switch {
	case e == nil:
		e = &shardEntry{building: make(chan struct{})}
		s.m[key] = e
		s.Unlock()
		v := load(key)
		s.Lock()
		e.value = v
		close(e.building)
		e.building = nil
		s.Unlock()
		return v
	case e.value == nil:
		building := e.building
		s.Unlock()
		<-building
		return t.peek(key)
	default:
		v := e.value
		s.Unlock()
		return v
	}
}

func openXsync(_ int, load func(string) *payload) (*hitCache, error) {
	m := xsync.NewMap[string, *payload]()
	return hitCache{
		peek: func(key string) *payload { v, _ := m.Load(key); return v },
		set:  m.Store,
		get: func(key string) *payload {
			if v, ok := m.Load(key); ok { // the closure below is an allocation
				return v
			}
			v, _ := m.LoadOrCompute(key, func() (*payload, bool) { return load(key), false })
			return v
		},
	}.with()
}

func openSyncMap(int, func(string) *payload) (*hitCache, error) {
	m := new(sync.Map)
	return hitCache{
		peek: func(key string) *payload {
			if v, ok := m.Load(key); ok {
				return v.(*payload)
			}
			return nil
		},
		set: func(key string, v *payload) { m.Store(key, v) },
	}.with()
}

func openOtter(capacity int, load func(string) *payload) (*hitCache, error) {
	c, err := otter.New(&otter.Options[string, *payload]{MaximumSize: capacity})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	loader := otter.LoaderFunc[string, *payload](func(_ context.Context, key string) (*payload, error) {
		return load(key), nil
	})
	return hitCache{
		peek:   func(key string) *payload { v, _ := c.GetIfPresent(key); return v },
		set:    func(key string, v *payload) { c.Set(key, v) },
		get:    func(key string) *payload { v, _ := c.Get(ctx, key, loader); return v },
		settle: c.CleanUp,
		close:  func() { c.StopAllGoroutines() },
	}.with()
}

// openRistretto follows its documentation: ten counters per entry.
func openRistretto(capacity int, _ func(string) *payload) (*hitCache, error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, *payload]{
		NumCounters: 10 * int64(capacity),
		MaxCost:     int64(capacity),
		BufferItems: 64,
		// Otherwise 56 bytes of each entry's cost are its own, not 1.
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, err
	}
	return hitCache{
		peek:   func(key string) *payload { v, _ := c.Get(key); return v },
		set:    func(key string, v *payload) { c.Set(key, v, 1) },
		settle: c.Wait,
		close:  c.Close,
	}.with()
}

func openTheine(capacity int, load func(string) *payload) (*hitCache, error) {
	b := theine.NewBuilder[string, *payload](int64(capacity))
	if load == nil {
		c, err := b.Build()
		if err != nil {
			return nil, err
		}
		return hitCache{
			peek:   func(key string) *payload { v, _ := c.Get(key); return v },
			set:    func(key string, v *payload) { c.Set(key, v, 1) },
			settle: c.Wait,
			close:  c.Close,
		}.with()
	}
	c, err := b.BuildWithLoader(func(_ context.Context, key string) (theine.Loaded[*payload], error) {
		return theine.Loaded[*payload]{Value: load(key), Cost: 1}, nil
	})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return hitCache{
		get:    func(key string) *payload { v, _ := c.Get(ctx, key); return v },
		set:    func(key string, v *payload) { c.Set(key, v, 1) },
		settle: c.Wait,
		close:  c.Close,
	}.with()
}

func openTTLCache(capacity int, load func(string) *payload) (*hitCache, error) {
	opts := []ttlcache.Option[string, *payload]{
		ttlcache.WithCapacity[string, *payload](uint64(capacity)),
		ttlcache.WithTTL[string, *payload](ttlcache.NoTTL),
	}
	if load != nil {
		opts = append(opts, ttlcache.WithLoader(ttlcache.NewSuppressedLoader(
			ttlcache.LoaderFunc[string, *payload](func(c *ttlcache.Cache[string, *payload], key string) *ttlcache.Item[string, *payload] {
				return c.Set(key, load(key), ttlcache.NoTTL)
			}), nil)))
	}
	c := ttlcache.New(opts...)
	get := func(key string) *payload {
		if item := c.Get(key); item != nil {
			return item.Value()
		}
		return nil
	}
	return hitCache{
		peek: get,
		get:  get,
		set:  func(key string, v *payload) { c.Set(key, v, ttlcache.NoTTL) },
	}.with()
}

func openGoCache(int, func(string) *payload) (*hitCache, error) {
	c := gocache.New(gocache.NoExpiration, 0)
	return hitCache{
		peek: func(key string) *payload {
			if v, ok := c.Get(key); ok {
				return v.(*payload)
			}
			return nil
		},
		set: func(key string, v *payload) { c.Set(key, v, gocache.NoExpiration) },
	}.with()
}

// openHarness gives every key the same value.
func openHarness(int, func(string) *payload) (*hitCache, error) {
	p := &payload{}
	return hitCache{
		peek: func(string) *payload { return p },
		set:  func(string, *payload) {},
	}.with()
}
