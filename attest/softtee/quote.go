// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"crypto/elliptic"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee/internal/derive"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// Request asks for evidence.
type Request struct {
	Kind       Kind
	Machine    Machine
	Workload   Workload
	ReportData [64]byte
	// Tamper, if set, sees every part of the evidence.
	Tamper Tamper
}

// Evidence issues evidence in the form that travels on the wire (FORMATS §2): SGX and TDX quotes behind the Open
// Enclave report header, SNP reports with their certificate table behind the attestation header.
func (p *Platform) Evidence(r Request) ([]byte, error) {
	if r.Kind.TEE() == attest.SNP {
		report, table, err := p.Report(r)
		if err != nil {
			return nil, err
		}
		return attest.WrapSNP(report, table.Marshal()), nil
	}
	quote, err := p.Quote(r)
	if err != nil {
		return nil, err
	}
	return attest.WrapQuote(quote), nil
}

// Quote issues a raw DCAP quote, FORMATS §1.
func (p *Platform) Quote(r Request) ([]byte, error) {
	m, err := p.intelMachine(r.Machine)
	if err != nil {
		return nil, err
	}
	signed, err := r.signedPart(m)
	if err != nil {
		return nil, err
	}
	key, err := p.seed.ECKey(elliptic.P256(), "attestation key "+m.Name)
	if err != nil {
		return nil, err
	}
	public, err := derive.RawPublic(key)
	if err != nil {
		return nil, err
	}
	signature, err := derive.SignRaw(key, signed)
	if err != nil {
		return nil, fmt.Errorf("signing the quote: %w", err)
	}
	qe, err := p.qeData(r, m, public)
	if err != nil {
		return nil, err
	}
	data := slices.Concat(signature, r.Tamper.apply(PartAttestKey, public), qe)
	quote := slices.Concat(signed, binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data)
	return r.Tamper.apply(PartQuote, quote), nil
}

// signedPart is header ‖ body, with body type and size between them in version 5.
func (r Request) signedPart(m *intelMachine) ([]byte, error) {
	var body []byte
	var bodyType uint16
	var err error
	version := map[Kind]uint16{SGXv3: 3, SGXv4: 4, SGXv5: 5, TDXv4: 4, TDXv5: 5, TDXv5TD10: 5}[r.Kind]
	switch r.Kind {
	case SGXv3, SGXv4, SGXv5:
		bodyType = 1
		body, err = sgxBody(m, r)
	case TDXv4, TDXv5TD10:
		bodyType = 2
		body, err = tdBody(m, r)
	case TDXv5:
		bodyType = 3
		if body, err = tdBody(m, r); err == nil {
			body, err = appendTD15(body, m, r)
		}
	default:
		return nil, fmt.Errorf("no quote of kind %q", r.Kind)
	}
	if err != nil {
		return nil, err
	}
	body = r.Tamper.apply(PartBody, body)
	out := r.Tamper.apply(PartHeader, header(version, r.Kind.TEE(), m))
	if version == 5 {
		out = binary.LittleEndian.AppendUint16(out, bodyType)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	}
	return append(out, body...), nil
}

// header is FORMATS §1.1, 48 bytes.
func header(version uint16, tee attest.TEE, m *intelMachine) []byte {
	h := make([]byte, 48)
	binary.LittleEndian.PutUint16(h, version)
	h[2] = 2 // ECDSA P-256
	if tee == attest.TDX {
		h[4] = 0x81
	}
	if version == 3 {
		h[8], h[10] = m.qeSVN, byte(m.pceSVN)
	}
	copy(h[12:], "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07")
	copy(h[28:], m.ppid) // the QE id: as private as the PPID, which the certificate tells
	return h
}

// qeData is what follows the attestation key: QE report, signature, authentication data and certification data; in
// versions 4 and 5 within certification data of type 6.
func (p *Platform) qeData(r Request, m *intelMachine, public []byte) ([]byte, error) {
	pck, err := p.pck(m, r.Tamper)
	if err != nil {
		return nil, err
	}
	auth := make([]byte, 32)
	for i := range auth {
		auth[i] = byte(i)
	}
	report := r.Tamper.apply(PartQEReport, p.qeReport(r.Kind.TEE(), m, derive.Hash(public, auth)))
	signature, err := derive.SignRaw(pck.key, report)
	if err != nil {
		return nil, fmt.Errorf("signing the QE report: %w", err)
	}
	auth = r.Tamper.apply(PartAuthData, auth)
	chain := pemChain(pck.cert, p.intel.pckCA(m.ProcessorCA).cert, p.intel.root.cert)
	data := r.Tamper.apply(PartQESigned, slices.Concat(report, signature))
	data = binary.LittleEndian.AppendUint16(data, uint16(len(auth)))
	data = slices.Concat(data, auth, certificationData(5, r.Tamper.apply(PartPCKChain, append(chain, 0))))
	if r.Kind == SGXv3 {
		return data, nil
	}
	return certificationData(6, data), nil
}

func certificationData(kind uint16, content []byte) []byte {
	out := binary.LittleEndian.AppendUint16(nil, kind)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(content)))
	return append(out, content...)
}

// qeReport is the report of the quoting enclave: QE with product id 1 for SGX, TD_QE with 2 for TDX.
func (p *Platform) qeReport(tee attest.TEE, m *intelMachine, data [32]byte) []byte {
	b := make([]byte, 384)
	copy(b, m.cpuSVN[:])
	b[48], b[56] = 0x15, 0xe7 // INIT, MODE64, PROVISION_KEY; XFRM
	enclave := derive.Hash([]byte("Simulation quoting enclave"), []byte{m.qeSVN})
	signer := qeSigner()
	copy(b[64:], enclave[:])
	copy(b[128:], signer[:])
	b[256], b[258] = tcbdata.QEProdID(tee), m.qeSVN
	copy(b[320:], data[:])
	return b
}

func qeSigner() [32]byte { return derive.Hash([]byte("Simulation quoting enclave signer")) }

// sgxBody is FORMATS §1.3, 384 bytes.
func sgxBody(m *intelMachine, r Request) ([]byte, error) {
	b, c := make([]byte, 384), r.Workload.SGX
	copy(b, m.cpuSVN[:])
	b[48], b[56] = 0x05, 0xe7 // INIT, MODE64; XFRM
	if r.Workload.Debug {
		b[48] |= 2
	}
	binary.LittleEndian.PutUint16(b[256:], c.ISVPRODID)
	binary.LittleEndian.PutUint16(b[258:], c.ISVSVN)
	binary.LittleEndian.PutUint16(b[260:], c.ConfigSVN)
	copy(b[320:], r.ReportData[:])
	return b, fill(b, []slot{
		{64, 32, c.MRENCLAVE, "Simulation MRENCLAVE"}, {128, 32, c.MRSIGNER, "Simulation MRSIGNER"},
		{192, 64, c.ConfigID, ""},
	})
}

// tdBody is FORMATS §1.4, 584 bytes.
func tdBody(m *intelMachine, r Request) ([]byte, error) {
	b, c := make([]byte, 584), r.Workload.TDX
	copy(b, m.teeTCB[:])
	copy(b[520:], r.ReportData[:])
	slots := []slot{
		{16, 48, "", "Simulation MRSEAM"}, {120, 8, c.TDAttributes, ""}, {128, 8, c.XFAM, ""},
		{136, 48, c.MRTD, "Simulation MRTD"}, {184, 48, c.MRConfigID, ""}, {232, 48, c.MROwner, ""},
		{280, 48, c.MROwnerConfig, ""},
	}
	for i, rtmr := range c.RTMR {
		slots = append(slots, slot{328 + 48*i, 48, rtmr, fmt.Sprintf("Simulation RTMR%d", i)})
	}
	if c.TDAttributes == "" {
		b[123] = 0x10 // SEPT_VE_DISABLE
	}
	if c.XFAM == "" {
		b[128], b[129], b[130] = 0xe7, 0x02, 0x06
	}
	if err := fill(b, slots); err != nil {
		return nil, err
	}
	b[120] &^= 1
	if r.Workload.Debug {
		b[120] |= 1
	}
	return b, nil
}

// appendTD15 adds what TD report 1.5 has more, 64 bytes.
func appendTD15(b []byte, m *intelMachine, r Request) ([]byte, error) {
	more := make([]byte, 64)
	copy(more, m.teeTCB2[:])
	err := fill(more, []slot{{16, 48, r.Workload.TDX.MRServiceTD, ""}})
	return append(b, more...), err
}

// slot is a field of a body: hex if given, else digest of seed if that is set, else untouched.
type slot struct {
	at, size  int
	hex, seed string
}

func fill(b []byte, slots []slot) error {
	for _, s := range slots {
		value, err := hex.DecodeString(s.hex)
		if err != nil || s.hex != "" && len(value) != s.size {
			return fmt.Errorf("%q is not %d bytes in hex", s.hex, s.size)
		}
		if s.hex == "" && s.seed != "" {
			first, second := derive.Hash([]byte(s.seed)), derive.Hash([]byte(s.seed), []byte("2"))
			value = slices.Concat(first[:], second[:])[:s.size]
		}
		copy(b[s.at:s.at+s.size], value)
	}
	return nil
}
