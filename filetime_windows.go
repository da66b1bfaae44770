package cacheman

import (
	"io/fs"
	"syscall"
)

// changed returns when a file was made, as Unix time in ns, or 0 if the system does not
// say: it tells another file in the place of one.
func changed(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Win32FileAttributeData); ok {
		return s.CreationTime.Nanoseconds()
	}
	return 0
}
