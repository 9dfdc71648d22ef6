// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package gate keeps a client polite: a host that fails or throttles is left alone, as long as it says or for
// exponentially growing times, and requests to some are paced.
//
// Invariants: the queue of who waits for a turn is bounded; no clock of its own.
package gate

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Limits of how a host is treated.
const (
	firstBackoff  = time.Second
	maxBackoff    = 5 * time.Minute
	maxRetryAfter = time.Hour

	// KDSInterval: AMD's KDS allows about one request in ten seconds.
	KDSInterval = 10 * time.Second
	kdsBurst    = 3
	// maxQueue bounds how long a request waits for its turn.
	maxQueue = time.Minute
)

// Host is what is known of the mood of a service.
type Host struct {
	Name     string
	Interval time.Duration // between requests; zero: as they come

	mu       sync.Mutex
	failures int
	until    time.Time // nothing is asked before
	cause    error
	turn     time.Time // when the last request that was let in would have come, were all an interval apart
}

// Blocked returns an error if the host is to be left alone.
func (h *Host) Blocked(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !now.Before(h.until) {
		return nil
	}
	return &Unavailable{Text: h.Name + " is left alone", Cause: h.cause, Until: h.until}
}

// Enter asks to send a request now. It returns how long to wait for the turn.
func (h *Host) Enter(now time.Time) (time.Duration, error) {
	if err := h.Blocked(now); err != nil || h.Interval == 0 {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	turn := h.turn.Add(h.Interval)
	if turn.Before(now) {
		turn = now
	}
	wait := turn.Add(-(kdsBurst - 1) * h.Interval).Sub(now)
	if wait > maxQueue {
		return 0, &Unavailable{Text: "too many requests wait for " + h.Name, Until: now.Add(wait - maxQueue)}
	}
	h.turn = turn
	return max(wait, 0), nil
}

// Answered notes that the host is well.
func (h *Host) Answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.until, h.cause = 0, time.Time{}, nil
}

// Failed notes a failure and returns until when to leave the host alone: as long as it says, or for exponentially
// growing times. spread is a factor near 1.
func (h *Host) Failed(now time.Time, cause error, retryAfter time.Duration, spread float64) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = cause
	backoff := min(firstBackoff<<min(h.failures, 16), maxBackoff)
	h.failures++
	backoff = max(time.Duration(float64(backoff)*spread), min(retryAfter, maxRetryAfter))
	if until := now.Add(backoff); until.After(h.until) {
		h.until = until
	}
	return h.until
}

// RetryAfter reads the header of that name: seconds or a date.
func RetryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}

// ErrUnavailable is what every Unavailable is.
var ErrUnavailable = errors.New("collateral is unavailable")

// Unavailable says that trying again later may help, and perhaps when.
type Unavailable struct {
	Text  string
	Cause error     // may be nil
	Until time.Time // zero: not known
}

// Error says what, why and until when.
func (u *Unavailable) Error() string {
	text := u.Text
	if u.Cause != nil {
		text += ": " + u.Cause.Error()
	}
	if !u.Until.IsZero() {
		text += fmt.Sprintf(" (not asked again before %s)", u.Until.UTC().Format(time.RFC3339))
	}
	return text
}

// Is makes errors.Is find ErrUnavailable.
func (u *Unavailable) Is(target error) bool { return target == ErrUnavailable }

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Cause }
