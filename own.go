package cacheman

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// ours begins the names of caches that the package itself has registered. They
// are caches like others, but in no list of names.
const ours = "\x00cacheman "

// plainName is how a cache is called where people see it.
func plainName(name string) string { return strings.TrimPrefix(name, ours) }

// plainKey is what people see of a key of the cache of a name.
func plainKey(name string, key any) any {
	if n, is := key.(int64); is {
		switch name {
		case ours + deadlinesCache:
			return time.Unix(n, 0)
		case ours + clockCache:
			return time.Duration(n)
		}
	}
	return key
}

// The caches of our own, by what follows ours in their names.
const (
	filesCache     = "files"
	metadataCache  = "file metadata"
	modesCache     = "file modes"
	typesCache     = "file types"
	dirsCache      = "directories"
	envCache       = "environment"
	clockCache     = "clock"
	deadlinesCache = "deadlines"
	untrackedCache = "untracked"
	handCache      = "written by hand"
	keysCache      = "keys of "     // and the name of the cache
	keysCount      = "number of "   // likewise
	presenceCache  = "presence in " // likewise
	notesCache     = "notes on "    // likewise; of no registered cache, see annotated
	standingCache  = "standing of " // likewise; see standing
)

// own returns the cache that the package has registered under a name, after
// registering it if need be.
func own[K comparable, V any](m *Manager, name string, spec func() Spec[K, V]) (*Cache[K, V], error) {
	return ownOf(m, nil, name, spec)
}

// ownOf is own of a cache that stands for the keys of of, and is not registered when
// that is none any more: whoever has its place has others.
func ownOf[K comparable, V any](m *Manager, of *core, name string, spec func() Spec[K, V]) (*Cache[K, V], error) {
	name = ours + name
	if c, err := Lookup[K, V](m, name); !errors.Is(err, ErrUnknown) {
		return c, err
	}
	c, _, err := register(m, name, spec(), of)
	if errors.Is(err, ErrRegistered) {
		return Lookup[K, V](m, name) // somebody was faster
	}
	return c, wrap(context.Background(), "register", name, nil, err)
}

// nameNow returns the name of a cache that had the given one when a record was
// made.
func (m *Manager) nameNow(name string) string {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if now := m.heir(name); now != nil {
		return now.slot.name
	}
	return name
}

// facets are what the names of the caches that stand for the keys of another begin with.
var facets = []string{keysCache, keysCount, presenceCache}

// ofFacet returns what the name of one of our own caches begins with, and the name of the
// cache whose keys it stands for, if it does.
func ofFacet(name string) (prefix, of string, is bool) {
	if what, isOurs := strings.CutPrefix(name, ours); isOurs {
		for _, prefix := range facets {
			if of, is := strings.CutPrefix(what, prefix); is {
				return prefix, of, true
			}
		}
	}
	return "", "", false
}

// keptFor returns the cache of which something is kept under a name of ours, beside what is kept of
// it elsewhere.
func keptFor(name string) (cache string, is bool) {
	what, isOurs := strings.CutPrefix(name, ours)
	for _, prefix := range []string{notesCache, standingCache} {
		if cache, is = strings.CutPrefix(what, prefix); isOurs && is {
			return cache, true
		}
	}
	return "", false
}

// withFacets adds the caches that stand for the keys of those of cores. The gate is
// held.
func (m *Manager) withFacets(cores []*core) []*core {
	all := slices.Clone(cores)
	for _, c := range cores {
		for _, prefix := range facets {
			if s := m.slots[ours+prefix+c.slot.name]; s != nil && s.cache != nil && !slices.Contains(all, s.cache) {
				all = append(all, s.cache)
			}
		}
	}
	return all
}

// readable returns the registered cache of a name from a record, which may be
// one of our own that nobody has asked for yet.
func (m *Manager) readable(name string) (*core, error) {
	what, isOurs := strings.CutPrefix(name, ours)
	if !isOurs {
		return m.lookup(m.nameNow(name))
	}
	prefix, of, isFacet := ofFacet(name)
	if isFacet {
		of = m.nameNow(of)
		name = ours + prefix + of
	}
	c, err := m.lookup(name)
	if !errors.Is(err, ErrUnknown) {
		return c, err
	}
	err = nil
	switch what {
	case filesCache, metadataCache, modesCache, typesCache, dirsCache:
		_, err = OpenFiles(m)
	case envCache:
		_, err = Env(m)
	case clockCache:
		_, err = clock(m)
	case deadlinesCache:
		_, err = deadlines(m)
	case untrackedCache:
		_, err = untracked(m)
	case handCache:
		_, err = byHand(m)
	default:
		if isFacet {
			if c, err = m.lookup(of); err == nil {
				err = c.provideKeys()
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return m.lookup(name)
}
