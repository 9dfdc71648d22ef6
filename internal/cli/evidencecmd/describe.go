// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/dcap/pck"
	"github.com/marblerun/marblerun/attest/snp"
)

// description is what evidence says. Nothing in it is verified.
type description struct {
	Verified bool          `json:"verified"` // false, for those who read the JSON only
	TEE      attest.TEE    `json:"tee"`
	Format   attest.Format `json:"format"`
	Encoding string        `json:"encoding"`
	Size     int           `json:"size"` // bytes, wrapping and padding included
	Debug    bool          `json:"debug"`
	// ReportData is 64 bytes.
	ReportData dcap.Hex `json:"reportData"`

	Quote             *dcap.Quote      `json:"quote,omitempty"`
	CertificationType string           `json:"certificationTypeName,omitempty"`
	PCK               *platform        `json:"pck,omitempty"`
	PlatformID        *dcap.PlatformID `json:"platformID,omitempty"`
	Report            *report          `json:"report,omitempty"`
	Certificates      []certificate    `json:"certificates,omitempty"`
	// Problems are parts that could not be read.
	Problems []string `json:"problems,omitempty"`
}

// platform is what a PCK certificate states.
type platform struct {
	FMSPC              dcap.Hex `json:"fmspc"`
	PPID               dcap.Hex `json:"ppid"`
	PlatformInstanceID dcap.Hex `json:"platformInstanceID,omitempty"`
	PCEID              dcap.Hex `json:"pceID"`
	SVN                [16]int  `json:"tcbSVN"`
	PCESVN             uint16   `json:"pceSVN"`
	CPUSVN             dcap.Hex `json:"cpuSVN"`
	SGXType            int      `json:"sgxType"`
	CA                 pck.CA   `json:"ca"`
}

// certificate is one that came with the evidence.
type certificate struct {
	Role      string    `json:"role,omitempty"` // of SNP: VCEK, VLEK, ASK, ARK
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hex
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

func describe(in input) (*description, error) {
	e, err := in.parse()
	if err != nil {
		return nil, err
	}
	d := &description{TEE: e.TEE, Format: e.Format, Encoding: in.encoding, Size: len(in.raw)}
	if e.TEE == attest.SNP {
		return d, d.snp(e)
	}
	return d, d.dcap(e)
}

func (d *description) problem(what string, err error) {
	if err != nil {
		d.Problems = append(d.Problems, fmt.Sprintf("%s: %v", what, err))
	}
}

func (d *description) dcap(e attest.Evidence) error {
	q, err := dcap.ParseQuote(e.Quote)
	if err != nil {
		return err
	}
	d.Quote, d.CertificationType = q, certificationType(q.CertificationType)
	switch {
	case q.SGX != nil:
		d.Debug, d.ReportData = q.SGX.Debug, q.SGX.ReportData
	case q.TDX != nil:
		d.Debug, d.ReportData = q.TDX.Debug, q.TDX.ReportData
	}
	switch q.CertificationType {
	case 1, 2, 3:
		id, err := q.Platform()
		d.problem("certification data", err)
		if err == nil {
			d.PlatformID = &id
		}
	case 4, 5:
		d.pck(q)
	}
	return nil
}

func (d *description) pck(q *dcap.Quote) {
	p, err := q.PCK()
	d.problem("PCK certificate", err)
	if err == nil {
		d.PCK = &platform{
			FMSPC: p.FMSPC[:], PPID: p.PPID[:], PlatformInstanceID: p.PlatformInstanceID, PCEID: p.PCEID[:],
			PCESVN: p.PCESVN, CPUSVN: p.CPUSVN[:], SGXType: p.SGXType, CA: p.CA,
		}
		for i, svn := range p.SVN {
			d.PCK.SVN[i] = int(svn)
		}
	}
	rest := q.CertificationData
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		d.certificate("", block.Bytes)
	}
}

// certificate adds one in DER or PEM.
func (d *description) certificate(role string, der []byte) {
	if len(der) == 0 {
		return
	}
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	c, err := x509.ParseCertificate(der)
	d.problem("certificate "+role, err)
	if err != nil {
		return
	}
	d.Certificates = append(d.Certificates, certificate{
		Role: role, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: fmt.Sprintf("%x", c.SerialNumber),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	})
}

// certificationType names a type of FORMATS §1.5.
func certificationType(t uint16) string {
	names := []string{
		1: "PPID in plain", 2: "PPID encrypted, RSA-2048", 3: "PPID encrypted, RSA-3072", 4: "PCK certificate",
		5: "PCK certificate chain", 6: "QE report certification data", 7: "platform manifest",
	}
	if int(t) >= len(names) || t == 0 {
		return "unknown"
	}
	return names[t]
}

// report is an SEV-SNP report.
type report struct {
	Version         uint32          `json:"version"`
	Product         string          `json:"product"` // as far as the report tells: version 2 does not
	Measurement     dcap.Hex        `json:"measurement"`
	HostData        dcap.Hex        `json:"hostData"`
	IDKeyDigest     dcap.Hex        `json:"idKeyDigest"`
	AuthorKeyDigest dcap.Hex        `json:"authorKeyDigest"`
	FamilyID        dcap.Hex        `json:"familyID"`
	ImageID         dcap.Hex        `json:"imageID"`
	ReportID        dcap.Hex        `json:"reportID"`
	GuestSVN        uint32          `json:"guestSVN"`
	VMPL            uint32          `json:"vmpl"`
	Policy          uint64          `json:"policy"`
	PolicyBits      []snp.PolicyBit `json:"policyBits"`
	PlatformInfo    uint64          `json:"platformInfo"`
	SigningKey      snp.Key         `json:"signingKey"`
	ChipID          dcap.Hex        `json:"chipID"`
	CPUID           dcap.Hex        `json:"cpuid,omitempty"` // family, model, stepping; version 3 and later
	Current         attest.SNPTCB   `json:"currentTCB"`
	Reported        attest.SNPTCB   `json:"reportedTCB"`
	Committed       attest.SNPTCB   `json:"committedTCB"`
	Launch          attest.SNPTCB   `json:"launchTCB"`
	// CertificateTable tells whether one came along.
	CertificateTable bool `json:"certificateTable"`
}

func (d *description) snp(e attest.Evidence) error {
	r, err := snp.ParseReport(e.Quote)
	if err != nil {
		return err
	}
	d.Debug, d.ReportData = r.Debug(), r.ReportData[:]
	product := snp.Milan // whose TCB layout is Genoa's, too; version 2 is never Turin's
	name := "Milan or Genoa"
	if needs, err := r.Needs(); err == nil && len(needs.Products) == 1 {
		product, name = needs.Products[0], string(needs.Products[0])
	}
	d.Report = &report{
		Version: r.Version, Product: name, Measurement: r.Measurement[:], HostData: r.HostData[:],
		IDKeyDigest: r.IDKeyDigest[:], AuthorKeyDigest: r.AuthorKeyDigest[:], FamilyID: r.FamilyID[:], ImageID: r.ImageID[:],
		ReportID: r.ReportID[:], GuestSVN: r.GuestSVN, VMPL: r.VMPL, Policy: r.Policy, PolicyBits: snp.PolicyBits(r.Policy),
		PlatformInfo: r.PlatformInfo, SigningKey: r.SigningKey, ChipID: r.ChipID[:],
		Current: r.CurrentTCB.Split(product), Reported: r.ReportedTCB.Split(product),
		Committed: r.CommittedTCB.Split(product), Launch: r.LaunchTCB.Split(product),
		CertificateTable: len(bytes.Trim(e.CertTable, "\x00")) > 0,
	}
	if r.Version >= 3 {
		d.Report.CPUID = r.CPUID[:]
	}
	table, err := snp.ParseCertTable(e.CertTable)
	d.problem("certificate table", err)
	d.certificate("VCEK", table.VCEK)
	d.certificate("VLEK", table.VLEK)
	d.certificate("ASK", table.ASK)
	d.certificate("ARK", table.ARK)
	return nil
}
