// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"sync"
	"sync/atomic"
	"time"
)

// Turnstile admits a bounded number of holders. When it is full, the holder that has been waiting for its peer the longest
// is sent away, if that is at least the grace: so strangers who hold places without using them cost honest callers at most
// one grace each, while holders that are at work themselves (see Pass.Busy) are never sent away.
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
	at   *Turnstile
	kick func()
	// waiting is since when the holder waits for its peer, in Unix nanoseconds; 0 while it is at work.
	waiting atomic.Int64
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
		oldest, since := t.oldest()
		if oldest == nil {
			return t.grace, false
		}
		if wait := t.grace - now.Sub(time.Unix(0, since)); wait > 0 {
			return wait, false
		}
		delete(t.holders, oldest)
		oldest.kick()
	}
	p.waiting.Store(now.UnixNano())
	t.holders[p] = struct{}{}
	if len(t.holders) < t.places {
		t.wake() // the next one in line need not wait for its timer
	}
	return 0, true
}

// oldest returns the holder that has waited for its peer the longest, and since when.
func (t *Turnstile) oldest() (oldest *Pass, since int64) {
	for p := range t.holders {
		if w := p.waiting.Load(); w != 0 && (oldest == nil || w < since) {
			oldest, since = p, w
		}
	}
	return oldest, since
}

func (t *Turnstile) wake() {
	select {
	case t.left <- struct{}{}:
	default:
	}
}

// Enter waits for a place. It returns false once stop is closed.
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
	p.at.wake()
}

// Wait says that the holder waits for its peer from now on. That is also so after entering.
func (p *Pass) Wait() { p.waiting.Store(time.Now().UnixNano()) }

// Busy says that the holder is at work until the next Wait.
func (p *Pass) Busy() { p.waiting.Store(0) }

// Touch starts the wait anew, if the holder is waiting.
func (p *Pass) Touch() {
	if since := p.waiting.Load(); since != 0 {
		p.waiting.CompareAndSwap(since, time.Now().UnixNano())
	}
}

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
