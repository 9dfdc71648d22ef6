// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache remembers certificate chains that were verified, so that reports signed by a known VEK need one signature
// verification instead of three or four. An entry is found only by all inputs of the verification, certificates, CRL
// and roots, and only while all of them are valid. It is safe for concurrent use. A nil *Cache remembers nothing.
type Cache struct {
	mu    sync.Mutex
	max   int
	known map[[32]byte]*chain
	order [][32]byte // oldest first
}

// NewCache returns a cache of at most max chains, about 2 KiB each; the oldest goes first.
func NewCache(max int) *Cache {
	return &Cache{max: max, known: map[[32]byte]*chain{}}
}

// verified returns the chain from the cache or verifies it, as verifyChain.
func (c *Cache) verified(certs Certificates, opts Options) (*chain, error) {
	if c == nil || c.max <= 0 {
		return verifyChain(certs, opts)
	}
	key := cacheKey(certs, opts)
	c.mu.Lock()
	found := c.known[key]
	c.mu.Unlock()
	if found != nil && found.covers(opts.Time) {
		return found, nil
	}
	fresh, err := verifyChain(certs, opts)
	if err != nil {
		return fresh, err // for more reasons; not remembered
	}
	c.put(key, fresh)
	return fresh, nil
}

func (c *Cache) put(key [32]byte, fresh *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[key]; !ok {
		c.order = append(c.order, key)
	}
	c.known[key] = fresh
	for len(c.order) > c.max {
		delete(c.known, c.order[0])
		c.order = c.order[1:]
	}
}

// cacheKey covers everything that verifyChain looks at, except the time. Parts are preceded by their length.
func cacheKey(certs Certificates, opts Options) [32]byte {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	part(certs.VEK)
	part(certs.ASK)
	part(certs.ARK)
	part(certs.CRL)
	if opts.AllowMissingCRL {
		part([]byte("CRL may be missing"))
	}
	for _, p := range Products() {
		part([]byte(p))
		for _, key := range opts.Roots[p] {
			part(key.N.Bytes())
			part(binary.LittleEndian.AppendUint64(nil, uint64(key.E)))
		}
	}
	return [32]byte(h.Sum(nil))
}
