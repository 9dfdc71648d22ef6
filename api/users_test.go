// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

func TestUsers(t *testing.T) {
	versions(t, func(t *testing.T, v1 bool) {
		alice, alicePEM := user(t, "alice")
		bob, bobPEM := user(t, "bob")
		manifest := manifestOf(t, map[string]string{"alice": alicePEM, "bob": bobPEM})
		fake := start(t, func(c *fakecoordinator.Coordinator) {
			c.OnlyV1 = v1
			c.SetManifest(manifest)
		})
		checkStranger(t, fake)
		checkSecrets(t, connect(t, fake, alice))
		checkUpdate(t, connect(t, fake, alice), connect(t, fake, bob), append(manifest, ' '), v1)
	})
}

func checkStranger(t *testing.T, fake *fakecoordinator.Coordinator) {
	t.Helper()
	stranger, _ := user(t, "alice")
	for _, certificate := range []*tls.Certificate{nil, stranger} {
		_, err := connect(t, fake, certificate).SecretGet(t.Context(), []string{"s"})
		var refused *api.RequestError
		if !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
			t.Fatalf("got %v", err)
		}
		want := "GET " + refused.URL +
			": authorizing user: unauthorized user: client certificate did not match any MarbleRun users"
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func checkSecrets(t *testing.T, client *api.Client) {
	t.Helper()
	values := map[string]api.UserSecret{"s": {Key: []byte("v")}, "c": {Cert: []byte("der"), Private: []byte("key")}}
	if err := client.SecretSet(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	got, err := client.SecretGet(t.Context(), []string{"s", "c"})
	if err != nil || string(got["s"].Private) != "v" || string(got["c"].Cert) != "der" {
		t.Error(got, err)
	}
	if _, err := client.SecretGet(t.Context(), nil); err == nil {
		t.Error("no names were accepted")
	}
}

func checkUpdate(t *testing.T, alice, bob *api.Client, update []byte, v1 bool) {
	t.Helper()
	ctx := t.Context()
	first, err := alice.UpdateApply(ctx, update)
	want := api.UpdateResult{MissingAcknowledgments: 1, MissingUsers: []string{"bob"}}
	if v1 {
		want = api.UpdateResult{}
	}
	if diff := cmp.Diff(want, first); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	pending, err := alice.UpdateGet(ctx)
	if err != nil || !bytes.Equal(pending.Manifest, update) || !slices.Equal(pending.MissingUsers, []string{"bob"}) {
		t.Error(pending, err)
	}
	again, err := alice.UpdateAcknowledge(ctx, update)
	if err != nil || again.MissingAcknowledgments != 1 {
		t.Error(again, err)
	}
	if _, err := bob.UpdateAcknowledge(ctx, []byte("{}")); err == nil {
		t.Error("other bytes were acknowledged")
	}
	last, err := bob.UpdateAcknowledge(ctx, update)
	if err != nil || last.MissingAcknowledgments != 0 || (len(last.RecoverySecrets) == 2) == v1 {
		t.Error(last, err)
	}
	if _, err := alice.UpdateApply(ctx, update); err != nil {
		t.Error(err)
	}
	if err := bob.UpdateCancel(ctx); err != nil {
		t.Error(err)
	}
	const none = "404 Not Found: error: no update in progress"
	if err := bob.UpdateCancel(ctx); err == nil || !strings.HasSuffix(err.Error(), none) {
		t.Errorf("got %v", err)
	}
}

// TestUpdateApplyOldV2: Coordinators before 1.8 answer with no data.
func TestUpdateApplyOldV2(t *testing.T) {
	alice, alicePEM := user(t, "alice")
	fake := start(t, func(c *fakecoordinator.Coordinator) {
		c.SetManifest(manifestOf(t, map[string]string{"alice": alicePEM}))
		c.Tamper = func(string, any) any { return nil }
	})
	got, err := connect(t, fake, alice).UpdateApply(t.Context(), []byte(`{"Packages":{}}`))
	if diff := cmp.Diff(api.UpdateResult{}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestRecover(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	fake := start(t, func(c *fakecoordinator.Coordinator) {
		if err := c.SetRecovery(2); err != nil {
			t.Fatal(err)
		}
	})
	client, _, err := api.Connect(t.Context(), fake.Endpoint(), policy(t), api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.Repeat([]byte{1}, 32)
	if remaining, err := client.Recover(t.Context(), first, key); err != nil || remaining != 1 {
		t.Fatal(remaining, err)
	}
	if _, err := client.Recover(t.Context(), first, key); err == nil {
		t.Error("a used secret was accepted")
	}
	ephemeral, err := client.RecoveryPublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.Repeat([]byte{2}, 32)
	encrypted, err := api.EncryptRecoverySecretWithEphemeralKey(second, ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := api.SignRecoverySecret(second, key)
	if err != nil {
		t.Fatal(err)
	}
	if remaining, err := client.RecoverWithSignature(t.Context(), encrypted, signature); err != nil || remaining != 0 {
		t.Error(remaining, err)
	}
}

func TestRecoveryCrypto(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("0123456789abcdef")
	data, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := api.DecryptRecoveryData(data, key); err != nil || !bytes.Equal(got, secret) {
		t.Error(got, err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.SignRecoverySecret(secret, ec); err == nil {
		t.Error("signed with ECDSA")
	}
	if _, err := api.EncryptRecoverySecretWithEphemeralKey(secret, &ec.PublicKey); err == nil ||
		err.Error() != "expected RSA public key, got *ecdsa.PublicKey" {
		t.Errorf("got %v", err)
	}
}

func TestMarbleServices(t *testing.T) {
	fake := start(t, nil)
	certificate, chain := user(t, "marble")
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	env := map[string]string{
		"MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": chain,
		"MARBLE_PREDEFINED_PRIVATE_KEY":              block("PRIVATE KEY", key),
		"MARBLE_PREDEFINED_COORDINATOR_ROOT_CA":      block("CERTIFICATE", fake.Root.Raw),
	}
	client, err := api.NewMarbleClient(fake.Endpoint(), func(name string) string { return env[name] }, api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, value := range []uint64{5, 3, 1<<64 - 1, 0} {
		previous, err := client.SetMonotonicCounter(t.Context(), "c", value)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, previous)
	}
	if diff := cmp.Diff([]uint64{0, 5, 5, 1<<64 - 1}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := api.NewMarbleClient(fake.Endpoint(), func(string) string { return "" }, api.Options{}); err == nil {
		t.Error("made a Marble's client without credentials")
	}

	quote := []byte("quote")
	signature, status, err := client.SignQuote(t.Context(), quote)
	if err != nil || status != attest.OutOfDate {
		t.Fatal(status, err)
	}
	if !api.VerifySignedQuote(fake.Root, quote, signature, status) {
		t.Error("a good signature was refused")
	}
	if api.VerifySignedQuote(fake.Root, quote, signature, attest.UpToDate) ||
		api.VerifySignedQuote(fake.Intermediate, quote, signature, status) ||
		api.VerifySignedQuote(fake.Root, append(quote, 0), signature, status) {
		t.Error("a bad signature was accepted")
	}
}
