// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import "strings"

// Reason is one ground for a refusal.
type Reason struct {
	// Code is a stable, machine-readable name of a failed verification, e.g. "quote-signature"; the packages dcap and
	// snp list theirs. Empty for policy reasons: those have a Field.
	Code string `json:"code,omitempty"`
	// Field is the policy field that refused, relative to the policy, e.g. "SecurityVersion", "TDX.MRTD",
	// "AcceptedTCBStatuses". Empty for a failed verification.
	Field string `json:"field,omitempty"`
	// Want and Got are the wanted and the measured value.
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Text says it in words.
	Text string `json:"text"`
	// Change is the policy change that would accept the evidence; empty where none may.
	Change string `json:"change,omitempty"`
}

// Verdict is the outcome of checking claims against a policy.
type Verdict struct {
	Accepted bool     `json:"accepted"`
	Reasons  []Reason `json:"reasons"`
	// TCBStatus is the status that the policy decided by: the claims' status, after the grace of TCBDateAfter and, for
	// SNP, after comparing with the policy's minimum.
	TCBStatus TCBStatus `json:"tcbStatus,omitempty"`
	// Short lists the TCB components below the policy's minimum (SNP).
	Short []ShortComponent `json:"short,omitempty"`
	// Notes say what an accepted verdict owes to a grace.
	Notes []string `json:"notes,omitempty"`
}

// Err returns nil for an accepted verdict and else a *Refusal with its reasons.
func (v Verdict) Err() error {
	if v.Accepted {
		return nil
	}
	return &Refusal{Reasons: v.Reasons}
}

// Refusal is the error of a failed verification and of a verdict that does not accept. It is never empty.
type Refusal struct {
	Reasons []Reason
	// Claims explain a refusal of genuine evidence (every signature holds) whose platform has no status, with TCBStatus
	// NotSupported. Otherwise nil. Never a basis for acceptance.
	Claims *Claims
}

// Refuse makes a Refusal of one failed verification.
func Refuse(code, text string) *Refusal {
	return &Refusal{Reasons: []Reason{{Code: code, Text: text}}}
}

// Error joins the texts of the reasons.
func (r *Refusal) Error() string {
	texts := make([]string, len(r.Reasons))
	for i, reason := range r.Reasons {
		texts[i] = reason.Text
	}
	return strings.Join(texts, "; ")
}

// HasCode tells whether a reason carries the code.
func (r *Refusal) HasCode(code string) bool {
	for _, reason := range r.Reasons {
		if reason.Code == code {
			return true
		}
	}
	return false
}
