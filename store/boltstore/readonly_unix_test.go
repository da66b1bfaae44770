//go:build unix

package boltstore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/store/boltstore"
)

func init() { children["unprivileged"] = openUnprivileged }

// openUnprivileged says what Open returns to a user for whom permissions count.
func openUnprivileged(path string) error {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	_, err := boltstore.Open(path, boltstore.Options{})
	fmt.Println(errors.Is(err, fs.ErrPermission), err)
	return nil
}

// A directory, or a file, that must not be written is an error that says so.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	try := func(what string) {
		t.Helper()
		out, err := child(t, "unprivileged", path).Output()
		if err != nil || !strings.HasPrefix(string(out), "true boltstore: open: ") || !strings.Contains(string(out), path) {
			t.Errorf("Open %s: %q, %v", what, out, err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755)
	try("in a read-only directory")
	if os.Getuid() != 0 {
		return
	}
	open(t, path).Close()
	if err := errors.Join(os.Chmod(path, 0o444), os.Chmod(path+".lock", 0o666)); err != nil {
		t.Fatal(err)
	}
	try("of a read-only file")
}
