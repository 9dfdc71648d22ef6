// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"reflect"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/manifest/internal/source"
	"github.com/marblerun/marblerun/manifest/problem"
)

// checker looks for problems in a manifest that parsed.
type checker struct {
	problem.Report
	m     *Manifest
	env   func(string) string
	names struct{ packages, secrets, roles, tags []string } // defined, sorted
	// templates counts the entries with actions, actionBytes the bytes of their actions.
	templates, actionBytes int
}

// Check returns all problems of an initial or full manifest: consistency, and templates as far as that is possible
// without executing them. data are the bytes that m was parsed from. env reads the Coordinator's environment, which
// the feature AzureHSMSealing needs; nil skips that check. Sorted by position; Err tells whether the manifest is
// refused.
func Check(data []byte, m *Manifest, env func(string) string) Problems {
	c := &checker{m: m, env: env}
	c.names.packages, c.names.secrets = sortedKeys(m.Packages), sortedKeys(m.Secrets)
	c.names.roles, c.names.tags = sortedKeys(m.Roles), sortedKeys(m.TLS)
	c.sections()
	c.identities()
	c.marbles()
	c.secrets()
	c.users()
	c.roles()
	c.recoveryKeys()
	c.tags()
	c.config()
	c.unknownFields(data)
	return Locate(data, c.Problems())
}

func (c *checker) sections() {
	if len(c.m.Packages) == 0 {
		c.Fail("$.Packages", "there are no packages").Hint = "a manifest needs at least one package and one Marble"
	}
	if len(c.m.Marbles) == 0 {
		c.Fail("$.Marbles", "there are no Marbles").Hint = "a manifest needs at least one package and one Marble"
	}
}

func (c *checker) identities() {
	used := make(map[string]bool)
	for _, m := range c.m.Marbles {
		used[m.Package] = true
	}
	for _, name := range sortedKeys(c.m.Packages) {
		c.m.Packages[name].Check(&c.Report, problem.Key("$.Packages", name), used[name])
	}
	for _, name := range sortedKeys(c.m.Infrastructures) {
		c.m.Infrastructures[name].Check(&c.Report, problem.Key("$.Infrastructures", name))
	}
}

// unknownFields warns of what a MarbleRun Coordinator ignores in silence.
func (c *checker) unknownFields(data []byte) {
	if syntaxProblem(data) != nil {
		return
	}
	lines := source.NewLines(data)
	for _, f := range source.Inspect(data, reflect.TypeFor[Manifest](), schema(), MaxProblems) {
		if !f.Unknown {
			continue
		}
		p := c.Warn(f.Path, "unknown field %s is ignored", problem.Quote(f.Name))
		p.Line, p.Column = lines.Position(f.Offset)
		p.Hint = c.Meant(f.Name, f.Known)
	}
}

// config checks the settings.
func (c *checker) config() {
	config := c.m.Config
	modes := []string{SealProductKey, SealUniqueKey, SealDisabled}
	if config.SealMode != "" && !slices.Contains(modes, config.SealMode) {
		c.Fail("$.Config.SealMode", "unknown seal mode %s", problem.Quote(config.SealMode)).Hint =
			c.MeantOrOneOf(config.SealMode, modes)
	}
	gates := []string{GateSignQuoteEndpoint, GateMonotonicCounter, GateAzureHSMSealing}
	for i, gate := range config.FeatureGates {
		if !containsFold(gates, gate) {
			c.Fail(problem.Item("$.Config.FeatureGates", i), "unknown feature gate %s", problem.Quote(gate)).Hint =
				c.MeantOrOneOf(gate, gates)
		}
	}
	if n := len(c.m.Updaters()); config.UpdateThreshold > uint(n) {
		c.Fail("$.Config.UpdateThreshold", "%d acknowledgments are required, but %d users can update the manifest",
			config.UpdateThreshold, n).Hint = "give more users a role with the action UpdateManifest, or lower the threshold"
	}
	c.recoveryThreshold()
	c.azure()
}

func (c *checker) recoveryThreshold() {
	const path = "$.Config.RecoveryThreshold"
	t, n := c.m.Config.RecoveryThreshold, uint(len(c.m.RecoveryKeys))
	switch {
	case t == 0:
	case t == 1:
		c.Fail(path, "a threshold of 1 is not possible").Hint = "0 needs all keys; use one key if one person shall recover"
	case t > n:
		c.Fail(path, "%d keys are required, but there are %d recovery keys", t, n)
	}
}

// azure names the missing environment variables of the feature AzureHSMSealing.
func (c *checker) azure() {
	if c.env == nil || !c.m.Feature(GateAzureHSMSealing) {
		return
	}
	var missing []string
	for _, name := range []string{"EDG_MAA_URL", "EDG_AZURE_HSM_VAULT_URL", "EDG_AZURE_HSM_KEY_NAME",
		"EDG_AZURE_CLIENT_ID", "EDG_AZURE_TENANT_ID"} {
		if c.env(name) == "" {
			missing = append(missing, name)
		}
	}
	federated := c.env("EDG_AZURE_AUTHORITY_HOST") != "" && c.env("EDG_AZURE_FEDERATED_TOKEN_FILE") != ""
	if c.env("EDG_AZURE_CLIENT_SECRET") == "" && !federated {
		missing = append(missing, "EDG_AZURE_CLIENT_SECRET (or EDG_AZURE_AUTHORITY_HOST and EDG_AZURE_FEDERATED_TOKEN_FILE)")
	}
	if len(missing) > 0 {
		c.Fail("$.Config.FeatureGates", "AzureHSMSealing needs environment variables that the Coordinator lacks: %s",
			strings.Join(missing, ", "))
	}
}
