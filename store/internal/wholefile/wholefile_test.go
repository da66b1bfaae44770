package wholefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// lines is a format of lines "key=value". It fails to write the value "full".
var lines = Format{
	Ext: ".txt",
	Write: func(w io.Writer, entries iter.Seq[Entry]) error {
		for e := range entries {
			if string(e.Value) == "full" {
				return errFull
			}
			if _, err := fmt.Fprintf(w, "%s=%s\n", e.Key, e.Value); err != nil {
				return err
			}
		}
		return nil
	},
	Read: func(data []byte) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			n := 0
			for line := range bytes.Lines(data) {
				n++
				key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("="))
				var err error
				if !ok {
					err = errors.New("no =")
				}
				if !yield(Entry{n, key, value}, err) {
					return
				}
			}
		}
	},
}

var errFull = errors.New("no space left on device")

func ops(ops ...store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

func put(cache, key, value string) store.Op {
	return store.Op{Kind: store.Put, Cache: cache, Key: []byte(key), Value: []byte(value)}
}

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, lines)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func file(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFailedWrite: a batch that cannot be written changes no file, and leaves
// none behind.
func TestFailedWrite(t *testing.T) {
	s, dir := open(t)
	ctx := context.Background()
	if err := s.Apply(ctx, ops(put("a", "k", "1"), put("b", "k", "1"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(ctx, ops(put("a", "k", "2"), put("b", "j", "full"), put("c", "k", "2"))); !errors.Is(err, errFull) {
		t.Fatalf("Apply: %v", err)
	}
	if a, b := file(t, dir, "a.txt"), file(t, dir, "b.txt"); a != "k=1\n" || b != "k=1\n" {
		t.Errorf("the files are %q and %q", a, b)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 {
		t.Errorf("there are %v", entries)
	}
	if err := s.Apply(ctx, ops(put("b", "k", "3"))); err != nil {
		t.Fatal(err)
	}
	if b := file(t, dir, "b.txt"); b != "k=3\n" {
		t.Errorf("then the file is %q", b)
	}
}

// TestReadsBesideWrite: while a batch is being written, what was there before is
// read.
func TestReadsBesideWrite(t *testing.T) {
	reads := func() {}
	format := lines
	format.Write = func(w io.Writer, entries iter.Seq[Entry]) error {
		reads()
		return lines.Write(w, entries)
	}
	s, err := Open(t.TempDir(), format)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.Apply(ctx, ops(put("a", "k", "1"))); err != nil {
		t.Fatal(err)
	}
	read := 0
	reads = func() {
		if !s.mu.TryRLock() {
			t.Error("a read would wait")
			return
		}
		s.mu.RUnlock()
		for r, err := range s.Load(ctx, "a") {
			if err != nil || string(r.Value) != "1" {
				t.Errorf("Load: %s, %v", r.Value, err)
			}
			read++
		}
	}
	if err := s.Apply(ctx, ops(put("a", "k", "2"), put("b", "k", "2"))); err != nil {
		t.Fatal(err)
	}
	if !t.Failed() && read != 2 {
		t.Errorf("%d records were read", read)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("nothing is read-only for this user")
	}
	s, dir := open(t)
	if err := s.Apply(context.Background(), ops(put("a", "k", "1"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	if err := s.Apply(context.Background(), ops(put("a", "k", "2"))); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Apply: %v", err)
	}
	for r, err := range s.Load(context.Background(), "a") {
		if err != nil || string(r.Value) != "1" {
			t.Errorf("Load: %s, %v", r.Value, err)
		}
	}
}

// TestDamage: damage is reported where it is, and never written over.
func TestDamage(t *testing.T) {
	s, dir := open(t)
	ctx := context.Background()
	const damaged = "a=1\nnonsense\nb=2\na=3\n"
	if err := os.WriteFile(filepath.Join(dir, "c.txt"), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r, err := range s.Load(ctx, "c") {
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			got = append(got, err.Error()[strings.Index(err.Error(), "c.txt"):])
			continue
		}
		got = append(got, string(r.Key)+string(r.Value))
	}
	want := `[a1 c.txt:2: no = b2 c.txt:4: key "a" is in line 1 already]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := s.Apply(ctx, ops(put("c", "k", "v"))); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Apply on a damaged file: %v", err)
	}
	if err := s.Apply(ctx, ops(store.Op{Kind: store.Describe, Cache: "c"})); err != nil {
		t.Errorf("Describe on a damaged file: %v", err)
	}
	if got := file(t, dir, "c.txt"); got != damaged {
		t.Errorf("the file was changed to %q", got)
	}
	if err := s.Apply(ctx, ops(store.Op{Kind: store.Clear, Cache: "c"}, put("c", "k", "v"))); err != nil {
		t.Errorf("Clear of a damaged file: %v", err)
	}
	if got := file(t, dir, "c.txt"); got != "k=v\n" {
		t.Errorf("the file is %q", got)
	}
}

func TestLostName(t *testing.T) {
	s, dir := open(t)
	ctx := context.Background()
	long := strings.Repeat("long", 100)
	if err := s.Apply(ctx, ops(put(long, "k", "v"), put("short", "k", "v"))); err != nil {
		t.Fatal(err)
	}
	if got := file(t, dir, escape(long)+".name"); got != long {
		t.Errorf("the name is kept as %q", got)
	}
	if err := os.Remove(filepath.Join(dir, escape(long)+".name")); err != nil {
		t.Fatal(err)
	}
	infos, err := s.Caches(ctx)
	if !errors.Is(err, store.ErrCorrupt) || len(infos) != 1 || infos[0].Cache != "short" {
		t.Errorf("Caches: %v, %v", infos, err)
	}
	for _, err := range s.Load(ctx, long) {
		if err != nil {
			t.Errorf("Load: %v", err)
		}
	}
}

func TestForeignFiles(t *testing.T) {
	s, dir := open(t)
	for _, name := range []string{"README", "Upper.txt", "a b.txt", "%zz.txt", "%4.txt", "%41", "%61.txt", ".txt", "x.txt.tmp", "con.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("k=v\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	if infos, err := s.Caches(context.Background()); err != nil || len(infos) != 0 {
		t.Errorf("Caches: %v, %v", infos, err)
	}
}

func FuzzName(f *testing.F) {
	for _, name := range []string{"users", "Users", "con", "COM1", "a/b", "..", "日本", "%41", "~x", strings.Repeat("x", 300)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		stem := escape(name)
		if len(stem) > maxStem || strings.ToLower(stem) != stem || strings.ContainsAny(stem, `/\:*?"<>|. `) {
			t.Errorf("%q becomes %q", name, stem)
		}
		if got, ok := unescape(stem); isHashed(stem) == ok || ok && got != name {
			t.Errorf("%q becomes %q, and that %q, %v", name, stem, got, ok)
		}
		unescape(name) // any file
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "text", "base64:", "base64:!", "a\r\n", "\xff", "\ufeffx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Bytes(Text(b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q becomes %q, and that %q, %v", b, Text(b), got, err)
		}
		Bytes(string(b))
	})
}
