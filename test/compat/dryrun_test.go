// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// dryRun is what 'marblerun manifest update apply --dry-run -o json' prints.
type dryRun struct {
	Update            string
	ManifestSignature string
	Needs             struct {
		Users           []string
		Acknowledgments int
	}
	Changes []struct {
		Section, Kind, Path, Text string
		Affects                   struct{ Packages, Marbles, Secrets, Users []string }
		Warning                   bool
	}
	Running struct {
		Marbles, Older int
		Types          []struct {
			Type                    string
			Count                   int
			UUIDs, Reasons, Refused []string
		}
	}
	Problems []struct {
		Path, Text string
		Warning    bool
	}
}

// kindOf is what becomes of a secret.
func (d dryRun) kindOf(secret string) string {
	for _, c := range d.Changes {
		ofValues := (c.Section == "secrets" || c.Section == "certificates") && !strings.HasPrefix(c.Path, "$.Secrets[")
		if ofValues && slices.Contains(c.Affects.Secrets, secret) {
			return c.Kind
		}
	}
	return ""
}

// marblerun runs the CLI with an empty home and returns stdout, stderr and the exit code.
func marblerun(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(harness.Build(t, "cmd/marblerun"), args...)
	home := t.TempDir()
	cmd.Env, cmd.Dir = []string{"HOME=" + home}, home
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// manifestFile writes a manifest to a file.
func manifestFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "update.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stored is the journal, byte for byte, and what the Coordinator tells of its past. (The watermark in sealed_key follows
// the journal in its own time.)
func stored(t *testing.T, c *harness.Coordinator) map[string]string {
	t.Helper()
	journal, err := os.ReadFile(filepath.Join(c.Dir, "sealed_data"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"journal": base64Of(string(journal))}
	for _, path := range []string{
		"/api/v2/manifest", "/api/v2/update", "/api/v2/update-manifest",
		"/api/v2/activations?after=0&limit=1000",
	} {
		all[path] = c.Get(path).Body
	}
	return all
}

// tryUpdate runs the dry run without any credentials and checks that nothing changed on the server.
func tryUpdate(t *testing.T, c *harness.Coordinator, update []byte) (dryRun, int) {
	t.Helper()
	before := stored(t, c)
	path := manifestFile(t, update)
	out, stderr, code := marblerun(t, "manifest", "update", "apply", path, c.ClientAddr, "--dry-run", "-i", "-o", "json")
	equal(t, "what the Coordinator stores and tells", stored(t, c), before)
	var d dryRun
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v in %q\n%s", err, out, stderr)
	}
	return d, code
}

// dryRunManifest has a secret of each kind in Marble "m". Its user alice may do everything alone.
func dryRunManifest(t *testing.T) (people, object) {
	p, sections := living(t)
	sections["Secrets"] = object{
		"token":  object{"Type": "plain", "UserDefined": true},
		"upload": object{"Type": "symmetric-key", "Size": 128, "UserDefined": true},
		"key":    object{"Type": "symmetric-key", "Size": 128, "Shared": true},
		"resize": object{"Type": "symmetric-key", "Size": 128, "Shared": true},
		"own":    object{"Type": "symmetric-key", "Size": 128},
		"cert":   object{"Type": "cert-ecdsa", "Size": 256, "Shared": true},
	}
	env := object{}
	for _, name := range []string{"key", "resize", "own"} {
		env[name] = "{{ hex .Secrets." + name + " }}"
	}
	env["cert"] = "{{ pem .Secrets.cert.Cert }}"
	sections["Marbles"] = object{
		"m": marble(object{"Parameters": object{"Env": env}}), "other": marble(nil), "once": marble(nil),
	}
	roles := sections["Roles"].(object)
	roles["w"] = object{"ResourceType": "Secrets", "ResourceNames": []string{"token", "upload"},
		"Actions": []string{"ReadSecret", "WriteSecret"}}
	p.users["alice"].(object)["Roles"] = []string{"rotate", "ban", "u", "p", "w"}
	return p, sections
}

const uuid2 = "1f0e0d0c-0b0a-4908-8706-050403020100"

// manifest.md §13.4: what a dry run of a full update says is what the update then does.
func TestDryRunFullUpdate(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		t.Run(map[bool]string{false: "keeping the root secret", true: "rotating it"}[rotate], func(t *testing.T) {
			p, sections := dryRunManifest(t)
			c := harness.Start(t, harness.Options{})
			c.MustSetManifest(manifestJSON(t, sections))
			uploaded := `{"secrets":{"token":{"Key":"AAEC"},"upload":{"Key":"AAECAwQFBgcICQoLDA0ODw=="}}}`
			equal(t, "upload", c.Post("/api/v2/secrets", []byte(uploaded), p.certs["alice"]).Code, 200)
			before := mustActivate(t, c, "m", uuid1).Env
			mustActivate(t, c, "m", uuid2)
			mustActivate(t, c, "other", uuid1)
			mustActivate(t, c, "once", uuid1)

			secrets, marbles := sections["Secrets"].(object), sections["Marbles"].(object)
			secrets["resize"].(object)["Size"] = 256
			secrets["upload"].(object)["Size"] = 256
			delete(marbles, "other")
			marbles["once"] = marble(object{"MaxActivations": 1})
			sections["Config"] = object{"RotateRootSecret": rotate}
			next := manifestJSON(t, sections)
			d, code := tryUpdate(t, c, next)
			equal(t, "exit code", code, 0)
			equal(t, "needs", d.Needs.Users, []string{"alice"})
			inForce := decode[wire.ManifestV2](t, c.Get("/api/v2/manifest")).ManifestFingerprint
			equal(t, "fingerprint", d.ManifestSignature, inForce)
			checkRunning(t, d)

			equal(t, "update", c.Post("/api/v2/update", harness.V2(t, next), p.certs["alice"]).Code, 200)
			after := mustActivate(t, c, "m", uuid1).Env
			for _, name := range []string{"key", "resize", "own", "cert"} {
				kept := bytes.Equal(before[name], after[name])
				if said := d.kindOf(name); said == "" || kept != (said == "kept") {
					t.Errorf("%s: was kept is %t, the dry run said %q", name, kept, said)
				}
			}
			values := decode[wire.SecretsReply](t, getAs(t, c, p.certs["alice"], "/api/v2/secrets?s=token&s=upload")).Secrets
			for name, value := range values {
				if said := d.kindOf(name); (said == "kept") != (len(value.Private) > 0) {
					t.Errorf("%s has %d bytes, the dry run said %q", name, len(value.Private), said)
				}
			}
			for _, refused := range []string{"other", "once"} {
				if _, err := activate(t, c, refused, uuid1); err == nil {
					t.Errorf("%s was admitted against the dry run", refused)
				}
			}
		})
	}
}

// getAs sends GET for a user.
func getAs(t *testing.T, c *harness.Coordinator, cert tls.Certificate, path string) harness.Reply {
	t.Helper()
	r, err := c.Do(c.Client(cert), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkRunning: all Marbles must restart; the type that is removed, and the one without activations left, cannot.
func checkRunning(t *testing.T, d dryRun) {
	t.Helper()
	equal(t, "running", d.Running.Marbles, 4)
	count, refused := map[string]int{}, map[string]bool{}
	for _, r := range d.Running.Types {
		count[r.Type], refused[r.Type] = r.Count, len(r.Refused) > 0
	}
	equal(t, "to restart", count, map[string]int{"m": 2, "other": 1, "once": 1})
	equal(t, "refused", refused, map[string]bool{"m": false, "other": true, "once": true})
	equal(t, "UUIDs of m", d.Running.Types[0].UUIDs, []string{uuid1, uuid2})
}

// manifest.md §13.2: package updates, against the versions in force. Who was activated before the last rotation does
// not count.
func TestDryRunPackageUpdate(t *testing.T) {
	p, sections := dryRunManifest(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	mustActivate(t, c, "m", uuid1)
	before := mustActivate(t, c, "m", uuid2).Env
	five := []byte(`{"Packages":{"p":{"SecurityVersion":5}}}`)
	d, code := tryUpdate(t, c, five)
	equal(t, "exit code", code, 0)
	equal(t, "kind", d.Update, "package")
	equal(t, "running", d.Running.Marbles, 2)
	equal(t, "update", c.Post("/api/v2/update", harness.V2(t, five), p.certs["alice"]).Code, 200)
	after := mustActivate(t, c, "m", uuid2).Env
	for _, name := range []string{"key", "own", "cert"} {
		if kept := bytes.Equal(before[name], after[name]); kept != (d.kindOf(name) == "kept") {
			t.Errorf("%s: was kept is %t, the dry run said %q", name, kept, d.kindOf(name))
		}
	}

	d, code = tryUpdate(t, c, []byte(`{"Packages":{"p":{"SecurityVersion":6}}}`))
	equal(t, "exit code", code, 0)
	equal(t, "change", d.Changes[0].Text, `package "p": SecurityVersion is 6, was 5`)
	equal(t, "running", []int{d.Running.Marbles, d.Running.Older}, []int{1, 1})

	// A full update takes the raised version back: that is worth a warning.
	d, _ = tryUpdate(t, c, manifestJSON(t, sections))
	equal(t, "change", d.Changes[0].Text,
		`package "p": SecurityVersion is 2, was 5: what was too old is admitted again`)
	equal(t, "warning", d.Changes[0].Warning, true)
}

// A dry run names all problems at once, and the Coordinator refuses indeed.
func TestDryRunRefusals(t *testing.T) {
	p, sections := dryRunManifest(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	broken := dryRunCopy(t, sections)
	broken["Marbles"].(object)["x"] = object{"Package": "none"}
	broken["Config"] = object{"SealMode": "nowhere", "UpdateThreshold": 9}
	for name, tt := range map[string]struct {
		update []byte
		paths  []string
	}{
		"wrong types": {[]byte(`{"Packages":{"p":{"SecurityVersion":"x"}},"Marbles":[]}`),
			[]string{`$.Packages["p"].SecurityVersion`, "$.Marbles"}},
		"package update": {[]byte(`{"Packages":{"p":{"SecurityVersion":1,"Debug":true},"q":{"SecurityVersion":1}}}`),
			[]string{`$.Packages["p"].SecurityVersion`, `$.Packages["p"].Debug`, `$.Packages["q"]`}},
		"full update": {manifestJSON(t, broken),
			[]string{"$.Config.SealMode", "$.Config.UpdateThreshold", `$.Marbles["x"].Package`}},
	} {
		t.Run(name, func(t *testing.T) {
			d, code := tryUpdate(t, c, tt.update)
			var paths []string
			for _, problem := range d.Problems {
				if !problem.Warning {
					paths = append(paths, problem.Path)
				}
			}
			equal(t, "exit code", code, 1)
			equal(t, "problems", paths, tt.paths)
			equal(t, "server", c.Post("/api/v2/update", harness.V2(t, tt.update), p.certs["alice"]).Code, 500)
		})
	}
}

func dryRunCopy(t *testing.T, sections object) object {
	t.Helper()
	var copied object
	if err := json.Unmarshal(manifestJSON(t, sections), &copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

// While an update is pending, others are refused; of the pending one itself the dry run tells what it would do.
func TestDryRunPending(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	sections["Marbles"] = object{"m": marble(nil), "new": marble(nil)}
	next := manifestJSON(t, sections)
	d, code := tryUpdate(t, c, next)
	equal(t, "exit code", code, 0)
	equal(t, "needs", d.Needs.Acknowledgments, 2)
	equal(t, "users", d.Needs.Users, []string{"alice", "bob", "carol"})
	equal(t, "update", c.Post("/api/v2/update", harness.V2(t, next), p.certs["alice"]).Code, 200)
	_, code = tryUpdate(t, c, next)
	equal(t, "exit code for the pending one", code, 0)
	_, code = tryUpdate(t, c, append(next, '\n'))
	equal(t, "exit code for another one", code, 1)
}

// The dry run verifies whom it talks to, as every command does.
func TestDryRunVerifies(t *testing.T) {
	_, sections := dryRunManifest(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	path := manifestFile(t, manifestJSON(t, sections))
	out, stderr, code := marblerun(t, "manifest", "update", "apply", path, c.ClientAddr, "--dry-run")
	if code != 1 || out != "" || !strings.Contains(stderr, "manifest verify") {
		t.Errorf("exit code %d\n%s\n%s", code, out, stderr)
	}
}
