// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// ChainCache remembers PCK chains and collateral whose signatures hold, so that a fleet on a few machines costs two
// signature verifications a quote. A key is the SHA-256 of everything that was verified: the root keys, whether CRLs
// may be missing, the exact bytes of chain, CRLs, TCB info and identity. Validity windows are kept and checked at
// every use; failures are never kept. It is bounded and safe for concurrent use. The zero value and nil remember
// nothing.
type ChainCache struct {
	mu      sync.Mutex
	limit   int
	entries map[cacheKey]*list.Element
	recent  list.List // of *cacheEntry, most recently used first
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	key   cacheKey
	value any // *pckChain or *signedCollateral, immutable
}

// NewChainCache makes a cache of at most limit entries; a machine takes one, a collateral takes one. An entry is some
// 10 KiB.
func NewChainCache(limit int) *ChainCache {
	return &ChainCache{limit: limit, entries: make(map[cacheKey]*list.Element)}
}

// Len is the number of entries.
func (c *ChainCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}

func (c *ChainCache) load(key cacheKey) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cacheEntry).value
}

func (c *ChainCache) store(key cacheKey, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit <= 0 || c.entries[key] != nil {
		return
	}
	c.entries[key] = c.recent.PushFront(&cacheEntry{key: key, value: value})
	if c.recent.Len() > c.limit {
		oldest := c.recent.Remove(c.recent.Back()).(*cacheEntry)
		delete(c.entries, oldest.key)
	}
}

// fingerprint hashes parts so that no two lists of parts have the same input: each has its length before it.
type fingerprint struct{ h hash.Hash }

func (f fingerprint) add(part []byte) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(part)))
	f.h.Write(size[:])
	f.h.Write(part)
}

// cached returns the remembered value for the parts, or makes it and, if make says so, remembers it.
func cached[T any](v *verification, kind string, parts [][]byte, make func() (value *T, keep bool)) *T {
	if v.opts.Cache == nil {
		value, _ := make()
		return value
	}
	f := fingerprint{sha256.New()}
	f.add([]byte(kind))
	f.add(v.trust())
	for _, part := range parts {
		f.add(part)
	}
	key := cacheKey(f.h.Sum(nil))
	if value, ok := v.opts.Cache.load(key).(*T); ok {
		return value
	}
	value, keep := make()
	if keep {
		v.opts.Cache.store(key, value)
	}
	return value
}
