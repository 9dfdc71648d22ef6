// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/test/harness"
)

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if s := grpcstatus.Convert(err); s.Code() != code || !strings.Contains(s.Message(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

// marble-api.md §13, rows 1 and 2.
func TestActivateWithoutManifest(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	conn, err := tls.Dial("tcp", c.MeshAddr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err == nil {
		// TLS 1.3: the client learns of the refusal when it reads.
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a client certificate: %v", err)
	}
	_, err = activate(t, c, "m", uuid1)
	wantCode(t, err, codes.FailedPrecondition, "cannot accept marbles in current state")
}

// marble-api.md §13, rows 3 to 10, 13, 14, 16 and 17.
func TestActivate(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, object{
		"Marbles": object{
			"m": marble(object{"Parameters": object{
				"Argv": []string{"./m", "{{ x }}"},
				"Env": object{
					"KEY": "{{ hex .Secrets.key }}", "MARBLE_PREDEFINED_ROOT_CA": "mine", "PLAIN": "text",
					"SHARED": "{{ hex .Secrets.shared }}",
				},
				"Files": object{"/raw": object{"Data": "00ff", "Encoding": "hex", "NoTemplates": true}},
			}}),
			"limited":  marble(object{"MaxActivations": 2}),
			"unbound1": marble(object{"DisableSecretBinding": true, "Parameters": object{"Env": object{"KEY": "{{ hex .Secrets.key }}"}}}),
			"unbound2": marble(object{"DisableSecretBinding": true, "Parameters": object{"Env": object{"KEY": "{{ hex .Secrets.key }}"}}}),
		},
		"Secrets": object{
			"key":    object{"Type": "symmetric-key", "Size": 128},
			"shared": object{"Type": "symmetric-key", "Size": 128, "Shared": true},
		},
	}))

	t.Run("row 3: unknown type", func(t *testing.T) {
		_, err := activate(t, c, "nope", uuid1)
		wantCode(t, err, codes.PermissionDenied, "marble verification failed: unknown marble type requested")
	})
	t.Run("row 4: bad UUID", func(t *testing.T) {
		for _, id := range []string{"garbage", ""} {
			_, err := activate(t, c, "limited", id)
			wantCode(t, err, codes.InvalidArgument, "invalid UUID: ")
		}
	})
	t.Run("row 5: broken CSR", func(t *testing.T) {
		id := harness.NewIdentity(t)
		broken := slices.Clone(id.CSR)
		broken[len(broken)-1] ^= 1
		_, err := c.ActivateWith(context.Background(), id,
			&marblepb.ActivationReq{CSR: broken, MarbleType: "limited", UUID: uuid1})
		wantCode(t, err, codes.Internal, "generating marble authentication secrets: ")
	})
	t.Run("row 11: budget, unused by failures", func(t *testing.T) {
		mustActivate(t, c, "limited", uuid1)
		mustActivate(t, c, "limited", uuid1)
		_, err := activate(t, c, "limited", uuid1)
		wantCode(t, err, codes.PermissionDenied, `reached max activations count (2) for marble type "limited"`)
	})

	p := mustActivate(t, c, "m", uuid1)
	t.Run("rows 6, 7, 8: certificate", func(t *testing.T) { checkCredentials(t, p) })
	t.Run("row 9, 10: symmetric secrets", func(t *testing.T) {
		again := mustActivate(t, c, "m", strings.ToUpper(uuid1))
		equal(t, "same UUID", string(again.Env["KEY"]), string(p.Env["KEY"]))
		other := mustActivate(t, c, "m", "00000000-0000-4000-8000-000000000001")
		if string(other.Env["KEY"]) == string(p.Env["KEY"]) {
			t.Error("another UUID has the same key")
		}
		equal(t, "shared", string(other.Env["SHARED"]), string(p.Env["SHARED"]))
		u1, u2 := mustActivate(t, c, "unbound1", uuid1), mustActivate(t, c, "unbound2", uuid1)
		equal(t, "unbound", string(u2.Env["KEY"]), string(u1.Env["KEY"]))
		if string(u1.Env["KEY"]) == string(p.Env["KEY"]) {
			t.Error("an unbound key equals a bound one")
		}
	})
	t.Run("row 13: predefined variables win", func(t *testing.T) {
		if string(p.Env["MARBLE_PREDEFINED_ROOT_CA"]) == "mine" {
			t.Error("the manifest overrode a predefined variable")
		}
	})
	t.Run("row 14: no TLS tags", func(t *testing.T) {
		if _, ok := p.Env["MARBLE_TTLS_CONFIG"]; ok {
			t.Error("MARBLE_TTLS_CONFIG without tags")
		}
	})
	t.Run("rows 16, 17: verbatim", func(t *testing.T) {
		equal(t, "argv", p.Argv, []string{"./m", "{{ x }}"})
		equal(t, "file", p.Files["/raw"], []byte{0, 0xff})
	})

	t.Run("row 11: after a restart", func(t *testing.T) {
		c.Kill()
		c.Run()
		c.WaitReady()
		_, err := activate(t, c, "limited", uuid1)
		wantCode(t, err, codes.PermissionDenied, "reached max activations count")
		again := mustActivate(t, c, "m", uuid1)
		equal(t, "key after restart", string(again.Env["KEY"]), string(p.Env["KEY"]))
	})
}

// checkCredentials checks rows 6 to 8 on an answer for type m with DNS names a, b.
func checkCredentials(t *testing.T, p *marblepb.Parameters) {
	chain := parsePEM(t, string(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]))
	if len(chain) != 2 {
		t.Fatalf("chain has %d certificates, want 2", len(chain))
	}
	leaf := chain[0]
	equal(t, "CN", leaf.Subject.CommonName, uuid1)
	equal(t, "O", len(leaf.Subject.Organization), 0)
	equal(t, "SAN", leaf.DNSNames, []string{"a", "b"})
	i := slices.IndexFunc(leaf.Extensions, func(e pkixExtension) bool { return e.Id.String() == "1.3.9903.2.1" })
	if i < 0 || string(leaf.Extensions[i].Value) != "m" || leaf.Extensions[i].Critical {
		t.Errorf("marble type extension missing or wrong")
	}
	for name, tt := range map[string]struct{ root, intermediate *x509.Certificate }{
		"Marble Root":      {parsePEM(t, string(p.Env["MARBLE_PREDEFINED_ROOT_CA"]))[0], nil},
		"Coordinator root": {parsePEM(t, string(p.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]))[0], chain[1]},
	} {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(tt.root)
		if tt.intermediate != nil {
			intermediates.AddCert(tt.intermediate)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: "a"})
		if err != nil {
			t.Errorf("under the %s: %v", name, err)
		}
	}
	block, _ := pem.Decode(p.Env["MARBLE_PREDEFINED_PRIVATE_KEY"])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.(*ecdsa.PrivateKey).PublicKey.Equal(leaf.PublicKey) {
		t.Error("the private key is not the leaf's")
	}
}
