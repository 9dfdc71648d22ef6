// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/problem"
	"github.com/marblerun/marblerun/manifest/yaml"
)

// policy is something that may accept evidence.
type policy struct {
	// name for people; path in the manifest, empty for an era file.
	name, path string
	of         func(attest.TEE) attest.Policy
}

// policies are those that the flags name. The evidence must fulfill one of them; none: there is nothing to fulfill.
func (a *commands) policies(f verifyFlags) ([]policy, error) {
	switch {
	case f.manifest != "" && a.PolicyGiven():
		return nil, errors.New("--manifest and --era-config exclude each other")
	case f.pkg != "" && f.manifest == "":
		return nil, errors.New("--package needs --manifest")
	case f.manifest != "":
		return manifestPolicies(f.manifest, f.pkg)
	case a.PolicyGiven():
		options, err := a.Policy()
		return []policy{{name: "the era file", of: options.Policy}}, err
	case a.FlagSet("accepted-tcb-statuses"), a.FlagSet("accepted-advisories"):
		return nil, errors.New("--accepted-tcb-statuses and --accepted-advisories need --era-config here")
	}
	return nil, nil
}

func manifestPolicies(path, name string) ([]policy, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	data, err := yaml.ToJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	names := []string{name}
	if name == "" {
		names = slices.Sorted(maps.Keys(m.Packages))
	}
	var policies []policy
	for _, n := range names {
		p, ok := m.Policy(n)
		if !ok {
			return nil, fmt.Errorf("%s has no package %q", path, n)
		}
		policies = append(policies, policy{
			name: fmt.Sprintf("package %q", n), path: problem.Key("$.Packages", n),
			of: func(attest.TEE) attest.Policy { return p },
		})
	}
	if len(policies) == 0 {
		return nil, fmt.Errorf("%s has no packages", path)
	}
	return policies, nil
}
