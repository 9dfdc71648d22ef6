// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/marblerun/marblerun/attest/verifier"
	"github.com/marblerun/marblerun/internal/logging"
)

// The variables that are read (coordinator-runtime §1, and docs/reference/environment.md). Empty is unset.
const (
	envMeshAddr        = "EDG_COORDINATOR_MESH_ADDR"
	envClientAddr      = "EDG_COORDINATOR_CLIENT_ADDR"
	envMetricsAddr     = "EDG_COORDINATOR_PROMETHEUS_ADDR"
	envDNSNames        = "EDG_COORDINATOR_DNS_NAMES"
	envSealDir         = "EDG_COORDINATOR_SEAL_DIR"
	envWorkingDir      = "EDG_CWD"
	envDevMode         = "EDG_COORDINATOR_DEV_MODE"
	envDebugLogging    = "EDG_DEBUG_LOGGING"
	envHTTPErrorLevel  = "EDG_HTTP_ERROR_LOG_LEVEL"
	envStartupManifest = "EDG_STARTUP_MANIFEST"
	envOESimulation    = "OE_SIMULATION"

	// Additions to the contract.
	envSimulation   = "EDG_COORDINATOR_SIMULATION"
	envRecoveryOnly = "EDG_COORDINATOR_RECOVERY_ONLY"
	envHistoryLimit = "EDG_COORDINATOR_HISTORY_MIB"

	// Of features that are not there yet.
	envDistributed  = "EDG_DISTRIBUTED_COORDINATOR"
	envLegacy       = "EDG_ENTERPRISE_LICENSED_FEATURES"
	envStoreBackend = "EDG_STORE_BACKEND"
	envHSMVault     = "EDG_AZURE_HSM_VAULT_URL"
	envHSMKey       = "EDG_AZURE_HSM_KEY_NAME"
)

// config is the environment, read once.
type config struct {
	clientAddr, meshAddr string
	metricsAddr          string // "" is off
	// dnsNames and ips are the SANs of a new root certificate, besides the loopback addresses.
	dnsNames []string
	ips      []net.IP
	sealDir  string
	// simulation is the variable that asks for simulation, "" if none does.
	simulation      string
	devMode         bool
	recoveryOnly    bool
	startupManifest string // path
	historyLimit    int64  // bytes; 0 is the default
	httpErrorLevel  slog.Level
	// collateral says where the collateral for verifying evidence comes from.
	collateral verifier.Config
	softTEE    softTEE
}

// readConfig returns the configuration, or all problems.
func readConfig(p process) (config, error) {
	or := func(name, value string) string {
		if v := p.getenv(name); v != "" {
			return v
		}
		return value
	}
	cfg := config{
		clientAddr: or(envClientAddr, ":4433"), meshAddr: or(envMeshAddr, ":2001"), metricsAddr: p.getenv(envMetricsAddr),
		devMode: p.getenv(envDevMode) == "1", startupManifest: p.getenv(envStartupManifest),
		httpErrorLevel: logging.ParseLevel(or(envHTTPErrorLevel, "error")),
	}
	var problems []error
	note := func(err error) { problems = append(problems, err) }
	var err error
	cfg.dnsNames, cfg.ips, err = names(or(envDNSNames, "localhost"))
	note(err)
	cfg.sealDir, err = sealDir(p)
	note(err)
	cfg.recoveryOnly, err = flag(p, envRecoveryOnly)
	note(err)
	cfg.simulation, err = simulation(p)
	note(err)
	cfg.historyLimit, err = mebibytes(p, envHistoryLimit)
	note(err)
	cfg.collateral, err = readCollateral(p)
	note(err)
	cfg.softTEE = readSoftTEE(p)
	note(unsupported(p))
	return cfg, errors.Join(problems...)
}

// names splits the list into DNS names and IP addresses. Spaces and empty entries do not count (Q13).
func names(list string) (dns []string, ips []net.IP, err error) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else if name != "" {
			dns = append(dns, name)
		}
	}
	if i := slices.IndexFunc(dns, func(name string) bool { return !ascii(name) }); i >= 0 {
		err = fmt.Errorf("%s: a certificate cannot hold %q: write it in ASCII, with xn--", envDNSNames, dns[i])
	}
	return dns, ips, err
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func sealDir(p process) (string, error) {
	if dir := p.getenv(envSealDir); dir != "" {
		return dir, nil
	}
	base := p.getenv(envWorkingDir)
	if base == "" {
		var err error
		if base, err = p.getwd(); err != nil {
			return "", fmt.Errorf("finding the working directory, because %s is not set: %w", envSealDir, err)
		}
	}
	return filepath.Join(base, "marblerun-coordinator-data"), nil
}

// flag reads a variable of our own: what is neither 0 nor 1 is a mistake that must not pass for "off".
func flag(p process, name string) (bool, error) {
	switch v := p.getenv(name); v {
	case "", "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return false, fmt.Errorf("%s must be 0 or 1, not %q", name, v)
	}
}

// simulation returns the name of the variable that asks for simulation.
func simulation(p process) (string, error) {
	on, err := flag(p, envSimulation)
	switch {
	case on:
		return envSimulation, nil
	case p.getenv(envOESimulation) == "1":
		return envOESimulation, err
	}
	return "", err
}

func mebibytes(p process, name string) (int64, error) {
	text := p.getenv(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s must be a number of MiB, at least 1, not %q", name, text)
	}
	return int64(n) << 20, nil
}

// unsupported refuses what was asked for and is not there yet. To ignore it would look like success.
func unsupported(p process) error {
	var problems []error
	refuse := func(name, feature string) {
		problems = append(problems, fmt.Errorf("%s asks for %s, which is not supported yet: unset it", name, feature))
	}
	if p.getenv(envDistributed) == "1" {
		refuse(envDistributed, "several Coordinators on one state")
	}
	if strings.Contains(strings.ToLower(p.getenv(envLegacy)), "distributedcoordinator") {
		refuse(envLegacy, "several Coordinators on one state")
	}
	if p.getenv(envStoreBackend) == "k8s-secret" {
		refuse(envStoreBackend, "the state in a Kubernetes Secret")
	}
	for _, name := range []string{envHSMVault, envHSMKey} {
		if p.getenv(name) != "" {
			refuse(name, "sealing with an Azure HSM")
		}
	}
	return errors.Join(problems...)
}

// unknownVariables returns the names in the Coordinator's own namespace that nobody reads: misspellings, most likely.
func unknownVariables(environ []string) []string {
	known := []string{
		envMeshAddr, envClientAddr, envMetricsAddr, envDNSNames, envSealDir, envDevMode, envSimulation, envRecoveryOnly,
		envHistoryLimit, envPCCS, envQCNL, envKDS, envBundle, envCacheDir, envWatchEarly, envSoftTEERoot,
	}
	var unknown []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "EDG_COORDINATOR_") && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
