// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/attest"
)

// vek is what a VCEK or VLEK certificate says, FORMATS §5.2.
type vek struct {
	Key     Key
	Product Product
	TCB     attest.SNPTCB
	HWID    []byte // VCEK only: 64 bytes, Turin 8
	CSP     string // VLEK only: the cloud provider
	key     *ecdsa.PublicKey
}

// oid is below AMD's arc 1.3.6.1.4.1.3704.1.
func oid(tail ...int) string {
	return asn1.ObjectIdentifier(append([]int{1, 3, 6, 1, 4, 1, 3704, 1}, tail...)).String()
}

// commonName is the subject's or issuer's common name up to the first space; a software root adds words after it.
func commonName(cn string) string {
	base, _, _ := strings.Cut(cn, " ")
	return base
}

// readVEK reads a certificate whose signature is not checked yet.
func readVEK(cert *x509.Certificate) (*vek, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, refuse(CodeFormat, "ECDSA P-384", cert.PublicKeyAlgorithm.String(),
			"the VEK certificate has another key")
	}
	ext := map[string][]byte{}
	for _, e := range cert.Extensions {
		ext[e.Id.String()] = e.Value
	}
	v := &vek{key: key}
	var name string
	if err := unmarshal(ext[oid(2)], &name); err != nil {
		return nil, refuse(CodeFormat, "", "", "the VEK certificate's product name: %v", err)
	}
	if v.Product, ok = productOfName(name); !ok {
		return nil, refuse(CodeProduct, "Milan, Genoa or Turin", fmt.Sprintf("%.32q", name),
			"the VEK certificate's product is unknown")
	}
	if err := v.readSPLs(ext); err != nil {
		return nil, err
	}
	return v, v.readKind(commonName(cert.Subject.CommonName), ext)
}

// readSPLs reads the security patch levels. The reserved ones must be zero if present.
func (v *vek) readSPLs(ext map[string][]byte) error {
	parts := []struct {
		id  int
		dst *uint8
	}{{1, &v.TCB.Bootloader}, {2, &v.TCB.TEE}, {3, &v.TCB.SNP}, {8, &v.TCB.Microcode}}
	if v.Product == Turin {
		parts = append(parts, struct {
			id  int
			dst *uint8
		}{9, &v.TCB.FMC})
	}
	for _, p := range parts {
		n, err := readSPL(ext[oid(3, p.id)])
		if err != nil {
			return refuse(CodeFormat, "", "", "the VEK certificate's extension %s: %v", oid(3, p.id), err)
		}
		*p.dst = n
	}
	for id := 4; id <= 7; id++ {
		raw, ok := ext[oid(3, id)]
		if n, err := readSPL(raw); ok && (err != nil || n != 0) {
			return refuse(CodeReserved, "0", hex.EncodeToString(raw), "the VEK certificate's extension %s", oid(3, id))
		}
	}
	return nil
}

// readKind tells a VCEK from a VLEK and reads whom it was made for.
func (v *vek) readKind(cn string, ext map[string][]byte) error {
	hwid, hasHWID := ext[oid(4)]
	csp, hasCSP := ext[oid(5)]
	switch {
	case cn == "SEV-VCEK" && hasHWID && !hasCSP:
		v.Key = VCEK
		return v.readHWID(hwid)
	case cn == "SEV-VLEK" && hasCSP && !hasHWID:
		v.Key = VLEK
		if err := unmarshal(csp, &v.CSP); err != nil {
			return refuse(CodeFormat, "", "", "the VLEK certificate's provider: %v", err)
		}
		return nil
	}
	return refuse(CodeFormat, "SEV-VCEK with HWID or SEV-VLEK with CSP id", fmt.Sprintf("%.64q", cn),
		"the VEK certificate is neither a VCEK nor a VLEK")
}

// readHWID takes the bare bytes that AMD puts there, and an OCTET STRING of them.
func (v *vek) readHWID(raw []byte) error {
	size := v.Product.chipIDSize()
	if len(raw) == size+2 && raw[0] == asn1.TagOctetString && int(raw[1]) == size {
		raw = raw[2:]
	}
	if len(raw) != size {
		return refuse(CodeFormat, fmt.Sprintf("%d bytes", size), fmt.Sprintf("%d bytes", len(raw)),
			"the VCEK certificate's HWID")
	}
	v.HWID = raw
	return nil
}

func readSPL(raw []byte) (uint8, error) {
	var n int
	if err := unmarshal(raw, &n); err != nil {
		return 0, err
	}
	if n < 0 || n > 255 {
		return 0, fmt.Errorf("%d does not fit in a byte", n)
	}
	return uint8(n), nil
}

func unmarshal(raw []byte, dst any) error {
	if raw == nil {
		return fmt.Errorf("missing")
	}
	rest, err := asn1.Unmarshal(raw, dst)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes follow the value", len(rest))
	}
	return err
}

// covers checks that the certificate was made for what the report says about itself.
func (v *vek) covers(r *Report) error {
	if r.SigningKey != v.Key {
		return refuse(CodeSigningKey, string(r.SigningKey), string(v.Key), "the certificate is of the other kind")
	}
	if err := r.checkProduct(v.Product); err != nil {
		return err
	}
	if err := r.checkTCBs(v.Product); err != nil {
		return err
	}
	reasons := append(v.checkTCB(r), v.checkChip(r)...)
	if len(reasons) > 0 {
		return &attest.Refusal{Reasons: reasons}
	}
	return nil
}

func (v *vek) checkTCB(r *Report) []attest.Reason {
	got := r.ReportedTCB.Split(v.Product)
	if got == v.TCB {
		return nil
	}
	return []attest.Reason{reason(CodeTCB, describeTCB(v.TCB), describeTCB(got),
		"the %s certificate was made for another REPORTED_TCB", v.Key)}
}

// checkChip compares HWID and CHIP_ID. A VLEK is of no chip, a masked report names none.
func (v *vek) checkChip(r *Report) []attest.Reason {
	size := len(v.HWID)
	if v.Key == VLEK || r.masked() || bytes.Equal(r.ChipID[:size], v.HWID) && zero(r.ChipID[size:]) {
		return nil
	}
	return []attest.Reason{reason(CodeChip, abbreviate(v.HWID), abbreviate(r.ChipID[:]),
		"the VCEK certificate was made for another chip")}
}

func describeTCB(t attest.SNPTCB) string {
	return fmt.Sprintf("fmc %d bootloader %d tee %d snp %d microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}
