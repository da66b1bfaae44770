// Package logstore is the default store: a directory with one journal of
// changes and one sorted snapshot for each cache.
//
// Apply appends a batch to the journal as one frame and syncs it; the frame is
// there as a whole or not at all. In memory the store keeps, for each cache, an
// overlay: the keys that the journals speak of, and where. Everything else
// stays on the disk and is read when it is asked for. Once the journal has
// outgrown the snapshots, a compaction in the background merges the two into
// new snapshots, publishes a manifest that names them, and removes the old
// files. docs/FORMAT.md has the bytes.
//
// # What survives
//
// A batch whose Apply returned nil survives a crash of the process and the loss
// of power. One whose Apply was interrupted is there as a whole or not at all.
// One whose Apply returned an error is not there, with one exception, which the
// error names: its end may have reached the disk, and the attempt to record
// that it does not count failed too. Then it may be there after a restart,
// unless a later Apply or Close succeeded in recording it.
//
// # Damage
//
// All records, and all that leads to them, are under checksums. A torn frame at the end of the
// journal is what an interrupted Apply leaves, and is cut off. Anything else is
// damage, and [Policy] says what becomes of it. A store never gives a value
// from beside damage that may have held its deletion, unless told to by
// [Salvage], and only [Fail] lets damage prevent a start. One thing cannot be
// told from a torn frame: damage to the very last frame.
//
// [Check] finds damage without changing anything, and [Repair] leaves a
// directory without any; what was damaged is kept beside it.
//
// # Processes
//
// One process at a time has a directory open for writing; another gets a
// store.LockedError at once, or waits with [OpenWait]. The lock ends with the
// process, so whoever comes after a crash takes over at once. Any number of
// others read the directory meanwhile, with [OpenReader], which takes no lock.
// Network file systems, where neither locks nor syncs can be relied on, are not
// supported. docs/DURABILITY.md has more.
//
// # Locks
//
// Three locks, taken in this order: Store.compacting, Store.applying, Store.mu.
// The first two are held across I/O, mu never is. No caller's code runs under
// mu; the ops of a batch are pulled under applying, so they must not call Apply,
// Compact or Close.
package logstore
