// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marblerun/marblerun/attest/collateral/internal/cache"
	"github.com/marblerun/marblerun/attest/collateral/internal/gate"
	"github.com/marblerun/marblerun/attest/collateral/internal/item"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// Config says where a Fetcher gets collateral. The zero value asks Intel and AMD and caches in memory.
type Config struct {
	// PCCS are base URLs, e.g. "https://pccs:8081/sgx/certification/v4/", asked in this order. Empty: IntelPCS.
	PCCS []string
	// KDS is the base URL of AMD's key distribution service or of a mirror. Empty: snp.KDSURL.
	KDS string
	// Client sends the requests. Nil: one with sensible limits, which checks TLS certificates unless InsecureTLS.
	Client      *http.Client
	InsecureTLS bool

	// Update is Intel's data set: "standard" (also empty) or "early". EvaluationNumber pins one by its TCB evaluation
	// data number instead, if not 0.
	Update           string
	EvaluationNumber int

	// Dir is the folder of the disk cache, made if needed. Empty: none.
	Dir string
	// MaxFiles bounds the disk cache; 0 is 4096. MaxMemory bounds the memory cache, in bytes; 0 is 32 MiB.
	MaxFiles  int
	MaxMemory int
	// RefreshAfter is how long an item is used before it is asked for again, if it lives long enough. 0 is 24 hours.
	RefreshAfter time.Duration

	// Timeout bounds one request; 0 is 20 seconds.
	Timeout time.Duration
	// Retries is how often a call asks all services again after waiting for one that throttles or fails; MaxWait bounds
	// each wait, longer ones are not waited for. Negative is none; 0 is 2 retries, 15 seconds.
	Retries int
	MaxWait time.Duration

	// Now is the clock; nil is time.Now. Jitter gives numbers in [0, 1); nil is random.
	Now    func() time.Time
	Jitter func() float64
	// Log is told of failures; nil is silence.
	Log *slog.Logger
}

// Stats count what a Fetcher did since it was made.
type Stats struct {
	Requests   uint64 // sent
	Failures   uint64 // of those, without a usable answer
	MemoryHits uint64 // items
	DiskHits   uint64
	Stale      uint64 // items used although due, because a refresh failed
}

// Fetcher is a Source that asks the services. It is safe for concurrent use.
type Fetcher struct {
	cfg       Config
	endpoints []endpoint
	kds       string
	memory    *cache.Memory
	disk      cache.Disk

	background atomic.Int32 // Runs running
	stats      struct{ requests, failures, memoryHits, diskHits, stale atomic.Uint64 }

	mu     sync.Mutex
	hosts  map[string]*gate.Host
	calls  map[string]*call
	misses map[string]miss
	trails map[string]trail
}

var _ Source = (*Fetcher)(nil)

// New makes a Fetcher.
func New(cfg Config) (*Fetcher, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	f := &Fetcher{cfg: cfg, memory: cache.NewMemory(cfg.MaxMemory), hosts: map[string]*gate.Host{},
		calls: map[string]*call{}, misses: map[string]miss{}, trails: map[string]trail{}}
	for _, base := range cfg.PCCS {
		ep, err := newEndpoint(base)
		if err != nil {
			return nil, err
		}
		f.endpoints = append(f.endpoints, ep)
	}
	kds, err := parseBase(cfg.KDS)
	if err != nil {
		return nil, fmt.Errorf("KDS: %w", err)
	}
	f.kds = kds.String()
	if f.kds == snp.KDSURL { // AMD throttles hard; a mirror says itself what it can take (429)
		f.hosts[kds.Host] = &gate.Host{Name: kds.Host, Interval: gate.KDSInterval}
	}
	f.disk, err = cache.OpenDisk(cfg.Dir, cfg.MaxFiles)
	return f, err
}

// fill sets the defaults.
func (c *Config) fill() error {
	if len(c.PCCS) == 0 {
		c.PCCS = []string{IntelPCS}
	}
	orDefault(&c.KDS, snp.KDSURL)
	orDefault(&c.Update, "standard")
	orDefault(&c.MaxFiles, 4096)
	orDefault(&c.MaxMemory, 32<<20)
	orDefault(&c.RefreshAfter, 24*time.Hour)
	orDefault(&c.Timeout, 20*time.Second)
	orDefault(&c.Retries, 2)
	orDefault(&c.MaxWait, 15*time.Second)
	if c.Update != "standard" && c.Update != "early" {
		return fmt.Errorf("TCB update type %q: want standard or early", c.Update)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		c.Client = newClient(c.InsecureTLS)
	}
	return nil
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// newClient makes a client with bounds. Without TLS checks a stranger on the way can only spoil availability: what is
// fetched is signed.
func newClient(insecure bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    2,
		MaxResponseHeaderBytes: 256 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure},
	}}
}

// Stats returns the counters.
func (f *Fetcher) Stats() Stats {
	s := &f.stats
	return Stats{s.requests.Load(), s.failures.Load(), s.memoryHits.Load(), s.diskHits.Load(), s.stale.Load()}
}

// DCAP gets the collateral of a quote, all from one service.
func (f *Fetcher) DCAP(ctx context.Context, need DCAPNeed) (*dcap.Collateral, error) {
	return f.dcap(ctx, need, dataset{f.cfg.Update, f.cfg.EvaluationNumber})
}

// Early gets the collateral with Intel's early data set: how the platform will be rated when the standard one catches
// up. It must not decide anything now.
func (f *Fetcher) Early(ctx context.Context, need DCAPNeed) (*dcap.Collateral, error) {
	return f.dcap(ctx, need, dataset{update: "early"})
}

// SNP gets the certificates of an SNP report.
func (f *Fetcher) SNP(ctx context.Context, need SNPNeed) (snp.Certificates, error) {
	return f.snp(ctx, need, func(item.Kind, string, []byte) {})
}

func (f *Fetcher) snp(ctx context.Context, need SNPNeed, note func(item.Kind, string, []byte)) (
	snp.Certificates, error) {
	admit := admission(need.Admit)
	certs, err := assemble(need, f.kds == snp.KDSURL, func(k item.Kind, path string) ([]byte, error) {
		rq := f.request(k, f.kds+path)
		var it *item.Item
		err := f.patiently(ctx, func() (err error) {
			it, err = f.item(ctx, rq, admit)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s from %s: %w", k, rq.host.Name, err)
		}
		note(k, path, it.Body)
		return it.Body, nil
	})
	return certs, admitted(err)
}

// admitted unwraps the error of Admit.
func admitted(err error) error {
	if no := (notAdmitted{}); errors.As(err, &no) {
		return no.error
	}
	return err
}

// patiently tries again as long as waiting for a host may help.
func (f *Fetcher) patiently(ctx context.Context, try func() error) error {
	for attempt := 0; ; attempt++ {
		err := try()
		if !errors.Is(err, ErrUnavailable) || attempt >= f.cfg.Retries {
			return err
		}
		wait := soonest(err).Sub(f.cfg.Now())
		if wait > f.cfg.MaxWait || soonest(err).IsZero() || !sleep(ctx, wait) {
			return err
		}
	}
}

// soonest is when the first of the hosts in an error may be asked again; zero if none tells.
func soonest(err error) (at time.Time) {
	if u, ok := err.(*gate.Unavailable); ok { // the first in each branch counts: its cause is older
		return u.Until
	}
	var inner []error
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	}
	for _, one := range inner {
		if t := soonest(one); at.IsZero() || !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// sleep waits unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// request is one URL and the kind of collateral there.
type request struct {
	kind item.Kind
	url  string
	host *gate.Host
}

func (f *Fetcher) request(k item.Kind, address string) request {
	name := "the collateral service"
	if u, err := url.Parse(address); err == nil {
		name = u.Host
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hosts[name]
	if h == nil {
		h = &gate.Host{Name: name}
		f.hosts[name] = h
	}
	return request{k, address, h}
}
