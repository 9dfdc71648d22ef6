// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/marble"
	"github.com/marblerun/marblerun/marble/internal/coordtest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const someUUID = "0f0e0d0c-0b0a-4908-8706-050403020100"

// issuer gives what coordtest takes for evidence: the report data itself.
type issuer struct {
	err   error
	asked [][64]byte
}

func (i *issuer) Issue(_ context.Context, reportData [64]byte) ([]byte, error) {
	i.asked = append(i.asked, reportData)
	return reportData[:], i.err
}

func server(t *testing.T) *coordtest.Server {
	return coordtest.New(t, map[string]coordtest.Marble{
		"web": {Parameters: &marblepb.Parameters{
			Files: map[string][]byte{"/data/key": {0, 255}}, Env: map[string][]byte{"TOKEN": []byte("secret")},
			Argv: []string{"web", "--serve"},
		}},
		"job": {MaxActivations: 1},
	})
}

func config(t *testing.T, s *coordtest.Server) marble.Config {
	return marble.Config{
		CoordinatorAddr: s.Addr, MarbleType: "web", DNSNames: []string{"localhost", "web.example", "192.0.2.7"},
		UUIDFile: filepath.Join(t.TempDir(), "uuid"), Timeout: 20 * time.Second,
	}
}

func TestActivate(t *testing.T) {
	s := server(t)
	s.Set(func() { s.Simulation = false })
	config, evidence := config(t, s), &issuer{}
	var log bytes.Buffer
	config.Issuer, config.Log = evidence, slog.New(slog.NewTextHandler(&log, nil))
	params, err := marble.Activate(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web", "--serve"}, params.Args()); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(params.Files["/data/key"], []byte{0, 255}) || string(params.Env["TOKEN"]) != "secret" {
		t.Error("parameters were not delivered")
	}
	requests, peers := s.Requests()
	checkIdentity(t, peers[0], evidence.asked[0])
	checkCSR(t, requests[0].GetCSR())
	stored, err := os.ReadFile(config.UUIDFile)
	if err != nil || string(stored) != params.UUID || requests[0].GetUUID() != params.UUID {
		t.Errorf("UUID %q, stored %q, sent %q, %v", params.UUID, stored, requests[0].GetUUID(), err)
	}
	for _, line := range []string{
		"loading TLS Credentials", "loading UUID", "UUID not found. Generating and storing a new UUID",
		"found UUID: " + params.UUID, "generating CSR", "generating quote", "activating marble of type web",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("log lacks %q:\n%s", line, &log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("a secret was logged")
	}
}

func checkIdentity(t *testing.T, c *x509.Certificate, asked [64]byte) {
	t.Helper()
	digest := sha256.Sum256(c.Raw)
	if !bytes.Equal(asked[:32], digest[:]) || !bytes.Equal(asked[32:], make([]byte, 32)) {
		t.Error("report data is not SHA-256 of the certificate and zeros")
	}
	err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	if err != nil || c.Subject.CommonName != "MarbleRun Marble" {
		t.Errorf("subject %s, %v", c.Subject, err)
	}
	if c.SignatureAlgorithm != x509.ECDSAWithSHA384 || c.NotAfter.Year() < 2250 {
		t.Errorf("signature %s, until %s", c.SignatureAlgorithm, c.NotAfter)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement {
		t.Errorf("key usage %v", c.KeyUsage)
	}
	wantUsage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if diff := cmp.Diff(wantUsage, c.ExtKeyUsage); diff != "" {
		t.Error(diff)
	}
	checkNames(t, c.DNSNames, c.IPAddresses)
}

func checkNames(t *testing.T, names []string, addresses []net.IP) {
	t.Helper()
	var ips []string
	for _, ip := range addresses {
		ips = append(ips, ip.String())
	}
	if diff := cmp.Diff([]string{"localhost", "web.example"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"192.0.2.7", "127.0.0.1", "::1"}, ips); diff != "" {
		t.Error(diff)
	}
}

func checkCSR(t *testing.T, der []byte) {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil {
		t.Error(err)
	}
	if len(csr.Subject.Names) != 0 {
		t.Errorf("subject %s", csr.Subject)
	}
	checkNames(t, csr.DNSNames, csr.IPAddresses)
}

// TestFreshKey: each activation has its own TLS key, the UUID stays.
func TestFreshKey(t *testing.T) {
	s := server(t)
	config := config(t, s)
	var ids [2]string
	for i := range ids {
		params, err := marble.Activate(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = params.UUID
	}
	_, peers := s.Requests()
	if ids[0] != ids[1] || bytes.Equal(peers[0].RawSubjectPublicKeyInfo, peers[1].RawSubjectPublicKeyInfo) {
		t.Errorf("UUIDs %v, or the key was used twice", ids)
	}
}

// TestSimulation: whatever keeps evidence away, admission is asked for without.
func TestSimulation(t *testing.T) {
	for _, test := range []struct {
		name   string
		issuer marble.Issuer
		want   string
	}{
		{"none", nil, "failed to get quote: this process has no source of evidence. Proceeding in simulation mode"},
		{"broken", &issuer{err: errors.New("no AESM")}, "failed to get quote: no AESM. Proceeding in simulation mode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := server(t)
			config := config(t, s)
			var log bytes.Buffer
			config.Issuer, config.Log = test.issuer, slog.New(slog.NewTextHandler(&log, nil))
			if _, err := marble.Activate(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			requests, _ := s.Requests()
			if len(requests[0].GetQuote()) != 0 || !strings.Contains(log.String(), test.want) {
				t.Errorf("evidence of %d bytes, log:\n%s", len(requests[0].GetQuote()), &log)
			}
			s.Set(func() { s.Simulation = false })
			_, err := marble.Activate(t.Context(), config)
			if status.Code(err) != codes.PermissionDenied || !strings.Contains(marble.Hint(err), "no TEE evidence") {
				t.Errorf("got %v (%s)", err, marble.Hint(err))
			}
		})
	}
}

// TestWrongPort: somebody else answers there, e.g. the client API.
func TestWrongPort(t *testing.T) {
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.EnableHTTP2 = true
	other.StartTLS()
	defer other.Close()
	config := config(t, server(t))
	config.CoordinatorAddr = other.Listener.Addr().String()
	_, err := marble.Activate(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), "is not a Coordinator's mesh port") ||
		!strings.Contains(marble.Hint(err), "not that of the client API") {
		t.Errorf("got %v (%s)", err, marble.Hint(err))
	}
}

func TestRefusals(t *testing.T) {
	s := server(t)
	for _, test := range []struct {
		name   string
		change func(*marble.Config)
		before error
		code   codes.Code
		want   string
		hint   string
	}{
		{"unknown type", func(c *marble.Config) { c.MarbleType = "nope" }, nil, codes.PermissionDenied,
			"refused to activate this Marble: marble verification failed: unknown marble type requested (PermissionDenied)",
			"the manifest has no Marble \"nope\""},
		{"budget", func(c *marble.Config) { c.MarbleType = "job" }, nil, codes.PermissionDenied,
			"reached max activations count (1) for marble type \"job\"", "raise MaxActivations"},
		{"no manifest", nil, status.Error(codes.FailedPrecondition, "cannot accept marbles in current state"),
			codes.FailedPrecondition, "cannot accept marbles in current state", "marblerun status"},
		{"internal", nil, status.Error(codes.Internal, "customizing marble parameters: x"), codes.Internal, "customizing",
			"log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := config(t, s)
			if test.change != nil {
				test.change(&config)
			}
			if config.MarbleType == "job" {
				if _, err := marble.Activate(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			attempts := 0
			s.Set(func() { s.Before = func(int) error { attempts++; return test.before } })
			_, err := marble.Activate(t.Context(), config)
			hint := marble.Hint(err)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.want) || !strings.Contains(hint, test.hint) {
				t.Errorf("got %v, hint %q", err, hint)
			}
			if attempts != 1 {
				t.Errorf("a definitive refusal was tried %d times", attempts)
			}
		})
	}
}

// TestRetry: the Coordinator is busy twice, then admits.
func TestRetry(t *testing.T) {
	s := server(t)
	s.Set(func() {
		s.Before = func(attempt int) error {
			if attempt < 3 {
				return status.Error(codes.Unavailable, "shutting down")
			}
			return nil
		}
	})
	if _, err := marble.Activate(t.Context(), config(t, s)); err != nil {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := marble.Config{
		CoordinatorAddr: addr, MarbleType: "web", UUIDFile: filepath.Join(t.TempDir(), "uuid"),
		Timeout: 4 * time.Second,
	}
	_, err = marble.Activate(t.Context(), config)
	want := "cannot reach the Coordinator at " + addr + " within 4s"
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := marble.Activate(ctx, config); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Error("a canceled activation succeeded")
	}
}
