// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import "github.com/marblerun/marblerun/manifest/diff"

// Change is one difference between two manifests, in words.
type Change = diff.Change

// ChangeKind says what happened: Added, Removed or Changed.
type ChangeKind = diff.Kind

// The kinds of change.
const (
	Added   = diff.Added
	Removed = diff.Removed
	Changed = diff.Changed
)

// Diff says in words what a new manifest changes, in the order of the sections and names. Spelling and order of the
// documents do not count.
func Diff(old, new *Manifest) []Change {
	return diff.Between(*old, *new, []string{
		"Packages", "Infrastructures", "Marbles", "Secrets", "Users", "Roles", "RecoveryKeys", "TLS", "Config",
	})
}
