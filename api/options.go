// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest/identity"
	"github.com/marblerun/marblerun/manifest/problem"
)

// VerifyOptions says which Coordinator is trusted and how its quote is verified.
type VerifyOptions struct {
	// Verifier verifies quotes. Required unless InsecureSkipVerify.
	Verifier Verifier
	// InsecureSkipVerify skips the quote: whoever answers is believed. It cannot be set by a file.
	InsecureSkipVerify bool

	// UniqueID is the exact MRENCLAVE, 32 bytes in hex. SignerID is the exact MRSIGNER, likewise. At least one is
	// required for a Coordinator in SGX.
	UniqueID string
	SignerID string
	// ProductID is exact, SecurityVersion a minimum. Both are required without UniqueID. Nil: not checked.
	ProductID       *uint16
	SecurityVersion *uint
	// TDX and SNP pin a Coordinator in a confidential VM, in the words of the manifest's packages: MRTD is required, or
	// Measurement, or IDKeyDigest with GuestSVN. A policy may name several kinds of TEE; a Coordinator must fulfill that
	// of its own kind, and is refused if there is none.
	TDX *identity.TDX
	SNP *identity.SNP
	// Debug allows, but does not require, a debug TEE. (In a manifest's package, Debug requires it.)
	Debug bool
	// AcceptedTCBStatuses besides UpToDate. Empty: UpToDate and SWHardeningNeeded.
	AcceptedTCBStatuses []string
	// AcceptedAdvisories limits the advisories of a platform with status SWHardeningNeeded. Empty: all are accepted.
	AcceptedAdvisories []string
	// MinimumTCBEvaluationDataNumber refuses decisions by older collateral of Intel. 0: off.
	MinimumTCBEvaluationDataNumber uint32
	// TCBDateAfter is a grace: an OutOfDate platform whose TCB level is not older counts as UpToDate. Zero: off.
	TCBDateAfter time.Time
	// Nonce, if any, is bound into a fresh quote. The Coordinator must offer version 2 of the API.
	Nonce []byte
}

// optionsFile is the JSON form ("era file"). Names match regardless of case, unknown ones are ignored, 0 is "not
// checked". Hex and statuses are strings, Nonce is base64, TCBDateAfter is RFC 3339.
type optionsFile struct {
	InsecureSkipVerify  bool
	UniqueID            string
	SignerID            string
	ProductID           uint16
	SecurityVersion     uint
	Debug               bool
	AcceptedTCBStatuses []string
	AcceptedAdvisories  []string
	Nonce               []byte

	TDX                            *identity.TDX
	SNP                            *identity.SNP
	MinimumTCBEvaluationDataNumber uint32
	TCBDateAfter                   time.Time
}

// VerifyOptionsFromConfig reads the JSON file at path, e.g. coordinator-era.json of a release. See ParseVerifyOptions.
func VerifyOptionsFromConfig(path string) (VerifyOptions, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return VerifyOptions{}, err
	}
	return ParseVerifyOptions(data)
}

// ParseVerifyOptions reads the JSON form of VerifyOptions. It refuses what is incomplete and what asks to skip the
// verification: that decision is the caller's alone. Verifier is left for the caller to set.
func ParseVerifyOptions(data []byte) (VerifyOptions, error) {
	var f optionsFile
	if err := json.Unmarshal(data, &f); err != nil {
		return VerifyOptions{}, err
	}
	if f.InsecureSkipVerify {
		return VerifyOptions{}, WithHint(errors.New("InsecureSkipVerify must not be set by a file"),
			"Remove it. Who wants to skip the verification says so on the command line (--insecure) or in code.")
	}
	o := VerifyOptions{
		UniqueID: f.UniqueID, SignerID: f.SignerID, Debug: f.Debug,
		AcceptedTCBStatuses: f.AcceptedTCBStatuses, AcceptedAdvisories: f.AcceptedAdvisories, Nonce: f.Nonce,
		TDX: f.TDX, SNP: f.SNP,
		MinimumTCBEvaluationDataNumber: f.MinimumTCBEvaluationDataNumber, TCBDateAfter: f.TCBDateAfter,
	}
	if f.ProductID != 0 {
		o.ProductID = &f.ProductID
	}
	if f.SecurityVersion != 0 {
		o.SecurityVersion = &f.SecurityVersion
	}
	return o, o.Validate()
}

// Validate returns everything that is wrong or missing, nil if InsecureSkipVerify.
func (o VerifyOptions) Validate() error {
	if o.InsecureSkipVerify {
		return nil
	}
	problems := []error{checkID("UniqueID", o.UniqueID), checkID("SignerID", o.SignerID)}
	switch {
	case !o.namesSGX():
	case o.UniqueID == "" && o.SignerID == "":
		problems = append(problems, WithHint(errors.New("neither UniqueID nor SignerID in config"),
			"Without one of them any enclave would pass. Take the policy from the Coordinator's release."))
	case o.UniqueID == "":
		problems = append(problems, o.checkVersions()...)
	}
	return errors.Join(append(problems, o.checkVMs()...)...)
}

// namesSGX tells whether there is a policy for SGX; if there is none at all, it is one for SGX that lacks everything.
func (o VerifyOptions) namesSGX() bool {
	return o.UniqueID != "" || o.SignerID != "" || o.ProductID != nil || o.SecurityVersion != nil ||
		o.TDX == nil && o.SNP == nil
}

func (o VerifyOptions) checkVersions() []error {
	var problems []error
	if o.SecurityVersion == nil {
		problems = append(problems, errors.New("missing SecurityVersion in config"))
	}
	if o.ProductID == nil {
		problems = append(problems, errors.New("missing ProductID in config"))
	}
	return problems
}

// checkVMs holds TDX and SNP against the rules for packages that a Marble uses.
func (o VerifyOptions) checkVMs() []error {
	var report problem.Report
	if o.TDX != nil {
		identity.Package{TDX: o.TDX}.Check(&report, "$", true)
	}
	if o.SNP != nil {
		identity.Package{SNP: o.SNP}.Check(&report, "$", true)
	}
	var problems []error
	for _, p := range report.Problems().Errors() {
		err := fmt.Errorf("%s in config: %s", strings.TrimPrefix(p.Path, "$."), p.Text)
		problems = append(problems, WithHint(err, p.Hint))
	}
	return problems
}

func checkID(name, value string) error {
	if value == "" {
		return nil
	}
	if b, err := hex.DecodeString(value); err != nil || len(b) != 32 {
		return fmt.Errorf("%s in config must be 32 bytes in hex", name)
	}
	return nil
}

// Policy is what o asks of the claims of a TEE. If o names no policy for its kind, it is one for another kind, which
// refuses.
func (o VerifyOptions) Policy(tee attest.TEE) attest.Policy {
	policy := o.identity(tee)
	policy.Debug, policy.DebugAllowed = false, o.Debug
	policy.AcceptedTCBStatuses = o.acceptedStatuses()
	policy.AcceptedAdvisories = o.AcceptedAdvisories
	policy.MinimumTCBEvaluationDataNumber = int(o.MinimumTCBEvaluationDataNumber)
	policy.TCBDateAfter = o.TCBDateAfter
	return policy
}

func (o VerifyOptions) identity(tee attest.TEE) attest.Policy {
	switch {
	case o.TDX != nil && (tee == attest.TDX || !o.namesSGX() && (tee != attest.SNP || o.SNP == nil)):
		return identity.Package{TDX: o.TDX}.Policy()
	case o.SNP != nil && (tee == attest.SNP || !o.namesSGX()):
		return identity.Package{SNP: o.SNP}.Policy()
	}
	p := identity.Package{UniqueID: o.UniqueID, SignerID: o.SignerID, SecurityVersion: o.SecurityVersion}
	if o.ProductID != nil {
		id := uint64(*o.ProductID)
		p.ProductID = &id
	}
	return p.Policy()
}

func (o VerifyOptions) acceptedStatuses() []string {
	if len(o.AcceptedTCBStatuses) == 0 {
		return []string{string(attest.UpToDate), string(attest.SWHardeningNeeded)}
	}
	return slices.Clone(o.AcceptedTCBStatuses)
}
