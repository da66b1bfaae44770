package cacheman

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	m := openDir(t, dir, Options{})
	in, sum, _ := sums(t, m, false)
	for i := range 5 {
		ok(t, in.Set(i, i))
	}
	equal(t, "sum", must(sum.Get(t.Context(), 4)), 10)
	ok(t, in.Set(2, 3))
	equal(t, "sum", must(sum.Get(t.Context(), 3)), 7)
	ok(t, m.Sync(t.Context()))
	for fault := range CheckDir(t.Context(), dir) { // while it is open
		t.Error(fault)
	}
	ok(t, m.Close())
	for fault := range CheckDir(t.Context(), dir) {
		t.Error(fault)
	}
	faults := slices.Collect(CheckDir(t.Context(), dir+"/none"))
	if len(faults) != 1 {
		t.Errorf("a directory that is not there: %v", faults)
	}
}

func TestCheckDirFindsFaults(t *testing.T) {
	edge := func(stamp byte) []byte { return []byte{0, 1, 'c', 1, 'k', stamp} }
	built := func(flags, stamp, at byte, edges []byte) []byte {
		meta := append([]byte{flags, stamp}, make([]byte, 8)...)
		return append(append(meta, at, 1), edges...)
	}
	for _, test := range []struct {
		meta  []byte
		value string
		fault string // "" if there is none
	}{
		{nil, "v", ""},
		{[]byte{0, 5}, "v", ""},
		{[]byte{0, 0}, "v", "no stamp"},
		{[]byte{0, 11}, "v", "revision 11; the last that was issued is 10"},
		{[]byte{0}, "v", "cannot be read"},
		{[]byte{flagProbed, 5}, "v", "builder"},
		{[]byte{0x40, 5}, "v", "flags"},
		{built(flagBuilt, 5, 6, edge(6)), "v", ""},
		{built(flagBuilt, 5, 6, edge(7)), "v", "read"},
		{built(flagBuilt, 5, 11, nil), "v", "revision 11"},
		{built(flagBuilt, 5, 6, edge(6)[:4]), "v", "cannot be read"},
		{built(flagBuilt|flagNone, 0, 6, edge(6)), "", ""},
		{built(flagBuilt|flagNone, 0, 6, edge(6)), "v", "no value, and has one"},
		{built(flagBuilt|flagError, 5, 6, edge(6)), "text", ""},
		{built(flagBuilt|flagDropped, 5, 6, edge(6)), fingerprint([]byte("v")), ""},
		{built(flagBuilt|flagDropped, 5, 6, edge(6)), "", ""},
		{built(flagBuilt|flagDropped, 5, 6, edge(6)), "v", "lost its value"},
		{built(flagBuilt|flagDropped|flagForced, 5, 6, nil), fingerprint([]byte("v")), ""},
		{built(flagBuilt|flagError|flagForced, 5, 6, nil), "text", ""},
		{built(flagBuilt|flagForced, 5, 6, nil), "v", "invalidated, and has a value"},
	} {
		d := newDisk()
		ok(t, d.Apply(t.Context(), func(yield func(store.Op, error) bool) {
			_ = yield(store.Op{Kind: store.Describe, Cache: "c", Value: []byte("{}")}, nil) &&
				yield(store.Op{Kind: store.Put, Cache: "c", Key: []byte("k"), Value: []byte(test.value), Meta: test.meta}, nil) &&
				yield(store.Op{Kind: store.Describe, Cache: revisions, Value: binary.AppendUvarint(nil, 10)}, nil)
		}))
		faults := slices.Collect(checkStore(t.Context(), d))
		switch {
		case test.fault == "" && len(faults) == 0:
		case test.fault == "" || len(faults) != 1 || !strings.Contains(faults[0].Error(), test.fault) || !errors.Is(faults[0], ErrInvariant):
			t.Errorf("meta %x, value %q: %v, want %q", test.meta, test.value, faults, test.fault)
		}
	}
}

// TestCheckDirThroughMemory: what was computed through memory may be saved with what that
// was computed from later, and the same.
func TestCheckDirThroughMemory(t *testing.T) {
	ctx := t.Context()
	for what, change := range map[string]func(in, half *Cache[int, int]) error{
		"set":         func(in, half *Cache[int, int]) error { return in.Set(1, 3) },
		"invalidated": func(in, half *Cache[int, int]) error { return half.Invalidate(1) },
	} {
		t.Run(what, func(t *testing.T) {
			d := newDisk()
			open := func() (in, half, top *Cache[int, int], m *Manager) {
				m = d.open(t, Options{Autosync: &Autosync{Off: true}})
				in = must(Register(m, "in", Spec[int, int]{}))
				half = must(Register(m, "half", Spec[int, int]{Memory: true, Build: func(ctx context.Context, k int) (int, error) {
					v, err := in.Get(ctx, k)
					return v / 2, err
				}}))
				top = must(Register(m, "top", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return half.Get(ctx, k) }}))
				return in, half, top, m
			}
			in, half, top, m := open()
			ok(t, in.Set(1, 2))
			equal(t, "top", must(top.Get(ctx, 1)), 1)
			ok(t, change(in, half))
			equal(t, "top", must(top.Get(ctx, 1)), 1)
			equal(t, "builds", top.Stats().Builds, 1)
			ok(t, m.Close())
			for fault := range checkStore(ctx, d) {
				t.Error(fault)
			}
			_, _, top, _ = open()
			equal(t, "top after a restart", must(top.Get(ctx, 1)), 1)
			equal(t, "builds after a restart", top.Stats().Builds, 0)
		})
	}
}
