// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

// Codes of failed verifications of Intel evidence (Reason.Code). They are stable: tools and tests may rely on them.
const (
	CodeQuoteFormat       = "quote-format"        // not a well-formed quote
	CodeCertificationData = "certification-data"  // no PCK certificate chain in the quote
	CodePCKChain          = "pck-chain"           // PCK certificate chain malformed or not signed as it should be
	CodeUntrustedRoot     = "untrusted-root"      // a chain does not end at one of the given root keys, or at another one
	CodePCKCertificate    = "pck-certificate"     // PCK certificate without the facts it must state
	CodeCRLMissing        = "crl-missing"         // a CRL is needed
	CodePCKCRL            = "pck-crl"             // PCK CRL malformed, of another issuer or not signed by it
	CodeRootCRL           = "root-crl"            // the same for the root CRL
	CodeRevoked           = "certificate-revoked" // a certificate is on a CRL
	CodeExpired           = "expired"             // certificate, CRL, TCB info or QE identity past its time
	CodeNotYetValid       = "not-yet-valid"       // … or before its time
	CodeCollateral        = "collateral-missing"  // no TCB info or QE identity given
	CodeTCBSigningChain   = "tcb-signing-chain"   // TCB signing chain malformed or not signed as it should be
	CodeTCBInfoSignature  = "tcb-info-signature"  // TCB info not signed by the TCB signing key
	CodeTCBInfoFormat     = "tcb-info-format"     // TCB info not understood
	CodeTCBInfoMismatch   = "tcb-info-mismatch"   // TCB info for another platform or TEE
	CodeQEIdentitySign    = "qe-identity-signature"
	CodeQEIdentityFormat  = "qe-identity-format"
	CodeQEIdentity        = "qe-identity-mismatch" // the quoting enclave is not the one Intel describes
	CodeQEReportSignature = "qe-report-signature"  // QE report not signed by the PCK
	CodeQEReportData      = "qe-report-data"       // attestation key not bound by the QE report
	CodeQuoteSignature    = "quote-signature"      // quote not signed by the attestation key
	CodeModule            = "tdx-module-mismatch"  // TDX module is not one Intel describes
	CodeNotSupported      = "tcb-not-supported"    // below the lowest TCB level that Intel publishes
)
