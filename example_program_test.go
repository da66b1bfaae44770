package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Any change to the program has what its builders made checked.
func ExampleProgramVersion() {
	version, err := cacheman.ProgramVersion()
	if err != nil {
		log.Fatal(err)
	}
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	squares, err := cacheman.Register(m, "squares", cacheman.Spec[int, int]{
		Version: version,
		Build:   func(_ context.Context, n int) (int, error) { return n * n, nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(squares.Get(context.Background(), 12))
	// Output: 144 <nil>
}
