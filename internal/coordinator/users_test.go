// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
)

// Whoever is no user any more when the writer decides changes nothing, even if authenticated before.
func TestReplacedUserChangesNothing(t *testing.T) {
	old, oldText := userCertificate(t, "alice")
	_, newText := userCertificate(t, "alice")
	_, bobText := userCertificate(t, "bob")
	doc := func(alice string) []byte {
		return testManifest(fmt.Sprintf(`,"Users":{"alice":{"Certificate":%s,"Roles":["u","s"]},`+
			`"bob":{"Certificate":%s,"Roles":["u"]}},"Roles":{"u":{"ResourceType":"Manifest","Actions":["UpdateManifest"]},`+
			`"s":{"ResourceType":"Secrets","ResourceNames":["token"],"Actions":["WriteSecret"]}},"Config":{"UpdateThreshold":1}`,
			jsonString(t, alice), jsonString(t, bobText)))
	}
	c := newTestCoordinator(t, filepath.Join(t.TempDir(), "state"))
	if _, err := c.SetManifest(t.Context(), doc(oldText)); err != nil {
		t.Fatal(err)
	}
	ctx := WithUserCertificate(t.Context(), old)
	write := func(ctx context.Context) error {
		return c.WriteSecrets(ctx, "alice", map[string]wire.UserSecret{"token": {Key: []byte("x")}})
	}
	if err := write(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Update(t.Context(), "bob", doc(newText)); err != nil {
		t.Fatal(err)
	}
	before := encoded(t, c)
	_, updated := c.Update(ctx, "alice", doc(oldText))
	for what, err := range map[string]error{
		"secret": write(ctx), "update": updated, "cancel": c.CancelUpdate(ctx, "alice"),
	} {
		if CodeOf(err) != Unauthorized {
			t.Errorf("%s: %v", what, err)
		}
	}
	if encoded(t, c) != before {
		t.Error("the state changed")
	}
}
