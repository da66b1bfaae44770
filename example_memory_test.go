package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// One cache that is never written, and whose types need no encoding.
func ExampleSpec_memory() {
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

	handlers, err := cacheman.Register(m, "handlers", cacheman.Spec[string, func() string]{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	handlers.Set("hello", func() string { return "hello, world" })
	if f, ok := handlers.Peek("hello"); ok {
		fmt.Println(f())
	}
	if err := handlers.Reload(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after Reload:", handlers.Len())
	// Output:
	// hello, world
	// after Reload: 0
}

// A whole Manager without a directory, as tests want it. Saving and reloading
// work, but nothing outlives the process.
func ExampleOptions_store() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	users, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	users.Set("ann", 42)
	if err := m.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	users.Set("ann", 43)
	if err := users.Reload(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Peek("ann"))
	fmt.Printf("%q\n", m.Dir())
	// Output:
	// 42 true
	// ""
}
