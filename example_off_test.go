package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A cache that is off holds nothing and always builds. Off in Options turns all
// caches off, to find out whether one is to blame.
func ExampleSpec_off() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	builds := 0
	c, err := cacheman.Register(m, "lengths", cacheman.Spec[string, int]{
		Off: true,
		Build: func(_ context.Context, s string) (int, error) {
			builds++
			return len(s), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	c.Set("cache", 7)
	ctx := context.Background()
	for range 3 {
		fmt.Println(c.Get(ctx, "cache"))
	}
	fmt.Println("builds:", builds, "entries:", c.Len())
	// Output:
	// 5 <nil>
	// 5 <nil>
	// 5 <nil>
	// builds: 3 entries: 0
}
