package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/cacheman-go/cacheman"
)

// Contents that Validate refuses are built anew.
func ExampleSpec_validate() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	release := "1.0"
	index := cacheman.Spec[string, string]{
		BuildAll: func(context.Context) (map[string]string, error) {
			fmt.Println("building for release", release)
			return map[string]string{"release": release}, nil
		},
		Validate: func(_ context.Context, contents map[string]string) error {
			if contents["release"] != release {
				return errors.New("made for release " + contents["release"])
			}
			return nil
		},
	}
	program := func() error {
		m, err := cacheman.Open(dir, cacheman.Options{})
		if err != nil {
			return err
		}
		defer m.Close()
		c, err := cacheman.Register(m, "index", index)
		if err != nil {
			return err
		}
		v, err := c.Get(context.Background(), "release")
		if err != nil {
			return err
		}
		fmt.Println("index of", v)
		return m.Close()
	}
	for _, r := range []string{"1.0", "1.0", "1.1"} {
		release = r
		if err := program(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// building for release 1.0
	// index of 1.0
	// index of 1.0
	// building for release 1.1
	// index of 1.1
}
