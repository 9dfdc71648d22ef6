// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

// Whatever a stranger sends, the answer is an envelope with a status code of the contract.
func FuzzRequests(f *testing.F) {
	for _, r := range failures {
		path, query, _ := strings.Cut(r.path, "?")
		f.Add(r.method, path, query, []byte(r.body))
	}
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		f := &fake{features: []string{"SignQuoteEndpoint"}, err: refuse(coordinator.Invalid, "no")}
		api := New(Config{Coordinator: f, Log: slog.New(slog.DiscardHandler)})
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", bytes.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		api.ServeHTTP(w, r)
		if w.Code == http.StatusTemporaryRedirect {
			if to := w.Header().Get("Location"); !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
				t.Errorf("redirected to %q", to)
			}
			return
		}
		var e wire.Response
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || !bytes.HasSuffix(w.Body.Bytes(), []byte("\n")) {
			t.Fatalf("%v in %q", err, w.Body)
		}
		kinds := map[int]string{
			200: "success", 400: "fail", 401: "error fail", 403: "error", 404: "error", 405: "error", 410: "error", 500: "error",
		}
		if path == v2+"/ready" {
			kinds[503] = "error"
		}
		if w.Code == 400 && !strings.HasPrefix(path, v2) {
			kinds[400] = "error"
		}
		if kind, ok := kinds[w.Code]; !ok || !strings.Contains(kind, e.Status) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
