// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/pck"
	"github.com/marblerun/marblerun/attest/dcap/tcb"
)

// verification is the state of one Verify.
type verification struct {
	col     *Collateral
	opts    Options
	reasons []attest.Reason

	certs   []*x509.Certificate // parsed so far
	roots   []*x509.Certificate // those that are self-signed
	anchors []*anchor           // one for each root key met so far
}

// verify does all checks that can be done, so that the refusal is complete.
func (v *verification) verify(q *Quote, chainPEM []byte) (*attest.Claims, *attest.Refusal) {
	chain := v.pckChain(chainPEM)
	signed := v.signedCollateral()
	if chain != nil {
		v.quote(q, chain.key)
	}
	if chain == nil || signed == nil {
		return nil, v.refusal(nil)
	}
	if !chain.root.Equal(signed.root) {
		v.refuse(attest.CodeUntrustedRoot, "the quote and its collateral are of different roots")
	}
	claims, refusal := rate(q, chain, signed)
	if len(v.reasons) == 0 {
		return claims, refusal
	}
	return nil, v.refusal(refusal)
}

// refusal gives the reasons so far, each once, and those of another refusal, which may be nil.
func (v *verification) refusal(other *attest.Refusal) *attest.Refusal {
	all := v.reasons
	if other != nil {
		all = append(all, other.Reasons...)
	}
	r := &attest.Refusal{}
	for _, reason := range all {
		if !slices.Contains(r.Reasons, reason) {
			r.Reasons = append(r.Reasons, reason)
		}
	}
	return r
}

// refuse records a reason.
func (v *verification) refuse(code, format string, args ...any) {
	v.reasons = append(v.reasons, attest.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
}

// trust is what of the options decides about signatures.
func (v *verification) trust() []byte {
	trust := []byte{0}
	if v.opts.AllowMissingCRLs {
		trust[0] = 1
	}
	for _, root := range v.opts.Roots {
		if point, err := root.Bytes(); err == nil {
			trust = append(trust, point...)
		}
	}
	return trust
}

// window is a time in which something is valid, both ends included.
type window struct {
	what     string
	from, to time.Time
}

// inTime refuses what is not valid at the time of the verification, everything that is not.
func (v *verification) inTime(windows []window) bool {
	now, ok := v.opts.Time, true
	for _, w := range windows {
		code, text := "", ""
		switch {
		case now.Before(w.from):
			code, text = attest.CodeNotYetValid, "is not valid before "+w.from.UTC().Format(time.RFC3339)
		case now.After(w.to):
			code, text = attest.CodeExpired, "expired at "+w.to.UTC().Format(time.RFC3339)
		default:
			continue
		}
		ok = false
		v.reasons = append(v.reasons, attest.Reason{Code: code, Text: fmt.Sprintf("%s %s", w.what, text),
			Got:  now.UTC().Format(time.RFC3339),
			Want: w.from.UTC().Format(time.RFC3339) + " to " + w.to.UTC().Format(time.RFC3339)})
	}
	return ok
}

// pckChain is a verified PCK certificate. Immutable.
type pckChain struct {
	key      *ecdsa.PublicKey
	platform *pck.Platform
	root     *ecdsa.PublicKey
	windows  []window
	relied   []string // for Claims.Collateral
	sound    bool     // no CRL has anything against it, and none is missing that is needed
}

// pckChain verifies the PCK chain of a quote by the CRLs of the collateral, or remembers it. nil if it refuses.
func (v *verification) pckChain(chainPEM []byte) *pckChain {
	identify := func(f *fingerprint) {
		f.add(chainPEM)
		f.add(v.col.PCKCRL)
		f.add(v.col.RootCACRL)
	}
	chain := cached(v, "pck chain", identify, func() (*pckChain, bool) {
		chain := v.verifyPCKChain(chainPEM)
		return chain, chain != nil && v.inTime(chain.windows) && chain.sound
	})
	if chain != nil {
		v.inTime(chain.windows)
	}
	return chain
}

// signedCollateral is TCB info and QE identity whose signatures hold. Immutable.
type signedCollateral struct {
	info     *tcb.Info
	identity *tcb.Identity
	root     *ecdsa.PublicKey
	windows  []window
	relied   []string
	sound    bool // as that of a pckChain
}

// signedCollateral verifies TCB info and QE identity, or remembers them. nil if it refuses.
func (v *verification) signedCollateral() *signedCollateral {
	c := v.col
	identify := func(f *fingerprint) {
		for _, text := range []string{c.TCBInfo, c.TCBInfoSignature, c.TCBInfoIssuerChain,
			c.QEIdentity, c.QEIdentitySignature, c.QEIdentityIssuerChain} {
			f.addText(text)
		}
		f.add(c.RootCACRL)
	}
	signed := cached(v, "collateral", identify, func() (*signedCollateral, bool) {
		signed := v.verifyCollateral()
		return signed, signed != nil && v.inTime(signed.windows) && signed.sound
	})
	if signed != nil {
		v.inTime(signed.windows)
	}
	return signed
}

func (v *verification) verifyCollateral() *signedCollateral {
	c := v.col
	infoText, identityText := []byte(c.TCBInfo), []byte(c.QEIdentity)
	infoSigner := v.signer("TCB info", c.TCBInfoIssuerChain)
	identitySigner := infoSigner
	if c.QEIdentityIssuerChain != c.TCBInfoIssuerChain {
		identitySigner = v.signer("QE identity", c.QEIdentityIssuerChain)
	}
	before := len(v.reasons)
	infoHash := v.signature(infoSigner, attest.CodeTCBInfoSignature, "TCB info", infoText, c.TCBInfoSignature)
	identityHash := v.signature(identitySigner, attest.CodeQEIdentitySign, "QE identity", identityText,
		c.QEIdentitySignature)
	if infoSigner == nil || identitySigner == nil || len(v.reasons) > before {
		return nil
	}
	if !infoSigner.root.Equal(identitySigner.root) {
		v.refuse(attest.CodeUntrustedRoot, "TCB info and QE identity are of different roots")
		return nil
	}
	info, err := tcb.ParseInfo(infoText)
	if err != nil {
		v.refuse(attest.CodeTCBInfoFormat, "%v", err)
	}
	identity, err := tcb.ParseIdentity(identityText)
	if err != nil {
		v.refuse(attest.CodeQEIdentityFormat, "%v", err)
	}
	if len(v.reasons) > before {
		return nil
	}
	windows := []window{{"TCB info", info.IssueDate, info.NextUpdate},
		{"QE identity", identity.IssueDate, identity.NextUpdate}}
	windows = append(append(windows, infoSigner.windows...), identitySigner.windows...)
	relied := []string{
		fmt.Sprintf("tcbinfo:%s:%x:eval%d:sha256:%x", info.TEE, info.FMSPC, info.EvaluationDataNumber, infoHash[:8]),
		fmt.Sprintf("qeidentity:%s:eval%d:sha256:%x", identity.TEE, identity.EvaluationDataNumber, identityHash[:8]),
	}
	return &signedCollateral{info: info, identity: identity, root: infoSigner.root, windows: windows, relied: relied,
		sound: infoSigner.sound && identitySigner.sound}
}

// signature checks the hex signature over the exact bytes of a document and returns the document's SHA-256.
func (v *verification) signature(by *signer, code, what string, document []byte, signature string) [sha256.Size]byte {
	digest := sha256.Sum256(document)
	if by == nil {
		return digest
	}
	raw, err := hex.DecodeString(signature)
	switch {
	case err != nil || len(raw) != pointSize:
		v.refuse(code, "signature of %s is not %d bytes in hex digits", what, pointSize)
	case !verifyRaw(by.key, digest, raw):
		v.refuse(code, "signature of %s does not hold: it must be over the exact bytes that Intel served", what)
	}
	return digest
}

// quote checks who signed what in the quote (FORMATS §1.6): the PCK the QE report, the QE report the attestation key,
// the attestation key the quote.
func (v *verification) quote(q *Quote, pckKey *ecdsa.PublicKey) {
	if !verifyRaw(pckKey, sha256.Sum256(q.QEReport.raw), q.QESignature) {
		v.refuse(attest.CodeQEReportSignature, "QE report is not signed by the PCK")
	}
	var want [64]byte
	bound := sha256.Sum256(slices.Concat(q.Key, q.QEAuthData))
	copy(want[:], bound[:])
	if subtle.ConstantTimeCompare(want[:], q.QEReport.ReportData) == 0 {
		v.refuse(attest.CodeQEReportData, "QE report does not vouch for the attestation key and the QE authentication data")
	}
	key, err := publicKey(q.Key)
	if err != nil || !verifyRaw(key, sha256.Sum256(q.signed), q.Signature) {
		v.refuse(attest.CodeQuoteSignature, "quote is not signed by its attestation key")
	}
}

// verifyRaw checks a signature of the form r ‖ s, 32 bytes each, big endian.
func verifyRaw(key *ecdsa.PublicKey, digest [sha256.Size]byte, signature []byte) bool {
	r, s := derInteger(signature[:32]), derInteger(signature[32:])
	encoded := append([]byte{0x30, byte(len(r) + len(s))}, r...)
	return ecdsa.VerifyASN1(key, digest[:], append(encoded, s...))
}

// derInteger encodes 32 bytes as a DER INTEGER.
func derInteger(n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	out := make([]byte, 0, 35)
	if n[0] >= 0x80 {
		return append(append(out, 2, byte(len(n)+1), 0), n...)
	}
	return append(append(out, 2, byte(len(n))), n...)
}
