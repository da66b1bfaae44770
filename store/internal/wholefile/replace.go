//go:build !windows

package wholefile

import "os"

// replace renames a file over another.
func replace(root *os.Root, from, to string) error { return root.Rename(from, to) }
