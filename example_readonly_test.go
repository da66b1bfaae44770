package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/cacheman-go/cacheman"
)

// While one Manager, mostly of another process, writes a directory, others
// read it, and follow what it saves.
func ExampleManager_Follow() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	writer, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	prices, err := cacheman.Register(writer, "prices", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	prices.Set("tea", 3)
	writer.Sync(ctx)

	reader, err := cacheman.Open(dir, cacheman.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	seen, err := cacheman.Register(reader, "prices", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(seen.Get(ctx, "tea"))

	prices.Set("tea", 4)
	writer.Sync(ctx)
	fmt.Println(seen.Get(ctx, "tea"))
	changed, err := reader.Follow(ctx)
	fmt.Println(changed, err)
	fmt.Println(seen.Get(ctx, "tea"))
	fmt.Println(seen.Set("tea", 5))
	// Output:
	// 3 <nil>
	// 3 <nil>
	// [prices] <nil>
	// 4 <nil>
	// cacheman: set prices["tea"]: store is open for reading only
}
