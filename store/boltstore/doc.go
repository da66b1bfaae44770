// Package boltstore keeps caches in a bbolt database: one file, which can be
// copied while no program has it open, in a format that other programs can
// read.
//
//	s, err := boltstore.Open("cache.db", boltstore.Options{})
//	...
//	m, err := cacheman.Open("", cacheman.Options{Store: s})
//
// # When to use it
//
// The default store, package logstore, saves changes many times faster, needs
// less memory and less room for it, and puts every byte under a checksum. Use
// this one if a program has to do with bbolt anyway, or if other programs are to
// read what is stored with its tools.
//
// # What it promises
//
// A batch is atomic, and durable once Apply has returned nil: bbolt writes
// what has changed beside what was there, syncs, and then writes, and syncs, the
// page that refers to it. A batch whose Apply returned an error is not there,
// with one exception, which the error names: the disk failed at that very page.
// Then it may be there, and nothing more is written until the file is opened
// anew.
//
// A batch costs what it changes. Load gives one instant and holds nothing up:
// it reads some hundred kilobytes at a time and keeps no transaction open in
// between. If a batch is to change a cache that is being loaded, what is left
// to load is read into memory first. Reads go on beside a batch.
//
// # What it costs
//
// A batch is in memory as a whole until it is committed, first by itself and
// then as pages of the database, for bbolt can write no part of a transaction
// before its end. That is some three times its size, ten times with records of
// a hundred bytes, and limits how large a batch can be. A batch of one record that goes to a page of its own costs a page, so
// many small changes to a large cache write far more than their size. The file
// never shrinks by itself, but what is freed is used again; Compact makes it
// as small as it can be.
//
// # Damage
//
// Every record, and the description of every cache together with the number of
// its records, has a checksum. A damaged record, or records that are missing,
// are errors of Load that wrap [store.ErrCorrupt]; a damaged description is one
// of Open. The pages of bbolt that lead to records have no checksum. Damage to
// them is noticed in most cases, and is such an error, too; but it may also
// let a record be missing for Get, or end the process if it leads bbolt in a
// circle. A damaged file is mended by removing it.
//
// # Processes
//
// One process at a time has a file open; another gets a [store.LockedError],
// at once or when [Options] say so. The lock is on a file beside it with the
// same name and ".lock", which stays. Network file systems, where neither locks
// nor memory mappings can be relied on, are not supported. On 32-bit systems the
// file cannot be larger than about two gigabytes.
//
// # Locks
//
// Four, taken in this order: Store.compacting, Store.applying, Store.mu,
// loads.mu. Those of a single load come last. No caller's code runs under any
// of them: a batch is taken in before it takes a lock, and a load gives what
// it has read after its transaction has ended.
package boltstore
