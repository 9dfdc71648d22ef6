// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func testMetrics() *Metrics {
	return New(Options{
		Version: "1.2.3", Commit: "abc",
		State: func() int { return 3 },
		Manifest: func() ([]byte, string) {
			return []byte(`{"Marbles":{"web":{},"say \"hi\"\\\n":{}}}`), "fp"
		},
	})
}

func get(m *Metrics, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// The golden file is what a scraper sees; names, types and labels are the contract's.
func TestExposition(t *testing.T) {
	m := testMetrics()
	m.Activation("web")(codes.OK, "u1", []byte("evidence"))
	m.Activation("web")(codes.PermissionDenied, "", nil)
	m.Activation("stranger's choice")(codes.PermissionDenied, "", nil)
	m.Activation("say \"hi\"\\\n")(codes.Internal, "", nil)
	m.Request("/api/v2/status")("GET", 200, 120, 1000, 4*time.Millisecond)
	m.Request("/api/v2/status")("GET", 200, 120, 1001, 5*time.Millisecond)
	m.Request("")("BREW", 405, 12_345, 40, 6*time.Second)
	m.Request("/manifest") // still running

	w := get(m, "GET", "/metrics")
	if ct := w.Header().Get("Content-Type"); ct != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", ct)
	}
	golden, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), w.Body.String()); diff != "" {
		t.Errorf("testdata/metrics.txt (-want +got):\n%s", diff)
	}
}

// Before anything happens, what dashboards compute rates of is there as 0, and no series that names a caller.
func TestStartsAtZero(t *testing.T) {
	body := get(testMetrics(), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`grpc_server_started_total{grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 0`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 0`,
		`grpc_server_handled_total{grpc_code="Unauthenticated",grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 0`,
		`grpc_server_msg_received_total{grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 0`,
		`grpc_server_msg_sent_total{grpc_method="Activate",grpc_service="rpc.Marble",grpc_type="unary"} 0`,
		`coordinator_state 3`,
		`coordinator_version_info{commit="abc",version="1.2.3"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	if strings.Contains(body, "coordinator_marble_activations") || strings.Contains(body, "go_") {
		t.Errorf("unexpected series in\n%s", body)
	}
}

func TestLabelsAreBounded(t *testing.T) {
	m := testMetrics()
	for i := range 5000 {
		m.Activation(fmt.Sprint("type", i))(codes.PermissionDenied, "", nil)
		m.Request("")(fmt.Sprint("METHOD", i), 405, 0, 0, 0)
	}
	if n := len(m.attempts.series); n != 1 {
		t.Errorf("%d series of attempts, want 1", n)
	}
	if n := len(m.requests.series); n != 1 {
		t.Errorf("%d series of requests, want 1", n)
	}
}

func TestTypesFollowTheManifest(t *testing.T) {
	raw, fingerprint := []byte(nil), ""
	types := marbleTypes{manifest: func() ([]byte, string) { return raw, fingerprint }}
	expect := func(marbleType, want string) {
		t.Helper()
		if got := types.label(marbleType); got != want {
			t.Errorf("label of %q is %q, want %q", marbleType, got, want)
		}
	}
	expect("a", "unknown")
	raw, fingerprint = []byte(`{"Marbles":{"a":{"Package":"p"}}}`), "1"
	expect("a", "a")
	expect("A", "unknown")
	raw, fingerprint = []byte(`{"Marbles":{"b":{}}}`), "2"
	expect("a", "unknown")
	expect("b", "b")

	many := map[string]any{}
	for i := range maxTypes + 1 {
		many[fmt.Sprint(i)] = nil
	}
	raw, _ = json.Marshal(map[string]any{"Marbles": many})
	fingerprint = "3"
	expect("7", "other")
	expect("x", "unknown")
}

func TestEventsAreTheContracts(t *testing.T) {
	m := testMetrics()
	if got := get(m, "GET", "/events").Body.String(); got != "[]\n" {
		t.Errorf("empty log is %q", got)
	}
	m.Activation("web")(codes.Internal, "", []byte("never shown"))
	m.Activation("web")(codes.OK, "u1", []byte("quote"))
	m.Activation("web")(codes.OK, "u2", nil)
	var got []map[string]any
	if err := json.Unmarshal(get(m, "DELETE", "/events").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		if at, err := time.Parse(time.RFC3339Nano, e["time"].(string)); err != nil || at.Location() != time.UTC {
			t.Errorf("time %v", e["time"])
		}
		delete(e, "time")
	}
	want := []map[string]any{
		{"activation": map[string]any{"marbleType": "web", "uuid": "u1", "quote": "cXVvdGU="}},
		{"activation": map[string]any{"marbleType": "web", "uuid": "u2", "quote": nil}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEventsAreBounded(t *testing.T) {
	var l events
	for i := range 3 * maxEvents {
		l.add("web", fmt.Sprint(i), nil)
	}
	if n := len(l.log); n != maxEvents {
		t.Errorf("%d events", n)
	}
	if last := l.log[maxEvents-1].Activation.UUID; last != fmt.Sprint(3*maxEvents-1) {
		t.Errorf("the newest event is %s", last)
	}
	for range 400 {
		l.add("web", "u", make([]byte, 64<<10))
	}
	size := 0
	for _, e := range l.log {
		size += e.size()
	}
	if size != l.size || size > maxEventBytes || size < maxEventBytes-(65<<10) {
		t.Errorf("%d bytes (counted %d), want close to and at most %d", size, l.size, maxEventBytes)
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	m := testMetrics()
	if code := get(m, "GET", "/").Code; code != http.StatusNotFound {
		t.Errorf("GET / = %d", code)
	}
	if code := get(m, "POST", "/metrics").Code; code != http.StatusMethodNotAllowed {
		t.Errorf("POST /metrics = %d", code)
	}
}
