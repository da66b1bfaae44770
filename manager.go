package cacheman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// Options configure a Manager. The zero value is a good choice.
type Options struct {
	// Program names the default directory. If it is empty, the import path
	// of the running program's main package does.
	Program string

	// Store keeps the caches instead of a directory. It is closed with the
	// Manager, and of no other at the same time, unless it is a store.Sharer. With
	// memstore.New() nothing outlives the process.
	Store store.Store

	// ReadOnly opens what is saved for reading, also while another Manager,
	// mostly of another process, has it open, which does not notice. Nothing
	// is ever written: what changes entries fails with ErrReadOnly. What is
	// stale or missing is built in memory as ever. It shows what was saved
	// when it was opened, or at the last Follow.
	ReadOnly bool

	// FollowEvery is how often Follow is called by itself; 0 means never.
	// Failures are events. It is possible only with ReadOnly.
	FollowEvery time.Duration

	// Autosync says when changes are saved, for caches that do not say it
	// themselves; nil means ClassicRules.
	Autosync *Autosync

	// Limit bounds how much is kept of what builders of entries have made, in
	// all caches that are registered and have such a builder.
	Limit Limit

	// Off turns all caches off; see Spec.Off.
	Off bool

	// Logger gets every event as a record. Nil means none.
	Logger *slog.Logger

	// Observe is called with every event, from the goroutine in which it
	// happened, which waits for it. It may be called by many at once, and use caches; but where
	// something was built, that is in a builder, in which writes fail. What is just being built, or could not be
	// loaded, it must not ask for, and when something was, or could not be, saved, loaded or invalidated, it must not
	// wait for a sync, as Sync, Reload, Rebuild, DeleteSaved, Deregister and Close do: it may wait for itself
	// then. The first panic of Observe, or of Logger, is returned by Close; nothing else comes of it.
	Observe func(Event)
}

// Manager owns one directory, the named caches in it, and the dependencies
// between them. Its methods may be called concurrently.
type Manager struct {
	opts   Options
	dir    string
	store  store.Store
	opened time.Time
	graph  *graph.Graph

	// gate is held shared by whoever changes entries of one cache, and
	// exclusively, and shortly, by whoever does something that concerns
	// contents as a whole, or several caches, and must be seen as one step.
	// No user code runs and nothing blocks while it is held. Reads of
	// entries do not take it. Locks of shards and lanes are taken after it.
	gate  sync.RWMutex
	slots map[string]*slot      // guarded by gate
	lanes map[store.Store]*lane // of the stores in use; guarded by gate

	closed bool // guarded by gate
	ended  bool // nothing is saved any more; guarded by gate

	noteLater noteLater

	unloadable map[*core]error // what Close could not load; guarded by gate

	renamed map[string]string // new names of caches by those in old records; guarded by gate

	main   *lane         // the lane of store
	mark   atomic.Uint64 // a revision that store, if it is not shared, has, and no stamp in it is above; changed only by who has locked main
	passed atomic.Bool   // there is a cache that passes

	stamps stamps // that are reserved in stores that are shared

	partialFrom int64            // the constants of fetch.go
	readCost    int64            // and
	pruneFrom   int              // prune.go, but for tests
	now         func() time.Time // time.Now, but for tests

	untold atomic.Pointer[error] // why somebody was not told of an event; nil if all were

	limiter *limiter // of Options.Limit; nil if there is none

	timers struct {
		sync.Mutex
		all map[any]*time.Timer // by what they are for: a cache or its name, or m
	}

	alarms alarms // by granularities as a Duration, and times in Unix seconds

	deadlines atomic.Uint64 // how many times it was asked whether one has passed, and it had not

	ctx     context.Context // ends at Close
	cancel  context.CancelCauseFunc
	closing atomic.Bool
	done    chan struct{} // closed when m is
	err     error         // what Close returns; valid when done is closed
}

// slot is a name: what is known of a cache, whether or not it is registered
// in this process. The gate guards it.
type slot struct {
	name        string
	cache       *core // nil while nobody has it registered
	lane        *lane // where its contents are saved; nil if nowhere
	dependents  []dependent
	dependsOn   []dependency
	changes     changes
	noted       []byte  // its standing, as the Manager's own store has it, or will before it matters; nil if there is none
	dropped     bool    // invalidated, and the store does not know it yet
	dropping    bool    // that is being saved
	stored      bool    // the store has contents
	deleted     bool    // they were deleted there, and those in memory are to be saved when there is a reason
	description []byte  // as the store has it
	former      []*core // what was deregistered under the name, with its facets, and may be what others were computed from
	bytes       int64   // about how many they take; -1 = not known
	records     int     // about how many the store has, see about; -1 = not known

	listed bool // in lane.pending; guarded by lane.mu
}

// void reports that what the store has of s does not count, for it was invalidated. The
// gate is held.
func (s *slot) void() bool { return s.dropped || s.dropping }

// Open opens the Manager of a directory, which is created if need be. An empty
// dir stands for a directory of this program in the user's cache directory.
//
// One Manager at a time may have a directory open, besides any number with
// ReadOnly; to others Open answers at once with an error that matches ErrLocked
// and says who has it. Open reads no
// contents of caches; damage it finds is an event, not an error.
func Open(dir string, opts Options) (*Manager, error) {
	return open(dir, opts, logstore.Open)
}

// OpenWait is Open, but if somebody has the directory open it waits until that
// ends. If ctx ends first, the error matches both ErrLocked and that of ctx.
func OpenWait(ctx context.Context, dir string, opts Options) (*Manager, error) {
	return open(dir, opts, func(dir string, opts logstore.Options) (*logstore.Store, error) {
		return logstore.OpenWait(ctx, dir, opts)
	})
}

func open(dir string, opts Options, openDir func(string, logstore.Options) (*logstore.Store, error)) (*Manager, error) {
	err := errors.Join(opts.Autosync.check(), opts.Limit.check(false))
	if opts.FollowEvery > 0 && !opts.ReadOnly {
		err = errors.Join(err, fmt.Errorf("%w: FollowEvery is for a Manager with ReadOnly", ErrSpec))
	}
	if err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	m := &Manager{
		opts:   opts,
		opened: time.Now(),
		graph:  graph.New(),
		slots:  make(map[string]*slot),
		lanes:  make(map[store.Store]*lane),

		renamed: make(map[string]string),

		done: make(chan struct{}),

		partialFrom: partialFrom,
		readCost:    readCost,
		pruneFrom:   pruneFrom,
		now:         time.Now,
	}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.limiter = newLimiter(m, opts.Limit, nil)
	if err := m.openStore(dir, openDir); err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	if opts.ReadOnly {
		m.graph.Raise(unsaved) // the writer's are below that
	}
	m.main = m.laneOf(m.store)
	infos, err := m.store.Caches(m.ctx)
	if err == nil {
		err = m.reserveStamps(m.ctx, m.store)
	}
	if err != nil {
		return nil, &Error{Op: "open", Err: errors.Join(err, m.store.Close())}
	}
	for _, info := range infos {
		if info.Cache == revisions {
			rev := revisionOf(info.Description)
			m.mark.Store(rev)
			if !opts.ReadOnly && !shared(m.store) { // there what is issued was reserved
				rev += leftOut
			}
			m.graph.Raise(rev)
			continue
		}
		s := m.slot(info.Cache)
		s.lane = m.main
		s.know(info)
	}
	for _, info := range infos { // after all slots are there
		if info.Cache == revisions {
			continue
		}
		m.restoreDependencies(m.slots[info.Cache])
	}
	m.main.base = m.graph.Revision()
	if used, is := m.store.(interface{ Used() bool }); is && m.main.base == 0 && used.Used() {
		m.graph.Raise(1 + rand.Uint64N(startBelow))
	}
	for _, info := range infos { // which may issue stamps
		m.restoreStanding(info)
	}
	m.followEvery()
	return m, nil
}

// about returns about how many records a cache has.
func about(info store.Info) int {
	if info.Records < 0 && info.AtMost > 0 {
		return info.AtMost
	}
	return info.Records
}

// know notes what the store has under the name. The gate is held exclusively,
// or the Manager not yet shared.
func (s *slot) know(info store.Info) {
	s.stored, s.records, s.bytes, s.description = true, about(info), info.Bytes, info.Description
}

// knowIn is know if s, which is not registered, is not known to be kept elsewhere than in l. The gate is held exclusively.
func (s *slot) knowIn(l *lane, info store.Info) {
	if s.cache == nil && (s.lane == nil || s.lane == l) {
		s.lane = l
		s.know(info)
	}
}

func (m *Manager) openStore(dir string, open func(string, logstore.Options) (*logstore.Store, error)) (err error) {
	if m.opts.Store != nil {
		if dir != "" {
			return fmt.Errorf("%w: both a directory and Options.Store are given", ErrSpec)
		}
		m.store = m.opts.Store
		return distinct(m.store)
	}
	if dir == "" {
		if dir, err = defaultDir(m.opts.Program); err != nil {
			return err
		}
	}
	if m.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	opts := logstore.Options{Observe: func(e logstore.Event) {
		m.emit(Event{Kind: EventStore, Reason: e.String(), Err: e.Err})
	}}
	// In two steps, for a nil pointer must not become a Store.
	if m.opts.ReadOnly {
		r, err := logstore.OpenReader(m.dir, opts)
		if err != nil {
			return err
		}
		m.store = r
		return nil
	}
	s, err := open(m.dir, opts)
	if err != nil {
		return err
	}
	m.store = s
	return nil
}

// defaultDir is a directory for program in the user's cache directory.
func defaultDir(program string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no default directory, name one: %w", err)
	}
	if program == "" {
		if info, ok := debug.ReadBuildInfo(); ok {
			program = info.Path
		}
	}
	if program == "" || program == "command-line-arguments" {
		program = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	}
	name, err := filepath.Localize(program)
	if err != nil {
		return "", fmt.Errorf("no default directory for program %q: %w", program, err)
	}
	return filepath.Join(base, name), nil
}

// Dir returns the directory of m, or "" if it has none.
func (m *Manager) Dir() string { return m.dir }

// Names returns the names of the registered caches in alphabetical order.
func (m *Manager) Names() []string {
	m.gate.RLock()
	defer m.gate.RUnlock()
	var names []string
	for name, s := range m.slots {
		if s.cache != nil && !strings.HasPrefix(name, ours) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Unregistered returns the names, in alphabetical order, under which something is saved
// and no cache is registered: they are another program's, or those of an earlier
// version, or are yet to be registered. [Manager.Invalidate] removes them.
func (m *Manager) Unregistered() []string {
	m.gate.RLock()
	defer m.gate.RUnlock()
	var names []string
	for name, s := range m.slots {
		if m.left(s) && !strings.HasPrefix(name, ours) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// left reports that something is saved of s, which is not registered, under this name or
// another. The gate is held.
func (m *Manager) left(s *slot) bool {
	return s.cache == nil && s.stored && !s.void() && m.heir(s.name) == nil
}

// slot returns the slot of name, making it if it is new. The gate is held
// exclusively, or m not yet shared.
func (m *Manager) slot(name string) *slot {
	s := m.slots[name]
	if s == nil {
		s = &slot{name: name, records: -1}
		m.slots[name] = s
	}
	return s
}

// untilClosed returns a ctx that ends with ctx, or when the Manager begins to
// close. What runs while it is closing already is not concerned.
func (m *Manager) untilClosed(ctx context.Context) (_ context.Context, done func()) {
	if m.ctx.Err() != nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// ended returns err, the error of something that ran with ctx, or ErrClosed if
// it failed because the Manager was closed.
func ended(ctx context.Context, err error) error {
	if err != nil && flight.Cause(ctx) == ErrClosed {
		return ErrClosed
	}
	return err
}

// Close saves what is unsaved and closes m: Shutdown without a limit of time.
func (m *Manager) Close() error { return m.Shutdown(context.Background()) }

// Shutdown saves what is unsaved and closes m. A write that comes while it is
// beginning is saved, or fails with ErrClosed, as all do that come later. Running
// builders are cancelled, and who waits for them gets ErrClosed; reads give what is in memory until it has returned. If
// saving fails, or ctx ends first, the error is returned and what is unsaved is lost,
// but m is closed all the same; to be able to try again, call Sync before. The default
// store compacts then what is overdue, as far as ctx lets it. Further calls wait for
// the first to complete and return its error, or until their own ctx ends.
func (m *Manager) Shutdown(ctx context.Context) error {
	if m.closing.Swap(true) {
		select {
		case <-m.done:
			return m.err
		case <-ctx.Done():
			return flight.Cause(ctx)
		}
	}
	m.err = &Error{Op: "close", Err: exited} // unless hooks, and who observes, return
	closeStore := sync.OnceValue(func() error {
		if s, ok := m.store.(store.Shutdowner); ok {
			return s.Shutdown(ctx)
		}
		return m.store.Close()
	})
	defer func() {
		closeStore() // already, unless a hook or an observer has ended the goroutine
		close(m.done)
	}()
	m.stopLimits(ctx)
	m.loadHand(ctx)
	m.lockOutdated(ctx) // later nothing is loaded any more
	m.closed = true
	lanes := slices.Collect(maps.Values(m.lanes))
	cores := make([]*core, 0, len(m.slots))
	for _, s := range m.slots {
		if s.cache != nil {
			cores = append(cores, s.cache)
			if s.lane != nil && s.lane.store == nil {
				lanes = append(lanes, s.lane)
			}
		}
	}
	m.gate.Unlock()

	m.graph.Close(ErrClosed) // first, for a builder may make something of what is not loaded any more
	m.cancel(ErrClosed)
	m.stopTimers()
	var errs error
	func() {
		defer func() {
			for _, l := range lanes {
				l.stop()
			}
			m.gate.Lock() // nothing that is being loaded is put in place any more
			m.ended = true
			for _, c := range cores {
				c.state.Store(stateClosed)
			}
			m.gate.Unlock()
		}()
		errs = syncAll(ctx, lanes, cutEdited, nil)
	}()
	errs = errors.Join(errs, closeStore())
	if untold := m.untold.Load(); untold != nil {
		errs = errors.Join(errs, fmt.Errorf("telling of an event: %w", *untold))
	}
	m.err = wrap(ctx, "close", "", nil, errs)
	return m.err
}

// lockOutdated locks the gate exclusively when the contents are loaded that another
// version has saved, so that they are not taken for those of this one after the next
// save, those that were written to before, and those that a hook is to save. What cannot be
// loaded is in m.unloadable then.
func (m *Manager) lockOutdated(ctx context.Context) {
	failed := make(map[*core]error)
	for {
		var cores []*core
		m.gate.Lock()
		for _, s := range m.slots {
			c := s.cache
			if c == nil || c.lane == nil || failed[c] != nil || c.state.Load() != stateUnloaded || m.opts.ReadOnly {
				continue
			}
			if c.typed.outdated() || c.typed.early() || c.lane.store == nil && c.edits.Load() > 0 { // a hook gets the whole
				cores = append(cores, c)
			}
		}
		if len(cores) == 0 {
			m.unloadable = failed
			return
		}
		m.gate.Unlock()
		for _, c := range cores {
			if err := c.typed.prepare(ctx, false); err != nil {
				failed[c] = err
			}
		}
	}
}
