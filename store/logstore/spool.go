package logstore

import "github.com/cacheman-go/cacheman/internal/vfs"

// syncSize is after how much a large frame is synced while it is still being
// made, so that the disk is at work meanwhile and little is left to the end.
const syncSize = 8 << 20

// spool writes a large frame in the background: one write and one sync at a
// time. A nil spool has nothing to do.
type spool struct {
	f       vfs.File
	spare   []byte     // not in use
	writing chan error // nil if there is no write under way
	syncing chan error // nil if there is no sync under way
	since   int        // bytes written since the last sync began

	err        error // the first one
	syncFailed bool  // f must not be written to any more
}

// write waits for the previous write to end and begins to write buf. It returns
// an empty buffer to go on with, and an error of something that ended.
func (s *spool) write(buf []byte, off int64) ([]byte, error) {
	if err := s.waitWrite(); err != nil {
		return buf[:0], err
	}
	if s.syncing != nil {
		select {
		case err := <-s.syncing:
			s.synced(err)
		default:
		}
	}
	if s.since >= syncSize && s.syncing == nil {
		done := make(chan error, 1)
		s.syncing, s.since = done, 0
		go func() { done <- s.f.Sync() }()
	}
	done := make(chan error, 1)
	s.writing = done
	go func() {
		_, err := s.f.WriteAt(buf, off)
		done <- err
	}()
	s.since += len(buf)
	next := s.spare[:0]
	s.spare = buf
	return next, s.err
}

func (s *spool) waitWrite() error {
	if s.writing != nil {
		if err := <-s.writing; s.err == nil {
			s.err = err
		}
		s.writing = nil
	}
	return s.err
}

func (s *spool) synced(err error) {
	s.syncing = nil
	if err != nil {
		s.syncFailed = true
		if s.err == nil {
			s.err = err
		}
	}
}

// wait waits for all that was begun, and returns the first error.
func (s *spool) wait() error {
	if s == nil {
		return nil
	}
	_ = s.waitWrite()
	if s.syncing != nil {
		s.synced(<-s.syncing)
	}
	return s.err
}
