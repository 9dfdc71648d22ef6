// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
	"github.com/marblerun/marblerun/internal/cli"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

// world is a software TEE with its collateral service, and a user's machine.
type world struct {
	platform *softtee.Platform
	service  *httptest.Server
	dir      string // with roots.pem, manifest.json, home and cache
	qcnl     string // the machine's configuration, if any
}

// sharedPlatform is made once, because its RSA keys take their time.
var sharedPlatform = sync.OnceValues(func() (*softtee.Platform, error) {
	return softtee.New(softtee.Options{Seed: []byte("a seed of sixteen bytes or more")})
})

func newWorld(t *testing.T) *world {
	t.Helper()
	platform, err := sharedPlatform()
	if err != nil {
		t.Fatal(err)
	}
	platform.Configure(func(s *softtee.Settings) { *s = softtee.DefaultSettings() })
	w := &world{platform: platform, service: httptest.NewServer(server.New(platform)), dir: t.TempDir()}
	t.Cleanup(w.service.Close)
	roots, err := platform.RootsPEM()
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "roots.pem", roots)
	w.write(t, "manifest.json", []byte(manifestText))
	return w
}

const manifestText = `{"Packages":{},"Marbles":{}}`

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(w.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return w.path(name)
}

// run runs the program with the real verifier.
func (w *world) run(args ...string) (code int, out, err string) {
	var stdout, stderr bytes.Buffer
	code = cli.Run(context.Background(), cli.Env{
		Args: args, Stdout: &stdout, Stderr: &stderr,
		ConfigDir: func() (string, error) { return w.path("home"), nil },
		CacheDir:  func() (string, error) { return w.path("cache"), nil },
		QCNLPath:  w.qcnl,
	})
	return code, stdout.String(), stderr.String()
}

// services are the flags for collateral and trust.
func (w *world) services() []string {
	return []string{"--software-tee-root", w.path("roots.pem"),
		"--pccs-url", w.service.URL + "/sgx/certification/v4/", "--kds-url", w.service.URL}
}

// coordinator runs a fake one whose quotes are real evidence of the software TEE.
func (w *world) coordinator(t *testing.T, request softtee.Request) *fakecoordinator.Coordinator {
	t.Helper()
	c, err := fakecoordinator.New()
	if err != nil {
		t.Fatal(err)
	}
	c.Evidence = func(reportData [64]byte) ([]byte, error) {
		request.ReportData = reportData
		return w.platform.Evidence(request)
	}
	c.SetManifest([]byte(manifestText))
	c.Start()
	t.Cleanup(c.Close)
	return c
}

// workload is what the Coordinator's TEE measures, policyFor the era file that wants it.
func workload() softtee.Workload {
	return softtee.Workload{
		SGX: attest.SGXClaims{
			MRENCLAVE: strings.Repeat("11", 32), MRSIGNER: strings.Repeat("22", 32), ISVPRODID: 3, ISVSVN: 2,
		},
		TDX: attest.TDXClaims{MRTD: strings.Repeat("33", 48)},
		SNP: attest.SNPClaims{Measurement: strings.Repeat("44", 48)},
	}
}

func policyFor(w softtee.Workload) string {
	return fmt.Sprintf(`{"UniqueID":%q,"TDX":{"MRTD":%q},"SNP":{"Measurement":%q}}`,
		w.SGX.MRENCLAVE, w.TDX.MRTD, w.SNP.Measurement)
}

// TestManifestVerify verifies Coordinators by real evidence of every kind, from end to end.
func TestManifestVerify(t *testing.T) {
	w := newWorld(t)
	good := w.write(t, "era.json", []byte(policyFor(workload())))
	other := workload()
	other.SGX.MRENCLAVE, other.TDX.MRTD, other.SNP.Measurement =
		strings.Repeat("55", 32), strings.Repeat("55", 48), strings.Repeat("55", 48)
	bad := w.write(t, "bad.json", []byte(policyFor(other)))
	debug := workload()
	debug.Debug = true

	for _, kind := range softtee.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			c := w.coordinator(t, softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}, Workload: workload()})
			args := append([]string{"manifest", "verify", w.path("manifest.json"), c.Endpoint()}, w.services()...)
			saved := w.path("quote")
			code, out, stderr := w.run(append(args, "--era-config", good, "--nonce", "n", "--save-sgx-quote", saved)...)
			if code != 0 || !strings.HasSuffix(out, "OK\n") {
				t.Fatalf("refused: %s%s", out, stderr)
			}
			for _, want := range []string{"Warning: the verification trusts a software TEE", "runs in a software TEE"} {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr)
				}
			}
			if n := strings.Count(stderr, "Warning: the verification"); n != 1 {
				t.Errorf("%d warnings of the verifier:\n%s", n, stderr)
			}
			if info, err := os.Stat(saved); err != nil || info.Size() < 1000 || info.Mode().Perm() != 0o600 {
				t.Errorf("the quote was not saved: %v %v", info, err)
			}
			field := map[attest.TEE]string{
				attest.SGX: "invalid UniqueID", attest.TDX: "TDX.MRTD is 33", attest.SNP: "SNP.Measurement is 44",
			}[kind.TEE()]
			refused(t, w, append(args, "--era-config", bad), field)

			c = w.coordinator(t, softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}, Workload: debug})
			args[3] = c.Endpoint()
			refused(t, w, append(args, "--era-config", good), "debug enclave not allowed")
			// A debug TEE is accepted only if the policy says so.
			allowed := w.write(t, "debug.json", []byte(strings.Replace(policyFor(workload()), "{", `{"Debug":true,`, 1)))
			if code, _, stderr := w.run(append(args, "--era-config", allowed)...); code != 0 ||
				!strings.Contains(stderr, "debug TEE") {
				t.Errorf("debug: %d %s", code, stderr)
			}
		})
	}
}

// refused runs a command that must fail, for the given reason, and keep nothing.
func refused(t *testing.T, w *world, args []string, want string) {
	t.Helper()
	cache := w.path("none.pem")
	code, out, stderr := w.run(append(args, "--coordinator-cert", cache)...)
	if code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("%q: exit code %d, want refusal with %q; got %s%s", args, code, want, out, stderr)
	}
	if _, err := os.Stat(cache); err == nil {
		t.Errorf("%q: kept the certificates of a Coordinator that was refused", args)
	}
}

// TestManifestVerifyBinding: genuine evidence for something else proves nothing.
func TestManifestVerifyBinding(t *testing.T) {
	w := newWorld(t)
	era := w.write(t, "era.json", []byte(policyFor(workload())))
	request := softtee.Request{Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "m"}, Workload: workload()}
	genuine := w.coordinator(t, request)
	verify := func(c *fakecoordinator.Coordinator, more ...string) []string {
		args := append([]string{"manifest", "verify", w.path("manifest.json"), c.Endpoint(), "--era-config", era}, more...)
		return append(args, w.services()...)
	}
	relay := func(quote func(q wire.QuoteV2) wire.QuoteV2) *fakecoordinator.Coordinator {
		c := w.coordinator(t, request)
		c.Tamper = func(_ string, data any) any {
			if q, ok := data.(wire.QuoteV2); ok {
				return quote(q)
			}
			return data
		}
		return c
	}
	evidence := func(data []byte) []byte {
		request := request
		sum := sha256.Sum256(data)
		copy(request.ReportData[:], sum[:])
		quote, err := w.platform.Evidence(request)
		if err != nil {
			t.Fatal(err)
		}
		return quote
	}
	other := relay(func(q wire.QuoteV2) wire.QuoteV2 { q.Quote = evidence(genuine.Root.Raw); return q })
	refused(t, w, verify(other), "report data does not match the certificate's hash")
	stale := w.coordinator(t, request)
	stale.Tamper = func(_ string, data any) any {
		if q, ok := data.(wire.QuoteV2); ok {
			q.Quote = evidence(stale.Root.Raw)
			return q
		}
		return data
	}
	refused(t, w, verify(stale, "--nonce", "fresh"), "report data does not match the certificate's hash")
	flipped := relay(func(q wire.QuoteV2) wire.QuoteV2 { q.Quote[16+48+64] ^= 1; return q }) // MRENCLAVE
	refused(t, w, verify(flipped), "verifying the Coordinator's quote")

	// Without the software TEE's root nobody trusts it.
	args := []string{"manifest", "verify", w.path("manifest.json"), genuine.Endpoint(), "--era-config", era}
	refused(t, w, append(args, w.services()[2:]...), "Hint: No known hardware made this.")
	// --insecure never touches the verified cache.
	if code, _, stderr := w.run(append(args[:4], "-i")...); code != 0 {
		t.Fatal(stderr)
	}
	refused(t, w, []string{"status", genuine.Endpoint()}, "no such file")
}

// TestManifestVerifyTCB: the status decides, by the file, or by flags in its place.
func TestManifestVerifyTCB(t *testing.T) {
	w := newWorld(t)
	plain := policyFor(workload())
	era := w.write(t, "era.json", []byte(plain))
	tolerant := w.write(t, "tolerant.json",
		[]byte(strings.Replace(plain, "{", `{"AcceptedTCBStatuses":["OutOfDate"],`, 1)))
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv4} {
		old := w.coordinator(t, softtee.Request{
			Kind: kind, Machine: softtee.Machine{Name: "old", Status: attest.OutOfDate}, Workload: workload(),
		})
		args := append([]string{"manifest", "verify", w.path("manifest.json"), old.Endpoint()}, w.services()...)
		refused(t, w, append(args, "--era-config", era), "invalid TCB status: OutOfDate")
		refused(t, w, append(args, "--era-config", tolerant, "--accepted-tcb-statuses", "UpToDate"), "OutOfDate")
		for _, more := range [][]string{
			{"--era-config", tolerant}, {"--era-config", era, "--accepted-tcb-statuses", "UpToDate,OutOfDate"},
		} {
			code, _, stderr := w.run(append(args, more...)...)
			if code != 0 || !strings.Contains(stderr, "Warning: TCB level invalid, but accepted by configuration: OutOfDate") {
				t.Errorf("%v: %d %s", more, code, stderr)
			}
		}
	}
	minimum := w.write(t, "minimum.json", []byte(`{"SNP":{"Measurement":"`+workload().SNP.Measurement+
		`","MinimumTCB":{"Microcode":250}}}`))
	guest := w.coordinator(t, softtee.Request{
		Kind: softtee.SNPv3, Machine: softtee.Machine{Name: "m"}, Workload: workload(),
	})
	args := append([]string{"manifest", "verify", w.path("manifest.json"), guest.Endpoint()}, w.services()...)
	refused(t, w, append(args, "--era-config", minimum), "the platform has microcode")
}
