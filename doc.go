// Package cacheman keeps expensive results in what look like maps: named,
// typed, persistent caches that know what they were computed from.
//
// A program has many computations whose results could safely be kept, and a
// database beside the program would be more effort than it is worth. With this
// package it opens a [Manager], which owns a directory, and registers caches in
// it:
//
//	m, err := cacheman.Open("", cacheman.Options{}) // "" = the user's cache directory for this program
//	…
//	defer m.Close() // saves
//
//	users, err := cacheman.Register(m, "users", cacheman.Spec[string, User]{})
//	users.Set("ann", User{Name: "Ann"})
//	u, ok := users.Peek("ann")
//	for name, u := range users.All() { … }
//
// A [Cache] is a map that survives restarts. It saves itself a while after it
// was changed, and when the Manager is closed; [Manager.Sync] saves at once. It
// may be used by any number of goroutines.
//
// # Builders
//
// A cache with a builder makes the values it does not have:
//
//	words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
//		Build: func(ctx context.Context, name string) (int, error) {
//			text, err := texts.Get(ctx, name)
//			return len(strings.Fields(text)), err
//		},
//	})
//	n, err := words.Get(ctx, "a")
//
// However many goroutines ask for a key at the same time, its builder runs
// once. The run belongs to none of them: a caller whose ctx ends leaves alone,
// and the run is cancelled when the last one has left. Builders may ask other
// caches, which may build in turn; if they come to need each other in a circle,
// they get [ErrCycle] with the path and do not wait for ever.
//
// [Spec.BuildAll] builds the whole contents of a cache instead, when nothing
// valid could be loaded. The other hooks of a [Spec] replace or surround
// loading, saving and deleting.
//
// # Tracked dependencies
//
// What a builder reads through the ctx that it got is recorded: above,
// words["a"] depends on texts["a"]. After texts["a"] was set, the next Get of
// words["a"] runs the builder, and no Get gives what was there before. Nobody
// has to say what depends on what, and a builder may read other entries each
// time. It is to pass its ctx on, and to depend on nothing else.
//
// These reads are tracked, by the builder's goroutine and by those it starts,
// until it returns:
//
//   - [Cache.Get] depends on one entry, also if there is none.
//   - [Cache.Contains] depends on whether there is one, [Cache.Count] on how
//     many there are, [Cache.CollectKeys] on which.
//   - [Cache.Collect] depends on the keys and on every value.
//   - [Select] makes a cache of a part of each value; who reads that depends
//     on the part.
//
// Reads without ctx are not tracked: Peek, Has, All, Keys, Values, Len. They
// give what the cache holds, which may be stale if a builder made it. What
// BuildAll reads through its ctx is tracked for the contents as a whole: when
// that changes they are built anew, and entries that come out equal stay clean.
//
// A write marks what was computed from the entry, which costs no more than
// following the edges to what was clean until then. Nothing is built before
// somebody asks. Then what is marked is checked in the order in which it was
// read, and a builder runs at the first difference. If what it makes equals the
// old value (see [Spec].Equal) the entry counts as unchanged, and what was
// computed from it stays: the cutoff. Setting an entry to an equal value
// changes nothing either.
//
// A builder sees one state of the world. If something that it has read changes
// while it runs, its next read returns [ErrStale], it is called again, and what
// it made is dropped. Once it has been begun again three times, writers
// to what it reads wait for it, at most a second each time. Builders must not
// write: Set, Update, Delete, Invalidate and Batch return [ErrInBuilder] on
// the goroutine of a builder.
//
// # Inputs from outside
//
// An entry that was set is an input. So is what can be asked for:
//
//   - [OpenFiles]: contents, metadata and existence of files, directories, and
//     with [Files.FS] whatever takes an fs.FS.
//   - [Env]: variables of the environment.
//   - [Now], at the granularity that is needed, and [ExpireAt].
//   - [Spec].Probe: a function of the program's own. It gets what it said last.
//
// Each is asked once after the Manager was opened, when it is first needed, and
// then is trusted until Refresh asks again, [Cache.Recheck] says that it may
// have changed, or ProbeEvery has passed; or until an entry that a Probe has read
// with its ctx is another. What was computed from it is built
// again only if the answer is another. For the rest there is [Untracked]: the
// result is used until the Manager is closed or refreshed.
//
// [Manager.Batch] makes several writes, to any caches of the Manager, one
// change: a reader who sees one of them sees all, and so does a builder.
//
// # Errors as results
//
// The errors and panics of builders are given to the callers and are not kept:
// the next Get tries again. Two are results like any value, are saved, and last until
// what they were computed from changes: [ErrNotFound], which says that there is no value,
// and what [Keep] was applied to. It does not matter whether they come from the builder
// itself or from what it has read, nor what was said around them, as by
// fmt.Errorf("page %d: %w", n, err), which is kept as it is. An error that says something else
// besides, as by errors.Join, is none of them.
//
// # Restart and versions
//
// What an entry was computed from is saved with it, so a restart is no change:
// afterwards every entry is checked when it is first asked for, and built only
// if something it depends on is not what it was. What was computed from
// caches in memory only depends on what these were computed from. An entry that
// was invalidated is built, and if it comes out as it was before, what was computed
// from it stays valid.
//
// Change [Spec].Version when a builder is to make other values. Then each
// entry that it had built is built anew when it is asked for, and where the
// result is the same, what was computed from it lives on. What was set by hand
// under another version is forgotten, but in a store that keeps values only. When
// the type of the values has got other fields, what was built is built anew as well. [Spec].Migrate makes values of
// those that were saved in another form instead, and [Spec].Formerly takes over
// what was saved under another name.
//
// # All at once
//
// Entries are brought up to date when somebody asks for them. [Manager.Build] does
// so for all that caches hold, several at once, and builds exactly what reads of all
// of them would build. [Manager.Refresh] asks the world outside before that.
//
// # Why
//
// Explain, on a Cache, says of an entry what state it is in, when it was built
// and how long that took, each dependency with the stamp that was seen and the
// current one, what depends on it, and why it is stale, down to what has changed, also
// outside after [Manager.Refresh]. [Manager.Explain] needs no types. Plan says what an
// invalidation would reach, without doing it. Check, on a Manager, goes through
// the invariants of the engine and reports each that does not hold. Every build
// is an event with its cause; see [Event].
//
// # Declared dependents
//
// A whole cache may be declared to depend on others, in its Spec or by
// [Manager.Depend]. That is for what no builder reads through a ctx. Four verbs then have four meanings:
//
//   - Reload drops what is not saved, and reads the store again.
//   - Invalidate removes the contents for good, and those of all dependents:
//     what was computed before is not served again, not from memory, not by a
//     builder that is just running, and not after a restart.
//   - Touch invalidates the dependents only.
//   - Rebuild invalidates, then builds at once, upstream first, and saves.
//
// A dependent declared with DependsOnChange goes also when any entry of the
// other cache is set, updated or deleted. Chains may be of any length, each
// cache is visited once, and circles are allowed.
//
// # What is promised
//
//   - A Get that begins after a write or an invalidation has returned does not
//     give anything older, nor anything computed from it, whatever was under
//     way. A builder never sees a mixture of old and new.
//   - A builder of an entry runs only if something it has read has changed, or
//     its version, or if it was invalidated; after a restart, too.
//   - What was saved survives a crash, and a save is there as a whole or not at
//     all. One [Manager.Sync] is one atomic batch over all caches of a store.
//     What was not saved yet is lost by a crash, and nothing else.
//   - An invalidation and those of all dependents are one step, and once saved
//     nothing undoes it.
//   - Hooks, builders and codecs run without any lock held.
//   - Damage on disk is a miss and an event. It never prevents a start.
//
// How much a crash may lose is how long changes wait to be saved: see
// [Autosync]. By default a single change waits up to five minutes; a save
// costs about as much as appending the changes to a file and flushing it, so
// many programs will want Autosync{Every: time.Second}.
//
// # What it costs
//
// Opening a Manager reads no contents. Of a large cache single entries are read
// from the store as they are asked for, in some 50 µs each; when that has cost
// as much as loading all of it, or when it is iterated over, it is loaded.
// [Manager.Load] does so at once, for several caches beside each other. Values
// are left encoded until each is first read. What was read stays in memory. A
// read of that is a map lookup under a lock shared
// by 1/64 of the cache, and for an entry that was built two atomic loads more.
// Whatever concerns the edges between entries, in all caches of a Manager, is
// under one lock; reads outside of builders do not need that as long as what
// they read is clean. A save writes what changed, not what is there.
//
// # Limits
//
// A [Limit], of a cache or of what all builders have made, bounds how much is
// kept. The oldest values go first; what was computed from them stays valid.
// What is saved of caches that the program does not have any more is found by
// [Manager.Unregistered], and removed by [Manager.Invalidate].
//
// # Copies
//
// [Manager.Backup] copies the directory of a Manager in use, as of one instant;
// [Manager.Compact] makes it as small as it gets before it is packed up.
// [Manager.Export] writes what is saved as lines of JSON, and [Import] makes a
// directory of that.
//
// # What it is not
//
// One process at a time may have a directory open for writing; others may read
// it meanwhile, and follow what is saved (see [Options].ReadOnly and
// [Manager.Follow]). Values are shared and must be treated as immutable. Of
// what was deleted or evicted a trace stays in memory as long as something that was
// computed from it may be valid. A builder that reads caches of another Manager makes
// results that are not kept; and who has read what cannot be recorded, as that or a failure, is not told if it changes meanwhile. What a store that
// keeps values only or a Load hook gives back is recognized if it is what was saved: what
// it was built from is kept in the Manager's own store, unless that keeps values only, too.
// Another value counts as set by hand, and what is promised of builders and of a Version is
// not promised of it, until it is invalidated. So does what BuildAll had made. In a cache
// with a Probe it is asked for again, also if it was set.
package cacheman
