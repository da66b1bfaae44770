package logstore

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"unicode/utf8"

	"github.com/cacheman-go/cacheman/store"
)

// writeSize is how much of a frame is written with one call.
const writeSize = 1 << 20

// enterBeside is how many changes are worth a goroutine that puts them into the tables while
// the disk is at work.
const enterBeside = 64

// Apply implements store.Store. The ops must not call Apply, Compact
// or Close.
func (s *Store) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	defer s.tell()
	if err := s.makeRoom(ctx); err != nil {
		return err
	}
	if err := s.acquire(ctx, s.applying); err != nil {
		return err
	}
	defer s.applying.release()

	w := frameWriter{s: s, stage: stage{s: s}, buf: s.buf[:0]}
	defer w.end() // ops may panic
	for o, err := range ops {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := w.add(&o); err != nil {
			return fmt.Errorf("logstore: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("logstore: %w", err)
	}
	s.wakeIfLarge()
	return nil
}

// frameWriter writes one frame to the current journal, as its ops come in.
type frameWriter struct {
	s     *Store
	j     *journal // nil until there is something to write
	stage stage
	salt  uint32

	buf   []byte // what is not written yet: some chunks, the last one unfinished
	base  int64  // where in the file buf goes
	at    int    // where in buf the unfinished chunk starts
	spool *spool // writes what comes before buf; nil if there is nothing
	no    uint32 // the number of the unfinished chunk
	named string // the cache that it named last

	touched   bool // there may be bytes of this frame in the file
	committed bool // the end of the frame too
	done      bool
}

func (w *frameWriter) add(o *store.Op) error {
	if err := w.validate(o); err != nil {
		return err
	}
	w.stage.cache(o.Cache)
	if !w.stage.matters(o.Kind) {
		return nil
	}
	if w.j == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if len(w.buf)-w.at-chunkHeader >= chunkTarget {
		w.endChunk(0)
		if len(w.buf) >= writeSize {
			if err := w.pass(); err != nil {
				return err
			}
		}
		w.startChunk()
	}
	if w.named != o.Cache {
		w.buf = appendCache(w.buf, o.Cache)
		w.named = o.Cache
	}
	from := w.at + chunkHeader
	at := len(w.buf) - from
	w.buf = appendOp(w.buf, o)
	end := len(w.buf) - from
	key := end - len(o.Key)
	if o.Kind == store.Put {
		key -= len(o.Value) + len(o.Meta)
	}
	w.stage.do(o.Kind, at, end, key, len(o.Key), o.Value)
	return nil
}

func (w *frameWriter) validate(o *store.Op) error {
	if o.Kind < store.Put || o.Kind > store.Drop {
		return fmt.Errorf("op has invalid kind %d", o.Kind)
	}
	if o.Cache != w.stage.name && !utf8.ValidString(o.Cache) || o.Cache == "" || len(o.Cache) > 4096 {
		return fmt.Errorf("op has invalid cache name %.40q", o.Cache)
	}
	if max(len(o.Key), len(o.Value), len(o.Meta)) > maxRecord ||
		len(o.Key)+len(o.Value)+len(o.Meta) > maxRecord {
		return fmt.Errorf("cache %q: %w", o.Cache, errRecordTooLarge)
	}
	return nil
}

func (w *frameWriter) begin() error {
	if err := w.s.ready(); err != nil {
		return err
	}
	w.j = w.s.current()
	w.base = w.j.end
	w.salt = rand.Uint32()
	w.startChunk()
	return nil
}

func (w *frameWriter) startChunk() {
	w.at = len(w.buf)
	w.buf = append(w.buf, make([]byte, chunkHeader)...)
	w.named = ""
}

func (w *frameWriter) endChunk(flags uint32) {
	b := w.buf[w.at:]
	chunk{flags: flags, journal: w.j.id, frame: w.j.frame, salt: w.salt, no: w.no}.seal(b)
	w.no++
	w.stage.chunk(chunkRef{j: w.j, off: w.base + int64(w.at), size: uint32(len(b)), salt: w.salt}, b[chunkHeader:])
}

// pass hands buf over to be written, and what it says to the tables, while the next ops
// come in.
func (w *frameWriter) pass() error {
	if w.spool == nil {
		w.spool = &spool{f: w.j.f}
	}
	w.touched = true
	w.stage.enter() // so nobody reads the buffer any more that comes next
	buf, err := w.spool.write(w.buf, w.base)
	w.base += int64(len(w.buf))
	w.buf = buf
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// flush writes all that is left, and makes it durable.
func (w *frameWriter) flush() error {
	w.touched = true
	err := w.spool.wait()
	if err == nil {
		_, err = w.j.f.WriteAt(w.buf, w.base)
	}
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if err := w.j.sync(); err != nil {
		return fmt.Errorf("syncing the journal: %w", err)
	}
	return nil
}

// commit ends the frame, makes it durable and shows it to readers.
func (w *frameWriter) commit() error {
	if w.j == nil {
		if j := w.s.current(); j != nil && j.bad != nil {
			// Its last batch must not show after a restart: a later one has succeeded.
			return w.s.ready()
		}
		return nil
	}
	w.endChunk(flagCommit)
	w.committed = true
	if len(w.stage.next.changes) >= enterBeside {
		w.stage.enter()
	}
	if err := w.flush(); err != nil {
		return w.fail(err)
	}
	w.j.end = w.base + int64(len(w.buf))
	w.j.frame++
	w.stage.publish()
	w.done = true
	return nil
}

// fail deals with a frame that is in the file, perhaps even on the disk, but
// must not count: its journal ends before it, and the next one says so.
func (w *frameWriter) fail(err error) error {
	w.end()
	w.s.poison(w.j, err)
	if again := w.s.ready(); again != nil {
		return fmt.Errorf("%w; the batch may show after a restart, unless a later one succeeds first (%w)", err, again)
	}
	return err
}

// end takes the frame back, unless it was committed.
func (w *frameWriter) end() {
	const keep = 2 * writeSize // a larger buffer was for an unusual record
	if cap(w.buf) <= keep {
		w.s.buf = w.buf
	}
	if w.done {
		return
	}
	w.done = true
	w.stage.undo()
	if !w.touched {
		return
	}
	if err := w.spool.wait(); err != nil && w.spool.syncFailed {
		w.s.poison(w.j, fmt.Errorf("syncing the journal: %w", err))
	}
	if err := w.j.f.Truncate(w.j.end); err != nil && !w.committed {
		w.s.poison(w.j, fmt.Errorf("taking back a batch: %w", err))
	}
}

// current returns the journal that was written to last, or nil.
func (s *Store) current() *journal {
	if len(s.journals) == 0 {
		return nil
	}
	return s.journals[len(s.journals)-1]
}

func (s *Store) poison(j *journal, err error) {
	if j.bad == nil {
		j.bad = err
		s.note(Event{Kind: JournalEnded, File: j.name, Offset: j.end, Err: err})
	}
}

// ready makes sure that there is a journal that can be written to, and a
// manifest that leads to it. The caller holds applying.
func (s *Store) ready() error {
	if err := s.syncFound(); err != nil {
		return err
	}
	if j := s.current(); j == nil || j.bad != nil {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	if s.unpublished == nil {
		return nil
	}
	s.unpublished.start = s.start
	if err := s.publish(s.unpublished, s.keep); err != nil {
		s.left = s.left || isLeft(err)
		return err
	}
	if s.keep != nil {
		s.keep.end(s)
		s.keep = nil
	}
	s.unpublished = nil
	return nil
}

// rotate starts a new journal after the current one. The caller holds applying.
func (s *Store) rotate() error {
	if err := s.syncFound(); err != nil {
		return err
	}
	seq := s.nextSeq
	cur := s.current()
	// A failed one without any frame is left out, or each attempt of a batch that does not
	// fit would leave a file. Where a replay starts, or will, it has to stay.
	empty := cur != nil && cur.bad != nil && cur.end == journalHeader && cur.seq != s.start.seq && cur.seq != s.from
	prev, prevEnd := uint64(0), int64(0)
	switch {
	case empty:
		prev, prevEnd = cur.prev, cur.prevEnd
	case cur != nil:
		prev, prevEnd = cur.seq, cur.end
	}
	j, err := newJournal(s.fs, seq, prev, prevEnd)
	if err == nil || s.fs.has(journalName(seq)) {
		s.nextSeq++ // otherwise the next takes the place of what a loss of power may bring back
	}
	if err != nil {
		if cur != nil && isLeft(err) {
			// It says that the current one ends here.
			s.poison(cur, err)
		}
		return err
	}
	if cur == nil {
		s.start = position{j.seq, j.end, j.frame}
	}
	s.mu.Lock()
	if empty {
		s.journals = s.journals[:len(s.journals)-1]
	}
	s.journals = append(s.journals, j)
	s.mu.Unlock()
	if empty {
		cur.doom()
	}
	return nil
}
