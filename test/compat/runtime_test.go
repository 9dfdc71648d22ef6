// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

type pkixExtension = pkix.Extension

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func recoveryKey(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// coordinator-runtime.md §15, rows 1 to 4.
func TestRestart(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	equal(t, "row 1: status", status(t, c), 2)
	equal(t, "row 1: files", len(files(t, c.Dir)), 0)
	first := root(t, c)
	c.Kill()
	c.Run()
	c.WaitReady()
	second := root(t, c)
	if first.Equal(second) {
		t.Error("row 2: same root after a restart in state 2")
	}
	c.MustSetManifest(manifestJSON(t, nil))
	equal(t, "row 3: status", status(t, c), 3)
	for _, name := range []string{"sealed_data", "sealed_key"} {
		info, err := os.Stat(filepath.Join(c.Dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("row 3: %s: %v %v", name, info, err)
		}
	}
	before := c.Get("/api/v2/manifest").Body
	equal(t, "SIGTERM", c.Stop(), 0)
	c.Run()
	c.WaitReady()
	equal(t, "row 4: status", status(t, c), 3)
	equal(t, "row 4: manifest", c.Get("/api/v2/manifest").Body, before)
	if !root(t, c).Equal(second) {
		t.Error("row 4: another root after a restart in state 3")
	}
}

// coordinator-runtime.md §15, row 5.
func TestSealModeDisabled(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, object{"Config": object{"SealMode": "Disabled"}}))
	mustActivate(t, c, "m", uuid1)
	equal(t, "files", len(files(t, c.Dir)), 0)
	c.Kill()
	c.Run()
	c.WaitReady()
	equal(t, "status", status(t, c), 2)
}

// coordinator-runtime.md §15, rows 6 and 8, and §4 with fixes Q2 and Q5.
func TestRecoveryMode(t *testing.T) {
	_, pub := recoveryKey(t)
	for name, damage := range map[string]func(dir string) error{
		"sealed_key deleted":    func(dir string) error { return os.Remove(filepath.Join(dir, "sealed_key")) },
		"sealed_data truncated": func(dir string) error { return os.Truncate(filepath.Join(dir, "sealed_data"), 20) },
		"sealed_data garbage": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "sealed_data"), []byte("garbage"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			c.MustSetManifest(manifestJSON(t, object{"RecoveryKeys": object{"rk": pub}}))
			original := root(t, c)
			c.Kill()
			if err := damage(c.Dir); err != nil {
				t.Fatal(err)
			}
			c.Run()
			c.WaitReady()
			s := decode[wire.StatusV2](t, c.Get("/api/v2/status"))
			if s.Code != 1 || s.Detail == "" {
				t.Errorf("status %+v, want 1 with a detail", s)
			}
			if root(t, c).Equal(original) {
				t.Error("the temporary root is the original one")
			}
			equal(t, "manifest v1", c.Get("/manifest").Code, http.StatusOK)
			_, err := activate(t, c, "m", uuid1)
			wantCode(t, err, codes.FailedPrecondition, "")

			c.MustSetManifest(manifestJSON(t, nil))
			equal(t, "status after a new manifest", status(t, c), 3)
			kept := 0
			for _, f := range files(t, c.Dir) {
				if strings.Contains(f, ".dropped") {
					kept++
				}
			}
			if kept == 0 {
				t.Errorf("the old state is gone: %v", files(t, c.Dir))
			}
		})
	}
}

// The additive recovery-only switch refuses a new manifest in state 1.
func TestRecoveryOnly(t *testing.T) {
	c := harness.Start(t, harness.Options{Env: []string{"EDG_COORDINATOR_RECOVERY_ONLY=1"}})
	c.MustSetManifest(manifestJSON(t, nil))
	c.Kill()
	if err := os.Remove(filepath.Join(c.Dir, "sealed_key")); err != nil {
		t.Fatal(err)
	}
	c.Run()
	c.WaitReady()
	r := c.SetManifest(manifestJSON(t, nil))
	if r.Code != http.StatusInternalServerError || !strings.Contains(r.Message, "server is not in expected state") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	equal(t, "status", status(t, c), 1)
}

// coordinator-runtime.md §15, rows 11, 12 and 13, and §4 with fixes Q2 and Q3.
func TestStart(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(manifest, manifestJSON(t, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("row 12: startup manifest", func(t *testing.T) {
		c := harness.Start(t, harness.Options{Env: []string{"EDG_STARTUP_MANIFEST=" + manifest}})
		equal(t, "status", status(t, c), 3)
		c.Kill()
		c.Run()
		c.WaitReady()
		equal(t, "status after a restart", status(t, c), 3)
	})
	t.Run("invalid startup manifest", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := harness.Start(t, harness.Options{NoWait: true, Env: []string{"EDG_STARTUP_MANIFEST=" + bad}})
		equal(t, "exit code", c.Wait(), 1)
	})
	t.Run("row 13: DNS names", func(t *testing.T) {
		c := harness.Start(t, harness.Options{Env: []string{"EDG_COORDINATOR_DNS_NAMES= foo,,10.0.0.1 "}})
		r := root(t, c)
		equal(t, "DNS", r.DNSNames, []string{"foo"})
		var ips []string
		for _, ip := range r.IPAddresses {
			ips = append(ips, ip.String())
		}
		equal(t, "IP", ips, []string{"127.0.0.1", "::1", "10.0.0.1"})
	})
	busy := harness.Start(t, harness.Options{})
	for name, env := range map[string]string{
		"row 11: mesh address in use": "EDG_COORDINATOR_MESH_ADDR=" + busy.MeshAddr,
		"Q3: client address in use":   "EDG_COORDINATOR_CLIENT_ADDR=" + busy.ClientAddr,
		"state directory in use":      "EDG_COORDINATOR_SEAL_DIR=" + busy.Dir,
		"neither TEE nor simulation":  "EDG_COORDINATOR_SIMULATION=0",
		"directory not creatable":     "EDG_COORDINATOR_SEAL_DIR=/dev/null/x",
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, harness.Options{NoWait: true, Env: []string{env}})
			equal(t, "exit code", c.Wait(), 1)
			if len(strings.TrimSpace(c.Log())) == 0 {
				t.Error("no word about why")
			}
		})
	}
}

// coordinator-runtime.md §15, rows 14 and 15.
func TestMetricsAndEvents(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	events := func() (list []map[string]any) {
		t.Helper()
		if err := json.Unmarshal([]byte(scrape(t, c, "/events")), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	equal(t, "events at start", len(events()), 0)
	c.MustSetManifest(manifestJSON(t, nil))
	mustActivate(t, c, "m", uuid1)
	_, err := activate(t, c, "unknown", uuid1)
	wantCode(t, err, codes.PermissionDenied, "")
	metrics := scrape(t, c, "/metrics")
	equal(t, "attempts", sum(t, metrics, "coordinator_marble_activations_total"), 2)
	equal(t, "successes", sum(t, metrics, "coordinator_marble_activations_success_total"), 1)
	equal(t, "state", sum(t, metrics, "coordinator_state"), 3)
	if strings.Contains(metrics, uuid1) {
		t.Error("a UUID is a label")
	}
	equal(t, "events", len(events()), 1)
}

func scrape(t *testing.T, c *harness.Coordinator, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + c.Metrics + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sum adds the samples of a metric over all labels.
func sum(t *testing.T, metrics, name string) (total int) {
	t.Helper()
	for l := range strings.Lines(metrics) {
		sample, value, ok := strings.Cut(strings.TrimSpace(l), " ")
		base, _, _ := strings.Cut(sample, "{")
		if !ok || base != name {
			continue
		}
		var v float64
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		total += int(v)
	}
	return total
}
