// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package cache keeps collateral in memory and on disk, by URL. What is there is verified on each use, so it needs no
// integrity; a file that is broken is missing.
//
// Invariants: both are bounded; in memory, older data never replaces newer unless that is suspect.
package cache

import (
	"container/list"
	"sync"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/item"
)

// idleLimit is how long an item that nobody asks for is kept fresh.
const idleLimit = 7 * 24 * time.Hour

// Memory keeps the items last used, by URL, up to a number of bytes. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	limit   int
	size    int
	entries map[string]*list.Element
	recent  list.List // of *Entry, last used first
}

// Entry is an item in memory.
type Entry struct {
	URL     string
	Item    *item.Item
	Used    time.Time
	Refresh time.Time // when to ask again; zero: never
	Suspect bool      // verification blamed it
}

// cost in bytes, bookkeeping included.
func (e *Entry) cost() int {
	return 512 + len(e.URL) + len(e.Item.Body) + len(e.Item.Signature) + len(e.Item.Chain)
}

// NewMemory makes a memory of so many bytes.
func NewMemory(limit int) *Memory {
	return &Memory{limit: limit, entries: map[string]*list.Element{}}
}

// Get returns the Entry of a URL and marks it used.
func (m *Memory) Get(url string, now time.Time) (Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[url]
	if !ok {
		return Entry{}, false
	}
	m.recent.MoveToFront(e)
	found := e.Value.(*Entry)
	found.Used = now
	return *found, true
}

// Peek returns the item of a URL, nil if there is none, and does not count as use.
func (m *Memory) Peek(url string) *item.Item {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[url]; ok {
		return e.Value.(*Entry).Item
	}
	return nil
}

// Put keeps a new item and returns what is to be used: the old one, if that is newer, valid and beyond suspicion.
func (m *Memory) Put(next Entry, now time.Time) *item.Item {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[next.URL]; ok {
		old := e.Value.(*Entry)
		if !old.Suspect && old.Item.Covers(now) && old.Item.Issued.After(next.Item.Issued) {
			next.Item = old.Item
		}
		m.size -= old.cost()
		next.Used = old.Used
		e.Value = &next
	} else {
		m.entries[next.URL] = m.recent.PushFront(&next)
	}
	m.size += next.cost()
	for m.size > m.limit && m.recent.Len() > 1 {
		last := m.recent.Remove(m.recent.Back()).(*Entry)
		m.size -= last.cost()
		delete(m.entries, last.URL)
	}
	return next.Item
}

// Suspect marks an item as one that verification refused. It returns false if there is none.
func (m *Memory) Suspect(url string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[url]
	if ok {
		e.Value.(*Entry).Suspect = true
	}
	return ok
}

// Due lists what is to be asked for again by now, and when the next one is due; zero if none is.
func (m *Memory) Due(now time.Time) (due []Entry, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := m.recent.Front(); e != nil; e = e.Next() {
		it := e.Value.(*Entry)
		switch {
		case it.Refresh.IsZero() || now.Sub(it.Used) > idleLimit:
		case !it.Refresh.After(now):
			due = append(due, *it)
		case next.IsZero() || it.Refresh.Before(next):
			next = it.Refresh
		}
	}
	return due, next
}
