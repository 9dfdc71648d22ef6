// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcb

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/internal/strictjson"
)

// Identity is a QE identity, version 2: what Intel's quoting enclave for SGX or TDX looks like. Byte fields are as in
// an SGX report.
type Identity struct {
	TEE                  attest.TEE // SGX for id QE, TDX for id TD_QE
	IssueDate            time.Time
	NextUpdate           time.Time
	EvaluationDataNumber int
	MiscSelect           [4]byte
	MiscSelectMask       [4]byte
	Attributes           [16]byte
	AttributesMask       [16]byte
	MRSigner             [32]byte
	ISVProdID            uint16
	Levels               []EnclaveLevel // descending; at least one
}

// QEReport is what the identity is compared with: fields of the quoting enclave's report. Its size and layout are
// those of FORMATS §1.3.
type QEReport struct {
	MiscSelect [4]byte
	Attributes [16]byte
	MRSigner   [32]byte
	ISVProdID  uint16
	ISVSVN     uint16
}

// ParseIdentity reads the inner object of a QE identity exactly as it was served.
func ParseIdentity(data []byte) (*Identity, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("QE identity of %d bytes is larger than %d", len(data), MaxSize)
	}
	p := identityParser{r: strictjson.New(data)}
	p.r.Object(p.member)
	if err := p.r.End(); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	return &p.identity, nil
}

type identityParser struct {
	r        *strictjson.Reader
	identity Identity
	id       string
	version  uint32
	has      present
}

func (p *identityParser) member(name []byte) {
	i := &p.identity
	switch string(name) {
	case "id":
		p.id = p.r.Text()
		p.has.set(0)
	case "version":
		p.version = p.r.Uint(100)
		p.has.set(1)
	case "issueDate":
		i.IssueDate = p.r.Time()
		p.has.set(2)
	case "nextUpdate":
		i.NextUpdate = p.r.Time()
		p.has.set(3)
	case "tcbEvaluationDataNumber":
		i.EvaluationDataNumber = int(p.r.Uint(1 << 30))
		p.has.set(4)
	case "isvprodid":
		i.ISVProdID = uint16(p.r.Uint(1<<16 - 1))
		p.has.set(5)
	case "tcbLevels":
		i.Levels = readEnclaveLevels(p.r)
		p.has.set(6)
	default:
		p.bytesMember(name)
	}
}

func (p *identityParser) bytesMember(name []byte) {
	i := &p.identity
	switch string(name) {
	case "miscselect":
		p.r.Hex(i.MiscSelect[:])
		p.has.set(7)
	case "miscselectMask":
		p.r.Hex(i.MiscSelectMask[:])
		p.has.set(8)
	case "attributes":
		p.r.Hex(i.Attributes[:])
		p.has.set(9)
	case "attributesMask":
		p.r.Hex(i.AttributesMask[:])
		p.has.set(10)
	case "mrsigner":
		p.r.Hex(i.MRSigner[:])
		p.has.set(11)
	default:
		p.r.Skip()
	}
}

func (p *identityParser) check() error {
	err := p.has.missing("id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber", "isvprodid", "tcbLevels",
		"miscselect", "miscselectMask", "attributes", "attributesMask", "mrsigner")
	if err != nil {
		return err
	}
	switch {
	case p.version != 2:
		return fmt.Errorf("version %d is not supported", p.version)
	case len(p.identity.Levels) == 0:
		return fmt.Errorf("no TCB levels")
	case p.id == "QE":
		p.identity.TEE = attest.SGX
	case p.id == "TD_QE":
		p.identity.TEE = attest.TDX
	default:
		return fmt.Errorf("id %q is neither QE nor TD_QE", p.id)
	}
	return nil
}

// check compares the quoting enclave that made a quote of tee with the identity (FORMATS §1.10) and returns every
// difference. Its ISVSVN is a matter of its TCB level.
func (i *Identity) check(tee attest.TEE, qe QEReport) []attest.Reason {
	var reasons []attest.Reason
	differ := func(what, want, got string) {
		if want != got {
			reasons = append(reasons, attest.Reason{Code: attest.CodeQEIdentity, Want: want, Got: got,
				Text: fmt.Sprintf("quoting enclave's %s is %s, Intel's QE identity wants %s", what, got, want)})
		}
	}
	if i.TEE != tee {
		differ("kind of TEE", string(i.TEE), string(tee))
	}
	differ("masked MISCSELECT", hex.EncodeToString(i.MiscSelect[:]), maskedHex(qe.MiscSelect[:], i.MiscSelectMask[:]))
	differ("masked ATTRIBUTES", hex.EncodeToString(i.Attributes[:]), maskedHex(qe.Attributes[:], i.AttributesMask[:]))
	differ("MRSIGNER", hex.EncodeToString(i.MRSigner[:]), hex.EncodeToString(qe.MRSigner[:]))
	differ("ISVPRODID", fmt.Sprint(i.ISVProdID), fmt.Sprint(qe.ISVProdID))
	if qe.Attributes[0]&attributeDebug != 0 {
		reasons = append(reasons, attest.Reason{Code: attest.CodeQEIdentity, Text: "the quoting enclave is in debug mode"})
	}
	return reasons
}

// attributeDebug is the DEBUG bit in the first byte of an enclave's ATTRIBUTES.
const attributeDebug = 1 << 1

func maskedHex(value, mask []byte) string { return hex.EncodeToString(masked(value, mask)) }

// masked is value and mask, byte by byte; both have the same length.
func masked(value, mask []byte) []byte {
	out := make([]byte, len(value))
	for i := range value {
		out[i] = value[i] & mask[i]
	}
	return out
}
