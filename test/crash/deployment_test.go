// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// planned returns this test's share of all kills, in percent. MARBLERUN_KILLS sets how many there are; the default
// takes about a minute on two processors.
func planned(t *testing.T, percent int) int {
	t.Helper()
	all := 200
	if text := os.Getenv("MARBLERUN_KILLS"); text != "" {
		var err error
		if all, err = strconv.Atoi(text); err != nil || all < 1 {
			t.Fatalf("MARBLERUN_KILLS=%q: want a number of kills", text)
		}
	}
	return max(1, all*percent/100)
}

type object = map[string]any

// deployment is a Coordinator that is killed again and again, and its users alice, bob and carol.
type deployment struct {
	*harness.Coordinator
	t       *testing.T
	users   object
	clients map[string]*http.Client // by user; "" is nobody
	kills   int
	// took is how long work took that came to its end; the next kill falls into about that time.
	took time.Duration
	// started is how long the last start took.
	started time.Duration
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, Coordinator: harness.Start(t, harness.Options{}), users: object{},
		clients: map[string]*http.Client{}}
	d.clients[""] = d.Client()
	for _, name := range []string{"alice", "bob", "carol"} {
		cert, text := harness.UserCertificate(t, name)
		d.clients[name] = d.Client(cert)
		d.users[name] = object{"Certificate": text, "Roles": []string{"update", "packages", "read", "write"}}
	}
	return d
}

// manifest of the deployment: every user may do everything, two users make an update. sections replace those of the
// same name.
func (d *deployment) manifest(sections object) []byte {
	d.t.Helper()
	m := object{
		"Packages": object{"p": object{"SignerID": strings.Repeat("ab", 32), "ProductID": 1, "SecurityVersion": 1}},
		"Marbles":  object{"m": object{"Package": "p"}},
		"Secrets": object{
			"a0": object{"Type": "plain", "UserDefined": true}, "a1": object{"Type": "plain", "UserDefined": true},
			"b0": object{"Type": "plain", "UserDefined": true}, "b1": object{"Type": "plain", "UserDefined": true},
			"cert": object{"Type": "cert-ecdsa", "Size": 256, "Shared": true},
		},
		"Users": d.users,
		"Roles": object{
			"update": object{"ResourceType": "Manifest", "Actions": []string{"UpdateManifest"}},
			"packages": object{"ResourceType": "Packages", "ResourceNames": []string{"p"},
				"Actions": []string{"UpdateSecurityVersion"}},
			"read": object{"ResourceType": "Secrets", "ResourceNames": []string{"a0", "a1", "b0", "b1", "cert"},
				"Actions": []string{"ReadSecret"}},
			"write": object{"ResourceType": "Secrets", "ResourceNames": []string{"a0", "a1", "b0", "b1"},
				"Actions": []string{"WriteSecret"}},
		},
		"Config": object{"UpdateThreshold": 2, "FeatureGates": []string{"MonotonicCounter"}},
	}
	for k, v := range sections {
		m[k] = v
	}
	data, err := json.Marshal(m)
	if err != nil {
		d.t.Fatal(err)
	}
	return data
}

// killDuring runs work, kills the process at a random moment of the given time, and starts it again. On a busy machine,
// where a start takes longer, so does work, and the time is as long as the last start.
func (d *deployment) killDuring(window time.Duration, work func()) {
	d.t.Helper()
	window = max(window, d.started)
	if d.took > 0 {
		window = min(window, d.took*2)
	}
	ended := make(chan time.Duration, 1)
	go func() {
		started := time.Now()
		work()
		ended <- time.Since(started)
	}()
	time.Sleep(rand.N(window))
	select {
	case d.took = <-ended:
		d.Kill()
	default:
		d.Kill()
		<-ended
	}
	d.kills++
	d.restart()
}

func (d *deployment) restart() {
	d.t.Helper()
	for _, client := range d.clients {
		client.CloseIdleConnections()
	}
	began := time.Now()
	d.Run()
	d.WaitReady()
	d.started = time.Since(began)
}

// try sends a request. Without an error, the Coordinator answered.
func (d *deployment) try(user, method, path string, body []byte) (harness.Reply, error) {
	return d.Do(d.clients[user], method, path, body)
}

// acknowledged sends a request and tells whether it was answered with success. What is answered otherwise is an error
// of the test.
func (d *deployment) acknowledged(user, path string, body []byte) bool {
	r, err := d.try(user, http.MethodPost, path, body)
	if err == nil && r.Code != http.StatusOK {
		d.t.Errorf("%s %s: %d %s", user, path, r.Code, r.Body)
	}
	return err == nil && r.Code == http.StatusOK
}

// must sends a request that has to succeed.
func (d *deployment) must(user, method, path string, body []byte) harness.Reply {
	d.t.Helper()
	r, err := d.try(user, method, path, body)
	if err != nil || r.Code != http.StatusOK {
		d.t.Fatalf("%s %s %s: %d %s %v\n%s", user, method, path, r.Code, r.Body, err, tail(d.Log(), 3000))
	}
	return r
}

func decode[T any](t *testing.T, r harness.Reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Data, &v); err != nil {
		t.Fatalf("%v: %s", err, r.Body)
	}
	return v
}

func (d *deployment) mustBeRunning() {
	d.t.Helper()
	if code, err := d.Status(); err != nil || code != 3 {
		d.t.Fatalf("state %d, %v, want 3\n%s", code, err, tail(d.Log(), 3000))
	}
}

func (d *deployment) current() []byte {
	return decode[wire.ManifestV2](d.t, d.must("", "GET", "/api/v2/manifest", nil)).Manifest
}

func (d *deployment) secret(name string) []byte {
	d.t.Helper()
	r := decode[wire.SecretsReply](d.t, d.must("alice", "GET", "/api/v2/secrets?s="+name, nil))
	return r.Secrets[name].Private
}

// consistent checks that nothing is half done: CA, shared certificate, Marbles' credentials and update log belong
// together.
func (d *deployment) consistent() {
	d.t.Helper()
	d.mustBeRunning()
	chain := certificates(d.t, decode[wire.QuoteV2](d.t, d.must("", "GET", "/api/v2/quote", nil)).Cert)
	secrets := decode[wire.SecretsReply](d.t, d.must("alice", "GET", "/api/v2/secrets?s=cert", nil)).Secrets
	shared, err := x509.ParseCertificate(secrets["cert"].Cert)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := shared.CheckSignatureFrom(chain[0]); err != nil {
		d.t.Errorf("the shared certificate is not of the current CA: %v", err)
	}
	id := harness.NewIdentity(d.t, "m")
	p, err := d.Activate(d.t.Context(), id, "m", "0f0e0d0c-0b0a-4908-8706-050403020100")
	if err != nil {
		d.t.Fatal(err)
	}
	leaf := certificates(d.t, string(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]))[0]
	if err := leaf.CheckSignatureFrom(chain[0]); err != nil {
		d.t.Errorf("a Marble's certificate is not of the current CA: %v", err)
	}
	manifest := decode[wire.ManifestV2](d.t, d.must("", "GET", "/api/v2/manifest", nil))
	if err := chain[1].CheckSignature(x509.ECDSAWithSHA256, manifest.Manifest,
		manifest.ManifestSignatureRootECDSA); err != nil {
		d.t.Errorf("the manifest's signature: %v", err)
	}
	last := ""
	for _, line := range d.log() {
		if strings.Contains(line, `"update":"Complete Manifest updated"`) {
			last = line
		}
	}
	if last != "" && !strings.Contains(last, manifest.ManifestFingerprint) {
		d.t.Errorf("the update log's last manifest is not the current one: %s", last)
	}
}

func (d *deployment) log() []string {
	return decode[wire.UpdateLog](d.t, d.must("", "GET", "/api/v2/update", nil)).UpdateLog
}

func certificates(t *testing.T, text string) (certs []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		t.Fatalf("no certificate in %q", text)
	}
	return certs
}

// marbleClient activates and returns a client with the Marble's certificate.
func (d *deployment) marbleClient(uuid string) *http.Client {
	d.t.Helper()
	p, err := d.Activate(d.t.Context(), harness.NewIdentity(d.t, "m"), "m", uuid)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"],
		p.Env["MARBLE_PREDEFINED_PRIVATE_KEY"])
	if err != nil {
		d.t.Fatal(err)
	}
	return d.Client(cert)
}

func lastOf(lines []string, match string) string {
	for _, l := range slices.Backward(lines) {
		if strings.Contains(l, match) {
			return l
		}
	}
	return ""
}

func secretsBody(values map[string]string) []byte {
	var parts []string
	for name, v := range values {
		data, _ := json.Marshal([]byte(v)) // bytes always marshal
		parts = append(parts, fmt.Sprintf(`%q:{"Key":%s}`, name, data))
	}
	return []byte(`{"secrets":{` + strings.Join(parts, ",") + `}}`)
}
