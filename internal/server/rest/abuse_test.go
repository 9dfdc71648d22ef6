// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/marblerun/marblerun/internal/coordinator"
)

// endless sends n bytes of a JSON string that never ends, and counts.
type endless struct {
	left int64
	sent atomic.Int64
}

func (e *endless) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), e.left))
	for i := range n {
		b[i] = 'A'
	}
	if e.sent.Load() == 0 && n >= 13 {
		copy(b, `{"manifest":"`)
	}
	e.left -= int64(n)
	e.sent.Add(int64(n))
	return n, nil
}

// Nobody makes the server read, or hold, 100 MiB.
func TestHugeBodies(t *testing.T) {
	const huge = 100 << 20
	s := start(t, &fake{features: []string{"SignQuoteEndpoint", "MonotonicCounter"}})
	tests := []struct {
		method, path string
		client       *http.Client
		limit        int64
		message      string
	}{
		{"POST", "/manifest", s.stranger, maxManifestV1, "bad request: the body is larger than 16 MiB"},
		{"POST", "/api/v2/manifest", s.stranger, maxManifestV2, "bad request: the body is larger than 24 MiB"},
		{"POST", "/update", s.alice, maxManifestV1, "bad request: the body is larger than 16 MiB"},
		{"POST", "/api/v2/update-manifest", s.alice, maxManifestV2, "bad request: the body is larger than 24 MiB"},
		{"POST", "/secrets", s.alice, maxSecrets, "bad request: the body is larger than 4 MiB"},
		{"POST", "/api/v2/secrets", s.alice, maxSecrets, "bad request: the body is larger than 4 MiB"},
		{"POST", "/api/v2/recover", s.stranger, maxRecover, "bad request: unexpected EOF"},
		{"POST", "/api/v2/sign-quote", s.stranger, maxSmall, "bad request: the body is larger than 64 KiB"},
		{"POST", "/api/v2/monotonic-counter", s.marble, maxSmall, "bad request: the body is larger than 64 KiB"},
		{"POST", "/api/v2/secrets", s.stranger, 0, "unauthorized user: client certificate did not match any MarbleRun users"},
		{"GET", "/api/v2/status", s.stranger, 0, ""},
		{"POST", "/nothing", s.stranger, 0, ""},
	}
	for _, tt := range tests {
		for _, announced := range []int64{huge, -1} {
			t.Run(fmt.Sprint(tt.method, tt.path, tt.limit, " announced ", announced), func(t *testing.T) {
				body := &endless{left: huge}
				before := allocated()
				got := send(t, tt.client, tt.method, s.url+tt.path, body, announced)
				if tt.limit > 0 && got.code != 400 || !strings.Contains(got.body, `"message":"`+tt.message) && tt.message != "" {
					t.Errorf("%d %s", got.code, got.body)
				}
				// Buffers of the sockets and of HTTP/2 come on top of what the server reads.
				if sent := body.sent.Load(); sent > tt.limit+(16<<20) {
					t.Errorf("the server took %d bytes, the limit is %d", sent, tt.limit)
				}
				// The client's allocations are counted too.
				if grown := allocated() - before; grown > 2*tt.limit+(24<<20) {
					t.Errorf("%d bytes allocated for a limit of %d", grown, tt.limit)
				}
			})
		}
	}
	if got := s.do(t, s.stranger, "GET", "/api/v2/status", ""); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}

// send sends a body over HTTP/2, which delivers early answers reliably.
func send(t *testing.T, client *http.Client, method, url string, body io.Reader, announced int64) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, io.NopCloser(body))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = announced
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// A body at the limit is read whole, one byte more is refused.
func TestLimitsAreExact(t *testing.T) {
	s := start(t, &fake{})
	for extra, want := range map[int]int{0: 200, 1: 400} {
		body := strings.Repeat(" ", maxManifestV1+extra)
		if got := s.do(t, s.stranger, "POST", "/manifest", body); got.code != want {
			t.Errorf("%d bytes: %d %s", len(body), got.code, got.body)
		}
	}
	if n := len(s.asked()[0].(string)); n != maxManifestV1 {
		t.Errorf("the Coordinator got %d bytes", n)
	}
}

// client-api.md §1: the body of recover is cut; what comes after the cut does not matter if the JSON value is before it.
func TestRecoverIsCut(t *testing.T) {
	s := start(t, &fake{})
	whole := `{"recoverySecret":"YQ=="}` + strings.Repeat(" ", 2*maxRecover)
	if got := s.do(t, s.stranger, "POST", "/api/v2/recover", whole); got.code != 200 {
		t.Errorf("value before the cut: %d %s", got.code, got.body)
	}
	secret := base64.StdEncoding.EncodeToString(make([]byte, maxRecover))
	got := s.do(t, s.stranger, "POST", "/api/v2/recover", `{"recoverySecret":"`+secret+`"}`)
	if want := `{"status":"fail","data":null,"message":"bad request: unexpected EOF"}` + "\n"; got.code != 400 || got.body != want {
		t.Errorf("value over the cut: %d %s", got.code, got.body)
	}
}

// All bodies together share their memory; small ones are not affected when it is used up.
func TestBodiesShareMemory(t *testing.T) {
	s := start(t, &fake{})
	s.api.memory.free = 1 << 20
	big := strings.Repeat(" ", 4<<20)
	if got := s.do(t, s.stranger, "POST", "/manifest", big); got.code != http.StatusServiceUnavailable {
		t.Errorf("big: %d %s", got.code, got.body)
	}
	if got := s.do(t, s.stranger, "POST", "/manifest", big[:freeBody]); got.code != 200 {
		t.Errorf("small: %d %s", got.code, got.body)
	}
	if free := s.api.memory.free; free != 1<<20 {
		t.Errorf("%d bytes were not given back", 1<<20-free)
	}
}

// A connection that ends in the middle of a body is no request.
func TestTruncatedBodiesAreNotProcessed(t *testing.T) {
	s := start(t, &fake{})
	for _, head := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		c := dialTLS(t, s.addr, "http/1.1")
		body := "{}"
		if strings.Contains(head, "chunked") {
			body = "2\r\n{}\r\n"
		}
		if _, err := fmt.Fprintf(c, "POST /manifest HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", head, body); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		reply, _ := io.ReadAll(c)
		if strings.Contains(string(reply), "200 OK") {
			t.Errorf("%s: %s", head, reply)
		}
	}
	if asked := s.asked(); len(asked) != 0 {
		t.Errorf("the Coordinator was asked %v", asked)
	}
}

func TestExpensiveEndpointsHaveGates(t *testing.T) {
	working, release := make(chan struct{}, 100), make(chan struct{})
	f := &fake{work: func(context.Context) { working <- struct{}{}; <-release }}
	s := start(t, f)
	s.api.gates.manifest = newGate(1, 1)
	answers := make(chan int, 3)
	post := func() {
		resp, err := s.stranger.Post(s.url+"/manifest", "", strings.NewReader("{}"))
		if err != nil {
			answers <- 0
			return
		}
		_ = resp.Body.Close()
		answers <- resp.StatusCode
	}
	go post()
	<-working
	go post()
	for len(s.api.gates.manifest.all) < 2 {
		runtime.Gosched()
	}
	if got := s.do(t, s.stranger, "POST", "/manifest", "{}"); got.code != http.StatusServiceUnavailable {
		t.Errorf("third: %d %s", got.code, got.body)
	}
	if got := s.do(t, s.stranger, "GET", "/api/v2/status", ""); got.code != 200 {
		t.Errorf("status meanwhile: %d", got.code)
	}
	close(release)
	for range 2 {
		if code := <-answers; code != 200 {
			t.Errorf("%d", code)
		}
	}
}

func TestPanicsEndTheirRequestOnly(t *testing.T) {
	f := &fake{work: func(context.Context) { panic("the secret is swordfish") }}
	s := start(t, f)
	for _, client := range []*http.Client{s.stranger, httpClient(t, false)} {
		got := s.do(t, client, "POST", "/manifest", "{}")
		want := `{"status":"error","data":null,"message":"internal error, see the Coordinator's log (request ` +
			got.header.Get("X-Request-Id") + `)"}` + "\n"
		if got.code != 500 || got.body != want {
			t.Errorf("%d %s", got.code, got.body)
		}
	}
	if log := s.log.String(); strings.Contains(log, "swordfish") || !strings.Contains(log, "abuse_test.go") {
		t.Errorf("the log has the value, or not the place: %s", log)
	}
	if got := s.do(t, s.stranger, "GET", "/api/v2/status", ""); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func TestRubbishDoesNotHurt(t *testing.T) {
	s := start(t, &fake{})
	for name, rubbish := range map[string]string{
		"rubbish":         "\x00\xff\r\n\r\n",
		"no host":         "GET /status HTTP/1.1\r\n\r\n",
		"no version":      "GET /status\r\n\r\n",
		"huge header":     "GET /status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"two lengths":     "POST /manifest HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"negative length": "POST /manifest HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"half a preface":  "PRI * HTTP/2.0\r\n\r\n",
		"bad chunk":       "POST /manifest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		c := dialTLS(t, s.addr, "http/1.1")
		go func() {
			_, _ = io.WriteString(c, rubbish)
			_ = c.CloseWrite()
		}()
		if reply, _ := io.ReadAll(c); bytes.Contains(reply, []byte("200 OK")) {
			t.Errorf("%s: %s", name, reply)
		}
	}
	if asked := s.asked(); len(asked) != 0 {
		t.Errorf("the Coordinator was asked %v", asked)
	}
	if got := s.do(t, s.stranger, "GET", "/api/v2/status", ""); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

// Large manifests arrive in one piece, in both versions and both protocols.
func TestLargeManifests(t *testing.T) {
	raw := strings.Repeat("manifest\n", 700_000) // 6 MiB
	v2 := `{"manifest":"` + base64.StdEncoding.EncodeToString([]byte(raw)) + `"}`
	s := start(t, &fake{})
	for _, client := range []*http.Client{s.stranger, httpClient(t, false)} {
		for path, body := range map[string]string{"/manifest": raw, "/api/v2/manifest": v2} {
			s.fake.calls = nil
			if got := s.do(t, client, "POST", path, body); got.code != 200 || s.asked()[0] != raw {
				t.Errorf("%s: %d, or other bytes", path, got.code)
			}
		}
	}
}

// Shutdown's contract with the Coordinator: a canceled request is not processed further, and says so.
func TestCanceledRequests(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := newGate(0, 1)
	if _, err := g.enter(ctx); coordinator.CodeOf(err) != coordinator.Unavailable {
		t.Errorf("got %v", err)
	}
}
