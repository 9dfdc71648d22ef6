// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
)

// recovery says what happens to recovery keys and secrets.
func (r *reporter) recovery() {
	if !manifest.RecoveryKeysChanged(r.current, r.next) {
		return
	}
	t, n := r.next.RecoveryScheme()
	c := diff.Change{Path: "$.RecoveryKeys", Kind: diff.Regenerated}
	switch {
	case n == 0:
		c.Warning, c.Text = true, "there are no recovery keys any more: state that the Coordinator cannot unseal is lost"
	default:
		c.Text = fmt.Sprintf("new recovery secrets: %d of %s recover the Coordinator; whoever applies the update receives "+
			"them, and 'marblerun manifest recovery-secrets' gets them again", t, count(n, "key"))
	}
	if len(r.current.RecoveryKeys) > 0 {
		c.Text += "; the old recovery secrets stop working"
	}
	r.add(Recovery, c)
	for _, d := range diff.Compare(r.current.RecoveryKeys, r.next.RecoveryKeys) {
		change := diff.Describe(d)
		change.Path = "$.RecoveryKeys" + strings.TrimPrefix(change.Path, "$")
		change.Text = quoted("recovery key", d.Steps[0]) + " " + string(change.Kind)
		r.add(Recovery, change)
	}
}

// settings says what happens to seal mode and feature gates. The other settings are said where they have an effect.
func (r *reporter) settings() {
	if old, next := r.current.SealMode(), r.next.SealMode(); old != next {
		c := diff.Change{Path: "$.Config.SealMode", Kind: diff.Changed, Warning: next == manifest.SealDisabled}
		c.Text = fmt.Sprintf("SealMode is %s, was %s, from the update on: %s", next, old, sealing(next))
		r.add(Settings, c)
	}
	for _, gate := range []string{
		manifest.GateSignQuoteEndpoint, manifest.GateMonotonicCounter, manifest.GateAzureHSMSealing,
	} {
		c := diff.Change{Path: "$.Config.FeatureGates", Kind: diff.Added, Text: "feature " + gate + " is turned on"}
		if r.current.Feature(gate) {
			c.Kind, c.Text = diff.Removed, "feature "+gate+" is turned off"
		}
		if r.current.Feature(gate) != r.next.Feature(gate) {
			r.add(Settings, c)
		}
	}
}

// sealing says what a seal mode means.
func sealing(mode string) string {
	return map[string]string{
		manifest.SealProductKey: "any Coordinator of the same signer and product on this machine unseals the state",
		manifest.SealUniqueKey:  "only this very build on this machine unseals the state; another one needs recovery",
		manifest.SealDisabled:   "nothing is stored any more; the next restart loses manifest, secrets and certificates",
	}[mode]
}

// without returns the elements of a that b lacks.
func without(a, b []string) (out []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
