package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Edges depend on their root: when the root goes, they go too, as one step.
func ExampleSpec_dependsOn() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	root, err := cacheman.Register(m, "root", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	edge, err := cacheman.Register(m, "edge", cacheman.Spec[string, int]{
		DependsOn: []string{"root"},
		Build: func(_ context.Context, k string) (int, error) {
			raw, _ := root.Peek("raw")
			return raw * 5, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println(edge.Get(ctx, "processed"))
	root.Set("raw", 1)
	fmt.Println(edge.Get(ctx, "processed")) // what was computed before
	root.InvalidateAll()
	fmt.Println("edge holds", edge.Len())
	root.Set("raw", 1)
	fmt.Println(edge.Get(ctx, "processed"))
	// Output:
	// 0 <nil>
	// 0 <nil>
	// edge holds 0
	// 5 <nil>
}

// With DependsOnChange nobody has to say that something has changed.
func ExampleSpec_dependsOnChange() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	prices, err := cacheman.Register(m, "prices", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	total, err := cacheman.RegisterValue(m, "total", cacheman.Spec[cacheman.Single, int]{
		DependsOnChange: []string{"prices"},
		Build: func(context.Context, cacheman.Single) (sum int, _ error) {
			for price := range prices.Values() {
				sum += price
			}
			return sum, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	prices.Set("tea", 3)
	prices.Set("cake", 4)
	fmt.Println(total.Get(ctx))
	prices.Set("cake", 5)
	fmt.Println(total.Get(ctx))
	prices.Delete("tea")
	fmt.Println(total.Get(ctx))
	// Output:
	// 7 <nil>
	// 8 <nil>
	// 5 <nil>
}

// Dependencies can also be declared between caches that are registered
// already, which circles need.
func ExampleManager_Depend() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	for _, name := range []string{"users", "groups"} {
		c, err := cacheman.Register(m, name, cacheman.Spec[string, string]{})
		if err != nil {
			log.Fatal(err)
		}
		c.Set("k", "v")
	}
	if err := m.Depend("groups", "users"); err != nil {
		log.Fatal(err)
	}
	if err := m.Depend("users", "groups"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Depend("users", "gruops"))

	if err := m.Invalidate(cacheman.Only("groups")); err != nil {
		log.Fatal(err)
	}
	for _, stats := range m.Stats() {
		fmt.Println(stats.Cache, stats.Entries)
	}
	// Output:
	// cacheman: depend gruops: no cache of that name is registered
	// groups 0
	// users 0
}

// The four verbs, each tried on a source and a copy that depends on it. Both
// were saved with the value 1, and set to 2 since.
func ExampleManager_verbs() {
	ctx := context.Background()
	try := func(what string, verb func(source *cacheman.Cache[string, int]) error) {
		m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
		if err != nil {
			log.Fatal(err)
		}
		defer m.Close()
		source, err := cacheman.Register(m, "source", cacheman.Spec[string, int]{
			Build: func(context.Context, string) (int, error) { return 3, nil },
		})
		if err != nil {
			log.Fatal(err)
		}
		dependent, err := cacheman.Register(m, "dependent", cacheman.Spec[string, int]{DependsOn: []string{"source"}})
		if err != nil {
			log.Fatal(err)
		}
		source.Set("k", 1)
		dependent.Set("k", 1)
		if err := m.Sync(ctx); err != nil {
			log.Fatal(err)
		}
		source.Set("k", 2)
		dependent.Set("k", 2)

		if err := verb(source); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%-10s", what)
		for _, c := range []*cacheman.Cache[string, int]{source, dependent} {
			if v, ok := c.Peek("k"); ok {
				fmt.Printf("  %s: %d", c.Name(), v)
			} else {
				fmt.Printf("  %s: none", c.Name())
			}
		}
		fmt.Println()
	}

	try("Reload", func(source *cacheman.Cache[string, int]) error { return source.Reload(ctx) })
	try("Invalidate", func(source *cacheman.Cache[string, int]) error { return source.InvalidateAll() })
	try("Touch", func(source *cacheman.Cache[string, int]) error { return source.Touch() })
	try("Rebuild", func(source *cacheman.Cache[string, int]) error { return source.Rebuild(ctx) })
	// Output:
	// Reload      source: 1  dependent: 2
	// Invalidate  source: none  dependent: none
	// Touch       source: 2  dependent: none
	// Rebuild     source: 3  dependent: none
}

// Invalidating a key removes it for good, also if its builder is running.
func ExampleCache_Invalidate() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	version := 1
	pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, string]{
		Build: func(_ context.Context, path string) (string, error) {
			return fmt.Sprintf("%s, version %d", path, version), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	fmt.Println(pages.Get(ctx, "/about"))
	version = 2
	fmt.Println(pages.Get(ctx, "/about"))
	if err := pages.Invalidate("/about"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(pages.Get(ctx, "/about"))
	// Output:
	// /about, version 1 <nil>
	// /about, version 1 <nil>
	// /about, version 2 <nil>
}
