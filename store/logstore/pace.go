package logstore

import (
	"context"
	"time"
)

// background compacts whenever it is woken.
func (s *Store) background() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
			_ = s.compactFor(s.ctx, request{share: s.opts.CompactShare}) // there is an event if it fails
		}
	}
}

// wakeIfLarge starts a compaction in the background if the journals have grown
// large enough, and reports whether they have. The caller holds applying.
func (s *Store) wakeIfLarge() bool {
	if s.opts.CompactAt < 0 || s.replaySize() <= max(s.limit(), s.retryAt) {
		return false
	}
	s.woken.Do(func() { go s.background() })
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// limit is how large the journals may be before they are compacted: as large
// as the snapshots, so that compacting costs no more than writing did. The
// caller holds applying.
func (s *Store) limit() int64 { return max(s.opts.CompactAt, s.snapshotSize()) }

func (s *Store) snapshotSize() (n int64) {
	for _, x := range s.snapshots {
		n += x.size
	}
	return n
}

// overdue reports whether Close should compact: the journals are larger than they may be
// and there is little to write, or they were when the store was opened, or they are very
// large. Who stops such a compaction saves less than those who open the store from then on
// pay for the replay.
func (s *Store) overdue(ctx context.Context) bool {
	if s.opts.CompactAt < 0 || s.closed.Load() {
		return false
	}
	if s.acquire(ctx, s.applying) != nil {
		return false
	}
	defer s.applying.release()
	size, limit := s.replaySize(), s.limit()
	little := s.journalSize()+s.snapshotSize() <= 8*s.opts.CompactAt
	return s.retryAt == 0 && (size > 8*limit || size > limit && (little || s.late))
}

// frameSize is what a frame costs a replay beside its bytes, in bytes.
const frameSize = 256

// replaySize is what a replay would cost, in bytes of long frames. The caller holds applying.
func (s *Store) replaySize() int64 {
	frames := int64(0)
	for _, j := range s.journals {
		frames += max(int64(j.frame)-1, 0) // it has none if what it had was given up
	}
	if len(s.journals) > 0 && s.journals[0].seq == s.start.seq {
		frames -= int64(s.start.frame) - 1
	}
	return s.journalSize() + max(frames, 0)*frameSize
}

// journalSize is what a replay would read. The caller holds applying.
func (s *Store) journalSize() (n int64) {
	for _, j := range s.journals {
		n += j.end - journalHeader
	}
	if len(s.journals) > 0 && s.journals[0].seq == s.start.seq {
		n -= s.start.off - journalHeader
	}
	return n
}

// fullAt is how many times as large as what is live the journals may be before
// a batch waits for a compaction. With the snapshots before and after it that
// bounds the disk to six times, and one batch.
const fullAt = 4

// makeRoom keeps a batch from being added to journals that are too large: it
// compacts, or waits for whoever does. It fails only if ctx or the store ends;
// what a compaction cannot do is no reason to refuse a batch.
func (s *Store) makeRoom(ctx context.Context) error {
	if s.opts.CompactAt < 0 {
		return nil
	}
	full, err := s.full(ctx)
	if err != nil || !full {
		return err
	}
	s.hurry.Add(1)
	defer s.hurry.Add(-1)
	_ = s.compactFor(ctx, request{share: 1, full: true}) // there is an event if it fails
	return s.check(ctx)
}

// full reports whether the journals are too large for another batch. After a
// compaction that failed they are not.
func (s *Store) full(ctx context.Context) (bool, error) {
	if err := s.acquire(ctx, s.applying); err != nil {
		return false, err
	}
	defer s.applying.release()
	size, limit := s.journalSize(), s.limit()
	if s.retryAt > 0 || s.unpublished != nil || size <= fullAt*limit {
		return false, nil
	}
	return size > fullAt*max(limit, s.liveInJournals()), nil
}

// liveInJournals is about how much of the journals is not overwritten; rather
// less than more.
func (s *Store) liveInJournals() (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, v := range s.caches {
		var entries, keys int64
		for _, l := range v.layers {
			entries += int64(l.n)
			keys = max(keys, int64(l.t.used)) // at least; the layers may have the same
		}
		if entries > 0 {
			n += int64(float64(v.bytes) * float64(keys) / float64(entries))
		}
	}
	return n
}

// pace rests for as long as the compaction's share asks for, unless somebody
// waits for it.
func (c *compaction) pace() {
	rest := time.Duration(float64(time.Since(c.resumed)) * (1/c.share - 1))
	if rest > 0 && c.s.hurry.Load() == 0 {
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
		}
	}
	c.resumed = time.Now()
}
