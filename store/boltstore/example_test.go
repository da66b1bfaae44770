package boltstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

// All caches of a Manager in one bbolt database.
func Example() {
	dir, err := os.MkdirTemp("", "boltstore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "cache.db")

	for range 2 { // as if the program was started twice
		s, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			log.Fatal(err)
		}
		m, err := cacheman.Open("", cacheman.Options{Store: s})
		if err != nil {
			log.Fatal(err)
		}
		squares, err := cacheman.Register(m, "squares", cacheman.Spec[int, int]{
			Build: func(_ context.Context, n int) (int, error) {
				fmt.Println("building", n)
				return n * n, nil
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		n, err := squares.Get(context.Background(), 12)
		fmt.Println(n, err)
		if err := m.Close(); err != nil { // saves, and closes the store
			log.Fatal(err)
		}
	}
	// Output:
	// building 12
	// 144 <nil>
	// 144 <nil>
}
