// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
)

// A plain secret may be empty if no template uses it (client-api.md §8). It is then uploaded, and stays so.
func TestEmptyPlainSecret(t *testing.T) {
	_, text := userCertificate(t, "alice")
	const used = `"used":{"Type":"plain","UserDefined":true},"idle":{"Type":"plain","UserDefined":true},`
	m := strings.Replace(string(testManifest(`,"Users":{"alice":{"Certificate":`+jsonString(t, text)+`,"Roles":["s"]}},`+
		`"Roles":{"s":{"ResourceType":"Secrets","ResourceNames":["used","idle"],"Actions":["ReadSecret","WriteSecret"]}}`)),
		`"token"`, used+`"token"`, 1)
	m = strings.Replace(m, `"m":{"Package":"p"}`, `"m":{"Package":"p","Parameters":{"Env":{"E":"{{string .Secrets.used}}"}}}`, 1)
	c := newTestCoordinator(t, filepath.Join(t.TempDir(), "state"))
	if _, err := c.SetManifest(t.Context(), []byte(m)); err != nil {
		t.Fatal(err)
	}
	err := c.WriteSecrets(t.Context(), "alice", map[string]wire.UserSecret{"used": {Key: []byte{}}})
	if CodeOf(err) != Invalid || !strings.Contains(err.Error(), "the value is empty") {
		t.Errorf("used by a template: %v", err)
	}
	err = c.WriteSecrets(t.Context(), "alice", map[string]wire.UserSecret{"idle": {}})
	if CodeOf(err) != Invalid || !strings.Contains(err.Error(), "needs Key") {
		t.Errorf("no Key: %v", err)
	}
	if err := c.WriteSecrets(t.Context(), "alice", map[string]wire.UserSecret{"idle": {Key: []byte{}}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := c.ReadSecrets(t.Context(), "alice", []string{"idle", "used"})
		if err != nil {
			t.Fatal(err)
		}
		if v := got["idle"]; v.Private == nil || v.Public == nil || len(v.Private) > 0 {
			t.Errorf("read %+v, want no bytes", v)
		}
		if v := got["used"]; v.Private != nil || v.Public != nil {
			t.Errorf("what was refused reads %+v", v)
		}
		c = reopen(t, c)
	}
}
