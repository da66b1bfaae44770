package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A Limit bounds how much is kept. What was computed from an evicted value
// stays valid, as long as there are not more evicted entries than others.
func ExampleLimit() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	pages, err := cacheman.Register(m, "pages", cacheman.Spec[int, string]{
		Limit: cacheman.Limit{Entries: 5},
		Build: func(ctx context.Context, n int) (string, error) {
			return strings.Repeat("a long page ", n), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	words, err := cacheman.Register(m, "words", cacheman.Spec[int, int]{
		Build: func(ctx context.Context, n int) (int, error) {
			page, err := pages.Get(ctx, n)
			return len(strings.Fields(page)), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for n := range 10 {
		if _, err := words.Get(ctx, n); err != nil {
			log.Fatal(err)
		}
	}
	n, err := words.Get(ctx, 2)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Close(); err != nil { // completes what is under way
		log.Fatal(err)
	}
	fmt.Println(n, "words, known without the page")
	fmt.Println(pages.Stats().Builds, "pages were built,", pages.Stats().Evictions, "evicted")
	// Output:
	// 6 words, known without the page
	// 10 pages were built, 5 evicted
}
