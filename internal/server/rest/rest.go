// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package rest serves the client API, versions 1 and 2 (client-api.md).
//
// It translates and never decides: requests become calls of the Coordinator, its refusals become status codes by one
// table (failure.go), its messages pass unchanged. What differs between the versions is in the routes and in the bodies
// (package wire), nowhere else.
//
// Invariants:
//
//   - Paths are exact. An unknown path is 405, not 404: clients of MarbleRun find out so that version 2 is missing.
//   - Whoever must be authenticated is, before the body is read.
//   - A body is never read beyond its endpoint's limit, slower than minRate, or beyond the memory that all bodies
//     together may take.
//   - Expensive endpoints that anyone may call pass a gate: few run, some wait, the rest is told to come back.
//   - A reply is complete or the connection is cut: a truncated reply never looks like a whole one.
//   - A panic ends its request with 500 and nothing else.
//
// Decisions where the contract leaves the choice (client-api.md §16): version 2 keeps answering 500 for refused
// manifests and missing permissions (Q3); error bodies stay text/plain (Q9), as they are what scripts compare.
package rest

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

// Coordinator is what the client API is a translation of. *coordinator.Coordinator implements it.
type Coordinator interface {
	Public
	Users
	Recovery
	Marbles
}

// Public is for anyone.
type Public interface {
	Status() coordinator.Status
	Quote(ctx context.Context, nonce []byte) (chainPEM string, quote []byte, err error)
	Manifest() (coordinator.Manifest, error)
	SetManifest(ctx context.Context, data []byte) (recoverySecrets map[string][]byte, err error)
	RecoverySecrets() (map[string][]byte, error)
	UpdateLog(ctx context.Context, line func(string) error) error
	Activations(ctx context.Context, after uint64, limit int) (wire.ActivationsReply, error)
	PendingUpdate() (coordinator.PendingUpdate, error)
	Bans(ctx context.Context, ban func(wire.Ban) error) error
}

// Users is for the manifest's users. user is a name that Authenticate returned.
type Users interface {
	Authenticate(certs []*x509.Certificate) (user string, err error)
	ReadSecrets(ctx context.Context, user string, names []string) (map[string]wire.Secret, error)
	WriteSecrets(ctx context.Context, user string, values map[string]wire.UserSecret) error
	Update(ctx context.Context, user string, data []byte) (coordinator.UpdateResult, error)
	Acknowledge(ctx context.Context, user string, data []byte) (coordinator.UpdateResult, error)
	CancelUpdate(ctx context.Context, user string) error
	RotateSecrets(ctx context.Context, user string, names []string) (rotated []string, err error)
	ChangeBan(ctx context.Context, user string, req wire.BanRequest) (wire.Ban, error)
}

// Recovery is for the holders of recovery keys.
type Recovery interface {
	Recover(ctx context.Context, secret, signature []byte) (remaining int, err error)
	RecoveryPublicKey(ctx context.Context) (der []byte, err error)
}

// Marbles is for Marbles, where the manifest enables it.
type Marbles interface {
	FeatureEnabled(gate string) bool
	SignQuote(ctx context.Context, quote []byte) (status string, signature []byte, err error)
	AuthenticateMarble(certs []*x509.Certificate) (coordinator.Marble, error)
	RaiseCounter(ctx context.Context, m coordinator.Marble, name string, value uint64) (previous uint64, err error)
}

// Observer counts requests; see package metrics.
type Observer interface {
	Request(path string) (end func(method string, code int, received, sent int64, took time.Duration))
}

// Config of an API.
type Config struct {
	Coordinator Coordinator
	// Observer may be nil.
	Observer Observer
	Log      *slog.Logger
	// BodyMemory is how many bytes all request bodies together may take while they are read, beyond the first 64 KiB of
	// each; default 64 MiB.
	BodyMemory int64
}

// API is the client API as an http.Handler.
type API struct {
	cfg    Config
	routes map[string]methods
	memory budget
	gates  gates
}

// New returns the client API.
func New(cfg Config) *API {
	if cfg.BodyMemory == 0 {
		cfg.BodyMemory = 64 << 20
	}
	a := &API{cfg: cfg, memory: budget{free: cfg.BodyMemory}, gates: newGates(runtime.GOMAXPROCS(0))}
	a.routes = a.table()
	return a
}

// Server returns an HTTP server for the API with its time limits. Serve it with a listen.Listener whose TLS
// configuration is listen.ClientAPI.
//
// Reading a body and writing a reply have deadlines of their own, set as they progress; ReadTimeout and WriteTimeout
// only catch what passes by them.
func (a *API) Server(errorLog *slog.Logger, level slog.Level) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           a,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      10 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    256 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          32,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     128 << 10,
			SendPingTimeout:               time.Minute,
			WriteByteTimeout:              30 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(errorLog.Handler(), level),
	}
}

// methods of a path.
type methods map[string]*route

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, ok := a.routes[r.URL.Path]
	label := ""
	if ok {
		label = r.URL.Path
	}
	c := a.begin(w, r, label)
	defer c.end()
	rt := known[r.Method]
	switch {
	case rt != nil:
		c.serve(rt)
	case !ok && cleanPath(r) != r.URL.Path:
		target := *r.URL
		target.Path, target.RawPath = cleanPath(r), ""
		http.Redirect(c.w, r, target.RequestURI(), http.StatusTemporaryRedirect)
	default:
		c.render(failure{status: http.StatusMethodNotAllowed})
	}
}

// cleanPath removes empty, "." and ".." elements, and keeps a slash at the end, as net/http does.
func cleanPath(r *http.Request) string {
	p := r.URL.Path
	if !strings.HasPrefix(p, "/") || r.Method == http.MethodConnect {
		return p
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
