// Package sqlitestore keeps caches in an SQLite database that several
// processes of one host may have open, and write, at the same time. It needs
// no C compiler.
//
//	s, err := sqlitestore.Open("cache.db", sqlitestore.Options{})
//	...
//	m, err := cacheman.Open("", cacheman.Options{Store: s})
//
// # When to use it
//
// The default store, package logstore, saves many changes some ten times faster and
// loads faster. Use this one if several processes are to write at the same time,
// or if what is stored is to be read with SQL.
//
// A Manager has its contents in memory. What another process has written since
// they were loaded it sees after Reload; of two that write the same key, the
// later wins. Contents that Spec.BuildAll makes are saved as a whole, also when one
// entry of them was set, and of two that save them the later wins. So are contents that
// are forgotten or migrated (Spec.Version, Spec.Migrate) or not valid (Spec.Validate), if
// both have read them before one has saved. What one has computed
// from values of its own is computed anew where another has replaced those, if it was read with
// a builder's ctx. That a cache is declared to depend on another (Spec.DependsOn) is not
// compared: one process may save it after another has changed what it depends on. And as
// another may have written something else, a Set of an equal value is saved, and
// invalidates what is declared to depend on changes (Spec.DependsOnChange).
// Those that have it open at the same time are to know a cache by the same name, Version, types and
// codec. Of what was set it is only said of all of a cache which Version it is of, so what another sets under an older
// one passes for set under the newer, or the reverse.
//
// # What it promises
//
// A batch is atomic, and durable once Apply has returned nil, for all processes:
// the database has a write-ahead log, and synchronous=FULL. A batch whose Apply
// returned an error is not there, with one exception: if the disk failed when
// the log was to be synced, it may be there after a crash.
//
// Load and Caches give one instant, to which they hold on while batches go on.
// Until a load has ended, or its context, the log cannot be emptied and grows by
// what is written.
//
// One process at a time writes. Others wait, for as long as [Options] say or
// their contexts last, and get a [store.LockedError] then. Reads wait for
// nobody, except for moments in which a process opens or closes the file.
//
// # What it costs
//
// A batch is taken in by runs of some 64 megabytes, which are sorted, so it
// may be larger than memory. From the end of the first run on, or of the
// batch, the database is locked for other writers. A changed record costs a page of
// four kilobytes in the log, and later in the file, unless it shares one with
// others. The file does not shrink by itself, but what is freed is used again;
// Compact gives it back in small steps, between which others can write, but
// leaves gaps within pages.
//
// # The database
//
// There are three tables: store, caches and records. They may be read by other
// programs at any time:
//
//	SELECT key, value FROM records WHERE cache = (SELECT id FROM caches WHERE name = CAST('users' AS BLOB))
//
// Values are as the codec of the cache has made them. What other programs
// change is damage, as the checksums are wrong then.
//
// Beside the file are, while it is open, two others with the same name and
// "-wal" and "-shm". They belong to it: whoever copies or moves it without them
// loses what was written last. A program must not open the file by itself while
// it has it open as a store, not even to copy it: on most systems closing it
// takes all locks that the process has on it.
//
// # Damage
//
// Every record, and the description of every cache together with the number of
// its records, has a checksum. A damaged record, or records that are missing,
// are errors of Load that wrap [store.ErrCorrupt]; a damaged description is one
// of Open. Damage to the pages that lead to records is such an error too if
// SQLite notices it; it may also let a record be missing for Get. A damaged
// file is mended by removing it, together with the two beside it.
//
// # Systems
//
// The files must be on a disk of the host: network file systems can keep
// neither the locks nor the shared memory of the log. All platforms on which
// modernc.org/sqlite runs will do.
//
// # Locks
//
// Two, taken in this order: Store.compacting, Store.applying; and Store.mu,
// under which nothing is taken. Ops of a batch are pulled while Store.applying
// is held, if the batch has more than one run, so they must call neither Apply
// nor Compact. Apart from that no caller's code runs under any of them.
package sqlitestore
