package vfs

import "os"

// SyncDir does nothing: Windows cannot flush a directory, and NTFS journals
// its entries.
func SyncDir(*os.File) error { return nil }
