// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/item"
)

// maxFile is the largest cache file that is read, in bytes: an item in base64, its chain and its URL.
const maxFile = 2 * item.MaxSize

const fileSuffix = ".collateral.json"

// Disk keeps items in a folder, one file an item, named by the SHA-256 of the URL, mode 0600. A file that cannot be
// read or understood counts as missing. An empty dir keeps nothing.
type Disk struct {
	dir   string
	limit int // files
}

// file is the content of a cache file.
type file struct {
	URL     string    `json:"url"`
	Kind    item.Kind `json:"kind"`
	Fetched time.Time `json:"fetched"`
	Body    []byte    `json:"body"` // as served
	Chain   string    `json:"issuerChain,omitempty"`
}

// OpenDisk makes the folder if needed; limit is a number of files.
func OpenDisk(dir string, limit int) (Disk, error) {
	if dir == "" {
		return Disk{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Disk{}, fmt.Errorf("making the collateral cache: %w", err)
	}
	return Disk{dir, limit}, nil
}

func (d Disk) path(url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(d.dir, hex.EncodeToString(sum[:])+fileSuffix)
}

// Load returns the item of a URL and when it was fetched; nil if there is none.
func (d Disk) Load(url string, k item.Kind) (*item.Item, time.Time) {
	if d.dir == "" {
		return nil, time.Time{}
	}
	data, err := readFile(d.path(url))
	if err != nil {
		return nil, time.Time{}
	}
	var f file
	if json.Unmarshal(data, &f) != nil || f.URL != url || f.Kind != k {
		return nil, time.Time{}
	}
	it, err := item.Read(f.Kind, f.Body, f.Chain)
	if err != nil {
		return nil, time.Time{}
	}
	return it, f.Fetched
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("file is too large")
	}
	return data, err
}

// Save writes an item, whole or not at all, and drops the oldest files beyond the limit.
func (d Disk) Save(url string, it *item.Item, fetched time.Time) error {
	if d.dir == "" {
		return nil
	}
	data, err := json.Marshal(file{url, it.Kind, fetched.UTC(), it.Envelope(), it.Chain})
	if err != nil {
		return fmt.Errorf("encoding collateral: %w", err)
	}
	if err := writeFile(d.dir, d.path(url), data); err != nil {
		return fmt.Errorf("caching collateral: %w", err)
	}
	return d.trim()
}

// writeFile replaces a file; os.CreateTemp makes mode 0600. It is not synced: a cache may be lost.
func writeFile(dir, path string, data []byte) error {
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// trim removes the files written longest ago.
func (d Disk) trim() error {
	all, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("listing the collateral cache: %w", err)
	}
	var infos []fs.FileInfo
	for _, e := range all {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), fileSuffix) {
			infos = append(infos, info)
		}
	}
	if len(infos) <= d.limit {
		return nil
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range infos[:len(infos)-d.limit] {
		if err := os.Remove(filepath.Join(d.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("trimming the collateral cache: %w", err)
		}
	}
	return nil
}
