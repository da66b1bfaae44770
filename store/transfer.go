package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// An export is lines of JSON: a header, for each cache a line with its name and
// description, followed by one for each of its records, and a last one with
// the number of records and the SHA-256 of all bytes before it. Bytes are in
// base64, names are text.
type exported struct {
	Format      string  `json:"format,omitempty"`
	Cache       *string `json:"cache,omitempty"`
	Description []byte  `json:"description,omitempty"`
	Key         *[]byte `json:"key,omitempty"`
	Value       []byte  `json:"value,omitempty"`
	Meta        []byte  `json:"meta,omitempty"`
	Records     *int64  `json:"records,omitempty"`
	SHA256      string  `json:"sha256,omitempty"`
}

const exportFormat = "cacheman export 1"

// Export writes all caches of s to w, in a form that Import reads into any
// other kind of store, and people and other programs can read: a line of JSON
// for each record. Each cache is as it was at one instant; to have that of all of
// them, keep others from writing or export what a [Follower] shows. A damaged
// record is an error. Memory does not depend on how much there is.
func Export(ctx context.Context, w io.Writer, s Store) error {
	infos, err := s.Caches(ctx)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(w)
	sum := sha256.New()
	enc := json.NewEncoder(io.MultiWriter(buf, sum))
	if err := enc.Encode(exported{Format: exportFormat}); err != nil {
		return err
	}
	records := int64(0)
	for _, info := range infos {
		if err := enc.Encode(exported{Cache: &info.Cache, Description: info.Description}); err != nil {
			return err
		}
		for r, err := range s.Load(ctx, info.Cache) {
			if errors.Is(err, ErrNotFound) {
				break // it was dropped meanwhile
			}
			if r.Key == nil {
				r.Key = []byte{} // nil would be null, as if the line had no key
			}
			if err == nil {
				err = enc.Encode(exported{Key: &r.Key, Value: r.Value, Meta: r.Meta})
			}
			if err != nil {
				return fmt.Errorf("export of cache %q: %w", info.Cache, err)
			}
			records++
		}
	}
	if err := json.NewEncoder(buf).Encode(exported{Records: &records, SHA256: hex.EncodeToString(sum.Sum(nil))}); err != nil {
		return err
	}
	return buf.Flush()
}

// Import applies to s, which must not know any cache, what Export has written,
// as one batch: if r is damaged, ends early or fails, nothing of it is there,
// as far as s is Atomic. What is wrong with r is an error that wraps ErrCorrupt,
// or ErrFormat if it is no export or one of a newer version.
func Import(ctx context.Context, s Store, r io.Reader) error {
	infos, err := s.Caches(ctx)
	if err != nil {
		return err
	}
	if len(infos) > 0 {
		return fmt.Errorf("the store is not empty: it has %d caches", len(infos))
	}
	in := importer{r: bufio.NewReader(r), sum: sha256.New()}
	if head, err := in.next(); err != nil || head.Format != exportFormat {
		return fmt.Errorf("%w: it does not begin as an export does", ErrFormat)
	}
	err = s.Apply(ctx, func(yield func(Op, error) bool) {
		if err := in.ops(yield); err != nil {
			yield(Op{}, fmt.Errorf("line %d: %w", in.line, err))
		}
	})
	return err
}

type importer struct {
	r    *bufio.Reader
	sum  hash.Hash
	line int
	read []byte // the last line
}

// next returns the next line.
func (in *importer) next() (x exported, err error) {
	in.line++
	in.read = in.read[:0]
	for {
		part, err := in.r.ReadSlice('\n')
		in.read = append(in.read, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF {
			return x, fmt.Errorf("%w: it ends too early", ErrCorrupt)
		}
		if err != nil {
			return x, err
		}
		break
	}
	if err := json.Unmarshal(in.read, &x); err != nil {
		return x, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return x, nil
}

// ops gives the ops that the lines after the header stand for. It returns what
// is wrong with them, if the receiver has not stopped it.
func (in *importer) ops(yield func(Op, error) bool) error {
	in.sum.Write(in.read)
	cache, known, records := "", false, int64(0)
	for {
		x, err := in.next()
		if err != nil {
			return err
		}
		op := Op{Kind: Put, Cache: cache}
		switch {
		case x.Records != nil:
			if *x.Records != records || x.SHA256 != hex.EncodeToString(in.sum.Sum(nil)) {
				return fmt.Errorf("%w: it is not what was exported", ErrCorrupt)
			}
			if _, err := in.r.ReadByte(); err != io.EOF {
				return fmt.Errorf("%w: something follows the end", ErrCorrupt)
			}
			return nil
		case x.Cache != nil && *x.Cache != "":
			cache, known = *x.Cache, true
			op = Op{Kind: Describe, Cache: cache, Value: x.Description}
		case x.Key != nil && known:
			records++
			op.Key, op.Value, op.Meta = *x.Key, x.Value, x.Meta
		default:
			return fmt.Errorf("%w: a line makes no sense", ErrCorrupt)
		}
		in.sum.Write(in.read)
		if !yield(op, nil) {
			return nil
		}
	}
}
