package logstore_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/cacheman-go/cacheman/store/logstore"
)

// TestShortLives: where every process ends right after its last batch, no
// compaction in the background comes to its end; Close must see to it that
// the directory does not grow without bound.
func TestShortLives(t *testing.T) {
	dir := t.TempDir()
	const at = 10_000
	value := string(bytes.Repeat([]byte("v"), 1000))
	largest := int64(0)
	for i := range 200 {
		s, err := logstore.Open(dir, logstore.Options{CompactAt: at})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, s, put("c", fmt.Sprint(i%5), value))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var size int64
		err = fs.WalkDir(os.DirFS(dir), ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			size += info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, size)
	}
	if largest > 10*at {
		t.Errorf("the directory grew to %d bytes", largest)
	}
	s, err := logstore.Open(dir, logstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, _ := dump(t, s)
	if len(state) != 1 {
		t.Errorf("there are %v", state)
	}
}
