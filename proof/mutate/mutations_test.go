package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestMutations: what is to be taken out is where it is said to be, and so are the tests.
func TestMutations(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := runner{root: root, tmp: t.TempDir()}
	for _, m := range mutations {
		if strings.Contains(m.name, ",") {
			t.Errorf("%s: -only takes it for several names", m.name)
		}
		if _, err := r.without(m); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		files, err := filepath.Glob(filepath.Join(root, m.in, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			declared, err := declares(file, m.tests)
			if err != nil {
				t.Fatal(err)
			}
			found = found || declared
		}
		if !found {
			t.Errorf("%s: there is no test %s", m.name, m.tests)
		}
	}
}

// TestShares: each mutation is in one share of several.
func TestShares(t *testing.T) {
	times := map[string]int{}
	for _, share := range []string{"1/3", "2/3", "3/3"} {
		part, err := shareOf(mutations, share)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range part {
			times[m.name]++
		}
	}
	for _, m := range mutations {
		if times[m.name] != 1 {
			t.Errorf("%s is in %d shares", m.name, times[m.name])
		}
	}
	for _, share := range []string{"", "3", "0/3", "4/3", "-1/3", "a/b"} {
		if _, err := shareOf(mutations, share); err == nil {
			t.Errorf("-share %q is no error", share)
		}
	}
}
