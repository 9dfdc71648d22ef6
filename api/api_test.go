// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

// start runs a fake Coordinator; change adjusts it before it starts.
func start(t *testing.T, change func(*fakecoordinator.Coordinator)) *fakecoordinator.Coordinator {
	t.Helper()
	c, err := fakecoordinator.New()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func policy(t *testing.T) api.VerifyOptions {
	t.Helper()
	o, err := api.ParseVerifyOptions([]byte(fakecoordinator.Policy))
	if err != nil {
		t.Fatal(err)
	}
	o.Verifier = fakecoordinator.Verifier{}
	return o
}

func connect(t *testing.T, c *fakecoordinator.Coordinator, user *tls.Certificate) *api.Client {
	t.Helper()
	client, err := api.NewClient(c.Endpoint(), api.Options{Root: c.Root, ClientCertificate: user})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// user makes a self-signed client certificate and its PEM.
func user(t *testing.T, name string) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(block)
}

// manifestOf has the users with these certificates and a recovery key for each.
func manifestOf(t *testing.T, users map[string]string) []byte {
	t.Helper()
	doc := map[string]map[string]any{"Users": {}, "RecoveryKeys": {}}
	for name, certificate := range users {
		doc["Users"][name] = map[string]string{"Certificate": certificate}
		doc["RecoveryKeys"][name] = "key"
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// versions runs a test against both versions of the API.
func versions(t *testing.T, test func(t *testing.T, v1 bool)) {
	t.Run("v2", func(t *testing.T) { test(t, false) })
	t.Run("v1", func(t *testing.T) { test(t, true) })
}

func TestManifest(t *testing.T) {
	versions(t, func(t *testing.T, v1 bool) {
		fake := start(t, func(c *fakecoordinator.Coordinator) { c.OnlyV1 = v1 })
		client := connect(t, fake, nil)
		status, err := client.Status(t.Context())
		if err != nil || status.Code != api.StateAcceptsManifest {
			t.Fatal(status, err)
		}
		if _, err := client.ManifestGet(t.Context()); !errors.Is(err, api.ErrNoManifest) {
			t.Errorf("got %v", err)
		}
		manifest := []byte("{ \"RecoveryKeys\": {\"alice\": \"key\"} }\n")
		secrets, err := client.ManifestSet(t.Context(), manifest)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]byte{"alice": []byte("secret of alice")}, secrets); diff != "" {
			t.Error(diff)
		}
		got, err := client.ManifestGet(t.Context())
		if err != nil || !bytes.Equal(got.Bytes, manifest) {
			t.Fatal(got, err)
		}
		log, err := client.ManifestLog(t.Context())
		if err != nil || len(log) != 1 || !strings.Contains(log[0], "Initial manifest set") {
			t.Error(log, err)
		}
		checkSetTwice(t, client, manifest, v1)
	})
}

func checkSetTwice(t *testing.T, client *api.Client, manifest []byte, v1 bool) {
	t.Helper()
	code, path := 500, "/api/v2/manifest"
	if v1 {
		code, path = 400, "/manifest"
	}
	_, err := client.ManifestSet(t.Context(), manifest)
	var refused *api.RequestError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	want := &api.RequestError{
		Method: "POST", URL: "https://" + client.Endpoint() + path, Code: code, Status: "error",
		Message: "server is not in expected state", Data: json.RawMessage("null"),
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Error(diff)
	}
}

func TestManifestGetChecks(t *testing.T) {
	manifest, other := []byte(`{"a":1}`), []byte(`{"a":2}`)
	sum := sha256.Sum256(other)
	tests := map[string]func(m *wire.ManifestV2){
		"fingerprint": func(m *wire.ManifestV2) { m.ManifestFingerprint = hex.EncodeToString(sum[:]) },
		"bytes":       func(m *wire.ManifestV2) { m.Manifest = other },
		"bytes and fingerprint": func(m *wire.ManifestV2) {
			m.Manifest, m.ManifestFingerprint = other, hex.EncodeToString(sum[:])
		},
		"no signature": func(m *wire.ManifestV2) { m.ManifestSignatureRootECDSA = nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			fake := start(t, func(c *fakecoordinator.Coordinator) {
				c.SetManifest(manifest)
				c.Tamper = func(_ string, data any) any {
					m := data.(wire.ManifestV2)
					change(&m)
					return m
				}
			})
			if _, err := connect(t, fake, nil).ManifestGet(t.Context()); err == nil {
				t.Error("a forged manifest was accepted")
			}
		})
	}
}

// TestVersion2Only: no fallback exists, so 405 is the answer.
func TestVersion2Only(t *testing.T) {
	client := connect(t, start(t, func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true }), nil)
	ctx := t.Context()
	calls := map[string]func() error{
		"Recover":            func() error { _, err := client.RecoverWithSignature(ctx, nil, nil); return err },
		"RecoveryPublicKey":  func() error { _, err := client.RecoveryPublicKey(ctx); return err },
		"SignQuote":          func() error { _, _, err := client.SignQuote(ctx, nil); return err },
		"Counter":            func() error { _, err := client.SetMonotonicCounter(ctx, "c", 1); return err },
		"RecoverySecrets":    func() error { _, err := client.RecoverySecrets(ctx); return err },
		"Activations (page)": func() error { _, err := client.ActivationsPage(ctx, 0, 1); return err },
	}
	for name, call := range calls {
		var refused *api.RequestError
		if err := call(); !errors.As(err, &refused) || refused.Code != http.StatusMethodNotAllowed ||
			!strings.HasSuffix(err.Error(), "405 Method Not Allowed: error") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestActivations(t *testing.T) {
	client := connect(t, start(t, nil), nil)
	var got []uint64
	for a, err := range client.Activations(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Position)
	}
	if diff := cmp.Diff([]uint64{2, 3, 4, 5}, got); diff != "" {
		t.Error(diff)
	}
	for range client.Activations(t.Context(), 0) {
		break
	}
}
