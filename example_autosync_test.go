package cacheman_test

import (
	"fmt"
	"log"
	"time"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Every bounds what a crash may lose.
func ExampleAutosync() {
	saved := make(chan cacheman.Event, 1)
	m, err := cacheman.Open("", cacheman.Options{
		Store:    memstore.New(),
		Autosync: &cacheman.Autosync{Every: 10 * time.Millisecond},
		Observe: func(e cacheman.Event) {
			if e.Kind == cacheman.EventSynced {
				saved <- e
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	users, err := cacheman.Register(m, "users", cacheman.Spec[string, int]{})
	if err != nil {
		log.Fatal(err)
	}
	users.Set("ann", 42)
	<-saved
	fmt.Println("unsaved:", users.Stats().Dirty)

	// One cache may have its own rules.
	scratch, err := cacheman.Register(m, "scratch", cacheman.Spec[string, int]{
		Autosync: &cacheman.Autosync{Off: true}, // only Sync and Close save it
	})
	if err != nil {
		log.Fatal(err)
	}
	scratch.Set("ann", 42)
	fmt.Println("unsaved:", scratch.Stats().Dirty)

	if err := m.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// unsaved: 0
	// unsaved: 1
}

// Rules in the manner of the classic ones, but for a program with more writes.
func ExampleRule() {
	m, err := cacheman.Open("", cacheman.Options{
		Store: memstore.New(),
		Autosync: &cacheman.Autosync{Rules: []cacheman.Rule{
			{Edits: 1_000_000, Within: time.Minute}, // a million unsaved edits: at once
			{Edits: 1, Within: 5 * time.Minute},     // one: when it is a minute old
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, r := range cacheman.ClassicRules() {
		fmt.Println(r.Edits, r.Within)
	}
	// Output:
	// 10000 1m0s
	// 10 5m0s
	// 1 15m0s
}
