package cacheman_test

import (
	"fmt"
	"log"
	"maps"
	"slices"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// The iterators work with packages maps and slices. They give entries in no
// particular order, and the body of a loop may change the cache.
func ExampleCache_All() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	ages, err := cacheman.Register(m, "ages", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	if err := ages.SetAll(maps.All(map[string]int{"ann": 42, "bob": 23, "cyd": 17})); err != nil {
		log.Fatal(err)
	}

	for name, age := range ages.All() {
		if age < 18 {
			ages.Delete(name)
		}
	}
	fmt.Println(maps.Collect(ages.All())) // a copy, as a Go map
	fmt.Println(slices.Sorted(ages.Keys()))
	fmt.Println(slices.Max(slices.Collect(ages.Values())))
	// Output:
	// map[ann:42 bob:23]
	// [ann bob]
	// 42
}
