package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/cacheman-go/cacheman"
)

// A whole program, run twice on one directory. The first run computes; the
// second finds what the first one left.
func Example() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	program := func() error {
		m, err := cacheman.Open(dir, cacheman.Options{
			Autosync: &cacheman.Autosync{Every: time.Second}, // what a crash may lose
		})
		if err != nil {
			return err
		}
		defer m.Close() // saves

		// A persistent map. Its zero Spec is ready to use.
		runs, err := cacheman.Register(m, "runs", cacheman.Spec[string, int]{})
		if err != nil {
			return err
		}
		n, err := runs.Update("primes", func(n int, _ bool) (int, bool) { return n + 1, true })
		if err != nil {
			return err
		}

		// A cache that makes the values it does not have.
		primes, err := cacheman.Register(m, "primes", cacheman.Spec[int, bool]{
			Build: func(_ context.Context, n int) (bool, error) {
				fmt.Println("  computing", n)
				for d := 2; d*d <= n; d++ {
					if n%d == 0 {
						return false, nil
					}
				}
				return n > 1, nil
			},
		})
		if err != nil {
			return err
		}
		fmt.Println("run", n)
		for _, n := range []int{91, 97, 91} {
			prime, err := primes.Get(context.Background(), n)
			if err != nil {
				return err
			}
			fmt.Println(" ", n, prime)
		}
		return m.Close() // a second Close does nothing
	}
	for range 2 {
		if err := program(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// run 1
	//   computing 91
	//   91 false
	//   computing 97
	//   97 true
	//   91 false
	// run 2
	//   91 false
	//   97 true
	//   91 false
}
