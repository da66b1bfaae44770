package cacheman_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/csvstore"
)

// Numbers in a CSV file that is edited by hand between two runs of the program: what was
// computed from the changed row is computed again, and nothing else.
func ExampleSpec_storeEdited() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	run := func(name string, fill bool) {
		csv, err := csvstore.Open(filepath.Join(dir, "files"), csvstore.Options{})
		if err != nil {
			log.Fatal(err)
		}
		defer csv.Close() // after the Manager
		m, err := cacheman.Open(filepath.Join(dir, "cache"), cacheman.Options{})
		if err != nil {
			log.Fatal(err)
		}
		defer m.Close()
		prices, err1 := cacheman.Register(m, "prices", cacheman.Spec[string, string]{Store: csv})
		labels, err2 := cacheman.Register(m, "labels", cacheman.Spec[string, string]{
			Build: func(ctx context.Context, product string) (string, error) {
				price, err := prices.Get(ctx, product)
				fmt.Printf("  printing the label of %s\n", product)
				return product + ": " + price + " EUR", err
			},
		})
		if err := errors.Join(err1, err2); err != nil {
			log.Fatal(err)
		}
		if fill {
			prices.Set("apples", "2.50")
			prices.Set("pears", "3.20")
		}
		fmt.Println(name)
		for _, product := range []string{"apples", "pears"} {
			label, err := labels.Get(context.Background(), product)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("  " + label)
		}
	}

	run("first run", true)
	run("second run", false)

	file := filepath.Join(dir, "files", "prices.csv")
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("3.20"), []byte("2.90"), 1), 0o600); err != nil {
		log.Fatal(err)
	}
	run("after an edit", false)
	run("last run", false)

	// Output:
	// first run
	//   printing the label of apples
	//   apples: 2.50 EUR
	//   printing the label of pears
	//   pears: 3.20 EUR
	// second run
	//   apples: 2.50 EUR
	//   pears: 3.20 EUR
	// after an edit
	//   apples: 2.50 EUR
	//   printing the label of pears
	//   pears: 2.90 EUR
	// last run
	//   apples: 2.50 EUR
	//   pears: 2.90 EUR
}
