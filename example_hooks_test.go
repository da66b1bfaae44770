package cacheman_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Load, Save and Delete replace the store, here by a file of the program's own.
func ExampleSpec_hooks() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "users.json")

	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	users, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{
		Load: func(context.Context) (users map[string]int, err error) {
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, cacheman.ErrNotFound // nothing was saved: no failure
			} else if err != nil {
				return nil, err
			}
			err = json.Unmarshal(data, &users)
			return users, err
		},
		Save: func(_ context.Context, users map[string]int) error {
			data, err := json.Marshal(users)
			if err != nil {
				return err
			}
			return os.WriteFile(file, data, 0o600)
		},
		Delete: func(context.Context) error { return os.Remove(file) },
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	users.Set("ann", 42)
	users.Set("bob", 23)
	if err := users.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	data, err := os.ReadFile(file)
	fmt.Println(string(data), err)

	users.Set("bob", 24)
	if err := users.Reload(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Peek("bob"))

	if err := users.DeleteSaved(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = os.Stat(file)
	fmt.Println(errors.Is(err, fs.ErrNotExist), users.Len())
	// Output:
	// {"ann":42,"bob":23} <nil>
	// 23 true
	// true 2
}
