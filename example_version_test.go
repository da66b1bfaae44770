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

// A new Version builds that cache anew, entry by entry when they are asked for.
// Where a result equals the old one, what was computed from it lives on.
func ExampleSpec_versionCutoff() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	program := func(version string) {
		m, err := cacheman.Open(dir, cacheman.Options{})
		if err != nil {
			log.Fatal(err)
		}
		slugs, err := cacheman.Register(m, "slugs", cacheman.Spec[string, string]{
			Version: version,
			Build: func(_ context.Context, title string) (string, error) {
				fmt.Println("  slug of", title)
				slug := strings.ToLower(title)
				if version == "2" {
					slug = strings.ReplaceAll(slug, " ", "-")
				}
				return slug, nil
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		links, err := cacheman.Register(m, "links", cacheman.Spec[string, string]{
			Build: func(ctx context.Context, title string) (string, error) {
				slug, err := slugs.Get(ctx, title)
				fmt.Println("  link to", title)
				return "/" + slug, err
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		for _, title := range []string{"About", "Two Words"} {
			fmt.Println(links.Get(context.Background(), title))
		}
		if err := m.Close(); err != nil {
			log.Fatal(err)
		}
	}

	program("1")
	fmt.Println("version 2:")
	program("2")
	// Output:
	//   slug of About
	//   link to About
	// /about <nil>
	//   slug of Two Words
	//   link to Two Words
	// /two words <nil>
	// version 2:
	//   slug of About
	// /about <nil>
	//   slug of Two Words
	//   link to Two Words
	// /two-words <nil>
}
