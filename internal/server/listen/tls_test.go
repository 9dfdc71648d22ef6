// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newCertificate makes a self-signed, expired P-384 certificate.
func newCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func fixed(c *tls.Certificate) func() *tls.Certificate { return func() *tls.Certificate { return c } }

// serve accepts, answers each connection with one byte and waits for the client to hang up.
func serve(t *testing.T, cfg *tls.Config) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, Config{TLS: cfg})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte{byte('0' + len(c.(*tls.Conn).ConnectionState().PeerCertificates))})
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l
}

// connect shakes hands and reads the server's byte: the number of client certificates it saw.
func connect(t *testing.T, l *Listener, cfg *tls.Config) (seen string, state tls.ConnectionState, err error) {
	t.Helper()
	cfg.InsecureSkipVerify = true
	c, err := tls.Dial("tcp", l.Addr().String(), cfg)
	if err != nil {
		return "", state, err
	}
	defer c.Close()
	b := make([]byte, 1)
	_, err = io.ReadFull(c, b)
	return string(b), c.ConnectionState(), err
}

func TestVersions(t *testing.T) {
	l := serve(t, ClientAPI(fixed(newCertificate(t))))
	for version, ok := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		_, state, err := connect(t, l, &tls.Config{MinVersion: version, MaxVersion: version})
		if (err == nil) != ok || ok && state.Version != version {
			t.Errorf("%s: error %v", tls.VersionName(version), err)
		}
	}
}

func TestCipherSuitesAreAEAD(t *testing.T) {
	l := serve(t, ClientAPI(fixed(newCertificate(t))))
	_, _, err := connect(t, l, &tls.Config{
		MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	})
	if err == nil {
		t.Error("CBC accepted")
	}
}

// The slow curves serve clients that know nothing else, and nobody else.
func TestKeyExchange(t *testing.T) {
	l := serve(t, MarbleAPI(fixed(newCertificate(t))))
	client := newCertificate(t)
	tests := []struct {
		offer   []tls.CurveID
		max     uint16
		want    tls.CurveID
		refused bool
	}{
		{offer: []tls.CurveID{tls.CurveP384, tls.X25519}, want: tls.X25519},
		{offer: []tls.CurveID{tls.CurveP384, tls.CurveP256}, want: tls.CurveP256},
		{offer: []tls.CurveID{tls.CurveP521, tls.CurveP384, tls.CurveP256}, max: tls.VersionTLS12, want: tls.CurveP256},
		{offer: []tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, want: tls.X25519MLKEM768},
		{offer: []tls.CurveID{tls.X25519MLKEM768, tls.CurveP384}, max: tls.VersionTLS12, want: tls.CurveP384},
		{offer: []tls.CurveID{tls.CurveP384}, want: tls.CurveP384},
		{offer: []tls.CurveID{tls.CurveP521}, want: tls.CurveP521},
		{offer: []tls.CurveID{tls.SecP384r1MLKEM1024, tls.X25519}, want: tls.X25519},
		{offer: []tls.CurveID{tls.SecP384r1MLKEM1024}, refused: true},
	}
	for _, tt := range tests {
		cfg := &tls.Config{
			CurvePreferences: tt.offer, MaxVersion: tt.max, NextProtos: []string{"h2"},
			Certificates: []tls.Certificate{*client},
		}
		_, state, err := connect(t, l, cfg)
		if tt.refused {
			if err == nil {
				t.Errorf("%v: accepted with %v", tt.offer, state.CurveID)
			}
			continue
		}
		if err != nil || state.CurveID != tt.want {
			t.Errorf("%v (max %#x): got %v, %v, want %v", tt.offer, tt.max, state.CurveID, err, tt.want)
		}
	}
}

// The default Go client's key exchange is post-quantum.
func TestDefaultKeyExchange(t *testing.T) {
	l := serve(t, ClientAPI(fixed(newCertificate(t))))
	if _, state, err := connect(t, l, &tls.Config{}); err != nil || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("got %v, %v", state.CurveID, err)
	}
}

func TestClientCertificates(t *testing.T) {
	server, client := newCertificate(t), newCertificate(t) // the client's is expired and self-signed
	with := []tls.Certificate{*client}
	public, mesh := serve(t, ClientAPI(fixed(server))), serve(t, MarbleAPI(fixed(server)))

	if seen, _, err := connect(t, public, &tls.Config{}); err != nil || seen != "0" {
		t.Errorf("client API, no certificate: %q, %v", seen, err)
	}
	if seen, _, err := connect(t, public, &tls.Config{Certificates: with}); err != nil || seen != "1" {
		t.Errorf("client API, certificate: %q, %v", seen, err)
	}
	if seen, _, err := connect(t, mesh, &tls.Config{Certificates: with}); err != nil || seen != "1" {
		t.Errorf("Marble API, certificate: %q, %v", seen, err)
	}
	_, _, err := connect(t, mesh, &tls.Config{})
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("Marble API, no certificate: %v, want the alert certificate required", err)
	}
}

// One certificate, for every name, and whichever is current.
func TestServerCertificate(t *testing.T) {
	var current atomic.Pointer[tls.Certificate]
	l := serve(t, ClientAPI(current.Load))
	if _, _, err := connect(t, l, &tls.Config{}); err == nil {
		t.Error("handshake without a certificate")
	}
	for range 2 {
		want := newCertificate(t)
		current.Store(want)
		for _, name := range []string{"", "localhost", "other.example"} {
			_, state, err := connect(t, l, &tls.Config{ServerName: name})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(state.PeerCertificates); n != 1 || string(state.PeerCertificates[0].Raw) != string(want.Certificate[0]) {
				t.Errorf("%q: %d certificates, not the current one", name, n)
			}
		}
	}
}

func TestProtocols(t *testing.T) {
	server, client := newCertificate(t), newCertificate(t)
	public, mesh := serve(t, ClientAPI(fixed(server))), serve(t, MarbleAPI(fixed(server)))
	for _, tt := range []struct {
		l     *Listener
		offer []string
		want  string
	}{
		{public, []string{"h2", "http/1.1"}, "h2"},
		{public, []string{"http/1.1"}, "http/1.1"},
		{public, nil, ""},
		{mesh, []string{"h2"}, "h2"},
		{mesh, []string{"http/1.1"}, ""}, // package mesh hangs up
	} {
		_, state, err := connect(t, tt.l, &tls.Config{NextProtos: tt.offer, Certificates: []tls.Certificate{*client}})
		if err != nil || state.NegotiatedProtocol != tt.want {
			t.Errorf("%v: %q, %v", tt.offer, state.NegotiatedProtocol, err)
		}
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	l := serve(t, ClientAPI(fixed(newCertificate(t))))
	cache := tls.NewLRUClientSessionCache(1)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for range 3 {
			cfg := &tls.Config{ClientSessionCache: cache, ServerName: "x", MaxVersion: version}
			if _, state, err := connect(t, l, cfg); err != nil || state.DidResume {
				t.Errorf("resumed %v, error %v", state.DidResume, err)
			}
		}
	}
}
