// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package issue finds out where this process can get evidence about itself, and gets it.
//
// One driver per interface, each in its own file:
//
//	gramine      SGX   /dev/attestation/{user_report_data,quote}, Gramine's pseudo files
//	occlum       SGX   two ioctls on /dev/sgx
//	ego          SGX   the system calls 1000 and 1001, which exist only inside an EGo enclave
//	configfs-tsm TDX, SNP   /sys/kernel/config/tsm/report of a Linux guest, version 6.7 or later
//
// Detect tries them in this order, which is fixed, and says what it tried. A fifth driver, the socket of a software
// TEE, is never detected: who wants it names it (Socket).
//
// Invariants:
//   - Evidence is returned in the form that travels on the wire (FORMATS §2): SGX and TDX quotes behind an Open
//     Enclave report header, SNP reports behind an Open Enclave attestation header. At most attest.MaxEvidence bytes.
//   - Evidence carries exactly the report data that was asked for. Every driver checks this before it returns, so
//     that a race with another user of the same interface is an error here and not a refusal at the Coordinator.
//   - Looking for a TEE never harms an ordinary process, and never needs more rights than it has.
//   - The host can hide or fake any of these interfaces. That costs availability, nothing else: evidence is worth
//     what its verifier says.
//
// The package uses the standard library only. Sealing keys, which the same interfaces offer, are not its matter yet.
package issue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/marblerun/marblerun/attest"
)

// Issuer gets evidence about this process.
type Issuer interface {
	// Name is the driver's name, e.g. "gramine".
	Name() string
	// TEE is the kind of evidence that Issue returns.
	TEE() attest.TEE
	// Issue returns evidence whose 64 bytes of report data are reportData. It is safe for concurrent use.
	Issue(ctx context.Context, reportData [64]byte) ([]byte, error)
}

// ErrNoTEE is wrapped by the error of Detect if no driver fits: this is an ordinary process.
var ErrNoTEE = errors.New("no source of TEE evidence found")

// errAbsent is wrapped by drivers whose interface is not there, the normal case everywhere but in their TEE.
var errAbsent = errors.New("not present")

// Config says where to look. The zero value looks at this machine.
type Config struct {
	// Root is put before every path of the file system, for tests and for containers; "" is "/".
	Root string
	// VMPL is the privilege level that an SNP report is asked for, 0 (highest) to 3; nil is the level this guest runs at.
	VMPL *uint
	// Log gets one line per driver tried; nil is silence.
	Log *slog.Logger

	seams seams // zero: the real ones
}

// Tried is one driver that Detect looked at.
type Tried struct {
	Name string
	// Err says why the driver does not fit; nil for the one chosen.
	Err error
}

type driver struct {
	name  string
	probe func(context.Context, Config) (Issuer, error)
}

// drivers is the order of detection. The library OSes come first: they may show their enclave a copy of the host's
// /sys.
func drivers() []driver {
	return []driver{{"gramine", probeGramine}, {"occlum", probeOcclum}, {"ego", probeEGo}, {"configfs-tsm", probeTSM}}
}

// Detect returns the first driver that fits, and what it tried up to there. The error wraps ErrNoTEE if none fits. A
// driver whose interface exists but cannot be used (Gramine without remote attestation, configfs without permission)
// does not fit; its Tried says so.
func Detect(ctx context.Context, config Config) (Issuer, []Tried, error) {
	config = config.withDefaults()
	var tried []Tried
	for _, d := range drivers() {
		issuer, err := d.probe(ctx, config)
		tried = append(tried, Tried{d.name, err})
		if err == nil {
			config.Log.Info("found a source of evidence", "driver", d.name, "tee", issuer.TEE())
			return issuer, tried, nil
		}
		config.Log.Debug("no source of evidence here", "driver", d.name, "reason", err.Error())
	}
	return nil, tried, fmt.Errorf("%w (%s)", ErrNoTEE, summary(tried))
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.seams = c.seams.withDefaults(c.Root)
	return c
}

// summary lists what was tried; drivers that are merely absent take one word.
func summary(tried []Tried) string {
	var parts []string
	for _, t := range tried {
		reason := t.Err.Error()
		if errors.Is(t.Err, errAbsent) {
			reason = errAbsent.Error()
		}
		parts = append(parts, t.Name+": "+reason)
	}
	return strings.Join(parts, "; ")
}

// absent turns "no such file" into errAbsent, so that it reads as the normal case.
func absent(what string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is %w", what, errAbsent)
	}
	return fmt.Errorf("%s: %w", what, err)
}
