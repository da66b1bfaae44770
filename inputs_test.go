package cacheman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"text/template"
	"time"

	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store"
	"github.com/cacheman-go/cacheman/store/csvstore"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// derived is a cache whose builder is given by the test, on a store that
// survives it.
type derived struct {
	t     *testing.T
	d     *disk
	m     *Manager
	setup func(m *Manager) func(ctx context.Context) (string, error)
	c     *Value[string]
	runs  int
}

func newDerived(t *testing.T, setup func(m *Manager) func(ctx context.Context) (string, error)) *derived {
	x := &derived{t: t, d: newDisk(), setup: setup}
	x.open()
	return x
}

func (x *derived) open() {
	x.m = x.d.open(x.t, Options{})
	build := x.setup(x.m)
	x.c = must(RegisterValue(x.m, "derived", Spec[Single, string]{Build: func(ctx context.Context, _ Single) (string, error) {
		x.runs++
		return build(ctx)
	}}))
}

func (x *derived) reopen() {
	x.t.Helper()
	ok(x.t, x.m.Close())
	x.open()
}

// want checks the value, and how often the builder ran for it.
func (x *derived) want(runs int, value string) {
	x.t.Helper()
	x.runs = 0
	v, err := x.c.Get(x.t.Context())
	if err != nil {
		if e, ok := err.(*Error); ok {
			err = e.Err
		}
		v = "error: " + err.Error()
	}
	equal(x.t, "value", v, value)
	equal(x.t, "runs", x.runs, runs)
}

func TestTrackedAbsence(t *testing.T) {
	var in *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			n, err := in.Get(ctx, "k")
			return fmt.Sprint(n, errors.Is(err, ErrNotFound)), nil
		}
	})
	x.want(1, "0 true")
	in.Set("other", 1)
	x.want(0, "0 true")
	x.reopen()
	x.want(0, "0 true")
	in.Set("k", 1)
	x.want(1, "1 false")
	in.Delete("k")
	x.want(1, "0 true")
}

func TestTrackedKeys(t *testing.T) {
	var in *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			keys, err := in.CollectKeys(ctx)
			return strings.Join(keys, " "), err
		}
	})
	x.want(1, "")
	in.Set("b", 1)
	x.want(1, "b")
	in.Set("b", 2)
	x.want(0, "b")
	x.reopen()
	x.want(0, "b")
	in.Set("a", 1)
	x.want(1, "a b")
	in.Delete("a")
	in.Set("a", 2)
	x.want(0, "a b")
	x.reopen()
	in.Delete("a") // before anybody has asked for keys
	x.want(1, "b")
	in.Clear()
	x.want(1, "")
	ok(t, x.m.Batch(func(b *Batch) error { in.SetIn(b, "z", 1); return nil }))
	x.want(1, "z")
}

func TestTrackedCountAndMembership(t *testing.T) {
	var in *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			n, err1 := in.Count(ctx)
			has, err2 := in.Contains(ctx, "k")
			return fmt.Sprint(n, has), errors.Join(err1, err2)
		}
	})
	x.want(1, "0 false")
	in.Set("k", 1)
	x.want(1, "1 true")
	in.Set("k", 2)
	x.want(0, "1 true")
	x.reopen()
	x.want(0, "1 true")
	ok(t, x.m.Batch(func(b *Batch) error { in.SetIn(b, "l", 1); in.DeleteIn(b, "k"); return nil }))
	x.want(1, "1 false")
	ok(t, x.m.Batch(func(b *Batch) error { in.SetIn(b, "m", 1); in.DeleteIn(b, "l"); return nil }))
	x.want(0, "1 false")
}

// A builder that passes on that what it has asked for is not there has no value; one that
// fails besides may have one.
func TestContainsOfErrors(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if k == 2 {
			err = errors.Join(err, errPlanned)
		}
		return v, err
	}}))
	has, err := c.Contains(t.Context(), 1)
	ok(t, err)
	equal(t, "there", has, false)
	if has, err := c.Contains(t.Context(), 2); !errors.Is(err, errPlanned) {
		t.Error(has, err)
	}
}

// Count is right also where keys cannot be encoded.
func TestCountOfKeysWithoutCodec(t *testing.T) {
	m := newManager(t)
	c := must(Register(m, "c", Spec[any, int]{Memory: true}))
	n := must(RegisterValue(m, "n", Spec[Single, int]{Memory: true, Build: func(ctx context.Context, _ Single) (int, error) {
		return c.Count(ctx)
	}}))
	ok(t, c.Set(1, 1))
	ok(t, c.Set("a", 1))
	equal(t, "count", must(n.Get(t.Context())), 2)
	ok(t, c.Delete("a"))
	equal(t, "count", must(n.Get(t.Context())), 1)
}

func TestSelect(t *testing.T) {
	type user struct{ Name, City string }
	var in *Cache[int, user]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "users", Spec[int, user]{}))
		names := must(Select(in, "names", Spec[int, string]{}, func(u user) string { return u.Name }))
		return func(ctx context.Context) (string, error) { return names.Get(ctx, 1) }
	})
	in.Set(1, user{"Ann", "Oslo"})
	x.want(1, "Ann")
	in.Set(1, user{"Ann", "Bergen"})
	x.want(0, "Ann")
	x.reopen()
	in.Set(1, user{"Ann", "Oslo"})
	x.want(0, "Ann")
	in.Set(1, user{"Bob", "Oslo"})
	x.want(1, "Bob")
}

// TestSelectOfNothing: where there is no value, that there is no part of it is a result
// like any other.
func TestSelectOfNothing(t *testing.T) {
	type user struct{ Name, City string }
	var in *Cache[int, user]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "users", Spec[int, user]{}))
		names := must(Select(in, "names", Spec[int, string]{}, func(u user) string { return u.Name }))
		return func(ctx context.Context) (string, error) {
			name, err := names.Get(ctx, 1)
			if errors.Is(err, ErrNotFound) {
				return "nobody", nil
			}
			return name, err
		}
	})
	x.want(1, "nobody")
	x.want(0, "nobody")
	x.reopen()
	x.want(0, "nobody")
	in.Set(1, user{"Ann", "Oslo"})
	x.want(1, "Ann")
	in.Delete(1)
	ok(t, x.m.Build(t.Context(), All(), nil))
	x.want(0, "nobody")
}

func TestCollect(t *testing.T) {
	var in *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			all, err := in.Collect(ctx)
			sum := 0
			for _, v := range all {
				sum += v
			}
			return fmt.Sprint(sum), err
		}
	})
	for i := range 100 {
		in.Set(fmt.Sprint(i), i)
	}
	x.want(1, "4950")
	in.Set("7", 8)
	x.want(1, "4951")
	x.reopen()
	x.want(0, "4951")
	in.Set("new", 9)
	x.want(1, "4960")
}

// Collect leaves out what turns out to be none.
func TestCollectFindsThereIsNone(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	c := must(Register(m, "c", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		v, err := in.Get(ctx, k)
		if errors.Is(err, ErrNotFound) {
			err = ErrNotFound
		}
		return v, err
	}}))
	for k := range 3 {
		ok(t, in.Set(k, k))
		must(c.Get(t.Context(), k))
	}
	ok(t, in.Delete(1))
	equal(t, "entries", fmt.Sprint(must(c.Collect(t.Context()))), "map[0:0 2:2]")
}

// TestBatchBeforeLoading: what a batch deletes of a cache that was not read yet is gone
// after a restart as well.
func TestBatchBeforeLoading(t *testing.T) {
	d := newDisk()
	open := func() (*Manager, *Cache[int, int]) {
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		return m, must(Register(m, "c", Spec[int, int]{}))
	}
	m, c := open()
	ok(t, c.Set(1, 1))
	ok(t, c.Set(2, 2))
	ok(t, m.Close())
	m, c = open()
	ok(t, m.Batch(func(b *Batch) error { c.DeleteIn(b, 1); return nil }))
	ok(t, m.Close())
	_, c = open()
	wantContents(t, c, map[int]int{2: 2})
}

// TestBatch: what is written together is seen together.
func TestBatch(t *testing.T) {
	var a, b *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		a = must(Register(m, "a", Spec[string, int]{}))
		b = must(Register(m, "b", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			x, err1 := a.Get(ctx, "k")
			y, err2 := b.Get(ctx, "k")
			return fmt.Sprint(x, y), errors.Join(err1, err2)
		}
	})
	set := func(n int) error {
		return x.m.Batch(func(batch *Batch) error {
			a.SetIn(batch, "k", n)
			b.SetIn(batch, "k", -n)
			return nil
		})
	}
	ok(t, set(1))
	x.want(1, "1 -1")
	ok(t, set(1))
	x.want(0, "1 -1")
	boom := errors.New("boom")
	err := x.m.Batch(func(batch *Batch) error { a.SetIn(batch, "k", 5); return boom })
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	x.want(0, "1 -1")
	ok(t, x.m.Batch(func(batch *Batch) error {
		a.SetIn(batch, "k", 5)
		a.DeleteIn(batch, "k")
		a.SetIn(batch, "k", 2)
		b.SetIn(batch, "k", -2)
		return nil
	}))
	x.want(1, "2 -2")
	checkTable(t, a)
	x.reopen()
	x.want(0, "2 -2")
	other := must(Register(newManager(t), "c", Spec[int, int]{}))
	if err := x.m.Batch(func(batch *Batch) error { other.SetIn(batch, 1, 1); return nil }); !errors.Is(err, ErrSpec) {
		t.Error(err)
	}
}

// TestBatchLastCounts: what a batch makes of an entry in the end is no change if it was that
// before.
func TestBatchLastCounts(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[int, int]{}))
	runs := 0
	up := must(Register(m, "up", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
		runs++
		return in.Get(ctx, k)
	}}))
	ok(t, in.Set(1, 1))
	want := func(wantRuns, value int) {
		t.Helper()
		equal(t, "value", must(up.Get(t.Context(), 1)), value)
		equal(t, "runs", runs, wantRuns)
	}
	want(1, 1)
	ok(t, m.Batch(func(b *Batch) error { in.SetIn(b, 1, 2); in.SetIn(b, 2, 2); in.SetIn(b, 1, 1); return nil }))
	want(1, 1)
	ok(t, m.Batch(func(b *Batch) error { in.DeleteIn(b, 1); in.SetIn(b, 1, 1); return nil }))
	want(1, 1)
	ok(t, m.Batch(func(b *Batch) error { in.SetIn(b, 1, 1); in.SetIn(b, 1, 3); return nil }))
	want(2, 3)
	ok(t, m.Batch(func(b *Batch) error { in.SetIn(b, 1, 4); in.DeleteIn(b, 1); return nil }))
	equal(t, "there", in.Has(1), false)
}

// What depends on several caches that a batch changes is invalidated once.
func TestBatchInvalidatesOnce(t *testing.T) {
	events := 0
	m := newDisk().open(t, Options{Observe: func(e Event) {
		if e.Kind == EventInvalidated {
			events++
		}
	}})
	a := must(Register(m, "a", Spec[int, int]{}))
	b := must(Register(m, "b", Spec[int, int]{}))
	d := must(Register(m, "d", Spec[int, int]{DependsOnChange: []string{"a", "b"}}))
	ok(t, d.Set(1, 1))
	ok(t, m.Batch(func(batch *Batch) error {
		a.SetIn(batch, 1, 1)
		b.SetIn(batch, 1, 1)
		return nil
	}))
	equal(t, "entries", d.Len(), 0)
	equal(t, "events", events, 1)
}

func TestWriteInBuilder(t *testing.T) {
	m := newManager(t)
	in := must(Register(m, "in", Spec[string, int]{}))
	c := must(Register(m, "c", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
		switch k {
		case "set":
			return 0, in.Set("a", 1)
		case "delete":
			return 0, in.Delete("a")
		case "batch":
			return 0, m.Batch(func(*Batch) error { return nil })
		}
		return 0, errors.Join(in.Clear(), in.InvalidateAll(), in.Touch(), in.Reload(ctx))
	}}))
	for _, k := range []string{"set", "delete", "batch", "others"} {
		if _, err := c.Get(context.Background(), k); !errors.Is(err, ErrInBuilder) {
			t.Errorf("%s: %v", k, err)
		}
	}
}

// TestAnotherManager: what a builder reads from another Manager is right, but
// cannot be recorded, so its result is not kept.
func TestAnotherManager(t *testing.T) {
	far := must(Register(newManager(t), "far", Spec[string, int]{Build: func(context.Context, string) (int, error) { return 7, nil }}))
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			n, err := far.Get(ctx, "k")
			return fmt.Sprint(n), err
		}
	})
	x.want(1, "7")
	far.Set("k", 8)
	x.want(1, "8")
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	old := time.Now().Add(-time.Hour)
	write := func(text string, at time.Time) {
		ok(t, os.WriteFile(file, []byte(text), 0o666))
		ok(t, os.Chtimes(file, at, at))
	}
	var files *Files
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		files = must(OpenFiles(m))
		return func(ctx context.Context) (string, error) {
			data, err := files.Get(ctx, file)
			if errors.Is(err, ErrNotFound) {
				return "none", nil
			}
			return string(data), err
		}
	})
	x.want(1, "none")
	write("one", old)
	x.want(0, "none") // once after each start
	ok(t, files.Refresh(t.Context()))
	x.want(1, "one")
	write("two", old.Add(time.Minute))
	files.Recheck(file)
	x.want(1, "two")
	write("two", old) // touched only
	x.reopen()
	x.want(0, "two")
	write("six", time.Now()) // may be changed again within the clock's resolution
	x.reopen()
	x.want(1, "six")
	at := must(os.Stat(file)).ModTime()
	write("ten", at)
	x.reopen()
	x.want(1, "ten")
	ok(t, os.Remove(file))
	ok(t, x.m.Refresh(t.Context(), nil))
	x.want(1, "none")
}

// TestFileReplaced: another file may have the size and the time of the one that was there,
// as those that are unpacked from an archive have.
func TestFileReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	old := time.Now().Add(-time.Hour)
	write := func(data string) int64 {
		other := file + ".new"
		ok(t, os.WriteFile(other, []byte(data), 0o666))
		ok(t, os.Chtimes(other, old, old))
		ok(t, os.Rename(other, file))
		return changed(must(os.Stat(file)))
	}
	first := write("one")
	if first == 0 {
		t.Skip("the system does not say when a file was changed")
	}
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		files := must(OpenFiles(m))
		return func(ctx context.Context) (string, error) {
			data, err := files.Get(ctx, file)
			return string(data), err
		}
	})
	x.want(1, "one")
	for write("two") == first { // the system's clock has not moved on
	}
	x.reopen()
	x.want(1, "two")
	x.reopen()
	x.want(0, "two")
}

// TestUnreadableFile: a file that can be read no more is looked at, though its
// contents are as old as before.
func TestUnreadableFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(file, []byte("one"), 0o666))
	ok(t, os.Chtimes(file, time.Time{}, time.Now().Add(-time.Hour)))
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		files := must(OpenFiles(m))
		return func(ctx context.Context) (string, error) {
			data, err := files.Get(ctx, file)
			if kept, ok := errors.AsType[*KeptError](err); ok {
				return kept.Text[strings.LastIndex(kept.Text, ": ")+2:], nil
			}
			return string(data), err
		}
	})
	x.want(1, "one")
	ok(t, os.Chmod(file, 0))
	if _, err := os.ReadFile(file); err == nil {
		t.Skip("this user can read everything")
	}
	x.reopen()
	x.want(1, "permission denied")
	ok(t, os.Chmod(file, 0o666))
	x.reopen()
	x.want(1, "one")
	x.reopen()
	x.want(0, "one")
}

// TestErrorsOfFiles: what the system says about a file is a result, and that it cannot say
// anything is none.
func TestErrorsOfFiles(t *testing.T) {
	wrapped := func(err error) error { return &fs.PathError{Op: "open", Path: "f", Err: err} }
	for _, err := range []error{
		syscall.EACCES, syscall.EPERM, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, fs.ErrPermission,
	} {
		if got := outside(wrapped(err)); failure(got) != nil {
			t.Errorf("%v is no result: %v", err, got)
		}
	}
	equal(t, "what is not there", outside(wrapped(syscall.ENOENT)), ErrNotFound)
	for _, err := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.ENOMEM, syscall.ESTALE, syscall.EAGAIN, syscall.EINTR,
		syscall.ETIMEDOUT, syscall.EBUSY, os.ErrDeadlineExceeded, io.ErrUnexpectedEOF,
	} {
		if got := outside(wrapped(err)); failure(got) == nil {
			t.Errorf("%v is a result", err)
		}
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	ok(t, os.WriteFile(file, nil, 0o666))
	files := must(OpenFiles(newManager(t)))
	for name, err := range map[string]error{
		"contents of a directory": second(files.Get(t.Context(), dir)),
		"a name that cannot be":   second(files.Stat(t.Context(), "a\x00b")),
		"entries of a file":       second(files.ReadDir(t.Context(), file)),
		"a file within a file":    second(files.Get(t.Context(), filepath.Join(file, "g"))),
	} {
		if e, is := errors.AsType[*Error](err); !is || failure(e.Err) != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBeneathAFile: what is beneath a name depends on whether that is a directory, and it is
// enough to say that the name may have changed.
func TestBeneathAFile(t *testing.T) {
	dir := t.TempDir()
	top := filepath.Join(dir, "x")
	file := filepath.Join(top, "y", "f")
	var files *Files
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		files = must(OpenFiles(m))
		return func(ctx context.Context) (string, error) {
			has, err := files.Exists(ctx, file)
			if err != nil {
				return "", err
			}
			data, err := files.Get(ctx, file)
			if errors.Is(err, ErrNotFound) {
				return fmt.Sprint(has, " none"), nil
			}
			if e, is := errors.AsType[*KeptError](err); is {
				return fmt.Sprint(has, strings.TrimPrefix(e.Text, "stat "+file)), nil
			}
			return fmt.Sprint(has, " ", string(data)), err
		}
	})
	blocked := "false: " + syscall.ENOTDIR.Error()
	ok(t, os.WriteFile(top, nil, 0o666))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		blocked = "false none" // the system does not tell the two apart
	}
	change := func(f func() error) {
		t.Helper()
		ok(t, f())
		files.Recheck(top)
	}
	runs := 1
	if blocked == "false none" {
		runs = 0
	}
	x.want(1, blocked)
	change(func() error { return os.Remove(top) })
	x.want(runs, "false none")
	change(func() error { return os.WriteFile(top, nil, 0o666) })
	x.want(runs, blocked)
	x.reopen()
	x.want(0, blocked)
	change(func() error { return os.Remove(top) })
	x.want(runs, "false none")
	change(func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte("text"), 0o666))
	})
	x.want(1, "true text")
	ok(t, os.RemoveAll(top))
	files.Recheck()
	x.want(1, "false none")
	change(func() error { return os.WriteFile(top, nil, 0o666) })
	x.want(runs, blocked)
	change(func() error { return os.Chtimes(top, time.Time{}, time.Now().Add(time.Hour)) })
	x.want(0, blocked)
}

// TestRecheckOfName: with a name goes the listing of its directory, and nothing else of that.
func TestRecheckOfName(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	old := time.Now().Add(-time.Hour)
	ok(t, os.Chtimes(dir, old, old))
	files := must(OpenFiles(newManager(t)))
	equal(t, "entries", len(must(files.ReadDir(t.Context(), dir))), 0)
	before := must(files.Stat(t.Context(), dir))
	ok(t, os.WriteFile(file, nil, 0o666))
	files.Recheck(file)
	equal(t, "entries", len(must(files.ReadDir(t.Context(), dir))), 1)
	equal(t, "metadata", must(files.Stat(t.Context(), dir)), before)
	files.Recheck(file, dir)
	equal(t, "metadata is new", must(files.Stat(t.Context(), dir)) != before, true)
}

// TestBeneathAFileMeanwhile: what was found of a name is looked at again by who finds
// something else beneath it, though nobody has said that it has changed.
func TestBeneathAFileMeanwhile(t *testing.T) {
	top := filepath.Join(t.TempDir(), "x")
	file := filepath.Join(top, "f")
	files := must(OpenFiles(newManager(t)))
	ok(t, os.WriteFile(top, nil, 0o666))
	equal(t, "top", must(files.Exists(t.Context(), top)), true)
	ok(t, os.Remove(top))
	equal(t, "not there", errors.Is(second(files.Get(t.Context(), file)), ErrNotFound), true)
	ok(t, os.WriteFile(top, nil, 0o666))
	_, err := os.Stat(file)
	files.Recheck(top)
	equal(t, "beneath a file", errors.Is(second(files.Get(t.Context(), file)), ErrNotFound), errors.Is(err, fs.ErrNotExist))
}

func second[T any](_ T, err error) error { return err }

func TestFileSystem(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o777))
	ok(t, os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a"), 0o666))
	ok(t, os.WriteFile(filepath.Join(dir, "sub", "b.txt"), []byte("b"), 0o666))
	var files *Files
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		files = must(OpenFiles(m))
		return func(ctx context.Context) (string, error) {
			names, err := fs.Glob(files.FS(ctx, dir), "*/*.txt")
			has, err2 := files.Exists(ctx, filepath.Join(dir, "c.txt"))
			return fmt.Sprint(names, has), errors.Join(err, err2)
		}
	})
	x.want(1, "[sub/b.txt] false")
	ok(t, os.WriteFile(filepath.Join(dir, "sub", "b.txt"), []byte("changed"), 0o666))
	x.reopen()
	x.want(0, "[sub/b.txt] false")
	ok(t, os.WriteFile(filepath.Join(dir, "sub", "c.txt"), nil, 0o666))
	x.reopen()
	x.want(1, "[sub/b.txt sub/c.txt] false")
	ok(t, os.WriteFile(filepath.Join(dir, "c.txt"), nil, 0o666))
	x.reopen()
	x.want(1, "[sub/b.txt sub/c.txt] true")
	if err := fstest.TestFS(files.FS(t.Context(), dir), "a.txt", "sub/b.txt"); err != nil {
		t.Error(err)
	}
}

// TestFileNotThere: a builder that passes on that a file is not there says that there is no
// value, until it is there.
func TestFileNotThere(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, f *Files, file string) ([]byte, error){
		"Get": func(ctx context.Context, f *Files, file string) ([]byte, error) { return f.Get(ctx, file) },
		"FS": func(ctx context.Context, f *Files, file string) ([]byte, error) {
			data, err := fs.ReadFile(f.FS(ctx, filepath.Dir(file)), filepath.Base(file))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the error is %v", err)
			}
			return data, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			var files *Files
			x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
				files = must(OpenFiles(m))
				return func(ctx context.Context) (string, error) {
					data, err := read(ctx, files, file)
					if err != nil {
						return "", fmt.Errorf("page 7: %w", err)
					}
					return string(data), nil
				}
			})
			lacks := func(runs int) {
				t.Helper()
				x.runs = 0
				if _, err := x.c.Get(t.Context()); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "page 7") {
					t.Errorf("the error is %v", err)
				}
				equal(t, "runs", x.runs, runs)
			}
			lacks(1)
			lacks(0)
			x.reopen()
			lacks(0)
			ok(t, os.WriteFile(file, []byte("v"), 0o600))
			files.Recheck(file)
			x.want(1, "v")
		})
	}
}

// TestFileSystemRecordsWhatIsAsked: each use of a file system depends on what it has looked
// at, and on nothing else of the files.
func TestFileSystemRecordsWhatIsAsked(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	dir := t.TempDir()
	file := filepath.Join(dir, "a.txt")
	info := func(f func(fs.FileInfo) any) func(fs.FS) (string, error) {
		return func(fsys fs.FS) (string, error) {
			i, err := fs.Stat(fsys, "a.txt")
			if err != nil {
				return "", err
			}
			return fmt.Sprint(f(i)), nil
		}
	}
	type use struct {
		name string
		do   func(fsys fs.FS) (string, error)
		want string // after which changes it is done again
	}
	read := func(fsys fs.FS) (string, error) {
		f, err := fsys.Open("a.txt")
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(f)
		return string(data), errors.Join(err, f.Close())
	}
	sub := func(do func(fs.FS) (string, error)) func(fs.FS) (string, error) {
		return func(fsys fs.FS) (string, error) {
			fsys, err := fs.Sub(fsys, "sub")
			if err != nil {
				return "", err
			}
			return do(fsys)
		}
	}
	walk := func(fsys fs.FS) (string, error) {
		var all []string
		err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			all = append(all, fmt.Sprint(name, d.Type()))
			return err
		})
		return strings.Join(all, " "), err
	}
	uses := []use{
		{"open", func(fsys fs.FS) (string, error) { return "", second(fsys.Open("a.txt")) }, "removed"},
		{"open and read", read, "written removed"},
		{"open and seek", func(fsys fs.FS) (string, error) {
			f, err := fsys.Open("a.txt")
			if err != nil {
				return "", err
			}
			n, err := f.(io.Seeker).Seek(0, io.SeekEnd)
			return fmt.Sprint(n), err
		}, "written removed"},
		{"ReadFile", func(fsys fs.FS) (string, error) {
			data, err := fs.ReadFile(fsys, "a.txt")
			return string(data), err
		}, "written removed"},
		{"ReadDir", func(fsys fs.FS) (string, error) {
			entries, err := fs.ReadDir(fsys, ".")
			return fmt.Sprint(entries), err
		}, "removed"},
		{"open and ReadDir", func(fsys fs.FS) (string, error) {
			f, err := fsys.Open(".")
			if err != nil {
				return "", err
			}
			entries, err := f.(fs.ReadDirFile).ReadDir(-1)
			return fmt.Sprint(entries), err
		}, "removed"},
		{"open a directory", func(fsys fs.FS) (string, error) { return "", second(fsys.Open(".")) }, ""},
		{"WalkDir", walk, "removed"},
		{"Glob", func(fsys fs.FS) (string, error) {
			names, err := fs.Glob(fsys, "*.txt")
			return fmt.Sprint(names), err
		}, "removed"},
		{"Glob of a name", func(fsys fs.FS) (string, error) {
			names, err := fs.Glob(fsys, "a.txt")
			return fmt.Sprint(names), err
		}, "removed"},
		{"ParseFS", func(fsys fs.FS) (string, error) {
			tmpl, err := template.ParseFS(fsys, "*.txt")
			if err != nil {
				return "", err
			}
			return tmpl.Tree.Root.String(), nil
		}, "written removed"},
		{"Sub and read", sub(func(fsys fs.FS) (string, error) { return "", second(fs.ReadFile(fsys, "b.txt")) }), ""},
		{"Sub and walk", sub(walk), ""},
		{"IsDir", info(func(i fs.FileInfo) any { return fmt.Sprint(i.Name(), i.IsDir()) }), "removed"},
		{"Mode", info(func(i fs.FileInfo) any { return i.Mode() }), "chmod removed"},
		{"ModTime", info(func(i fs.FileInfo) any { return i.ModTime().UTC() }), "touched chmod renamed written removed"},
		{"Size", info(func(i fs.FileInfo) any { return i.Size() }), "touched chmod renamed written removed"},
		{"stat of an open file", func(fsys fs.FS) (string, error) {
			f, err := fsys.Open("a.txt")
			if err != nil {
				return "", err
			}
			i, err := f.Stat()
			return fmt.Sprint(i.ModTime().UTC()), err
		}, "touched chmod renamed written removed"},
	}
	write := func(name, text string) { ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666)) }
	ok(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	write("a.txt", "hello")
	write("sub/b.txt", "hello")
	ok(t, os.Chtimes(file, old, old))
	changes := []struct {
		name string
		make func()
	}{
		{"touched", func() { ok(t, os.Chtimes(file, old, old.Add(time.Minute))) }},
		{"dirtouched", func() { ok(t, os.Chtimes(dir, old, old)) }},
		{"chmod", func() { ok(t, os.Chmod(file, 0o444)) }},
		{"renamed", func() {
			write(".new", "hello")
			ok(t, os.Chmod(filepath.Join(dir, ".new"), 0o444))
			ok(t, os.Rename(filepath.Join(dir, ".new"), file))
		}},
		{"written", func() {
			ok(t, os.Chmod(file, 0o666))
			write("a.txt", "others")
			ok(t, os.Chmod(file, 0o444))
		}},
		{"removed", func() { ok(t, os.Remove(file)) }},
	}
	m := newManager(t)
	files := must(OpenFiles(m))
	runs := make([]int, len(uses))
	c := must(Register(m, "c", Spec[int, string]{Build: func(ctx context.Context, i int) (string, error) {
		runs[i]++
		text, err := uses[i].do(files.FS(ctx, dir))
		if errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "matches no files") {
			return "none", nil
		}
		return text, err
	}}))
	got := make([][]string, len(uses))
	for i, u := range uses {
		if v := must(c.Get(t.Context(), i)); v == "none" {
			t.Errorf("%s: there is none", u.name)
		}
	}
	for _, change := range changes {
		change.make()
		files.Recheck()
		for i := range uses {
			before := runs[i]
			must(c.Get(t.Context(), i))
			if runs[i] != before {
				got[i] = append(got[i], change.name)
			}
		}
	}
	for i, u := range uses {
		if got := strings.Join(got[i], " "); got != u.want {
			t.Errorf("%s was done again after: %s; want %s", u.name, got, u.want)
		}
	}
}

// TestFileSystemInBuilder: what a builder gets is a file system like others, and so is what is
// got without one, where a FileInfo is about what there was.
func TestFileSystemInBuilder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.txt")
	ok(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	ok(t, os.WriteFile(file, []byte("a"), 0o666))
	ok(t, os.WriteFile(filepath.Join(dir, "sub", "b.txt"), []byte("b"), 0o666))
	m := newManager(t)
	files := must(OpenFiles(m))
	c := must(RegisterValue(m, "c", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (int, error) {
		return 1, fstest.TestFS(files.FS(ctx, dir), "a.txt", "sub/b.txt")
	}}))
	must(c.Get(t.Context()))

	before := must(fs.Stat(files.FS(t.Context(), dir), "a.txt"))
	ok(t, os.WriteFile(file, []byte("longer"), 0o666))
	files.Recheck(file)
	equal(t, "size now", must(fs.Stat(files.FS(t.Context(), dir), "a.txt")).Size(), 6)
	equal(t, "size before", before.Size(), 1)
	equal(t, "mode before", before.Mode().IsRegular(), true)
	for _, name := range []string{"none", "sub/none"} {
		if err := second(files.FS(t.Context(), dir).Open(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A builder whose callers have left while it was looking for files, which fs.Glob does
// not tell it, has found too few of them: what it makes is not kept.
func TestGlobIsCancelled(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "a.txt"), nil, 0o666))
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		files := must(OpenFiles(m))
		ctx, cancel := context.WithCancel(t.Context())
		c := must(RegisterValue(m, "c", Spec[Single, string]{Build: func(within context.Context, _ Single) (string, error) {
			if ctx.Err() == nil {
				cancel()
				<-within.Done()
			}
			names, err := fs.Glob(files.FS(within, dir), "*.txt")
			return strings.Join(names, " "), err
		}}))
		if _, err := c.Get(ctx); err != context.Canceled {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "files", must(c.Get(t.Context())), "a.txt")
		ok(t, m.Close())
	})
}

// A builder that makes do without what cannot be loaded is called again.
func TestMakesDoWithoutLoading(t *testing.T) {
	for _, collect := range []bool{false, true} {
		fail := true
		m := newManager(t)
		in := must(Register(m, "in", Spec[int, int]{Load: func(context.Context) (map[int]int, error) {
			if fail {
				return nil, errors.New("boom")
			}
			return map[int]int{1: 1}, nil
		}}))
		c := must(RegisterValue(m, "c", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (int, error) {
			if collect {
				keys, _ := in.CollectKeys(ctx)
				return len(keys), nil
			}
			v, _ := in.Get(ctx, 1)
			return v, nil
		}}))
		equal(t, "value", must(c.Get(t.Context())), 0)
		fail = false
		equal(t, "value", must(c.Get(t.Context())), 1)
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("CACHEMAN_TEST", "1")
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		env := must(Env(m))
		return func(ctx context.Context) (string, error) { return env.Get(ctx, "CACHEMAN_TEST") }
	})
	x.want(1, "1")
	t.Setenv("CACHEMAN_OTHER", "1")
	x.reopen()
	x.want(0, "1")
	t.Setenv("CACHEMAN_TEST", "2")
	x.want(0, "1")
	ok(t, x.m.Refresh(t.Context(), nil))
	x.want(1, "2")
	t.Setenv("CACHEMAN_TEST", "3")
	must(Env(x.m)).Recheck("CACHEMAN_TEST")
	x.want(1, "3")
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				now, err := Now(ctx, time.Hour)
				return now.UTC().Format("15:04"), err
			}
		})
		x.want(1, "00:00")
		time.Sleep(59 * time.Minute)
		x.want(0, "00:00")
		time.Sleep(time.Minute)
		x.want(1, "01:00")
		x.reopen()
		x.want(0, "01:00")
		ok(t, x.m.Close())
		time.Sleep(time.Hour)
		x.open()
		x.want(1, "02:00")
		x.m.Close()
	})
}

func TestExpireAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				return "v", ExpireAt(ctx, time.Now().Add(time.Minute))
			}
		})
		x.want(1, "v")
		time.Sleep(59 * time.Second)
		x.want(0, "v")
		x.reopen()
		x.want(0, "v")
		time.Sleep(time.Second)
		x.want(1, "v")
		ok(t, x.m.Close())
		time.Sleep(time.Hour)
		x.open()
		x.want(1, "v")
		x.m.Close()
		x = newDerived(t, func(m *Manager) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) { return "v", ExpireAt(ctx, time.Now()) }
		})
		x.want(1, "v")
		x.want(1, "v")
		x.m.Close()
	})
}

// TestTimesAreShown: people see times and durations, not numbers.
func TestTimesAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		m := newDisk().open(t, Options{Observe: func(e Event) {
			if e.Kind == EventBuilt {
				events = append(events, entryName(e.Cache, e.Key))
			}
		}})
		defer m.Close()
		at := time.Now().Add(time.Minute).Truncate(time.Second)
		c := must(Register(m, "c", Spec[string, int]{Build: func(ctx context.Context, _ string) (int, error) {
			_, err := Now(ctx, time.Hour)
			return 1, errors.Join(err, ExpireAt(ctx, at))
		}}))
		must(c.Get(t.Context(), "k"))
		clock, deadline := "clock[1h0m0s]", fmt.Sprintf("deadlines[%v]", at)
		equal(t, "events", fmt.Sprint(events), fmt.Sprintf("[%s %s c[\"k\"]]", clock, deadline))
		x := c.Explain("k").String()
		if !strings.Contains(x, clock) || !strings.Contains(x, deadline) {
			t.Error(x)
		}
		time.Sleep(time.Minute)
		equal(t, "why", c.Explain("k").Why, deadline+" may have changed")
	})
}

// TestClockIsOnTime: a read that begins after a time has come has what is of that.
func TestClockIsOnTime(t *testing.T) {
	const granularity = time.Millisecond
	m := newManager(t)
	c := must(RegisterValue(m, "c", Spec[Single, time.Time]{Memory: true, Build: func(ctx context.Context, _ Single) (time.Time, error) {
		return Now(ctx, granularity)
	}}))
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for began, last := time.Now(), time.Now(); last.Sub(began) < 50*granularity; {
				last = time.Now()
				if now := must(c.Get(t.Context())); now.Before(last.Truncate(granularity)) {
					t.Errorf("at %v it is %v", last, now)
					return
				}
			}
		})
	}
	readers.Wait()
}

// TestMachineSleeps: timers stand still while a machine sleeps, the clock does not.
func TestMachineSleeps(t *testing.T) {
	for name, read := range map[string]func(context.Context) error{
		"Now": func(ctx context.Context) error {
			_, err := Now(ctx, 24*time.Hour)
			return err
		},
		"ExpireAt": func(ctx context.Context) error {
			return ExpireAt(ctx, time.Now().Truncate(24*time.Hour).Add(24*time.Hour))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slept atomic.Int64
				x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
					m.now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
					return func(ctx context.Context) (string, error) { return "v", read(ctx) }
				})
				defer func() { x.m.Close() }()
				x.want(1, "v")
				time.Sleep(12 * time.Hour)
				x.want(0, "v")
				slept.Store(int64(12 * time.Hour))
				x.want(1, "v")
			})
		})
	}
}

// slowDisk takes its time to read one cache.
type slowDisk struct {
	*disk
	cache string
}

func (d slowDisk) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	if cache == d.cache {
		time.Sleep(time.Minute)
	}
	return d.disk.Load(ctx, cache)
}

// A time that comes while ExpireAt makes a note of it has passed.
func TestExpiresMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var c *Value[int]
		open := func(s store.Store) *Manager {
			m := openOn(s)
			c = must(RegisterValue(m, "c", Spec[Single, int]{Build: func(ctx context.Context, _ Single) (int, error) {
				at := time.Now()
				return at.Minute(), ExpireAt(ctx, at.Add(time.Second))
			}}))
			return m
		}
		m := open(d)
		must(c.Get(t.Context()))
		ok(t, m.Close())
		time.Sleep(time.Hour)
		m = open(slowDisk{d, ours + deadlinesCache})
		ok(t, c.Invalidate())
		must(c.Get(t.Context()))
		time.Sleep(30 * time.Minute)
		equal(t, "minute", must(c.Get(t.Context())), 31)
		ok(t, m.Close())
	})
}

// However often the world outside is asked, for a time there is one alarm.
func TestAlarmsDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		c := must(RegisterValue(m, "c", Spec[Single, int64]{Build: func(ctx context.Context, _ Single) (int64, error) {
			now, err := Now(ctx, time.Hour)
			if err != nil {
				return 0, err
			}
			return now.Unix(), ExpireAt(ctx, now.Add(time.Hour))
		}}))
		for range 5 {
			must(c.Get(t.Context()))
			ok(t, m.Refresh(t.Context(), nil))
		}
		m.alarms.mu.Lock()
		n := len(m.alarms.all)
		m.alarms.mu.Unlock()
		equal(t, "alarms", n, 2)
		ok(t, m.Close())
	})
}

func TestProbeEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, asked := 1, 0
		x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
			c := must(Register(m, "world", Spec[string, int]{
				ProbeEvery: time.Minute,
				Probe: func(_ context.Context, _ string, was int, ok bool) (int, error) {
					asked++
					return world, nil
				},
			}))
			return func(ctx context.Context) (string, error) {
				n, err := c.Get(ctx, "k")
				return fmt.Sprint(n), err
			}
		})
		x.want(1, "1")
		x.want(0, "1")
		equal(t, "asked", asked, 1)
		world = 2
		time.Sleep(time.Minute)
		synctest.Wait()
		x.want(1, "2")
		time.Sleep(time.Minute)
		synctest.Wait()
		x.want(0, "2")
		equal(t, "asked", asked, 3)
		x.m.Close()
	})
}

// Trust in what Probe said ends also if it took longer than trust lasts.
func TestProbeLongerThanProbeEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		asked := 0
		c := must(Register(m, "c", Spec[string, int]{
			ProbeEvery: time.Minute,
			Probe: func(context.Context, string, int, bool) (int, error) {
				asked++
				time.Sleep(90 * time.Second)
				return asked, nil
			},
		}))
		must(c.Get(t.Context(), "k"))
		time.Sleep(time.Hour)
		equal(t, "value", must(c.Get(t.Context(), "k")), 2)
		ok(t, m.Close())
	})
}

// A probe may read entries. It is asked anew if one of them has really changed,
// and otherwise when one that reads nothing is.
func TestProbeThatReads(t *testing.T) {
	world, asked := 0, 0
	var in, probe, below *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		half := must(Register(m, "half", Spec[string, int]{Build: func(ctx context.Context, k string) (int, error) {
			n, err := in.Get(ctx, k)
			return n / 2, err
		}}))
		below = must(Register(m, "below", Spec[string, int]{Probe: func(context.Context, string, int, bool) (int, error) { return 1, nil }}))
		probe = must(Register(m, "probe", Spec[string, int]{Probe: func(ctx context.Context, k string, _ int, _ bool) (int, error) {
			asked++
			a, err1 := half.Get(ctx, k)
			b, err2 := below.Get(ctx, k)
			return 100*a + 10*b + world, errors.Join(err1, err2)
		}}))
		return func(ctx context.Context) (string, error) {
			n, err := probe.Get(ctx, "k")
			return fmt.Sprint(n), err
		}
	})
	want := func(asks, runs int, value string) {
		t.Helper()
		asked = 0
		x.want(runs, value)
		equal(t, "asked", asked, asks)
	}
	in.Set("k", 0)
	want(1, 1, "10")
	world = 1
	in.Set("k", 1) // half of it is the same
	want(0, 0, "10")
	below.Recheck()
	want(0, 0, "10")
	below.Recheck("k")
	want(0, 0, "10")
	in.Set("k", 2)
	want(1, 1, "111")
	for _, keys := range [][]string{{"k"}, nil} {
		for _, v := range []int{3, 2} {
			probe.Recheck(keys...)
			want(1, 0, "111")
			probe.Recheck(keys...)
			in.Set("k", v)
			below.Recheck()
			want(1, 0, "111")
			in.Set("k", 5-v)
			below.Recheck()
			probe.Recheck(keys...)
			want(1, 0, "111")
			want(0, 0, "111")
		}
	}
	x.reopen()
	want(1, 0, "111")
	in.Set("k", 3)
	want(0, 0, "111")
	x.reopen()
	in.Set("k", 4)
	want(1, 1, "211")
}

// TestProbeInPlaceOfBuild: a cache has got a Probe in place of its builder, or the
// other way round, and the same Version. What there is is asked for, or built.
func TestProbeInPlaceOfBuild(t *testing.T) {
	d := newDisk()
	for i := range 4 {
		m := d.open(t, Options{})
		var spec Spec[string, int]
		if i%2 == 0 {
			spec.Build = func(context.Context, string) (int, error) { return i, nil }
		} else {
			spec.Probe = func(context.Context, string, int, bool) (int, error) { return i, nil }
		}
		c := must(Register(m, "c", spec))
		equal(t, "c", must(c.Get(t.Context(), "k")), i)
		ok(t, m.Close())
	}
}

// TestBuiltInStoreOfValues: where nothing can be kept beside values, for the Manager's own
// store keeps values only, too, what was built counts as set by hand when it comes back: until it
// is invalidated nothing makes it anew. What a Probe has said is asked for again.
func TestBuiltInStoreOfValues(t *testing.T) {
	var saved map[string]int
	for name, spec := range map[string]Spec[string, int]{
		"hooks": {
			Load: func(context.Context) (map[string]int, error) { return saved, nil },
			Save: func(_ context.Context, all map[string]int) error { saved = all; return nil },
		},
		"store": {Store: must(csvstore.Open(t.TempDir(), csvstore.Options{}))},
	} {
		for _, probes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, probe %v", name, probes), func(t *testing.T) {
				d := must(csvstore.Open(t.TempDir(), csvstore.Options{}))
				t.Cleanup(func() { d.Close() })
				version, last := "1", 0
				open := func() (m *Manager, in, c *Cache[string, int]) {
					m = must(Open("", Options{Store: notClosed{d}}))
					t.Cleanup(func() { m.Close() })
					in = must(Register(m, "in", Spec[string, int]{}))
					s := spec
					s.Version = version
					if probes {
						s.Probe = func(ctx context.Context, k string, previous int, _ bool) (int, error) {
							last = previous
							return in.Get(ctx, k)
						}
					} else {
						s.Build = in.Get
					}
					return m, in, must(Register(m, fmt.Sprint("c", probes), s))
				}
				saved = nil
				m, in, c := open()
				in.Set("k", 1)
				equal(t, "built", must(c.Get(t.Context(), "k")), 1)
				in.Set("k", 2)
				equal(t, "changed", must(c.Get(t.Context(), "k")), 2)
				ok(t, m.Close())
				version = "2"
				_, in, c = open()
				in.Set("k", 3)
				if probes { // it is asked for again, and told what it gave last
					v, _ := c.Peek("k")
					equal(t, "before it is asked for", v, 2)
					equal(t, "after a restart", must(c.Get(t.Context(), "k")), 3)
					equal(t, "what it gave last", last, 2)
				} else {
					equal(t, "after a restart", must(c.Get(t.Context(), "k")), 2)
				}
				ok(t, c.Invalidate("k"))
				equal(t, "invalidated", must(c.Get(t.Context(), "k")), 3)
				in.Set("k", 4)
				equal(t, "built again", must(c.Get(t.Context(), "k")), 4)
			})
		}
	}
}

// notClosed is a store that outlives its Managers.
type notClosed struct{ store.Store }

func (notClosed) Close() error { return nil }

func TestUntracked(t *testing.T) {
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return "v", Untracked(ctx, "a test") }
	})
	x.want(1, "v")
	x.want(0, "v")
	ok(t, x.m.Refresh(t.Context(), nil))
	x.want(1, "v")
	x.reopen()
	x.want(1, "v")
}

func TestKeptErrors(t *testing.T) {
	var in *Cache[string, int]
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		return func(ctx context.Context) (string, error) {
			n, _ := in.Get(ctx, "k")
			switch n {
			case 1:
				return "", Keep(errors.New("one"))
			case 2:
				return "", errors.New("two")
			}
			return "fine", nil
		}
	})
	x.want(1, "fine")
	in.Set("k", 1)
	x.want(1, "error: one")
	x.want(0, "error: one")
	x.reopen()
	x.want(0, "error: one")
	in.Set("k", 2)
	x.want(1, "error: two")
	x.want(1, "error: two")
	in.Set("k", 0)
	x.want(1, "fine")
}

// TestErrorsOfBuildAll: an error of BuildAll is not kept, also if it says that it is a result, and
// neither is what a builder makes of it, whatever it has asked of the cache.
func TestErrorsOfBuildAll(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	in := must(Register(m, "in", Spec[int, int]{}))
	all := must(Register(m, "all", Spec[int, int]{BuildAll: func(ctx context.Context) (map[int]int, error) {
		v, err := in.Get(ctx, 1)
		if err == nil {
			err = Keep(fmt.Errorf("malformed: %d", v))
		}
		return nil, err
	}}))
	for name, ask := range map[string]func(ctx context.Context) error{
		"Get":         func(ctx context.Context) error { _, err := all.Get(ctx, 1); return err },
		"Contains":    func(ctx context.Context) error { _, err := all.Contains(ctx, 1); return err },
		"Count":       func(ctx context.Context) error { _, err := all.Count(ctx); return err },
		"CollectKeys": func(ctx context.Context) error { _, err := all.CollectKeys(ctx); return err },
		"Collect":     func(ctx context.Context) error { _, err := all.Collect(ctx); return err },
	} {
		c := must(Register(m, name, Spec[int, string]{Build: func(ctx context.Context, _ int) (string, error) {
			return fmt.Sprint(ask(ctx)), nil
		}}))
		for v := range 2 {
			ok(t, in.Set(1, v))
			if text := must(c.Get(ctx, 1)); !strings.HasSuffix(text, fmt.Sprintf("malformed: %d", v)) {
				t.Errorf("%s, when the error is %d: %s", name, v, text)
			}
		}
	}
}

// TestErrorsPassedOn: a builder that passes on what is a result has one itself, with the words
// it puts around it, for all callers, also after a restart; but not if it says something else
// besides.
func TestErrorsPassedOn(t *testing.T) {
	transient := errors.New("the network is down")
	for name, test := range map[string]struct {
		pass  func(err error) error
		keeps bool
		text  string // what the error says
	}{
		"unchanged": {func(err error) error { return err }, true, ""},
		"wrapped":   {func(err error) error { return fmt.Errorf("page 7: %w", err) }, true, "page 7"},
		"joined":    {func(err error) error { return errors.Join(err, ErrNotFound) }, true, "\n"},
		"kept":      {func(err error) error { return Keep(fmt.Errorf("page 7: %w", err)) }, true, "page 7"},
		"and more":  {func(err error) error { return errors.Join(err, transient) }, false, "down"},
		"twice":     {func(err error) error { return fmt.Errorf("%w, and %w", err, transient) }, false, "down"},
	} {
		for _, below := range []error{Keep(errors.New("malformed")), ErrNotFound} {
			t.Run(fmt.Sprint(name, ", ", below), func(t *testing.T) {
				d := newDisk()
				runs := 0
				open := func() (*Manager, *Cache[int, int], *Cache[int, int]) {
					m := d.open(t, Options{})
					bad := must(Register(m, "bad", Spec[int, int]{Build: func(context.Context, int) (int, error) { return 0, below }}))
					page := must(Register(m, "page", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
						runs++
						_, err := bad.Get(ctx, k)
						return 0, test.pass(err)
					}}))
					return m, bad, page
				}
				m, _, page := open()
				want := func(wantRuns int) {
					t.Helper()
					_, err := page.Get(t.Context(), 1)
					if err == nil || !strings.Contains(err.Error(), test.text) {
						t.Errorf("the error is %v", err)
					}
					if below == ErrNotFound || name == "joined" {
						equal(t, "is none", errors.Is(err, ErrNotFound), true)
					} else if !strings.Contains(err.Error(), "malformed") {
						t.Errorf("the error is %v", err)
					}
					if !test.keeps {
						wantRuns = 1
					}
					equal(t, "runs", runs, wantRuns)
					runs = 0
				}
				want(1)
				want(0)
				is, err := page.Contains(t.Context(), 1)
				equal(t, "there", is, false)
				equal(t, "whether is known", err == nil, test.keeps && (below == ErrNotFound || name == "joined"))
				runs = 0
				ok(t, m.Close())
				var bad *Cache[int, int]
				m, bad, page = open()
				want(0)
				ok(t, bad.Set(1, 1))
				page.Get(t.Context(), 1)
				equal(t, "runs", runs, 1)
				ok(t, m.Close())
			})
		}
	}
}

// TestTrackedBuildAll: whole contents depend on what BuildAll has read, and who
// reads an entry of them on that entry.
func TestTrackedBuildAll(t *testing.T) {
	var in *Cache[string, int]
	built := 0
	x := newDerived(t, func(m *Manager) func(context.Context) (string, error) {
		in = must(Register(m, "in", Spec[string, int]{}))
		all := must(Register(m, "all", Spec[string, int]{BuildAll: func(ctx context.Context) (map[string]int, error) {
			built++
			a, err1 := in.Get(ctx, "a")
			b, err2 := in.Get(ctx, "b")
			return map[string]int{"a": a, "b": b}, errors.Join(err1, err2)
		}}))
		return func(ctx context.Context) (string, error) {
			n, err := all.Get(ctx, "a")
			return fmt.Sprint(n), err
		}
	})
	in.Set("a", 1)
	in.Set("b", 1)
	x.want(1, "1")
	in.Set("c", 1)
	x.want(0, "1")
	equal(t, "built", built, 1)
	in.Set("b", 2)
	x.want(0, "1")
	equal(t, "built", built, 2)
	in.Set("a", 2)
	x.want(1, "2")
	equal(t, "built", built, 3)
	x.reopen()
	x.want(0, "2")
	equal(t, "built", built, 3)
	in.Set("b", 3)
	x.want(0, "2")
	equal(t, "built", built, 4)
	x.reopen()
	in.Set("a", 3)
	all := must(Lookup[string, int](x.m, "all"))
	equal(t, "entry", must(all.Get(t.Context(), "a")), 3)
	x.want(1, "3")
	in.Delete("b")
	if v, err := all.Get(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("contents that cannot be built any more: %v, %v", v, err)
	}
	in.Set("b", 3)
	x.want(0, "3")
}

// A Recheck while Probe is running is not lost: what Probe gives may be older.
func TestRecheckDuringProbe(t *testing.T) {
	for _, keys := range [][]string{{"k"}, nil} {
		for _, first := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				m := must(Open("", Options{Store: memstore.New()}))
				defer m.Close()
				var world atomic.Int64
				hold, looked := make(chan bool), make(chan bool)
				var slow atomic.Bool
				c := must(Register(m, "c", Spec[string, int64]{
					Probe: func(context.Context, string, int64, bool) (int64, error) {
						v := world.Load()
						if slow.Swap(false) {
							looked <- true
							<-hold
						}
						return v, nil
					},
				}))
				d := must(Register(m, "d", Spec[string, int64]{
					Build: func(ctx context.Context, k string) (int64, error) { return c.Get(ctx, k) },
				}))
				if !first {
					must(d.Get(t.Context(), "k"))
					c.Recheck("k")
				}
				slow.Store(true)
				go d.Get(t.Context(), "k")
				<-looked
				world.Store(1)
				c.Recheck(keys...)
				close(hold)
				synctest.Wait()
				equal(t, "value", must(d.Get(t.Context(), "k")), 1)
			})
		}
	}
}

// A file with other contents looks as it did before.
func TestFileLooksAsBefore(t *testing.T) {
	m := newManager(t)
	files := must(OpenFiles(m))
	name := filepath.Join(t.TempDir(), "f")
	then := time.Now().Add(-time.Hour)
	write := func(s string) {
		ok(t, os.WriteFile(name, []byte(s), 0o600))
		ok(t, os.Chtimes(name, then, then))
	}
	write("aaaa")
	must(files.Get(t.Context(), name))
	write("bbbb")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	data, err := files.Get(ctx, name)
	if err != nil {
		t.Fatalf("it hangs: %v", err)
	}
	equal(t, "contents", string(data), "bbbb")
}

// An entry that turns out to be damaged is none.
func TestDamagedIsNotCounted(t *testing.T) {
	d := newDisk()
	m := openOn(d)
	must(Register(m, "in", Spec[int, int]{})).Set(1, 1)
	ok(t, m.Close())
	m = openOn(d)
	defer m.Close()
	in := must(Register(m, "in", Spec[int, int]{AfterLoad: func(context.Context, int, int) (int, error) { return 0, errPlanned }}))
	n := must(Register(m, "n", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) { return in.Count(ctx) }}))
	must(n.Get(t.Context(), 1))
	in.Peek(1)
	equal(t, "count", must(n.Get(t.Context(), 1)), in.Len())
}

// TestRefreshFails: what cannot be loaded is tried once, and told once.
func TestRefreshFails(t *testing.T) {
	m := newManager(t)
	loads := 0
	must(Register(m, "c", Spec[int, int]{
		Load:  func(context.Context) (map[int]int, error) { loads++; return nil, errPlanned },
		Probe: func(context.Context, int, int, bool) (int, error) { return 1, nil },
	}))
	err := m.Refresh(t.Context(), nil)
	var where *Error
	if !errors.As(err, &where) || where.Op != "refresh" || where.Cache != "c" || where.Err != errPlanned {
		t.Errorf("got %v", err)
	}
	equal(t, "loads", loads, 1)
}

// TestKeysThatPanic: keys whose codec panics are given as ever.
func TestKeysThatPanic(t *testing.T) {
	m := openOn(newDisk())
	spec := Spec[int, int]{KeyCodec: codec.Codec[int]{
		Name:   "bad",
		Append: func([]byte, int) ([]byte, error) { panic("on purpose") },
		Decode: func([]byte) (int, error) { return 0, nil },
	}}
	c := must(Register(m, "c", spec))
	ok(t, c.Set(1, 1))
	equal(t, "keys", fmt.Sprint(must(c.CollectKeys(t.Context()))), "[1]")
	equal(t, "entries", fmt.Sprint(must(c.Collect(t.Context()))), "map[1:1]")
}

// TestRefreshAndResults: that there is nothing, and a kept error, are results of asking the
// world outside; what fails is not.
func TestRefreshAndResults(t *testing.T) {
	ctx := t.Context()
	m := newManager(t)
	c := must(Register(m, "c", Spec[int, int]{Probe: func(_ context.Context, k, _ int, _ bool) (int, error) {
		switch k {
		case 1:
			return 0, ErrNotFound
		case 2:
			return 0, Keep(errPlanned)
		}
		return k, nil
	}}))
	fails := must(Register(m, "fails", Spec[int, int]{Probe: func(_ context.Context, k, _ int, known bool) (int, error) {
		if known {
			return 0, errPlanned
		}
		return k, nil
	}}))
	for k := range 3 {
		c.Get(ctx, k)
	}
	ok(t, c.Refresh(ctx))
	ok(t, c.Refresh(ctx, 2))
	ok(t, m.Refresh(ctx, nil))
	must(fails.Get(ctx, 1))
	if err := m.Refresh(ctx, nil); !errors.Is(err, errPlanned) {
		t.Errorf("got %v", err)
	}
}

// TestDeadlinesAreForgotten: those that have passed take no room, neither in memory nor in
// the store, also if they are of an earlier process.
func TestDeadlinesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := newDisk()
		kept := func() (n int) {
			for _, err := range d.Load(ctx, ours+deadlinesCache) {
				ok(t, err)
				n++
			}
			return n
		}
		for range 2 {
			m := d.open(t, Options{Autosync: &Autosync{Off: true}})
			c := must(Register(m, "c", Spec[int, int64]{Build: func(ctx context.Context, k int) (int64, error) {
				now := time.Now().Unix()
				return now, ExpireAt(ctx, time.Unix(now+2, 0))
			}}))
			for i := range 3 * sweepAfter {
				for k := range 2 {
					if got := time.Now().Unix() - must(c.Get(ctx, k)); got > 2 {
						t.Fatalf("it is %d seconds old", got)
					}
				}
				time.Sleep(time.Second)
				if i%100 == 0 {
					ok(t, m.Sync(ctx))
				}
			}
			synctest.Wait()
			ok(t, m.Sync(ctx))
			of := must(deadlines(m))
			if n := len(of.residents(nil)); n > sweepAfter+100 {
				t.Errorf("%d are left", n)
			}
			if n := len(of.table.Load().shards[0].entries); len(of.table.Load().shards) == 1 && n > sweepAfter+100 {
				t.Errorf("%d are in the table", n)
			}
			ok(t, m.Close())
			if n := kept(); n > sweepAfter+100 {
				t.Errorf("%d are saved", n)
			}
		}
	})
}

// TestFilesFollowLinks: a link is what it leads to, but in the listing of a directory.
func TestFilesFollowLinks(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	name, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	ok(t, os.WriteFile(name, []byte("one"), 0o600))
	if err := os.Symlink(name, link); err != nil {
		t.Skip(err)
	}
	m := newManager(t)
	f := must(OpenFiles(m))
	equal(t, "contents", string(must(f.Get(ctx, link))), "one")
	equal(t, "size", must(f.Stat(ctx, link)).Size, 3)
	equal(t, "link", must(f.Stat(ctx, link)).Mode&fs.ModeSymlink, 0)
	equal(t, "listed", must(f.ReadDir(ctx, dir))[1].Type, fs.ModeSymlink)
	equal(t, "of a file system", must(fs.Stat(f.FS(ctx, dir), "link")).Mode().IsRegular(), true)
	ok(t, os.Remove(name))
	ok(t, f.Refresh(ctx))
	equal(t, "it leads nowhere", must(f.Exists(ctx, link)), false)
	equal(t, "listed", must(f.ReadDir(ctx, dir))[0].Type, fs.ModeSymlink)
}

// TestAskedAndTheSame: what a probe finds as it was is not saved again, whatever it has read.
func TestAskedAndTheSame(t *testing.T) {
	d := newDisk()
	for round := range 3 {
		m := d.open(t, Options{Autosync: &Autosync{Off: true}})
		in := must(Register(m, "in", Spec[int, int]{}))
		var asked atomic.Int64
		c := must(Register(m, "c", Spec[int, int]{Probe: func(ctx context.Context, k int, _ int, _ bool) (int, error) {
			asked.Add(1)
			n, err := in.Get(ctx, 1)
			if k == 2 {
				return 0, ErrNotFound
			}
			return n * k, err
		}}))
		reader := must(Register(m, "reader", Spec[int, int]{Build: func(ctx context.Context, k int) (int, error) {
			n, err := c.Get(ctx, k)
			if errors.Is(err, ErrNotFound) {
				return -1, nil
			}
			return n, err
		}}))
		if round == 0 {
			ok(t, in.Set(1, 1))
		}
		read := func(edits int64) {
			t.Helper()
			before := asked.Load()
			equal(t, "one", must(reader.Get(t.Context(), 1)), must(in.Get(t.Context(), 1)))
			equal(t, "none", must(reader.Get(t.Context(), 2)), -1)
			equal(t, "asked", asked.Load()-before, 2)
			equal(t, "unsaved", c.Stats().Edits, edits)
			ok(t, m.Sync(t.Context()))
		}
		if round == 0 {
			read(2)
		} else {
			read(0)
		}
		ok(t, m.Refresh(t.Context(), nil))
		equal(t, "unsaved after Refresh", c.Stats().Edits, 0)
		ok(t, in.Set(1, round+2))
		read(2) // what they have read has another stamp
		ok(t, m.Close())
	}
}
