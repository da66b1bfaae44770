package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// BuildAll makes the whole contents, where nothing valid was saved.
func ExampleSpec_buildAll() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	rates, err := cacheman.Register(m, "rates", cacheman.Spec[string, float64]{
		BuildAll: func(context.Context) (map[string]float64, error) {
			fmt.Println("reading the table of rates")
			return map[string]float64{"CHF": 0.94, "JPY": 161.5}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println("held:", rates.Len()) // reads without ctx build nothing
	fmt.Println(rates.Get(ctx, "CHF"))
	fmt.Println(rates.Get(ctx, "JPY"))
	fmt.Println("held:", rates.Len())

	if err := rates.Rebuild(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// held: 0
	// reading the table of rates
	// 0.94 <nil>
	// 161.5 <nil>
	// held: 2
	// reading the table of rates
}

// Load fills a cache before it is iterated over; Eager does so in Register.
func ExampleCache_Load() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	primes, err := cacheman.Register(m, "primes", cacheman.Spec[int, bool]{
		BuildAll: func(context.Context) (map[int]bool, error) {
			return map[int]bool{2: true, 3: true, 4: false}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := primes.Load(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(primes.Len())
	// Output: 3
}
