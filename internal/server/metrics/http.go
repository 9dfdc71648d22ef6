// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"net/http"
)

// ServeHTTP answers /metrics and /events, plain and without authentication; 404 for all else.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/metrics":
		m.serveMetrics(w, r)
	case "/events":
		w.Header().Set("Content-Type", "application/json")
		_ = m.events.write(w) // the scraper went away
	default:
		http.NotFound(w, r)
	}
}

func (m *Metrics) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	m.scrapesInFlight.add(1)
	defer m.scrapesInFlight.add(-1)
	var body bytes.Buffer
	if err := m.Write(&body); err != nil {
		m.scrapes.add(1, "500")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	m.scrapes.add(1, "200")
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // the scraper went away
}
