package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/boltstore"
)

// wantOpenError opens a file, which must fail and leave the file as it is.
func wantOpenError(t *testing.T, path string, want error, words ...string) {
	t.Helper()
	before, _ := os.ReadFile(path)
	s, err := boltstore.Open(path, boltstore.Options{})
	if s != nil || !errors.Is(err, want) {
		t.Fatalf("Open: %v, %v; want %v", s, err, want)
	}
	for _, word := range append(words, "boltstore: open: ", path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Errorf("Open changed the file, and returned %v", err)
	}
	// Nothing holds it any more.
	if out, err := child(t, "try", path).Output(); err == nil || strings.Contains(string(out), "locked") {
		t.Errorf("another process says %q, %v", out, err)
	}
}

// edit changes a database with bbolt's own means.
func edit(t *testing.T, path string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNotADatabase(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"short": "x",
		"text":  strings.Repeat("this is not a database\n", 1000),
		"zeros": strings.Repeat("\x00", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := place(t)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			wantOpenError(t, path, store.ErrFormat, "not a bbolt database")
		})
	}
	t.Run("of another program", func(t *testing.T) {
		t.Parallel()
		path := place(t)
		edit(t, path, func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return err
		})
		wantOpenError(t, path, store.ErrFormat, "another program")
	})
	t.Run("newer", func(t *testing.T) {
		t.Parallel()
		path := place(t)
		open(t, path).Close()
		edit(t, path, func(tx *bolt.Tx) error { return tx.Bucket([]byte("cacheman")).Put([]byte("format"), []byte("2")) })
		wantOpenError(t, path, store.ErrFormat, `"2"`)
	})
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		path := t.TempDir()
		if _, err := boltstore.Open(path, boltstore.Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Open of a directory: %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "missing", "cache.db")
		if _, err := boltstore.Open(path, boltstore.Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Open in a directory that is not there: %v", err)
		}
	})
}

// An empty file is what a process leaves that is killed while it makes one.
func TestEmptyFile(t *testing.T) {
	t.Parallel()
	path := place(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, open(t, path), puts("c", 10, "v"))
}

// damage makes a database in which a record, a description, or the way to
// them is damaged: change gets the file and where the mark is in it.
func damage(t *testing.T, change func(file []byte, mark int) []byte) (path string) {
	t.Helper()
	path = place(t)
	s := open(t, path)
	apply(t, s, puts("c", 300, strings.Repeat("v", 100)))
	apply(t, s, batch(put("c", "000150", "the mark"), put("d", "k", "v"),
		store.Op{Kind: store.Describe, Cache: "d", Value: []byte("the description")}))
	if err := s.Compact(t.Context()); err != nil { // so that there is one of each only
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark := bytes.Index(file, []byte("the mark"))
	if err := os.WriteFile(path, change(file, mark), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load returns what a cache gives.
func load(s store.Store, cache string) (records int, errs []error) {
	for _, err := range s.Load(context.Background(), cache) {
		if err != nil {
			errs = append(errs, err)
		} else {
			records++
		}
	}
	return records, errs
}

func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	s := open(t, damage(t, func(file []byte, mark int) []byte {
		file[mark] ^= 1
		return file
	}))
	for range 2 {
		records, errs := load(s, "c")
		if records != 299 || len(errs) != 1 || !errors.Is(errs[0], store.ErrCorrupt) || !strings.Contains(errs[0].Error(), `"000150"`) {
			t.Errorf("Load gives %d records and %v", records, errs)
		}
		if _, err := s.Get(t.Context(), "c", []byte("000150")); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Get: %v", err)
		}
		if _, err := s.Get(t.Context(), "c", []byte("000151")); err != nil {
			t.Errorf("Get of its neighbour: %v", err)
		}
		// It stays damaged when it is copied.
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, s, batch(put("c", "000150", "mended")))
	if records, errs := load(s, "c"); records != 300 || errs != nil {
		t.Errorf("after it was written anew Load gives %d records and %v", records, errs)
	}
}

func TestDamagedDescription(t *testing.T) {
	t.Parallel()
	path := damage(t, func(file []byte, _ int) []byte {
		return bytes.Replace(file, []byte("the description"), []byte("tha description"), 1)
	})
	wantOpenError(t, path, store.ErrCorrupt, `cache "d"`)
}

func TestMissingRecords(t *testing.T) {
	t.Parallel()
	path := damage(t, func(file []byte, _ int) []byte { return file })
	edit(t, path, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("caches")).Bucket([]byte("c")).Delete([]byte("\x01000150"))
	})
	s := open(t, path)
	records, errs := load(s, "c")
	if records != 299 || len(errs) != 1 || !errors.Is(errs[0], store.ErrCorrupt) || !strings.Contains(errs[0].Error(), "299 records, not 300") {
		t.Errorf("Load gives %d records and %v", records, errs)
	}
	if err := s.Compact(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Compact: %v", err)
	}
	if _, errs := load(s, "d"); errs != nil {
		t.Errorf("Load of another cache: %v", errs)
	}
}

func TestMissingCache(t *testing.T) {
	t.Parallel()
	path := damage(t, func(file []byte, _ int) []byte { return file })
	edit(t, path, func(tx *bolt.Tx) error { return tx.Bucket([]byte("caches")).DeleteBucket([]byte("d")) })
	wantOpenError(t, path, store.ErrCorrupt, "1 caches, not 2")
}

// Pages that bbolt cannot make sense of are errors, not panics, and the rest
// of the store can be used.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	path := damage(t, func(file []byte, mark int) []byte {
		page := file[mark/os.Getpagesize()*os.Getpagesize():]
		page[0] ^= 0xff // its number
		return file
	})
	s := open(t, path)
	records, errs := load(s, "c")
	if len(errs) != 1 || !errors.Is(errs[0], store.ErrCorrupt) {
		t.Errorf("Load gives %d records and %v", records, errs)
	}
	if _, err := s.Get(t.Context(), "c", []byte("000150")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Get: %v", err)
	}
	if _, err := s.Get(t.Context(), "d", []byte("k")); err != nil {
		t.Errorf("Get in another cache: %v", err)
	}
	// A batch that comes upon it fails, and so does any after it, for bbolt
	// is left within the first.
	for _, cache := range []string{"c", "d"} {
		if err := s.Apply(t.Context(), puts(cache, 300, "new")); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Apply to %s: %v", cache, err)
		}
	}
	if _, err := s.Get(t.Context(), "d", []byte("k")); err != nil {
		t.Errorf("Get in another cache: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	open(t, path)
}

func TestDamagedStart(t *testing.T) {
	t.Parallel()
	path := damage(t, func(file []byte, _ int) []byte {
		for _, page := range []int{0, os.Getpagesize()} {
			file[page+40] ^= 1 // within what bbolt has a checksum of
		}
		return file
	})
	wantOpenError(t, path, store.ErrCorrupt)
}

// check opens a file that is damaged somehow and reads all of it: there are
// errors of the right kind, or what is there is right and complete.
func check(t *testing.T, path, how string) {
	t.Helper()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrFormat) {
			t.Fatalf("%s: Open: %v", how, err)
		}
		return
	}
	records, damaged := 0, 0
	for r, err := range s.Load(t.Context(), "c") {
		switch {
		case err != nil && !errors.Is(err, store.ErrCorrupt):
			t.Fatalf("%s: Load: %v", how, err)
		case err != nil:
			damaged++
		case string(r.Value) != strings.Repeat("v", 100) && string(r.Value) != "the mark":
			t.Fatalf("%s: %q has value %.80q", how, r.Key, r.Value)
		default:
			records++
		}
	}
	if records != 300 && damaged == 0 {
		t.Fatalf("%s: %d records, and no error", how, records)
	}
	if err := s.Close(); err != nil {
		t.Errorf("%s: Close: %v", how, err)
	}
}

func TestCutFile(t *testing.T) {
	t.Parallel()
	whole := damage(t, func(file []byte, _ int) []byte { return file })
	file, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(file); cut += 1021 {
		how := fmt.Sprint("cut at ", cut)
		path := filepath.Join(filepath.Dir(whole), how)
		if err := os.WriteFile(path, file[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, path, how)
	}
}

func TestFlippedBits(t *testing.T) {
	t.Parallel()
	whole := damage(t, func(file []byte, _ int) []byte { return file })
	file, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for bit := 0; bit < 8*len(file); bit += 4001 {
		how := fmt.Sprint("bit ", bit)
		path := filepath.Join(filepath.Dir(whole), how)
		file[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		file[bit/8] ^= 1 << (bit % 8)
		check(t, path, how)
	}
}
