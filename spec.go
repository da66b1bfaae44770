package cacheman

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
)

// Spec says what one cache is. Its zero value is a persistent map that is
// loaded at first use and saved by the Manager's autosync rules.
//
// The functions are hooks. Each may be given alone; the others keep their
// defaults. They are called without any lock held, from goroutines of the
// Manager or of the caller, for one cache never two loads or two saves at once.
// A panic in a hook becomes its error. Hooks may use other caches; a hook that
// reads the cache whose contents it is about to provide, or writes to it where others are declared
// to depend on its changes, waits for itself, and so do Save, Delete, BeforeSave and codecs that wait for a sync, as Sync, Reload, Rebuild, DeleteSaved,
// Deregister and Close do, for they are part of one; so may Load, AfterLoad, Migrate and Validate be, where
// contents have to be read before they can be saved.
type Spec[K comparable, V any] struct {
	// Version says what the builders mean. Change it when they are to make
	// other values than before: what was built under another Version is built
	// again when somebody asks for it, and what was set is forgotten, but in a
	// Store that keeps values only. See ProgramVersion for one that changes with
	// the program.
	Version string

	// Memory keeps the cache in memory only: saving does nothing, reloading
	// empties it, and a restart begins afresh.
	Memory bool

	// Off turns the cache off: it holds nothing, every Get builds, every Set
	// is forgotten. Use it to find out whether a cache is to blame.
	Off bool

	// Contents, if not nil, are the cache's contents from the start. They
	// replace what was saved; nothing is loaded and no hook is called.
	Contents map[K]V

	// Build makes the value of one key that the cache does not hold. It runs
	// once for any number of callers who want the key at the same time. The
	// ctx it gets ends when none of them waits any more, or the Manager is
	// closed; reads of other caches should be given that ctx, so that builders
	// that need each other in a circle get ErrCycle rather than wait for ever.
	// An error is given to the callers and is not kept, unless it is
	// ErrNotFound or made by Keep. But of the builders that one Get leads to,
	// each that asks for the key is given the same error; to ask again is to
	// try again.
	Build func(ctx context.Context, key K) (V, error)

	// Probe, in place of Build, asks the world outside what the value of key
	// is now: a file, a variable, another service. It gets the value it gave
	// last, if there is one, also from before a restart, and returns that if
	// nothing has changed. It is called once for a key after a Manager was
	// opened, when somebody asks for the key, and again after Refresh, or when
	// ProbeEvery has passed. If it reads entries with its ctx, it is called again
	// also when one of them has changed. What was computed from a value that turns
	// out to be the same (see Equal) stays valid.
	Probe func(ctx context.Context, key K, previous V, ok bool) (V, error)

	// ProbeEvery is how long what Probe said is trusted; 0 means until Refresh.
	ProbeEvery time.Duration

	// Equal says whether two values are the same to everybody who reads them.
	// If a new value equals the old one, what was computed from that stays
	// valid. Nil means == for types that hold no pointers and no floats, == of what
	// they point to for pointers to such, and otherwise that both encode to the
	// same bytes. Values of caches in memory that can be neither compared nor
	// encoded are never equal. Of a value that was evicted, or that was
	// invalidated before the Manager was opened, there is only a fingerprint of
	// its bytes, and they decide.
	Equal func(a, b V) bool

	// BuildAll makes the whole contents. It is called by the first Get or
	// Load after nothing valid could be loaded or the contents were
	// invalidated, and by Rebuild. What it returns is saved. Reads without
	// ctx (Peek, All, Len, …) do not cause it. When it is called again because something has
	// changed, what Build has made of entries that it does not list stays as long as that is right.
	BuildAll func(ctx context.Context) (map[K]V, error)

	// Eager loads, or else builds, the contents in Register, which then
	// returns the error, instead of at first use.
	Eager bool

	// Load replaces reading the contents from the store. ErrNotFound says that nothing was
	// saved. After any other error BuildAll makes the contents; without one, whoever needs
	// them, except for what was set, gets the error, the next tries again, and until one succeeds nothing is saved
	// that would replace what could not be read. A value that is the one that Load gave or Save
	// was given the last time, as Codec encodes it, is what it was: what it was built from
	// is known, and what was computed from it stays valid. Any other counts as set by hand,
	// also in a cache with a builder: it is not built anew when something changes, nor for
	// another Version, until it is invalidated. With Probe it counts as what that gave
	// last, and is asked for again.
	Load func(ctx context.Context) (map[K]V, error)

	// Save replaces writing changes to the store: it gets the whole contents,
	// in a map that is its own, on every sync in which something changed.
	// Collecting them holds up writers, for some 100 ns per entry. Without a
	// Load to go with it, the cache starts empty.
	Save func(ctx context.Context, contents map[K]V) error

	// Delete is called when the saved contents are to be deleted: by
	// DeleteSaved, and by the sync after an invalidation. If there is no
	// Save, what the store has is deleted as well. If there is a Save but no
	// Delete, Save is called with an empty map instead.
	Delete func(ctx context.Context) error

	// Validate is asked about contents that were loaded. If it returns an
	// error or panics they are not used: the cache is built anew, or empty. What is
	// saved stays until something is built, set or otherwise changed.
	// With it, all values are decoded when the contents are loaded.
	Validate func(ctx context.Context, contents map[K]V) error

	// BeforeSave is applied to each value on its way to the store or to Save;
	// the value in memory stays as it is. If it fails, the entry is not
	// saved: Sync returns the error and the entry stays unsaved.
	BeforeSave func(ctx context.Context, key K, value V) (V, error)

	// AfterLoad is applied to each value that was loaded, before it is first
	// used, and to each value that was built; so a value that is built, saved and
	// loaded passes it twice, and once BeforeSave in between. If it fails for a
	// loaded value, the entry is a miss.
	AfterLoad func(ctx context.Context, key K, value V) (V, error)

	// Migrate makes a value of what was saved under another Version, by another
	// Codec, or when its type had other fields: from says what is known of
	// that, data is what the codec made then, which Migrate owns. It is called
	// for every saved entry when the contents are loaded, all of them at once;
	// an entry for which it fails is a miss with a reason, for ErrNotFound
	// without one. What was computed from a migrated value is built again.
	//
	// Without it, what was built is built again, what was set under another
	// Version or by another Codec is forgotten, with a reason, and fields that
	// what was set has not are zero.
	Migrate func(ctx context.Context, from Saved, key K, data []byte) (V, error)

	// Formerly lists all names that the cache had before. If nothing is saved
	// under its own name, it takes over what is saved under the first of
	// these. None of them may be the name of another cache as long as this
	// one is registered. What was computed from its entries stays valid. When it is
	// invalidated, or what was saved of it deleted, what is under these goes, too.
	Formerly []string

	// DependsOn names caches that this one was computed from. When one of
	// them is invalidated, rebuilt or touched, this one is invalidated too,
	// and so on. The names must be registered. Circles are allowed.
	DependsOn []string

	// DependsOnChange is DependsOn, but setting, updating or deleting any
	// entry of those caches invalidates this one too. That a builder makes an
	// entry on demand is no change: what it makes was the entry's value all
	// along. A builder that iterates over a cache which is filled on demand
	// must fill it first, or be told by Touch.
	DependsOnChange []string

	// Limit bounds how much of the cache is kept. It needs contents that come
	// entry by entry: there must be no BuildAll, Load or Save.
	Limit Limit

	// Autosync says when changes are saved; nil means the Manager's rules.
	Autosync *Autosync

	// Store keeps this cache somewhere else than in the Manager's store. It
	// is not closed by the Manager, and of no other at the same time, unless it is a
	// store.Sharer. Caches that share a Store are synced in one batch. What is saved
	// of the cache in the Manager's store, or where it was kept before since the Manager
	// was opened, is out of date when it is registered, and deleted there, also if an Eager
	// build fails then. What other stores have of it stays, and is its contents when it is
	// kept there again. What comes back from a store that
	// keeps values only (its Caps do not say Described: csvstore, jsonstore) is
	// recognized, as for Load, by what is kept in the Manager's store. Who deletes the Manager's directory, or has lost
	// what was in it to damage, is to delete what is in such stores as well, where it depends on other caches.
	Store store.Store

	// KeyCodec and Codec turn keys and values into bytes. The zero values
	// stand for codec.Key and codec.For, which suit most types. They are not
	// needed, and the types are not restricted, if Memory is set.
	KeyCodec codec.Codec[K]
	Codec    codec.Codec[V]
}

// maxName is the longest name of a cache, in bytes. A store takes 4096, and what caches of
// our own have before it in their names is shorter than the rest.
const maxName = 4000

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrSpec)
	case len(name) > maxName:
		return fmt.Errorf("%w: the name has %d bytes, more than %d", ErrSpec, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name %q is not UTF-8", ErrSpec, name)
	}
	return nil
}

// distinct sees to it that stores can be told from each other.
func distinct(s store.Store) error {
	if !reflect.ValueOf(s).Comparable() {
		return fmt.Errorf("%w: a Store must be comparable; use a pointer", ErrSpec)
	}
	return nil
}

// asWhole reports whether contents are built, loaded or saved as a whole.
func (s *Spec[K, V]) asWhole() bool { return s.BuildAll != nil || s.Load != nil || s.Save != nil }

// complete checks s and fills in its codecs.
func (s *Spec[K, V]) complete() error {
	if s.Memory && (s.Load != nil || s.Save != nil || s.Delete != nil || s.Store != nil) {
		return fmt.Errorf("%w: Memory excludes Load, Save, Delete and Store", ErrSpec)
	}
	if s.Probe != nil && (s.Build != nil || s.BuildAll != nil) {
		return fmt.Errorf("%w: Probe excludes Build and BuildAll", ErrSpec)
	}
	if s.ProbeEvery < 0 || s.ProbeEvery > 0 && s.Probe == nil {
		return fmt.Errorf("%w: ProbeEvery is negative, or there is no Probe", ErrSpec)
	}
	if s.Save != nil && s.Store != nil {
		return fmt.Errorf("%w: Save and Store exclude each other", ErrSpec)
	}
	if err := errors.Join(s.Autosync.check(), s.Limit.check(s.Memory)); err != nil {
		return err
	}
	if s.Limit != (Limit{}) && s.asWhole() {
		return fmt.Errorf("%w: Limit excludes BuildAll, Load and Save", ErrSpec)
	}
	var err1, err2 error
	if s.KeyCodec.Append == nil {
		s.KeyCodec, err1 = codec.Key[K]()
	}
	if s.Codec.Append == nil {
		s.Codec, err2 = codec.For[V]()
	}
	if s.Memory || s.Load != nil && s.Save != nil {
		return nil // not needed, but they help where they are
	}
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: %w", ErrType, err)
	}
	return nil
}

// typeName is how the types of a cache are shown: "map[string]main.User".
func typeName[K comparable, V any]() string {
	return fmt.Sprintf("map[%v]%v", reflect.TypeFor[K](), reflect.TypeFor[V]())
}
