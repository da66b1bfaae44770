package cacheman_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/cacheman-go/cacheman"
)

// What a run of the program is going to build, and why, can be asked before it does so.
func Example_why() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")

	run := func(text string, do func(words, pages *cacheman.Cache[string, int])) {
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			log.Fatal(err)
		}
		m, err := cacheman.Open(filepath.Join(dir, "caches"), cacheman.Options{})
		if err != nil {
			log.Fatal(err)
		}
		defer m.Close()
		files, err := cacheman.OpenFiles(m)
		if err != nil {
			log.Fatal(err)
		}
		words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
			Build: func(ctx context.Context, name string) (int, error) {
				text, err := files.Get(ctx, filepath.Join(dir, name))
				return len(strings.Fields(string(text))), err
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		pages, err := cacheman.Register(m, "pages", cacheman.Spec[string, int]{
			Build: func(ctx context.Context, name string) (int, error) {
				n, err := words.Get(ctx, name)
				return n/300 + 1, err
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := m.Refresh(ctx, nil); err != nil { // looks at all files that were read before
			log.Fatal(err)
		}
		do(words, pages)
		for fault := range m.Check() { // there should be none
			fmt.Println(fault)
		}
	}
	run("one two", func(words, pages *cacheman.Cache[string, int]) {
		pages.Get(ctx, "source")
	})
	run("one two three", func(words, pages *cacheman.Cache[string, int]) {
		x := pages.Explain("source") // x as text has all that is known of it
		fmt.Printf("%s: %s\n", x.State, x.Why)
		for _, d := range x.Path {
			fmt.Printf("%s: %s, changed: %v\n", d.Cache, d.State, d.Changed)
		}

		pages.Get(ctx, "source")
		x = pages.Explain("source")
		fmt.Printf("%s: %s\n", x.State, x.Why)
		for _, reached := range words.Plan("source") { // if words["source"] were invalidated
			fmt.Printf("%s[%q] would be checked\n", reached.Cache, reached.Key)
		}
		words.Invalidate("source")
		x = words.Explain("source")
		fmt.Printf("%s: %s\n", x.State, x.Why)
	})
	// Output:
	// check: words["source"] may have changed
	// words: check, changed: false
	// files: clean, changed: true
	// clean: nothing that it was built from has changed
	// pages["source"] would be checked
	// dirty: it was invalidated
}
