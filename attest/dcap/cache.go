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
type fingerprint struct {
	h   hash.Hash
	buf [1024]byte
}

func (f *fingerprint) size(n int) {
	binary.BigEndian.PutUint64(f.buf[:8], uint64(n))
	f.h.Write(f.buf[:8])
}

func (f *fingerprint) add(part []byte) {
	f.size(len(part))
	f.h.Write(part)
}

// addText adds a text through the buffer: converted as a whole, TCB info would cost more garbage than all the rest.
func (f *fingerprint) addText(part string) {
	f.size(len(part))
	for len(part) > 0 {
		n := copy(f.buf[:], part)
		f.h.Write(f.buf[:n])
		part = part[n:]
	}
}

// cached returns the remembered value for what identify adds to its key, or makes it and, if make says so, remembers
// it.
func cached[T any](v *verification, kind string, identify func(*fingerprint), make func() (value *T, keep bool)) *T {
	if v.opts.Cache == nil {
		value, _ := make()
		return value
	}
	f := &fingerprint{h: sha256.New()}
	f.addText(kind)
	f.add(v.trust())
	identify(f)
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
