// Package jsonstore keeps each cache in a JSON file that people and other
// programs can read and change: one object, with one line for each record.
//
// Give a cache Codec: codec.JSON[V](), and its values are stored as they are. A value
// that is no JSON, as of the default codecs, also of that for text, is stored as
// {"$base64": "…"}, and a key that is no text as "base64:…". What is loaded is exactly
// what was stored.
//
// A file is read and written as a whole, so a batch costs what the caches that
// it changes hold. Only one process may write to a directory at a time, and
// nothing enforces it. There are no checksums: a value that was changed counts
// as it is, as long as it is JSON. What cannot be read is an error that wraps
// [store.ErrCorrupt] and names the file and the line; other lines are loaded,
// but the cache cannot be changed, except by clearing or dropping it, until
// the file is mended.
//
// A file has no room for what a value was computed from. The Manager's own store
// keeps that, if it is another one that can, and a value that comes back as it was
// is recognized. Any other counts as set by hand, also in a cache with a builder:
// it is not built anew when something changes, nor for another Version, until it is
// invalidated. What a Probe has given is asked for again.
package jsonstore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"github.com/cacheman-go/cacheman/store/internal/wholefile"
)

// Store is a [store.Store] of JSON files: persistent and durable. It is atomic
// for each cache, but not for batches that change several, does not keep
// descriptions or metadata, and is not incremental.
type Store struct{ *files }

type files = wholefile.Store

// Open opens the store in the directory dir, which is made if it is not there.
func Open(dir string) (*Store, error) {
	s, err := wholefile.Open(dir, wholefile.Format{Ext: ".json", Write: write, Read: read})
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

func write(w io.Writer, entries iter.Seq[wholefile.Entry]) error {
	sep := "{\n"
	var line []byte
	for e := range entries {
		line = append(line[:0], sep...)
		line = append(line, text(wholefile.Text(e.Key))...)
		line = append(line, ": "...)
		line = appendValue(line, e.Value)
		if _, err := w.Write(line); err != nil {
			return err
		}
		sep = ",\n"
	}
	end := "\n}\n"
	if sep == "{\n" {
		end = "{}\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// text returns s as JSON, without escapes that only HTML needs.
func text(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string can always be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

const mark = `{"$base64":`

// appendValue appends v itself if it is JSON and comes back as it is, which
// needs it to be without white space, and not to look like the other form.
func appendValue(dst, v []byte) []byte {
	if utf8.Valid(v) && !bytes.HasPrefix(v, []byte(mark)) {
		// The list around it makes sure that it is not nested as deeply as
		// JSON may be: in a file it is one level deeper.
		list := append(append([]byte{'['}, v...), ']')
		c, err := compact(v)
		if err == nil && bytes.Equal(c, v) && json.Valid(list) {
			return append(dst, v...)
		}
	}
	dst = append(dst, mark...)
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, `"}`...)
}

// value returns the bytes that raw, which is valid JSON, stands for.
func value(raw []byte) ([]byte, error) {
	c, err := compact(raw)
	if err != nil || !bytes.HasPrefix(c, []byte(mark)) {
		return c, err
	}
	var s string
	if err := json.Unmarshal(bytes.TrimSuffix(c[len(mark):], []byte("}")), &s); err != nil {
		return nil, fmt.Errorf("$base64 is no string: %w", err)
	}
	return base64.StdEncoding.DecodeString(s)
}

func compact(v []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Compact(&b, v)
	return b.Bytes(), err
}

func read(data []byte) iter.Seq2[wholefile.Entry, error] {
	data = bytes.TrimPrefix(data, []byte(wholefile.BOM))
	if json.Valid(data) {
		return readObject(data)
	}
	return readLines(data)
}

// readObject reads valid JSON, however it is laid out.
func readObject(data []byte) iter.Seq2[wholefile.Entry, error] {
	return func(yield func(wholefile.Entry, error) bool) {
		d := json.NewDecoder(bytes.NewReader(data))
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			yield(wholefile.Entry{Line: 1}, errors.New("the file holds no object"))
			return
		}
		line, counted := 1, int64(0)
		for d.More() {
			var e wholefile.Entry
			var raw json.RawMessage
			start := d.InputOffset()
			t, err := d.Token()
			valid := utf8.Valid(data[start:d.InputOffset()])
			if err == nil {
				line += bytes.Count(data[counted:d.InputOffset()], []byte("\n"))
				counted = d.InputOffset()
				err = d.Decode(&raw)
			}
			e.Line = line
			if err != nil {
				yield(e, err)
				return
			}
			key, _ := t.(string)
			if e.Key, err = wholefile.Bytes(key); err == nil {
				e.Value, err = value(raw)
			}
			if !valid {
				err = errors.New("the key is not UTF-8") // t has something else in its place
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// readLines reads what was written by write and then damaged: every line that
// is as it should be, and an error for every other.
func readLines(data []byte) iter.Seq2[wholefile.Entry, error] {
	return func(yield func(wholefile.Entry, error) bool) {
		if len(bytes.TrimSpace(data)) == 0 {
			yield(wholefile.Entry{Line: 1}, errors.New("the file is empty"))
			return
		}
		n, ended, failed := 0, false, false
		indent := -1 // of the first line that begins with a key
		for line := range bytes.Lines(data) {
			n++
			at := len(line) - len(bytes.TrimLeft(line, " \t"))
			line = bytes.TrimSpace(line)
			switch {
			case n == 1 && string(line) == "{", len(line) == 0:
				continue
			case string(line) == "}":
				ended = true
				continue
			}
			if indent < 0 && bytes.HasPrefix(line, []byte(`"`)) {
				indent = at
			}
			e, err := readLine(bytes.TrimSuffix(line, []byte(",")))
			if err == nil && at > indent {
				err = errors.New("the line belongs to a value that takes several")
			}
			e.Line = n
			failed = failed || err != nil
			if !yield(e, err) {
				return
			}
		}
		if !ended {
			yield(wholefile.Entry{Line: n}, errors.New("the file ends early"))
		} else if !failed {
			yield(wholefile.Entry{Line: 1}, errors.New("the file is no JSON, though its lines are"))
		}
	}
}

func readLine(line []byte) (e wholefile.Entry, err error) {
	object := make([]byte, 0, len(line)+2)
	object = append(append(append(object, '{'), line...), '}')
	if !json.Valid(object) {
		return e, errors.New(`the line is not "key": value`)
	}
	for one, err := range readObject(object) {
		if err != nil || e.Key != nil {
			return e, errors.Join(err, errors.New("the line cannot be read as one entry"))
		}
		e = one
	}
	return e, nil
}
