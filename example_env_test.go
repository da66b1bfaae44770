package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Variables of the environment are inputs, each an entry of its own.
func ExampleEnv() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	env, err := cacheman.Env(m)
	if err != nil {
		log.Fatal(err)
	}
	greeting, err := cacheman.Register(m, "greeting", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, name string) (string, error) {
			hello, err := env.Get(ctx, "EXAMPLE_HELLO")
			if errors.Is(err, cacheman.ErrNotFound) { // this, too, is a dependency
				hello, err = "Hello", nil
			}
			return hello + ", " + name, err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println(greeting.Get(ctx, "Ann"))
	os.Setenv("EXAMPLE_HELLO", "Hei")
	defer os.Unsetenv("EXAMPLE_HELLO")
	fmt.Println(greeting.Get(ctx, "Ann")) // nobody has looked again
	if err := env.Refresh(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(greeting.Get(ctx, "Ann"))
	// Output:
	// Hello, Ann <nil>
	// Hello, Ann <nil>
	// Hei, Ann <nil>
}
