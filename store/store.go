// Package store is the contract between a cacheman Manager and the place
// where entries are kept.
//
// A Store holds, for each cache it knows, an opaque description and a set of
// records: a key, a value and a little metadata, all bytes that only the
// Manager can read. It changes by batches. What a batch promises (is it
// atomic? durable? does its cost follow the change or the whole?) differs
// between stores and is said by [Caps]; nothing else may differ, and package
// storetest checks that it does not.
//
// The default store is package logstore. Packages memstore, csvstore and
// jsonstore are the others in this module.
package store

import (
	"context"
	"iter"
)

// A Store keeps the records of any number of caches.
//
// All methods may be called concurrently. A Store serializes Apply calls
// itself; reads go on beside them and see the store either before or after a
// batch, never within one. Methods return [ErrClosed] after Close.
type Store interface {
	// Caps says what this store promises. It never changes.
	Caps() Caps

	// Caches lists the known caches in the order of their names. Its cost
	// follows the number of caches, not of records.
	Caches(ctx context.Context) ([]Info, error)

	// Load gives every record of a cache, each key once, in no particular
	// order, as they stood at one instant after the call. The slices belong
	// to the caller, who may keep and change them, but slices of different
	// records may share an array, so keeping one may keep its neighbours.
	//
	// An error that wraps [ErrCorrupt] stands for one or more damaged
	// records: it says which, and the iteration goes on. Any other error
	// ends it; for a cache that is not known it is [ErrNotFound].
	Load(ctx context.Context, cache string) iter.Seq2[Record, error]

	// Apply carries out ops in order, as one batch. It consumes ops as it
	// goes, so a batch may be larger than memory; the slices of an Op are
	// valid only until the next one is asked for, and Apply keeps none.
	//
	// If ops yields an error, or ctx ends before the batch is complete,
	// Apply returns that error and the batch leaves no trace. If Apply fails
	// on its own, an Atomic store is unchanged; another may hold a part.
	// A Durable store returns nil only once the batch would survive the loss
	// of power.
	Apply(ctx context.Context, ops iter.Seq2[Op, error]) error

	// Close releases what the store holds. It does not wait for unfinished
	// iterations, which end with ErrClosed. Further calls do nothing and
	// return nil.
	Close() error
}

// A Getter is a Store that can read one record without reading the others.
type Getter interface {
	// Get returns the record of key, or ErrNotFound if the cache is not
	// known or has no such record, or an error that wraps ErrCorrupt if the
	// record is damaged. Its slices belong to the caller.
	Get(ctx context.Context, cache string, key []byte) (Record, error)
}

// A Compactor is a Store that can reduce the space it occupies.
type Compactor interface {
	// Compact rewrites what is stored so that it takes no more room than its
	// live records need. Reads and batches go on meanwhile. If ctx ends it
	// stops early and returns ctx.Err(); nothing is lost.
	Compact(ctx context.Context) error
}

// A Shutdowner is a Store whose Close does what can be left for another time, and may
// take long.
type Shutdowner interface {
	// Shutdown is Close, but what can be left is given up when ctx ends, which is no
	// error.
	Shutdown(ctx context.Context) error
}

// A Sharer is a Store that several processes may write at the same time.
type Sharer interface {
	// Redescribe makes what change returns the description of a cache, as a batch of
	// its own, in which nobody else can write in between. change gets the description
	// that there is, nil if there is none or the cache is not known, and is called once.
	// It must not call the store, nor keep or change what it gets.
	Redescribe(ctx context.Context, cache string, change func(description []byte) []byte) error
}

// Caps is what a store promises.
type Caps struct {
	// Atomic: after a crash a batch is there as a whole or not at all.
	Atomic bool
	// Durable: a batch survives the loss of power once Apply has returned.
	Durable bool
	// Incremental: a batch costs what it changes, not what is there.
	Incremental bool
	// Persistent: records survive Close and can be read by another Open.
	Persistent bool
	// Described: descriptions and metadata come back as they were given. A
	// store without it keeps keys and values only. A Manager keeps the rest in its own
	// store; if that is not Described either, what it gives back counts as set by hand,
	// also what a builder has made.
	Described bool
}

// Record is one entry as it is stored. Meta belongs to the Manager; stores
// keep it beside the value, under the same checksum if they have one.
type Record struct {
	Key   []byte
	Value []byte
	Meta  []byte
}

// Info describes one known cache.
type Info struct {
	Cache       string
	Description []byte // as last given by Describe; nil if never
	Records     int    // live records; -1 if counting needs a full read
	AtMost      int    // if Records is -1: there are no more than that; 0 if that is not known either
	Bytes       int64  // bytes occupied, roughly; -1 if not known
}

// Kind is what an Op does.
type Kind uint8

const (
	// Put sets the record of Key, and makes Cache known.
	Put Kind = iota + 1
	// Delete removes the record of Key, if there is one.
	Delete
	// Clear removes all records of Cache; the cache stays known.
	Clear
	// Describe sets the description of Cache to Value, and makes it known.
	Describe
	// Drop removes all records of Cache and its description; the cache is
	// no longer known. It does nothing to an unknown cache.
	Drop
)

// String returns the name of k in lower case.
func (k Kind) String() string {
	if names := [...]string{"", "put", "delete", "clear", "describe", "drop"}; int(k) < len(names) && k > 0 {
		return names[k]
	}
	return "invalid"
}

// Op is one step of a batch. Cache is not empty and is valid UTF-8; it may
// hold any character, a NUL or a slash included, and be up to 4096 bytes long.
// Key and Value may be empty.
type Op struct {
	Kind  Kind
	Cache string
	Key   []byte // Put, Delete
	Value []byte // Put, Describe
	Meta  []byte // Put
}
