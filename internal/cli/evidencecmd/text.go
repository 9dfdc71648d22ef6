// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// page is text of aligned lines "name: value".
type page struct{ bytes.Buffer }

// line adds a line; one without value is left out.
func (p *page) line(name, format string, args ...any) {
	if value := fmt.Sprintf(format, args...); value != "" {
		fmt.Fprintf(p, "%-24s %s\n", name+":", value)
	}
}

func (p *page) head(text string) { fmt.Fprintf(p, "\n%s\n", text) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// text renders for people.
func (d *description) text() []byte {
	var p page
	p.line("TEE", "%s", teeName(d.TEE))
	p.line("Form", "%s, %s, %d bytes", d.Encoding, formatName(d.Format), d.Size)
	switch {
	case d.Quote != nil:
		p.quote(d)
	case d.Report != nil:
		p.report(d)
	}
	for _, c := range d.Certificates {
		p.head(strings.TrimSpace("Certificate " + c.Role))
		p.line("  Subject", "%s", c.Subject)
		p.line("  Issuer", "%s", c.Issuer)
		p.line("  Serial number", "%s", c.Serial)
		p.line("  Valid", "%s to %s", c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	for _, problem := range d.Problems {
		p.line("Cannot be read", "%s", problem)
	}
	return p.Bytes()
}

func teeName(t attest.TEE) string {
	return map[attest.TEE]string{attest.SGX: "Intel SGX", attest.TDX: "Intel TDX", attest.SNP: "AMD SEV-SNP"}[t]
}

func formatName(f attest.Format) string {
	return map[attest.Format]string{
		attest.FormatOEReport: "Open Enclave report header and quote", attest.FormatDCAPQuote: "bare quote",
		attest.FormatSNPTable:  "Open Enclave attestation header, report and certificate table",
		attest.FormatSNPReport: "bare report",
	}[f]
}

func (p *page) quote(d *description) {
	q := d.Quote
	body := ""
	if q.BodyType != 0 {
		body = fmt.Sprintf(", body type %d", q.BodyType)
	}
	p.line("Quote version", "%d%s, attestation key type %d", q.Version, body, q.KeyType)
	p.line("Trailing bytes", "%d", q.Trailing)
	switch {
	case q.SGX != nil:
		p.head("Enclave")
		p.enclave(q.SGX)
	case q.TDX != nil:
		p.head("Trust domain")
		p.domain(q.TDX)
	}
	p.head("Quoting enclave")
	p.enclave(q.QEReport)
	if q.Version == 3 {
		p.line("  QE SVN, PCE SVN", "%d, %d", q.QESVN, q.PCESVN)
	}
	p.head("Platform")
	p.line("  Certification data", "type %d, %s", q.CertificationType, d.CertificationType)
	p.pck(d.PCK)
	if id := d.PlatformID; id != nil {
		p.line("  PPID", "%s", id.PPID)
		p.line("  PPID, encrypted", "%s", id.Encrypted)
		p.line("  CPU SVN", "%s", id.CPUSVN)
		p.line("  PCE SVN, PCE ID", "%d, %s", id.PCESVN, id.PCEID)
	}
}

func (p *page) enclave(r *dcap.SGXReport) {
	p.line("  UniqueID (MRENCLAVE)", "%s", r.MRENCLAVE)
	p.line("  SignerID (MRSIGNER)", "%s", r.MRSIGNER)
	p.line("  ProductID", "%d", r.ISVProdID)
	p.line("  SecurityVersion", "%d", r.ISVSVN)
	p.line("  Debug", "%s", yesNo(r.Debug))
	p.line("  Attributes", "%s%s", r.Attributes, flags(r.Attributes, sgxFlags()))
	p.line("  MISCSELECT", "%s", r.MiscSelect)
	p.line("  CPU SVN", "%s", r.CPUSVN)
	p.line("  Report data", "%s", r.ReportData)
	p.optional("  Config ID", r.ConfigID)
	p.optional("  Extended product ID", r.ExtProdID)
	p.optional("  Family ID", r.ISVFamilyID)
	if r.ConfigSVN != 0 {
		p.line("  Config SVN", "%d", r.ConfigSVN)
	}
}

// optional leaves out what is zero.
func (p *page) optional(name string, value dcap.Hex) {
	if len(bytes.Trim(value, "\x00")) > 0 {
		p.line(name, "%s", value)
	}
}

func (p *page) domain(r *dcap.TDReport) {
	p.line("  MRTD", "%s", r.MRTD)
	for i, rtmr := range r.RTMR {
		p.line(fmt.Sprintf("  RTMR%d", i), "%s", rtmr)
	}
	p.optional("  MRConfigID", r.MRConfigID)
	p.optional("  MROwner", r.MROwner)
	p.optional("  MROwnerConfig", r.MROwnerConfig)
	p.optional("  MRServiceTD", r.MRServiceTD)
	p.line("  Debug", "%s", yesNo(r.Debug))
	p.line("  TDAttributes", "%s%s", r.TDAttributes, flags(r.TDAttributes, tdFlags()))
	p.line("  XFAM", "%s", r.XFAM)
	p.line("  Report data", "%s", r.ReportData)
	p.head("TDX module")
	p.line("  MRSEAM", "%s", r.MRSEAM)
	p.optional("  MRSignerSEAM", r.MRSignerSEAM)
	p.line("  TEE TCB SVN", "%s%s", r.TEETCBSVN, moduleVersion(r.TEETCBSVN))
	p.line("  TEE TCB SVN 2", "%s", r.TEETCBSVN2)
}

// moduleVersion explains the first two bytes, FORMATS §1.4.
func moduleVersion(svn dcap.Hex) string {
	if len(svn) < 2 {
		return ""
	}
	return fmt.Sprintf(" (module version %d, SVN %d)", svn[1], svn[0])
}

func (p *page) pck(c *platform) {
	if c == nil {
		return
	}
	p.line("  FMSPC", "%X", []byte(c.FMSPC))
	p.line("  PPID", "%s", c.PPID)
	p.line("  Platform instance ID", "%s", c.PlatformInstanceID)
	p.line("  PCE ID", "%s", c.PCEID)
	p.line("  TCB SVNs", "%s", strings.Trim(fmt.Sprint(c.SVN), "[]"))
	p.line("  PCE SVN", "%d", c.PCESVN)
	p.line("  CPU SVN", "%s", c.CPUSVN)
	p.line("  SGX type", "%d", c.SGXType)
	p.line("  Issued by", "PCK %s CA", c.CA)
}

func (p *page) report(d *description) {
	r := d.Report
	p.line("Report version", "%d", r.Version)
	p.line("Processor", "%s", r.Product)
	p.line("CPUID", "%s", r.CPUID)
	p.line("Certificate table", "%s", yesNo(r.CertificateTable))
	p.head("Guest")
	p.line("  Measurement", "%s", r.Measurement)
	p.optional("  Host data", r.HostData)
	p.optional("  ID key digest", r.IDKeyDigest)
	p.optional("  Author key digest", r.AuthorKeyDigest)
	p.optional("  Family ID", r.FamilyID)
	p.optional("  Image ID", r.ImageID)
	p.line("  Guest SVN", "%d", r.GuestSVN)
	p.line("  VMPL", "%d", r.VMPL)
	p.line("  Debug", "%s", yesNo(d.Debug))
	var bits []string
	for _, b := range r.PolicyBits {
		if b.Set {
			bits = append(bits, b.Name)
		}
	}
	p.line("  Policy", "%#x %s", r.Policy, strings.Join(bits, " "))
	p.line("  Report data", "%s", d.ReportData)
	p.head("Platform")
	p.line("  Signing key", "%s", r.SigningKey)
	p.line("  Chip ID", "%s", r.ChipID)
	p.line("  Platform info", "%#x", r.PlatformInfo)
	p.line("  Current TCB", "%s", snpTCB(r.Current, r.Product))
	p.line("  Reported TCB", "%s", snpTCB(r.Reported, r.Product))
	p.line("  Committed TCB", "%s", snpTCB(r.Committed, r.Product))
	p.line("  Launch TCB", "%s", snpTCB(r.Launch, r.Product))
}

func snpTCB(t attest.SNPTCB, product string) string {
	text := fmt.Sprintf("bootloader %d, tee %d, snp %d, microcode %d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
	if product == "Turin" {
		text = fmt.Sprintf("fmc %d, %s", t.FMC, text)
	}
	return text
}

// flag is a bit of a little-endian field of 64 bits.
type flag struct {
	bit  uint
	name string
}

func sgxFlags() []flag {
	return []flag{{0, "INIT"}, {1, "DEBUG"}, {2, "MODE64"}, {4, "PROVISION_KEY"}, {5, "EINITTOKEN_KEY"}, {7, "KSS"},
		{10, "AEX_NOTIFY"}}
}

func tdFlags() []flag {
	return []flag{{0, "DEBUG"}, {28, "SEPT_VE_DISABLE"}, {29, "MIGRATABLE"}, {30, "PKS"}, {31, "KL"}, {63, "PERFMON"}}
}

// flags names the bits that are set.
func flags(field dcap.Hex, names []flag) string {
	if len(field) < 8 {
		return ""
	}
	value := binary.LittleEndian.Uint64(field)
	var set []string
	for _, f := range names {
		if value>>f.bit&1 == 1 {
			set = append(set, f.name)
		}
	}
	if len(set) == 0 {
		return ""
	}
	return " (" + strings.Join(set, " ") + ")"
}
