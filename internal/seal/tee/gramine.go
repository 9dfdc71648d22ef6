// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/marblerun/marblerun/internal/seal"
)

// Gramine's pseudo files with the sealing keys of the enclave, 16 raw bytes each (FORMATS §4).
const (
	gramineProductKey = "/dev/attestation/keys/_sgx_mrsigner"
	gramineUniqueKey  = "/dev/attestation/keys/_sgx_mrenclave"
	gramineKeySize    = 16
)

// gramine seals with one of Gramine's keys.
type gramine struct {
	name   string
	path   string // of the key, below the root
	use    label
	random io.Reader
}

func gramineSealers(cfg Config) (seal.Sealers, error) {
	product := &gramine{"gramine-product", filepath.Join(cfg.Root, gramineProductKey), labelGramineProduct, cfg.Rand}
	unique := &gramine{"gramine-unique", filepath.Join(cfg.Root, gramineUniqueKey), labelGramineUnique, cfg.Rand}
	for _, g := range []*gramine{product, unique} {
		key, err := g.key()
		if err != nil {
			return seal.Sealers{}, err
		}
		clear(key)
	}
	return seal.Sealers{Product: product, Unique: unique}, nil
}

func (g *gramine) Name() string { return g.name }

func (g *gramine) key() (_ []byte, err error) {
	file, err := os.Open(g.path)
	if err != nil {
		return nil, fmt.Errorf("reading Gramine's sealing key: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	key := make([]byte, gramineKeySize+1)
	n, err := io.ReadFull(file, key)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading Gramine's sealing key: %w", err)
	}
	if n != gramineKeySize {
		clear(key)
		return nil, fmt.Errorf("Gramine's sealing key %s has not %d bytes", g.path, gramineKeySize)
	}
	return key[:n], nil
}

// Seal implements seal.Sealer.
func (g *gramine) Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := g.key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return sealBlob(key, g.use, driverGramine, nil, plaintext, aad, g.random)
}

// Unseal implements seal.Sealer.
func (g *gramine) Unseal(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := parseBlob(sealed, driverGramine)
	if err != nil {
		return nil, err
	}
	key, err := g.key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	plaintext, err := b.open(key, g.use, aad)
	if err != nil {
		return nil, fmt.Errorf("%w (Gramine's key is another one after an update of the enclave, of its security version "+
			"or of the microcode, and on another machine)", err)
	}
	return plaintext, nil
}
