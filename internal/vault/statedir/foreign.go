// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package statedir

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/seal"
)

// IsMarbleRun reports whether sealed_data was written by MarbleRun.
func (d Dir) IsMarbleRun() (bool, error) {
	const limit = 1 << 20
	data, err := journal.ReadFile(d.FS, d.Path(Data), limit)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", d.Path(Data), err)
	}
	return marbleRun(data), nil
}

// marbleRun recognizes the beginning of MarbleRun's sealed_data: header length,
// u32 little-endian ‖ header, a JSON map of hex SHA-256 to bool or null ‖
// nonce, 12 bytes ‖ AES-GCM ciphertext and tag (contract coordinator-runtime §3).
func marbleRun(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	header, rest := uint64(binary.LittleEndian.Uint32(data)), uint64(len(data)-4)
	if header > rest || rest-header < 12+16 {
		return false
	}
	var hashes map[string]bool
	if err := seal.DecodeJSON(data[4:4+header], &hashes); err != nil {
		return false
	}
	for name := range hashes {
		if hash, err := hex.DecodeString(name); err != nil || len(hash) != 32 {
			return false
		}
	}
	return true
}
