package logstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// halfDamaged has two caches, of which one has a damaged snapshot, and a frame in
// the journal about both. It returns what can be read of it.
func halfDamaged(t *testing.T) (*faultfs.FS, state) {
	t.Helper()
	fs := faultfs.New()
	p := player{opts: quiet(fs)}
	err := p.play(t, []step{
		{ops: []store.Op{put("a", "1", "lost"), put("b", "1", "x"), op(store.Describe, "a")}},
		{word: compact},
		{ops: []store.Op{put("a", "2", "two"), put("b", "2", "y")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.s.Close()
	snap := fs.Files()["c1-2.snap"]
	snap[100] ^= 1
	fs.WriteFile("c1-2.snap", snap)
	return fs.Clone(), p.sure.after(del("a", "1"))
}

// Repair is interrupted at each call that changes the disk: by the loss of power,
// the death of the process, or an error. What could be read before can be read
// afterwards, the damage is told until it is gone, and a second Repair succeeds.
func TestInterruptedRepair(t *testing.T) {
	t.Parallel()
	whole, sure := halfDamaged(t)
	for _, how := range []error{faultfs.ErrPowerLost, faultfs.ErrKilled, syscall.EIO, syscall.ENOSPC} {
		t.Run(how.Error(), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				fs := whole.Clone()
				fs.FailAt(n, how, !errors.Is(how, syscall.EIO))
				opts := logstore.Options{FS: fs, CompactAt: -1}
				_, err := logstore.Repair(t.Context(), "dir", opts)
				calls := fs.Calls()
				fs.NewProcess()
				if n > calls {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				for seed := range uint64(4) {
					after := fs.Clone()
					if errors.Is(how, faultfs.ErrPowerLost) {
						after = fs.Restart(seed)
					}
					name := fmt.Sprintf("call %d, seed %d", n, seed)
					opts := logstore.Options{FS: after, CompactAt: -1}
					s := open(t, opts)
					got, damaged := dump(t, s)
					s.Close()
					if got.String() != sure.String() || damaged > 1 {
						t.Fatalf("%s: %d damaged\n got %v\nwant %v", name, damaged, got, sure)
					}
					if _, err := logstore.Repair(t.Context(), "dir", opts); err != nil {
						t.Fatalf("%s: again: %v", name, err)
					}
					if faults := check(t, after); len(faults) > 0 {
						t.Fatalf("%s: after Repair: %v", name, faults)
					}
					s = open(t, quiet(after))
					want(t, s, sure)
					s.Close()
				}
			}
		})
	}
}

// The process ends, or calls fail, while what was damaged is set aside: it is kept all the
// same, here or by who comes next.
func TestInterruptedSettingAside(t *testing.T) {
	t.Parallel()
	discarded, _ := damagedStore(t)
	lost := discarded.Clone() // all manifests are
	for name := range lost.Files() {
		if strings.HasPrefix(name, "MANIFEST-") {
			_ = lost.Remove(name)
		}
	}
	repaired, _ := halfDamaged(t)
	for what, c := range map[string]struct {
		whole *faultfs.FS
		kept  []string
	}{
		"discard":      {discarded, []string{"c1-2.snap", "c2-3.snap", "MANIFEST-4", "j-2.log.damaged"}},
		"no manifests": {lost, []string{"c1-2.snap", "c2-3.snap", "j-2.log"}},
		"repair":       {repaired, []string{"c1-2.snap"}},
	} {
		for _, how := range []error{faultfs.ErrKilled, syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprint(what, ", ", how), func(t *testing.T) {
				t.Parallel()
				before := c.whole.Files()
				for n := 1; ; n++ {
					fs := c.whole.Clone()
					fs.FailAt(n, how, !errors.Is(how, syscall.EIO))
					opts := logstore.Options{FS: fs, CompactAt: -1}
					_, _ = logstore.Repair(t.Context(), "dir", opts)
					fs.NewProcess()
					s := open(t, opts)
					apply(t, s, put("new", "k", "v"))
					s.Close()
					s = open(t, opts)
					if err := s.Repair(t.Context()); err != nil {
						t.Fatal(err)
					}
					s.Close()
					after := fs.Files()
					for _, name := range c.kept {
						of := strings.TrimSuffix(name, ".damaged")
						kept := false
						for at, data := range after {
							kept = kept || strings.HasPrefix(at, "damaged-") && strings.HasSuffix(at, "/"+name) &&
								bytes.HasPrefix(before[of], data) && len(data) > 20
						}
						if !kept {
							t.Errorf("call %d: %s is gone", n, name)
						}
					}
					if n > 60 {
						return
					}
				}
			})
		}
	}
}
