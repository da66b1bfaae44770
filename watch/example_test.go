package watch_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
	"github.com/cacheman-go/cacheman/watch"
)

// What was computed from a file is computed anew after somebody has changed it.
func ExampleFiles() {
	dir, err := os.MkdirTemp("", "watch")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "a.txt")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			log.Fatal(err)
		}
	}
	write("one two")

	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	w, err := watch.Files(m, func(err error) { log.Print(err) }, dir)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	files, err := cacheman.OpenFiles(m)
	if err != nil {
		log.Fatal(err)
	}
	words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
		Build: func(ctx context.Context, name string) (int, error) {
			text, err := files.Get(ctx, name)
			return len(strings.Fields(string(text))), err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	n, err := words.Get(ctx, name)
	fmt.Println(n, err)
	write("one two three")
	for n != 3 && err == nil { // the notification is under way
		time.Sleep(time.Millisecond)
		n, err = words.Get(ctx, name)
	}
	fmt.Println(n, err)
	// Output:
	// 2 <nil>
	// 3 <nil>
}
