// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/attest"
)

// Product is a processor generation, as AMD's key service names it.
type Product string

// The products. Bergamo and Siena are Genoa's: they share its root.
const (
	Milan Product = "Milan"
	Genoa Product = "Genoa"
	Turin Product = "Turin"
)

// Products lists them all, oldest first.
func Products() []Product { return []Product{Milan, Genoa, Turin} }

// chipIDSize is the number of bytes of the chip's identity in reports and certificates.
func (p Product) chipIDSize() int {
	if p == Turin {
		return 8
	}
	return 64
}

// productOfCPU is the product of a CPUID family and model, FORMATS §5.1.
func productOfCPU(family, model byte) (Product, bool) {
	switch {
	case family == 0x19 && model <= 0x0F:
		return Milan, true
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xA):
		return Genoa, true
	case family == 0x1A && model <= 0x1F:
		return Turin, true
	}
	return "", false
}

// productOfName is the product of a certificate's product name, e.g. "Milan-B0".
func productOfName(name string) (Product, bool) {
	base, _, _ := strings.Cut(name, "-")
	switch base {
	case "Milan", "Genoa", "Turin":
		return Product(base), true
	case "Bergamo", "Siena":
		return Genoa, true
	}
	return "", false
}

// checkProduct compares the certificate's product with the CPUID of the report, which is there from version 3 on.
func (r *Report) checkProduct(want Product) error {
	if r.Version < 3 {
		return nil
	}
	cpu := fmt.Sprintf("family %#x model %#x", r.CPUID[0], r.CPUID[1])
	got, ok := productOfCPU(r.CPUID[0], r.CPUID[1])
	if !ok {
		return refuse(CodeProduct, string(want), cpu, "the report names an unknown processor")
	}
	if got != want {
		return refuse(CodeProduct, string(want), cpu, "the report is by a %s processor", got)
	}
	return nil
}

// TCB is a TCB version as in the report. Its layout depends on the product, and only components may be compared.
type TCB [8]byte

// Split takes a TCB version apart, FORMATS §5.1.
func (t TCB) Split(p Product) attest.SNPTCB {
	if p == Turin {
		return attest.SNPTCB{FMC: t[0], Bootloader: t[1], TEE: t[2], SNP: t[3], Microcode: t[7]}
	}
	return attest.SNPTCB{Bootloader: t[0], TEE: t[1], SNP: t[6], Microcode: t[7]}
}

// Join puts a TCB version together.
func Join(p Product, c attest.SNPTCB) TCB {
	if p == Turin {
		return TCB{0: c.FMC, 1: c.Bootloader, 2: c.TEE, 3: c.SNP, 7: c.Microcode}
	}
	return TCB{0: c.Bootloader, 1: c.TEE, 6: c.SNP, 7: c.Microcode}
}

// checkTCBs refuses TCB versions with content in bytes that the product's layout reserves.
func (r *Report) checkTCBs(p Product) error {
	named := []struct {
		name string
		tcb  TCB
	}{
		{"CURRENT_TCB", r.CurrentTCB}, {"REPORTED_TCB", r.ReportedTCB},
		{"COMMITTED_TCB", r.CommittedTCB}, {"LAUNCH_TCB", r.LaunchTCB},
	}
	for _, n := range named {
		if Join(p, n.tcb.Split(p)) != n.tcb {
			return refuse(CodeReserved, "zero", fmt.Sprintf("%x", n.tcb), "reserved bytes of %s", n.name)
		}
	}
	return nil
}
