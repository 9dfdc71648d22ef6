// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
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

func TestVerifyCoordinator(t *testing.T) {
	tests := map[string]struct {
		fake    func(*fakecoordinator.Coordinator)
		options func(*api.VerifyOptions)
		want    string // part of the error; empty: accepted
	}{
		"accepted":         {},
		"version 1 only":   {fake: func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true }},
		"nonce":            {options: func(o *api.VerifyOptions) { o.Nonce = []byte{0xfb, 0xff, 1} }},
		"unique ID":        {options: func(o *api.VerifyOptions) { o.UniqueID = strings.ToUpper(fakecoordinator.UniqueID) }},
		"insecure":         {options: func(o *api.VerifyOptions) { *o = api.VerifyOptions{InsecureSkipVerify: true} }},
		"debug allowed":    {options: func(o *api.VerifyOptions) { o.Debug = true }},
		"simulation":       {fake: func(c *fakecoordinator.Coordinator) { c.Simulation = true }, want: "sent no quote"},
		"no verifier":      {options: func(o *api.VerifyOptions) { o.Verifier = nil }, want: "no verifier"},
		"empty policy":     {options: func(o *api.VerifyOptions) { o.SignerID = "" }, want: "neither UniqueID nor SignerID"},
		"no versions":      {options: func(o *api.VerifyOptions) { o.ProductID = nil }, want: "missing ProductID in config"},
		"wrong unique ID":  {options: func(o *api.VerifyOptions) { o.UniqueID = fakecoordinator.SignerID }, want: "invalid UniqueID"},
		"wrong signer":     {options: func(o *api.VerifyOptions) { o.SignerID = fakecoordinator.UniqueID }, want: "invalid SignerID"},
		"wrong product":    {options: func(o *api.VerifyOptions) { *o.ProductID = 4 }, want: "invalid ProductID"},
		"required product": {options: func(o *api.VerifyOptions) { *o.ProductID = 0 }, want: "invalid ProductID"},
		"old version":      {options: func(o *api.VerifyOptions) { *o.SecurityVersion = 3 }, want: "invalid SecurityVersion"},
		"debug": {
			fake: func(c *fakecoordinator.Coordinator) { c.Claims.Debug = true }, want: "debug enclave not allowed",
		},
		"out of date": {
			fake: func(c *fakecoordinator.Coordinator) { c.Claims.TCBStatus = attest.OutOfDate },
			want: "invalid TCB status: OutOfDate",
		},
		"wrong TEE": {fake: func(c *fakecoordinator.Coordinator) { c.Claims.TEE = attest.TDX }, want: "tdx"},
		"nonce but version 1": {
			fake:    func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true },
			options: func(o *api.VerifyOptions) { o.Nonce = []byte("n") },
			want:    "using custom nonce requires /api/v2, but the Coordinator does not support /api/v2",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fake := start(t, test.fake)
			o := policy(t)
			if test.options != nil {
				test.options(&o)
			}
			got, err := api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !got.Root.Equal(fake.Root) || !got.Intermediate.Equal(fake.Intermediate) || len(got.Quote) == 0 {
					t.Error("root, intermediate or quote missing")
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("got %v, %v; want error %q", got, err, test.want)
			}
		})
	}
}

// TestVerifyBinding shows an impostor that relays the certificates and the quote of a genuine Coordinator.
func TestVerifyBinding(t *testing.T) {
	genuine := start(t, nil)
	t.Run("connection is not the root's", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) {
			c.QuoteRoot, c.Intermediate = genuine.Root, genuine.Intermediate
		})
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), api.VerifyOptions{InsecureSkipVerify: true})
		if !errors.Is(err, api.ErrRootMismatch) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("intermediate is not the root's", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) { c.Intermediate = genuine.Intermediate })
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), policy(t))
		if err == nil || !strings.Contains(err.Error(), "not signed by its root") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("quote is for another root", func(t *testing.T) {
		impostor := start(t, func(c *fakecoordinator.Coordinator) { c.Tamper = relayQuote(t, genuine) })
		_, err := api.VerifyCoordinator(t.Context(), impostor.Endpoint(), policy(t))
		if !errors.Is(err, api.ErrReportData) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cached quote does not answer a nonce", func(t *testing.T) {
		quote := fetchQuote(t, genuine)
		stale := start(t, func(c *fakecoordinator.Coordinator) {
			c.Tamper = func(_ string, data any) any {
				q := data.(wire.QuoteV2)
				q.Quote = quote
				return q
			}
		})
		o := policy(t)
		o.Nonce = []byte("fresh")
		if _, err := api.VerifyCoordinator(t.Context(), stale.Endpoint(), o); !errors.Is(err, api.ErrReportData) {
			t.Errorf("got %v", err)
		}
	})
}

func fetchQuote(t *testing.T, c *fakecoordinator.Coordinator) []byte {
	t.Helper()
	got, err := api.VerifyCoordinator(t.Context(), c.Endpoint(), policy(t))
	if err != nil {
		t.Fatal(err)
	}
	return got.Quote
}

func relayQuote(t *testing.T, genuine *fakecoordinator.Coordinator) func(string, any) any {
	quote := fetchQuote(t, genuine)
	return func(_ string, data any) any {
		q := data.(wire.QuoteV2)
		q.Quote = quote
		return q
	}
}

func TestTCBStatusError(t *testing.T) {
	fake := start(t, func(c *fakecoordinator.Coordinator) {
		c.Claims.TCBStatus = attest.SWHardeningNeeded
		c.Claims.PlatformAdvisories = []string{"INTEL-SA-1", "INTEL-SA-2"}
		c.Claims.Advisories = c.Claims.PlatformAdvisories
	})
	o := policy(t)
	got, err := api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TCB level accepted by configuration: SWHardeningNeeded", "TCB Advisories: [INTEL-SA-1 INTEL-SA-2]",
	}
	if diff := cmp.Diff(want, got.Notes); diff != "" {
		t.Error(diff)
	}

	o.AcceptedAdvisories = []string{"intel-sa-1"}
	_, err = api.VerifyCoordinator(t.Context(), fake.Endpoint(), o)
	var status *api.TCBStatusError
	if !errors.As(err, &status) {
		t.Fatalf("no TCBStatusError: %v", err)
	}
	const text = "invalid TCB status: SWHardeningNeeded: advisories not accepted by configuration: [INTEL-SA-2]"
	if status.Error() != text || !strings.Contains(api.Hint(err), "INTEL-SA-2") {
		t.Errorf("got %q, hint %q", status, api.Hint(err))
	}
}

func TestParseVerifyOptions(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"release":          {file: fakecoordinator.Policy},
		"any case":         {file: `{"uniqueid":"` + fakecoordinator.UniqueID + `","unknown":1}`},
		"skip":             {file: `{"InsecureSkipVerify":true}`, want: "InsecureSkipVerify must not be set by a file"},
		"skip, any case":   {file: `{"INSECURESKIPVERIFY":true}`, want: "InsecureSkipVerify must not be set by a file"},
		"empty":            {file: `{}`, want: "neither UniqueID nor SignerID"},
		"no version":       {file: `{"SignerID":"` + fakecoordinator.SignerID + `","ProductID":3}`, want: "missing SecurityVersion"},
		"zero is unset":    {file: `{"SignerID":"` + fakecoordinator.SignerID + `","SecurityVersion":1,"ProductID":0}`, want: "missing ProductID"},
		"short ID":         {file: `{"UniqueID":"11"}`, want: "UniqueID in config must be 32 bytes in hex"},
		"no hex":           {file: `{"UniqueID":"` + strings.Repeat("x", 64) + `"}`, want: "UniqueID in config must be"},
		"no JSON":          {file: `hello`, want: "invalid character"},
		"product too high": {file: `{"ProductID":65536}`, want: "ProductID"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := api.ParseVerifyOptions([]byte(test.file))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzParseVerifyOptions(f *testing.F) {
	f.Add([]byte(fakecoordinator.Policy))
	f.Add([]byte(`{"InsecureSkipVerify":true,"Nonce":"AAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := api.ParseVerifyOptions(data)
		if err == nil && (o.InsecureSkipVerify || o.UniqueID == "" && o.SignerID == "") {
			t.Errorf("accepted a policy that checks nothing: %s", data)
		}
	})
}

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

func TestVerifyDeployment(t *testing.T) {
	manifest := []byte(`{"a":1}`)
	sum := sha256.Sum256(manifest)
	fake := start(t, func(c *fakecoordinator.Coordinator) { c.SetManifest(manifest) })
	for name, m := range map[string][]byte{"bytes": manifest, "hash": sum[:]} {
		if _, err := api.VerifyDeployment(t.Context(), fake.Endpoint(), policy(t), m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := api.VerifyDeployment(t.Context(), fake.Endpoint(), policy(t), []byte(`{"a":2}`))
	if !errors.Is(err, api.ErrManifestMismatch) {
		t.Errorf("got %v", err)
	}
}

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
	if err := bob.UpdateCancel(ctx); err == nil || !strings.HasSuffix(err.Error(), "404 Not Found: error: no update in progress") {
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
	env := map[string]string{
		"MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": chain,
		"MARBLE_PREDEFINED_PRIVATE_KEY":              string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"MARBLE_PREDEFINED_COORDINATOR_ROOT_CA":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: fake.Root.Raw})),
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
		"no JSON, 200": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "no JSON envelope"},
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
