// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package item reads a piece of collateral in the forms that the services serve and says until when it holds. It
// checks no signature.
//
// Invariants: pure; signed JSON keeps the exact bytes; sizes are bounded.
package item

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/dcap/tcb"
	"github.com/marblerun/marblerun/attest/snp"
)

// MaxSize is the largest reply that is read, in bytes. Real ones stay below 100 KiB.
const MaxSize = 1 << 20

// Kind is a kind of collateral.
type Kind string

// The kinds.

const (
	TCBInfo    Kind = "TCB info"
	QEIdentity Kind = "QE identity"
	PCKCRL     Kind = "PCK CRL"
	RootCRL    Kind = "root CRL"
	VCEK       Kind = "VCEK"
	AMDChain   Kind = "AMD certificate chain"
	AMDCRL     Kind = "AMD CRL"
)

// Item is a piece of collateral, immutable.
type Item struct {
	Kind Kind
	// Body is the inner JSON object as served, the DER of a CRL or certificate, or the PEM of a chain.
	Body      []byte
	Signature string // of JSON, hex
	Chain     string // issuer chain, PEM
	// Issued and Next bound the window; a zero Next is no bound.
	Issued, Next time.Time
	// Evaluation is the TCB evaluation data number of JSON.
	Evaluation int
	Name       string // whose it is, e.g. the FMSPC or the issuer
}

// Covers tells whether the item may still be used.
func (it *Item) Covers(now time.Time) bool { return it.Next.IsZero() || !now.After(it.Next) }

// Read makes an item of a reply: its body and, for JSON and PCK CRLs, the issuer chain in PEM.
func Read(k Kind, body []byte, chain string) (*Item, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("%s of more than %d bytes", k, MaxSize)
	}
	it := &Item{Kind: k, Chain: chain}
	switch k {
	case TCBInfo:
		return it, it.readTCBInfo(body)
	case QEIdentity:
		return it, it.readIdentity(body)
	case PCKCRL, RootCRL, AMDCRL:
		return it, it.readCRL(body)
	case VCEK:
		return it, it.readCertificate(body)
	case AMDChain:
		_, _, err := snp.SplitChain(body)
		it.Body = body
		return it, err
	}
	return nil, fmt.Errorf("unknown kind of collateral %q", k)
}

func (it *Item) readTCBInfo(body []byte) (err error) {
	if it.Body, it.Signature, err = dcap.SplitSigned(body, "tcbInfo"); err != nil {
		return err
	}
	info, err := tcb.ParseInfo(it.Body)
	if err != nil {
		return err
	}
	it.Issued, it.Next, it.Evaluation = info.IssueDate, info.NextUpdate, info.EvaluationDataNumber
	it.Name = fmt.Sprintf("%s %X", info.TEE, info.FMSPC)
	return nil
}

func (it *Item) readIdentity(body []byte) (err error) {
	if it.Body, it.Signature, err = dcap.SplitSigned(body, "enclaveIdentity"); err != nil {
		return err
	}
	identity, err := tcb.ParseIdentity(it.Body)
	if err != nil {
		return err
	}
	it.Issued, it.Next, it.Evaluation = identity.IssueDate, identity.NextUpdate, identity.EvaluationDataNumber
	it.Name = string(identity.TEE)
	return nil
}

// readCRL reads a CRL in DER, hex digits or PEM.
func (it *Item) readCRL(body []byte) error {
	der, err := dcap.CRL(body).DER()
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("reading CRL: %w", err)
	}
	if list.NextUpdate.IsZero() {
		return errors.New("CRL does not say until when it holds")
	}
	it.Body, it.Issued, it.Next, it.Name = der, list.ThisUpdate, list.NextUpdate, list.Issuer.CommonName
	return nil
}

func (it *Item) readCertificate(body []byte) error {
	if block, rest := pem.Decode(body); block != nil && len(bytes.TrimSpace(rest)) == 0 {
		body = block.Bytes
	}
	cert, err := x509.ParseCertificate(body)
	if err != nil {
		return fmt.Errorf("reading certificate: %w", err)
	}
	it.Body, it.Issued, it.Name = body, cert.NotBefore, cert.Subject.CommonName
	return nil
}

// Envelope is the reply that the item was read from, or one that means the same.
func (it *Item) Envelope() []byte {
	switch it.Kind {
	case TCBInfo:
		return fmt.Appendf(nil, `{"tcbInfo":%s,"signature":%q}`, it.Body, it.Signature)
	case QEIdentity:
		return fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":%q}`, it.Body, it.Signature)
	}
	return it.Body
}

// IssuerChain finds the issuer chain in a reply's header, where it is URL-encoded PEM. Version 3 of the service has
// another name for that of TCB info.
func IssuerChain(h http.Header) (string, error) {
	for _, name := range []string{"TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain",
		"SGX-Enclave-Identity-Issuer-Chain", "SGX-PCK-CRL-Issuer-Chain"} {
		value := h.Get(name)
		if value == "" {
			continue
		}
		decode := url.PathUnescape
		if strings.Contains(value, "BEGIN+CERTIFICATE") { // a space may be a plus sign, which base64 has as well
			decode = url.QueryUnescape
		}
		chain, err := decode(value)
		if err != nil {
			return "", fmt.Errorf("header %s is not URL-encoded: %w", name, err)
		}
		return chain, nil
	}
	return "", nil
}
