// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
)

// KDSURL is the address of AMD's key distribution service.
const KDSURL = "https://kdsintf.amd.com"

// Needs says which certificates belong to a report.
type Needs struct {
	Key Key
	// Products has one entry if the report tells (version 3 and later), else the candidates in the order to try.
	Products []Product
	// ChipID is CHIP_ID as reported; nil if the host masks it, in which case AMD's service cannot be asked for a VCEK.
	ChipID   []byte
	Reported TCB
}

// Needs reads from an unverified report what to fetch. A wrong answer leads to a refusal later, never to an acceptance.
func (r *Report) Needs() (Needs, error) {
	if err := r.checkSigner(); err != nil {
		return Needs{}, err
	}
	n := Needs{Key: r.SigningKey, Products: []Product{Milan, Genoa}, Reported: r.ReportedTCB}
	if r.Version >= 3 {
		p, ok := productOfCPU(r.CPUID[0], r.CPUID[1])
		if !ok {
			return Needs{}, refuse(CodeProduct, "", fmt.Sprintf("family %#x model %#x", r.CPUID[0], r.CPUID[1]),
				"the report names an unknown processor")
		}
		n.Products = []Product{p}
	}
	if !r.masked() {
		n.ChipID = slices.Clone(r.ChipID[:])
	}
	return n, nil
}

// VEKPath is the path and query of the VCEK certificate (DER) for one of the products, to be appended to KDSURL or a
// mirror's address. It is empty if the service cannot be asked: for a VLEK, which only the cloud provider hands out,
// and for a masked chip.
func (n Needs) VEKPath(p Product) string {
	if n.Key != VCEK || len(n.ChipID) < p.chipIDSize() {
		return ""
	}
	return VCEKPath(p, n.ChipID[:p.chipIDSize()], n.Reported.Split(p))
}

// VCEKPath is the path and query of the certificate of a chip at a TCB version.
func VCEKPath(p Product, hwid []byte, t attest.SNPTCB) string {
	path := fmt.Sprintf("/vcek/v1/%s/%s?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d",
		p, hex.EncodeToString(hwid), t.Bootloader, t.TEE, t.SNP, t.Microcode)
	if p == Turin {
		path += fmt.Sprintf("&fmcSPL=%d", t.FMC)
	}
	return path
}

// ChainPath is the path of the certificates above the VEK: PEM, intermediate then root.
func (n Needs) ChainPath(p Product) string { return n.prefix(p) + "cert_chain" }

// CRLPath is the path of the root's revocation list (DER).
func (n Needs) CRLPath(p Product) string { return n.prefix(p) + "crl" }

func (n Needs) prefix(p Product) string {
	if n.Key == VLEK {
		return fmt.Sprintf("/vlek/v1/%s/", p)
	}
	return fmt.Sprintf("/vcek/v1/%s/", p)
}
