// Package vfs is the little that a store asks of a file system, so that tests
// can put one that fails or loses power in the place of the real one.
//
// An [FS] is one directory. [OpenDir] gives the real thing; package faultfs
// has the other.
package vfs

import (
	"errors"
	"io"
)

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
var ErrLocked = errors.New("file is locked")

// FS is one directory and what is in it. Names are relative to it and use
// forward slashes. Methods may be called concurrently; errors wrap those of
// package io/fs where one fits.
type FS interface {
	// Create makes a file that does not exist yet, for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Exists returns nil if there is something of that name, and otherwise
	// an error that wraps fs.ErrNotExist or says why it cannot tell.
	Exists(name string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file to a name that is not in use.
	Rename(from, to string) error
	// Mkdir makes a directory that does not exist yet.
	Mkdir(name string) error
	// List returns what is directly in the directory, in no particular order.
	List() ([]Entry, error)
	// SyncDir makes the entries of a directory ("." is the root) durable:
	// which names there are, and which file each stands for.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file of that name, which it makes
	// if need be. It never waits: if the lock is held, also by this process,
	// it returns ErrLocked. Closing the result gives the lock back.
	Lock(name string) (io.Closer, error)
	// Close releases the directory. Open files stay usable.
	Close() error
}

// Entry is one name in a directory.
type Entry struct {
	Name  string
	IsDir bool
}

// File is an open file. Its methods may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size of the file.
	Truncate(size int64) error
	// Sync makes the contents and the size durable, but not the name.
	Sync() error
	// Size returns the size of the file.
	Size() (int64, error)
}
