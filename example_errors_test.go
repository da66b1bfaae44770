package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// An Error says what failed, and where, and unwraps to why.
func ExampleError() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	files, err := cacheman.Register(m, "files", cacheman.Spec[string, []byte]{
		Build: func(_ context.Context, path string) ([]byte, error) { return os.ReadFile(path) },
	})
	if err != nil {
		log.Fatal(err)
	}

	_, err = files.Get(context.Background(), "no/such/file")
	if e, ok := errors.AsType[*cacheman.Error](err); ok {
		fmt.Println(e.Op, e.Cache, e.Key)
	}
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// build files no/such/file
	// true
}

// Without a builder, a key that is not there is an error that matches
// ErrNotFound; Peek says the same without one.
func ExampleCache_Get_notFound() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	users, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}

	_, err = users.Get(context.Background(), "ann")
	fmt.Println(err)
	fmt.Println(errors.Is(err, cacheman.ErrNotFound))
	// Output:
	// cacheman: get users["ann"]: not found
	// true
}

// Builders that need each other are told so, with the path.
func ExampleError_cycle() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	var egg, hen *cacheman.Cache[int, string]
	egg, err1 := cacheman.Register(m, "egg", cacheman.Spec[int, string]{
		Build: func(ctx context.Context, n int) (string, error) { return hen.Get(ctx, n) },
	})
	hen, err2 := cacheman.Register(m, "hen", cacheman.Spec[int, string]{
		Build: func(ctx context.Context, n int) (string, error) { return egg.Get(ctx, n) },
	})
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}

	_, err = egg.Get(context.Background(), 1)
	fmt.Println(err)
	fmt.Println(errors.Is(err, cacheman.ErrCycle))
	// Output:
	// cacheman: get egg[1]: needs itself: hen[1] → egg[1] → hen[1]
	// true
}

// A panic is the error of those who waited, and the program goes on.
func ExamplePanicError() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	ratios, err := cacheman.Register(m, "ratios", cacheman.Spec[int, int]{
		Build: func(_ context.Context, n int) (int, error) { return 100 / n, nil },
	})
	if err != nil {
		log.Fatal(err)
	}

	_, err = ratios.Get(context.Background(), 0)
	if p, ok := errors.AsType[*cacheman.PanicError](err); ok {
		fmt.Println(p.Value, len(p.Stack) > 0)
	}
	// Output: runtime error: integer divide by zero true
}

// A directory that somebody has open already is an error at once, which says
// who has it.
func ExampleOpen_locked() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	_, err = cacheman.Open(dir, cacheman.Options{})
	fmt.Println(errors.Is(err, cacheman.ErrLocked))
	if holder, ok := errors.AsType[*store.LockedError](err); ok {
		fmt.Println(holder.Path == m.Dir(), holder.PID == os.Getpid())
	}
	// Output:
	// true
	// true true
}
