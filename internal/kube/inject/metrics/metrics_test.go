// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/kube/inject"
)

const want = `# HELP marble_injector_version_info Version of the program; always 1.
# TYPE marble_injector_version_info gauge
marble_injector_version_info{version="1.2.3",commit="c0ffee"} 1
# HELP marble_injector_reviews_total Admission reviews by outcome.
# TYPE marble_injector_reviews_total counter
marble_injector_reviews_total{outcome="denied"} 1
marble_injector_reviews_total{outcome="malformed"} 0
marble_injector_reviews_total{outcome="patched"} 2
marble_injector_reviews_total{outcome="skipped"} 0
marble_injector_reviews_total{outcome="unchanged"} 0
# HELP marble_injector_warnings_total Warnings in answers.
# TYPE marble_injector_warnings_total counter
marble_injector_warnings_total 3
# HELP marble_injector_review_duration_seconds How long reviews took, from their headers to the answer.
# TYPE marble_injector_review_duration_seconds histogram
marble_injector_review_duration_seconds_bucket{le="0.001"} 1
marble_injector_review_duration_seconds_bucket{le="0.005"} 1
marble_injector_review_duration_seconds_bucket{le="0.02"} 1
marble_injector_review_duration_seconds_bucket{le="0.1"} 2
marble_injector_review_duration_seconds_bucket{le="0.5"} 2
marble_injector_review_duration_seconds_bucket{le="1"} 2
marble_injector_review_duration_seconds_bucket{le="5"} 2
marble_injector_review_duration_seconds_bucket{le="10"} 2
marble_injector_review_duration_seconds_bucket{le="+Inf"} 4
marble_injector_review_duration_seconds_sum 32.0635
marble_injector_review_duration_seconds_count 4
# HELP marble_injector_tls_handshakes_failed_total TLS handshakes that did not succeed.
# TYPE marble_injector_tls_handshakes_failed_total counter
marble_injector_tls_handshakes_failed_total 1
# HELP marble_injector_certificate_updates_total Serving certificates taken into use, or not.
# TYPE marble_injector_certificate_updates_total counter
marble_injector_certificate_updates_total{result="failed"} 1
marble_injector_certificate_updates_total{result="ok"} 2
# HELP marble_injector_certificate_not_after_seconds When certificates expire, in seconds since 1970.
# TYPE marble_injector_certificate_not_after_seconds gauge
marble_injector_certificate_not_after_seconds{certificate="ca"} 2000000000
marble_injector_certificate_not_after_seconds{certificate="serving"} 1900000000
`

func TestText(t *testing.T) {
	m := New("1.2.3", "c0ffee")
	m.Reviewed(inject.Patched, 2, time.Millisecond)
	m.Reviewed(inject.Patched, 1, 62500*time.Microsecond)
	m.Reviewed(inject.Denied, 0, 12*time.Second)
	m.Reviewed("invented", 0, 20*time.Second) // no label of its own
	m.HandshakeFailed()
	m.CertificateFailed()
	m.Certificate(time.Unix(1800000000, 0), time.Unix(2000000000, 0))
	m.Certificate(time.Unix(1900000000, 0), time.Time{})
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	if kind := w.Header().Get("Content-Type"); kind != "text/plain; version=0.0.4; charset=utf-8" {
		t.Error(kind)
	}
}

func TestOtherRequests(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
	}{{"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/mutate", 404}, {"HEAD", "/metrics", 200}} {
		w := httptest.NewRecorder()
		New("", "").ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}
