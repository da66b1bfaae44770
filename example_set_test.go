package cacheman_test

import (
	"fmt"
	"log"
	"slices"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A cache of keys without values.
func ExampleRegisterSet() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	seen, err := cacheman.RegisterSet(m, "seen", cacheman.Spec[string, struct{}]{})
	if err != nil {
		log.Fatal(err)
	}
	if err := seen.Add("a.go", "b.go", "c.go", "a.go"); err != nil {
		log.Fatal(err)
	}
	if err := seen.Remove("b.go"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(seen.Has("a.go"), seen.Has("b.go"), seen.Len())
	fmt.Println(slices.Sorted(seen.All()))
	// Output:
	// true false 2
	// [a.go c.go]
}
