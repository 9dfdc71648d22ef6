// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package secrets makes the values of a manifest's secrets and expands the parameters of a Marble with them.
//
//	kind                      made                                      where it lives
//	symmetric, not shared     at each activation, HKDF (Derive)         nowhere: same inputs, same key
//	symmetric, shared         when set, added, redefined or rotated     stored
//	certificate, not shared   at each activation, new key               nowhere
//	certificate, shared       when set; again at every update, new key  stored
//	user-defined              never: uploaded                           stored
//
// (contracts manifest §7, marble-api §8.) Parameters is an activation's part: derive, generate, transparent-TLS
// policy, templates, predefined variables (marble-api §4 steps 8 to 10, §7). GenerateShared, UpdateValues and
// ReissueShared are functions without state for setting and updating a manifest (manifest §12, §13.4, §13.5).
//
// # Invariants
//
//   - An activation costs what its Marble type uses: secrets that neither its templates nor its TLS tags name are not
//     looked at. A template that uses .Secrets in another way than by constant names uses all of them.
//   - No error contains a value.
//   - Nothing here is shared or locked but a cache of parsed certificates; slow keys (RSA) are made in the caller's
//     goroutine, which bounds them. A canceled context ends the work between two keys.
package secrets

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/template"
)

// Value is a secret's value with its definition, as it is stored. If Private and Cert are nil, it is a user-defined
// secret that was not uploaded yet; a plain one may be uploaded with no bytes.
type Value struct {
	Type        string `json:"type"`
	Size        uint   `json:"size,omitempty"` // bits
	Shared      bool   `json:"shared,omitempty"`
	UserDefined bool   `json:"userDefined,omitempty"`
	// ValidFor is in days. For generated certificates the default is filled in, unless the manifest fixes NotAfter.
	ValidFor uint   `json:"validFor,omitempty"`
	Cert     []byte `json:"cert,omitempty"`   // DER
	Private  []byte `json:"private,omitzero"` // PKCS #8 DER, or as uploaded; others: the key or the data
	Public   []byte `json:"public,omitzero"`  // PKIX DER; others: the same bytes as Private
}

// Empty returns the value of a user-defined secret that was not uploaded yet.
func Empty(def manifest.Secret) Value {
	return Value{
		Type: def.Type, Size: def.Size, Shared: def.Shared, UserDefined: def.UserDefined, ValidFor: validFor(def),
	}
}

// validFor is the normalized ValidFor (manifest quirk Q4).
func validFor(def manifest.Secret) uint {
	if def.ValidFor == 0 && def.IsCertificate() && !def.UserDefined && def.Cert.NotAfter.IsZero() {
		return manifest.DefaultValidFor
	}
	return def.ValidFor
}

// uploaded tells whether there is something to deliver.
func (v Value) uploaded() bool { return len(v.Private) > 0 || len(v.Cert) > 0 }

// certificate tells whether the value is a certificate with its key.
func (v Value) certificate() bool { return manifest.Secret{Type: v.Type}.IsCertificate() }

// view returns the value as templates see it.
func (v Value) view(cert template.Certificate) template.Secret {
	return template.Secret{
		Type: v.Type, Size: v.Size, Shared: v.Shared, UserDefined: v.UserDefined, ValidFor: v.ValidFor,
		Cert: cert, Public: v.Public, Private: v.Private,
	}
}

// TemplateSecrets returns values as templates see them, for a dry run. The error names all secrets whose certificate
// does not parse.
func TemplateSecrets(values map[string]Value) (map[string]template.Secret, error) {
	views := make(map[string]template.Secret, len(values))
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		v := values[name]
		var cert template.Certificate
		if len(v.Cert) > 0 {
			var err error
			if cert, err = template.ParseCertificate(v.Cert); err != nil {
				problems = append(problems, fmt.Errorf("secret %q: %w", name, err))
			}
		}
		views[name] = v.view(cert)
	}
	return views, errors.Join(problems...)
}
