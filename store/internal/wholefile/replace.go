//go:build !windows

package wholefile

import "os"

// replace renames a file over another.
func replace(root *os.Root, from, to string) error { return root.Rename(from, to) }

// syncDir makes what was renamed and removed in root durable.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
