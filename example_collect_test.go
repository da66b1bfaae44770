package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// observed is a cache of numbers, and one value that is built from it by
// build. show says what it is, and whether the builder has run for it.
func observed(build func(ctx context.Context, in *cacheman.Cache[string, int]) (string, error)) (in *cacheman.Cache[string, int], show func(), done func() error) {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	in, err = cacheman.Register(m, "in", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	ran := ""
	out, err := cacheman.RegisterValue(m, "out", cacheman.Spec[cacheman.Single, string]{
		Build: func(ctx context.Context, _ cacheman.Single) (string, error) {
			ran = ", built"
			return build(ctx, in)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	return in, func() {
		ran = ""
		s, err := out.Get(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(s + ran)
	}, m.Close
}

// Collect depends on the keys and on every value.
func ExampleCache_Collect() {
	prices, show, done := observed(func(ctx context.Context, in *cacheman.Cache[string, int]) (string, error) {
		all, err := in.Collect(ctx)
		sum := 0
		for _, price := range all {
			sum += price
		}
		return fmt.Sprint("sum ", sum), err
	})
	defer done()
	prices.Set("tea", 3)
	prices.Set("cake", 4)
	show()
	show()
	prices.Set("cake", 5)
	show()
	prices.Delete("tea")
	show()
	// Output:
	// sum 7, built
	// sum 7
	// sum 8, built
	// sum 5, built
}

// CollectKeys depends on which keys there are, and not on values.
func ExampleCache_CollectKeys() {
	prices, show, done := observed(func(ctx context.Context, in *cacheman.Cache[string, int]) (string, error) {
		keys, err := in.CollectKeys(ctx)
		return strings.Join(keys, " "), err
	})
	defer done()
	prices.Set("tea", 3)
	show()
	prices.Set("tea", 4)
	show()
	prices.Set("cake", 4)
	show()
	// Output:
	// tea, built
	// tea
	// cake tea, built
}

// Contains depends on whether there is an entry, and not on its value.
func ExampleCache_Contains() {
	prices, show, done := observed(func(ctx context.Context, in *cacheman.Cache[string, int]) (string, error) {
		has, err := in.Contains(ctx, "tea")
		return fmt.Sprint("tea: ", has), err
	})
	defer done()
	show()
	prices.Set("cake", 4)
	show()
	prices.Set("tea", 3)
	show()
	prices.Set("tea", 4)
	show()
	// Output:
	// tea: false, built
	// tea: false
	// tea: true, built
	// tea: true
}

// Count depends on the number of entries.
func ExampleCache_Count() {
	prices, show, done := observed(func(ctx context.Context, in *cacheman.Cache[string, int]) (string, error) {
		n, err := in.Count(ctx)
		return fmt.Sprint("on offer: ", n), err
	})
	defer done()
	prices.Set("tea", 3)
	show()
	prices.Set("cake", 4)
	show()
	prices.Set("cake", 5)
	show()
	// Output:
	// on offer: 1, built
	// on offer: 2, built
	// on offer: 2
}
