package wholefile

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// mark begins a text that stands for bytes which are no text.
const mark = "base64:"

// Text returns b as text, from which [Bytes] returns exactly b. It is b
// itself if that is UTF-8, has no carriage return, which files lose, and
// does not begin with a byte order mark or with what marks the other form,
// which is base64.
func Text(b []byte) string {
	if utf8.Valid(b) && bytes.IndexByte(b, '\r') < 0 &&
		!bytes.HasPrefix(b, []byte(mark)) && !bytes.HasPrefix(b, []byte(BOM)) {
		return string(b)
	}
	return mark + base64.StdEncoding.EncodeToString(b)
}

// Bytes returns the bytes that s stands for.
func Bytes(s string) ([]byte, error) {
	if len(s) < len(mark) || s[:len(mark)] != mark {
		return []byte(s), nil
	}
	b, err := base64.StdEncoding.DecodeString(s[len(mark):])
	if err != nil {
		return nil, fmt.Errorf("%.40q: %w", s, err)
	}
	return b, nil
}

// BOM is what some editors write at the beginning of a file.
const BOM = "\ufeff"
