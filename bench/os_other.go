//go:build !linux

package main

import "io/fs"

// Where these cannot be had, the report has no rows for memory, disk usage is
// the sum of the files' sizes, and directories are not synced.

func residentMemory() (int64, bool) { return 0, false }
func peakMemory() (int64, bool)     { return 0, false }
func resetPeakMemory() bool         { return false }

func allocated(info fs.FileInfo) int64 { return info.Size() }

func flushDisks() {}

func syncDir(string) error { return nil }
