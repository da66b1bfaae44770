package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A cache whose contents are one value and no map: here a list.
func ExampleRegisterValue() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	hosts, err := cacheman.RegisterValue(m, "hosts", cacheman.Spec[cacheman.Single, []string]{
		Build: func(context.Context, cacheman.Single) ([]string, error) {
			return []string{"alpha", "beta"}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println(hosts.Peek()) // not there yet, and not built by Peek
	fmt.Println(hosts.Get(ctx))
	if _, err := hosts.Update(func(list []string, _ bool) ([]string, bool) {
		return append(list, "gamma"), true // safe: the list comes without spare capacity
	}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(hosts.Get(ctx))
	if err := hosts.Rebuild(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(hosts.Get(ctx))
	// Output:
	// [] false
	// [alpha beta] <nil>
	// [alpha beta gamma] <nil>
	// [alpha beta] <nil>
}
