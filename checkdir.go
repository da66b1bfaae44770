package cacheman

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// CheckDir reads all that is saved in a directory, which a Manager may have
// open, and yields what is damaged or cannot be so: bytes that are not what was
// written, records that make no sense, revisions that were never issued, results
// that are older than what they were computed from. It changes nothing; see
// logstore.Repair. Types and codecs are not needed. A fault about an entry has
// its key as it is encoded.
func CheckDir(ctx context.Context, dir string) iter.Seq[error] {
	return func(yield func(error) bool) {
		r, err := logstore.OpenReader(dir, logstore.Options{})
		if err != nil {
			yield(&Error{Op: "check", Err: err})
			return
		}
		defer r.Close()
		for err := range checkStore(ctx, r) {
			if !yield(err) {
				return
			}
		}
	}
}

// checkStore is CheckDir for any store that is Described.
func checkStore(ctx context.Context, s store.Store) iter.Seq[error] {
	return func(yield func(error) bool) {
		infos, err := s.Caches(ctx)
		if err != nil {
			yield(&Error{Op: "check", Err: err})
			return
		}
		issued := uint64(0)
		for _, info := range infos {
			if info.Cache == revisions {
				issued = revisionOf(info.Description)
			}
		}
		for _, info := range infos {
			if info.Cache == revisions {
				continue
			}
			_, err := parseDescription(info.Description)
			if strings.HasPrefix(info.Cache, ours+notesCache) && len(info.Description) == 0 {
				err = nil
			}
			if err != nil {
				if !yield(impossible(info.Cache, nil, "its description cannot be read: %v", err)) {
					return
				}
			}
			for rec, err := range s.Load(ctx, info.Cache) {
				if err != nil {
					err = &Error{Op: "check", Cache: info.Cache, Err: err}
				} else if what := checkRecord(rec, issued); what != "" {
					err = impossible(info.Cache, string(rec.Key), "%s", what)
				}
				if err != nil && !yield(err) {
					return
				}
			}
		}
	}
}

func impossible(cache string, key any, format string, args ...any) error {
	return &Error{Op: "check", Cache: cache, Key: key, Err: fmt.Errorf("%w: "+format, append([]any{ErrInvariant}, args...)...)}
}

// checkRecord returns what is wrong with a record, if issued is the last
// revision that may be in it, or "".
func checkRecord(rec store.Record, issued uint64) string {
	r, err := parseRecord(rec.Meta)
	if err != nil {
		return err.Error()
	}
	built, none := r.flags&flagBuilt != 0, r.flags&(flagNone|flagError) == flagNone
	switch {
	case r.flags >= flagForced<<1:
		return fmt.Sprintf("it has flags %#x", r.flags)
	case r.flags != 0 && !built:
		return "it is said to come from a builder and not to come from one"
	case none && (r.stamp != 0 || len(rec.Value) > 0):
		return "it is said to have no value, and has one"
	case r.flags&flagDropped != 0 && len(rec.Value) != 0 && len(rec.Value) != fingerprintSize:
		return "it is said to have lost its value, and has one"
	case r.flags&flagForced != 0 && r.flags&(flagDropped|flagError) == 0:
		return "it is said to be invalidated, and has a value"
	case len(rec.Meta) > 0 && r.stamp == 0 && !none:
		return "it has a value and no stamp"
	case r.stamp > issued || r.built > issued:
		return fmt.Sprintf("it is of revision %d; the last that was issued is %d", max(r.stamp, r.built), issued)
	}
	edges, err := parseEdges(r.edges)
	if err != nil {
		return "what it was built from cannot be read"
	}
	for _, e := range edges {
		if e.stamp > r.built {
			return fmt.Sprintf("it was built at revision %d and has read %s of revision %d", r.built, entryName(e.cache, e.key), e.stamp)
		}
	}
	return ""
}
