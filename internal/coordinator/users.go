// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/manifest"
)

// Authenticate returns the name of the user whose certificate is, byte for byte, among the presented ones.
func (c *Coordinator) Authenticate(certs []*x509.Certificate) (string, error) {
	if k := c.phase.Load().kernel; k != nil {
		if name, ok := k.state.Load().manifest.user(certs); ok {
			return name, nil
		}
	}
	return "", refuse(Unauthorized, "unauthorized user: client certificate did not match any MarbleRun users")
}

// AuthenticateMarble returns the Marble whose certificate, issued under the current Marble Root, is among the presented ones.
func (c *Coordinator) AuthenticateMarble(certs []*x509.Certificate) (Marble, error) {
	k := c.phase.Load().kernel
	if k == nil || len(certs) == 0 {
		return Marble{}, refuse(Unauthorized, "unauthorized marble: no client certificate provided")
	}
	ca := k.state.Load().ca
	var err error
	for _, cert := range certs {
		var m Marble
		if m.Type, m.UUID, err = ca.VerifyMarble(cert, c.cfg.Now()); err == nil {
			return m, nil
		}
	}
	return Marble{}, refuse(Unauthorized, "unauthorized marble: %w", err)
}

// permit refuses unless the user may do action on all names. Unknown names look like a missing permission.
func permit(m *manifest.Manifest, user, resource, action string, names ...string) error {
	for _, name := range names {
		if !m.Can(user, resource, action, name) {
			return forbidden(user, action, name)
		}
	}
	if len(names) == 0 && !m.Can(user, resource, action, "") {
		return forbidden(user, action, "")
	}
	return nil
}

// forbidden has the shape of client-api.md §5, "user <name> is not allowed to …".
func forbidden(user, action, name string) error {
	what := map[string]string{
		manifest.ActionReadSecret:            "read secret",
		manifest.ActionWriteSecret:           "write secret",
		manifest.ActionUpdateSecurityVersion: "update package",
		manifest.ActionUpdateManifest:        "update the manifest",
	}[action]
	text := fmt.Sprintf("user %s is not allowed to %s", user, what)
	if name != "" {
		text += " " + name
	}
	return refuse(Forbidden, "%s", strings.TrimSpace(text)).
		hint("the manifest's Roles section grants permissions")
}
