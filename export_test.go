package cacheman

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

func TestExportImport(t *testing.T) {
	m := newManager(t)
	in, sum, _ := sums(t, m, false)
	for i := range 5 {
		ok(t, in.Set(i, i))
	}
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	var out bytes.Buffer
	ok(t, m.Export(t.Context(), &out))

	dir := filepath.Join(t.TempDir(), "imported")
	if err := Import(t.Context(), dir, bytes.NewReader(out.Bytes()[:out.Len()-10])); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half of it: %v", err)
	}
	ok(t, Import(t.Context(), dir, &out))
	m = openDir(t, dir, Options{})
	in, sum, builds := sums(t, m, false)
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	equal(t, "builders", *builds, 0)
	ok(t, in.Set(4, 5))
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 11)
	equal(t, "builders", *builds, 1)
}

// TestClosedStore: also what says more than that the store is closed, as Export does beside a Close,
// matches ErrClosed.
func TestClosedStore(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	ok(t, must(Register(m, "c", Spec[int, int]{})).Set(1, 1))
	ok(t, m.Close())
	ok(t, d.Store.Close())
	err := wrap(t.Context(), "export", "", nil, fmt.Errorf("export: %w", store.Export(t.Context(), io.Discard, d.Store)))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
