// Package storetest checks that a store keeps the promises of package store.
//
// A store of any kind is tested by one function:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Open {
//			dir := t.TempDir()
//			return func() (store.Store, error) { return mystore.Open(dir) }
//		})
//	}
//
// What the store's [store.Caps] do not promise is not checked. What the package
// cannot check is that a batch survives a crash: it has no way of causing one.
//
// [RunFollower] is for a [store.Follower], which shows what another store is given.
//
// A nil slice and an empty one are the same to it, and so are nil and empty
// descriptions.
package storetest

import (
	"testing"

	"github.com/cacheman-go/cacheman/store"
)

// Open opens one place where a store keeps its records. The first call finds
// it empty. A later one finds what the store that was opened before kept, if it is
// Persistent; unless that is a [store.Sharer], it is closed then.
type Open func() (store.Store, error)

// Run checks a store, in one subtest for each promise. Each gets a place of
// its own from place, which may use its t to make and to remove it. With
// -short, batches are smaller.
func Run(t *testing.T, place func(t *testing.T) Open) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			c.check(&suite{T: t, open: place(t)})
		})
	}
}

var checks = []struct {
	name  string
	check func(*suite)
}{
	{"Caps", checkCaps},
	{"Caches", checkCaches},
	{"Description", checkDescription},
	{"Names", checkNames},
	{"Kinds", checkKinds},
	{"Order", checkOrder},
	{"Empty", checkEmpty},
	{"Large", checkLarge},
	{"Many", checkMany},
	{"Reuse", checkReuse},
	{"FailingBatch", checkFailingBatch},
	{"CancelledBatch", checkCancelledBatch},
	{"Load", checkLoad},
	{"LoadOwnership", checkLoadOwnership},
	{"LoadCancelled", checkLoadCancelled},
	{"LoadSnapshot", checkLoadSnapshot},
	{"LoadNested", checkLoadNested},
	{"Get", checkGet},
	{"Compact", checkCompact},
	{"Redescribe", checkRedescribe},
	{"Isolation", checkIsolation},
	{"Concurrent", checkConcurrent},
	{"Model", checkModel},
	{"Reopen", checkReopen},
	{"Close", checkClose},
	{"CloseWhileLoading", checkCloseWhileLoading},
}
