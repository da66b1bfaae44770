package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"strings"
	"sync"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Build brings all that caches hold up to date. What has not changed is not built.
func ExampleManager_Build() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	texts, err := cacheman.Register(m, "texts", cacheman.Spec[string, string]{})
	if err != nil {
		log.Fatal(err)
	}
	var mu sync.Mutex // builders run side by side
	var built []string
	pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, string]{
		Build: func(ctx context.Context, name string) (string, error) {
			mu.Lock()
			built = append(built, name)
			mu.Unlock()
			text, err := texts.Get(ctx, name)
			return "<p>" + strings.TrimSpace(text) + "</p>", err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, name := range []string{"about", "index", "news"} {
		if err := texts.Set(name, "This is "+name+"."); err != nil {
			log.Fatal(err)
		}
		if _, err := pages.Get(ctx, name); err != nil {
			log.Fatal(err)
		}
	}

	built = nil
	if err := texts.Set("news", "None."); err != nil {
		log.Fatal(err)
	}
	if err := texts.Set("about", "  This is all."); err != nil {
		log.Fatal(err)
	}
	if err := m.Build(ctx, cacheman.All(), nil); err != nil {
		log.Fatal(err)
	}
	slices.Sort(built)
	fmt.Println("built:", built)
	for _, name := range []string{"about", "index", "news"} {
		fmt.Println(pages.Peek(name)) // is up to date without being asked for
	}
	// Output:
	// built: [about news]
	// <p>This is all.</p> true
	// <p>This is index.</p> true
	// <p>None.</p> true
}
