// Package csvstore keeps each cache in a CSV file that people and other
// programs can read and change.
//
// A file is read and written as a whole, so a batch costs what the caches that
// it changes hold. Only one process may write to a directory at a time, and
// nothing enforces it. There are no checksums: a row that was changed counts
// as it is, as long as it can be read. A row that cannot is an error that
// wraps [store.ErrCorrupt] and names the file and the line; the others are
// loaded, but the cache cannot be changed, except by clearing or dropping it,
// until the row is mended.
//
// A file has no room for what a value was computed from. The Manager's own store
// keeps that, if it is another one that can, and a value that comes back as it was
// is recognized. Any other counts as set by hand, also in a cache with a builder:
// it is not built anew when something changes, nor for another Version, until it is
// invalidated. What a Probe has given is asked for again.
package csvstore

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/internal/wholefile"
)

// Store is a [store.Store] of CSV files: persistent and durable. It is atomic
// for each cache, but not for batches that change several, does not keep
// descriptions or metadata, and is not incremental.
type Store struct{ *files }

type files = wholefile.Store

// Options say what a row looks like. The zero value is two columns, the key
// and the value: as they are if they are text, otherwise as "base64:" and
// that.
type Options struct {
	// Header, if not nil, is the first row of every file. A file whose first
	// row is another is damaged. What a row cannot be, it cannot be either.
	Header []string

	// Row makes a row of a record, and Entry a record of a row. Both must be
	// given, or none; [Rows] makes both from typed functions. A field cannot
	// contain a carriage return, nor a row be a single empty field, as CSV
	// loses these: such a row fails the batch. A row of which Entry panics, as of
	// one that has too few fields, cannot be read.
	Row   func(key, value []byte) ([]string, error)
	Entry func(row []string) (key, value []byte, err error)

	// Comma is what separates fields; ',' if it is 0.
	Comma rune
}

// Open opens the store in the directory dir, which is made if it is not there.
func Open(dir string, o Options) (*Store, error) {
	if (o.Row == nil) != (o.Entry == nil) {
		return nil, errors.New("csvstore: Options has only one of Row and Entry")
	}
	if o.Row == nil {
		o.Row, o.Entry = textRow, textEntry
	}
	if o.Comma == 0 {
		o.Comma = ','
	}
	if err := csvWriter(io.Discard, o).Write([]string{"a", "b"}); err != nil {
		return nil, fmt.Errorf("csvstore: Comma %q: %w", o.Comma, err)
	}
	if o.Header != nil {
		if err := checkRow(o.Header); err != nil {
			return nil, fmt.Errorf("csvstore: Header: %w", err)
		}
	}
	s, err := wholefile.Open(dir, wholefile.Format{
		Ext:   ".csv",
		Write: func(w io.Writer, entries iter.Seq[wholefile.Entry]) error { return write(w, entries, o) },
		Read:  func(data []byte) iter.Seq2[wholefile.Entry, error] { return read(data, o) },
	})
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Rows makes an Options' Row and Entry from functions on the types that a
// cache has. The codecs must be those of the cache.
func Rows[K, V any](key codec.Codec[K], value codec.Codec[V],
	build func(K, V) []string, read func(row []string) (K, V, error),
) (row func(key, value []byte) ([]string, error), entry func(row []string) (key, value []byte, err error)) {
	row = func(kb, vb []byte) ([]string, error) {
		k, err := key.Decode(kb)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		v, err := value.Decode(vb)
		if err != nil {
			return nil, fmt.Errorf("value: %w", err)
		}
		return build(k, v), nil
	}
	entry = func(row []string) (kb, vb []byte, err error) {
		k, v, err := read(row)
		if err != nil {
			return nil, nil, err
		}
		if kb, err = key.Append(nil, k); err != nil {
			return nil, nil, fmt.Errorf("key: %w", err)
		}
		if vb, err = value.Append(nil, v); err != nil {
			return nil, nil, fmt.Errorf("value: %w", err)
		}
		return kb, vb, nil
	}
	return row, entry
}

func textRow(key, value []byte) ([]string, error) {
	return []string{wholefile.Text(key), wholefile.Text(value)}, nil
}

func textEntry(row []string) (key, value []byte, err error) {
	if len(row) != 2 {
		return nil, nil, fmt.Errorf("%d fields, not a key and a value", len(row))
	}
	if key, err = wholefile.Bytes(row[0]); err != nil {
		return nil, nil, err
	}
	value, err = wholefile.Bytes(row[1])
	return key, value, err
}

func csvWriter(w io.Writer, o Options) *csv.Writer {
	c := csv.NewWriter(w)
	c.Comma = o.Comma
	return c
}

func write(w io.Writer, entries iter.Seq[wholefile.Entry], o Options) error {
	c := csvWriter(w, o)
	first := true
	writeRow := func(row []string) error {
		if first && strings.HasPrefix(row[0], wholefile.BOM) {
			// read takes one away.
			if _, err := io.WriteString(w, wholefile.BOM); err != nil {
				return err
			}
		}
		first = false
		return c.Write(row)
	}
	if o.Header != nil {
		if err := writeRow(o.Header); err != nil {
			return err
		}
	}
	for e := range entries {
		row, err := o.Row(e.Key, e.Value)
		if err == nil {
			err = checkRow(row)
		}
		if err == nil {
			err = writeRow(row)
		}
		if err != nil {
			return fmt.Errorf("row of key %.40q: %w", e.Key, err)
		}
	}
	c.Flush()
	return c.Error()
}

// checkRow fails for what would not come back.
func checkRow(row []string) error {
	if len(row) == 0 || len(row) == 1 && row[0] == "" {
		return errors.New("it is empty")
	}
	for _, field := range row {
		if strings.Contains(field, "\r") {
			return errors.New("a field contains a carriage return")
		}
	}
	return nil
}

func read(data []byte, o Options) iter.Seq2[wholefile.Entry, error] {
	return func(yield func(wholefile.Entry, error) bool) {
		c := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte(wholefile.BOM))))
		c.Comma = o.Comma
		c.FieldsPerRecord = -1
		c.ReuseRecord = true
		if o.Header != nil {
			row, err := c.Read()
			if err == nil && !slices.Equal(row, o.Header) {
				err = fmt.Errorf("the header is %.80q, not %.80q", row, o.Header)
			}
			if errors.Is(err, io.EOF) {
				err = errors.New("the file is empty")
			}
			if err != nil && !yield(wholefile.Entry{Line: 1}, err) {
				return
			}
		}
		for {
			row, err := c.Read()
			if err == io.EOF {
				return
			}
			var e wholefile.Entry
			if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
				e.Line, err = parse.StartLine, parse.Err
			} else if err == nil {
				e.Line, _ = c.FieldPos(0)
				e.Key, e.Value, err = o.entry(slices.Clone(row))
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// entry calls Entry. If that panics, as it may of a row that is too short for it, the row
// cannot be read, and the others can.
func (o *Options) entry(row []string) (key, value []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			key, value, err = nil, nil, fmt.Errorf("panicked: %v", p)
		}
	}()
	return o.Entry(row)
}
