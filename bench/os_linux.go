package main

import (
	"bytes"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// residentMemory and peakMemory are those of this process, in bytes.
func residentMemory() (int64, bool) { return procStatus("VmRSS:") }
func peakMemory() (int64, bool)     { return procStatus("VmHWM:") }

// resetPeakMemory makes the peak begin anew, and says if that worked.
func resetPeakMemory() bool {
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil
}

func procStatus(field string) (int64, bool) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			kb, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return kb << 10, err == nil
		}
	}
	return 0, false
}

// allocated is the space a file occupies: less than its size if it has holes,
// more if room was reserved.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// flushDisks writes back what is in the page cache.
func flushDisks() { syscall.Sync() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}
