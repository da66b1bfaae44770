package logstore_test

import (
	"testing"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

// TestStore runs the suite of all stores: with compactions as often as can be
// and without any, on a disk and in memory.
func TestStore(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]logstore.Options{
		"eager": {CompactAt: 1},
		"never": {CompactAt: -1},
		"zero":  {},
	} {
		opts.Observe = failOnTrouble(t)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Open {
				dir := t.TempDir()
				return func() (store.Store, error) { return logstore.Open(dir, opts) }
			})
		})
	}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) storetest.Open {
			opts := logstore.Options{CompactAt: 1, FS: faultfs.New(), Observe: failOnTrouble(t)}
			return func() (store.Store, error) { return logstore.Open("memory", opts) }
		})
	})
}

// failOnTrouble returns an observer that expects nothing but compactions, and
// leftovers of those whose files were still being read when the store was closed.
func failOnTrouble(t *testing.T) func(logstore.Event) {
	return func(e logstore.Event) {
		if e.Kind != logstore.Compacted && e.Kind != logstore.Swept {
			t.Error(e)
		}
	}
}
