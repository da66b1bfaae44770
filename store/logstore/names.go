package logstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// The files of a store. The names of caches do not occur in them.
const (
	lockName   = "LOCK"
	holderName = "HOLDER"
	// unfinishedName is there while the directory is an unfinished backup.
	unfinishedName = "UNFINISHED"
)

func manifestName(n uint64) string       { return fmt.Sprintf("MANIFEST-%d", n) }
func journalName(seq uint64) string      { return fmt.Sprintf("j-%d.log", seq) }
func snapshotName(id, gen uint64) string { return fmt.Sprintf("c%d-%d.snap", id, gen) }
func damagedName(n uint64) string        { return fmt.Sprintf("damaged-%d", n) }

// listing is a directory, sorted by what its names mean.
type listing struct {
	manifests []uint64 // ascending
	journals  []uint64 // ascending
	snapshots []string
	foreign   []string
	highest   uint64 // of all numbers of manifests, generations and damaged directories
	damaged   uint64 // the highest number of a damaged directory

	lock       bool // somebody had it open once
	unfinished bool // it is an unfinished backup
}

func list(fs vfs.FS) (listing, error) {
	entries, err := fs.List()
	if err != nil {
		return listing{}, err
	}
	var l listing
	for _, e := range entries {
		var n, gen uint64
		switch name := e.Name; {
		case !e.IsDir && (name == lockName || name == holderName):
			l.lock = true
		case !e.IsDir && name == unfinishedName:
			l.unfinished = true
		case !e.IsDir && scan(name, "MANIFEST-%d", &n):
			l.manifests = append(l.manifests, n)
		case !e.IsDir && scan(name, "j-%d.log", &n):
			l.journals = append(l.journals, n)
			n = 0
		case !e.IsDir && scan(name, "c%d-%d.snap", &n, &gen):
			l.snapshots = append(l.snapshots, name)
			n = gen
		case e.IsDir && scan(name, "damaged-%d", &n):
			l.damaged = max(l.damaged, n)
		default:
			l.foreign = append(l.foreign, name)
		}
		l.highest = max(l.highest, n)
	}
	slices.Sort(l.manifests)
	slices.Sort(l.journals)
	slices.Sort(l.snapshots)
	slices.Sort(l.foreign)
	return l, nil
}

// scan reports whether name is what format gives for some numbers, and sets
// them; otherwise they are zero. No number may be zero, or so high that
// counting on could overflow.
func scan(name, format string, numbers ...*uint64) bool {
	ok := true
	for _, n := range numbers {
		var literal, digits string
		literal, format, _ = strings.Cut(format, "%d")
		digits, ok = strings.CutPrefix(name, literal)
		if !ok || digits == "" || digits[0] == '0' {
			ok = false
			break
		}
		name = strings.TrimLeft(digits, "0123456789")
		v, err := strconv.ParseUint(digits[:len(digits)-len(name)], 10, 62)
		if *n, ok = v, err == nil; !ok {
			break
		}
	}
	if ok && name == format {
		return true
	}
	for _, n := range numbers {
		*n = 0
	}
	return false
}

// empty reports whether there is no file that holds data.
func (l listing) empty() bool { return len(l.manifests)+len(l.journals)+len(l.snapshots) == 0 }

// sameAs reports whether the files that hold data are the same.
func (l listing) sameAs(o listing) bool {
	return slices.Equal(l.manifests, o.manifests) && slices.Equal(l.journals, o.journals) &&
		slices.Equal(l.snapshots, o.snapshots)
}

// dataFiles returns the names of all files that hold data.
func (l listing) dataFiles() []string {
	names := slices.Clone(l.snapshots)
	for _, n := range l.manifests {
		names = append(names, manifestName(n))
	}
	for _, n := range l.journals {
		names = append(names, journalName(n))
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
