package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strconv"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// An error that is a result is kept until what it was computed from changes.
// Other errors are not: the next Get tries again.
func ExampleKeep() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	texts, err := cacheman.Register(m, "texts", cacheman.Spec[string, string]{})
	if err != nil {
		log.Fatal(err)
	}
	numbers, err := cacheman.Register(m, "numbers", cacheman.Spec[string, int]{
		Build: func(ctx context.Context, k string) (int, error) {
			text, err := texts.Get(ctx, k)
			if err != nil {
				return 0, err
			}
			fmt.Println("  parsing", text)
			n, err := strconv.Atoi(text)
			return n, cacheman.Keep(err) // the same text will always be wrong
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	texts.Set("k", "seven")
	for range 2 {
		_, err := numbers.Get(ctx, "k")
		fmt.Println(err)
	}
	texts.Set("k", "7")
	fmt.Println(numbers.Get(ctx, "k"))
	// Output:
	//   parsing seven
	// cacheman: build numbers["k"]: strconv.Atoi: parsing "seven": invalid syntax
	// cacheman: get numbers["k"]: strconv.Atoi: parsing "seven": invalid syntax
	//   parsing 7
	// 7 <nil>
}
