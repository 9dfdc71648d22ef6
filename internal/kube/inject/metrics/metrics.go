// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package metrics counts what the injector does and shows it to Prometheus, in the text exposition format 0.0.4. All
// metric names of the injector live here; docs/reference/injector.md lists them.
//
// Invariant: labels are bounded. They are outcomes and results, never something that a Pod or a stranger chose.
package metrics

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject"
)

// Metrics are the injector's. All methods may be called by many goroutines at once.
type Metrics struct {
	version, commit string

	mu               sync.Mutex
	reviews          map[inject.Outcome]uint64
	warnings         uint64
	buckets          []uint64 // of durations, not cumulative
	seconds          float64
	observed         uint64
	failedHandshakes uint64
	certificates     map[string]uint64 // replaced or refused
	notAfter         map[string]time.Time
}

// bounds of the duration buckets, in seconds. The API server waits for 10 s unless told otherwise.
func bounds() []float64 { return []float64{0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 10} }

// New returns metrics whose counters are all 0.
func New(version, commit string) *Metrics {
	return &Metrics{
		version: version, commit: commit, buckets: make([]uint64, len(bounds())),
		reviews: map[inject.Outcome]uint64{
			inject.Patched: 0, inject.Unchanged: 0, inject.Denied: 0, inject.Skipped: 0, inject.Malformed: 0,
		},
		certificates: map[string]uint64{"ok": 0, "failed": 0},
		notAfter:     map[string]time.Time{},
	}
}

// Reviewed counts an answered review.
func (m *Metrics) Reviewed(outcome inject.Outcome, warnings int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.reviews[outcome]; known {
		m.reviews[outcome]++
	}
	m.warnings += uint64(warnings)
	m.seconds += took.Seconds()
	m.observed++
	if i, _ := slices.BinarySearch(bounds(), took.Seconds()); i < len(m.buckets) {
		m.buckets[i]++ // the first bound that is not below
	}
}

// HandshakeFailed counts a TLS handshake that did not succeed.
func (m *Metrics) HandshakeFailed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failedHandshakes++
}

// Certificate tells that another serving certificate is in use, and when it expires. ca is when its own CA does; zero
// if the CA is somebody else's.
func (m *Metrics) Certificate(notAfter, ca time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.certificates["ok"]++
	m.notAfter["serving"] = notAfter
	if !ca.IsZero() {
		m.notAfter["ca"] = ca
	}
}

// CertificateFailed counts a failure to look after the serving certificate; the one in use stays.
func (m *Metrics) CertificateFailed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.certificates["failed"]++
}

// ServeHTTP answers GET /metrics; 404 for all else.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(m.text()) // the scraper went away
}

func (m *Metrics) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t text
	t.head("marble_injector_version_info", "gauge", "Version of the program; always 1.")
	t.line("marble_injector_version_info", fmt.Sprintf("{version=%q,commit=%q}", m.version, m.commit), "1")
	t.head("marble_injector_reviews_total", "counter", "Admission reviews by outcome.")
	t.counts("marble_injector_reviews_total", "outcome", labels(m.reviews))
	t.head("marble_injector_warnings_total", "counter", "Warnings in answers.")
	t.line("marble_injector_warnings_total", "", strconv.FormatUint(m.warnings, 10))
	m.durations(&t)
	t.head("marble_injector_tls_handshakes_failed_total", "counter", "TLS handshakes that did not succeed.")
	t.line("marble_injector_tls_handshakes_failed_total", "", strconv.FormatUint(m.failedHandshakes, 10))
	t.head("marble_injector_certificate_updates_total", "counter",
		"Serving certificates taken into use, or not.")
	t.counts("marble_injector_certificate_updates_total", "result", m.certificates)
	t.head("marble_injector_certificate_not_after_seconds", "gauge",
		"When certificates expire, in seconds since 1970.")
	expiry := map[string]uint64{}
	for which, at := range m.notAfter {
		expiry[which] = uint64(max(at.Unix(), 0))
	}
	t.counts("marble_injector_certificate_not_after_seconds", "certificate", expiry)
	return t.Bytes()
}

func (m *Metrics) durations(t *text) {
	const name = "marble_injector_review_duration_seconds"
	t.head(name, "histogram", "How long reviews took, from their headers to the answer.")
	var sum uint64
	for i, bound := range bounds() {
		sum += m.buckets[i]
		t.line(name+"_bucket", `{le="`+strconv.FormatFloat(bound, 'g', -1, 64)+`"}`, strconv.FormatUint(sum, 10))
	}
	t.line(name+"_bucket", `{le="+Inf"}`, strconv.FormatUint(m.observed, 10))
	t.line(name+"_sum", "", strconv.FormatFloat(m.seconds, 'g', -1, 64))
	t.line(name+"_count", "", strconv.FormatUint(m.observed, 10))
}

func labels(counts map[inject.Outcome]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for o, n := range counts {
		out[string(o)] = n
	}
	return out
}

// text is the exposition format being written.
type text struct{ bytes.Buffer }

func (t *text) head(name, kind, help string) {
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (t *text) line(name, braces, value string) { fmt.Fprintf(t, "%s%s %s\n", name, braces, value) }

func (t *text) counts(name, label string, counts map[string]uint64) {
	for _, value := range slices.Sorted(maps.Keys(counts)) {
		t.line(name, fmt.Sprintf("{%s=%q}", label, value), strconv.FormatUint(counts[value], 10))
	}
}
