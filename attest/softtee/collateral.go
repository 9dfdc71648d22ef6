// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee/internal/derive"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// Collateral is what a DCAP verifier needs besides the quote. The JSON form is the collateral.json of the vectors:
// signed JSON as exact text, signatures in hex, chains in PEM, CRLs as hex of DER; a withheld CRL is empty.
type Collateral struct {
	TCBInfo               string `json:"tcb_info"`
	TCBInfoSignature      string `json:"tcb_info_signature"`
	TCBInfoIssuerChain    string `json:"tcb_info_issuer_chain"`
	QEIdentity            string `json:"qe_identity"`
	QEIdentitySignature   string `json:"qe_identity_signature"`
	QEIdentityIssuerChain string `json:"qe_identity_issuer_chain"`
	PCKCRL                string `json:"pck_crl"`
	PCKCRLIssuerChain     string `json:"pck_crl_issuer_chain"`
	RootCACRL             string `json:"root_ca_crl"`
}

// Collateral is the standard collateral for quotes of one TEE and of one of the PCK CAs.
func (p *Platform) Collateral(tee attest.TEE, processorCA bool) (Collateral, error) {
	s := p.Settings()
	info, err := p.TCBInfo(s.Standard, tee)
	if err != nil {
		return Collateral{}, err
	}
	identity, err := p.QEIdentity(s.Standard, tee)
	if err != nil {
		return Collateral{}, err
	}
	c := Collateral{
		TCBInfo: string(info.Body), TCBInfoSignature: info.Signature, TCBInfoIssuerChain: string(p.SigningChain()),
		QEIdentity: string(identity.Body), QEIdentitySignature: identity.Signature,
		QEIdentityIssuerChain: string(p.SigningChain()), PCKCRLIssuerChain: string(p.PCKCRLChain(processorCA)),
	}
	der, err := p.PCKCRL(processorCA)
	if err != nil {
		return Collateral{}, err
	}
	c.PCKCRL = hex.EncodeToString(der)
	der, err = p.RootCRL()
	c.RootCACRL = hex.EncodeToString(der)
	return c, err
}

// Root is the Intel-like root certificate.
func (p *Platform) Root() *x509.Certificate { return p.intel.root.cert }

// SigningChain is the PEM of the TCB signing certificate and the root.
func (p *Platform) SigningChain() []byte { return pemChain(p.intel.signing.cert, p.intel.root.cert) }

// PCKCRLChain is the PEM of the platform or processor CA and the root.
func (p *Platform) PCKCRLChain(processorCA bool) []byte {
	return pemChain(p.intel.pckCA(processorCA).cert, p.intel.root.cert)
}

// SignedJSON is JSON text with the signature over exactly it (FORMATS §1.6, 5).
type SignedJSON struct {
	Body      []byte
	Signature string // r ‖ s, hex
}

// Envelope is the form in which it is served: {name: body, "signature": hex}.
func (j SignedJSON) Envelope(name string) []byte {
	return fmt.Appendf(nil, `{%q:%s,"signature":%q}`, name, j.Body, j.Signature)
}

func (p *Platform) signJSON(s Settings, part Part, v any) (SignedJSON, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return SignedJSON{}, fmt.Errorf("encoding %s: %w", part, err)
	}
	body = s.Tamper.apply(part, body)
	signature, err := derive.SignRaw(p.intel.signing.key, body)
	if err != nil {
		return SignedJSON{}, fmt.Errorf("signing %s: %w", part, err)
	}
	return SignedJSON{body, hex.EncodeToString(signature)}, nil
}

// tcbPlatform is what the TCB data says about the platform.
func tcbPlatform() tcbdata.Platform {
	return tcbdata.Platform{FMSPC: FMSPC, PCEID: PCEID, QESigner: qeSigner()}
}

// TCBInfo is the signed TCB info of a data set.
func (p *Platform) TCBInfo(d tcbdata.Dataset, tee attest.TEE) (SignedJSON, error) {
	s := p.Settings()
	from := p.issueDate(s)
	return p.signJSON(s, PartTCBInfo, d.TCBInfo(tcbPlatform(), tee, from, from.Add(s.Validity)))
}

// QEIdentity is the signed identity of the quoting enclave of a TEE.
func (p *Platform) QEIdentity(d tcbdata.Dataset, tee attest.TEE) (SignedJSON, error) {
	s := p.Settings()
	from := p.issueDate(s)
	return p.signJSON(s, PartQEIdentity, d.QEIdentity(tcbPlatform(), tee, from, from.Add(s.Validity)))
}

// EvaluationNumbers is the signed list of the data sets.
func (p *Platform) EvaluationNumbers(tee attest.TEE) (SignedJSON, error) {
	s := p.Settings()
	from := p.issueDate(s)
	return p.signJSON(s, PartNumbers, tcbdata.EvaluationNumbers(s.Datasets(), tee, from, from.Add(s.Validity)))
}

// Datasets are the distinct data sets, newest first.
func (s Settings) Datasets() []tcbdata.Dataset {
	all := []tcbdata.Dataset{s.Early, s.Standard}
	slices.SortStableFunc(all, func(a, b tcbdata.Dataset) int { return b.EvaluationNumber - a.EvaluationNumber })
	return slices.CompactFunc(all, func(a, b tcbdata.Dataset) bool { return a.EvaluationNumber == b.EvaluationNumber })
}
