package jsonstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/jsonstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		dir := t.TempDir()
		return func() (store.Store, error) { return jsonstore.Open(dir) }
	})
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

func opened(t testing.TB, contents string) (*jsonstore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.json")
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := jsonstore.Open(dir)
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
		_, at, ok := strings.Cut(err.Error(), "c.json:")
		if !ok {
			t.Errorf("%v does not name the file", err)
		}
		line, _, _ := strings.Cut(at, ":")
		all = append(all, "!"+line)
	}
	return strings.Join(all, " ")
}

// TestValues: every value comes back as exactly the bytes that were given.
func TestValues(t *testing.T) {
	deep := strings.Repeat("[", 9999) + strings.Repeat("]", 9999)
	values := []string{
		"", " ", "1", " 1", "1 ", "1\n", "01", "-0", "1e999", "12345678901234567890", `"a"`, `"<&>"`, `"\u003c"`, "\"\u2028\"",
		`"\ud800"`, "\"\xff\"", "null", "true", "True", `{}`, `{ }`, `{"a":[1,2]}`, `{"a": 1}`, `{"a":1,"a":2}`, "[\n]", "[1,]",
		`1,"x":2`, `{"$base64":"AA=="}`, `{"$base64":5}`, `{"$base64":"AA==","x":1}`, `{"x":{"$base64":"AA=="}}`, "text", "\x00", "\ufeff1",
		"[" + deep + "]", deep, strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
	}
	s, path := opened(t, "{}")
	var ops []store.Op
	for i, v := range values {
		ops = append(ops, put(fmt.Sprintf("%03d", i), v))
	}
	if err := s.Apply(t.Context(), batch(ops...)); err != nil {
		t.Fatal(err)
	}
	i := 0
	for r, err := range s.Load(t.Context(), "c") {
		if err != nil || string(r.Value) != values[i] {
			t.Errorf("%.60q came back as %.60q, %v", values[i], r.Value, err)
		}
		i++
	}
	if i != len(values) {
		t.Errorf("%d of %d values came back", i, len(values))
	}
	if b, err := os.ReadFile(path); err != nil || !json.Valid(b) {
		t.Errorf("the file is no JSON: %v", err)
	}
}

func TestReadableFile(t *testing.T) {
	s, path := opened(t, "{}")
	if err := s.Apply(t.Context(), batch(put("b", `{"n":[1,2]}`), put("a<b", `"x"`), put("c", "\xff"), put("\xff", "1"))); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "{\n\"a<b\": \"x\",\n\"b\": {\"n\":[1,2]},\n\"c\": {\"$base64\":\"/w==\"},\n\"base64:/w==\": 1\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("the file is %q, %v; want %q", got, err, want)
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "!1"},
		{"white space", " \n", "!1"},
		{"empty object", "{}", ""},
		{"laid out by hand", "\ufeff{\n  \"a\": {\n    \"n\": 1\n  },\r\n  \"b\": [ ]\n}", `a={"n":1} b=[]`},
		{"an array", "[1]", "!1"},
		{"a string", `"x"`, "!1"},
		{"truncated between", "{\n\"a\": 1,\n\"b\": 2,\n", "a=1 b=2 !3"},
		{"truncated within", "{\n\"a\": 1,\n\"b\": \"tex", "a=1 !3 !3"},
		{"a bad line", "{\n\"a\": 1,\n\"b\": x,\n\"c\": 3\n}\n", "a=1 !3 c=3"},
		{"two on a bad line", "{\n\"a\": 1, \"b\": 2,\n\"c\": x\n}\n", "!2 !3"},
		{"a missing comma", "{\n\"a\": 1\n\"b\": 2\n}\n", "a=1 b=2 !1"},
		{"laid out by hand and a missing comma", "{\n  \"a\": {\n    \"n\": 1\n  },\n  \"b\": 2\n  \"c\": 3\n}\n", "!2 !3 !4 b=2 c=3"},
		{"a key that is not UTF-8", "{\n\"\xe9\": 1,\n\"b\": \"\xe9\"\n}\n", "!2 b=\"\xe9\""},
		{"twice", "{\n\"a\": 1,\n\"a\": 2,\n\"b\": 3\n}\n", "a=1 !3 b=3"},
		{"no base64", "{\n\"a\": {\"$base64\":\"!\"},\n\"b\": {\"$base64\":5},\n\"base64:!\": 1,\n\"c\": 1\n}\n", "!2 !3 !4 c=1"},
		{"binary", "\x7fELF\x00\n\xff", "!1 !2 !2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, path := opened(t, c.file)
			if got := loaded(t, s); got != c.want {
				t.Errorf("loaded %q, want %q", got, c.want)
			}
			if !strings.Contains(c.want, "!") {
				return
			}
			if err := s.Apply(t.Context(), batch(put("k", "v"))); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("Apply: %v", err)
			}
			if b, _ := os.ReadFile(path); string(b) != c.file {
				t.Errorf("the file was changed to %q", b)
			}
		})
	}
}

// TestBitFlips: a flipped bit gives an error or another value, and no more.
func TestBitFlips(t *testing.T) {
	const file = "{\n\"a\": {\"n\":1},\n\"b\": {\"$base64\":\"/w==\"},\n\"base64:/w==\": [true,null]\n}\n"
	for i := range len(file) * 8 {
		b := []byte(file)
		b[i/8] ^= 1 << (i % 8)
		s, _ := opened(t, string(b))
		loaded(t, s)
		s.Close()
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "jsonstore")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := jsonstore.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	err = s.Apply(context.Background(), batch(
		store.Op{Kind: store.Put, Cache: "users", Key: []byte("ann"), Value: []byte(`{"age":42}`)},
		store.Op{Kind: store.Put, Cache: "users", Key: []byte("bob"), Value: []byte("\xff")},
	))
	if err != nil {
		fmt.Println(err)
	}
	file, _ := os.ReadFile(filepath.Join(dir, "users.json"))
	fmt.Print(string(file))
	// Output:
	// {
	// "ann": {"age":42},
	// "bob": {"$base64":"/w=="}
	// }
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "{}", "{\n\"a\": 1,\n\"b\": {\"$base64\":\"/w==\"}\n}\n", `{"base64:/w==":[]}`, "[", "{\n\"a\": 1,\n", "{\"a\":\"\xff\"}", "{\"\\ud800\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, path := opened(t, string(file))
		before := loaded(t, s)
		if strings.Contains(before, "!") {
			return
		}
		if err := s.Apply(context.Background(), batch(put("\xff\xffnew", "v"), store.Op{Kind: store.Delete, Cache: "c", Key: []byte("\xff\xffnew")})); err != nil {
			t.Fatal(err)
		}
		if after := loaded(t, s); len(after) != len(before) {
			t.Fatalf("%q was read as %q and written as %q", file, before, after)
		}
		if b, _ := os.ReadFile(path); !json.Valid(bytes.TrimSpace(b)) {
			t.Fatalf("%q was written as %q", file, b)
		}
	})
}
