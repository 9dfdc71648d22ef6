// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const goodReview = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1",` +
	`"namespace":"ns","operation":"CREATE","object":{"apiVersion":"v1","kind":"Pod",` +
	`"metadata":{"labels":{"marblerun/marbletype":"web"}},"spec":{"containers":[{"name":"web"}]}}}}`

func TestBadInput(t *testing.T) {
	review := func(request string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":` + request + `}`
	}
	object := func(pod string) string { return review(`{"uid":"u1","object":` + pod + `}`) }
	for _, c := range []struct {
		name, method, contentType, body string
		status                          int
		want                            string
	}{
		{"get", "GET", "application/json", goodReview, 400, "unable to handle requests other than POST\n"},
		{"put", "PUT", "application/json", goodReview, 400, "unable to handle requests other than POST\n"},
		{"no content type", "POST", "", goodReview, 400, "wrong application type\n"},
		{"other content type", "POST", "application/yaml", goodReview, 400, "wrong application type\n"},
		{"content type garbage", "POST", ";;;", goodReview, 400, "wrong application type\n"},
		{"content type prefix", "POST", "application/jsonp", goodReview, 400, "wrong application type\n"},
		{"content type with parameter", "POST", "application/json; charset=utf-8", goodReview, 200, `"allowed":true`},
		{"content type in capitals", "POST", "Application/JSON", goodReview, 200, `"allowed":true`},
		{"empty", "POST", "application/json", "", 500, "unable to mutate request: invalid admission review: "},
		{"no JSON", "POST", "application/json", "hello", 500, "unable to mutate request: invalid admission review: "},
		{"cut off", "POST", "application/json", goodReview[:100], 500, "invalid admission review: unexpected end"},
		{"two values", "POST", "application/json", goodReview + "{}", 500, "invalid admission review: "},
		{"array", "POST", "application/json", "[]", 500, "invalid admission review: "},
		{"null", "POST", "application/json", "null", 500, "invalid admission review: "},
		{"other kind", "POST", "application/json", `{"apiVersion":"v1","kind":"Pod"}`, 500,
			"invalid admission review: expected"},
		{"other version", "POST", "application/json", strings.Replace(goodReview, "k8s.io/v1", "k8s.io/v2", 1), 500,
			`got "AdmissionReview" of "admission.k8s.io/v2"`},
		{"no request", "POST", "application/json", review("null"), 500,
			"unable to mutate request: empty admission request\n"},
		{"request a list", "POST", "application/json", review("[]"), 500, "invalid admission review: "},
		{"no object", "POST", "application/json", review(`{"uid":"u1"}`), 500, "unable to mutate request: invalid pod: "},
		{"object null", "POST", "application/json", object("null"), 500, "invalid pod: no object\n"},
		{"object a string", "POST", "application/json", object(`"pod"`), 500, "invalid pod: "},
		{"a deployment", "POST", "application/json", object(`{"apiVersion":"apps/v1","kind":"Deployment","spec":{}}`), 500,
			`invalid pod: expected v1 Pod, got "apps/v1" "Deployment"`},
		{"no spec", "POST", "application/json",
			object(`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"marblerun/marbletype":"web"}}}`), 500,
			"invalid pod: no spec\n"},
		{"neither spec nor label", "POST", "application/json", object(`{"apiVersion":"v1","kind":"Pod"}`), 200,
			"Missing [marblerun/marbletype] label, request denied"},
		{"container without a name", "POST", "application/json",
			strings.Replace(goodReview, `{"name":"web"}`, `{}`, 1), 200, `"allowed":true`},
		{"labels a list", "POST", "application/json", object(`{"metadata":{"labels":[]},"spec":{}}`), 500,
			"invalid pod: labels: "},
		{"containers an object", "POST", "application/json", object(`{"spec":{"containers":{}}}`), 500,
			"invalid pod: containers: "},
		{"container null", "POST", "application/json", object(`{"spec":{"containers":[null]}}`), 500,
			"invalid pod: containers[0]: no object\n"},
		{"env a string", "POST", "application/json", object(`{"spec":{"initContainers":[{"name":"a","env":"b"}]}}`), 500,
			"invalid pod: initContainers[0]: env: "},
		{"limits a list", "POST", "application/json",
			object(`{"spec":{"containers":[{"name":"a","resources":{"limits":[]}}]}}`),
			500, "invalid pod: containers[0]: limits: "},
		{"volume a number", "POST", "application/json", object(`{"spec":{"volumes":[1]}}`), 500, "invalid pod: volumes: "},
		{"toleration key a number", "POST", "application/json", object(`{"spec":{"tolerations":[{"key":1}]}}`), 500,
			"invalid pod: tolerations[0]: key: "},
		{"too many containers", "POST", "application/json",
			object(`{"spec":{"containers":[` + strings.Repeat(`{"name":"a"},`, 1000) + `{"name":"a"}]}}`), 500,
			"invalid pod: containers: more than 1000\n"},
		{"deeply nested", "POST", "application/json",
			object(strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)),
			500, "exceeded max depth"},
		{"huge", "POST", "application/json", strings.Repeat(" ", MaxBody+1), 413,
			"unable to read request: the body is larger than 8 MiB\n"},
		{"largest", "POST", "application/json",
			goodReview + strings.Repeat(" ", MaxBody-len(goodReview)), 200, `"allowed":true`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/mutate", strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			w := httptest.NewRecorder()
			newHandler(t, Config{}).ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%d %.300q, want %d %q", w.Code, w.Body, c.status, c.want)
			}
			if kind := w.Header().Get("Content-Type"); (kind == "application/json") != (c.status == 200) {
				t.Errorf("Content-Type %q", kind)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	h := newHandler(t, Config{})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/healthz", 200}, {"POST", "/healthz", 200}, {"GET", "/", 404}, {"POST", "/mutate-no-sgx", 404},
		{"POST", "/mutate/", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || (c.status == 200 && w.Body.Len() != 0) {
			t.Errorf("%s %s: %d %q", c.method, c.path, w.Code, w.Body)
		}
	}
}

// endless is a body of blanks without a known length.
type endless struct{ left int }

func (e *endless) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, errors.New("connection reset")
	}
	n := min(len(b), e.left)
	e.left -= n
	return copy(b, bytes.Repeat([]byte(" "), n)), nil
}

func TestBodiesOfUnknownLength(t *testing.T) {
	h := newHandler(t, Config{})
	send := func(body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/mutate", body)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	huge := &endless{left: 1 << 40}
	if w := send(huge); w.Code != 413 {
		t.Errorf("endless body: %d %s", w.Code, w.Body)
	}
	if read := 1<<40 - huge.left; read > MaxBody+freeBody {
		t.Errorf("read %d bytes of an endless body", read)
	}
	const reset = "unable to read request: connection reset"
	if w := send(&endless{left: 100 << 10}); w.Code != 400 || !strings.Contains(w.Body.String(), reset) {
		t.Errorf("broken body: %d %s", w.Code, w.Body)
	}
	if taken := h.bodies.taken.Load(); taken != 0 {
		t.Errorf("%d bytes are not given back", taken)
	}
}

func TestLargeBodiesShareABound(t *testing.T) {
	h := newHandler(t, Config{})
	h.bodies.taken.Store(maxBodies - freeBody) // others are sending
	large := goodReview + strings.Repeat(" ", 3*freeBody)
	if w := post(h, []byte(large)); w.Code != 503 || !strings.Contains(w.Body.String(), "try again") {
		t.Errorf("large body: %d %s", w.Code, w.Body)
	}
	if w := post(h, []byte(goodReview)); w.Code != 200 {
		t.Errorf("ordinary body: %d %s", w.Code, w.Body)
	}
	if taken := h.bodies.taken.Load(); taken != maxBodies-freeBody {
		t.Errorf("%d bytes taken afterwards", taken)
	}
}

func TestOutcomesAreObserved(t *testing.T) {
	injector := newHandler(t, Config{}).injector
	seen := make(chan Outcome, 1)
	h := NewHandler(injector, slog.New(slog.DiscardHandler), quiet{seen}, time.Now)
	for _, c := range []struct {
		body string
		want Outcome
	}{
		{goodReview, Patched},
		{strings.Replace(goodReview, "marbletype", "other", 1), Denied},
		{strings.Replace(goodReview, "CREATE", "DELETE", 1), Skipped},
		{strings.Replace(goodReview, `"containers":[{"name":"web"}]`, `"tolerations":[{"operator":"Exists"}]`, 1), Unchanged},
		{"{", Malformed},
	} {
		post(h, []byte(c.body))
		if got := <-seen; got != c.want {
			t.Errorf("%s, want %s: %s", got, c.want, c.body)
		}
	}
}

func TestLogsOfReviews(t *testing.T) {
	var log bytes.Buffer
	injector := newHandler(t, Config{}).injector
	h := NewHandler(injector, slog.New(slog.NewTextHandler(&log, nil)), quiet{}, time.Now)
	post(h, []byte(strings.Replace(goodReview, `"web"}`, `""}`, 1)))
	post(h, []byte("{"))
	for _, want := range []string{"outcome=denied", "uid=u1", "namespace=ns", "Empty [marblerun/marbletype] label",
		"level=WARN", "invalid admission review"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

var _ http.Handler = (*Handler)(nil)

func FuzzHandler(f *testing.F) {
	for _, seed := range []string{goodReview, "", "{}", strings.Replace(goodReview, `{"name":"web"}`,
		`{"name":"a","env":[{"name":"X"}],"resources":{"limits":{"sgx.intel.com/epc":1}},`+
			`"volumeMounts":[{"mountPath":"/web-uid"}]}`, 1),
		strings.Replace(goodReview, `"labels"`, `"annotations":{"marblerun/sgx-epc":"1Gi",`+
			`"marblerun/attestation":"out-of-process","marblerun/uuid":"stable"},"name":"web-0","labels"`, 1)} {
		f.Add([]byte(seed))
	}
	h := newHandler(f, Config{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, body)
		if w.Code == http.StatusOK {
			checkAnswer(t, h, body, w.Body.Bytes())
		} else if w.Code != http.StatusInternalServerError {
			t.Errorf("HTTP %d", w.Code)
		}
	})
}
