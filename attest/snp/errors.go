// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/attest"
)

// The codes of reasons, in the order in which the checks are made. They are stable.
const (
	// CodeFormat: size, version, signature algorithm, a field that must have one value, unreadable certificate.
	CodeFormat = "snp-format"
	// CodeReserved: bits or bytes that the specification keeps zero are not.
	CodeReserved = "snp-reserved"
	// CodeSigningKey: no key, a masked key, or a certificate of the other kind.
	CodeSigningKey = "snp-signing-key"
	// CodeProduct: certificate, chain and report do not speak of the same processor.
	CodeProduct = "snp-product"
	// CodeRoot: no given root key for the product, or another one.
	CodeRoot = "snp-root"
	// CodeChain: a certificate is not signed by its issuer.
	CodeChain = "snp-chain"
	// CodeValidity: a certificate is not valid at the given time.
	CodeValidity = "snp-validity"
	// CodeCRL: the revocation list is missing, foreign or stale.
	CodeCRL = "snp-crl"
	// CodeRevoked: a certificate is revoked.
	CodeRevoked = "snp-revoked"
	// CodeTCB: the certificate was made for another TCB version than the reported one.
	CodeTCB = "snp-tcb"
	// CodeChip: the certificate was made for another chip.
	CodeChip = "snp-chip"
	// CodeSignature: the report is not signed by the certificate's key.
	CodeSignature = "snp-signature"
)

// refuse makes a refusal of one reason. Want and got are rendered at the end of its text if there are such.
func refuse(code, want, got, format string, args ...any) error {
	return &attest.Refusal{Reasons: []attest.Reason{reason(code, want, got, format, args...)}}
}

func reason(code, want, got, format string, args ...any) attest.Reason {
	text := fmt.Sprintf(format, args...)
	if want != "" && got != "" {
		text += fmt.Sprintf(" (want %s, got %s)", want, got)
	}
	return attest.Reason{Code: code, Want: want, Got: got, Text: text}
}

// join makes one refusal of several errors, nil if all are nil.
func join(errs ...error) error {
	all := &attest.Refusal{}
	for _, err := range errs {
		var one *attest.Refusal
		switch {
		case errors.As(err, &one):
			all.Reasons = append(all.Reasons, one.Reasons...)
		case err != nil:
			all.Reasons = append(all.Reasons, attest.Reason{Code: CodeFormat, Text: err.Error()})
		}
	}
	if len(all.Reasons) == 0 {
		return nil
	}
	return all
}
