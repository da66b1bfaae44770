package logstore_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

var writeGolden = flag.String("golden", "", "write golden files of the present format to this `directory`")

// goldenSteps is how the golden files of a version were made: a snapshot
// of several blocks, one of a single record, a cache that has none, and a journal
// with all kinds of ops; since version 3 keys that are so long that an index has several
// parts, too.
func goldenSteps(version int) []step {
	var many []store.Op
	for i := range 100 {
		many = append(many, put("many", fmt.Sprintf("key %03d", i), strings.Repeat(fmt.Sprint("value ", i, " "), 100)))
	}
	for i := range 5 {
		if version >= 3 {
			many = append(many, put("long", strings.Repeat(fmt.Sprint("key ", i, " "), 400), strings.Repeat("value ", 6000)))
		}
	}
	return []step{
		{ops: append(many, op(store.Describe, "many"), put("one", "", ""), op(store.Describe, "none"), put("gone", "k", "v"))},
		{word: compact},
		{ops: []store.Op{put("many", "key 007", "changed"), del("many", "key 008"), put("new", "k", "v"), op(store.Drop, "gone")}},
		{ops: []store.Op{op(store.Clear, "one"), put("one", "again", "x"), op(store.Describe, "new")}},
	}
}

// TestGolden reads directories that were written by each version of the format.
// They are never written again; go test -run TestGolden -golden testdata/golden/v<n> makes that
// of a new version.
func TestGolden(t *testing.T) {
	t.Parallel()
	if *writeGolden != "" {
		fs := faultfs.New()
		p := player{opts: quiet(fs)}
		if err := p.play(t, goldenSteps(logstore.FormatVersion)); err != nil {
			t.Fatal(err)
		}
		p.s.Close()
		if err := os.MkdirAll(*writeGolden, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, data := range fs.Files() {
			if name == "LOCK" {
				continue
			}
			if err := os.WriteFile(filepath.Join(*writeGolden, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	dirs, err := filepath.Glob("testdata/golden/v*")
	if err != nil || len(dirs) != logstore.FormatVersion {
		t.Fatalf("there are golden files of %v (%v), the format has version %d", dirs, err, logstore.FormatVersion)
	}
	for i, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			final := state{}
			for _, st := range goldenSteps(i + 1) {
				final = final.after(st.ops...)
			}
			fs := faultfs.New()
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				data, err := os.ReadFile(filepath.Join(dir, f.Name()))
				if err != nil {
					t.Fatal(err)
				}
				fs.WriteFile(f.Name(), data)
			}
			p := player{opts: quiet(fs), sure: final}
			if err := p.open(); err != nil {
				t.Fatal(err)
			}
			want(t, p.s, p.sure)
			// It is gone on with, and written anew in the present version.
			more := []step{{ops: []store.Op{put("many", "key 009", "changed too"), put("one", "more", "y")}}, {word: compact}, {word: reopen}}
			if err := p.play(t, more); err != nil {
				t.Fatal(err)
			}
			want(t, p.s, p.sure)
			p.s.Close()
		})
	}
}
