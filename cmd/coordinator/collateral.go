// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/marblerun/marblerun/attest/verifier"
)

// The variables about evidence, all additions to the contract. Collateral is signed: where it comes from is a matter of
// availability. A software TEE's root weakens verification and is refused in a TEE.
const (
	envPCCS       = "EDG_COORDINATOR_PCCS_URL"
	envQCNL       = "EDG_COORDINATOR_QCNL_CONFIG"
	envKDS        = "EDG_COORDINATOR_KDS_URL"
	envBundle     = "EDG_COORDINATOR_COLLATERAL_BUNDLE"
	envCacheDir   = "EDG_COORDINATOR_COLLATERAL_DIR"
	envWatchEarly = "EDG_COORDINATOR_WATCH_EARLY_TCB"

	envSoftTEERoot   = "EDG_COORDINATOR_SOFTTEE_ROOT"
	envSoftTEESocket = "EDG_SOFTTEE_SOCKET"
	envSoftTEEKind   = "EDG_SOFTTEE_KIND"
)

// defaultQCNL is where Intel's quote provider has its configuration. It is read if it is there.
const defaultQCNL = "/etc/sgx_default_qcnl.conf"

// softTEE says which software TEE is trusted, and whether this process runs in it.
type softTEE struct {
	root   string // path of the root certificates in PEM; "" trusts none
	socket string // path of the issuer's socket; "" is none
	kind   string // of evidence, e.g. "sgx-v3"
}

func readSoftTEE(p process) softTEE {
	return softTEE{root: p.getenv(envSoftTEERoot), socket: p.getenv(envSoftTEESocket), kind: p.getenv(envSoftTEEKind)}
}

// readCollateral says where collateral comes from.
func readCollateral(p process) (verifier.Config, error) {
	c := verifier.Config{
		KDS: p.getenv(envKDS), BundlePath: p.getenv(envBundle), CacheDir: p.getenv(envCacheDir), QCNLPath: p.getenv(envQCNL),
	}
	for url := range strings.SplitSeq(p.getenv(envPCCS), ",") {
		if url = strings.TrimSpace(url); url != "" {
			c.PCCS = append(c.PCCS, url)
		}
	}
	if c.QCNLPath == "" && len(c.PCCS) == 0 && c.BundlePath == "" {
		if _, err := os.Stat(defaultQCNL); err == nil {
			c.QCNLPath = defaultQCNL
		}
	}
	var err error
	c.WatchEarly, err = flag(p, envWatchEarly)
	return c, err
}

// refusedInTEE names the variables that are set and weaken verification.
func (cfg config) refusedInTEE() (names []string) {
	if cfg.simulation != "" {
		names = append(names, cfg.simulation)
	}
	if cfg.devMode {
		names = append(names, envDevMode)
	}
	if cfg.softTEE.root != "" {
		names = append(names, envSoftTEERoot)
	}
	if cfg.softTEE.socket != "" {
		names = append(names, envSoftTEESocket)
	}
	return names
}

// maxRoot bounds the file of root certificates, in bytes.
const maxRoot = 1 << 20

func readRoot(path string) (data []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(io.LimitReader(file, maxRoot))
}

// earlyChanges counts the platforms that Intel's early data set would rate differently.
type earlyChanges struct{ n atomic.Uint64 }

func (e *earlyChanges) note(verifier.EarlyChange) { e.n.Add(1) }
