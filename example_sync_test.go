package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// One Sync saves changes in all caches, as one atomic batch. What it saved
// is there after a crash: here a copy of the directory, made while the Manager
// is open, stands for what a crash leaves.
func ExampleManager_Sync() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	left, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(left)

	open := func(dir string) (m *cacheman.Manager, from, to *cacheman.Cache[string, int], err error) {
		m, err = cacheman.Open(dir, cacheman.Options{})
		if err != nil {
			return nil, nil, nil, err
		}
		from, err1 := cacheman.Register(m, "from", cacheman.Spec[string, int]{})
		to, err2 := cacheman.Register(m, "to", cacheman.Spec[string, int]{})
		return m, from, to, errors.Join(err1, err2)
	}
	m, from, to, err := open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	from.Set("ann", 90)
	to.Set("bob", 10)
	if err := m.Sync(context.Background()); err != nil {
		log.Fatal(err)
	}
	from.Set("ann", 80) // not synced
	to.Set("bob", 20)

	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		log.Fatal(err)
	}
	m2, from, to, err := open(left)
	if err != nil {
		log.Fatal(err)
	}
	defer m2.Close()
	fmt.Println(from.Peek("ann"))
	fmt.Println(to.Peek("bob"))
	// Output:
	// 90 true
	// 10 true
}

// The same operations for one cache, one with its dependents, or all.
func ExampleWithDependents() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, c := range []struct {
		name      string
		dependsOn []string
	}{{"source", nil}, {"parsed", []string{"source"}}, {"report", []string{"parsed"}}, {"other", nil}} {
		c, err := cacheman.Register(m, c.name, cacheman.Spec[string, int]{DependsOn: c.dependsOn})
		if err != nil {
			log.Fatal(err)
		}
		c.Set("k", 1)
	}
	unsaved := func() (names []string) {
		for _, s := range m.Stats() {
			if s.Dirty > 0 {
				names = append(names, s.Cache)
			}
		}
		return names
	}

	ctx := context.Background()
	for _, scope := range []cacheman.Scope{
		cacheman.Only("source"),
		cacheman.WithDependents("source"),
		cacheman.All(),
	} {
		if err := m.Sync(ctx, scope); err != nil {
			log.Fatal(err)
		}
		fmt.Println("unsaved:", unsaved())
	}
	// Output:
	// unsaved: [other parsed report]
	// unsaved: [other]
	// unsaved: []
}

// Shutdown is Close with a limit of time.
func ExampleManager_Shutdown() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	slow, err := cacheman.Register(m, "slow", cacheman.Spec[string, int]{
		Save: func(ctx context.Context, _ map[string]int) error {
			<-ctx.Done() // a server that does not answer
			return ctx.Err()
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	slow.Set("k", 1)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(m.Shutdown(ctx))
	fmt.Println(slow.Set("k", 2))
	// Output:
	// cacheman: close: context deadline exceeded
	// cacheman: set slow["k"]: closed
}
