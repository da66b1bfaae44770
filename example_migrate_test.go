package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/cacheman-go/cacheman"
)

// A cache that was called "pages" had numbers as text. It is called "sizes"
// now, and has numbers.
func ExampleSpec_migrate() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	m, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, string]{})
	if err != nil {
		log.Fatal(err)
	}
	pages.Set("index", "1200")
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}

	if m, err = cacheman.Open(dir, cacheman.Options{}); err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	sizes, err := cacheman.Register(m, "sizes", cacheman.Spec[string, int]{
		Formerly: []string{"pages"},
		Migrate: func(_ context.Context, from cacheman.Saved, page string, data []byte) (int, error) {
			fmt.Println(page, "was saved by codec", from.Codec)
			return strconv.Atoi(string(data))
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sizes.Get(ctx, "index"))
	// Output:
	// index was saved by codec raw
	// 1200 <nil>
}
