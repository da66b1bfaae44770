package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cacheman-go/cacheman/codec"
)

func TestMapVocabulary(t *testing.T) {
	c := must(Register(newManager(t), "c", Spec[string, int]{}))
	wantContents(t, c, map[string]int{})
	ok(t, c.Set("a", 1))
	ok(t, c.Set("b", 2))
	ok(t, c.Set("a", 3))
	ok(t, c.SetAll(maps.All(map[string]int{"c": 4, "d": 5})))
	ok(t, c.Delete("c"))
	ok(t, c.Delete("never there"))
	wantContents(t, c, map[string]int{"a": 3, "b": 2, "d": 5})
	if c.Has("c") || !c.Has("b") {
		t.Fatal("membership is wrong")
	}
	if v, ok := c.Peek("c"); ok || v != 0 {
		t.Fatalf("a deleted key gives %v, %v", v, ok)
	}
	equal(t, "keys", fmt.Sprint(slices.Sorted(c.Keys())), "[a b d]")
	equal(t, "values", fmt.Sprint(slices.Sorted(c.Values())), "[2 3 5]")
	if _, err := c.Get(t.Context(), "c"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Get of a missing key without a builder: %v", err)
	}
	ok(t, c.Clear())
	wantContents(t, c, map[string]int{})
}

func TestUpdate(t *testing.T) {
	c := must(Register(newManager(t), "c", Spec[string, []int]{}))
	add := func(n int) func([]int, bool) ([]int, bool) {
		return func(v []int, ok bool) ([]int, bool) { return append(v, n), true }
	}
	must(c.Update("k", add(1)))
	v := must(c.Update("k", add(2)))
	equal(t, "updated", fmt.Sprint(v), "[1 2]")
	if _, err := c.Update("k", func([]int, bool) ([]int, bool) { return nil, false }); err != nil || c.Has("k") {
		t.Fatalf("Update did not delete: %v", err)
	}
}

// TestUpdateAppend: concurrent appends to one value lose nothing, although
// append writes into spare capacity where there is any.
func TestUpdateAppend(t *testing.T) {
	c := must(Register(newManager(t), "c", Spec[string, []int]{}))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				c.Update("k", func(v []int, _ bool) ([]int, bool) { return append(v, g*1000+i), true })
			}
		})
	}
	wg.Wait()
	v, _ := c.Peek("k")
	seen := make(map[int]bool)
	for _, n := range v {
		seen[n] = true
	}
	if len(v) != 800 || len(seen) != 800 {
		t.Fatalf("%d appended, %d different ones; want 800", len(v), len(seen))
	}
}

// TestIteration: the body may change the cache; what is deleted before its turn
// does not come, what stays comes once.
func TestIteration(t *testing.T) {
	for _, n := range []int{10, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := must(Register(newManager(t), "c", Spec[int, int]{}))
			for i := range n {
				c.Set(i, i)
			}
			seen := make(map[int]int)
			for k := range c.All() {
				if seen[k]++; len(seen) == n/2 {
					for i := range n {
						if seen[i] == 0 && i%2 == 0 {
							c.Delete(i)
						}
					}
					for i := range n {
						c.Set(n+i, 0)
					}
				}
				if k < n && k%2 == 0 && len(seen) > n/2 {
					t.Fatalf("%d came after it was deleted", k)
				}
			}
			for i := 1; i < n; i += 2 {
				if seen[i] != 1 {
					t.Fatalf("%d came %d times", i, seen[i])
				}
			}
		})
	}
}

// TestGrow: a cache that outgrows its single shard keeps everything, also what
// was unsaved, and what was deleted.
func TestGrow(t *testing.T) {
	d := newDisk()
	m := d.open(t, Options{})
	c := must(Register(m, "c", Spec[int, int]{}))
	want := make(map[int]int)
	for i := range 10 * growAt {
		c.Set(i, i)
		want[i] = i
		if i%7 == 0 {
			c.Delete(i)
			delete(want, i)
		}
		if i == growAt/2 {
			ok(t, c.Sync(t.Context()))
			c.Delete(3)
			delete(want, 3)
		}
	}
	wantContents(t, c, want)
	ok(t, m.Close())
	wantContents(t, must(Register(d.open(t, Options{}), "c", Spec[int, int]{})), want)
}

func TestConcurrentUse(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{}))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				k := (i*7 + g) % 2000
				switch i % 8 {
				case 0, 1, 2:
					c.Set(k, i)
				case 3:
					c.Delete(k)
				case 4:
					c.Update(k, func(v int, ok bool) (int, bool) { return v + 1, true })
				case 5:
					c.Peek(k)
				case 6:
					if i%500 == 6 {
						c.Sync(t.Context())
						c.Len()
					}
				case 7:
					if i%1000 == 7 {
						for range c.All() {
						}
						c.Clear()
					}
				}
			}
		})
	}
	wg.Wait()
	ok(t, m.Sync(t.Context()))
	checkTable(t, c)
}

// TestKeyNotEqualToItself: no cache has an entry for a key that is NaN, and all who would
// need one are told.
func TestKeyNotEqualToItself(t *testing.T) {
	testNaN(t, math.NaN(), 1)
	testNaN(t, [2]float32{0, float32(math.NaN())}, [2]float32{})
	testNaN(t, struct {
		s string
		c complex64
	}{"", complex(0, float32(math.NaN()))}, struct {
		s string
		c complex64
	}{})
	testNaN[any](t, math.NaN(), 1)
}

func testNaN[K comparable](t *testing.T, nan, other K) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m := newManager(t)
	c := must(Register(m, "c", Spec[K, int]{Memory: true, Build: func(context.Context, K) (int, error) { return 1, nil }}))
	reader := must(Register(m, "reader", Spec[int, int]{Build: func(ctx context.Context, _ int) (int, error) { return c.Get(ctx, nan) }}))
	must(c.Get(ctx, other))
	for name, use := range map[string]func() error{
		"get":        func() error { _, err := c.Get(ctx, nan); return err },
		"get inside": func() error { _, err := reader.Get(ctx, 1); return err },
		"contains":   func() error { _, err := c.Contains(ctx, nan); return err },
		"set":        func() error { return c.Set(nan, 1) },
		"setall":     func() error { return c.SetAll(maps.All(map[K]int{nan: 1})) },
		"delete":     func() error { return c.Delete(nan) },
		"invalidate": func() error { return c.Invalidate(other, nan) },
		"update": func() error {
			_, err := c.Update(nan, func(int, bool) (int, bool) { t.Error("it was called"); return 1, true })
			return err
		},
		"set in":    func() error { return m.Batch(func(b *Batch) error { c.SetIn(b, nan, 1); return nil }) },
		"delete in": func() error { return m.Batch(func(b *Batch) error { c.DeleteIn(b, nan); return nil }) },
	} {
		if err := use(); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), " c[") || !strings.Contains(err.Error(), "NaN") {
			t.Errorf("%s of %v: got %v", name, nan, err)
		}
	}
	if _, ok := c.Peek(nan); ok || c.Has(nan) {
		t.Errorf("there is an entry of %v", nan)
	}
	equal(t, "state", c.Explain(nan).State, Absent)
	must(c.Get(ctx, other))
	equal(t, "entries", c.Len(), 1)
}

// TestNaNInContents: what brings a key that is not equal to itself together with others is
// told, and what was saved of one by a codec that allows it is damage.
func TestNaNInContents(t *testing.T) {
	bad := map[float64]int{1: 1, math.NaN(): 2}
	m := newManager(t)
	if _, err := Register(m, "contents", Spec[float64, int]{Contents: bad}); !errors.Is(err, ErrSpec) {
		t.Errorf("got %v", err)
	}
	whole := must(Register(m, "all", Spec[float64, int]{BuildAll: func(context.Context) (map[float64]int, error) { return bad, nil }}))
	if _, err := whole.Get(t.Context(), 1); !errors.Is(err, errNaN) {
		t.Errorf("got %v", err)
	}
	loaded := must(Register(m, "loaded", Spec[float64, int]{Load: func(context.Context) (map[float64]int, error) { return bad, nil }}))
	if err := loaded.Load(t.Context()); !errors.Is(err, errNaN) {
		t.Errorf("got %v", err)
	}

	d := newDisk()
	m = openOn(d)
	ints := must(codec.Key[int]())
	ok(t, must(Register(m, "c", Spec[int, int]{})).SetAll(maps.All(map[int]int{1: 1, -1: 2})))
	ok(t, m.Close())
	var told atomic.Int32
	m = must(Open("", Options{Store: d, Observe: func(e Event) {
		if e.Kind == EventDamaged && errors.Is(e.Err, errNaN) {
			told.Add(1)
		}
	}}))
	defer m.Close()
	c := must(Register(m, "c", Spec[float64, int]{KeyCodec: codec.Codec[float64]{
		Name:   ints.Name,
		Append: func(dst []byte, k float64) ([]byte, error) { return ints.Append(dst, int(k)) },
		Decode: func(b []byte) (float64, error) { k, err := ints.Decode(b); return math.Sqrt(float64(k)), err },
	}}))
	wantContents(t, c, map[float64]int{1: 1})
	equal(t, "told", told.Load(), 1)
	for fault := range m.Check() {
		t.Error(fault)
	}
}

// TestKeyWithoutHash: a key that has no hash is a panic, as it is in a map, and leaves
// nothing locked.
func TestKeyWithoutHash(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[any, int]{Memory: true}))
	ok(t, c.Set("a", 1))
	var bad any = []int{1}
	for name, use := range map[string]func(){
		"Get":    func() { c.Get(t.Context(), bad) },
		"Peek":   func() { c.Peek(bad) },
		"Set":    func() { c.Set(bad, 1) },
		"Delete": func() { c.Delete(bad) },
		"Update": func() { c.Update(bad, func(v int, ok bool) (int, bool) { return 1, true }) },
		"Batch": func() {
			if err := m.Batch(func(b *Batch) error { c.DeleteIn(b, bad); return nil }); err != nil {
				panic(err)
			}
		},
		"Explain": func() { c.Explain(bad) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			use()
		}()
	}
	ok(t, c.Set("a", 2))
	ok(t, c.InvalidateAll())
	equal(t, "entries", c.Len(), 0)
}

// TestShardFillsLines: readers of one shard share no line of the processor's cache with those
// of another, and need one line of it.
func TestShardFillsLines(t *testing.T) {
	var s shard[string, int]
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // made for what most processors are
	}
	equal(t, "bytes of a shard", unsafe.Sizeof(s), 2*cacheLine)
	equal(t, "bytes that reads need", unsafe.Offsetof(s.moved)/cacheLine, 0)
}
