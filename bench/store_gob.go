package main

import (
	"bufio"
	"encoding/gob"
	"os"
	"path/filepath"
)

// gobStore keeps the map in one file, written anew for every change: beside
// the old one, then renamed.
type gobStore struct {
	held
	dir string
}

func openGob(dir string) (storeDB, error) { return &gobStore{dir: dir}, nil }

func (s *gobStore) file() string { return filepath.Join(s.dir, "bench.gob") }

func (s *gobStore) SaveAll() error {
	tmp := s.file() + ".new"
	err := createDurably(tmp, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		if err := gob.NewEncoder(w).Encode(s.entries); err != nil {
			return err
		}
		return w.Flush()
	})
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, s.file()); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s *gobStore) LoadAll(n int) error {
	f, err := os.Open(s.file())
	if err != nil {
		return err
	}
	defer f.Close()
	s.reserve(n)
	return gob.NewDecoder(bufio.NewReaderSize(f, 1<<20)).Decode(&s.entries)
}

func (s *gobStore) Ready(n int) error { return s.LoadAll(n) }

func (s *gobStore) SaveChanges([]string, [][]byte) error { return s.SaveAll() }

func (s *gobStore) ReadOne(string) ([]byte, error) { return nil, errCannot }

func (s *gobStore) Close() error { return nil }

// createDurably writes a file and fsyncs it.
func createDurably(name string, write func(*os.File) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
