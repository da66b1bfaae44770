package csvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

func TestStore(t *testing.T) {
	for name, o := range map[string]csvstore.Options{
		"default": {},
		"header":  {Header: []string{"key", "value"}, Comma: ';'},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Open {
				dir := t.TempDir()
				return func() (store.Store, error) { return csvstore.Open(dir, o) }
			})
		})
	}
}

func apply(t testing.TB, s store.Store, ops ...store.Op) error {
	t.Helper()
	return s.Apply(context.Background(), batch(ops...))
}

func batch(ops ...store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

func put(key, value string) store.Op {
	return store.Op{Kind: store.Put, Cache: "c", Key: []byte(key), Value: []byte(value)}
}

// opened returns a store whose cache c is the file contents.
func opened(t testing.TB, o csvstore.Options, contents string) (*csvstore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.csv")
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := csvstore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, path
}

// loaded renders what cache c holds: records as key=value, damage as the line.
func loaded(t testing.TB, s store.Store) string {
	t.Helper()
	var all []string
	for r, err := range s.Load(context.Background(), "c") {
		if err == nil {
			all = append(all, fmt.Sprintf("%s=%s", r.Key, r.Value))
			continue
		}
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%v is not ErrCorrupt", err)
		}
		_, at, ok := strings.Cut(err.Error(), "c.csv:")
		if !ok {
			t.Errorf("%v does not name the file", err)
		}
		line, _, _ := strings.Cut(at, ":")
		all = append(all, "!"+line)
	}
	return strings.Join(all, " ")
}

func TestReadableFile(t *testing.T) {
	s, path := opened(t, csvstore.Options{Header: []string{"name", "words"}}, "name,words\n")
	if err := apply(t, s, put("b", "a, b"), put("a", "x"), put("c", "\xff"), put("d", "base64:x"), put("e", "1\r\n2")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "name,words\na,x\nb,\"a, b\"\nc,base64:/w==\nd,base64:YmFzZTY0Ong=\ne,base64:MQ0KMg==\n"
	if err != nil || string(got) != want {
		t.Errorf("the file is %q, %v; want %q", got, err, want)
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", ""},
		{"byte order mark", "\ufeffa,1\r\nb,2\r\n", "a=1 b=2"},
		{"no newline at the end", "a,1\nb,2", "a=1 b=2"},
		{"too few fields", "a,1\nb\nc,3\n", "a=1 !2 c=3"},
		{"too many fields", "a,1\nb,2,3\n", "a=1 !2"},
		{"quote within", "a,1\nb,x\"y\nc,3\n", "a=1 !2 c=3"},
		{"quote not closed", "a,1\nb,\"x\nc,3\n", "a=1 !2"},
		{"no base64", "a,base64:!\nb,2\n", "!1 b=2"},
		{"twice", "a,1\na,2\nb,3\n", "a=1 !2 b=3"},
		{"binary", "\x7fELF\x00\x01\nb,2\n", "!1 b=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := opened(t, csvstore.Options{}, c.file)
			if got := loaded(t, s); got != c.want {
				t.Errorf("loaded %q, want %q", got, c.want)
			}
		})
	}
	header := csvstore.Options{Header: []string{"key", "value"}}
	for file, want := range map[string]string{"": "!1", "a,1\n": "!1", "key,value\n": "", "x,y\na,1\n": "!1 a=1", "\ufeffkey,value\na,1\n": "a=1"} {
		s, _ := opened(t, header, file)
		if got := loaded(t, s); got != want {
			t.Errorf("%q: loaded %q, want %q", file, got, want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	row := func(k, v []byte) ([]string, error) { return nil, nil }
	for name, o := range map[string]csvstore.Options{
		"Row only": {Row: row}, "Comma": {Comma: '"'},
		"empty header": {Header: []string{}}, "header of nothing": {Header: []string{""}}, "header with \\r": {Header: []string{"a\r", "b"}},
	} {
		if _, err := csvstore.Open(t.TempDir(), o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestEntryPanics: a row that is too short for Entry is damaged, and the others are not.
func TestEntryPanics(t *testing.T) {
	s, _ := opened(t, csvstore.Options{
		Row:   func(k, v []byte) ([]string, error) { return []string{string(k), string(v)}, nil },
		Entry: func(row []string) (k, v []byte, err error) { return []byte(row[0]), []byte(row[1]), nil },
	}, "a,1\nb\nc,3\n")
	if got, want := loaded(t, s), "a=1 !2 c=3"; got != want {
		t.Errorf("loaded %q, want %q", got, want)
	}
}

// TestBadRows: what CSV cannot hold is refused when it is written.
func TestBadRows(t *testing.T) {
	for _, row := range [][]string{nil, {}, {""}, {"a\rb"}, {"a", "b\r\n"}} {
		s, path := opened(t, csvstore.Options{
			Row:   func(k, v []byte) ([]string, error) { return row, nil },
			Entry: func(row []string) (k, v []byte, err error) { return []byte(row[0]), nil, nil },
		}, "old\n")
		if err := apply(t, s, put("k", "v")); err == nil {
			t.Errorf("%q was written", row)
		}
		if b, _ := os.ReadFile(path); string(b) != "old\n" {
			t.Errorf("%q: the file is %q", row, b)
		}
	}
}

// TestFileBeginsWithMark: a byte order mark that is part of the first field is
// not taken for one that an editor has written.
func TestFileBeginsWithMark(t *testing.T) {
	for name, header := range map[string][]string{"row": nil, "header": {"\ufeffkey", "value"}} {
		s, _ := opened(t, csvstore.Options{
			Header: header,
			Row:    func(k, v []byte) ([]string, error) { return []string{string(k), string(v)}, nil },
			Entry:  func(row []string) (k, v []byte, err error) { return []byte(row[0]), []byte(row[1]), nil },
		}, "")
		if err := apply(t, s, store.Op{Kind: store.Clear, Cache: "c"}, put("\ufeffk", "v")); err != nil {
			t.Fatal(err)
		}
		if got, want := loaded(t, s), "\ufeffk=v"; got != want {
			t.Errorf("%s: loaded %q, want %q", name, got, want)
		}
	}
}

type edge struct{ From, To int }

// edges is a cache whose key is in two columns and whose value is a number.
func edges() (csvstore.Options, codec.Codec[edge], codec.Codec[float64]) {
	key, err1 := codec.Key[edge]()
	value, err2 := codec.For[float64]()
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	o := csvstore.Options{Header: []string{"from", "to", "weight"}}
	o.Row, o.Entry = csvstore.Rows(key, value,
		func(e edge, w float64) []string {
			return []string{strconv.Itoa(e.From), strconv.Itoa(e.To), strconv.FormatFloat(w, 'g', -1, 64)}
		},
		func(row []string) (e edge, w float64, err error) {
			if len(row) != 3 {
				return e, w, fmt.Errorf("%d fields, not 3", len(row))
			}
			var errs [3]error
			e.From, errs[0] = strconv.Atoi(row[0])
			e.To, errs[1] = strconv.Atoi(row[1])
			w, errs[2] = strconv.ParseFloat(row[2], 64)
			return e, w, errors.Join(errs[:]...)
		})
	return o, key, value
}

func TestRows(t *testing.T) {
	o, key, value := edges()
	s, path := opened(t, o, "from,to,weight\n1,x,5\n3,4,2.5\n3\n")
	n, damaged := 0, 0
	for r, err := range s.Load(context.Background(), "c") {
		if err != nil {
			damaged++
			continue
		}
		n++
		k, err1 := key.Decode(r.Key)
		v, err2 := value.Decode(r.Value)
		if err := errors.Join(err1, err2); err != nil || k != (edge{3, 4}) || v != 2.5 {
			t.Errorf("loaded %v, %v, %v", k, v, err)
		}
	}
	if n != 1 || damaged != 2 {
		t.Errorf("%d rows were loaded, %d damaged", n, damaged)
	}
	if err := apply(t, s, put("not a key", "v")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Apply: %v", err)
	}
	if err := apply(t, s, store.Op{Kind: store.Clear, Cache: "c"}, put("not a key", "v")); err == nil {
		t.Error("a key that is none was written")
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), "1,x,5") {
		t.Errorf("the file is %q", b)
	}
}

func ExampleRows() {
	dir, err := os.MkdirTemp("", "csvstore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	options, key, value := edges() // csvstore.Rows with two columns for the key
	s, err := csvstore.Open(dir, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	k, _ := key.Append(nil, edge{1, 2})
	v, _ := value.Append(nil, 0.5)
	err = s.Apply(context.Background(), batch(store.Op{Kind: store.Put, Cache: "edges", Key: k, Value: v}))
	if err != nil {
		fmt.Println(err)
	}
	file, _ := os.ReadFile(filepath.Join(dir, "edges.csv"))
	fmt.Print(string(file))
	// Output:
	// from,to,weight
	// 1,2,0.5
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "a,1\nb,2\n", "a,\"x\ny\"\n", "a,base64:/w==\n", "\"", "\ufeffa,b", "a,1\na,2\n", "\x00\xff,\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, _ := opened(t, csvstore.Options{}, string(file))
		before := loaded(t, s)
		if strings.Contains(before, "!") {
			return
		}
		if err := apply(t, s, put("\xffnew", "v")); err != nil {
			t.Fatal(err)
		}
		if err := apply(t, s, store.Op{Kind: store.Delete, Cache: "c", Key: []byte("\xffnew")}); err != nil {
			t.Fatal(err)
		}
		if after := loaded(t, s); len(after) != len(before) {
			t.Fatalf("%q was read as %q and written as %q", file, before, after)
		}
	})
}
