// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"sync"
	"sync/atomic"
	"time"
)

// Turnstile admits a bounded number of holders. When it is full, the holder that has been quiet the longest is sent away
// if it has been quiet for at least the grace: so strangers who hold places without using them cost honest callers at most
// one grace, and honest callers who are making progress are never sent away.
//
// The zero value is not usable; call NewTurnstile.
type Turnstile struct {
	places int
	grace  time.Duration

	mu      sync.Mutex
	holders map[*Pass]struct{}
	// left has a token when a place has become free since the last look.
	left chan struct{}
}

// NewTurnstile returns a turnstile with the given number of places.
func NewTurnstile(places int, grace time.Duration) *Turnstile {
	return &Turnstile{
		places: places, grace: grace,
		holders: make(map[*Pass]struct{}), left: make(chan struct{}, 1),
	}
}

// Pass is a place in a Turnstile.
type Pass struct {
	at    *Turnstile
	kick  func()
	quiet atomic.Int64 // since when, in Unix nanoseconds
}

// NewPass makes a pass for one Enter or TryEnter. kick is called, at most once, when its holder is sent away; it must not
// block and must not call the turnstile.
func (t *Turnstile) NewPass(kick func()) *Pass { return &Pass{at: t, kick: kick} }

// TryEnter takes a place if one is free or can be freed. Otherwise it returns how long to wait at most before trying again.
func (t *Turnstile) TryEnter(p *Pass) (wait time.Duration, ok bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.holders) >= t.places {
		oldest := t.oldest()
		if wait := t.grace - now.Sub(time.Unix(0, oldest.quiet.Load())); wait > 0 {
			return wait, false
		}
		delete(t.holders, oldest)
		oldest.kick()
	}
	p.quiet.Store(now.UnixNano())
	t.holders[p] = struct{}{}
	return 0, true
}

func (t *Turnstile) oldest() *Pass {
	var oldest *Pass
	for p := range t.holders {
		if oldest == nil || p.quiet.Load() < oldest.quiet.Load() {
			oldest = p
		}
	}
	return oldest
}

// Enter waits for a place. It returns false once stop is closed. Only one goroutine may wait at a time.
func (t *Turnstile) Enter(stop <-chan struct{}, p *Pass) bool {
	for {
		wait, ok := t.TryEnter(p)
		if ok {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-t.left:
		case <-timer.C:
		case <-stop:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// Leave gives the place back. Leaving twice, or after being sent away, does nothing.
func (p *Pass) Leave() {
	p.at.mu.Lock()
	defer p.at.mu.Unlock()
	if _, in := p.at.holders[p]; !in {
		return
	}
	delete(p.at.holders, p)
	select {
	case p.at.left <- struct{}{}:
	default:
	}
}

// Touch says that the holder is not quiet.
func (p *Pass) Touch() { p.quiet.Store(time.Now().UnixNano()) }

// Held is the number of places taken.
func (t *Turnstile) Held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.holders)
}

// sendAllAway empties the turnstile.
func (t *Turnstile) sendAllAway() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.holders {
		delete(t.holders, p)
		p.kick()
	}
}
