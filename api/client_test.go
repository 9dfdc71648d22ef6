// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api"
)

// TestPin: chaining to the root is not enough, names are not needed.
func TestPin(t *testing.T) {
	fake, other := start(t, nil), start(t, nil)
	if _, err := api.NewClient(fake.Endpoint(), api.Options{}); err == nil {
		t.Error("a client without root came to be by omission")
	}
	if _, err := connect(t, fake, nil).Status(t.Context()); err != nil {
		t.Error(err)
	}
	client, err := api.NewClient(fake.Endpoint(), api.Options{Root: other.Root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context()); !errors.Is(err, api.ErrRootMismatch) || api.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	if len(fake.Requests()) != 1 {
		t.Errorf("a request was sent to the wrong server: %v", fake.Requests())
	}
	any, err := api.NewClient(fake.Endpoint(), api.Options{InsecureAnyServer: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := any.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPinChained: a leaf issued by the root, with the right name, is not the root.
func TestPinChained(t *testing.T) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, template, template, &rootKey.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	leaf := *template
	leaf.IsCA, leaf.DNSNames = false, []string{"localhost"}
	leafDER, err := x509.CreateCertificate(rand.Reader, &leaf, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request came through")
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{
		Certificate: [][]byte{leafDER, rootDER}, PrivateKey: rootKey,
	}}}
	server.StartTLS()
	defer server.Close()
	endpoint := strings.Replace(server.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	client, err := api.NewClient(endpoint, api.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context()); !errors.Is(err, api.ErrRootMismatch) {
		t.Errorf("got %v", err)
	}
}

func TestEndpoint(t *testing.T) {
	for endpoint, good := range map[string]bool{
		"localhost:4433": true, "localhost": true, "[::1]:4433": true, "10.0.0.1:1": true,
		"": false, "https://localhost:4433": false, "localhost:4433/": false, "localhost:x": false, "a@b:1": false,
		"localhost:4433?x": false, ":4433": false,
	} {
		_, err := api.NewClient(endpoint, api.Options{InsecureAnyServer: true})
		if (err == nil) != good {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// strange serves something that is no Coordinator.
func strange(t *testing.T, handler http.HandlerFunc) *api.Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	client, err := api.NewClient(server.Listener.Addr().String(), api.Options{Root: server.Certificate()})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestStrangeReplies(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"no JSON, 502": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>"))
		}, ": 502 Bad Gateway"},
		"no JSON, 200": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>"))
		}, "no JSON envelope"},
		"other data": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"status":"success","data":[1]}`))
		}, "unexpected data"},
		"204 is no success": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "204 No Content"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			chunk := bytes.Repeat([]byte(" "), 1<<20)
			for r.Context().Err() == nil {
				_, _ = w.Write(chunk)
			}
		}, api.ErrReplyTooLarge.Error()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := strange(t, test.handler)
			status, err := client.Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || status.Code != -1 {
				t.Errorf("got %v, %v; want %q", status, err, test.want)
			}
		})
	}
}

func TestContext(t *testing.T) {
	arrived := make(chan struct{})
	client := strange(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := client.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTimeout(t *testing.T) {
	fake := start(t, nil)
	client, err := api.NewClient(fake.Endpoint(), api.Options{Root: fake.Root, Timeout: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestConnectionReuse: one client, one connection.
func TestConnectionReuse(t *testing.T) {
	peers := map[string]bool{}
	client := strange(t, func(w http.ResponseWriter, r *http.Request) {
		peers[r.RemoteAddr] = true
		_, _ = w.Write([]byte(`{"status":"success","data":{"code":3,"message":"m"}}`))
	})
	for range 3 {
		if _, err := client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(peers) != 1 {
		t.Errorf("%d connections for three calls", len(peers))
	}
}
