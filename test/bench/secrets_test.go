// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/marblerun/marblerun/test/harness"
)

// users is what owners and Marbles do, measured for several sizes of the manifest and of the history.
type usersPlan struct {
	rounds, perRound int
	parallel         []int
	secrets, history []int
}

func plannedUsers(t *testing.T) usersPlan {
	switch os.Getenv("MARBLERUN_BENCH") {
	case "full":
		return usersPlan{rounds: 5, perRound: 1500, parallel: []int{1, 8}, secrets: []int{10, 10_000}, history: []int{0,
			100_000}}
	case "smoke":
		return usersPlan{rounds: 1, perRound: 40, parallel: []int{8}, secrets: []int{10, 1000}, history: []int{0, 1000}}
	}
	t.Skip("SKIP: benchmarks run with `make bench`")
	return usersPlan{}
}

// secretsManifest has n user-defined secrets, all of which alice may read and write, and a Marble that uses one of
// them.
func secretsManifest(t *testing.T, n int, alice string) []byte {
	t.Helper()
	type object = map[string]any
	secrets, names := object{}, make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("secret%d", i)
		secrets[names[i]] = object{"Type": "plain", "UserDefined": true}
	}
	data, err := json.Marshal(object{
		"Packages": object{"p": object{"UniqueID": strings.Repeat("ab", 32)}},
		"Marbles": object{"m": object{"Package": "p"}, "user": object{"Package": "p",
			"Parameters": object{"Env": object{"S": "{{ string .Secrets.secret0 }}"}}}},
		"Secrets": secrets,
		"Users":   object{"alice": object{"Certificate": alice, "Roles": []string{"r"}}},
		"Roles": object{"r": object{"ResourceType": "Secrets", "ResourceNames": names,
			"Actions": []string{"ReadSecret", "WriteSecret"}}},
		"Config": object{"FeatureGates": []string{"MonotonicCounter"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// deployed is a Coordinator with that manifest and history, and its clients.
type deployed struct {
	*harness.Coordinator
	alice, marble *http.Client
	secrets       int
	counter       atomic.Uint64
}

func deploy(t *testing.T, secrets, history int) *deployed {
	t.Helper()
	cert, text := harness.UserCertificate(t, "alice")
	m := secretsManifest(t, secrets, text)
	dir := filepath.Join(t.TempDir(), "state")
	if history > 0 {
		file := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(file, m, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "test", "-count=1", "-run", "^TestPrefill$", "./internal/coordinator")
		cmd.Dir = harness.Root(t)
		cmd.Env = append(os.Environ(), "MARBLERUN_PREFILL_DIR="+dir, fmt.Sprintf("MARBLERUN_PREFILL=%d", history),
			"MARBLERUN_PREFILL_MANIFEST="+file, "MARBLERUN_PREFILL_KIND=writes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("prefill: %v\n%s", err, out)
		}
	}
	d := &deployed{Coordinator: harness.Start(t, harness.Options{Dir: dir}), secrets: secrets}
	if history == 0 {
		d.MustSetManifest(m)
	}
	p, err := d.Activate(t.Context(), harness.NewIdentity(t, "m"), "m", "0f0e0d0c-0b0a-4908-8706-050403020100")
	if err != nil {
		t.Fatal(err)
	}
	marble, err := tls.X509KeyPair(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"],
		p.Env["MARBLE_PREDEFINED_PRIVATE_KEY"])
	if err != nil {
		t.Fatal(err)
	}
	d.alice, d.marble = d.Client(cert), d.Client(marble)
	return d
}

func (d *deployed) send(client *http.Client, method, path string, body []byte) error {
	r, err := d.Do(client, method, path, body)
	if err == nil && r.Code != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, r.Code, r.Body)
	}
	return err
}

// operations are the lines of the table. The first is the baseline: TLS, HTTP and JSON without work.
func (d *deployed) operations() []operation {
	next := func() uint64 { return d.counter.Add(1) }
	name := func() string { return fmt.Sprintf("secret%d", next()%uint64(d.secrets)) }
	return []operation{
		{"GET status", func() error { return d.send(d.alice, "GET", "/api/v2/status", nil) }},
		{"GET secrets", func() error { return d.send(d.alice, "GET", "/api/v2/secrets?s="+name(), nil) }},
		{"POST secrets", func() error {
			return d.send(d.alice, "POST", "/api/v2/secrets", fmt.Appendf(nil, `{"secrets":{%q:{"Key":"YWJj"}}}`, name()))
		}},
		{"POST secrets, in a template", func() error {
			return d.send(d.alice, "POST", "/api/v2/secrets", []byte(`{"secrets":{"secret0":{"Key":"YWJj"}}}`))
		}},
		{"POST counter", func() error {
			return d.send(d.marble, "POST", "/api/v2/monotonic-counter", fmt.Appendf(nil, `{"name":"c","value":%d}`, next()))
		}},
	}
}

type operation struct {
	name string
	do   func() error
}

// TestUserCost measures secrets and counters: what the number of secrets and of earlier operations adds.
func TestUserCost(t *testing.T) {
	p := plannedUsers(t)
	var all []*scenario
	for _, secrets := range p.secrets {
		for _, history := range p.history {
			d := deploy(t, secrets, history)
			for _, op := range d.operations() {
				for _, n := range p.parallel {
					all = append(all, &scenario{
						name: fmt.Sprintf("%s|%d|%d", op.name, secrets, history), process: process{d.Pid()}, parallel: n,
						one: func(context.Context) error { return op.do() },
					})
				}
			}
		}
	}
	for _, s := range all {
		s.round(t, min(p.perRound, 100)) // warm up
		s.samples, s.wall = nil, nil
	}
	for range p.rounds {
		for _, s := range all {
			s.round(t, p.perRound)
		}
	}
	reportUsers(t, all)
}

func reportUsers(t *testing.T, all []*scenario) {
	baseline := map[string]float64{}
	key := func(s *scenario) (name, rest, id string) {
		name, rest, _ = strings.Cut(s.name, "|")
		return name, rest, fmt.Sprint(rest, s.parallel)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "server CPU per request on open connections; median [min … max] of %d rounds\n\n", len(all[0].samples))
	fmt.Fprintf(&b, "%-28s %8s %8s %8s %22s %8s %10s\n", "operation", "secrets", "earlier", "parallel", "CPU ms",
		"× status",
		"per second")
	for _, s := range all {
		name, rest, id := key(s)
		secrets, history, _ := strings.Cut(rest, "|")
		m := median(s.samples)
		if name == "GET status" {
			baseline[id] = m
		}
		fmt.Fprintf(&b, "%-28s %8s %8s %8d %6.3f [%5.3f … %5.3f] %8.2f %10.0f\n", name, secrets, history, s.parallel, m,
			slices.Min(s.samples), slices.Max(s.samples), m/baseline[id], 1000/median(s.wall))
	}
	b.WriteString("\nLeft out: connecting and authenticating, about one handshake each. A write is synced before its reply.\n")
	t.Log("\n" + b.String())
}
