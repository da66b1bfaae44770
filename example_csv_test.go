package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// One cache in a CSV file, with rows of its own making; the others stay in the
// Manager's store.
func ExampleSpec_storeCSV() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	type City struct{ Name, Country string }
	keys, err1 := codec.Key[City]()
	values, err2 := codec.For[float64]()
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	options := csvstore.Options{Header: []string{"country", "city", "millions"}}
	options.Row, options.Entry = csvstore.Rows(keys, values,
		func(c City, millions float64) []string {
			return []string{c.Country, c.Name, strconv.FormatFloat(millions, 'f', -1, 64)}
		},
		func(row []string) (City, float64, error) {
			if len(row) != 3 {
				return City{}, 0, fmt.Errorf("%d fields, not 3", len(row))
			}
			millions, err := strconv.ParseFloat(row[2], 64)
			return City{Name: row[1], Country: row[0]}, millions, err
		})
	csv, err := csvstore.Open(dir, options)
	if err != nil {
		log.Fatal(err)
	}
	defer csv.Close() // after the Manager

	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	cities, err := cacheman.Register(m, "cities", cacheman.Spec[City, float64]{
		Store: csv, KeyCodec: keys, Codec: values,
	})
	if err != nil {
		log.Fatal(err)
	}

	cities.Set(City{"Paris", "FR"}, 2.1)
	cities.Set(City{"Paris", "US"}, 0.025)
	if err := cities.Sync(context.Background()); err != nil {
		log.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "cities.csv"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(file))
	// Output:
	// country,city,millions
	// FR,Paris,2.1
	// US,Paris,0.025
}
