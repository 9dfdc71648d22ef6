// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package fakecoordinator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
)

// request is one request, its version understood.
type request struct {
	*http.Request
	path string // without prefix
	v2   bool
	body []byte
	user string
}

// refusal is a reply other than 200.
type refusal struct {
	code            int
	status, message string
	data            any
}

const (
	unauthorized  = "unauthorized user: client certificate did not match any MarbleRun users"
	notInState    = "server is not in expected state"
	noUpdate      = "no update in progress"
	updatePending = "update already in progress. Acknowledge the update to apply it, or cancel it to start a new one"
)

func (c *Coordinator) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.Method+" "+r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	q := &request{Request: r, body: body}
	q.path, q.v2 = strings.CutPrefix(r.URL.Path, "/api/v2")
	data, refused := c.route(q)
	if refused != nil {
		write(w, refused.code, wire.Response{Status: refused.status, Data: raw(refused.data), Message: refused.message})
		return
	}
	if c.Tamper != nil {
		data = c.Tamper(r.URL.Path, data)
	}
	write(w, http.StatusOK, wire.Response{Status: wire.StatusSuccess, Data: raw(data)})
}

func raw(data any) json.RawMessage {
	out, err := json.Marshal(data)
	if err != nil {
		panic(err) // wire types always marshal
	}
	return out
}

func write(w http.ResponseWriter, code int, response wire.Response) {
	w.Header().Set("Content-Type", "application/json")
	if response.Status == wire.StatusError {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(response) // the client may be gone
}

// errorReply picks the code of v1 or v2.
func (q *request) errorReply(v1, v2 int, message string) *refusal {
	code := v1
	if q.v2 {
		code = v2
	}
	return &refusal{code: code, status: wire.StatusError, message: message}
}

func (q *request) fail(code int, message string) *refusal {
	status := wire.StatusError
	if q.v2 {
		status = wire.StatusFail
	}
	return &refusal{code: code, status: status, message: message}
}

type handler func(*request) (any, *refusal)

// route finds the handler: 405 for everything unknown.
func (c *Coordinator) route(q *request) (any, *refusal) {
	open := map[string]handler{
		"GET /status": c.status, "GET /quote": c.quote, "GET /manifest": c.manifestGet, "POST /manifest": c.manifestSet,
		"GET /update": c.updateLog, "GET /update-manifest": c.updateGet,
	}
	users := map[string]handler{
		"POST /update": c.updateApply, "GET /secrets": c.secretGet, "POST /secrets": c.secretSet,
		"POST /update-manifest": c.acknowledge, "POST /update-cancel": c.cancel,
	}
	if q.v2 {
		open["GET /bans"] = c.listBans
		maps.Copy(users, map[string]handler{"POST /secrets/rotate": c.secretRotate, "POST /bans": c.changeBan})
		maps.Copy(open, map[string]handler{
			"POST /recover": c.recover, "GET /recover/public-key": c.recoverKey, "POST /sign-quote": c.signQuote,
			"POST /monotonic-counter": c.counter, "GET /recovery-secrets": c.recoverySecrets, "GET /activations": c.activations,
		})
	} else {
		open["POST /recover"] = func(q *request) (any, *refusal) { return nil, q.errorReply(410, 410, "disabled") }
	}
	key := q.Method + " " + q.path
	if h, ok := open[key]; ok && !(q.v2 && c.OnlyV1) {
		return h(q)
	}
	if h, ok := users[key]; ok && !(q.v2 && c.OnlyV1) {
		if q.user = c.authenticate(q); q.user == "" {
			return nil, q.fail(http.StatusUnauthorized, unauthorized)
		}
		return h(q)
	}
	return nil, &refusal{code: http.StatusMethodNotAllowed, status: wire.StatusError}
}

// users are the manifest's, name to certificate DER.
func (c *Coordinator) users() map[string][]byte {
	var m struct {
		Users map[string]struct{ Certificate string }
	}
	_ = json.Unmarshal(c.manifest, &m) // what is no manifest has no users
	users := map[string][]byte{}
	for name, u := range m.Users {
		if block, _ := pem.Decode([]byte(u.Certificate)); block != nil {
			users[name] = block.Bytes
		}
	}
	return users
}

func (c *Coordinator) authenticate(q *request) string {
	for _, cert := range q.TLS.PeerCertificates {
		for name, der := range c.users() {
			if bytes.Equal(cert.Raw, der) {
				return name
			}
		}
	}
	return ""
}

func (c *Coordinator) status(q *request) (any, *refusal) {
	text := map[int]string{
		1: "Coordinator is in recovery mode. Either upload a key to unseal the saved state, or set a new manifest. " +
			"For more information on how to proceed, consult the documentation.",
		2: "Coordinator is ready to accept a manifest.",
		3: "Coordinator is running correctly and ready to accept marbles.",
	}[c.code]
	if q.v2 {
		return wire.StatusV2{Code: c.code, Message: text, Notes: c.Notes}, nil
	}
	return wire.StatusV1{StatusCode: c.code, StatusMessage: text}, nil
}

func (c *Coordinator) quote(q *request) (any, *refusal) {
	root := c.Root
	if c.QuoteRoot != nil {
		root = c.QuoteRoot
	}
	chain := certPEM(c.Intermediate) + certPEM(root)
	if !q.v2 {
		return wire.QuoteV1{Cert: chain, Quote: c.makeQuote(nil)}, nil
	}
	nonce, err := base64.URLEncoding.DecodeString(q.URL.Query().Get("nonce"))
	if err != nil {
		return nil, q.fail(400, "invalid query: bad nonce format: "+err.Error())
	}
	return wire.QuoteV2{Cert: chain, Quote: c.makeQuote(nonce)}, nil
}

// userNames are sorted.
func (c *Coordinator) userNames() []string { return slices.Sorted(maps.Keys(c.users())) }

func missingText(n int) string {
	if n == 1 {
		return "1 user still needs to acknowledge the update manifest"
	}
	return fmt.Sprintf("%d users still need to acknowledge the update manifest", n)
}
