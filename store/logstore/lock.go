package logstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// holder is the content of HOLDER: who has the lock. It is a file of its own
// because on Windows nobody else can read what is locked. It only ever
// improves a message, so failing to write or read it is no error.
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
		return nil, &store.LockedError{Path: dir, PID: h.PID, Host: h.Host, Since: h.Since}
	}
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	writeHolder(fs)
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

func writeHolder(fs vfs.FS) {
	_ = fs.Remove(holderName) // left by a crash
	f, err := fs.Create(holderName)
	if err != nil {
		return
	}
	defer f.Close()
	host, _ := os.Hostname()
	b, err := json.Marshal(holder{os.Getpid(), host, time.Now().Round(time.Second)})
	if err != nil {
		return
	}
	_, _ = f.WriteAt(append(b, '\n'), 0)
}
