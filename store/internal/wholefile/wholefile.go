// Package wholefile is what the stores of one readable file per cache have in
// common. A [Format] says what is in a file.
//
// A batch reads the files of the caches that it changes, writes each anew
// under another name, makes it durable, and renames it over the old one. So
// each file is always that of before or that of after the batch, while a crash
// between two renames leaves some caches before it and some after.
package wholefile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cacheman-go/cacheman/internal/vfs"
	"github.com/cacheman-go/cacheman/store"
)

// Format is the form of a file.
type Format struct {
	// Ext is what the file's name ends in, with the dot.
	Ext string

	// Write writes the entries, which come in the order of their keys.
	Write func(w io.Writer, entries iter.Seq[Entry]) error

	// Read gives the entries of a file. Every error stands for damage at
	// Entry.Line; the iteration may go on after it. It must not keep data, but
	// entries may be parts of it.
	Read func(data []byte) iter.Seq2[Entry, error]
}

// Entry is a record, and where in a file it is: 0 if that is not known.
type Entry struct {
	Line       int
	Key, Value []byte
}

// Store is a [store.Store] in a directory.
type Store struct {
	dir    string
	format Format

	apply chan struct{} // full during Apply; a lock that is taken before the others
	write sync.Mutex    // held while files are written, and by Close, which waits for that; taken before mu

	mu   sync.RWMutex // held for reading while a file is read, for writing while files are renamed
	root *os.Root     // nil once closed
}

// Open opens the store in dir, which is made if it is not there.
func Open(dir string, format Format) (*Store, error) {
	made, err := vfs.OpenDir(dir) // which makes it durable, and what is above it
	if err != nil {
		return nil, err
	}
	if err := made.Close(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, format: format, apply: make(chan struct{}, 1), root: root}, nil
}

// Caps implements [store.Store].
func (s *Store) Caps() store.Caps {
	return store.Caps{Durable: true, Persistent: true}
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	err := s.root.Close()
	s.root = nil
	return err
}

// check returns why nothing can be done: the context has ended, or the store
// is closed.
func (s *Store) check(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.root == nil {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Caches implements [store.Store]. Files that this store would not have named
// so are passed over. If the name of a cache is lost, its error comes together
// with the other caches.
func (s *Store) Caches(ctx context.Context) ([]store.Info, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.root == nil {
		return nil, store.ErrClosed
	}
	files, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var infos []store.Info
	var lost []error
	for _, file := range files {
		stem, ok := strings.CutSuffix(file.Name(), s.format.Ext)
		if !ok || !file.Type().IsRegular() {
			continue
		}
		name, ok := unescape(stem)
		if isHashed(stem) {
			b, err := s.root.ReadFile(stem + nameExt)
			if name, ok = string(b), true; err != nil || escape(name) != stem {
				lost = append(lost, fmt.Errorf("%w: %s does not hold the name of the cache in %s",
					store.ErrCorrupt, s.path(stem+nameExt), file.Name()))
				continue
			}
		}
		if !ok {
			continue
		}
		info := store.Info{Cache: name, Records: -1, Bytes: -1}
		if fi, err := file.Info(); err == nil {
			info.Bytes = fi.Size()
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b store.Info) int { return strings.Compare(a.Cache, b.Cache) })
	return infos, errors.Join(lost...)
}

// path is the name of a file for an error.
func (s *Store) path(file string) string { return filepath.Join(s.dir, file) }

// Load implements [store.Store]. It reads the file as a whole when the loop
// begins. Of several entries with the same key all but the first are reported
// as damaged.
func (s *Store) Load(ctx context.Context, cache string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := s.check(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		data, err := s.read(cache)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for e, err := range s.entries(cache, data) {
			if err := s.check(ctx); err != nil {
				yield(store.Record{}, err)
				return
			}
			if !yield(store.Record{Key: e.Key, Value: e.Value}, err) {
				return
			}
		}
	}
}

// read returns the contents of a cache's file, or ErrNotFound.
func (s *Store) read(cache string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.root == nil {
		return nil, store.ErrClosed
	}
	if cache == "" {
		return nil, store.ErrNotFound
	}
	data, err := s.root.ReadFile(escape(cache) + s.format.Ext)
	if errors.Is(err, fs.ErrNotExist) {
		err = store.ErrNotFound
	}
	return data, err
}

// entries gives the entries in data, each key once, and slices of their own.
func (s *Store) entries(cache string, data []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lines := make(map[string]int)
		for e, err := range s.format.Read(data) {
			if err == nil {
				if line, again := lines[string(e.Key)]; again {
					err = fmt.Errorf("key %.40q is in line %d already", e.Key, line)
				}
			}
			if err != nil {
				err = fmt.Errorf("%w: %s:%d: %w", store.ErrCorrupt, s.path(escape(cache)+s.format.Ext), e.Line, err)
				if !yield(Entry{}, err) {
					return
				}
				continue
			}
			lines[string(e.Key)] = e.Line
			b := make([]byte, 0, len(e.Key)+len(e.Value))
			b = append(append(b, e.Key...), e.Value...)
			n := len(e.Key)
			e.Key, e.Value = b[:n:n], b[n:]
			e.Value = e.Value[:len(e.Value):len(e.Value)]
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Apply implements [store.Store]. It fails, and changes nothing, if it would
// have to write a file anew of which a part could not be read.
func (s *Store) Apply(ctx context.Context, ops iter.Seq2[store.Op, error]) error {
	select {
	case s.apply <- struct{}{}:
		defer func() { <-s.apply }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	changed := make(map[string]*contents)
	for op, err := range ops {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = s.stage(changed, op)
		}
		if err != nil {
			return err
		}
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.commit(changed)
}

// contents is what a cache will hold after the batch.
type contents struct {
	stored  bool              // the cache has a file
	known   bool              // it will have one
	dirty   bool              // it will be another
	loaded  bool              // records are all that it will hold, not only what is put
	records map[string][]byte // values by key
}

// stage adds op to what is changed. A cache's file is read when the first op
// on it needs to know what is there.
func (s *Store) stage(changed map[string]*contents, op store.Op) error {
	if op.Kind < store.Put || op.Kind > store.Drop || op.Cache == "" {
		return fmt.Errorf("invalid operation: %v on cache %q", op.Kind, op.Cache)
	}
	c := changed[op.Cache]
	if c == nil {
		stored, err := s.stored(op.Cache)
		if err != nil {
			return err
		}
		c = &contents{stored: stored, known: stored, loaded: !stored, records: make(map[string][]byte)}
		changed[op.Cache] = c
	}
	switch op.Kind {
	case store.Put, store.Delete:
		if err := s.load(c, op.Cache); err != nil {
			return err
		}
		if op.Kind == store.Delete {
			delete(c.records, string(op.Key))
			c.dirty = true
			return nil
		}
		c.records[string(op.Key)] = slices.Clone(op.Value)
		c.known, c.dirty = true, true
	case store.Describe:
		c.dirty = c.dirty || !c.known
		c.known = true
	case store.Clear, store.Drop:
		clear(c.records)
		c.loaded, c.dirty = true, true
		c.known = c.known && op.Kind == store.Clear
	}
	return nil
}

// stored reports whether a cache has a file.
func (s *Store) stored(cache string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.root == nil {
		return false, store.ErrClosed
	}
	_, err := s.root.Stat(escape(cache) + s.format.Ext)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// load reads what a cache holds before it is changed.
func (s *Store) load(c *contents, cache string) error {
	if c.loaded {
		return nil
	}
	data, err := s.read(cache)
	if err != nil {
		return err
	}
	for e, err := range s.entries(cache, data) {
		if err != nil {
			return fmt.Errorf("%w; the file is not written anew, so that nothing in it is lost", err)
		}
		c.records[string(e.Key)] = e.Value
	}
	c.loaded = true
	return nil
}

// commit writes all files that changed, and then puts them in place.
func (s *Store) commit(changed map[string]*contents) (err error) {
	s.write.Lock()
	defer s.write.Unlock()
	if s.root == nil {
		return store.ErrClosed
	}
	// The file with the name of a cache comes before that with its contents, and
	// goes after it, also if the power is lost: without it these are nobody's.
	var names, written, gone, namesGone []string
	defer func() {
		if err != nil {
			for _, file := range slices.Concat(names, written) {
				s.root.Remove(file + tempExt)
			}
		}
	}()
	for _, cache := range slices.Sorted(maps.Keys(changed)) {
		c, stem := changed[cache], escape(cache)
		switch {
		case !c.dirty:
		case c.known:
			if isHashed(stem) && !c.stored {
				names = append(names, stem+nameExt)
				if err := s.writeFile(stem+nameExt, func(w io.Writer) error {
					_, err := io.WriteString(w, cache)
					return err
				}); err != nil {
					return err
				}
			}
			written = append(written, stem+s.format.Ext)
			if err := s.writeFile(stem+s.format.Ext, func(w io.Writer) error {
				return s.format.Write(w, c.entries())
			}); err != nil {
				return err
			}
		case c.stored:
			gone = append(gone, stem+s.format.Ext)
			if isHashed(stem) {
				namesGone = append(namesGone, stem+nameExt)
			}
		}
	}
	if len(written) == 0 && len(gone) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.exchange(names, nil); err != nil {
		return err
	}
	if err := s.exchange(written, gone); err != nil {
		return err
	}
	return s.exchange(nil, namesGone)
}

// exchange puts files that were written in place, and removes others.
func (s *Store) exchange(written, gone []string) error {
	if len(written) == 0 && len(gone) == 0 {
		return nil
	}
	for _, file := range written {
		if err := replace(s.root, file+tempExt, file); err != nil {
			return err
		}
	}
	for _, file := range gone {
		if err := s.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return vfs.SyncDir(dir)
}

// entries gives the records in the order of their keys.
func (c *contents) entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, key := range slices.Sorted(maps.Keys(c.records)) {
			if !yield(Entry{Key: []byte(key), Value: c.records[key]}) {
				return
			}
		}
	}
}

// tempExt is added to the name of a file that is being written. What a crash
// left of one is overwritten by the next.
const tempExt = ".tmp"

// writeFile writes what is to become file, and makes it durable.
func (s *Store) writeFile(file string, contents func(io.Writer) error) error {
	f, err := s.root.OpenFile(file+tempExt, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	err = contents(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path(file), err)
	}
	return nil
}
