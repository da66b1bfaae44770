package logstore

import (
	"context"

	"github.com/cacheman-go/cacheman/internal/vfs"
)

// WithVersion returns a file with another format version and a right checksum.
func WithVersion(data []byte, version uint32, headerOnly bool) []byte {
	data = append([]byte(nil), data...)
	h := data
	if headerOnly {
		h = data[:journalHeader]
	}
	le.PutUint32(h[8:], version)
	le.PutUint32(h[12:], checksum(h[16:])^checksum(h[:12]))
	return data
}

// BackupTo is Backup to another kind of file system.
func (s *Store) BackupTo(ctx context.Context, to vfs.FS) error {
	return backupTo(ctx, s, s.image, to)
}

const FormatVersion = formatVersion

// Layers returns how many layers of changes a cache has.
func (s *Store) Layers(cache string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.caches[cache].layers)
}
