package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// BeforeSave keeps a secret out of the store, and AfterLoad makes a field that
// is not stored.
func ExampleSpec_process() {
	type Account struct {
		Name     string
		Password string
		Initials string
	}
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	accounts, err := cacheman.Register(m, "accounts", cacheman.Spec[int, Account]{
		BeforeSave: func(_ context.Context, _ int, a Account) (Account, error) {
			a.Password, a.Initials = "", ""
			return a, nil
		},
		AfterLoad: func(_ context.Context, _ int, a Account) (Account, error) {
			for word := range strings.FieldsSeq(a.Name) {
				a.Initials += word[:1]
			}
			return a, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	accounts.Set(1, Account{Name: "Ann Bell", Password: "secret"})
	if err := accounts.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	a, _ := accounts.Peek(1)
	fmt.Printf("in memory: %+v\n", a)
	if err := accounts.Reload(ctx); err != nil {
		log.Fatal(err)
	}
	a, _ = accounts.Peek(1)
	fmt.Printf("reloaded:  %+v\n", a)
	// Output:
	// in memory: {Name:Ann Bell Password:secret Initials:}
	// reloaded:  {Name:Ann Bell Password: Initials:AB}
}
