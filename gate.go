package cacheman

import (
	"sync"
	"unsafe"
)

// gate is a sync.RWMutex in stripes: to hold it shared is to hold one of them, to
// hold it exclusively all. So those who write to different shards on different
// processors do not take the same place in memory from each other.
type gate struct {
	stripes [8]struct {
		sync.RWMutex
		_ [128 - unsafe.Sizeof(sync.RWMutex{})]byte // places of their own
	}
}

// Lock waits until nobody else holds g.
func (g *gate) Lock() {
	for i := range g.stripes {
		g.stripes[i].Lock()
	}
}

// Unlock undoes Lock.
func (g *gate) Unlock() {
	for i := range g.stripes {
		g.stripes[i].Unlock()
	}
}

// RLock waits until nobody holds g exclusively.
func (g *gate) RLock() { g.stripes[0].RLock() }

// RUnlock undoes RLock.
func (g *gate) RUnlock() { g.stripes[0].RUnlock() }

// shared returns what has an RLock like that of g, for what has the given hash.
func (g *gate) shared(hash uint64) *sync.RWMutex {
	return &g.stripes[hash%uint64(len(g.stripes))].RWMutex
}
