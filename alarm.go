package cacheman

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// alarms are calls that are due at times of the wall clock. Who reads an entry makes those
// that are due, and looks at the clock only if there are any: no timer could be on time for
// a reader, and timers stand still while a machine sleeps.
type alarms struct {
	first atomic.Int64 // when the first is due, in Unix µs; 0 if there is none

	mu  sync.Mutex // held while they are made: no reader goes on before
	all map[any]alarm
}

type alarm struct {
	at   int64
	call func() // it reads nothing, or it would wait for itself
}

// set has f called when t has come, in place of what was set for the same.
func (a *alarms) set(what any, t time.Time, f func()) {
	if t.Unix() > math.MaxInt64/1_000_000-1 {
		return // it will not come
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = make(map[any]alarm)
	}
	at := max(t.UnixMicro(), 1)
	a.all[what] = alarm{at, f}
	if first := a.first.Load(); first == 0 || at < first {
		a.first.Store(at)
	}
}

// ring makes the calls that are due.
func (m *Manager) ring() {
	a := &m.alarms
	first := a.first.Load()
	if first == 0 || m.now().UnixMicro() < first {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now, next := m.now().UnixMicro(), int64(0)
	for what, x := range a.all {
		if x.at <= now {
			delete(a.all, what)
			x.call()
		} else if next == 0 || x.at < next {
			next = x.at
		}
	}
	a.first.Store(next)
}
