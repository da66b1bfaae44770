//go:build darwin || freebsd || netbsd

package cacheman

import (
	"io/fs"
	"syscall"
)

// changed returns when the system last changed anything about a file, as Unix time in
// ns, or 0 if it does not say: unlike ModTime nobody can set it.
func changed(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctimespec.Nano()
	}
	return 0
}
