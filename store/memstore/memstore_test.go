package memstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Open {
		return func() (store.Store, error) { return memstore.New(), nil }
	})
}

func Example() {
	ctx := context.Background()
	s := memstore.New()
	defer s.Close()

	err := s.Apply(ctx, func(yield func(store.Op, error) bool) {
		_ = yield(store.Op{Kind: store.Put, Cache: "users", Key: []byte("ann"), Value: []byte("42")}, nil) &&
			yield(store.Op{Kind: store.Put, Cache: "users", Key: []byte("bob"), Value: []byte("23")}, nil) &&
			yield(store.Op{Kind: store.Delete, Cache: "users", Key: []byte("ann")}, nil)
	})
	if err != nil {
		fmt.Println(err)
	}
	for r, err := range s.Load(ctx, "users") {
		fmt.Printf("%s %s %v\n", r.Key, r.Value, err)
	}
	// Output: bob 23 <nil>
}
