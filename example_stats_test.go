package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

func ExampleManager_Stats() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	cubes, err := cacheman.Register(m, "cubes", cacheman.Spec[int, int]{
		Build: func(_ context.Context, n int) (int, error) { return n * n * n, nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := cacheman.RegisterSet(m, "seen", cacheman.Spec[string, struct{}]{}); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	for _, n := range []int{2, 3, 2, 2} {
		if _, err := cubes.Get(ctx, n); err != nil {
			log.Fatal(err)
		}
	}
	for _, s := range m.Stats() {
		fmt.Printf("%s: %d entries, %d builds, hit rate %.0f%%, %d unsaved\n",
			s.Cache, s.Entries, s.Builds, 100*s.HitRate(), s.Dirty)
	}
	if err := m.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("unsaved:", cubes.Stats().Dirty)
	// Output:
	// cubes: 2 entries, 2 builds, hit rate 50%, 2 unsaved
	// seen: 0 entries, 0 builds, hit rate 0%, 0 unsaved
	// unsaved: 0
}
