// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/x509"
	"fmt"

	"github.com/marblerun/marblerun/manifest"
)

// Authenticate returns the name of the user whose certificate is, byte for byte, the first one presented: the one whose key
// TLS has proved. The contract compares every presented certificate (client-api.md §4), but a user's certificate is public
// and anybody can send it along behind a certificate of his own.
func (c *Coordinator) Authenticate(certs []*x509.Certificate) (string, error) {
	if k := c.phase.Load().kernel; k != nil && len(certs) > 0 {
		if name, ok := k.state.Load().manifest.users[string(certs[0].Raw)]; ok {
			return name, nil
		}
	}
	return "", errNoUser()
}

// errNoUser's text is part of the contract.
func errNoUser() error {
	return refuse(Unauthorized, "unauthorized user: client certificate did not match any MarbleRun users")
}

// AuthenticateMarble returns the Marble whose certificate, issued under the current Marble Root, is the first one presented,
// as in Authenticate.
func (c *Coordinator) AuthenticateMarble(certs []*x509.Certificate) (Marble, error) {
	k := c.phase.Load().kernel
	if k == nil || len(certs) == 0 {
		return Marble{}, refuse(Unauthorized, "unauthorized marble: no client certificate provided")
	}
	s := k.state.Load()
	marbleType, uuid, err := s.ca.VerifyMarble(certs[0], c.cfg.Now())
	if err != nil {
		return Marble{}, refuse(Unauthorized, "unauthorized marble: %w", err)
	}
	m := Marble{Type: marbleType, UUID: uuid}
	if err := s.checkMarbleBan(m); err != nil {
		return Marble{}, err
	}
	return m, nil
}

// permit refuses unless the user may do action on all names. Unknown names look like a missing permission.
func permit(m *manifest.Manifest, user, resource, action string, names ...string) error {
	for _, name := range names {
		if !m.Can(user, resource, action, name) {
			return forbidden(user, resource, action, name)
		}
	}
	if len(names) == 0 && !m.Can(user, resource, action, "") {
		return forbidden(user, resource, action, "")
	}
	return nil
}

// forbidden has the shape of client-api.md §5, "user <name> is not allowed to …".
func forbidden(user, resource, action, name string) error {
	what := map[string]string{
		manifest.ActionReadSecret:            "read secret",
		manifest.ActionWriteSecret:           "write secret",
		manifest.ActionUpdateSecurityVersion: "update package",
		manifest.ActionUpdateManifest:        "update the manifest",
		manifest.ActionRotateSecret:          "rotate secret",
		manifest.ActionBanMarble:             "ban marble",
	}[action]
	role := fmt.Sprintf("a role with ResourceType %s and Action %s", resource, action)
	if name == "" {
		return refuse(Forbidden, "user %s is not allowed to %s", user, what).hint("it takes " + role)
	}
	return refuse(Forbidden, "user %s is not allowed to %s %s", user, what, name).
		hint(fmt.Sprintf("it takes %s whose ResourceNames name %q", role, name))
}
