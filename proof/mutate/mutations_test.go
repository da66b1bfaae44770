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
