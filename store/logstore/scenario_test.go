package logstore_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"weak"

	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// state is what a store should hold: for each cache its records and, under a
// key that no record has, its description.
type state map[string]map[string]string

const descKey = "\x00description"

func (s state) clone() state {
	c := state{}
	for name, m := range s {
		c[name] = maps.Clone(m)
	}
	return c
}

// after returns the state after a batch.
func (s state) after(ops ...store.Op) state {
	s = s.clone()
	for _, op := range ops {
		m := s[op.Cache]
		if m == nil && (op.Kind == store.Put || op.Kind == store.Describe) {
			m = map[string]string{}
			s[op.Cache] = m
		}
		switch op.Kind {
		case store.Put:
			m[string(op.Key)] = string(op.Value) + "/" + string(op.Meta)
		case store.Delete:
			delete(m, string(op.Key))
		case store.Describe:
			m[descKey] = string(op.Value)
		case store.Clear:
			maps.DeleteFunc(m, func(k, _ string) bool { return k != descKey })
		case store.Drop:
			delete(s, op.Cache)
		}
	}
	return s
}

func (s state) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s{", name)
		for _, k := range slices.Sorted(maps.Keys(s[name])) {
			v := s[name][k]
			if len(v) > 20 {
				v = fmt.Sprintf("%.10s…%d", v, len(v))
			}
			fmt.Fprintf(&b, " %q:%q", k, v)
		}
		b.WriteString(" } ")
	}
	return b.String()
}

// readable is a Store or a Reader.
type readable interface {
	store.Store
	store.Getter
}

// dump reads all that is in s, by Load and by Get, which must agree. Errors
// about damage are counted and otherwise passed over.
func dump(t *testing.T, s readable) (_ state, damaged int) {
	t.Helper()
	infos, err := s.Caches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := state{}
	for _, info := range infos {
		m := map[string]string{}
		before := damaged
		for r, err := range s.Load(t.Context(), info.Cache) {
			if errors.Is(err, store.ErrCorrupt) {
				damaged++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := m[string(r.Key)]; twice {
				t.Fatalf("%s: %q twice", info.Cache, r.Key)
			}
			m[string(r.Key)] = string(r.Value) + "/" + string(r.Meta)
		}
		if info.Records >= 0 && info.Records != len(m) && damaged == before {
			t.Errorf("%s: %d records, Caches says %d", info.Cache, len(m), info.Records)
		}
		for k, v := range m {
			r, err := s.Get(t.Context(), info.Cache, []byte(k))
			if err != nil {
				t.Fatalf("%s: Get(%q): %v", info.Cache, k, err)
			}
			if got := string(r.Value) + "/" + string(r.Meta); got != v {
				t.Fatalf("%s: Get(%q) = %q, Load gave %q", info.Cache, k, got, v)
			}
		}
		if info.Description != nil {
			m[descKey] = string(info.Description)
		}
		got[info.Cache] = m
	}
	return got, damaged
}

// survives checks what is there after a loss of power, in so many ways in which what
// was not synced may be lost.
func survives(t *testing.T, fs *faultfs.FS, ways uint64, now state) {
	t.Helper()
	for seed := range ways {
		s := open(t, quiet(fs.Restart(seed)))
		want(t, s, now)
		s.Close()
	}
}

func want(t *testing.T, s readable, want state) {
	t.Helper()
	got, damaged := dump(t, s)
	if damaged > 0 || got.String() != want.String() {
		t.Fatalf("%d damaged\n got %v\nwant %v", damaged, got, want)
	}
}

func put(cache, key, value string) store.Op {
	return store.Op{Kind: store.Put, Cache: cache, Key: []byte(key), Value: []byte(value), Meta: []byte("m")}
}

func del(cache, key string) store.Op {
	return store.Op{Kind: store.Delete, Cache: cache, Key: []byte(key)}
}

func op(kind store.Kind, cache string) store.Op {
	return store.Op{Kind: kind, Cache: cache, Value: []byte("description of " + cache)}
}

func batch(ops ...store.Op) iter.Seq2[store.Op, error] {
	return func(yield func(store.Op, error) bool) {
		for _, o := range ops {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func apply(t *testing.T, s *logstore.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Apply(t.Context(), batch(ops...)); err != nil {
		t.Fatal(err)
	}
}

// applyFails is apply of a batch that is to fail. It does not end the test, for it may be
// called from within another call of the store.
func applyFails(t *testing.T, s *logstore.Store, ops ...store.Op) {
	t.Helper()
	if s.Apply(t.Context(), batch(ops...)) == nil {
		t.Error("it did not fail")
	}
}

// shuffle has fs take other decisions, which depend on how many calls there were.
func shuffle(fs *faultfs.FS, seed uint64) {
	for range seed {
		fs.Exists("x")
	}
}

func open(t *testing.T, opts logstore.Options) *logstore.Store {
	t.Helper()
	s, err := logstore.Open("test", opts)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s, (*logstore.Store).Close)
	return s
}

// closeAtEnd closes what a test has left, without keeping thousands of them in memory that
// it has closed itself.
func closeAtEnd[T any](t *testing.T, x *T, close func(*T) error) {
	left := weak.Make(x)
	t.Cleanup(func() {
		if x := left.Value(); x != nil {
			close(x)
		}
	})
}

// step is a batch, or one of the words below.
type step struct {
	ops  []store.Op
	word string
}

const (
	compact = "compact"
	reopen  = "reopen"
	repair  = "repair"
)

// large makes a frame of several chunks.
var large = strings.Repeat("large ", 30_000)

// scenario has all that changes files: batches of all kinds, of one chunk and
// of several, a cache that is saved in another form, renamed, and invalidated with
// another, compactions of full and of emptied caches, repairing, and opening again.
var scenario = []step{
	{ops: []store.Op{put("a", "1", "one"), put("b", "1", "uno"), op(store.Describe, "a")}},
	{ops: []store.Op{put("a", "2", "two"), del("b", "1"), put("b", "2", "due")}},
	{word: compact},
	{ops: []store.Op{put("a", "1", large), put("a", "3", "three"), put("b", "3", large), del("a", "2")}},
	{ops: []store.Op{op(store.Clear, "b"), put("b", "4", "quattro")}},
	{word: reopen},
	{ops: []store.Op{op(store.Drop, "a"), put("c", "", "")}},
	{word: compact},
	{ops: []store.Op{put("a", "5", "five"), put("c", "1", "un"), put("c", "1", "deux")}},
	{word: reopen},
	{ops: []store.Op{op(store.Clear, "c")}},
	{word: compact},
	{ops: []store.Op{op(store.Drop, "b"), op(store.Describe, "d")}},
	{word: compact},
	{ops: []store.Op{put("a", "6", "six"), put("a", "7", large)}},
	{ops: []store.Op{op(store.Clear, "a"), op(store.Describe, "a"), put("a", "6", "VI"), put("a", "7", large[1:])}},
	{word: repair},
	{ops: []store.Op{op(store.Drop, "a"), op(store.Describe, "e"), put("e", "6", "VI"), put("e", "7", large[1:])}},
	{word: compact},
	{ops: []store.Op{op(store.Drop, "e"), op(store.Drop, "c"), put("d", "1", "eins")}},
	{ops: []store.Op{put("e", "6", "VII")}},
}

// player plays the scenario on a file system that may fail.
type player struct {
	opts logstore.Options
	s    *logstore.Store
	// sure is what was acknowledged. If a batch failed, maybe is the state
	// with it.
	sure, maybe state
}

// play carries out steps until one fails, and returns the error.
func (p *player) play(t *testing.T, steps []step) error {
	if p.sure == nil {
		p.sure = state{}
	}
	if p.s == nil {
		if err := p.open(); err != nil {
			return err
		}
	}
	for _, st := range steps {
		switch {
		case st.word == compact:
			if err := p.s.Compact(t.Context()); err != nil {
				return err
			}
		case st.word == repair:
			if err := p.s.Repair(t.Context()); err != nil {
				return err
			}
		case st.word == reopen:
			p.s.Close()
			p.s = nil
			if err := p.open(); err != nil {
				return err
			}
		default:
			next := p.sure.after(st.ops...)
			if err := p.s.Apply(t.Context(), batch(st.ops...)); err != nil {
				p.maybe = next
				return err
			}
			p.sure = next
		}
	}
	return nil
}

func (p *player) open() (err error) {
	p.s, err = logstore.Open("test", p.opts)
	return err
}

// check checks that a store holds what is sure, or that and the failed batch.
func (p *player) check(t *testing.T, s readable) state {
	t.Helper()
	got, damaged := dump(t, s)
	if damaged > 0 {
		t.Fatalf("%d damaged", damaged)
	}
	if g := got.String(); g != p.sure.String() && (p.maybe == nil || g != p.maybe.String()) {
		t.Fatalf("\n  got %v\n sure %v\nmaybe %v", got, p.sure, p.maybe)
	}
	return got
}

// quiet is a policy under which damage prevents the start, for tests in which
// there is none.
func quiet(fs *faultfs.FS) logstore.Options {
	return logstore.Options{FS: fs, CompactAt: -1, Damage: logstore.Fail}
}
