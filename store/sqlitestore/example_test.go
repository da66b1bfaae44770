package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/sqlitestore"
)

// All caches of a Manager in one SQLite database, which other processes may have open too.
func Example() {
	dir, err := os.MkdirTemp("", "sqlitestore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "cache.db")

	for range 2 { // as if the program was started twice
		s, err := sqlitestore.Open(path, sqlitestore.Options{})
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
