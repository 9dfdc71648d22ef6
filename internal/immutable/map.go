// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package immutable has a persistent map: setting a key yields a new map and shares all but O(log n) of the old one.
//
// The Coordinator's state is an immutable value; with it the cost of one write does not grow with the number of secrets
// and counters. It is a hash array mapped trie over a seeded hash, so that names chosen by strangers cannot degrade it.
package immutable

import (
	"hash/maphash"
	"iter"
	"maps"
	"math/bits"
	"slices"
)

const (
	bitsPerLevel = 5
	fanOut       = 1 << bitsPerLevel
	maxDepth     = 64 / bitsPerLevel // levels with hash bits left; below it, equal hashes share a list
)

// Map is a persistent map from strings to V. The zero value is an empty map. Maps may be read concurrently.
type Map[V any] struct {
	seed maphash.Seed
	root *node[V]
	size int
}

// node is either inner (bitmap, children) or a list of entries whose hashes agree so far.
type node[V any] struct {
	bitmap   uint32
	children []*node[V]
	entries  []entry[V]
}

type entry[V any] struct {
	hash  uint64
	key   string
	value V
}

// Len returns the number of keys.
func (m Map[V]) Len() int { return m.size }

// Load returns the value of key, and whether there is one.
func (m Map[V]) Load(key string) (V, bool) {
	var zero V
	if m.root == nil {
		return zero, false
	}
	hash := maphash.String(m.seed, key)
	n := m.root
	for depth := 0; n != nil; depth++ {
		if n.entries != nil {
			return find(n.entries, key)
		}
		bit := slot(hash, depth)
		if n.bitmap&bit == 0 {
			return zero, false
		}
		n = n.children[n.index(bit)]
	}
	return zero, false
}

// Value returns the value of key, or the zero value.
func (m Map[V]) Value(key string) V {
	v, _ := m.Load(key)
	return v
}

// With returns a map in which key has value.
func (m Map[V]) With(key string, value V) Map[V] {
	if m.root == nil {
		m.seed = maphash.MakeSeed()
	}
	e := entry[V]{hash: maphash.String(m.seed, key), key: key, value: value}
	root, added := m.root.with(e, 0)
	m.root = root
	if added {
		m.size++
	}
	return m
}

// Without returns a map that does not have key.
func (m Map[V]) Without(key string) Map[V] {
	if _, ok := m.Load(key); !ok {
		return m
	}
	m.root = m.root.without(maphash.String(m.seed, key), key, 0)
	m.size--
	return m
}

// All iterates over the entries in no particular order.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { m.root.each(yield) }
}

// Sorted iterates over the entries in the order of their keys.
func (m Map[V]) Sorted() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		plain := m.Plain()
		for _, k := range slices.Sorted(maps.Keys(plain)) {
			if !yield(k, plain[k]) {
				return
			}
		}
	}
}

// Plain returns an ordinary map with the same entries.
func (m Map[V]) Plain() map[string]V { return maps.Collect(m.All()) }

// From returns a persistent map with the entries of plain.
func From[V any](plain map[string]V) Map[V] {
	var m Map[V]
	for k, v := range plain {
		m = m.With(k, v)
	}
	return m
}

func slot(hash uint64, depth int) uint32 {
	return 1 << (hash >> (depth * bitsPerLevel) & (fanOut - 1))
}

func (n *node[V]) index(bit uint32) int { return bits.OnesCount32(n.bitmap & (bit - 1)) }

func find[V any](entries []entry[V], key string) (V, bool) {
	for i := range entries {
		if entries[i].key == key {
			return entries[i].value, true
		}
	}
	var zero V
	return zero, false
}

func (n *node[V]) with(e entry[V], depth int) (*node[V], bool) {
	switch {
	case n == nil:
		return &node[V]{entries: []entry[V]{e}}, true
	case n.entries != nil:
		return n.withEntry(e, depth)
	}
	bit := slot(e.hash, depth)
	i := n.index(bit)
	c := &node[V]{bitmap: n.bitmap | bit}
	if n.bitmap&bit == 0 {
		c.children = slices.Insert(slices.Clone(n.children), i, &node[V]{entries: []entry[V]{e}})
		return c, true
	}
	c.children = slices.Clone(n.children)
	child, added := n.children[i].with(e, depth+1)
	c.children[i] = child
	return c, added
}

// withEntry puts e into a leaf: replaces its key, joins equal hashes, or splits the leaf by the next hash bits.
func (n *node[V]) withEntry(e entry[V], depth int) (*node[V], bool) {
	if i := slices.IndexFunc(n.entries, func(o entry[V]) bool { return o.key == e.key }); i >= 0 {
		c := &node[V]{entries: slices.Clone(n.entries)}
		c.entries[i] = e
		return c, false
	}
	if depth >= maxDepth || n.entries[0].hash == e.hash {
		return &node[V]{entries: append(slices.Clone(n.entries), e)}, true
	}
	inner := &node[V]{bitmap: slot(n.entries[0].hash, depth), children: []*node[V]{n}}
	return inner.with(e, depth)
}

func (n *node[V]) without(hash uint64, key string, depth int) *node[V] {
	if n.entries != nil {
		rest := slices.DeleteFunc(slices.Clone(n.entries), func(e entry[V]) bool { return e.key == key })
		if len(rest) == 0 {
			return nil
		}
		return &node[V]{entries: rest}
	}
	bit := slot(hash, depth)
	i := n.index(bit)
	child := n.children[i].without(hash, key, depth+1)
	switch {
	case child != nil:
		c := &node[V]{bitmap: n.bitmap, children: slices.Clone(n.children)}
		c.children[i] = child
		return c
	case len(n.children) == 1:
		return nil
	}
	return &node[V]{bitmap: n.bitmap &^ bit, children: slices.Delete(slices.Clone(n.children), i, i+1)}
}

func (n *node[V]) each(yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].value) {
			return false
		}
	}
	for _, c := range n.children {
		if !c.each(yield) {
			return false
		}
	}
	return true
}
