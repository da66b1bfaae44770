package vfs

import "os"

// syncDir does nothing: Windows cannot flush a directory, and NTFS journals
// its entries.
func syncDir(*os.File) error { return nil }
