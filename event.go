package cacheman

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Event is something that happened in a Manager: the one source from which
// logs, metrics and pictures are fed. Reads that find their value, and plain
// writes, are no events; they are counted in [Stats].
type Event struct {
	Kind     EventKind
	Cache    string        // "" if it concerns no single cache
	Key      any           // nil if it concerns no single entry
	Count    int           // entries, where that has a meaning
	Bytes    int64         // encoded bytes, where that has a meaning
	Duration time.Duration // how long it took
	Reason   string        // why it happened, where there is more than one reason
	Err      error         // for the kinds that are failures
}

// EventKind says what happened.
type EventKind string

// The kinds of events. Failures are marked by having Err set.
const (
	EventLoaded      EventKind = "loaded"       // contents were read from the store or the Load hook
	EventLoadFailed  EventKind = "load failed"  // they could not be; Reason says what comes instead
	EventBuilt       EventKind = "built"        // a builder made an entry, or with Key nil the whole contents
	EventBuildFailed EventKind = "build failed" // a builder failed
	EventInvalidated EventKind = "invalidated"  // contents or an entry are gone for good; Reason says why
	EventDamaged     EventKind = "damaged"      // something stored could not be used and is a miss now
	EventSynced      EventKind = "synced"       // changes were made durable
	EventSyncFailed  EventKind = "sync failed"  // they were not, and will be tried again
	EventEvicted     EventKind = "evicted"      // values were dropped, because there is a Limit
	EventFollowed    EventKind = "followed"     // another process has saved changes to the cache, which is read anew
	EventStore       EventKind = "store"        // the store did something on its own: recovery, compaction
)

// level is the level at which an event of kind k is logged, if it is no failure.
func (k EventKind) level() slog.Level {
	switch k {
	case EventSyncFailed, EventLoadFailed:
		return slog.LevelError
	case EventDamaged, EventBuildFailed:
		return slog.LevelWarn
	case EventStore:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// emit hands e to the logger and the observer. It is called without locks.
func (m *Manager) emit(e Event) {
	e.Cache, e.Key = plainName(e.Cache), plainKey(e.Cache, e.Key)
	if m.opts.Logger != nil {
		m.tell(func() { m.log(e) })
	}
	if m.opts.Observe != nil {
		m.tell(func() { m.opts.Observe(e) })
	}
}

// tell calls f, which is user code. That it panics is nobody's failure who is at work here.
func (m *Manager) tell(f func()) {
	var err error
	guard(&err, func() error {
		f()
		return nil
	})
	if err != nil {
		m.untold.CompareAndSwap(nil, &err)
	}
}

// log makes a record of e for the logger.
func (m *Manager) log(e Event) {
	level := e.Kind.level()
	switch {
	case e.Kind == EventBuildFailed && errors.Is(e.Err, context.Canceled):
		level = slog.LevelDebug // nobody waits for it any more
	case e.Err != nil:
		level = max(level, slog.LevelWarn)
	}
	if log := m.opts.Logger; log.Enabled(context.Background(), level) {
		attrs := make([]slog.Attr, 0, 8)
		if e.Cache != "" {
			attrs = append(attrs, slog.String("cache", e.Cache))
		}
		if e.Key != nil {
			attrs = append(attrs, slog.Any("key", e.Key))
		}
		if e.Count != 0 {
			attrs = append(attrs, slog.Int("count", e.Count))
		}
		if e.Bytes != 0 {
			attrs = append(attrs, slog.Int64("bytes", e.Bytes))
		}
		if e.Duration != 0 {
			attrs = append(attrs, slog.Duration("duration", e.Duration))
		}
		if e.Reason != "" {
			attrs = append(attrs, slog.String("reason", e.Reason))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.Any("err", e.Err))
			if p, is := errors.AsType[*PanicError](e.Err); is {
				attrs = append(attrs, slog.String("stack", string(p.Stack)))
			}
		}
		log.LogAttrs(context.Background(), level, "cacheman: "+string(e.Kind), attrs...)
	}
}

// watched reports whether anybody listens to events of kind k.
func (m *Manager) watched(k EventKind) bool {
	return m.opts.Observe != nil ||
		m.opts.Logger != nil && m.opts.Logger.Enabled(context.Background(), k.level())
}
