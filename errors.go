package cacheman

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman/internal/flight"
	"github.com/cacheman-go/cacheman/internal/graph"
	"github.com/cacheman-go/cacheman/store"
)

// Errors of reading and building.
var (
	// ErrNotFound is returned by Get for a key that the cache does not hold
	// and cannot build. Builders return it to say that there is no value.
	ErrNotFound = errors.New("not found")

	// ErrCycle is matched by the error of a Get that would wait for itself:
	// builders that need each other's results. The error's text has the path.
	ErrCycle = errors.New("builders need each other")

	// ErrInBuilder is returned by writes that a builder makes: what a builder
	// does is to be seen by those who read its result, and by nobody else.
	// Writes are noticed on the goroutine of the builder.
	ErrInBuilder = errors.New("a builder must not write to caches")

	// ErrStale is what a builder gets from a Get after something it read
	// before has changed. It should return; it will be called again. From a
	// builder that nobody has told so it is an error like any other.
	ErrStale = graph.ErrStale
)

// Errors of registering and using caches.
var (
	// ErrClosed is returned by operations on a closed Manager, and on a
	// cache that was deregistered.
	ErrClosed = errors.New("closed")

	// ErrUnknown is returned for the name of a cache nobody registered.
	ErrUnknown = errors.New("no cache of that name is registered")

	// ErrRegistered is returned by Register for a name that is taken.
	ErrRegistered = errors.New("a cache of that name is registered already")

	// ErrType is returned when a name belongs to a cache of other types, and
	// by Register for types that cannot be stored.
	ErrType = errors.New("wrong type")

	// ErrSpec is returned by Register for a Spec that contradicts itself,
	// and for names that are empty, too long or not UTF-8.
	ErrSpec = errors.New("invalid specification")
)

// ErrInvariant is wrapped by what Manager.Check yields.
var ErrInvariant = errors.New("what must always hold does not")

// Errors of what is on disk; they are those of package store.
var (
	// ErrLocked is returned by Open for a directory that a Manager has open,
	// in this process or another. The error names the holder.
	ErrLocked = store.ErrLocked

	// ErrCorrupt is wrapped by errors about bytes that are not what was
	// written.
	ErrCorrupt = store.ErrCorrupt

	// ErrFormat is returned by Open for a directory that a newer version of
	// this package wrote.
	ErrFormat = store.ErrFormat

	// ErrReadOnly is returned by writes to caches of a Manager that was
	// opened with ReadOnly.
	ErrReadOnly = store.ErrReadOnly

	// ErrUnfinished is returned by Open for what is left of a Backup that was
	// interrupted.
	ErrUnfinished = store.ErrUnfinished
)

// Error says which operation failed, on which cache and key. All errors of
// this package are of this type, except that of a caller's ctx that ended. It
// unwraps to its cause.
type Error struct {
	Op    string // the method, in lower case: "get", "sync", "register", …
	Cache string // "" if no single cache is concerned
	Key   any    // nil if no single key is concerned
	Err   error
}

func (e *Error) Error() string {
	where := ""
	if e.Cache != "" {
		where = " " + entryName(e.Cache, e.Key)
	}
	return "cacheman: " + e.Op + where + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Is lets a cycle match ErrCycle and a closed store ErrClosed.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrCycle:
		_, ok := e.Err.(*flight.CycleError)
		return ok
	case ErrClosed:
		return errors.Is(e.Err, store.ErrClosed)
	}
	return false
}

// wrap puts err under an *Error, unless it is one already (the innermost names
// the place where it happened) or says only that ctx ended.
func wrap(ctx context.Context, op, cache string, key any, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		if cause := flight.Cause(ctx); err == ended || err == cause {
			return cause
		}
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Op: op, Cache: plainName(cache), Key: key, Err: err}
}

// entryName is how an entry is written in errors, paths and logs.
func entryName(cache string, key any) string {
	key = plainKey(cache, key)
	cache = plainName(cache)
	switch k := key.(type) {
	case nil, Single:
		return cache
	case string:
		return fmt.Sprintf("%s[%q]", cache, k)
	default:
		return fmt.Sprintf("%s[%v]", cache, k)
	}
}

// resultOf tells whether err, of a builder or of Cache.get, is a result: that there is no
// value, or what is to be kept. If it is neither, it is a failure.
func resultOf(err error) (none bool, kept *KeptError) {
	for e, is := err.(*Error); is; e, is = err.(*Error) {
		err = e.Err
	}
	kept, is := err.(*KeptError)
	switch {
	case is:
		return false, kept
	case err == ErrNotFound:
		return true, nil
	case isResult(err):
		return false, &KeptError{err.Error(), err}
	}
	return false, nil
}

// isResult reports whether err says nothing but what is a result, with whatever words
// around it.
func isResult(err error) bool {
	if _, kept := err.(*KeptError); kept || err == ErrNotFound {
		return true
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return isResult(err.Unwrap())
	case interface{ Unwrap() []error }:
		all := err.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(e error) bool { return !isResult(e) })
	}
	return false
}

// isNone reports whether err, of Cache.get, says that there is no value.
func isNone(err error) bool {
	none, kept := resultOf(err)
	return none || kept != nil && errors.Is(kept, ErrNotFound)
}

// failure returns err, of Cache.get, unless that is a result.
func failure(err error) error {
	if none, kept := resultOf(err); none || kept != nil {
		return nil
	}
	return err
}

// KeptError is an error that is a result: it is kept like a value, with what
// the builder had read, and given to all who ask for the entry until that
// changes. After that run of the builder only its text is left, and whether it matches
// [ErrNotFound].
type KeptError struct {
	Text string
	Err  error // later ErrNotFound or nil
}

// Keep makes err, from a builder, an error that is kept. It returns nil for nil.
func Keep(err error) error {
	if err == nil {
		return nil
	}
	return &KeptError{err.Error(), err}
}

func (e *KeptError) Error() string { return e.Text }

func (e *KeptError) Unwrap() error { return e.Err }

// PanicError is the error of a hook or builder that panicked, or that ended
// its goroutine. If it panicked with an error, it unwraps to that.
type PanicError struct {
	Value any    // what panic was called with; nil after runtime.Goexit
	Stack []byte // of the goroutine; the error says the line, and a log of events all
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "called runtime.Goexit"
	}
	return fmt.Sprintf("panicked%s: %v", e.where(), e.Value)
}

// where returns the file and the line that panicked, if the stack says so.
func (e *PanicError) where() string {
	_, stack, _ := strings.Cut(string(e.Stack), "\npanic(")
	lines := strings.Split(stack, "\n")
	for i := 2; i+1 < len(lines); i += 2 { // a function, and where in it
		if !strings.HasPrefix(lines[i], "runtime.") { // which panics for others
			file, _, _ := strings.Cut(path.Base(filepath.ToSlash(lines[i+1])), " ")
			return " at " + file
		}
	}
	return ""
}

func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guard calls f, which is user code, and turns a panic into its error. For
// runtime.Goexit, which cannot be stopped, *err is set before the goroutine
// ends; whoever depends on f's end must do its part in a deferred call.
func guard(err *error, f func() error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		*err = &PanicError{Value: recover(), Stack: debug.Stack()}
	}()
	*err = f()
	returned = true
}
