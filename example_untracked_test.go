package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A builder that reads what cannot be tracked says so. Its result is used until
// the Manager is closed or refreshed.
func ExampleUntracked() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	devices := 2 // something outside
	hardware, err := cacheman.RegisterValue(m, "hardware", cacheman.Spec[cacheman.Single, string]{
		Build: func(ctx context.Context, _ cacheman.Single) (string, error) {
			if err := cacheman.Untracked(ctx, "the devices of this machine"); err != nil {
				return "", err
			}
			return fmt.Sprint(devices, " devices"), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println(hardware.Get(ctx))
	devices = 3
	fmt.Println(hardware.Get(ctx))
	if err := m.Refresh(ctx, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(hardware.Get(ctx))
	// Output:
	// 2 devices <nil>
	// 2 devices <nil>
	// 3 devices <nil>
}
