package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// What is written in one batch is one change: readers and builders see all of
// it or nothing.
func ExampleManager_Batch() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	accounts, err := cacheman.Register(m, "accounts", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	report, err := cacheman.RegisterValue(m, "report", cacheman.Spec[cacheman.Single, string]{
		Build: func(ctx context.Context, _ cacheman.Single) (string, error) {
			ann, err1 := accounts.Get(ctx, "ann")
			bob, err2 := accounts.Get(ctx, "bob")
			return fmt.Sprintf("%d + %d = %d", ann, bob, ann+bob), errors.Join(err1, err2)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	accounts.Set("ann", 70)
	accounts.Set("bob", 30)
	fmt.Println(report.Get(ctx))

	move := func(amount int) error {
		return m.Batch(func(b *cacheman.Batch) error {
			ann, err1 := accounts.Get(ctx, "ann")
			bob, err2 := accounts.Get(ctx, "bob")
			if amount > ann {
				return errors.New("not enough") // nothing is written
			}
			accounts.SetIn(b, "ann", ann-amount)
			accounts.SetIn(b, "bob", bob+amount)
			return errors.Join(err1, err2)
		})
	}
	fmt.Println(move(50))
	fmt.Println(report.Get(ctx))
	fmt.Println(move(50))
	fmt.Println(report.Get(ctx))
	// Output:
	// 70 + 30 = 100 <nil>
	// <nil>
	// 20 + 80 = 100 <nil>
	// cacheman: batch: not enough
	// 20 + 80 = 100 <nil>
}
