package codec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
)

// schemaOf returns a fingerprint of what values of t look like: of the fields,
// their tags and their types, and so on, but not of the names of types. It is the
// same in every process. t has passed check.
func schemaOf(t reflect.Type) string {
	h := sha256.New()
	s := schema{w: h, seen: make(map[reflect.Type]int)}
	s.write(t)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

type schema struct {
	w    io.Writer
	seen map[reflect.Type]int // by number, in the order of being met
}

func (s *schema) write(t reflect.Type) {
	if n, ok := s.seen[t]; ok {
		fmt.Fprintf(s.w, "#%d ", n)
		return
	}
	if t.Kind() >= reflect.Array && t.Kind() != reflect.String {
		s.seen[t] = len(s.seen)
	}
	own := cborOwn[t]
	if p := reflect.PointerTo(t); t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		own = own || p.Implements(cborMarshaler) || p.Implements(binaryMarshaler) || p.Implements(binaryAppender)
	}
	if own {
		fmt.Fprintf(s.w, "%v ", t) // only its methods know
		return
	}
	fmt.Fprintf(s.w, "%v ", t.Kind())
	switch t.Kind() {
	case reflect.Array:
		fmt.Fprintf(s.w, "%d ", t.Len())
		s.write(t.Elem())
	case reflect.Pointer, reflect.Slice:
		s.write(t.Elem())
	case reflect.Map:
		s.write(t.Key())
		s.write(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			fmt.Fprintf(s.w, "%q %q %v ", f.Name, f.Tag, f.Anonymous)
			s.write(f.Type)
		}
		fmt.Fprint(s.w, "end ")
	}
}
