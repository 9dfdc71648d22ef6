// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/attest/dcap/internal/strictjson"
)

// MaxCollateral is the largest JSON form of collateral that is read, in bytes.
const MaxCollateral = 4 << 20

// Collateral is what Intel publishes and a verification needs, for one FMSPC and one kind of TEE. The JSON form is an
// object of strings with these members; it is what bundles and tools exchange.
type Collateral struct {
	// TCBInfo and QEIdentity are the inner JSON objects exactly as served; their signatures are 64 bytes (r ‖ s) in hex
	// digits; the issuer chains are PEM: Intel's TCB signing certificate, then the root.
	TCBInfo               string `json:"tcb_info"`
	TCBInfoSignature      string `json:"tcb_info_signature"`
	TCBInfoIssuerChain    string `json:"tcb_info_issuer_chain"`
	QEIdentity            string `json:"qe_identity"`
	QEIdentitySignature   string `json:"qe_identity_signature"`
	QEIdentityIssuerChain string `json:"qe_identity_issuer_chain"`
	// PCKCRL is the list of the CA that issued the PCK certificate, RootCACRL that of Intel's root. DER, hex or PEM.
	PCKCRL    CRL `json:"pck_crl,omitempty"`
	RootCACRL CRL `json:"root_ca_crl,omitempty"`
	// PCKCRLIssuerChain is kept for other tools. Verify does not need it: the list must be signed by the CA in the quote.
	PCKCRLIssuerChain string `json:"pck_crl_issuer_chain,omitempty"`
}

// ParseCollateral reads the JSON form. Besides strings, tcb_info and qe_identity may be the objects themselves, or
// whole replies of the provisioning service, {"tcbInfo":{…},"signature":"…"}, whose signature is then taken from
// there.
func ParseCollateral(data []byte) (*Collateral, error) {
	if len(data) > MaxCollateral {
		return nil, fmt.Errorf("collateral of %d bytes is larger than %d", len(data), MaxCollateral)
	}
	var doc struct {
		Collateral
		TCBInfo    json.RawMessage `json:"tcb_info"`
		QEIdentity json.RawMessage `json:"qe_identity"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading collateral: %w", err)
	}
	col := &doc.Collateral
	if err := signedObject(doc.TCBInfo, "tcbInfo", &col.TCBInfo, &col.TCBInfoSignature); err != nil {
		return nil, fmt.Errorf("reading collateral: tcb_info: %w", err)
	}
	if err := signedObject(doc.QEIdentity, "enclaveIdentity", &col.QEIdentity, &col.QEIdentitySignature); err != nil {
		return nil, fmt.Errorf("reading collateral: qe_identity: %w", err)
	}
	return col, nil
}

// signedObject fills object, and signature if it is part of raw.
func signedObject(raw json.RawMessage, member string, object, signature *string) error {
	text := string(raw)
	switch {
	case len(raw) == 0 || text == "null":
		return errors.New("missing")
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &text); err != nil {
			return err
		}
	}
	*object = text
	if inner, sig, err := SplitSigned([]byte(text), member); err == nil {
		*object, *signature = string(inner), sig
	}
	return nil
}

// SplitSigned takes a reply of the provisioning service apart: the bytes of the member ("tcbInfo" or "enclaveIdentity")
// exactly as they are, and the signature in hex digits.
func SplitSigned(reply []byte, member string) (object []byte, signature string, err error) {
	r := strictjson.New(bytes.TrimSpace(reply))
	r.Object(func(name []byte) {
		switch string(name) {
		case member:
			object = r.Raw()
		case "signature":
			signature = r.Text()
		default:
			r.Skip()
		}
	})
	if err := r.End(); err != nil {
		return nil, "", fmt.Errorf("reading signed %s: %w", member, err)
	}
	if object == nil || signature == "" {
		return nil, "", fmt.Errorf("reading signed %s: %s or signature is missing", member, member)
	}
	return object, signature, nil
}
