// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package load shows that a Coordinator keeps its word under load: 64 clients read and write secrets and raise counters
// while Marbles activate and updates are applied. Nothing fails in a way that the contract does not name, and what the
// clients saw is linearizable for each pair of secrets and each counter.
package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	pairs            = 12 // pairs of secrets that are always written together
	clientsPerPair   = 4
	counters         = 4 // Marbles, one counter each
	clientsPerMarble = 4
	activators       = 2
)

// duration of the load; MARBLERUN_LOAD sets another one.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("MARBLERUN_LOAD")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type object = map[string]any

// deployment is what is under load.
type deployment struct {
	*harness.Coordinator
	t     *testing.T
	ctx   context.Context // ends with the load
	certs map[string]tls.Certificate
	users object
	*history

	activations, outdated atomic.Int64
}

func start(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{
		Coordinator: harness.Start(t, harness.Options{}), t: t,
		certs: map[string]tls.Certificate{}, users: object{}, history: &history{started: time.Now()},
	}
	for _, name := range []string{"alice", "bob"} {
		cert, text := harness.UserCertificate(t, name)
		d.certs[name], d.users[name] = cert, object{"Certificate": text, "Roles": []string{"secrets", "packages", "update"}}
	}
	d.MustSetManifest(d.manifest(nil))
	// Marbles need a value of the first pair; the other pairs begin empty.
	d.writePair(d.Client(d.certs["alice"]), 0, "first")
	return d
}

// manifest with the given sections replaced.
func (d *deployment) manifest(sections object) []byte {
	d.t.Helper()
	secrets := object{"cert": object{"Type": "cert-ecdsa", "Size": 256, "Shared": true}}
	var names []string
	for i := range pairs {
		for _, half := range "ab" {
			name := fmt.Sprintf("s%d%c", i, half)
			names, secrets[name] = append(names, name), object{"Type": "plain", "UserDefined": true}
		}
	}
	m := object{
		"Packages": object{"p": object{"SignerID": strings.Repeat("ab", 32), "ProductID": 1, "SecurityVersion": 1}},
		"Marbles": object{"m": object{"Package": "p", "Parameters": object{"Env": object{
			"S": "{{ string .Secrets.s0a }}", "C": "{{ pem .Secrets.cert.Cert }}"}}}},
		"Secrets": secrets, "Users": d.users,
		"Roles": object{
			"secrets": object{"ResourceType": "Secrets", "ResourceNames": names, "Actions": []string{"ReadSecret",
				"WriteSecret"}},
			"packages": object{"ResourceType": "Packages", "ResourceNames": []string{"p"},
				"Actions": []string{"UpdateSecurityVersion"}},
			"update": object{"ResourceType": "Manifest", "Actions": []string{"UpdateManifest"}},
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

// call sends a request that must be answered. Only wanted status codes are what the contract names here.
func (d *deployment) call(client *http.Client, method, path string, body []byte, wanted ...int) (harness.Reply, bool) {
	r, err := d.Do(client, method, path, body)
	if err != nil {
		d.t.Errorf("%s %s: %v", method, path, err)
		return r, false
	}
	for _, code := range append(wanted, http.StatusOK) {
		if r.Code == code {
			return r, true
		}
	}
	d.t.Errorf("%s %s: %d %s", method, path, r.Code, r.Body)
	return r, false
}

// TestLoad is the whole of it.
func TestLoad(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), duration(t))
	defer cancel()
	d.ctx = ctx
	var all sync.WaitGroup
	for pair := range pairs {
		for range clientsPerPair {
			all.Go(func() { d.secretsClient(pair) })
		}
	}
	for i := range counters {
		m := &marbleIdentity{uuid: fmt.Sprintf("00000000-0000-4000-8000-%012x", i)}
		for range clientsPerMarble {
			all.Go(func() { d.counterClient(m) })
		}
	}
	for range activators {
		all.Go(d.activator)
	}
	updates := 0
	all.Go(func() { updates = d.updater() })
	all.Wait()
	d.check(t)
	t.Logf("%d operations on secrets, %d on counters, %d activations, %d updates, %d certificates found outdated",
		len(d.secretOps), len(d.counterOps), d.activations.Load(), updates, d.outdated.Load())
	if updates < 3 || d.activations.Load() == 0 || len(d.secretOps) < 200 || len(d.counterOps) < 20 {
		t.Error("that was no load: the test shows nothing")
	}
}

// secretsClient reads and writes a pair of secrets, always both, until the load ends.
func (d *deployment) secretsClient(pair int) {
	client := d.Client(d.certs["alice"])
	defer client.CloseIdleConnections()
	for d.ctx.Err() == nil {
		if rand.IntN(2) == 0 {
			d.writePair(client, pair, strconv.FormatUint(rand.Uint64(), 36))
		} else {
			d.readPair(client, pair)
		}
	}
}

func pairNames(pair int) (a, b string) { return fmt.Sprintf("s%da", pair), fmt.Sprintf("s%db", pair) }

func (d *deployment) writePair(client *http.Client, pair int, value string) {
	a, b := pairNames(pair)
	v := wire.UserSecret{Key: []byte(value)}
	body, err := json.Marshal(wire.SecretsRequest{Secrets: map[string]wire.UserSecret{a: v, b: v}})
	if err != nil {
		d.t.Error(err)
	}
	begun := d.now()
	if _, ok := d.call(client, "POST", "/api/v2/secrets", body); ok {
		d.add(&d.secretOps, begun, access{key: pair, write: true, value: value}, nil)
	}
}

func (d *deployment) readPair(client *http.Client, pair int) {
	a, b := pairNames(pair)
	begun := d.now()
	r, ok := d.call(client, "GET", "/api/v2/secrets?s="+a+"&s="+b, nil)
	ended := d.now()
	var reply wire.SecretsReply
	if err := json.Unmarshal(r.Data, &reply); !ok || err != nil {
		d.t.Errorf("reading pair %d: %v", pair, err)
		return
	}
	value := string(reply.Secrets[a].Private)
	if other := string(reply.Secrets[b].Private); other != value {
		d.t.Errorf("half a write was read: %q and %q", value, other)
	}
	d.addAt(&d.secretOps, begun, ended, access{key: pair}, value)
}

// marbleIdentity is a Marble that activates again when an update made its certificate invalid.
type marbleIdentity struct {
	sync.Mutex
	uuid   string
	client *http.Client
}

// renew returns the Marble's client; old is one that was refused.
func (m *marbleIdentity) renew(d *deployment, old *http.Client) *http.Client {
	m.Lock()
	defer m.Unlock()
	if m.client != old {
		return m.client
	}
	p := d.activate(m.uuid)
	if p == nil {
		return old
	}
	cert, err := tls.X509KeyPair(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"],
		p.Env["MARBLE_PREDEFINED_PRIVATE_KEY"])
	if err != nil {
		d.t.Error(err)
		return old
	}
	if old != nil {
		old.CloseIdleConnections()
	}
	m.client = d.Client(cert)
	return m.client
}

// counterClient raises a Marble's counter, mostly.
func (d *deployment) counterClient(m *marbleIdentity) {
	client := m.renew(d, nil)
	for d.ctx.Err() == nil && client != nil {
		value := uint64(d.now()/1000) + rand.Uint64N(100_000) // some are lower than what is there
		begun := d.now()
		r, ok := d.call(client, "POST", "/api/v2/monotonic-counter", fmt.Appendf(nil, `{"name":"c","value":%d}`, value), 401)
		switch {
		case !ok:
		case r.Code == http.StatusUnauthorized && strings.HasPrefix(r.Message, "unauthorized marble: "):
			d.outdated.Add(1)
			client = m.renew(d, client)
		default:
			var reply wire.MonotonicCounterReply
			if err := json.Unmarshal(r.Data, &reply); err != nil || r.Code != http.StatusOK {
				d.t.Errorf("%d %s", r.Code, r.Body)
			}
			d.add(&d.counterOps, begun, raise{marble: m.uuid, value: value}, reply.Value)
		}
	}
}

func (d *deployment) activate(uuid string) *marblepb.Parameters {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), time.Minute)
	defer cancel()
	p, err := d.Activate(ctx, harness.NewIdentity(d.t, "m"), "m", uuid)
	if err != nil {
		d.t.Errorf("activation: %v", err)
		return nil
	}
	d.activations.Add(1)
	return p
}

func (d *deployment) activator() {
	for d.ctx.Err() == nil {
		d.activate("00000000-0000-4000-8000-ffffffffffff")
	}
}
