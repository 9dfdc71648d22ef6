// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/marblerun/marblerun/manifest/cert"
	"github.com/marblerun/marblerun/manifest/problem"
)

func (c *checker) users() {
	owners := make(map[string]string) // certificate DER → first user
	for _, name := range sortedKeys(c.m.Users) {
		u, path := c.m.Users[name], problem.Key("$.Users", name)
		c.userCertificate(path+".Certificate", name, u, owners)
		for i, role := range u.Roles {
			if _, ok := c.m.Roles[role]; !ok {
				c.Fail(problem.Item(path+".Roles", i), "there is no role %s", problem.Quote(role)).Hint =
					c.Meant(role, c.names.roles)
			}
		}
	}
}

func (c *checker) userCertificate(path, name string, u User, owners map[string]string) {
	if u.Certificate == "" {
		c.Fail(path, "a user needs a certificate").Hint = "one certificate in PEM, with \\n for line ends"
		return
	}
	der, err := u.DER()
	if err != nil {
		c.Fail(path, "is not a certificate: %s", cert.PlainError(err)).Hint = "one certificate in PEM, with \\n for line ends"
		return
	}
	if first, ok := owners[string(der)]; ok {
		c.Fail(path, "is also the certificate of user %s", problem.Quote(first)).Hint = "a certificate stands for one user"
		return
	}
	owners[string(der)] = name
}

func (c *checker) roles() {
	for _, name := range sortedKeys(c.m.Roles) {
		c.role(problem.Key("$.Roles", name), c.m.Roles[name])
	}
}

func (c *checker) role(path string, r Role) {
	types := []string{ResourcePackages, ResourceSecrets, ResourceManifest, ResourceMarbles}
	var actions []string
	var exists func(string) bool
	var names []string
	switch r.ResourceType {
	case ResourcePackages:
		actions, names = []string{ActionUpdateSecurityVersion}, c.names.packages
		exists = func(n string) bool { _, ok := c.m.Packages[n]; return ok }
	case ResourceSecrets:
		actions, names = []string{ActionReadSecret, ActionWriteSecret, ActionRotateSecret}, c.names.secrets
		exists = func(n string) bool { _, ok := c.m.Secrets[n]; return ok }
	case ResourceMarbles:
		actions, names = []string{ActionBanMarble}, sortedKeys(c.m.Marbles)
		exists = func(n string) bool { _, ok := c.m.Marbles[n]; return ok }
	case ResourceManifest:
		actions = []string{ActionUpdateManifest}
		if len(r.ResourceNames) > 0 {
			c.Fail(path+".ResourceNames", "must be empty for the resource type Manifest")
		}
	default:
		c.Fail(path+".ResourceType", "unknown resource type %s", problem.Quote(r.ResourceType)).Hint =
			c.MeantOrOneOf(r.ResourceType, types)
		return
	}
	for i, a := range r.Actions {
		if !containsFold(actions, a) {
			c.Fail(problem.Item(path+".Actions", i), "unknown action %s for the resource type %s",
				problem.Quote(a), r.ResourceType).Hint =
				c.MeantOrOneOf(a, actions)
		}
	}
	for i, n := range r.ResourceNames {
		at := problem.Item(path+".ResourceNames", i)
		if exists != nil && !exists(n) {
			c.Fail(at, "%s is not defined in %s", problem.Quote(n), r.ResourceType).Hint = c.Meant(n, names)
		} else if r.ResourceType == ResourceSecrets {
			c.secretAccess(at, r, n)
		}
	}
}

func (c *checker) secretAccess(path string, r Role, name string) {
	s := c.m.Secrets[name]
	if containsFold(r.Actions, ActionWriteSecret) && !s.UserDefined {
		c.Fail(path, "WriteSecret needs a user-defined secret, %s is generated", problem.Quote(name))
	}
	if containsFold(r.Actions, ActionReadSecret) && !s.UserDefined && !s.Shared {
		c.Fail(path, "ReadSecret needs a shared or user-defined secret, %s is different for each Marble", problem.Quote(name))
	}
	if containsFold(r.Actions, ActionRotateSecret) && (s.UserDefined || !s.Shared) {
		c.Fail(path, "RotateSecret needs a shared secret that is generated, %s is not", problem.Quote(name)).Hint =
			"a user-defined secret is replaced by setting it; what is not shared is made anew for each Marble"
	}
}

func (c *checker) recoveryKeys() {
	if n := len(c.m.RecoveryKeys); n > MaxRecoveryKeys {
		c.Fail("$.RecoveryKeys", "there are %d recovery keys, %d are allowed", n, MaxRecoveryKeys)
		return
	}
	owners := make(map[string]string) // modulus → first name
	for _, name := range sortedKeys(c.m.RecoveryKeys) {
		path := problem.Key("$.RecoveryKeys", name)
		key, err := ParseRecoveryKey(c.m.RecoveryKeys[name])
		if err != nil {
			c.Fail(path, "%v", err).Hint = "PEM of an RSA key with the label PUBLIC KEY, as by openssl rsa -pubout"
			continue
		}
		if first, ok := owners[string(key.N.Bytes())]; ok {
			c.Warn(path, "is also the key of %s", problem.Quote(first)).Hint = "then one person holds two shares"
			continue
		}
		owners[string(key.N.Bytes())] = name
	}
}

// ParseRecoveryKey parses a value of RecoveryKeys: PEM of a PKIX RSA public key of [MinRSABits] to
// [MaxRecoveryKeyBits] bits.
func ParseRecoveryKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("is not PEM")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("has the PEM label %s", problem.Quote(block.Type))
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is not a public key: %s", cert.PlainError(err))
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("is not an RSA key")
	}
	if bits := key.N.BitLen(); bits < MinRSABits || bits > MaxRecoveryKeyBits {
		return nil, fmt.Errorf("has %d bits, a recovery key has %d to %d", bits, MinRSABits, MaxRecoveryKeyBits)
	}
	return key, nil
}
