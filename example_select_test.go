package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Who needs a part of a value depends on that part.
func ExampleSelect() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	type user struct{ Name, City string }
	users, err := cacheman.Register(m, "users", cacheman.Spec[int, user]{})
	if err != nil {
		log.Fatal(err)
	}
	names, err := cacheman.Select(users, "names", cacheman.Spec[int, string]{}, func(u user) string { return u.Name })
	if err != nil {
		log.Fatal(err)
	}
	badges, err := cacheman.Register(m, "badges", cacheman.Spec[int, string]{
		Build: func(ctx context.Context, id int) (string, error) {
			name, err := names.Get(ctx, id)
			fmt.Println("  printing", name)
			return fmt.Sprintf("%s (%d)", name, id), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	users.Set(1, user{"Ann", "Oslo"})
	fmt.Println(badges.Get(ctx, 1))
	users.Set(1, user{"Ann", "Bergen"}) // she moves
	fmt.Println(badges.Get(ctx, 1))
	users.Set(1, user{"Anna", "Bergen"})
	fmt.Println(badges.Get(ctx, 1))
	// Output:
	//   printing Ann
	// Ann (1) <nil>
	// Ann (1) <nil>
	//   printing Anna
	// Anna (1) <nil>
}
