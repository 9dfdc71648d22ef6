// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"path/filepath"
	"strings"
	"testing"
)

// The prefixes of manifest.md §12, although all problems are found in one go: the first step that fails names itself.
func TestFailedStep(t *testing.T) {
	c := newTestCoordinator(t, filepath.Join(t.TempDir(), "state"))
	_, pemText := userCertificate(t, "alice")
	const noPEM = `"RecoveryKeys":{"a":"no PEM"}`
	parameters := func(p string) string { return `"Marbles":{"x":{"Package":"p","Parameters":{` + p + `}}}` }
	for want, manifests := range map[string][]string{
		"checking manifest: ": {
			`"TLS":{"t":{"Incoming":[{"Port":"1","Cert":"nope"}]}}`,
			`"Config":{"RecoveryThreshold":1}`,
			`"Secrets":{"s":{"Type":"nope"}}`,
			`"Secrets":{"s":{"Type":"cert-ed25519","ValidFor":1,"Cert":{"NotAfter":"2030-01-01T00:00:00Z"}}}`,
			`"Users":{"u":{"Certificate":""}}`,
			`"Users":{"u":{"Certificate":` + jsonString(t, pemText) + `,"Roles":["nope"]}}`,
			`"Users":{"u":{"Certificate":"no","Roles":["nope"]}}`,
			`"Marbles":{"x":{"Package":"p","TLS":["?"]}}`,
			noPEM + `,"Config":{"SealMode":"nope"}`,
		},
		"generating secrets from manifest: ": {
			`"Secrets":{"s":{"Type":"symmetric-key","Size":7,"Shared":true}}`,
			`"Secrets":{"s":{"Type":"plain","Shared":true}}`,
			`"Secrets":{"s\"].Type":{"Type":"cert-ecdsa","Size":7,"Shared":true}}`,
		},
		"generating placeholder secrets from manifest: ": {
			`"Secrets":{"s":{"Type":"cert-ecdsa","Size":7}}`,
			noPEM + `,"Secrets":{"s":{"Type":"cert-ed25519","Size":1}}`,
		},
		"generating recovery encryption key: ": {
			noPEM,
			parameters(`"Env":{"E":"{{ if }}"}`) + `,` + noPEM,
		},
		"generating users from manifest: ": {
			`"Users":{"u":{"Certificate":"no"}}`,
		},
		"running manifest template dry run: ": {
			parameters(`"Env":{"E":"{{ hex .Secrets.nope }}"}`),
			parameters(`"Files":{"f":"{{ if }}"}`),
			parameters(`"Env":{"E":{"Data":"AA==","Encoding":"base64"}}`),
		},
	} {
		for _, sections := range manifests {
			_, err := c.SetManifest(t.Context(), testManifest(","+sections))
			if err == nil || !strings.HasPrefix(err.Error(), want) || CodeOf(err) != Invalid {
				t.Errorf("%s:\n got %v\nwant prefix %q", sections, err, want)
			}
		}
	}
}
