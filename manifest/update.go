// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"maps"

	"github.com/marblerun/marblerun/manifest/problem"
)

// UpdateKind is the kind of update that a document is when posted as one.
type UpdateKind int

// The kinds of update.
const (
	// PackageUpdate raises security versions; users with UpdateSecurityVersion do it alone.
	PackageUpdate UpdateKind = iota
	// FullUpdate replaces the manifest; users with UpdateManifest acknowledge it.
	FullUpdate
)

// UpdateKind tells what kind of update m is: a package update if there is nothing but Packages and Config.
func (m *Manifest) UpdateKind() UpdateKind {
	if len(m.Infrastructures)+len(m.Marbles)+len(m.Users)+len(m.RecoveryKeys)+len(m.Roles)+len(m.Secrets)+len(m.TLS) == 0 {
		return PackageUpdate
	}
	return FullUpdate
}

// CheckPackageUpdate returns all problems of a package update. current has the effect of earlier package updates
// folded in, see [Manifest.WithSecurityVersions]. Problems have no line and column: see [Locate]. Unlike MarbleRun it
// refuses a Config and fields that would have no effect, and security versions for packages that do not pin one.
func CheckPackageUpdate(current, update *Manifest) Problems {
	c := &checker{m: current}
	if len(update.Packages) == 0 {
		c.Fail("$.Packages", "the update names no packages")
	}
	config := update.Config
	if config.SealMode != "" || len(config.FeatureGates) > 0 || config.UpdateThreshold != 0 ||
		config.RecoveryThreshold != 0 || config.RotateRootSecret {
		c.Fail("$.Config", "a package update cannot change the settings").Hint = "send the whole manifest as a full update"
	}
	c.names.packages = sortedKeys(current.Packages)
	for _, name := range sortedKeys(update.Packages) {
		c.packageUpdate(problem.Key("$.Packages", name), name, update.Packages[name])
	}
	return c.Problems()
}

func (c *checker) packageUpdate(path, name string, next Package) {
	old, ok := c.m.Packages[name]
	if !ok {
		c.Fail(path, "there is no package %s", problem.Quote(name)).Hint = c.Meant(name, c.names.packages)
		return
	}
	for _, field := range frozenFields(next) {
		c.Fail(path+"."+field, "a package update cannot change %s", field).Hint =
			"only SecurityVersion; else send the whole manifest"
	}
	switch {
	case next.SecurityVersion == nil:
		c.Fail(path+".SecurityVersion", "a package update needs a SecurityVersion")
	case old.UniqueID != "":
		c.Fail(path+".SecurityVersion", "the package is identified by its UniqueID, which is one build").Hint =
			"send the whole manifest with the new UniqueID"
	case old.TDX != nil || old.SNP != nil:
		c.Fail(path+".SecurityVersion", "the package is not for SGX").Hint = "send the whole manifest"
	case old.SecurityVersion != nil && *next.SecurityVersion < *old.SecurityVersion:
		c.Fail(path+".SecurityVersion", "is %d, lower than the current %d", *next.SecurityVersion, *old.SecurityVersion)
	}
}

// frozenFields are the fields of a package that a package update sets but cannot change.
func frozenFields(p Package) (fields []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"UniqueID", p.UniqueID != ""}, {"SignerID", p.SignerID != ""}, {"ProductID", p.ProductID != nil}, {"Debug", p.Debug},
		{"AcceptedTCBStatuses", len(p.AcceptedTCBStatuses) > 0}, {"AcceptedAdvisories", len(p.AcceptedAdvisories) > 0},
		{"TDX", p.TDX != nil}, {"SNP", p.SNP != nil}, {"TCBDateAfter", !p.TCBDateAfter.IsZero()},
		{"MinimumTCBEvaluationDataNumber", p.MinimumTCBEvaluationDataNumber != 0},
	} {
		if f.set {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// RecoveryKeysChanged reports whether a full update from old to new starts an epoch with new recovery secrets: other
// names or PEM texts, or another effective threshold.
func RecoveryKeysChanged(old, new *Manifest) bool {
	t1, _ := old.RecoveryScheme()
	t2, _ := new.RecoveryScheme()
	return t1 != t2 || !maps.Equal(old.RecoveryKeys, new.RecoveryKeys)
}
