// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func env(pairs ...string) process {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return process{
		getenv: func(name string) string { return m[name] },
		getwd:  func() (string, error) { return "/cwd", nil },
	}
}

func TestConfig(t *testing.T) {
	defaults := config{
		clientAddr: ":4433", meshAddr: ":2001", dnsNames: []string{"localhost"},
		sealDir: "/cwd/marblerun-coordinator-data", httpErrorLevel: slog.LevelError,
	}
	tests := map[string]struct {
		env  []string
		want func(*config)
	}{
		"nothing":        {nil, func(*config) {}},
		"empty is unset": {[]string{envClientAddr, "", envDNSNames, "", envRecoveryOnly, "", envHistoryLimit, ""}, func(*config) {}},
		"addresses": {[]string{envClientAddr, "a:1", envMeshAddr, "b:2", envMetricsAddr, "c:3"}, func(c *config) {
			c.clientAddr, c.meshAddr, c.metricsAddr = "a:1", "b:2", "c:3"
		}},
		"names are trimmed, empty ones dropped": {[]string{envDNSNames, " foo,, 10.0.0.1 ,\tbar ,::2, "}, func(c *config) {
			c.dnsNames, c.ips = []string{"foo", "bar"}, []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("::2")}
		}},
		"seal directory":        {[]string{envSealDir, "/s", envWorkingDir, "/w"}, func(c *config) { c.sealDir = "/s" }},
		"working directory":     {[]string{envWorkingDir, "/w"}, func(c *config) { c.sealDir = "/w/marblerun-coordinator-data" }},
		"simulation":            {[]string{envSimulation, "1"}, func(c *config) { c.simulation = envSimulation }},
		"simulation, the old":   {[]string{envOESimulation, "1"}, func(c *config) { c.simulation = envOESimulation }},
		"simulation off":        {[]string{envOESimulation, "0", envSimulation, "0"}, func(*config) {}},
		"recovery only":         {[]string{envRecoveryOnly, "1"}, func(c *config) { c.recoveryOnly = true }},
		"dev mode":              {[]string{envDevMode, "1"}, func(c *config) { c.devMode = true }},
		"startup manifest":      {[]string{envStartupManifest, "/m"}, func(c *config) { c.startupManifest = "/m" }},
		"history":               {[]string{envHistoryLimit, "8"}, func(c *config) { c.historyLimit = 8 << 20 }},
		"level":                 {[]string{envHTTPErrorLevel, "debug"}, func(c *config) { c.httpErrorLevel = slog.LevelDebug }},
		"level, rubbish":        {[]string{envHTTPErrorLevel, "x"}, func(*config) {}},
		"other store backend":   {[]string{envStoreBackend, "local"}, func(*config) {}},
		"workload identity":     {[]string{"EDG_AZURE_CLIENT_ID", "x", "EDG_MAA_URL", "y"}, func(*config) {}},
		"distributed, but off":  {[]string{envDistributed, "0"}, func(*config) {}},
		"other legacy features": {[]string{envLegacy, "something"}, func(*config) {}},
	}
	for name, tt := range tests {
		want := defaults
		tt.want(&want)
		got, err := readConfig(env(tt.env...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}, softTEE{}), cmpopts.IgnoreFields(config{}, "collateral")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestBadConfigShowsAllProblems(t *testing.T) {
	_, err := readConfig(env(
		envDNSNames, "a.example, bücher.example", envRecoveryOnly, "true", envSimulation, "yes", envHistoryLimit, "-1",
		envDistributed, "1", envLegacy, "DistributedCoordinator", envStoreBackend, "k8s-secret",
		envHSMVault, "https://x", envHSMKey, "k",
	))
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{
		`EDG_COORDINATOR_DNS_NAMES: a certificate cannot hold "bücher.example": write it in ASCII, with xn--`,
		`EDG_COORDINATOR_RECOVERY_ONLY must be 0 or 1, not "true"`,
		`EDG_COORDINATOR_SIMULATION must be 0 or 1, not "yes"`,
		`EDG_COORDINATOR_HISTORY_MIB must be a number of MiB, at least 1, not "-1"`,
		`EDG_DISTRIBUTED_COORDINATOR asks for several Coordinators on one state, which is not supported yet: unset it`,
		`EDG_ENTERPRISE_LICENSED_FEATURES asks for several Coordinators on one state, which is not supported yet: unset it`,
		`EDG_STORE_BACKEND asks for the state in a Kubernetes Secret, which is not supported yet: unset it`,
		`EDG_AZURE_HSM_VAULT_URL asks for sealing with an Azure HSM, which is not supported yet: unset it`,
		`EDG_AZURE_HSM_KEY_NAME asks for sealing with an Azure HSM, which is not supported yet: unset it`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestAMistypedFlagDoesNotSimulate(t *testing.T) {
	cfg, err := readConfig(env(envSimulation, "yes", envOESimulation, "true"))
	if err == nil || cfg.simulation != "" {
		t.Errorf("simulation by %q, error %v", cfg.simulation, err)
	}
}

func TestNoWorkingDirectory(t *testing.T) {
	p := env()
	p.getwd = func() (string, error) { return "", errors.New("gone") }
	if _, err := readConfig(p); err == nil || !strings.Contains(err.Error(), envSealDir) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownVariables(t *testing.T) {
	got := unknownVariables([]string{
		"EDG_COORDINATOR_SIMULATON=1", "EDG_COORDINATOR_CLIENT_ADDR=x", "EDG_MARBLE_TYPE=x", "PATH=/", "EDG_COORDINATOR_A=",
		"EDG_COORDINATOR_RECOVERY_ONLY=1", "EDG_COORDINATOR_DEV_MODE=0",
	})
	if diff := cmp.Diff([]string{"EDG_COORDINATOR_A", "EDG_COORDINATOR_SIMULATON"}, got); diff != "" {
		t.Error(diff)
	}
}
