package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// What a builder reads through its ctx is what its entry depends on. When that
// changes, exactly what was computed from it is built again, and only as far up
// as values really differ.
func Example_tracking() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	texts, err := cacheman.Register(m, "texts", cacheman.Spec[string, string]{})
	if err != nil {
		log.Fatal(err)
	}
	words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
		Build: func(ctx context.Context, name string) (int, error) {
			text, err := texts.Get(ctx, name) // words[name] depends on texts[name]
			fmt.Println("  counting", name)
			return len(strings.Fields(text)), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	total, err := cacheman.RegisterValue(m, "total", cacheman.Spec[cacheman.Single, int]{
		Build: func(ctx context.Context, _ cacheman.Single) (sum int, _ error) {
			fmt.Println("  adding")
			for _, name := range []string{"a", "b"} {
				n, err := words.Get(ctx, name)
				if err != nil {
					return 0, err
				}
				sum += n
			}
			return sum, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	texts.Set("a", "one two")
	texts.Set("b", "three")
	fmt.Println(total.Get(ctx))

	fmt.Println("another text:")
	texts.Set("c", "four five six")
	fmt.Println(total.Get(ctx))

	fmt.Println("another word:")
	texts.Set("b", "drei")
	fmt.Println(total.Get(ctx))

	fmt.Println("one word more:")
	texts.Set("b", "drei vier")
	fmt.Println(total.Get(ctx))
	// Output:
	//   adding
	//   counting a
	//   counting b
	// 3 <nil>
	// another text:
	// 3 <nil>
	// another word:
	//   counting b
	// 3 <nil>
	// one word more:
	//   counting b
	//   adding
	// 4 <nil>
}

// A restart is not a change: what was built, and from what, is in the store.
func Example_trackingRestart() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	program := func(change func(texts *cacheman.Cache[string, string])) {
		m, err := cacheman.Open(dir, cacheman.Options{})
		if err != nil {
			log.Fatal(err)
		}
		texts, err := cacheman.Register(m, "texts", cacheman.Spec[string, string]{})
		if err != nil {
			log.Fatal(err)
		}
		words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
			Build: func(ctx context.Context, name string) (int, error) {
				text, err := texts.Get(ctx, name)
				fmt.Println("  counting", name)
				return len(strings.Fields(text)), err
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		change(texts)
		for _, name := range []string{"a", "b"} {
			fmt.Println(words.Get(context.Background(), name))
		}
		if err := m.Close(); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println("first run:")
	program(func(texts *cacheman.Cache[string, string]) {
		texts.Set("a", "one two")
		texts.Set("b", "three")
	})
	fmt.Println("second run:")
	program(func(*cacheman.Cache[string, string]) {})
	fmt.Println("third run:")
	program(func(texts *cacheman.Cache[string, string]) {
		texts.Set("b", "three four")
	})
	// Output:
	// first run:
	//   counting a
	// 2 <nil>
	//   counting b
	// 1 <nil>
	// second run:
	// 2 <nil>
	// 1 <nil>
	// third run:
	// 2 <nil>
	//   counting b
	// 2 <nil>
}
