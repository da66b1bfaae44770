package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Deregistering saves a cache and frees its name and its memory. Registered
// again, it has its contents back.
func ExampleManager_Deregister() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	users, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	users.Set("ann", 42)

	if err := m.Deregister(context.Background(), cacheman.Only("users")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Names())
	fmt.Println(users.Set("bob", 23))

	users, err = cacheman.Register(m, "users", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Peek("ann"))
	// Output:
	// []
	// cacheman: set users["bob"]: closed
	// 42 true
}

// What is saved of caches that the program does not have any more can be found, and removed.
func ExampleManager_Unregistered() {
	ctx := context.Background()
	store := memstore.New()
	m, err := cacheman.Open("", cacheman.Options{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"pages", "thumbnails"} {
		c, err := cacheman.Register(m, name, cacheman.Spec[string, int]{})
		if err != nil {
			log.Fatal(err)
		}
		c.Set("index", 1)
	}
	if err := m.Deregister(ctx, cacheman.All()); err != nil { // as a restart would
		log.Fatal(err)
	}
	defer m.Close()

	// Another version of the program has no thumbnails.
	if _, err := cacheman.Register(m, "pages", cacheman.Spec[string, int]{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Unregistered())
	if err := m.Invalidate(cacheman.Only(m.Unregistered()...)); err != nil {
		log.Fatal(err)
	}
	if err := m.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Unregistered())
	// Output:
	// [thumbnails]
	// []
}

// Lookup finds a registered cache where its handle is not at hand.
func ExampleLookup() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if _, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{
		Contents: map[string]int{"ann": 42},
	}); err != nil {
		log.Fatal(err)
	}

	users, err := cacheman.Lookup[string, int](m, "users")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Peek("ann"))
	_, err = cacheman.Lookup[string, int](m, "groups")
	fmt.Println(errors.Is(err, cacheman.ErrUnknown))
	_, err = cacheman.Lookup[string, string](m, "users")
	fmt.Println(err)
	// Output:
	// 42 true
	// true
	// cacheman: lookup users: wrong type: it is a map[string]int, not a map[string]string
}
