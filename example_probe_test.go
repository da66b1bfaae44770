package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// A Probe asks the world outside what a value is now. It gets what it said last,
// so it can ask whether that has changed: here with an ETag.
func ExampleSpec_probe() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	type page struct{ ETag, Text string }
	server := page{"1", "Hello"} // far away
	fetch := func(etag string) (now page, changed bool) {
		if etag == server.ETag {
			fmt.Println("  asked: not modified")
			return page{}, false
		}
		fmt.Println("  asked: here it is")
		return server, true
	}

	pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, page]{
		Probe: func(_ context.Context, url string, previous page, ok bool) (page, error) {
			if now, changed := fetch(previous.ETag); changed {
				return now, nil
			}
			return previous, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	loud, err := cacheman.Register(m, "loud", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, url string) (string, error) {
			p, err := pages.Get(ctx, url)
			fmt.Println("  shouting")
			return strings.ToUpper(p.Text), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	fmt.Println(loud.Get(ctx, "example.org"))
	refresh := func() {
		if err := pages.Refresh(ctx); err != nil {
			log.Fatal(err)
		}
		fmt.Println(loud.Get(ctx, "example.org"))
	}
	refresh()
	server = page{"2", "Goodbye"}
	refresh()
	// Output:
	//   asked: here it is
	//   shouting
	// HELLO <nil>
	//   asked: not modified
	// HELLO <nil>
	//   asked: here it is
	//   shouting
	// GOODBYE <nil>
}
