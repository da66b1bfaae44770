package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Builders may ask other caches. They pass on the ctx that they were given.
func ExampleSpec_build() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	texts, err := cacheman.Register(m, "texts", cacheman.Spec[string, string]{
		Build: func(_ context.Context, url string) (string, error) {
			fmt.Println("fetching", url)
			return "the quick brown fox", nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
		Build: func(ctx context.Context, url string) (int, error) {
			text, err := texts.Get(ctx, url)
			if err != nil {
				return 0, err
			}
			fmt.Println("counting", url)
			return len(strings.Fields(text)), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	for range 2 {
		n, err := words.Get(context.Background(), "example.org/fox")
		fmt.Println(n, err)
	}
	// Output:
	// fetching example.org/fox
	// counting example.org/fox
	// 4 <nil>
	// 4 <nil>
}

// However many goroutines want a key, its builder runs once.
func ExampleCache_Get() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	squares, err := cacheman.Register(m, "squares", cacheman.Spec[int, int]{
		Build: func(_ context.Context, n int) (int, error) {
			fmt.Println("building", n)
			time.Sleep(10 * time.Millisecond)
			return n * n, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if n, err := squares.Get(context.Background(), 12); n != 144 || err != nil {
				fmt.Println(n, err)
			}
		})
	}
	wg.Wait()
	// Output: building 12
}

// A caller that will not wait any longer leaves alone. The builder is
// cancelled when the last caller has left.
func ExampleCache_Get_cancel() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	begun, cancelled := make(chan bool), make(chan error, 1)
	slow, err := cacheman.Register(m, "slow", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, _ string) (string, error) {
			close(begun)
			<-ctx.Done()
			cancelled <- ctx.Err()
			return "", ctx.Err()
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-begun
		cancel() // the user has closed the page
	}()
	_, err = slow.Get(ctx, "answer")
	fmt.Println("caller: ", err)
	fmt.Println("builder:", <-cancelled)
	// Output:
	// caller:  context canceled
	// builder: context canceled
}
