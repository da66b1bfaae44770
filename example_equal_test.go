package cacheman_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Equal says which differences matter to those who read a value: here no
// change of less than half a degree.
func ExampleSpec_equal() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	sensors, err := cacheman.Register(m, "sensors", cacheman.Spec[string, float64]{})
	if err != nil {
		log.Fatal(err)
	}
	degrees, err := cacheman.Register(m, "degrees", cacheman.Spec[string, float64]{
		Build: func(ctx context.Context, room string) (float64, error) { return sensors.Get(ctx, room) },
		Equal: func(a, b float64) bool { return a-b < 0.5 && b-a < 0.5 },
	})
	if err != nil {
		log.Fatal(err)
	}
	advice, err := cacheman.Register(m, "advice", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, room string) (string, error) {
			d, err := degrees.Get(ctx, room)
			fmt.Println("  thinking")
			if d < 19 {
				return "heat", err
			}
			return "wait", err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	for _, d := range []float64{20, 20.2, 18} {
		sensors.Set("kitchen", d)
		fmt.Println(advice.Get(ctx, "kitchen"))
	}
	// Output:
	//   thinking
	// wait <nil>
	// wait <nil>
	//   thinking
	// heat <nil>
}
