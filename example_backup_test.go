package cacheman_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
)

// openPrices opens the Manager of a directory, with a cache.
func openPrices(dir string) (*cacheman.Manager, *cacheman.Cache[string, int]) {
	m, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := cacheman.Register(m, "prices", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	return m, c
}

// A copy of a directory in use, as of one instant.
func ExampleManager_Backup() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, prices := openPrices(filepath.Join(dir, "original"))
	defer m.Close()
	prices.Set("tea", 3)

	if err := m.Backup(ctx, filepath.Join(dir, "copy")); err != nil {
		log.Fatal(err)
	}
	prices.Set("tea", 4)

	m, prices = openPrices(filepath.Join(dir, "copy"))
	defer m.Close()
	fmt.Println(prices.Get(ctx, "tea"))
	// Output: 3 <nil>
}

// A directory that is packed up with a program, as small as it gets.
func ExampleManager_Compact() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, prices := openPrices(dir)
	defer m.Close()
	for _, tea := range []int{3, 4, 5} {
		prices.Set("tea", tea)
		if err := m.Sync(ctx); err != nil {
			log.Fatal(err)
		}
	}

	if err := m.Compact(ctx); err != nil {
		log.Fatal(err)
	}
	snapshots, err := filepath.Glob(filepath.Join(dir, "*.snap"))
	fmt.Println(len(snapshots), err)
	// Output: 1 <nil>
}

// What is saved as text, and back: to look at, or for another kind of store.
func ExampleManager_Export() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, prices := openPrices(filepath.Join(dir, "original"))
	defer m.Close()
	prices.Set("tea", 3)

	var lines bytes.Buffer
	if err := m.Export(ctx, &lines); err != nil {
		log.Fatal(err)
	}
	if err := cacheman.Import(ctx, filepath.Join(dir, "imported"), &lines); err != nil {
		log.Fatal(err)
	}
	m, prices = openPrices(filepath.Join(dir, "imported"))
	defer m.Close()
	fmt.Println(prices.Get(ctx, "tea"))
	// Output: 3 <nil>
}
