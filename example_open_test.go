package cacheman_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/cacheman-go/cacheman"
)

// A second program that wants to write the directory waits for the first.
func ExampleOpenWait() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	first, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}

	_, err = cacheman.Open(dir, cacheman.Options{})
	fmt.Println("not now:", errors.Is(err, cacheman.ErrLocked))

	time.AfterFunc(10*time.Millisecond, func() { first.Close() })
	second, err := cacheman.OpenWait(context.Background(), dir, cacheman.Options{})
	fmt.Println("later:", err)
	second.Close()
	// Output:
	// not now: true
	// later: <nil>
}

// CheckDir reads a directory without knowing the types of what is in it.
func ExampleCheckDir() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := cacheman.Register(m, "numbers", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	c.Set("one", 1)
	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	faults := 0
	for err := range cacheman.CheckDir(context.Background(), dir) {
		fmt.Println(err)
		faults++
	}
	fmt.Println(faults, "faults")
	// Output:
	// 0 faults
}

// A read-only Manager goes on to what was saved by itself.
func ExampleOptions_followEvery() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	writer, err := cacheman.Open(dir, cacheman.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	status, err := cacheman.RegisterValue(writer, "status", cacheman.Spec[cacheman.Single, string]{})
	if err != nil {
		log.Fatal(err)
	}
	status.Set("starting")
	writer.Sync(ctx)

	followed := make(chan string)
	reader, err := cacheman.Open(dir, cacheman.Options{
		ReadOnly:    true,
		FollowEvery: 5 * time.Millisecond,
		Observe: func(e cacheman.Event) {
			if e.Kind == cacheman.EventFollowed {
				followed <- e.Cache
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	seen, err := cacheman.RegisterValue(reader, "status", cacheman.Spec[cacheman.Single, string]{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(seen.Get(ctx))

	status.Set("ready")
	writer.Sync(ctx)
	fmt.Println(<-followed, "has changed")
	fmt.Println(seen.Get(ctx))
	// Output:
	// starting <nil>
	// status has changed
	// ready <nil>
}
