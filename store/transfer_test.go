package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// filled returns a store with some caches.
func filled(t *testing.T) store.Store {
	t.Helper()
	s := memstore.New()
	err := s.Apply(t.Context(), func(yield func(store.Op, error) bool) {
		put := func(op store.Op) { yield(op, nil) }
		put(store.Op{Kind: store.Describe, Cache: "a", Value: []byte("what a is\xff")})
		put(store.Op{Kind: store.Describe, Cache: "\x00empty", Value: nil})
		for i := range 100 {
			put(store.Op{Kind: store.Put, Cache: "a", Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte{byte(i)}, i*5), Meta: fmt.Append(nil, -i)})
		}
		put(store.Op{Kind: store.Put, Cache: "b", Key: []byte{}, Value: []byte{}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents lists all that a store has.
func contents(t *testing.T, s store.Store) string {
	t.Helper()
	var b strings.Builder
	infos, err := s.Caches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		fmt.Fprintf(&b, "%q: %q\n", info.Cache, info.Description)
		lines := map[string]string{}
		for r, err := range s.Load(t.Context(), info.Cache) {
			if err != nil {
				t.Fatal(err)
			}
			lines[string(r.Key)] = fmt.Sprintf("%q %q", r.Value, r.Meta)
		}
		fmt.Fprintf(&b, "%q\n", lines) // sorted by key
	}
	return b.String()
}

func TestExport(t *testing.T) {
	s := filled(t)
	var out bytes.Buffer
	if err := store.Export(t.Context(), &out, s); err != nil {
		t.Fatal(err)
	}
	to, err := logstore.Open(t.TempDir(), logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := store.Import(t.Context(), to, bytes.NewReader(out.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, to), contents(t, s); got != want {
		t.Errorf("imported:\n%s\nexported:\n%s", got, want)
	}
	if err := store.Import(t.Context(), to, bytes.NewReader(out.Bytes())); err == nil {
		t.Error("imported over what is there")
	}
	var again bytes.Buffer
	if err := store.Export(t.Context(), &again, to); err != nil {
		t.Fatal(err)
	}
	if a, b := strings.Count(again.String(), "\n"), strings.Count(out.String(), "\n"); a != b {
		t.Errorf("exported again, it has %d lines instead of %d", a, b)
	}
}

// nils is a store that gives nil for what is empty.
type nils struct{ store.Store }

func (s nils) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for r, err := range s.Store.Load(ctx, cache) {
			for _, b := range []*[]byte{&r.Key, &r.Value, &r.Meta} {
				if len(*b) == 0 {
					*b = nil
				}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// TestExportNil: an empty key can be imported, also if the store gives nil for it.
func TestExportNil(t *testing.T) {
	s := nils{filled(t)}
	var out bytes.Buffer
	if err := store.Export(t.Context(), &out, s); err != nil {
		t.Fatal(err)
	}
	to := memstore.New()
	if err := store.Import(t.Context(), to, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, to), contents(t, s); got != want {
		t.Errorf("imported:\n%s\nexported:\n%s", got, want)
	}
}

// TestImportDamaged: of what is not what was exported, nothing is imported.
func TestImportDamaged(t *testing.T) {
	var out bytes.Buffer
	if err := store.Export(t.Context(), &out, filled(t)); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	try := func(what string, data []byte) {
		t.Helper()
		to := memstore.New()
		err := store.Import(t.Context(), to, bytes.NewReader(data))
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
		if got := contents(t, to); got != "" {
			t.Errorf("%s left something: %s", what, got)
		}
	}
	step := max(1, len(whole)/500)
	for i := 0; i < len(whole); i += step {
		try(fmt.Sprintf("cut at %d", i), whole[:i])
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		try(fmt.Sprintf("a bit flipped at %d", i), flipped)
	}
	try("something after it", append(bytes.Clone(whole), '\n'))
	try("something else", []byte("{}\n"))
	lines := bytes.SplitAfter(whole, []byte("\n"))
	try("a line missing", bytes.Join(append(lines[:3:3], lines[4:]...), nil))
}

func FuzzImport(f *testing.F) {
	for _, seed := range []string{
		"",
		"{\"format\":\"cacheman export 1\"}\n",
		"{\"format\":\"cacheman export 1\"}\n{\"cache\":\"a\"}\n{\"key\":\"\"}\n{\"records\":1}\n",
		"{\"format\":\"cacheman export 1\"}\n{\"records\":0,\"sha256\":\"\"}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		to := memstore.New()
		if store.Import(t.Context(), to, bytes.NewReader(data)) != nil {
			if got := contents(t, to); got != "" {
				t.Errorf("left %s", got)
			}
			return
		}
		var out bytes.Buffer
		if err := store.Export(t.Context(), &out, to); err != nil {
			t.Fatal(err)
		}
		again := memstore.New()
		if err := store.Import(t.Context(), again, &out); err != nil {
			t.Fatal(err)
		}
		if a, b := contents(t, to), contents(t, again); a != b {
			t.Errorf("%s\nand again\n%s", a, b)
		}
	})
}
