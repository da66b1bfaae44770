// Package cacheman keeps expensive results in what look like maps: named,
// typed, persistent caches that depend on each other.
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
//	sizes, err := cacheman.Register(m, "sizes", cacheman.Spec[string, int64]{
//		Build: func(ctx context.Context, path string) (int64, error) {
//			info, err := os.Stat(path)
//			if err != nil {
//				return 0, err
//			}
//			return info.Size(), nil
//		},
//	})
//	n, err := sizes.Get(ctx, "go.mod")
//
// However many goroutines ask for a key at the same time, its builder runs
// once. The run belongs to none of them: a caller whose ctx ends leaves alone,
// and the run is cancelled when the last one has left. Builders may ask other
// caches, which may build in turn; if they come to need each other in a circle,
// they get [ErrCycle] with the path and do not wait for ever. Errors and panics
// are given to the callers and are not kept.
//
// [Spec.BuildAll] builds the whole contents of a cache instead, when nothing
// valid could be loaded. The other hooks of a [Spec] replace or surround
// loading, saving and deleting.
//
// # Dependents
//
// A cache may be declared to depend on others, in its Spec or by
// [Manager.Depend]. Four verbs then have four meanings:
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
//   - A read that begins after a write or an invalidation has returned does not
//     give anything older, whatever was under way.
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
// All entries of a cache that is in use are in memory. Opening a Manager reads
// no contents; the first use of a cache reads that cache, and leaves values
// encoded until each is first read. A read is a map lookup under a lock shared
// by 1/64 of the cache. A save writes what changed, not what is there.
//
// # What it is not
//
// One process at a time may have a directory open. Values are shared and must
// be treated as immutable. There is no expiry and no limit on size yet.
package cacheman
