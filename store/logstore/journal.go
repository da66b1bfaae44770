package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

const (
	journalMagic  = "CMANJRNL"
	journalHeader = 64
)

// journal is one journal file. The one that is written to, if there is one, is
// the last of Store.journals. Its fields are guarded by Store.applying; those
// that a chunkRef leads to (file, id) never change.
type journal struct {
	*file
	seq uint64
	id  uint64
	// prev and prevEnd say which journal came before, if any, and up to where
	// it counts: a frame beyond was reported as failed, or never finished.
	prev    uint64
	prevEnd int64

	end   int64  // where the next frame goes; what is before counts
	frame uint64 // the number of the next frame
	last  int64  // where the last frame that was read from it starts; 0: there was none
	salt  uint32 // of that frame
	// bad, if not nil, is why nothing may be written any more. After a failed
	// sync nobody knows what is on the disk, and trying again would succeed
	// without writing anything.
	bad error
}

func (j *journal) header() []byte {
	b := make([]byte, journalHeader)
	le.PutUint64(b[16:], j.id)
	le.PutUint64(b[24:], j.seq)
	le.PutUint64(b[32:], j.prev)
	le.PutUint64(b[40:], uint64(j.prevEnd))
	putPreamble(b, journalMagic)
	return b
}

func parseJournalHeader(b []byte, name string, seq uint64) (*journal, error) {
	if len(b) != journalHeader {
		return nil, &damage{file: name, what: "header is cut off"}
	}
	if err := checkPreamble(b, name, journalMagic); err != nil {
		return nil, err
	}
	j := &journal{
		seq:     le.Uint64(b[24:]),
		id:      le.Uint64(b[16:]),
		prev:    le.Uint64(b[32:]),
		prevEnd: int64(le.Uint64(b[40:])),
		end:     journalHeader,
		frame:   1,
	}
	if j.seq != seq || j.prev >= seq || j.prevEnd < 0 {
		return nil, &damage{file: name, what: "wrong number in the header"}
	}
	return j, nil
}

// newJournal starts a journal after prev, which may be 0. It is durable, and says
// where prev ends, before anything can be written to it.
func newJournal(dir *directory, seq, prev uint64, prevEnd int64) (*journal, error) {
	name := journalName(seq)
	j := &journal{seq: seq, id: rand.Uint64(), end: journalHeader, frame: 1, prev: prev, prevEnd: prevEnd}
	f, err := writeFile(dir, name, j.header())
	if err != nil {
		return nil, fmt.Errorf("starting a journal: %w", err)
	}
	j.file = newFile(dir, name, f)
	return j, nil
}

// writeFile makes a durable file of the given contents. After an error it
// leaves no file, and none will be there after a crash, unless the error is a
// leftError.
func writeFile(dir *directory, name string, data []byte) (vfs.File, error) {
	since := dir.failures()
	f, err := dir.Create(name)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = dir.syncNames(since)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	since = dir.failures()
	if dir.Remove(name) != nil || dir.syncNames(since) != nil {
		err = &leftError{err}
	}
	return nil, err
}

// leftError is an error of a file that could not be made, though the next Open
// may find it, whole and valid. Until another one of its kind takes its
// place, both what it says and what the one before says must hold.
type leftError struct{ error }

func (e *leftError) Unwrap() error { return e.error }

func isLeft(err error) bool {
	var left *leftError
	return errors.As(err, &left)
}

// sync makes what was written durable, and checks that it is where the next
// Open looks for it: writing to a removed file works as well as ever.
func (j *journal) sync() error {
	if err := j.f.Sync(); err != nil {
		return err
	}
	if err := j.fs.Exists(j.name); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the journal was removed: %w", err)
	} else if err != nil {
		return err
	}
	return nil
}

// parse checks the chunk of r, which was read into buf, and returns its payload.
func (r chunkRef) parse(buf []byte) ([]byte, error) {
	c, payload, ok := parseChunk(buf)
	if !ok || c.journal != r.j.id || c.salt != r.salt || chunkHeader+c.size != r.size {
		return nil, &damage{file: r.j.name, offset: r.off, what: "wrong checksum of a chunk"}
	}
	return payload, nil
}
