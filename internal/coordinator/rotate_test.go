// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/manifest"
)

// livingRoles let alice rotate "key" and "cert", ban Marbles of type m, and update the manifest alone.
func livingRoles(t *testing.T) string {
	t.Helper()
	_, pemText := userCertificate(t, "alice")
	return `,"Users":{"alice":{"Certificate":` + jsonString(t, pemText) + `,"Roles":["rotate","ban","read","token","update"]}},"Roles":{` +
		`"rotate":{"ResourceType":"Secrets","ResourceNames":["key","cert"],"Actions":["RotateSecret"]},` +
		`"read":{"ResourceType":"Secrets","ResourceNames":["key","cert"],"Actions":["ReadSecret"]},` +
		`"token":{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["WriteSecret"]},` +
		`"update":{"ResourceType":"Manifest","Actions":["UpdateManifest"]},` +
		`"ban":{"ResourceType":"Marbles","ResourceNames":["m"],"Actions":["BanMarble"]}}`
}

func readSecrets(t *testing.T, c *Coordinator) map[string]wire.Secret {
	t.Helper()
	values, err := c.ReadSecrets(t.Context(), "alice", []string{"key", "cert"})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// updateLogTail returns the last n lines of the update log without their times.
func updateLogTail(t *testing.T, c *Coordinator, n int) []string {
	t.Helper()
	var all []string
	if err := c.UpdateLog(t.Context(), func(l string) error {
		_, rest, _ := strings.Cut(l, `,`)
		all = append(all, rest)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all[max(0, len(all)-n):]
}

// A rotation gives new values, keeps the ones before for .Previous, leaves a line for each secret, and survives a restart.
func TestRotateSecrets(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	// Twice, because .Previous equals the first values from the beginning.
	if _, err := c.RotateSecrets(t.Context(), "alice", []string{"key", "cert"}); err != nil {
		t.Fatal(err)
	}
	before, first := readSecrets(t, c), k.state.Load().plainStored()
	names, err := c.RotateSecrets(t.Context(), "alice", []string{"key", "cert", "key"})
	if d := cmp.Diff([]string{"cert", "key"}, names); err != nil || d != "" {
		t.Fatal(err, d)
	}
	after, s := readSecrets(t, c), k.state.Load()
	for _, name := range names {
		if len(after[name].Private) == 0 || bytes.Equal(before[name].Private, after[name].Private) {
			t.Errorf("%s kept its value", name)
		}
		if d := cmp.Diff(first[name], s.previous.Value(name)); d != "" {
			t.Errorf("previous %s: %s", name, d)
		}
	}
	if len(after["key"].Private) != 16 || after["cert"].ValidFor != manifest.DefaultValidFor {
		t.Errorf("definitions changed: %d bytes, %d days", len(after["key"].Private), after["cert"].ValidFor)
	}
	cert, err := x509.ParseCertificate(after["cert"].Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(s.ca.MarbleRoot); err != nil {
		t.Error(err)
	}
	want := []string{
		`"update":"Secret rotated","user":"alice","secret":"cert","type":"cert-ecdsa"}`,
		`"update":"Secret rotated","user":"alice","secret":"key","type":"symmetric-key"}`,
	}
	if d := cmp.Diff(want, updateLogTail(t, c, 2)); d != "" {
		t.Error(d)
	}
	live := encoded(t, c)
	c = reopen(t, c)
	if d := cmp.Diff(live, encoded(t, c)); d != "" {
		t.Error(d)
	}
}

// Whoever may not rotate all the secrets rotates none of them.
func TestRotateSecretsRefusals(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	for name, tt := range map[string]struct {
		user    string
		secrets []string
		code    Code
		text    string
	}{
		"nobody":       {"mallory", []string{"key"}, Forbidden, "user mallory is not allowed to rotate secret key"},
		"user-defined": {"alice", []string{"key", "token"}, Forbidden, "user alice is not allowed to rotate secret token"},
		"unknown":      {"alice", []string{"nope"}, Forbidden, "user alice is not allowed to rotate secret nope"},
		"none":         {"alice", nil, BadRequest, "no secrets to rotate"},
	} {
		_, err := c.RotateSecrets(t.Context(), tt.user, tt.secrets)
		if CodeOf(err) != tt.code || !strings.HasPrefix(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.RotateSecrets(ctx, "alice", []string{"key"}); err == nil {
		t.Error("a canceled request succeeded")
	}
	if p := k.state.Load().position; p != 1 {
		t.Errorf("refusals wrote records up to position %d", p)
	}
}

// What was prepared from the values before is stale: a second rotation, an update, and an activation that only uses the
// previous value. What does not touch them is not.
func TestRotationMakesStale(t *testing.T) {
	c, k := runningCoordinator(t, filepath.Join(t.TempDir(), "state"), livingRoles(t))
	s := k.state.Load()
	rotation, err := c.prepareRotation(t.Context(), s, "alice", []string{"key"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.prepareRotation(t.Context(), s, "alice", []string{"cert"})
	if err != nil {
		t.Fatal(err)
	}
	update, epoch, err := c.prepareUpdate(t.Context(), s, testManifest(livingRoles(t)))
	if err != nil {
		t.Fatal(err)
	}
	a := &activation{read: s.generations, reads: map[string]uint64{"key": s.stored.Value("key").Version}}
	if _, err := c.RotateSecrets(t.Context(), "alice", []string{"key"}); err != nil {
		t.Fatal(err)
	}
	now := k.state.Load()
	for name, decide := range map[string]decision{
		"rotation": rotation.unlessChanged(s), "update": unlessChanged(s, update, epoch), "activation": a.decide,
	} {
		if _, err := decide(now); !errors.Is(err, errStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := other.unlessChanged(s)(now); err != nil {
		t.Errorf("rotation of another secret: %v", err)
	}
	if _, err := k.submit(t.Context(), "alice", unlessChanged(now, update, epoch)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.unlessChanged(s)(k.state.Load()); !errors.Is(err, errStale) {
		t.Errorf("rotation under an old CA: %v", err)
	}
}

// An activation that uses a secret only as .Previous depends on its version.
func TestPreviousIsInTheReadSet(t *testing.T) {
	m := strings.Replace(string(testManifest("")), `"Marbles":{"m":{"Package":"p"}`,
		`"Marbles":{"m":{"Package":"p","Parameters":{"Env":{"P":"{{ hex .Previous.Secrets.key }}"}}}`, 1)
	c := newTestCoordinator(t, filepath.Join(t.TempDir(), "state"))
	if _, err := c.SetManifest(t.Context(), []byte(m)); err != nil {
		t.Fatal(err)
	}
	_, previous, versions := c.phase.Load().kernel.state.Load().readSecrets("m")
	if _, ok := previous["key"]; !ok || versions["key"] != 1 {
		t.Errorf("previous %v, versions %v", previous, versions)
	}
}
