package main

import (
	"errors"
	"slices"
)

// storeSystem is a system of the store suite.
type storeSystem struct {
	name  string
	floor bool     // what the machine can do; changes are not read back
	only  []string // if not nil, the works it has rows for
	// open opens, or creates, what is in dir.
	open func(dir string) (storeDB, error)
	// compact opens, compacts and closes it; nil if there is no such thing.
	compact func(dir string) error
	whole   bool // cannot read one entry without loading all
}

// has says if the system does the work.
func (s *storeSystem) has(work string) bool {
	switch {
	case s.only != nil:
		return slices.Contains(s.only, work)
	case slices.Contains([]string{"compact", "disk_compacted", "load_compacted", "read_one_compacted"}, work):
		return s.compact != nil
	default:
		return work != "" && !(s.whole && work == "open_read_one")
	}
}

// storeSystems are in a file each.
func storeSystems() []storeSystem {
	return []storeSystem{
		{name: "cacheman", open: openCachemanStore, compact: compactCacheman},
		{name: "bbolt", open: openBbolt},
		{name: "pebble", open: openPebble, compact: compactPebble},
		{name: "badger", open: openBadger, compact: compactBadger},
		{name: "sqlite", open: openSQLite, compact: compactSQLite},
		{name: "gob", open: openGob, whole: true},
		{name: "floor", open: openFloor(false), floor: true,
			only: []string{"save_all", "sync_1000", "sync_1", "change_sync_1000", "change_sync_1", "load_all", "mem_held", "mem_load", "disk_bytes"}},
		{name: "floor-alias", open: openFloor(true), floor: true, only: []string{"load_all", "mem_load"}},
	}
}

var errCannot = errors.New("this system cannot do that")

// held is the memory side of all systems but cacheman: a Go map.
type held struct {
	entries map[string][]byte
}

func (h *held) Fill(n int) error {
	h.entries = make(map[string][]byte, n)
	for i := range n {
		h.entries[keyOf(i)] = valueOf(i, 0)
	}
	return nil
}

func (h *held) Change(keys []string, values [][]byte) error {
	if h.entries != nil {
		for i, k := range keys {
			h.entries[k] = values[i]
		}
	}
	return nil
}

// reserve makes the map that a load fills.
func (h *held) reserve(n int) { h.entries = make(map[string][]byte, n) }

func (h *held) Each(f func(key string, value []byte)) error {
	for k, v := range h.entries {
		f(k, v)
	}
	return nil
}
