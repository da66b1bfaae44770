package cacheman_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/jsonstore"
)

// All caches of a Manager in JSON files that people can read and change.
func ExampleOptions_storeJSON() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	files, err := jsonstore.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	m, err := cacheman.Open("", cacheman.Options{Store: files}) // the Manager closes it
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	type User struct {
		Name string `json:"name"`
		Age  int    `json:"age"`
	}
	users, err := cacheman.Register(m, "users", cacheman.Spec[string, User]{
		Codec: codec.JSON[User](), // else the values are CBOR, which is no text
	})
	if err != nil {
		log.Fatal(err)
	}
	users.Set("ann", User{"Ann", 42})
	users.Set("bob", User{"Bob", 23})
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "users.json"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(file))
	// Output:
	// {
	// "ann": {"name":"Ann","age":42},
	// "bob": {"name":"Bob","age":23}
	// }
}
