// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// TempSuffix is appended to a file's name while it is written. Such a file was
// never committed; it may be removed whenever nobody writes it.
const TempSuffix = ".tmp"

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, path string, limit int64) (data []byte, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, min(size, limit)))
}

// WriteFile puts a file in place, durably and in one atomic step: write a
// temporary file, sync, rename, sync the directory. An error before the rename
// leaves the old file; an error after it (ErrBroken) leaves either.
func WriteFile(fsys FS, path string, data []byte) error {
	return Install(fsys, path, func(f File) error { return WriteAt(f, data, 0) })
}

// Copy copies a file durably. The target must not exist.
func Copy(fsys FS, from, to string) (err error) {
	src, err := fsys.OpenFile(from, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	size, err := src.Size()
	if err != nil {
		return err
	}
	return Install(fsys, to, func(f File) error {
		_, err := io.Copy(io.NewOffsetWriter(f, 0), io.NewSectionReader(src, 0, size))
		return err
	})
}

// Install creates path through a temporary file that fill writes.
func Install(fsys FS, path string, fill func(File) error) error {
	tmp := path + TempSuffix
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return Full(err)
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = Commit(fsys, tmp, path)
	}
	if err == nil || errors.Is(err, ErrBroken) {
		return err
	}
	return errors.Join(Full(err), fsys.Remove(tmp))
}

// Commit renames a synced temporary file into place and syncs the directory.
// If that sync fails nobody knows which file the next start will find: ErrBroken.
func Commit(fsys FS, tmp, path string) error {
	if err := fsys.Rename(tmp, path); err != nil {
		return Full(err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: syncing the directory: %w", ErrBroken, err)
	}
	return nil
}

// WriteAt writes all of data; a short write without an error becomes one.
func WriteAt(w io.WriterAt, data []byte, offset int64) error {
	n, err := w.WriteAt(data, offset)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}
