// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"encoding/hex"
	"fmt"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// Machine is a simulated computer. Its name makes its identity: PPID, platform instance id, chip id and keys.
type Machine struct {
	Name string `json:"name"`

	// Status is the platform's TCB status under tcbdata.NewDataset, Module the TDX module's, QE the quoting enclave's;
	// "" is UpToDate, tcbdata.NotSupported below all levels. SNP machines know UpToDate and OutOfDate (microcode 10
	// below).
	Status attest.TCBStatus `json:"status,omitempty"`
	Module attest.TCBStatus `json:"module,omitempty"`
	QE     attest.TCBStatus `json:"qe,omitempty"`

	// ProcessorCA has the PCK certificate issued by the processor CA, without platform instance id and configuration.
	ProcessorCA bool `json:"processorCA,omitempty"`
	// ModuleMajor is the TDX module's major version, 1 or 3; 0 is 1, -1 is the first modules' 0, which have no identity.
	ModuleMajor int `json:"moduleMajor,omitempty"`
	// Relaunch: a TDX module of the newest level was loaded under the running TD (TEE_TCB_SVN_2 of the 1.5 body).
	Relaunch bool `json:"relaunch,omitempty"`

	// Product is the AMD processor; "" is Milan for report version 2, Genoa for 3 and Turin for 5.
	Product snp.Product `json:"product,omitempty"`
	// VLEK signs with a provider's key instead of the chip's. MaskChip hides the chip's identity in reports.
	VLEK     bool `json:"vlek,omitempty"`
	MaskChip bool `json:"maskChip,omitempty"`
}

// Workload is what the TEE measures, in the words of the claims that will be found. Empty fields have defaults that
// look like measurements; fields that are the platform's (TCB, module, product, attributes of debug) are not looked at.
type Workload struct {
	// Debug sets the TEE's debug attribute.
	Debug bool             `json:"debug,omitempty"`
	SGX   attest.SGXClaims `json:"sgx,omitzero"`
	TDX   attest.TDXClaims `json:"tdx,omitzero"`
	SNP   attest.SNPClaims `json:"snp,omitzero"`
}

// intelMachine is what a machine has for SGX and TDX.
type intelMachine struct {
	Machine
	ppid, instance []byte // 16 bytes each
	cpuSVN         [16]byte
	pceSVN         uint16
	qeSVN          uint8
	teeTCB         [16]byte // TEE_TCB_SVN
	teeTCB2        [16]byte // TEE_TCB_SVN_2
}

func (p *Platform) intelMachine(m Machine) (*intelMachine, error) {
	if m.Name == "" {
		return nil, fmt.Errorf("a machine needs a name")
	}
	base := tcbdata.NewDataset()
	platform, ok1 := tcbdata.SVN(base.Platform, m.Status)
	module, ok2 := tcbdata.SVN(base.Module, m.Module)
	qe, ok3 := tcbdata.SVN(base.QE, m.QE)
	if !ok1 || !ok2 || !ok3 {
		return nil, fmt.Errorf("machine %s: no TCB level has status %q, module %q, quoting enclave %q", m.Name, m.Status,
			m.Module, m.QE)
	}
	id, err := p.seed.Bytes(32, "machine "+m.Name)
	if err != nil {
		return nil, err
	}
	im := &intelMachine{Machine: m, ppid: id[:16], instance: id[16:], cpuSVN: tcbdata.BaseSVNs(),
		pceSVN: tcbdata.PCESVN, qeSVN: qe}
	im.cpuSVN[0], im.cpuSVN[1] = platform, platform
	im.teeTCB = [16]byte{0: module, 1: m.moduleMajor(), 2: platform}
	if m.moduleMajor() == 0 {
		im.teeTCB[0] = tcbdata.TDXComponent0 // no identity: component 0 is compared with the platform levels
	}
	im.teeTCB2 = im.teeTCB
	if m.Relaunch {
		im.teeTCB2[0], im.teeTCB2[2] = base.Module[0].SVN, base.Platform[0].SVN
	}
	return im, nil
}

// moduleMajor is TEE_TCB_SVN[1].
func (m Machine) moduleMajor() byte {
	switch m.ModuleMajor {
	case 0:
		return 1
	case -1:
		return 0
	}
	return byte(m.ModuleMajor)
}

// amdMachine is what a machine has for SNP.
type amdMachine struct {
	Machine
	product snp.Product
	chipID  []byte // 64 bytes, Turin 8
	tcb     attest.SNPTCB
}

func (p *Platform) amdMachine(m Machine, k Kind) (*amdMachine, error) {
	am := &amdMachine{Machine: m, product: m.Product}
	if am.product == "" {
		am.product = map[Kind]snp.Product{SNPv2: snp.Milan, SNPv3: snp.Genoa, SNPv5: snp.Turin}[k]
	}
	size := 64
	switch am.product {
	case snp.Milan:
		am.tcb = attest.SNPTCB{Bootloader: 4, SNP: 24, Microcode: 219}
	case snp.Genoa:
		am.tcb = attest.SNPTCB{Bootloader: 10, SNP: 23, Microcode: 84}
	case snp.Turin:
		am.tcb, size = attest.SNPTCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 81}, 8
	default:
		return nil, fmt.Errorf("machine %s: unknown product %q", m.Name, am.product)
	}
	switch m.Status {
	case "", attest.UpToDate:
	case attest.OutOfDate:
		am.tcb.Microcode -= 10
	default:
		return nil, fmt.Errorf("machine %s: SNP has no status %q", m.Name, m.Status)
	}
	var err error
	am.chipID, err = p.seed.Bytes(size, "chip "+m.Name)
	return am, err
}

// Identity is how evidence from the machine identifies it.
func (p *Platform) Identity(m Machine, k Kind) (attest.Machine, error) {
	if k.TEE() == attest.SNP {
		am, err := p.amdMachine(m, k)
		if err != nil {
			return attest.Machine{}, err
		}
		return attest.Machine{ChipID: hex.EncodeToString(am.chipID)}, nil
	}
	im, err := p.intelMachine(m)
	if err != nil {
		return attest.Machine{}, err
	}
	id := attest.Machine{PPID: hex.EncodeToString(im.ppid), FMSPC: FMSPC}
	if !m.ProcessorCA {
		id.PlatformInstanceID = hex.EncodeToString(im.instance)
	}
	return id, nil
}

// Kind is a kind of evidence.
type Kind string

// The kinds of evidence.
const (
	SGXv3     Kind = "sgx-v3"
	SGXv4     Kind = "sgx-v4"
	SGXv5     Kind = "sgx-v5"
	TDXv4     Kind = "tdx-v4"
	TDXv5     Kind = "tdx-v5"     // TD report 1.5
	TDXv5TD10 Kind = "tdx-v5-1.0" // TD report 1.0
	SNPv2     Kind = "snp-v2"
	SNPv3     Kind = "snp-v3"
	SNPv5     Kind = "snp-v5"
)

// Kinds lists them all.
func Kinds() []Kind {
	return []Kind{SGXv3, SGXv4, SGXv5, TDXv4, TDXv5, TDXv5TD10, SNPv2, SNPv3, SNPv5}
}

// TEE is the kind's TEE; "" for an unknown kind.
func (k Kind) TEE() attest.TEE {
	switch k {
	case SGXv3, SGXv4, SGXv5:
		return attest.SGX
	case TDXv4, TDXv5, TDXv5TD10:
		return attest.TDX
	case SNPv2, SNPv3, SNPv5:
		return attest.SNP
	}
	return ""
}
