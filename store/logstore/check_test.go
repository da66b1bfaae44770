package logstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

func check(t *testing.T, fs *faultfs.FS) (faults []logstore.Fault) {
	t.Helper()
	before := fs.Files()
	for f, err := range logstore.Check(t.Context(), "dir", logstore.Options{FS: fs}) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == logstore.Damaged && (!errors.Is(f.Err, store.ErrCorrupt) || f.File == "") {
			t.Errorf("%v", f)
		}
		faults = append(faults, f)
	}
	if !maps.EqualFunc(before, fs.Files(), bytes.Equal) {
		t.Fatal("Check changed something")
	}
	return faults
}

func damages(faults []logstore.Fault) int {
	return len(slices.DeleteFunc(slices.Clone(faults), func(f logstore.Fault) bool { return f.Kind != logstore.Damaged }))
}

// smallDirectory has a snapshot with a compressed block, a description, and a
// journal of two frames; it is closed.
func smallDirectory(t *testing.T) (*faultfs.FS, state) {
	t.Helper()
	fs := faultfs.New()
	p := player{opts: quiet(fs)}
	err := p.play(t, []step{
		{ops: []store.Op{put("a", "0", strings.Repeat("compressed ", 40)), put("a", "1", "one"), op(store.Describe, "a")}},
		{word: compact},
		{ops: []store.Op{put("a", "2", "two"), del("a", "1")}},
		{ops: []store.Op{put("b", "1", "x")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.s.Close()
	return fs, p.sure
}

// Every bit of a small directory is flipped. Check finds it and changes nothing;
// after Repair there is no damage, nothing is there that was not last written, and
// what was damaged is kept.
func TestCheckFindsEveryBit(t *testing.T) {
	t.Parallel()
	whole, final := smallDirectory(t)
	if faults := check(t, whole); len(faults) > 0 {
		t.Fatalf("faults of a whole directory: %v", faults)
	}
	for name, data := range whole.Files() {
		if name == "LOCK" || name == "HOLDER" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range 8 * len(data) {
				fs := whole.Clone()
				bad := slices.Clone(data)
				bad[i/8] ^= 1 << (i % 8)
				fs.WriteFile(name, bad)
				found := check(t, fs)
				if len(found) == 0 {
					t.Fatalf("bit %d is not found", i)
				}
				var aside []string
				opts := logstore.Options{FS: fs, CompactAt: -1, Observe: func(e logstore.Event) {
					if e.Kind == logstore.SetAside {
						aside = append(aside, e.File)
					}
				}}
				repaired, err := logstore.Repair(t.Context(), "dir", opts)
				if err != nil || len(repaired) != len(found) {
					t.Fatalf("bit %d: Repair: %v, %v; Check: %v", i, repaired, err, found)
				}
				if damages(found) > 0 != (len(aside) > 0) {
					t.Fatalf("bit %d: set aside %v after %v", i, aside, found)
				}
				if again := check(t, fs); len(again) > 0 {
					t.Fatalf("bit %d: after Repair: %v", i, again)
				}
				s := open(t, quiet(fs))
				got, _ := dump(t, s)
				for cache, m := range got {
					for k, v := range m {
						if v != final[cache][k] && !(name == "j-2.log" && k == "1") {
							t.Fatalf("bit %d: %s has %q: %q", i, cache, k, v)
						}
					}
				}
				s.Close()
			}
		})
	}
}

// TestRepairNonsense: what makes no sense under a right checksum is gone after Repair, as it does
// not copy blocks as they are.
func TestRepairNonsense(t *testing.T) {
	t.Parallel()
	fs, s, n := manyBlocks(t)
	s.Close()
	snap := fs.Files()["c1-2.snap"]
	block := snap[64:][:32+binary.LittleEndian.Uint32(snap[64+8:])]
	block[32] = 0x7f // the length of the first key
	binary.LittleEndian.PutUint32(block[4:], crc32.Checksum(block[8:], crc32.MakeTable(crc32.Castagnoli)))
	fs.WriteFile("c1-2.snap", snap)
	found, err := logstore.Repair(t.Context(), "dir", logstore.Options{FS: fs, CompactAt: -1, Uncompressed: true})
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if again := check(t, fs); len(again) > 0 {
		t.Errorf("after Repair: %v", again)
	}
	s = open(t, quiet(fs))
	defer s.Close()
	if got, _ := dump(t, s); len(got["a"]) == 0 || len(got["a"]) >= n {
		t.Errorf("%d records of %d are left", len(got["a"]), n)
	}
}

// A damaged block costs its own records, and Repair keeps all the others and
// the damaged file.
func TestRepairSnapshot(t *testing.T) {
	t.Parallel()
	whole, s, n := manyBlocks(t)
	s.Close()
	damaged := whole.Files()["c1-2.snap"]
	damaged[100_000] ^= 1
	for _, policy := range []logstore.Policy{logstore.Discard, logstore.Salvage} {
		fs := whole.Clone()
		fs.WriteFile("c1-2.snap", damaged)
		found, err := logstore.Repair(t.Context(), "dir", logstore.Options{FS: fs, Damage: policy, CompactAt: -1})
		if err != nil || len(found) != 1 || found[0].File != "c1-2.snap" || found[0].Cache != "a" || found[0].Records == 0 {
			t.Fatalf("%v: %v, %v", policy, found, err)
		}
		s := open(t, quiet(fs))
		if got, bad := dump(t, s); bad > 0 || len(got["a"]) != n-found[0].Records {
			t.Errorf("%v: %d records of %d are left, %d damaged", policy, len(got["a"]), n, bad)
		}
		kept := false
		for name, data := range fs.Files() {
			kept = kept || strings.HasPrefix(name, "damaged-") && strings.HasSuffix(name, "/c1-2.snap") && bytes.Equal(data, damaged)
		}
		if !kept {
			t.Errorf("%v: the damaged file was not kept", policy)
		}
	}
	fs := whole.Clone()
	fs.WriteFile("c1-2.snap", damaged)
	before := fs.Files()
	if found, err := logstore.Repair(t.Context(), "dir", quiet(fs)); err != nil || len(found) != 1 {
		t.Errorf("with Fail: %v, %v", found, err)
	}
	if !maps.EqualFunc(before, fs.Files(), bytes.Equal) {
		t.Error("with Fail something was changed")
	}
}

// After Salvage the damaged journal stays until a compaction, which keeps it.
func TestRepairJournal(t *testing.T) {
	t.Parallel()
	fs, at := damagedStore(t)
	damaged := fs.Files()["j-2.log"]
	faults := check(t, fs)
	if len(faults) != 1 || faults[0].File != "j-2.log" || faults[0].Offset != at {
		t.Errorf("Check: %v", faults)
	}
	opts, events := observed(logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Salvage})
	if _, err := logstore.Repair(t.Context(), "dir", opts); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(*events, func(e logstore.Event) bool { return e.Kind == logstore.SetAside })
	if i < 0 || !bytes.Equal(fs.Files()[(*events)[i].File+"/j-2.log"], damaged) {
		t.Errorf("the journal was not kept: %v", *events)
	}
	if faults := check(t, fs); len(faults) > 0 {
		t.Errorf("after Repair: %v", faults)
	}
	want(t, open(t, quiet(fs)), state{}.after(put("a", "1", "stale"), put("a", "2", "two"), put("a", "3", "three"), put("b", "1", "x")))
}

// A store that is open is checked by its own method, beside batches; from
// outside it is locked.
func TestCheckLive(t *testing.T) {
	t.Parallel()
	fs, _ := smallDirectory(t)
	s := open(t, quiet(fs))
	for f, err := range s.Check(t.Context()) {
		t.Error(f, err)
	}
	for _, err := range logstore.Check(t.Context(), "dir", logstore.Options{FS: fs}) {
		if !errors.Is(err, store.ErrLocked) {
			t.Errorf("from outside: %v", err)
		}
	}
	snap := fs.Files()["c1-2.snap"]
	snap[70] ^= 1
	fs.WriteFile("c1-2.snap", snap)
	s.Close()
	s = open(t, logstore.Options{FS: fs, CompactAt: -1})
	n := 0
	for f, err := range s.Check(t.Context()) {
		if n++; err != nil || f.File != "c1-2.snap" {
			t.Error(f, err)
		}
		apply(t, s, put("a", "9", "meanwhile"))
	}
	if n != 1 {
		t.Errorf("%d faults", n)
	}
	if err := s.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	for f, err := range s.Check(t.Context()) {
		t.Error("after Repair:", f, err)
	}
}

func TestCheckNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	for _, err := range logstore.Check(t.Context(), dir, logstore.Options{}) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Check: %v", err)
		}
	}
	if _, err := logstore.Repair(t.Context(), dir, logstore.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Repair: %v", err)
	}
}

// Damage to the start of a snapshot costs no record, whether there are changes of its
// cache or not.
func TestRepairHeader(t *testing.T) {
	t.Parallel()
	for bit := range 8 * 64 {
		fs := faultfs.New()
		p := player{opts: quiet(fs)}
		if err := p.play(t, []step{{ops: []store.Op{put("a", "1", "one"), put("b", "1", "x")}}, {word: compact}, {ops: []store.Op{put("b", "2", "y")}}}); err != nil {
			t.Fatal(err)
		}
		p.s.Close()
		snap := fs.Files()["c1-2.snap"]
		snap[bit/8] ^= 1 << (bit % 8)
		fs.WriteFile("c1-2.snap", snap)
		found, err := logstore.Repair(t.Context(), "dir", logstore.Options{FS: fs, CompactAt: -1})
		if err != nil || len(found) != 1 || found[0].Cache != "a" {
			t.Fatalf("bit %d: %v, %v", bit, found, err)
		}
		s, err := logstore.Open("dir", quiet(fs))
		if err != nil {
			t.Fatalf("bit %d: %v", bit, err)
		}
		want(t, s, p.sure)
		s.Close()
	}
}

// Repair succeeds only if there is no damage left, whichever call fails.
func TestRepairSucceeds(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		fs, _ := damagedStore(t)
		fs.FailAt(n, syscall.ENOSPC, false)
		_, err := logstore.Repair(t.Context(), "dir", logstore.Options{FS: fs, CompactAt: -1})
		calls := fs.Calls()
		fs.NewProcess()
		if n > calls {
			return
		}
		if faults := check(t, fs); err == nil && damages(faults) > 0 {
			t.Errorf("call %d: %v", n, faults)
		}
	}
}
