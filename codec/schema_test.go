package codec

import (
	"testing"
	"time"
)

// schemaFor returns the schema of the codec of T.
func schemaFor[T any]() (string, error) {
	c, err := For[T]()
	return c.Schema, err
}

func TestSchema(t *testing.T) {
	type (
		point  struct{ X, Y int }
		dot    struct{ X, Y int }
		flip   struct{ Y, X int }
		wide   struct{ X, Y int64 }
		more   struct{ X, Y, Z int }
		tagged struct {
			X int `cbor:"x"`
			Y int
		}
		list struct {
			V    int
			Next *list
		}
		outer struct {
			P point
			T time.Time
		}
		outer2 struct {
			P dot
			T time.Time
		}
		outer3 struct {
			P wide
			T time.Time
		}
	)
	schemas := map[string]string{}
	must := func(schema string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	add := func(name, schema string) {
		if schema == "" {
			t.Errorf("%s has no schema", name)
		}
		schemas[name] = schema
	}
	add("point", must(schemaFor[point]()))
	add("dot", must(schemaFor[dot]()))
	add("flip", must(schemaFor[flip]()))
	add("wide", must(schemaFor[wide]()))
	add("more", must(schemaFor[more]()))
	add("tagged", must(schemaFor[tagged]()))
	add("list", must(schemaFor[list]()))
	add("outer", must(schemaFor[outer]()))
	add("outer2", must(schemaFor[outer2]()))
	add("outer3", must(schemaFor[outer3]()))
	add("slice", must(schemaFor[[]point]()))
	add("map", must(schemaFor[map[string]point]()))
	same := map[[2]string]bool{{"point", "dot"}: true, {"outer", "outer2"}: true}
	for a, x := range schemas {
		for b, y := range schemas {
			if want := a == b || same[[2]string{a, b}] || same[[2]string{b, a}]; (x == y) != want {
				t.Errorf("%s and %s: same schema: %v", a, b, x == y)
			}
		}
	}
	if s := must(schemaFor[int]()); s != "" {
		t.Errorf("int has schema %q, though its codec's name says all", s)
	}
}
