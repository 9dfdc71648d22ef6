// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/manifest"
)

// The steps of manifest.md §12 at which a manifest fails, in order. What comes before the colon is part of the contract.
const (
	stepCheck = iota
	stepShared
	stepPlaceholders
	stepRecovery
	stepUsers
	stepTemplates
)

// failedStep names the first step that fails for one of the problems. They are all found in one go, by the check, and
// some belong to a later step.
func failedStep(m *manifest.Manifest, problems manifest.Problems) string {
	first := stepTemplates
	for _, p := range problems {
		first = min(first, stepOf(m, p.Path))
	}
	return [...]string{
		stepCheck: "checking manifest", stepShared: "generating secrets from manifest",
		stepPlaceholders: "generating placeholder secrets from manifest",
		stepRecovery:     "generating recovery encryption key", stepUsers: "generating users from manifest",
		stepTemplates: "running manifest template dry run",
	}[first]
}

// stepOf tells by a problem's path, e.g. $.Secrets["key"].Size, at which step it would be met.
func stepOf(m *manifest.Manifest, path string) int {
	section, name, rest := splitPath(path)
	switch section {
	case "$.Secrets":
		switch {
		case name == "" || rest == ".Type" || rest == ".ValidFor":
			return stepCheck
		case m.Secrets[name].Shared:
			return stepShared
		}
		return stepPlaceholders
	case "$.RecoveryKeys":
		return stepRecovery
	case "$.Users":
		user := m.Users[name]
		if _, err := user.DER(); rest == ".Certificate" && user.Certificate != "" && err != nil {
			return stepUsers
		}
	case "$.Marbles":
		if strings.HasPrefix(rest, ".Parameters.Files[") || strings.HasPrefix(rest, ".Parameters.Env[") {
			return stepTemplates
		}
	}
	return stepCheck
}

// splitPath splits $.Section["name"].rest.
func splitPath(path string) (section, name, rest string) {
	section, rest, _ = strings.Cut(path, "[")
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return section, "", rest
	}
	name, err = strconv.Unquote(quoted)
	if err != nil {
		return section, "", rest
	}
	return section, name, strings.TrimPrefix(rest[len(quoted):], "]")
}
