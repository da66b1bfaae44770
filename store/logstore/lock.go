package logstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// holder is the content of HOLDER: who has the lock. It is a file of its own
// because on Windows nobody else can read what is locked. Its content only ever
// improves a message, so failing to write or read it is no error. That it is there
// says that who made it has not closed the store, so nothing is written before it is.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// takeLock locks the directory, or returns a *store.LockedError at once.
func takeLock(fs vfs.FS, dir string) (io.Closer, error) {
	lock, err := fs.Lock(lockName)
	if errors.Is(err, vfs.ErrLocked) {
		h := readHolder(fs)
		return nil, &store.LockedError{Path: dir, PID: h.PID, Host: h.Host, Since: h.Since.Local()}
	}
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	return lock, nil
}

func readHolder(fs vfs.FS) (h holder) {
	f, err := fs.Open(holderName)
	if err != nil {
		return holder{}
	}
	defer f.Close()
	b := make([]byte, 1024)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF || json.Unmarshal(b[:n], &h) != nil {
		return holder{}
	}
	return h
}

// writeHolder reports whether there is a HOLDER from before: who had the lock
// did not close the store. At no moment is there none then. An error says that
// there is none now.
func writeHolder(dir vfs.FS) (left bool, err error) {
	f, err := dir.Create(holderName)
	if err != nil {
		var e error
		if f, e = dir.OpenWrite(holderName); errors.Is(e, fs.ErrNotExist) {
			return false, fmt.Errorf("noting that the store is open: %w", err)
		} else if e != nil {
			return true, nil
		}
		left = true
		_ = f.Truncate(0)
	}
	defer f.Close()
	host, _ := os.Hostname()
	// Not by package json, and in UTC: to use json or the local time zone for the first
	// time takes longer than all else that Open does.
	b := strconv.AppendInt([]byte(`{"pid":`), int64(os.Getpid()), 10)
	b = append(append(append(b, `,"host":"`...), strings.Map(plain, host)...), `","since":"`...)
	b = append(time.Now().UTC().Round(time.Second).AppendFormat(b, time.RFC3339), "\"}\n"...)
	_, _ = f.WriteAt(b, 0)
	return left, nil
}

// plain drops what would have to be escaped, which names of hosts do not have.
func plain(r rune) rune {
	if r < ' ' || r == '"' || r == '\\' {
		return -1
	}
	return r
}
