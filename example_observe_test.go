package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Observe is told of everything but plain reads and writes.
func ExampleOptions_observe() {
	m, err := cacheman.Open("", cacheman.Options{
		Store: memstore.New(),
		Observe: func(e cacheman.Event) { // may be called by many goroutines at once
			fmt.Printf("%s: cache=%q key=%v err=%v\n", e.Kind, e.Cache, e.Key, e.Err)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	roots, err := cacheman.Register(m, "roots", cacheman.Spec[int, int]{
		Build: func(_ context.Context, n int) (int, error) {
			for r := range n + 1 {
				if r*r == n {
					return r, nil
				}
			}
			return 0, errors.New("not a square")
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	roots.Get(ctx, 9)
	roots.Get(ctx, 9) // found: no event
	roots.Get(ctx, 10)
	roots.Invalidate(9)
	roots.Get(ctx, 16)
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// built: cache="roots" key=9 err=<nil>
	// build failed: cache="roots" key=10 err=not a square
	// invalidated: cache="roots" key=9 err=<nil>
	// built: cache="roots" key=16 err=<nil>
	// synced: cache="" key=<nil> err=<nil>
}

// Logger gets the same events as records, at the level that their kind has.
func ExampleOptions_logger() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug, // above it: failures, damage, and what the store does on its own
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // for the sake of the example
			if a.Key == slog.TimeKey || a.Key == "duration" || a.Key == "count" {
				return slog.Attr{}
			}
			return a
		},
	}))
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New(), Logger: logger})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, string]{
		Build: func(context.Context, string) (string, error) { return "", errors.New("no network") },
	})
	if err != nil {
		log.Fatal(err)
	}
	pages.Get(context.Background(), "/about")
	pages.InvalidateAll()
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=WARN msg="cacheman: build failed" cache=pages key=/about err="no network"
	// level=DEBUG msg="cacheman: invalidated" cache=pages reason=invalidate
	// level=DEBUG msg="cacheman: synced"
}
