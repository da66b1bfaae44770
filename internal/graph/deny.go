package graph

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
)

// denials are reads of builders that are running, without ctx, that could not be answered. There
// are hardly ever any.
var denials struct {
	number atomic.Int64 // of all
	sync.Mutex
	all map[place]error
}

// place is that of a builder that is running: the last of so many on a goroutine.
type place struct {
	goroutine string
	builders  int
}

// here returns the place of the builder that the calling goroutine is executing; it is not one if
// there is none. It costs some microseconds.
func here() (p place) {
	pcs := make([]uintptr, 256)
	n := runtime.Callers(2, pcs)
	for ; n == len(pcs); n = runtime.Callers(2, pcs) {
		pcs = make([]uintptr, 2*n)
	}
	frames := runtime.CallersFrames(pcs[:n])
	for more := n > 0; more; {
		var f runtime.Frame
		if f, more = frames.Next(); f.Func != nil && f.Func.Name() == executeName {
			p.builders++
		}
	}
	var stack [64]byte
	name, _, _ := bytes.Cut(stack[:runtime.Stack(stack[:], false)], []byte(" ["))
	p.goroutine = string(name)
	return p
}

// Deny notes that what the calling goroutine has read cannot be told it for the reason err. If it
// is executing a builder, that is Denied.
func Deny(err error) {
	if building.Load() == 0 {
		return
	}
	p := here()
	if p.builders == 0 {
		return
	}
	denials.Lock()
	defer denials.Unlock()
	if denials.all == nil {
		denials.all = make(map[place]error)
	}
	denials.all[p] = err
	denials.number.Store(int64(len(denials.all)))
}

// Denials returns how many builders there are that something could not be told.
func Denials() int { return int(denials.number.Load()) }

// Denied returns why something could not be told the builder that the calling goroutine is
// executing, since it was asked last, or nil.
func Denied() error {
	if Denials() == 0 {
		return nil
	}
	p := here()
	denials.Lock()
	defer denials.Unlock()
	err := denials.all[p]
	delete(denials.all, p)
	denials.number.Store(int64(len(denials.all)))
	return err
}
