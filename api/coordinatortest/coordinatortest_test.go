// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package coordinatortest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/api/coordinatortest"
)

// manifest lets alice read and write the secret that a frontend gets.
func manifest(t *testing.T, alice coordinatortest.User, key coordinatortest.RecoveryKey) []byte {
	t.Helper()
	type object = map[string]any
	data, err := json.Marshal(object{
		"Packages": object{"p": object{"UniqueID": strings.Repeat("00", 32)}},
		"Marbles": object{"frontend": object{"Package": "p",
			"Parameters": object{"Env": object{"TOKEN": "{{ string .Secrets.token }}"}}}},
		"Secrets": object{"token": object{"Type": "plain", "UserDefined": true}},
		"Users":   object{"alice": object{"Certificate": alice.PEM, "Roles": []string{"r"}}},
		"Roles": object{"r": object{"ResourceType": "Secrets", "ResourceNames": []string{"token"},
			"Actions": []string{"ReadSecret", "WriteSecret"}}},
		"RecoveryKeys": object{"rk": key.PEM},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantState(t *testing.T, c *coordinatortest.Coordinator, want int) {
	t.Helper()
	status, err := c.Client.Status(t.Context())
	if err != nil || status.Code != want {
		t.Fatalf("status %+v, %v; want %d", status, err, want)
	}
}

// The whole life of a deployment: manifest, secret, Marble, restart, recovery.
func TestCoordinator(t *testing.T) {
	t.Parallel()
	alice, key := coordinatortest.NewUser(t, "alice"), coordinatortest.NewRecoveryKey(t)
	c := coordinatortest.New(t, coordinatortest.Options{Manifest: manifest(t, alice, key)})
	wantState(t, c, api.StateAcceptsMarbles)
	user := c.ClientAs(alice)
	token := map[string]api.UserSecret{"token": {Key: []byte("geheim")}}
	if err := user.SecretSet(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	var refused *api.RequestError
	if err := c.ClientAs(coordinatortest.NewUser(t, "alice")).SecretSet(t.Context(), token); !errors.As(err, &refused) ||
		refused.Code != 401 {
		t.Errorf("a stranger: %v", err)
	}
	if d := cmp.Diff("geheim", string(c.Activate("frontend").Env["TOKEN"])); d != "" {
		t.Error(d)
	}

	c.Restart()
	got, err := user.SecretGet(t.Context(), []string{"token"})
	if err != nil || string(got["token"].Private) != "geheim" {
		t.Errorf("after a restart: %v %v", got, err)
	}

	root := c.Root
	c.Seal()
	wantState(t, c, api.StateRecovery)
	secret, err := api.DecryptRecoveryData(c.RecoverySecrets["rk"], key.Private)
	if err != nil {
		t.Fatal(err)
	}
	if remaining, err := c.Client.Recover(t.Context(), secret, key.Private); err != nil || remaining != 0 {
		t.Fatalf("remaining %d, %v", remaining, err)
	}
	c.Reconnect()
	wantState(t, c, api.StateAcceptsMarbles)
	if !c.Root.Equal(root) {
		t.Error("another root after recovery")
	}
}

// Without a manifest it waits for one, and two of them do not know each other.
func TestWithoutManifest(t *testing.T) {
	t.Parallel()
	first, second := coordinatortest.New(t, coordinatortest.Options{}), coordinatortest.New(t, coordinatortest.Options{})
	wantState(t, first, api.StateAcceptsManifest)
	if first.Root.Equal(second.Root) || first.ClientAddr == second.ClientAddr {
		t.Error("two Coordinators share something")
	}
	alice, key := coordinatortest.NewUser(t, "alice"), coordinatortest.NewRecoveryKey(t)
	if _, err := first.Client.ManifestSet(t.Context(), manifest(t, alice, key)); err != nil {
		t.Fatal(err)
	}
	wantState(t, first, api.StateAcceptsMarbles)
	wantState(t, second, api.StateAcceptsManifest)
}
