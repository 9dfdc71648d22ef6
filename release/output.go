// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
)

const sumsFile = "SHA256SUMS"

// claim makes the folder this program's own. Its parts are emptied before they are made again, which must not
// happen to a folder that somebody else uses: -out / would empty /bin.
func (r *release) claim() error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return fmt.Errorf("making the folder for the release: %w", err)
	}
	mark := filepath.Join(r.out, sumsFile)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	for _, section := range sections {
		if _, err := os.Lstat(filepath.Join(r.out, section)); err == nil {
			return fmt.Errorf("%s has a %s, but no %s of an earlier release: take another folder with -out, or empty it",
				r.out, section, sumsFile)
		}
	}
	return os.WriteFile(mark, nil, 0o644)
}

// write makes a file of the release.
func (r *release) write(file string, content func(io.Writer) error) error {
	return r.writeMode(file, 0o644, content)
}

func (r *release) writeMode(file string, mode fs.FileMode, content func(io.Writer) error) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := content(f); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return r.note(file)
}

// note remembers that a file was made.
func (r *release) note(file string) error {
	name, err := filepath.Rel(r.out, file)
	if err != nil {
		return err
	}
	r.made = append(r.made, filepath.ToSlash(name))
	return nil
}

// copy publishes a program.
func (r *release) copy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("publishing a program: %w", err)
	}
	defer in.Close()
	return r.writeMode(to, 0o755, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
}

// finish writes SHA256SUMS over all that is in the folder, also of earlier runs, and shows what this one made.
func (r *release) finish() error {
	sums, err := checksums(r.out)
	if err != nil {
		return err
	}
	file := filepath.Join(r.out, sumsFile)
	if err := r.write(file, func(w io.Writer) error { return writeSums(w, sums) }); err != nil {
		return err
	}
	bySum := map[string]sum{}
	for _, s := range sums {
		bySum[s.name] = s
	}
	table := tabwriter.NewWriter(r.log, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\nSIZE\tSHA-256\t  FILE\n")
	for _, name := range r.made[:len(r.made)-1] {
		s := bySum[name]
		fmt.Fprintf(table, "%s\t%x\t  %s\n", size(s.size), s.sum[:6], name)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(r.log, "\nsha256sum -c %s: in %s\n", sumsFile, r.out)
	return nil
}

type sum struct {
	name string // with slashes, relative
	size int64
	sum  [sha256.Size]byte
}

func checksums(dir string) (sums []sum, err error) {
	err = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || file == filepath.Join(dir, sumsFile) {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		n, err := io.Copy(hash, f)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		sums = append(sums, sum{filepath.ToSlash(name), n, [sha256.Size]byte(hash.Sum(nil))})
		return err
	})
	if err != nil {
		err = fmt.Errorf("summing up %s: %w", dir, err)
	}
	return sums, err
}

func writeSums(w io.Writer, sums []sum) error {
	for _, s := range sums {
		if _, err := fmt.Fprintf(w, "%x  %s\n", s.sum, s.name); err != nil {
			return err
		}
	}
	return nil
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d B", bytes)
}
