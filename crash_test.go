package cacheman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/internal/vfs/faultfs"
	"github.com/cacheman-go/cacheman/store/logstore"
)

// crashState is what the caches of a crashProgram hold, but for what it derives.
type crashState struct {
	in    map[int]int
	notes map[string]string // as the second program sees them
	list  map[int]int
}

func (s crashState) clone() crashState {
	return crashState{maps.Clone(s.in), maps.Clone(s.notes), maps.Clone(s.list)}
}

// crashProgram is one run of a program. Its second version has renamed a cache and
// saves the values of another otherwise.
type crashProgram struct {
	m     *Manager
	store *logstore.Store
	in    *Cache[int, int]
	twice *Cache[int, int] // computed from in
	list  *Cache[int, int] // gone when in is invalidated
	notes *Cache[string, string]
}

func openCrashProgram(disk *faultfs.FS, second bool, observe func(Event)) (p *crashProgram, err error) {
	p = &crashProgram{}
	if p.store, err = logstore.Open("the disk", logstore.Options{FS: disk, CompactAt: -1, Damage: logstore.Fail}); err != nil {
		return nil, err
	}
	opts := quietly
	opts.Store, opts.Observe = p.store, observe
	p.m = must(Open("", opts))
	name, spec, notes := "in", Spec[int, int]{}, Spec[string, string]{Version: "1"}
	if second {
		name, spec = "input", Spec[int, int]{Formerly: []string{"in"}}
		notes = Spec[string, string]{Version: "2", Migrate: func(_ context.Context, _ Saved, _ string, data []byte) (string, error) {
			v, err := must(codec.For[string]()).Decode(data)
			return v + "'", err
		}}
	}
	p.in = must(Register(p.m, name, spec))
	p.twice = must(Register(p.m, "twice", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := p.in.Get(ctx, k)
		return 2 * v, err
	}}))
	p.list = must(Register(p.m, "list", Spec[int, int]{DependsOn: []string{name}}))
	p.notes = must(Register(p.m, "notes", notes))
	return p, nil
}

// contents also checks what was derived.
func (p *crashProgram) contents(t *testing.T) crashState {
	t.Helper()
	s := crashState{maps.Collect(p.in.All()), maps.Collect(p.notes.All()), maps.Collect(p.list.All())}
	for k := range 8 {
		want, has := s.in[k]
		got, err := p.twice.Get(t.Context(), k)
		if has && (err != nil || got != 2*want) || !has && !errors.Is(err, ErrNotFound) {
			t.Fatalf("twice[%d] is %v, %v; in has %v", k, got, err, s.in)
		}
	}
	return s
}

// crashRun plays a history of two programs on a disk that may fail.
type crashRun struct {
	disk *faultfs.FS
	p    *crashProgram
	now  crashState
	// sure is what was saved; if a sync has failed, maybe is what would have
	// been saved by it. No stamp up to revision may be issued again.
	sure, maybe crashState
	revision    uint64
}

// crashSteps are what the programs do between two syncs. An error is one of the disk.
var crashSteps = []func(*crashRun) error{
	func(r *crashRun) error { return r.open(false) },
	func(r *crashRun) error { return r.set(1, 1, 2, 2, 3, 3) },
	func(r *crashRun) error { return r.note("a", "one", "b", "two") },
	func(r *crashRun) error { r.now.list[1] = 1; return r.p.list.Set(1, 1) },
	func(r *crashRun) error { delete(r.now.in, 2); return errors.Join(r.p.in.Delete(2), r.set(1, 11)) },
	(*crashRun).compact,
	func(r *crashRun) error {
		delete(r.now.notes, "b")
		return errors.Join(r.p.notes.Delete("b"), r.note("a", "three"))
	},
	(*crashRun).invalidate,
	func(r *crashRun) error { r.now.list[2] = 2; return errors.Join(r.set(1, 11, 4, 4), r.p.list.Set(2, 2)) },
	(*crashRun).compact,
	func(r *crashRun) error { return r.set(3, 33) },
	func(r *crashRun) error { return r.open(true) },
	func(r *crashRun) error {
		r.now.notes["c"] = "c'"
		return errors.Join(r.set(4, 44), r.p.notes.Set("c", "c'"))
	},
	(*crashRun).compact,
	func(r *crashRun) error { return r.open(true) },
	func(r *crashRun) error { return errors.Join(r.invalidate(), r.set(5, 5)) },
	func(r *crashRun) error { return r.p.store.Repair(context.Background()) },
	func(r *crashRun) error { return r.set(5, 6, 1, 1) },
}

func (r *crashRun) open(second bool) (err error) {
	if r.p != nil {
		r.p.m.Close() // nothing is unsaved
	}
	r.p, err = openCrashProgram(r.disk, second, nil)
	return err
}

func (r *crashRun) set(kv ...int) error {
	for i := 0; i < len(kv); i += 2 {
		r.now.in[kv[i]] = kv[i+1]
		if err := r.p.in.Set(kv[i], kv[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *crashRun) note(kv ...string) error {
	for i := 0; i < len(kv); i += 2 {
		r.now.notes[kv[i]] = kv[i+1] + "'"
		if err := r.p.notes.Set(kv[i], kv[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *crashRun) invalidate() error {
	clear(r.now.in)
	clear(r.now.list)
	return r.p.in.InvalidateAll()
}

func (r *crashRun) compact() error { return r.p.store.Compact(context.Background()) }

func newCrashRun(disk *faultfs.FS) *crashRun {
	empty := crashState{map[int]int{}, map[string]string{}, map[int]int{}}
	return &crashRun{disk: disk, now: empty, sure: empty.clone()}
}

// step does one step and saves.
func (r *crashRun) step(i int) error {
	if err := crashSteps[i](r); err != nil {
		return err
	}
	for k := range 8 { // so that there is something derived to be saved
		_, _ = r.p.twice.Get(context.Background(), k)
	}
	return r.sync()
}

func (r *crashRun) sync() error {
	r.maybe = r.now.clone()
	if err := r.p.m.Sync(context.Background()); err != nil {
		return err
	}
	r.sure, r.maybe, r.revision = r.maybe, crashState{}, r.p.m.graph.Revision()
	return nil
}

// survived checks what is on a disk, and that it is good for further use.
func (r *crashRun) survived(t *testing.T, disk *faultfs.FS, what string) {
	t.Helper()
	e := &events{}
	open := func(disk *faultfs.FS) *crashProgram {
		p, err := openCrashProgram(disk, true, e.observe)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return p
	}
	p := open(disk)
	if issued := p.m.graph.Revision(); issued < r.revision {
		t.Fatalf("%s: the last revision is %d, but %d was saved", what, issued, r.revision)
	}
	got := p.contents(t)
	if g := fmt.Sprint(got); g != fmt.Sprint(r.sure) && g != fmt.Sprint(r.maybe) {
		t.Fatalf("%s:\n  got %v\n sure %v\nmaybe %v", what, got, r.sure, r.maybe)
	}
	ok(t, p.in.Set(1, 77))
	equal(t, "what was computed from it", must(p.twice.Get(t.Context(), 1)), 154)
	ok(t, p.m.Sync(t.Context()))
	ok(t, p.m.Close())
	got.in[1] = 77
	p = open(disk.Restart(7))
	if again := p.contents(t); fmt.Sprint(again) != fmt.Sprint(got) {
		t.Fatalf("%s: later:\n got %v\nwant %v", what, again, got)
	}
	for fault := range p.m.Check() {
		t.Fatalf("%s: %v", what, fault)
	}
	for fault := range checkStore(t.Context(), p.store) {
		t.Fatalf("%s: %v", what, fault)
	}
	ok(t, p.m.Close())
	if e.damage() {
		t.Fatalf("%s: %v", what, e)
	}
}

// The power is lost, or the process killed, at every call that changes the disk,
// in a history with invalidations, a cache that is renamed and one that is
// migrated. What was saved is there in all caches at once, in the old form or in
// the new one, nothing that was invalidated is back, nothing is migrated twice, and
// no stamp is issued again.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for name, end := range map[string]func(*faultfs.FS, int){"power": (*faultfs.FS).LoseAt, "process": (*faultfs.FS).KillAt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				r := newCrashRun(faultfs.New())
				end(r.disk, n)
				var err error
				step := 0
				for ; step < len(crashSteps) && err == nil; step++ {
					err = r.step(step)
				}
				if err == nil {
					if n < 50 {
						t.Fatalf("the history ends after %d calls", n)
					}
					return
				}
				what := fmt.Sprintf("call %d, in step %d", n, step-1)
				if name == "process" {
					r.disk.NewProcess()
					r.survived(t, r.disk, what)
					continue
				}
				for seed := range seeds {
					r.survived(t, r.disk.Restart(seed), fmt.Sprintf("%s, seed %d", what, seed))
				}
			}
		})
	}
}

// A call fails, or all do from then on: whoever asked is told, the memory is what
// it was, nothing is said to be saved that is not, and once the cause is gone
// the next sync saves all.
func TestCallFailsAnywhere(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EMFILE} {
		for _, rest := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", fault, rest), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					r := newCrashRun(faultfs.New())
					r.disk.FailAt(n, fault, rest)
					failed := false
					for i := range crashSteps {
						err := r.step(i)
						if err == nil {
							continue
						}
						failed = true
						what := fmt.Sprintf("call %d, in step %d", n, i)
						if !errors.Is(err, fault) {
							t.Fatalf("%s: %v", what, err)
						}
						if r.p != nil {
							if got := fmt.Sprint(maps.Collect(r.p.in.All())); got != fmt.Sprint(r.now.in) {
								t.Fatalf("%s: in memory there is %s, not %v", what, got, r.now.in)
							}
							r.survived(t, r.disk.Clone(), what)
						}
						r.disk.Hook(nil)
						if r.p == nil {
							ok(t, r.step(i)) // it could not be opened
							continue
						}
						if err := r.sync(); err != nil {
							t.Fatalf("%s: the cause is gone: %v", what, err)
						}
						r.survived(t, r.disk.Restart(uint64(n)), what+", later")
					}
					if !failed {
						return
					}
				}
			})
		}
	}
}

// An entry whose key cannot be encoded is not saved, and deletes nothing else.
func TestKeyThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	d := newDisk()
	keys := must(codec.Key[string]())
	simple := keys.Append
	keys.Append = func(dst []byte, k string) ([]byte, error) {
		if k == "bad" {
			return nil, errors.New("not this one")
		}
		return simple(dst, k)
	}
	m := d.open(t, quietly)
	c := must(Register(m, "c", Spec[string, int]{KeyCodec: keys}))
	ok(t, c.Set("", 1))
	ok(t, m.Sync(t.Context()))
	ok(t, errors.Join(c.Set("bad", 2), c.Set("good", 3)))
	if err := m.Sync(t.Context()); err == nil || c.Stats().Dirty != 1 {
		t.Errorf("Sync: %v, with %d unsaved", err, c.Stats().Dirty)
	}
	wantContents(t, c, map[string]int{"": 1, "bad": 2, "good": 3})
	ok(t, c.Delete("bad"))
	m = (&disk{Store: d.Store}).open(t, quietly)
	wantContents(t, must(Register(m, "c", Spec[string, int]{KeyCodec: keys})), map[string]int{"": 1, "good": 3})
}
