package proof

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cacheman-go/cacheman"
)

var linearRounds = flag.Int("linear.rounds", 0, "histories that TestLinearizable checks; 0: 300, or 60 with -short")

// The keys are three inputs; one entry that is built of the first two; and one
// that is built of that and the third. 0 stands for no value.
const (
	inputs = 3
	pair   = inputs
	triple = inputs + 1
	keys   = inputs + 2
)

// contents is all that there is: the values of the inputs, and what entries with
// builders were told by Set.
type contents [keys]int

// read returns what a Get of a key is to give.
func (c contents) read(key int) int {
	switch {
	case key < inputs || c[key] != 0:
		return c[key]
	case key == pair:
		return 10*c[0] + c[1] + 1000
	}
	return 10*c.read(pair) + c[2]
}

// call is one call of the history, and its result.
type call struct {
	op    string
	key   int
	value int // what is set, or what an Update adds; a Batch sets the next input as well

}

// step is the sequential specification: it reports whether c may have the given
// result, and what there is then.
func step(state, input, output any) (bool, any) {
	c, in := state.(contents), input.(call)
	switch in.op {
	case "get", "peek":
		return c.read(in.key) == output.(int), c
	case "set":
		c[in.key] = in.value
	case "delete", "invalidate":
		c[in.key] = 0
	case "update":
		c[in.key] = updated(c[in.key], in.value)
		return c[in.key] == output.(int), c
	case "batch":
		c[in.key] = in.value
		c[(in.key+1)%inputs] = in.value%9 + 1
	}
	return true, c
}

// updated is what Update makes of a value.
func updated(old, n int) int { return (old + n) % 10 }

var model = porcupine.Model{
	Init: func() any { return contents{} },
	Step: step,
	DescribeOperation: func(input, output any) string {
		in := input.(call)
		return fmt.Sprintf("%s %d %d: %v", in.op, in.key, in.value, output)
	},
	DescribeState: func(state any) string { return fmt.Sprint(state) },
}

// system is the library, as what the calls of a history are made to.
type system struct {
	m     *cacheman.Manager
	in    *cacheman.Cache[int, int]
	built *cacheman.Cache[int, int]
}

func open(t *testing.T) *system {
	m, err := cacheman.Open(t.TempDir(), cacheman.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{m: m}
	if s.in, err = cacheman.Register(m, "in", cacheman.Spec[int, int]{}); err != nil {
		t.Fatal(err)
	}
	s.built, err = cacheman.Register(m, "built", cacheman.Spec[int, int]{Build: s.build})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *system) build(ctx context.Context, key int) (int, error) {
	if key == pair {
		a, err1 := s.read(ctx, 0)
		b, err2 := s.read(ctx, 1)
		return 10*a + b + 1000, errors.Join(err1, err2)
	}
	p, err1 := s.read(ctx, pair)
	c, err2 := s.read(ctx, 2)
	return 10*p + c, errors.Join(err1, err2)
}

// cache returns where a key is.
func (s *system) cache(key int) *cacheman.Cache[int, int] {
	if key < inputs {
		return s.in
	}
	return s.built
}

// read is Get, where no value is 0.
func (s *system) read(ctx context.Context, key int) (int, error) {
	v, err := s.cache(key).Get(ctx, key)
	if errors.Is(err, cacheman.ErrNotFound) {
		return 0, nil
	}
	return v, err
}

func (s *system) do(c call) (result int, err error) {
	switch c.op {
	case "get":
		return s.read(context.Background(), c.key)
	case "peek":
		v, _ := s.in.Peek(c.key)
		return v, nil
	case "set":
		return 0, s.cache(c.key).Set(c.key, c.value)
	case "delete":
		return 0, s.cache(c.key).Delete(c.key)
	case "invalidate":
		return 0, s.built.Invalidate(c.key)
	case "update":
		return s.in.Update(c.key, func(old int, ok bool) (int, bool) {
			v := updated(old, c.value)
			return v, v != 0
		})
	}
	return 0, s.m.Batch(func(b *cacheman.Batch) error {
		s.in.SetIn(b, c.key, c.value)
		s.in.SetIn(b, (c.key+1)%inputs, c.value%9+1)
		return nil
	})
}

// random returns a call.
func random(rng *rand.Rand) call {
	c := call{key: rng.IntN(inputs), value: 1 + rng.IntN(9)}
	switch n := rng.IntN(20); {
	case n < 9:
		c.op, c.key = "get", rng.IntN(keys)
	case n < 10:
		c.op = "peek"
	case n < 13:
		c.op = "set"
	case n < 14:
		c.op, c.key, c.value = "set", pair, 5000+rng.IntN(3)
	case n < 15:
		c.op, c.key = "delete", rng.IntN(keys)
	case n < 16:
		c.op, c.key = "invalidate", pair+rng.IntN(2)
	case n < 18:
		c.op = "update"
	default:
		c.op = "batch"
	}
	return c
}

// TestLinearizable: there is an order of all calls, each between its begin and
// its end, in which everybody gets what they would have got one after another. A
// Get of what is built is a read of the inputs, all at one instant.
func TestLinearizable(t *testing.T) {
	rounds := *linearRounds
	if rounds == 0 {
		if rounds = 300; testing.Short() {
			rounds = 60
		}
	}
	for round := range rounds {
		history := record(t, uint64(round), 4, 30)
		result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
		if result == porcupine.Ok {
			continue
		}
		file := filepath.Join(t.ArtifactDir(), fmt.Sprintf("history%d.html", round))
		if err := porcupine.VisualizePath(model, info, file); err != nil {
			t.Error(err)
		}
		t.Fatalf("history %d is %s; it is drawn in %s", round, result, file)
	}
}

// record makes calls from some goroutines at once, and returns when each began
// and ended.
func record(t *testing.T, seed uint64, goroutines, calls int) (history []porcupine.Operation) {
	s := open(t)
	defer func() {
		for fault := range s.m.Check() {
			t.Error(fault)
		}
		if err := s.m.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	for id := range goroutines {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for range calls {
				op := porcupine.Operation{ClientId: id, Input: random(rng)}
				op.Call = int64(time.Since(began))
				result, err := s.do(op.Input.(call))
				op.Return = int64(time.Since(began))
				if err != nil {
					t.Errorf("%+v: %v", op.Input, err)
				}
				op.Output = result
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return history
}

// TestStaleHistory: the check sees a read that is too old.
func TestStaleHistory(t *testing.T) {
	history := []porcupine.Operation{
		{Input: call{"set", 0, 1}, Call: 0, Output: 0, Return: 1},
		{Input: call{"get", pair, 0}, Call: 2, Output: 1010, Return: 3},
		{Input: call{"set", 0, 2}, Call: 4, Output: 0, Return: 5},
		{Input: call{"get", pair, 0}, Call: 6, Output: 1010, Return: 7},
	}
	if porcupine.CheckOperations(model, history) {
		t.Error("a stale read passes")
	}
	history[3].Output = 1020
	if !porcupine.CheckOperations(model, history) {
		t.Error("a right history does not pass")
	}
}
