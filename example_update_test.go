package cacheman_test

import (
	"fmt"
	"log"
	"sync"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Update changes a value in one step: concurrent increments lose nothing.
func ExampleCache_Update() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	hits, err := cacheman.Register(m, "hits", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				hits.Update("/", func(n int, _ bool) (int, bool) { return n + 1, true })
			}
		})
	}
	wg.Wait()
	fmt.Println(hits.Peek("/"))

	// Set unless it is there.
	n, err := hits.Update("/", func(n int, ok bool) (int, bool) {
		if ok {
			return n, true
		}
		return 1, true
	})
	fmt.Println(n, err)

	// Take: the value is deleted, and kept in old.
	var old int
	_, err = hits.Update("/", func(n int, _ bool) (int, bool) {
		old = n
		return 0, false
	})
	fmt.Println(old, err, hits.Has("/"))
	// Output:
	// 800 true
	// 800 <nil>
	// 800 <nil> false
}
