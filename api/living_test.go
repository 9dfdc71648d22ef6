// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

func TestRotateAndBan(t *testing.T) {
	alice, alicePEM := user(t, "alice")
	fake := start(t, func(c *fakecoordinator.Coordinator) {
		c.SetManifest(manifestOf(t, map[string]string{"alice": alicePEM}))
		c.SetSecret("key", api.Secret{Type: "symmetric-key", Shared: true, Private: []byte("old")})
	})
	client, ctx := connect(t, fake, alice), t.Context()
	names, err := client.SecretRotate(ctx, []string{"key"})
	if diff := cmp.Diff([]string{"key"}, names); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if got, err := client.SecretGet(ctx, []string{"key"}); err != nil || string(got["key"].Private) == "old" {
		t.Error(got, err)
	}
	if _, err := client.SecretRotate(ctx, nil); err == nil {
		t.Error("no names were accepted")
	}

	uuid := api.BanTarget{MarbleType: "web", UUID: "0f0e0d0c-0b0a-4908-8706-050403020100"}
	evidence := api.BanTarget{MarbleType: "web", EvidenceSHA256: strings.Repeat("ab", 32)}
	want := []api.Ban{
		{BanTarget: uuid, BannedBy: "alice", Time: "2026-01-02T03:04:05Z"},
		{BanTarget: evidence, BannedBy: "alice", Time: "2026-01-02T03:04:05Z"},
	}
	for i, target := range []api.BanTarget{uuid, evidence} {
		if b, err := client.BanAdd(ctx, target); err != nil || b != want[i] {
			t.Error(b, err)
		}
	}
	stranger := connect(t, fake, nil)
	if got, err := stranger.BanList(ctx); err != nil || !cmp.Equal(want, got) {
		t.Error(got, err)
	}
	var refused *api.RequestError
	if _, err := stranger.BanLift(ctx, uuid); !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
		t.Errorf("a stranger lifts: %v", err)
	}
	if b, err := client.BanLift(ctx, uuid); err != nil || b != want[0] {
		t.Error(b, err)
	}
	if _, err := client.BanLift(ctx, uuid); err == nil || !strings.Contains(err.Error(), "there is no ban of") {
		t.Errorf("lifted twice: %v", err)
	}
	if got, err := client.BanList(ctx); err != nil || !cmp.Equal(want[1:], got) {
		t.Error(got, err)
	}
}

// TestRotateAndBanNeedVersion2: older Coordinators do not offer them, and the error says so.
func TestRotateAndBanNeedVersion2(t *testing.T) {
	fake := start(t, func(c *fakecoordinator.Coordinator) { c.OnlyV1 = true })
	client := connect(t, fake, nil)
	_, rotated := client.SecretRotate(t.Context(), []string{"key"})
	_, listed := client.BanList(t.Context())
	for _, err := range []error{rotated, listed} {
		if !strings.Contains(api.Hint(err), "does not offer this operation") {
			t.Errorf("%v, hint %q", err, api.Hint(err))
		}
	}
}
