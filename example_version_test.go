package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/cacheman-go/cacheman"
)

// What builders of another Version made is not used.
func ExampleSpec_version() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	program := func(version string, slug func(title string) string) error {
		m, err := cacheman.Open(dir, cacheman.Options{})
		if err != nil {
			return err
		}
		defer m.Close()
		slugs, err := cacheman.Register(m, "slugs", cacheman.Spec[string, string]{
			Version: version,
			Build: func(_ context.Context, title string) (string, error) {
				return slug(title), nil
			},
		})
		if err != nil {
			return err
		}
		fmt.Println(slugs.Get(context.Background(), "Two Words"))
		return m.Close()
	}

	if err := program("1", strings.ToLower); err != nil {
		log.Fatal(err)
	}
	// A better builder. Without another Version, what the old one made would stay.
	if err := program("2", func(title string) string {
		return strings.ReplaceAll(strings.ToLower(title), " ", "-")
	}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// two words <nil>
	// two-words <nil>
}
