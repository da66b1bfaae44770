package storetest_test

import (
	"bytes"
	"context"
	"iter"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/memstore"
	"github.com/cacheman-go/cacheman/store/storetest"
)

// faults are stores that break one promise each, and the checks that must
// notice.
var faults = map[string]struct {
	make    func() store.Store
	noticed []string
}{
	"keeps the slices of an op": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, ctx context.Context, ops iter.Seq2[store.Op, error]) error {
				kept, err := collect(ops)
				if err != nil {
					return err
				}
				return s.Apply(ctx, each(kept))
			})
		},
		noticed: []string{"Reuse"},
	},
	"reorders a batch": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, ctx context.Context, ops iter.Seq2[store.Op, error]) error {
				kept, err := collect(cloned(ops))
				if err != nil {
					return err
				}
				slices.Reverse(kept)
				return s.Apply(ctx, each(kept))
			})
		},
		noticed: []string{"Order", "Model"},
	},
	"applies op by op": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, ctx context.Context, ops iter.Seq2[store.Op, error]) error {
				for op, err := range ops {
					if err != nil {
						return err
					}
					if err := s.Apply(ctx, each([]store.Op{op})); err != nil {
						return err
					}
				}
				return s.Apply(ctx, each(nil))
			})
		},
		noticed: []string{"FailingBatch", "CancelledBatch", "Isolation", "Concurrent"},
	},
	"does not look at the context": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, _ context.Context, ops iter.Seq2[store.Op, error]) error {
				return s.Apply(context.Background(), ops)
			})
		},
		noticed: []string{"CancelledBatch"},
	},
	"loses the last op of a batch": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, ctx context.Context, ops iter.Seq2[store.Op, error]) error {
				kept, err := collect(cloned(ops))
				if err != nil {
					return err
				}
				return s.Apply(ctx, each(kept[:max(len(kept)-1, 0)]))
			})
		},
		noticed: []string{"Caches", "Kinds", "Order", "Many", "Empty"},
	},
	"folds the case of names": {
		make: func() store.Store {
			return wrap(func(s *memstore.Store, ctx context.Context, ops iter.Seq2[store.Op, error]) error {
				return s.Apply(ctx, func(yield func(store.Op, error) bool) {
					for op, err := range ops {
						op.Cache = strings.ToLower(op.Cache)
						if !yield(op, err) {
							return
						}
					}
				})
			})
		},
		noticed: []string{"Names"},
	},
	"describes nothing":          {make: func() store.Store { return undescribed{memstore.New()} }, noticed: []string{"Description"}},
	"gives slices with room":     {make: func() store.Store { return roomy{memstore.New()} }, noticed: []string{"LoadOwnership"}},
	"reads at several instants":  {make: func() store.Store { return drifting{memstore.New()} }, noticed: []string{"LoadSnapshot"}},
	"lists caches out of order":  {make: func() store.Store { return unsorted{memstore.New()} }, noticed: []string{"Caches"}},
	"is never closed":            {make: func() store.Store { return open{memstore.New()} }, noticed: []string{"Close", "CloseWhileLoading"}},
	"forgets, though Persistent": {make: func() store.Store { return forgetful{memstore.New()} }, noticed: []string{"Reopen", "Model", "Names"}},
	"finds nothing by Get":       {make: func() store.Store { return blind{memstore.New()} }, noticed: []string{"Get"}},
}

// TestFaultsAreNoticed runs TestFaulty in another process for each fault, as a
// test that must fail cannot run in this one.
func TestFaultsAreNoticed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for fault, f := range faults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFaulty$", "-test.v", "-test.short")
			cmd.Env = append(os.Environ(), "STORETEST_FAULT="+fault)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the suite passes")
			}
			for _, check := range f.noticed {
				if !regexp.MustCompile(`--- FAIL: TestFaulty/` + check + ` `).Match(out) {
					t.Errorf("%s passes:\n%s", check, out)
				}
			}
			if bytes.Contains(out, []byte("panic:")) {
				t.Errorf("the suite panics:\n%s", out)
			}
		})
	}
}

func TestFaulty(t *testing.T) {
	f, ok := faults[os.Getenv("STORETEST_FAULT")]
	if !ok {
		t.Skip("run by TestFaultsAreNoticed")
	}
	storetest.Run(t, func(*testing.T) storetest.Open {
		return func() (store.Store, error) { return f.make(), nil }
	})
}

// wrap returns a memstore with another Apply.
func wrap(apply func(*memstore.Store, context.Context, iter.Seq2[store.Op, error]) error) store.Store {
	return applier{memstore.New(), apply}
}

type applier struct {
	*memstore.Store
	apply func(*memstore.Store, context.Context, iter.Seq2[store.Op, error]) error
}

func (a applier) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	return a.apply(a.Store, ctx, ops)
}

func collect(ops iter.Seq2[store.Op, error]) (kept []store.Op, err error) {
	for op, err := range ops {
		if err != nil {
			return nil, err
		}
		kept = append(kept, op)
	}
	return kept, nil
}

func cloned(ops iter.Seq2[store.Op, error]) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for op, err := range ops {
			op.Key, op.Value, op.Meta = bytes.Clone(op.Key), bytes.Clone(op.Value), bytes.Clone(op.Meta)
			if !yield(op, err) {
				return
			}
		}
	}
}

func each(ops []store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

type undescribed struct{ *memstore.Store }

func (s undescribed) Caches(ctx context.Context) ([]store.Info, error) {
	infos, err := s.Store.Caches(ctx)
	for i := range infos {
		infos[i].Description = nil
	}
	return infos, err
}

// roomy gives records in one array, with room to append.
type roomy struct{ *memstore.Store }

func (s roomy) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		arena := make([]byte, 0, 1<<20)
		piece := func(b []byte) []byte {
			if len(arena)+len(b) > cap(arena) {
				return b
			}
			arena = append(arena, b...)
			return arena[len(arena)-len(b):]
		}
		for r, err := range s.Store.Load(ctx, cache) {
			r.Key, r.Value, r.Meta = piece(r.Key), piece(r.Value), piece(r.Meta)
			if !yield(r, err) {
				return
			}
		}
	}
}

// drifting lists the keys, then reads one record after the other.
type drifting struct{ *memstore.Store }

func (s drifting) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for r, err := range s.Store.Load(ctx, cache) {
			if err == nil {
				if r, err = s.Get(ctx, cache, r.Key); err != nil {
					continue
				}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

type unsorted struct{ *memstore.Store }

func (s unsorted) Caches(ctx context.Context) ([]store.Info, error) {
	infos, err := s.Store.Caches(ctx)
	slices.Reverse(infos)
	return infos, err
}

type open struct{ *memstore.Store }

func (open) Close() error { return nil }

type forgetful struct{ *memstore.Store }

func (s forgetful) Caps() store.Caps {
	c := s.Store.Caps()
	c.Persistent = true
	return c
}

type blind struct{ *memstore.Store }

func (s blind) Get(context.Context, string, []byte) (store.Record, error) {
	return store.Record{}, store.ErrNotFound
}
