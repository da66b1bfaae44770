package logstore

import (
	"fmt"
	"strings"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// Options are the choices of [Open]. The zero value is ready to use.
type Options struct {
	// Damage says what to do about bytes that are not what was written.
	Damage Policy

	// CompactAt is the size in bytes that the journal may reach before it is
	// compacted in the background, where each batch counts as 256 bytes more than it has; below
	// the total size of the snapshots it never is. Close compacts before it returns at eight times the larger of
	// both, and also below that if journal and snapshots together have at most
	// eight times CompactAt, which takes some tenths of a second at most; and
	// where the journal was too large already when the store was opened, and was
	// not compacted since, or each start would replay it. Zero means 4 MiB. If it
	// is negative, only Compact compacts.
	//
	// A batch that would come to journals of more than four times CompactAt
	// and four times what is live waits for a compaction. So the directory has
	// at most six times the larger of both, and one batch, unless compactions
	// fail or iterations keep old files.
	CompactAt int64

	// CompactShare is the share of its time, up to 1, in which a compaction in
	// the background works. It rests for the remainder, so that it leaves the
	// disk and the processors to others; it does not rest while somebody waits
	// for it. Zero means one half.
	CompactShare float64

	// Uncompressed has records written to snapshots as they are. Otherwise blocks of them are
	// compressed with zstd at its fastest level, where that saves at least an
	// eighth. What is there already is read either way, and copied as it is where it
	// need not be taken apart.
	Uncompressed bool

	// Observe, if not nil, is told what was found at Open and what the store
	// did of its own accord. It is called by the goroutine that did it, with
	// no lock held except that Open has not returned yet, so it may call what
	// it likes, Close too. What others do beside Close may be told after it,
	// and what two goroutines did, at the same time.
	Observe func(Event)

	// FS, if not nil, stands in for the directory, whose name is then used in
	// messages only. The store does not close it.
	FS vfs.FS
}

// defaultCompactAt keeps the replay at Open below some ten milliseconds, and
// small stores from being rewritten all the time.
const defaultCompactAt = 4 << 20

const defaultCompactShare = 0.5

// Policy is what to do about damage.
type Policy int

const (
	// Discard forgets everything that was written before the end of the
	// damage, since what is damaged may have been its deletion. The files
	// are kept in a directory of their own, damaged-<n>.
	Discard Policy = iota
	// Salvage keeps all that can be read. A value may be older than what
	// was last stored, and a deleted one may be back.
	Salvage
	// Fail makes Open return an error that wraps store.ErrCorrupt.
	Fail
)

// String returns the name of p in lower case.
func (p Policy) String() string {
	switch p {
	case Discard:
		return "discard"
	case Salvage:
		return "salvage"
	case Fail:
		return "fail"
	}
	return "invalid"
}

// EventKind says what an [Event] is about.
type EventKind int

const (
	// TornTail: an unfinished frame was cut off the journal. File, Offset
	// and Bytes say what.
	TornTail EventKind = iota + 1
	// Damaged: Err describes damage at Offset of File, to which Policy was
	// applied.
	Damaged
	// SetAside: Files were moved, or copied in part, to the directory File.
	// If Err is not nil not all of them were.
	SetAside
	// Swept: Files, which nothing refers to any more, were removed. They are
	// left by a crash, or by a removal that failed.
	Swept
	// Foreign: Files are not of this store, and were left alone.
	Foreign
	// JournalEnded: nothing more is written to the journal File, because of
	// Err. What it holds up to Offset counts.
	JournalEnded
	// Compacted: a compaction of Bytes of journal ended after Took.
	Compacted
	// CompactionFailed: a compaction ended with Err. Nothing is lost, and it
	// will be tried again.
	CompactionFailed
)

// String returns the name of k in words.
func (k EventKind) String() string {
	names := [...]string{"", "torn tail", "damaged", "set aside", "swept", "foreign files",
		"journal ended", "compacted", "compaction failed"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return "invalid"
}

// Event is something that the store found, or did of its own accord. Which
// fields are set depends on Kind.
type Event struct {
	Kind   EventKind
	File   string // a name in the directory
	Offset int64
	Bytes  int64
	Files  []string
	Policy Policy
	Took   time.Duration
	Err    error
}

// String describes e in one line.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	if e.Kind == Damaged { // Err says where
		fmt.Fprintf(&b, " (%s)", e.Policy)
	} else if e.File != "" {
		fmt.Fprintf(&b, ": %s", e.File)
	}
	switch e.Kind {
	case TornTail:
		fmt.Fprintf(&b, ": %d bytes cut off at offset %d", e.Bytes, e.Offset)
	case JournalEnded:
		fmt.Fprintf(&b, " at offset %d", e.Offset)
	case Compacted:
		fmt.Fprintf(&b, ": %d bytes of journal in %v", e.Bytes, e.Took)
	}
	if len(e.Files) > 0 {
		fmt.Fprintf(&b, ": %s", strings.Join(e.Files, ", "))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}
