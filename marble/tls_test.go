// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/marble"
	"github.com/marblerun/marblerun/marble/internal/coordtest"
)

var csr = x509.CertificateRequest{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}

// activated returns the environment of a Marble, as getenv.
func activated(t *testing.T, s *coordtest.Server, marbleType string) (func(string) string, string) {
	t.Helper()
	params, err := marble.Activate(t.Context(), marble.Config{
		CoordinatorAddr: s.Addr, MarbleType: marbleType, DNSNames: []string{"localhost"},
		UUIDFile: filepath.Join(t.TempDir(), "uuid"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) string { return string(params.Env[name]) }, params.UUID
}

func configFrom(t *testing.T, getenv func(string) string, verify bool) *tls.Config {
	t.Helper()
	config, err := marble.TLSConfigFrom(getenv, verify)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// shake connects client and server over loopback and returns what each says about it.
func shake(t *testing.T, server, client *tls.Config,
) (serverSide, clientSide tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer conn.Close()
		serverErr = conn.(*tls.Conn).HandshakeContext(context.Background())
		serverSide = conn.(*tls.Conn).ConnectionState()
	}()
	conn, clientErr := tls.Dial("tcp", listener.Addr().String(), client)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1)) // the server's refusal of a client certificate arrives with the first read
		clientSide = conn.ConnectionState()
		conn.Close()
	}
	<-done
	return serverSide, clientSide, serverErr, clientErr
}

func TestMutualTLS(t *testing.T) {
	s := server(t)
	web, webID := activated(t, s, "web")
	job, jobID := activated(t, s, "job")
	serverSide, clientSide, serverErr, _ := shake(t, configFrom(t, web, true), configFrom(t, job, false))
	if serverErr != nil {
		t.Fatal(serverErr)
	}
	seen, err := marble.PeerOf(serverSide)
	if diff := cmp.Diff(marble.Peer{Type: "job", UUID: jobID}, seen); diff != "" || err != nil {
		t.Error(diff, err)
	}
	seen, err = marble.PeerOf(clientSide)
	if diff := cmp.Diff(marble.Peer{Type: "web", UUID: webID}, seen); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestClientCertificateRequired(t *testing.T) {
	s := server(t)
	web, _ := activated(t, s, "web")
	bare := configFrom(t, web, false)
	bare.Certificates = nil
	if _, _, serverErr, _ := shake(t, configFrom(t, web, true), bare); serverErr == nil {
		t.Error("a client without certificate was let in")
	}
	if _, _, serverErr, _ := shake(t, configFrom(t, web, false), bare); serverErr != nil {
		t.Error(serverErr)
	}
}

func TestForeignMesh(t *testing.T) {
	mine, theirs := server(t), server(t)
	web, _ := activated(t, mine, "web")
	stranger, _ := activated(t, theirs, "web")
	_, _, _, err := shake(t, configFrom(t, stranger, false), configFrom(t, web, false))
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a foreign server was trusted: %v", err)
	}
	client := configFrom(t, stranger, false)
	client.InsecureSkipVerify = true
	if _, _, err, _ := shake(t, configFrom(t, web, true), client); err == nil {
		t.Error("a foreign client was trusted")
	}
}

func TestOnlyTypes(t *testing.T) {
	s := server(t)
	web, _ := activated(t, s, "web")
	job, _ := activated(t, s, "job")
	limited := configFrom(t, web, true)
	limited.VerifyConnection = marble.OnlyTypes("web", "db")
	_, _, err, _ := shake(t, limited, configFrom(t, job, false))
	if err == nil || !strings.Contains(err.Error(), "type \"job\"; only web, db may") {
		t.Errorf("got %v", err)
	}
	if _, _, err, _ := shake(t, limited, configFrom(t, web, false)); err != nil {
		t.Error(err)
	}
	// A certificate secret of the manifest chains to the Marble Root too, but is no Marble.
	der, key, err := s.Issue("", "web", &csr)
	if err != nil {
		t.Fatal(err)
	}
	secret := configFrom(t, job, false)
	pair, err := tls.X509KeyPair(coordtest.Certificate(der), key)
	if err != nil {
		t.Fatal(err)
	}
	secret.Certificates = []tls.Certificate{pair}
	if _, _, err, _ := shake(t, limited, secret); err == nil || !strings.Contains(err.Error(), "not a Marble's") {
		t.Errorf("got %v", err)
	}
	if marble.OnlyTypes() != nil {
		t.Error("no types should mean no check")
	}
	if _, err := marble.PeerOf(tls.ConnectionState{}); err == nil {
		t.Error("a peer without certificate is a Marble")
	}
}

// TestServedChain: clients anchored at the Coordinator root verify a Marble, because it serves the intermediate.
func TestServedChain(t *testing.T) {
	s := server(t)
	web, _ := activated(t, s, "web")
	roots := x509.NewCertPool()
	roots.AddCert(s.Root())
	client := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if _, _, serverErr, _ := shake(t, configFrom(t, web, false), client); serverErr != nil {
		t.Error(serverErr)
	}
}

func TestTLSConfigMissing(t *testing.T) {
	s := server(t)
	web, _ := activated(t, s, "web")
	for _, name := range []string{
		marble.MarbleEnvironmentCertificateChain, marble.MarbleEnvironmentRootCA, marble.MarbleEnvironmentPrivateKey,
	} {
		for value, want := range map[string]string{"": "environment variable not set: " + name, "garbage": "reading "} {
			_, err := marble.TLSConfigFrom(func(n string) string {
				if n == name {
					return value
				}
				return web(n)
			}, true)
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
}

// TestListenDial uses the real environment.
func TestListenDial(t *testing.T) {
	s := server(t)
	web, id := activated(t, s, "web")
	for _, name := range []string{
		marble.MarbleEnvironmentCertificateChain, marble.MarbleEnvironmentRootCA, marble.MarbleEnvironmentPrivateKey,
	} {
		t.Setenv(name, web(name))
	}
	if _, err := marble.GetTLSConfig(true); err != nil {
		t.Fatal(err)
	}
	listener, err := marble.Listen("tcp", "127.0.0.1:0", "web")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = conn.Write([]byte("hi"))
			_ = conn.Close()
		}
	}()
	conn, err := marble.Dial(t.Context(), "tcp", listener.Addr().String(), "web")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := marble.PeerOf(conn.ConnectionState())
	if err != nil || peer.UUID != id {
		t.Errorf("%v, %v", peer, err)
	}
	text := make([]byte, 2)
	if _, err := conn.Read(text); err != nil || string(text) != "hi" {
		t.Errorf("%q, %v", text, err)
	}
}
