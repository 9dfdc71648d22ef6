// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
	"github.com/marblerun/marblerun/attest/verifier"
	"github.com/marblerun/marblerun/test/harness"
)

// world is a software TEE with its collateral service, and the socket at which a Coordinator gets its own evidence.
type world struct {
	platform *softtee.Platform
	service  *server.Server
	url      string
	rootFile string
	socket   string
	env      []string // of a Coordinator in it
}

func newWorld(t *testing.T, kind softtee.Kind) *world {
	t.Helper()
	p, err := softtee.New(softtee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{platform: p, service: server.New(p)}
	http := httptest.NewServer(w.service)
	t.Cleanup(http.Close)
	w.url = http.URL
	dir, err := os.MkdirTemp("", "softtee") // short: socket paths are bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.rootFile, w.socket = filepath.Join(dir, "roots.pem"), filepath.Join(dir, "socket")
	roots, err := p.RootsPEM()
	if err == nil {
		err = os.WriteFile(w.rootFile, roots, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t, kind)
	w.env = []string{
		"EDG_COORDINATOR_SIMULATION=0", "EDG_SOFTTEE_SOCKET=" + w.socket, "EDG_COORDINATOR_SOFTTEE_ROOT=" + w.rootFile,
		"EDG_COORDINATOR_PCCS_URL=" + w.url + "/sgx/certification/v4/", "EDG_COORDINATOR_KDS_URL=" + w.url,
	}
	return w
}

// serve issues evidence at the socket until the test ends.
func (w *world) serve(t *testing.T, kind softtee.Kind) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Config{
			Platform: w.platform, Ready: func(string) { close(ready) },
			Sockets: []server.Socket{{Path: w.socket, Kind: kind, Machine: softtee.Machine{Name: "coordinator"}}},
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
}

// evidence is that of a Marble with the TLS identity id.
func (w *world) evidence(t *testing.T, id harness.Identity, r softtee.Request) []byte {
	t.Helper()
	hash := sha256.Sum256(id.TLS.Certificate[0])
	if r.ReportData == [64]byte{} {
		copy(r.ReportData[:], hash[:])
	}
	if r.Machine.Name == "" {
		r.Machine.Name = "node"
	}
	data, err := w.platform.Evidence(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (w *world) activate(t *testing.T, c *harness.Coordinator, marbleType string, r softtee.Request) error {
	t.Helper()
	id := harness.NewIdentity(t)
	_, err := c.ActivateWith(context.Background(), id, &marblepb.ActivationReq{
		Quote: w.evidence(t, id, r), CSR: id.CSR, MarbleType: marbleType, UUID: uuid1,
	})
	return err
}

// claims are what a verifier reads out of evidence of the world's default workload.
func (w *world) claims(t *testing.T, kind softtee.Kind) *attest.Claims {
	t.Helper()
	roots, err := os.ReadFile(w.rootFile)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.New(verifier.Config{
		SoftwareRoots: roots, PCCS: []string{w.url + "/sgx/certification/v4/"}, KDS: w.url,
	})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := v.Verify(context.Background(), w.evidence(t, harness.NewIdentity(t), softtee.Request{Kind: kind}))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// manifest has one package a TEE, each pinning the default workload, and one Marble type of each.
func (w *world) manifest(t *testing.T) []byte {
	t.Helper()
	sgx, tdx, snp := w.claims(t, softtee.SGXv3), w.claims(t, softtee.TDXv4), w.claims(t, softtee.SNPv3)
	return manifestJSON(t, object{
		"Packages": object{
			"sgx":    object{"SignerID": sgx.SGX.MRSIGNER, "ProductID": sgx.SGX.ISVPRODID, "SecurityVersion": sgx.SGX.ISVSVN},
			"newer":  object{"SignerID": sgx.SGX.MRSIGNER, "ProductID": sgx.SGX.ISVPRODID, "SecurityVersion": sgx.SGX.ISVSVN + 1},
			"strict": object{"UniqueID": sgx.SGX.MRENCLAVE, "AcceptedTCBStatuses": []string{"UpToDate"}},
			"tdx":    object{"TDX": object{"MRTD": tdx.TDX.MRTD}},
			"snp":    object{"SNP": object{"Measurement": snp.SNP.Measurement}},
		},
		"Marbles": object{
			"sgx": object{"Package": "sgx"}, "newer": object{"Package": "newer"}, "strict": object{"Package": "strict"},
			"tdx": object{"Package": "tdx"}, "snp": object{"Package": "snp"},
			"limited": object{"Package": "sgx", "MaxActivations": 1},
		},
		"Config": object{"FeatureGates": []string{"SignQuoteEndpoint"}},
	})
}

// marble-api.md §3 to §5 with evidence: the software TEE issues, the real verifier decides, per TEE.
func TestAttestedActivation(t *testing.T) {
	w := newWorld(t, softtee.SGXv3)
	c := harness.Start(t, harness.Options{Env: w.env})
	s := decode[wire.StatusV2](t, c.Get("/api/v2/status"))
	if notes := strings.Join(s.Notes, "\n"); !strings.Contains(notes, "software TEE") {
		t.Errorf("status does not say that a software TEE is trusted: %q", notes)
	}
	c.MustSetManifest(w.manifest(t))

	for _, tt := range []struct {
		marble string
		kinds  []softtee.Kind
	}{
		{"sgx", []softtee.Kind{softtee.SGXv3, softtee.SGXv4, softtee.SGXv5}},
		{"tdx", []softtee.Kind{softtee.TDXv4, softtee.TDXv5}},
		{"snp", []softtee.Kind{softtee.SNPv3}},
	} {
		for _, kind := range tt.kinds {
			if err := w.activate(t, c, tt.marble, softtee.Request{Kind: kind}); err != nil {
				t.Errorf("%s with %s: %v", tt.marble, kind, err)
			}
		}
	}
	for name, tt := range map[string]struct {
		marble string
		r      softtee.Request
		want   string
	}{
		"another TEE":         {"tdx", softtee.Request{Kind: softtee.SGXv3}, "the policy wants tdx"},
		"debug":               {"sgx", softtee.Request{Kind: softtee.SGXv3, Workload: softtee.Workload{Debug: true}}, "debug"},
		"security version":    {"newer", softtee.Request{Kind: softtee.SGXv3}, "SecurityVersion"},
		"out of date":         {"sgx", softtee.Request{Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "old", Status: attest.OutOfDate}}, "OutOfDate"},
		"hardening, strict":   {"strict", softtee.Request{Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "sw", Status: attest.SWHardeningNeeded}}, "SWHardeningNeeded"},
		"other report data":   {"sgx", softtee.Request{Kind: softtee.SGXv3, ReportData: [64]byte{1}}, "report data"},
		"other measurement":   {"strict", softtee.Request{Kind: softtee.SGXv3, Workload: softtee.Workload{SGX: attest.SGXClaims{MRENCLAVE: strings.Repeat("00", 32)}}}, "UniqueID"},
		"SNP, other platform": {"snp", softtee.Request{Kind: softtee.SNPv3, Workload: softtee.Workload{SNP: attest.SNPClaims{Measurement: strings.Repeat("11", 48)}}}, "Measurement"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, w.activate(t, c, tt.marble, tt.r), codes.PermissionDenied, "marble verification failed: invalid quote: ")
			wantCode(t, w.activate(t, c, tt.marble, tt.r), codes.PermissionDenied, tt.want)
		})
	}
	t.Run("a refusal names the manifest change", func(t *testing.T) {
		err := w.activate(t, c, "newer", softtee.Request{Kind: softtee.SGXv3})
		wantCode(t, err, codes.PermissionDenied, "a manifest update of its package would accept it: lower SecurityVersion to ")
	})
	t.Run("hardening is accepted by default", func(t *testing.T) {
		err := w.activate(t, c, "sgx", softtee.Request{Kind: softtee.SGXv3,
			Machine: softtee.Machine{Name: "sw", Status: attest.SWHardeningNeeded}})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("no evidence", func(t *testing.T) {
		_, err := activate(t, c, "sgx", uuid1)
		wantCode(t, err, codes.PermissionDenied, "invalid quote: empty report")
	})
	t.Run("the record says what was seen", func(t *testing.T) {
		page := decode[wire.ActivationsReply](t, c.Get("/api/v2/activations?limit=1"))
		a := page.Activations[0]
		if len(a.EvidenceSHA256) != 64 || !strings.Contains(string(a.Claims), `"mrenclave"`) || len(a.Collateral) == 0 {
			t.Errorf("%+v, claims %s", a, a.Claims)
		}
	})
	t.Run("collateral outage", func(t *testing.T) {
		w.service.SetFaults(server.Faults{Outage: true})
		defer w.service.SetFaults(server.Faults{})
		if err := w.activate(t, c, "sgx", softtee.Request{Kind: softtee.SGXv3}); err != nil {
			t.Errorf("cached collateral was not used: %v", err)
		}
	})
}

// client-api.md §6 and §11 with evidence.
func TestQuoteAndSignQuote(t *testing.T) {
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv4, softtee.SNPv5} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, kind)
			c := harness.Start(t, harness.Options{Env: w.env})
			q := decode[wire.QuoteV2](t, c.Get("/api/v2/quote"))
			r := root(t, c)
			checkQuote(t, w, q.Quote, r, nil)
			equal(t, "cached", decode[wire.QuoteV2](t, c.Get("/api/v2/quote")).Quote, q.Quote)
			nonce := []byte("nonce \xff")
			fresh := decode[wire.QuoteV2](t, c.Get("/api/v2/quote?nonce="+url.QueryEscape(base64.URLEncoding.EncodeToString(nonce))))
			checkQuote(t, w, fresh.Quote, r, nonce)

			c.MustSetManifest(w.manifest(t))
			sent := fmt.Sprintf(`{"sgxQuote":%q}`, base64.StdEncoding.EncodeToString(q.Quote))
			signed := decode[wire.SignQuoteReply](t, c.Post("/api/v2/sign-quote", []byte(sent)))
			equal(t, "status", signed.TCBStatus, "UpToDate")
			message := base64.StdEncoding.EncodeToString(q.Quote) + signed.TCBStatus
			if err := r.CheckSignature(x509.ECDSAWithSHA256, []byte(message), signed.VerificationSignature); err != nil {
				t.Errorf("signature: %v", err)
			}
			bad := c.Post("/api/v2/sign-quote", []byte(`{"sgxQuote":"AAAA"}`))
			if bad.Code != 400 || bad.Message != "quote verification failed" {
				t.Errorf("garbage: %d %s", bad.Code, bad.Body)
			}
		})
	}
}

func checkQuote(t *testing.T, w *world, quote []byte, root *x509.Certificate, nonce []byte) {
	t.Helper()
	roots, err := os.ReadFile(w.rootFile)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.New(verifier.Config{SoftwareRoots: roots, PCCS: []string{w.url + "/sgx/certification/v4/"}, KDS: w.url})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := v.Verify(context.Background(), quote)
	if err != nil {
		t.Fatal(err)
	}
	if reason := attest.CheckReportHash(claims, sha256.Sum256(append(root.Raw[:len(root.Raw):len(root.Raw)], nonce...))); reason != nil {
		t.Errorf("report data: %s", reason.Text)
	}
}

// The trust rules of the architecture: a software root is trusted only by a Coordinator whose evidence chains to it or which
// has none; who trusts it says so.
func TestSoftwareTEETrust(t *testing.T) {
	w, other := newWorld(t, softtee.SGXv3), newWorld(t, softtee.SGXv3)
	t.Run("own evidence under another root", func(t *testing.T) {
		env := append(append([]string{}, w.env...), "EDG_COORDINATOR_SOFTTEE_ROOT="+other.rootFile)
		c := harness.Start(t, harness.Options{NoWait: true, Env: env})
		equal(t, "exit code", c.Wait(), 1)
	})
	t.Run("no evidence of its own", func(t *testing.T) {
		env := append(append([]string{}, w.env...), "EDG_COORDINATOR_SIMULATION=1", "EDG_SOFTTEE_SOCKET=")
		c := harness.Start(t, harness.Options{Env: env})
		c.MustSetManifest(w.manifest(t))
		if q := decode[wire.QuoteV2](t, c.Get("/api/v2/quote")); q.Quote != nil {
			t.Error("a quote from nowhere")
		}
		if err := w.activate(t, c, "sgx", softtee.Request{Kind: softtee.SGXv3}); err != nil {
			t.Error(err)
		}
		wantCode(t, other.activate(t, c, "sgx", softtee.Request{Kind: softtee.SGXv3}), codes.PermissionDenied, "invalid quote")
		_, err := activate(t, c, "sgx", uuid1)
		wantCode(t, err, codes.PermissionDenied, "empty report")
	})
	t.Run("a collateral outage at start is not a refusal for ever", func(t *testing.T) {
		fresh := newWorld(t, softtee.SGXv3)
		env := append(append([]string{}, fresh.env...), "EDG_COORDINATOR_SIMULATION=1", "EDG_SOFTTEE_SOCKET=")
		c := harness.Start(t, harness.Options{Env: env})
		c.MustSetManifest(fresh.manifest(t))
		fresh.service.SetFaults(server.Faults{Outage: true})
		err := fresh.activate(t, c, "limited", softtee.Request{Kind: softtee.SGXv3})
		wantCode(t, err, codes.Unavailable, "not possible now")
		fresh.service.SetFaults(server.Faults{})
		deadline := time.Now().Add(time.Minute)
		for err != nil && time.Now().Before(deadline) {
			time.Sleep(200 * time.Millisecond)
			err = fresh.activate(t, c, "limited", softtee.Request{Kind: softtee.SGXv3})
		}
		if err != nil {
			t.Error(err)
		}
	})
}
