// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/cache"
	"github.com/marblerun/marblerun/attest/collateral/internal/gate"
	"github.com/marblerun/marblerun/attest/collateral/internal/item"
)

// How long what a service lacks, or what it serves that is of no use, is not asked for again.
const (
	unknownFor = 10 * time.Minute
	uselessFor = time.Minute
)

// miss is an answer that there is nothing.
type miss struct {
	err   error
	until time.Time
}

// call is a request under way, which several may wait for.
type call struct {
	done chan struct{}
	item *item.Item
	err  error
}

// item gets an item from memory, disk or its service.
func (f *Fetcher) item(ctx context.Context, rq request, admit func() error) (*item.Item, error) {
	now := f.cfg.Now()
	it, due := f.cached(rq, now)
	if it != nil && !due {
		return it, nil
	}
	if err := f.missed(rq, now); err != nil {
		return f.orStale(it, err)
	}
	if it == nil {
		if err := admit(); err != nil {
			return nil, err
		}
	}
	fresh, err := f.fetchOnce(ctx, rq, it)
	if err != nil {
		return f.orStale(it, err)
	}
	return fresh, nil
}

// orStale is the item that is still valid, although it is due, or the reason why there is no new one.
func (f *Fetcher) orStale(it *item.Item, err error) (*item.Item, error) {
	if it == nil {
		return nil, err
	}
	f.stats.stale.Add(1)
	return it, nil
}

// cached returns a valid item and whether it is to be asked for again. What is due is left to Run if that is running.
func (f *Fetcher) cached(rq request, now time.Time) (it *item.Item, due bool) {
	e, ok := f.memory.Get(rq.url, now)
	if ok {
		f.stats.memoryHits.Add(1)
	} else if it, fetched := f.disk.Load(rq.url, rq.kind); it != nil {
		f.stats.diskHits.Add(1)
		e = f.entry(rq, it, fetched)
		e.Used = now
		f.memory.Put(e, now)
	}
	if e.Item == nil || !e.Item.Covers(now) {
		return nil, false
	}
	late := !e.Refresh.IsZero() && !e.Refresh.After(now)
	return e.Item, e.Suspect || late && f.background.Load() == 0
}

// entry decides when an item is asked for again.
func (f *Fetcher) entry(rq request, it *item.Item, fetched time.Time) cache.Entry {
	e := cache.Entry{URL: rq.url, Item: it}
	if !it.Next.IsZero() {
		life := min(f.cfg.RefreshAfter, it.Next.Sub(fetched)/2)
		e.Refresh = fetched.Add(time.Duration(float64(life) * (0.8 + 0.2*f.cfg.Jitter())))
	}
	return e
}

func (f *Fetcher) missed(rq request, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.misses[rq.url]
	switch {
	case !ok:
		return nil
	case now.Before(m.until):
		return m.err
	}
	delete(f.misses, rq.url)
	return nil
}

func (f *Fetcher) miss(rq request, m miss) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.misses) >= maxNotes {
		clear(f.misses)
	}
	f.misses[rq.url] = m
	return m.err
}

// fetchOnce asks the service, or waits for another call that does. The request outlives the caller's context, since
// others may wait for it, but not its timeout. had is what the caller found; if there is something else meanwhile, a call
// has just ended, and that is it.
func (f *Fetcher) fetchOnce(ctx context.Context, rq request, had *item.Item) (*item.Item, error) {
	f.mu.Lock()
	c := f.calls[rq.url]
	if it := f.memory.Peek(rq.url); c == nil && it != nil && it != had && it.Covers(f.cfg.Now()) {
		f.mu.Unlock()
		return it, nil
	}
	if c == nil {
		c = &call{done: make(chan struct{})}
		f.calls[rq.url] = c
		go f.run(context.WithoutCancel(ctx), rq, c)
	}
	f.mu.Unlock()
	select {
	case <-c.done:
		return c.item, c.err
	case <-ctx.Done():
		return nil, &gate.Unavailable{Text: "waiting for " + rq.host.Name, Cause: context.Cause(ctx)}
	}
}

func (f *Fetcher) run(ctx context.Context, rq request, c *call) {
	c.item, c.err = f.fetch(ctx, rq)
	f.mu.Lock()
	delete(f.calls, rq.url)
	f.mu.Unlock()
	close(c.done)
}

// fetch asks the service and keeps what it says.
func (f *Fetcher) fetch(ctx context.Context, rq request) (*item.Item, error) {
	wait, err := rq.host.Enter(f.cfg.Now())
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		sleep(ctx, wait) // ctx does not end
		if err := rq.host.Blocked(f.cfg.Now()); err != nil {
			return nil, err
		}
	}
	f.stats.requests.Add(1)
	it, err := f.ask(ctx, rq)
	if err != nil {
		f.stats.failures.Add(1)
		f.cfg.Log.Warn("fetching collateral failed", "kind", string(rq.kind), "host", rq.host.Name, "error", err)
		return nil, err
	}
	now := f.cfg.Now()
	e := f.entry(rq, it, now)
	e.Used = now
	if kept := f.memory.Put(e, now); kept != it {
		return kept, nil
	}
	if err := f.disk.Save(rq.url, it, now); err != nil {
		f.cfg.Log.Warn("collateral is not kept on disk", "error", err)
	}
	return it, nil
}

// ask sends the request and reads the answer.
func (f *Fetcher) ask(ctx context.Context, rq request) (*item.Item, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, rq.url, nil)
	if err != nil {
		return nil, &gate.Unavailable{Text: "making the request", Cause: err}
	}
	resp, err := f.cfg.Client.Do(hr)
	if err != nil {
		return nil, f.failed(rq, nil, fmt.Errorf("asking: %w", err))
	}
	defer resp.Body.Close() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, item.MaxSize+1))
	if err != nil {
		return nil, f.failed(rq, nil, fmt.Errorf("reading the answer: %w", err))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, f.refused(rq, resp)
	}
	rq.host.Answered()
	return f.accept(rq, body, resp.Header)
}

// accept makes an item of an answer. One that cannot be read or has expired is a matter of this URL, not of the host.
func (f *Fetcher) accept(rq request, body []byte, header http.Header) (*item.Item, error) {
	now := f.cfg.Now()
	chain, err := item.IssuerChain(header)
	var it *item.Item
	if err == nil {
		it, err = item.Read(rq.kind, body, chain)
	}
	if err == nil && !it.Covers(now) {
		err = fmt.Errorf("what is served has expired at %s", it.Next.UTC().Format(time.RFC3339))
	}
	if err != nil {
		until := now.Add(uselessFor)
		return nil, f.miss(rq, miss{&gate.Unavailable{Text: "the answer is of no use", Cause: err, Until: until}, until})
	}
	return it, nil
}

// refused sorts the statuses: some say that there is nothing, the others that this is not the time.
func (f *Fetcher) refused(rq request, resp *http.Response) error {
	status := fmt.Errorf("HTTP status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	known := ErrUnknown
	switch code := resp.StatusCode; {
	case code == http.StatusGone:
		known = ErrWithdrawn
	case code == http.StatusTooManyRequests, code == http.StatusUnauthorized, code == http.StatusForbidden,
		code == http.StatusRequestTimeout, code < 400, code >= 500:
		return f.failed(rq, resp.Header, status)
	}
	rq.host.Answered()
	return f.miss(rq, miss{fmt.Errorf("%w (%w)", known, status), f.cfg.Now().Add(unknownFor)})
}

// failed leaves the host alone for a while.
func (f *Fetcher) failed(rq request, header http.Header, cause error) error {
	now := f.cfg.Now()
	until := rq.host.Failed(now, cause, gate.RetryAfter(header, now), 0.8+0.4*f.cfg.Jitter())
	return &gate.Unavailable{Text: rq.host.Name, Cause: cause, Until: until}
}

// Run asks for what is due again before it expires, until ctx ends. While it runs, nobody waits for a refresh.
func (f *Fetcher) Run(ctx context.Context) error {
	f.background.Add(1)
	defer f.background.Add(-1)
	for sleep(ctx, f.refresh(ctx)) {
	}
	<-ctx.Done()
	return nil
}

// refresh asks for what is due and returns how long to wait until the next time.
func (f *Fetcher) refresh(ctx context.Context) time.Duration {
	const least, most = 10 * time.Second, 10 * time.Minute
	now := f.cfg.Now()
	due, next := f.memory.Due(now)
	wait := most
	for _, e := range due {
		rq := f.request(e.Item.Kind, e.URL)
		if f.missed(rq, now) == nil && rq.host.Blocked(now) == nil && ctx.Err() == nil {
			_, err := f.fetchOnce(ctx, rq, e.Item) // logged there; what there is stays in use
			if err == nil || errors.Is(err, ErrUnknown) {
				continue
			}
		}
		wait = least
	}
	if !next.IsZero() {
		wait = min(wait, next.Sub(now))
	}
	return max(wait, least)
}
