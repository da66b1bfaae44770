package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// The clock is an input, at the granularity that the builder needs.
func ExampleNow() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	const granularity = 50 * time.Millisecond // a report of the day would take 24 hours
	report, err := cacheman.RegisterValue(m, "report", cacheman.Spec[cacheman.Single, time.Time]{
		Build: func(ctx context.Context, _ cacheman.Single) (time.Time, error) {
			return cacheman.Now(ctx, granularity)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	first, err := report.Get(ctx)
	if err != nil {
		log.Fatal(err)
	}
	next := first
	for next.Equal(first) { // it stays until the next multiple of granularity is reached
		time.Sleep(time.Millisecond)
		if next, err = report.Get(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("a whole number of steps later:", next.Sub(first)%granularity == 0)
	// Output: a whole number of steps later: true
}

// A token is fetched again when it has expired.
func ExampleExpireAt() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	fetched := 0
	tokens, err := cacheman.Register(m, "tokens", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, user string) (string, error) {
			fetched++
			expires := time.Now().Add(100 * time.Millisecond) // as the service says
			return fmt.Sprintf("token %d for %s", fetched, user), cacheman.ExpireAt(ctx, expires)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	first, err := tokens.Get(ctx, "ann")
	fmt.Println(first, err)
	token := first
	for token == first { // times are rounded up to whole seconds
		time.Sleep(10 * time.Millisecond)
		token, err = tokens.Get(ctx, "ann")
	}
	fmt.Println(token, err)
	// Output:
	// token 1 for ann <nil>
	// token 2 for ann <nil>
}
