package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"unsafe"
)

// floorStore does the least that each work can cost with plain files: the
// bytes of the entries, keys and values one after the other and nothing else.
type floorStore struct {
	held
	alias bool // load strings and slices into the bytes of the file
	dir   string
	flat  []byte
	log   *os.File
}

func openFloor(alias bool) func(dir string) (storeDB, error) {
	return func(dir string) (storeDB, error) { return &floorStore{alias: alias, dir: dir}, nil }
}

func (s *floorStore) file() string { return filepath.Join(s.dir, "bench.flat") }

// Flatten lays the entries out, so that saving is writing only.
func (s *floorStore) Flatten() {
	s.flat = make([]byte, 0, len(s.entries)*(keySize+valueSize))
	for k, v := range s.entries {
		s.flat = append(append(s.flat, k...), v...)
	}
	s.entries = nil
}

func (s *floorStore) SaveAll() error {
	err := createDurably(s.file(), func(f *os.File) error {
		const chunk = 1 << 20
		for rest := s.flat; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			if _, err := f.Write(rest[:min(chunk, len(rest))]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s *floorStore) LoadAll(n int) error {
	s.reserve(n)
	b, err := os.ReadFile(s.file())
	if err != nil {
		return err
	}
	for ; len(b) >= keySize+valueSize; b = b[keySize+valueSize:] {
		k, v := b[:keySize], b[keySize:keySize+valueSize:keySize+valueSize]
		if s.alias {
			s.entries[unsafe.String(&k[0], len(k))] = v
		} else {
			s.entries[string(k)] = bytes.Clone(v)
		}
	}
	return nil
}

func (s *floorStore) Ready(int) (err error) {
	s.log, err = os.OpenFile(filepath.Join(s.dir, "bench.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return err
}

func (s *floorStore) SaveChanges(keys []string, values [][]byte) error {
	var b []byte
	for i, k := range keys {
		b = append(append(b, k...), values[i]...)
	}
	_, err := s.log.Write(b)
	return errors.Join(err, s.log.Sync())
}

func (s *floorStore) ReadOne(string) ([]byte, error) { return nil, errCannot }

func (s *floorStore) Close() error {
	if s.log == nil {
		return nil
	}
	return s.log.Close()
}
