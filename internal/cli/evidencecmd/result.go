// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
)

// Codes of reasons that are not those of a verification.
const (
	codeSetup       = "setup"       // the verification could not be set up
	codeUnavailable = "unavailable" // collateral cannot be had
)

// reason is a ground for refusal.
type reason struct {
	attest.Reason
	// Path of the field in the manifest, e.g. $.Packages["web"].SecurityVersion.
	Path string `json:"path,omitempty"`
}

// result is the outcome of a verification.
type result struct {
	TEE attest.TEE `json:"tee"`
	// Genuine: every signature holds up to a trusted root, nothing is revoked or expired.
	Genuine bool `json:"genuine"`
	// Accepted: genuine, has a TCB status, and fulfills what was asked for.
	Accepted bool `json:"accepted"`
	// TCBStatus and its halves; empty without any.
	TCBStatus      attest.TCBStatus `json:"tcbStatus"`
	PlatformStatus attest.TCBStatus `json:"platformStatus"`
	ModuleStatus   attest.TCBStatus `json:"moduleStatus"`
	QEStatus       attest.TCBStatus `json:"qeStatus"`
	Advisories     []string         `json:"advisories"`
	Reasons        []reason         `json:"reasons"`
	Notes          []string         `json:"notes,omitempty"`
	// Policy that accepted, and the status that it decided by, if that is another.
	Policy       string           `json:"policy,omitempty"`
	PolicyStatus attest.TCBStatus `json:"policyTCBStatus,omitempty"`
	// Simulated: the evidence is from a software TEE.
	Simulated  bool      `json:"simulated"`
	Time       time.Time `json:"time"`
	ReportData string    `json:"reportData,omitempty"`
	*attest.Claims

	// verdict is Claims if they may be judged.
	verdict *attest.Claims
}

func (r *result) refuse(path string, why attest.Reason) {
	r.Accepted = false
	r.Reasons = append(r.Reasons, reason{why, path})
}

// show takes over what claims say.
func (r *result) show(c *attest.Claims) {
	r.Claims, r.TEE = c, c.TEE
	r.TCBStatus, r.PlatformStatus, r.ModuleStatus, r.QEStatus = c.TCBStatus, c.PlatformStatus, c.ModuleStatus, c.QEStatus
	r.Advisories = append([]string{}, c.Advisories...)
	r.ReportData = hex.EncodeToString(c.ReportData[:])
	for _, id := range c.Collateral {
		r.Simulated = r.Simulated || strings.HasPrefix(id, "root:software:")
	}
}

// genuine evidence is accepted unless something speaks against it.
func (r *result) genuine(c *attest.Claims) {
	r.show(c)
	r.Genuine, r.Accepted, r.verdict = true, true, c
}

// refused evidence may still be genuine, if only there is no status for its platform.
func (r *result) refused(err error) {
	var refusal *attest.Refusal
	if !errors.As(err, &refusal) {
		r.refuse("", attest.Reason{Code: codeUnavailable, Text: err.Error()})
		return
	}
	for _, why := range refusal.Reasons {
		if why.Code == attest.CodeCRLMissing {
			why.Change = "have the collateral contain the revocation lists, or pass --allow-missing-crls"
		}
		r.refuse("", why)
	}
	if refusal.Claims != nil {
		r.show(refusal.Claims)
		r.Genuine = true
	}
}

// apply holds genuine evidence against the policies: one of them must accept. If none does, the reasons are those of
// the policies for the evidence's kind of TEE, or of all if there is none.
func (r *result) apply(policies []policy) {
	if r.verdict == nil || len(policies) == 0 {
		return
	}
	var refusals, others []reason
	for _, p := range policies {
		verdict := p.of(r.verdict.TEE).Check(r.verdict)
		if verdict.Accepted {
			r.Policy = p.name
			r.Notes = append(r.Notes, verdict.Notes...)
			if verdict.TCBStatus != r.TCBStatus {
				r.PolicyStatus = verdict.TCBStatus
			}
			return
		}
		for _, why := range verdict.Reasons {
			if why.Field == "TEE" {
				others = append(others, p.reason(why))
			} else {
				refusals = append(refusals, p.reason(why))
			}
		}
	}
	r.Accepted = false
	if len(refusals) == 0 {
		refusals = others
	}
	r.Reasons = append(r.Reasons, refusals...)
}

func (p policy) reason(why attest.Reason) reason {
	if p.path == "" || why.Field == "" {
		return reason{why, p.path}
	}
	if why.Field == "TEE" {
		return reason{why, p.path}
	}
	return reason{why, p.path + "." + why.Field}
}

// text renders for people.
func (r *result) text() []byte {
	var p page
	p.line("TEE", "%s", teeName(r.TEE))
	p.line("Genuine", "%s", yesNo(r.Genuine))
	if r.Simulated {
		p.line("Simulated", "yes: a software TEE made this, no hardware protects anything")
	}
	p.line("TCB status", "%s%s", r.TCBStatus, r.halves())
	if r.Claims != nil {
		p.claims(r.Claims)
	}
	p.line("Verified for", "%s", r.Time.Format(time.RFC3339))
	if r.Accepted && r.Policy == "" {
		p.line("Accepted", "yes: no policy was named")
	} else {
		p.line("Accepted", "%s", yesNo(r.Accepted))
	}
	p.line("Policy", "%s", r.Policy)
	p.line("Status by the policy", "%s", r.PolicyStatus)
	for _, note := range r.Notes {
		p.line("Note", "%s", note)
	}
	for _, why := range r.Reasons {
		p.reason(why)
	}
	return p.Bytes()
}

func (r *result) halves() string {
	var parts []string
	for _, half := range []struct {
		name   string
		status attest.TCBStatus
	}{{"platform", r.PlatformStatus}, {"TDX module", r.ModuleStatus}, {"quoting enclave", r.QEStatus}} {
		if half.status != "" {
			parts = append(parts, half.name+" "+string(half.status))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func (p *page) reason(r reason) {
	at := ""
	if r.Code != "" {
		at = " [" + r.Code + "]"
	}
	if r.Path != "" {
		at = " at " + r.Path
	}
	fmt.Fprintf(p, "\nReason%s: %s\n", at, r.Text)
	p.line("  Measured", "%s", r.Got)
	p.line("  Wanted", "%s", r.Want)
	p.line("  To accept it", "%s", r.Change)
}

func (p *page) claims(c *attest.Claims) {
	if !c.TCBDate.IsZero() {
		p.line("TCB date", "%s", c.TCBDate.Format(time.DateOnly))
	}
	if c.TCBEvaluationDataNumber != 0 {
		p.line("TCB evaluation data", "%d (quoting enclave %d)", c.TCBEvaluationDataNumber, c.QEEvaluationDataNumber)
	}
	p.line("Advisories", "%s", strings.Join(c.Advisories, " "))
	for _, s := range c.Short {
		p.line("Outdated component", "%s has %d, the newest level wants %d", s.Name, s.Got, s.Want)
	}
	switch {
	case c.SGX != nil:
		p.line("UniqueID (MRENCLAVE)", "%s", c.SGX.MRENCLAVE)
		p.line("SignerID (MRSIGNER)", "%s", c.SGX.MRSIGNER)
		p.line("ProductID", "%d", c.SGX.ISVPRODID)
		p.line("SecurityVersion", "%d", c.SGX.ISVSVN)
	case c.TDX != nil:
		p.line("MRTD", "%s", c.TDX.MRTD)
		for i, rtmr := range c.TDX.RTMR {
			p.line(fmt.Sprintf("RTMR%d", i), "%s", rtmr)
		}
		p.line("MRSEAM", "%s", c.TDX.MRSEAM)
		p.line("TDAttributes", "%s", c.TDX.TDAttributes)
	case c.SNP != nil:
		p.line("Measurement", "%s", c.SNP.Measurement)
		p.line("Guest SVN", "%d", c.SNP.GuestSVN)
		p.line("Processor", "%s, signed by a %s", c.SNP.Product, c.SNP.SigningKey)
		p.line("Reported TCB", "%s", snpTCB(c.SNP.Reported, c.SNP.Product))
	}
	p.line("Debug", "%s", yesNo(c.Debug))
	p.line("Report data", "%x", c.ReportData[:])
	p.line("Machine", "%s", c.Machine.String())
}
