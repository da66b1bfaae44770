package main

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cacheman-go/cacheman"
)

// Reason says why an entry was built.
type Reason struct {
	Level string `json:"level"`
	Entry string `json:"entry,omitempty"` // "" if the level has one value
	Why   string `json:"why"`
}

// reasons collects, from the events of a Manager, why entries of the tree at dir were built.
type reasons struct {
	dir string
	mu  sync.Mutex
	all []Reason // in the order in which their builders returned
}

// observe is Options.Observe.
func (r *reasons) observe(e cacheman.Event) {
	level, isLevel := strings.CutSuffix(e.Cache, " of "+r.dir)
	if e.Kind != cacheman.EventBuilt || !isLevel {
		return
	}
	because := Reason{Level: level, Why: strings.ReplaceAll(e.Reason, " of "+r.dir, "")}
	if name, is := e.Key.(string); is {
		because.Entry = name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, because)
}

// writeReasons writes the first of a list.
func writeReasons(w io.Writer, list []Reason) {
	const most = 20
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\nWhat was built, and why\n")
	for _, r := range list[:min(most, len(list))] {
		fmt.Fprintf(w, "  %s: %s\n", strings.TrimSpace(r.Level+" "+r.Entry), r.Why)
	}
	if more := len(list) - most; more > 0 {
		fmt.Fprintf(w, "  and %s more, all of which -json names\n", thousands(more))
	}
}
