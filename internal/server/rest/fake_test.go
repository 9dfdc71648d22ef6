// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/logging"
	"github.com/marblerun/marblerun/internal/server/listen"
)

// fake is a scripted Coordinator: it answers with its fields, and err refuses everything but authentication.
type fake struct {
	err      error
	alice    []byte // DER of the certificate of the only user
	marble   []byte // DER of the certificate of the only Marble
	features []string

	status    coordinator.Status
	quote     []byte
	manifest  coordinator.Manifest
	secrets   map[string][]byte // recovery secrets
	log       []string
	update    coordinator.UpdateResult
	pending   coordinator.PendingUpdate
	values    map[string]wire.Secret
	remaining int
	banned    []wire.Ban
	work      func(context.Context) // runs in SetManifest

	mu    sync.Mutex
	calls []any // what was asked, where it matters
}

func (f *fake) called(what ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what...)
}

func (f *fake) asked() []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) Status() coordinator.Status { return f.status }

func (f *fake) Quote(_ context.Context, nonce []byte) (string, []byte, error) {
	f.called(string(nonce))
	return "PEM", f.quote, f.err
}

func (f *fake) Manifest() (coordinator.Manifest, error) { return f.manifest, f.err }

func (f *fake) SetManifest(ctx context.Context, data []byte) (map[string][]byte, error) {
	f.called(string(data))
	if f.work != nil {
		f.work(ctx)
	}
	return f.secrets, f.err
}

func (f *fake) RecoverySecrets() (map[string][]byte, error) { return f.secrets, f.err }

func (f *fake) UpdateLog(_ context.Context, line func(string) error) error {
	for _, l := range f.log {
		if err := line(l); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fake) Activations(_ context.Context, after uint64, limit int) (wire.ActivationsReply, error) {
	f.called(after, limit)
	return wire.ActivationsReply{Activations: []wire.Activation{}}, f.err
}

func (f *fake) PendingUpdate() (coordinator.PendingUpdate, error) { return f.pending, f.err }

func (f *fake) Authenticate(certs []*x509.Certificate) (string, error) {
	if slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, f.alice) }) {
		return "alice", nil
	}
	return "", refuse(coordinator.Unauthorized,
		"unauthorized user: client certificate did not match any MarbleRun users")
}

func (f *fake) ReadSecrets(_ context.Context, user string, names []string) (map[string]wire.Secret, error) {
	f.called(user, names)
	return f.values, f.err
}

func (f *fake) WriteSecrets(_ context.Context, user string, values map[string]wire.UserSecret) error {
	f.called(user, values)
	return f.err
}

func (f *fake) Update(_ context.Context, user string, data []byte) (coordinator.UpdateResult, error) {
	f.called(user, string(data))
	return f.update, f.err
}

func (f *fake) Acknowledge(_ context.Context, user string, data []byte) (coordinator.UpdateResult, error) {
	f.called(user, string(data))
	return f.update, f.err
}

func (f *fake) CancelUpdate(_ context.Context, user string) error {
	f.called(user)
	return f.err
}

func (f *fake) Recover(_ context.Context, secret, signature []byte) (int, error) {
	f.called(string(secret), string(signature))
	return f.remaining, f.err
}

func (f *fake) RecoveryPublicKey(context.Context) ([]byte, error) { return []byte("der"), f.err }

func (f *fake) FeatureEnabled(gate string) bool { return slices.Contains(f.features, gate) }

func (f *fake) SignQuote(_ context.Context, quote []byte) (string, []byte, error) {
	f.called(string(quote))
	return "UpToDate", []byte("sig"), f.err
}

func (f *fake) AuthenticateMarble(certs []*x509.Certificate) (coordinator.Marble, error) {
	if len(certs) > 0 && bytes.Equal(certs[0].Raw, f.marble) {
		return coordinator.Marble{Type: "web", UUID: "u"}, nil
	}
	return coordinator.Marble{}, refuse(coordinator.Unauthorized, "unauthorized marble: no client certificate provided")
}

func (f *fake) RaiseCounter(_ context.Context, m coordinator.Marble, name string, value uint64) (uint64, error) {
	f.called(m, name, value)
	return 5, f.err
}

// lines collects log lines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// service is the client API, really served, and two ways to call it.
type service struct {
	*fake
	api  *API
	log  *lines
	url  string
	addr string
	// stranger presents no certificate, alice that of the only user. marble presents the Marble's.
	stranger, alice, marble *http.Client
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func httpClient(t testing.TB, h2 bool, certs ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: certs},
		ForceAttemptHTTP2: h2,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// start serves the client API over the fake.
func start(t testing.TB, f *fake) *service {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	alice, marble, server := certificate(t), certificate(t), certificate(t)
	f.alice, f.marble = alice.Certificate[0], marble.Certificate[0]
	log := &lines{}
	logger := logging.New(log, logging.Options{})
	s := &service{
		fake: f, log: log, api: New(Config{Coordinator: f, Log: logger}),
		url: "https://" + inner.Addr().String(), addr: inner.Addr().String(),
		stranger: httpClient(t, true), alice: httpClient(t, true, alice), marble: httpClient(t, true, marble),
	}
	httpServer := s.api.Server(logger, slog.LevelError)
	l := listen.New(inner, listen.Config{TLS: listen.ClientAPI(func() *tls.Certificate { return &server })})
	go func() { _ = httpServer.Serve(l) }()
	t.Cleanup(func() { _ = httpServer.Close() })
	return s
}

// answer is what a client sees.
type answer struct {
	code   int
	header http.Header
	body   string
}

func (s *service) do(t testing.TB, client *http.Client, method, path, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}
