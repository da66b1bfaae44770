package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cacheman-go/cacheman/store"
)

// checkCaps: a store says the same of itself always.
func checkCaps(t *suite) {
	s := t.store()
	before := s.Caps()
	t.apply(s, put("c", "k", "v"))
	if after := s.Caps(); after != before {
		t.Errorf("Caps were %+v and are %+v", before, after)
	}
}

// checkCaches: what makes a cache known, and what does not.
func checkCaches(t *suite) {
	s := t.store()
	m := make(model)
	step := func(ops ...store.Op) {
		t.Helper()
		t.apply(s, ops...)
		m.apply(ops...)
		t.want(s, m)
	}
	t.want(s, m)
	step()
	step(put("b", "k", "v"))
	step(put("c", "k", "v"), put("a", "k", "v"))
	step(del("unknown", "k"), clearAll("unknown"), drop("unknown"))
	step(del("b", "k")) // known still, and empty
	step(clearAll("a"))
	step(drop("c"))
	step(put("c", "new", "v"))
	step(put("dropped", "k", "v"))
	step(drop("dropped"))
	for _, name := range []string{"unknown", "d", "", "dropped"} {
		n := 0
		for _, err := range s.Load(t.Context(), name) {
			if n++; !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Load of unknown %q: %v, want ErrNotFound", name, err)
			}
		}
		if n != 1 {
			t.Errorf("Load of unknown %q yields %d times", name, n)
		}
	}
}

// checkDescription: a description belongs to its cache, not to the records.
func checkDescription(t *suite) {
	s := t.store()
	if !s.Caps().Described {
		// It may be forgotten, but must do no harm.
		t.apply(s, put("c", "k", "v"), describe("c", "ignored"))
		t.wantRecords(s, "c", map[string]store.Record{"k": {Value: []byte("v")}})
		return
	}
	m := make(model)
	step := func(ops ...store.Op) {
		t.Helper()
		t.apply(s, ops...)
		m.apply(ops...)
		t.want(s, m)
	}
	step(describe("only described", "d"))
	step(put("c", "k", "v"))
	step(describe("c", "first"))
	step(describe("c", "second"), describe("other", strings.Repeat("\x00\xff", 5000)))
	step(clearAll("c")) // the description stays
	step(describe("c", ""))
	step(describe("c", "again"), drop("c"))
	step(put("c", "k", "v")) // the description is gone
	step(drop("other"), describe("other", "new"), put("other", "k", "v"))
}

// checkNames: any name is a name of its own.
func checkNames(t *suite) {
	s := t.store()
	names := []string{
		"a", "A", "aA", "Aa", "ß", "ss", "SS", "ſs", "é", "e\u0301", "İ", "i", "ı", "I",
		".", "..", "...", "../a", "a/../b", "/", "//", "/etc/passwd", "a/b", "a//b", `a\b`, `C:\a`, "a:b",
		" ", "a ", " a", "a.", ".a", "a\t", "\n", "a\r\n", "\x00", "a\x00", "a\x00b", "\x01", "\x7f",
		"CON", "con", "con.txt", "NUL", "aux", "COM1", "LPT9", "CONIN$", "PRN.",
		"%", "%00", "%2F", "%25", "a%2fb", "+", "~", "~a", "-", "_", "*", "?", "<>|\"'`$&;!#^", "a,b", "=a",
		"日本語", "Ελληνικά", "العربية", "👩\u200d👩\u200d👧", "\ufeff", "\u202egnp", "\U0010ffff",
		"LOCK", "MANIFEST-1", "index", "a.csv", "a.json", ".tmp", "a.tmp",
	}
	for _, n := range []int{100, 255, 256, 300, 4096} {
		names = append(names, strings.Repeat("x", n), strings.Repeat("X", n), strings.Repeat("x", n-1)+"y",
			strings.Repeat("/", n), strings.Repeat("ü", n/2))
	}
	m := make(model)
	var ops []store.Op
	for i, name := range names {
		if m[name] != nil {
			continue // "ü" of 255 and of 256
		}
		op := put(name, "k", fmt.Sprint(i))
		m.apply(op)
		ops = append(ops, op)
	}
	t.apply(s, ops...)
	t.want(s, m)
	if s.Caps().Persistent {
		s = t.reopen(s)
		t.want(s, m)
	}
	ops = nil
	for i, name := range names {
		if i%2 == 0 {
			ops = append(ops, drop(name))
		}
	}
	t.apply(s, ops...)
	m.apply(ops...)
	t.want(s, m)
}
