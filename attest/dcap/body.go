// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"encoding/binary"

	"github.com/marblerun/marblerun/attest/dcap/tcb"
)

// SGXReport is the body of an SGX report (FORMATS §1.3). Byte fields alias the quote.
type SGXReport struct {
	CPUSVN      Hex    `json:"cpuSVN"`
	MiscSelect  Hex    `json:"miscselect"`
	ExtProdID   Hex    `json:"isvExtProdID"`
	Attributes  Hex    `json:"attributes"` // FLAGS u64 ‖ XFRM u64, little endian
	MRENCLAVE   Hex    `json:"mrenclave"`
	MRSIGNER    Hex    `json:"mrsigner"`
	ConfigID    Hex    `json:"configID"`
	ISVProdID   uint16 `json:"isvProdID"`
	ISVSVN      uint16 `json:"isvSVN"`
	ConfigSVN   uint16 `json:"configSVN"`
	ISVFamilyID Hex    `json:"isvFamilyID"`
	ReportData  Hex    `json:"reportData"`
	Debug       bool   `json:"debug"` // DEBUG bit of ATTRIBUTES
	raw         []byte
}

// parseSGXReport reads a body of exactly 384 bytes.
func parseSGXReport(b []byte) *SGXReport {
	return &SGXReport{
		CPUSVN: b[0:16], MiscSelect: b[16:20], ExtProdID: b[32:48], Attributes: b[48:64], MRENCLAVE: b[64:96],
		MRSIGNER: b[128:160], ConfigID: b[192:256], ISVFamilyID: b[304:320], ReportData: b[320:384],
		ISVProdID: binary.LittleEndian.Uint16(b[256:]),
		ISVSVN:    binary.LittleEndian.Uint16(b[258:]),
		ConfigSVN: binary.LittleEndian.Uint16(b[260:]),
		Debug:     b[48]&(1<<1) != 0,
		raw:       b,
	}
}

// qe is what a QE identity is compared with.
func (r *SGXReport) qe() tcb.QEReport {
	return tcb.QEReport{MiscSelect: [4]byte(r.MiscSelect), Attributes: [16]byte(r.Attributes),
		MRSigner: [32]byte(r.MRSIGNER), ISVProdID: r.ISVProdID, ISVSVN: r.ISVSVN}
}

// TDReport is the body of a TD report, 1.0 or 1.5 (FORMATS §1.4). Byte fields alias the quote.
type TDReport struct {
	TEETCBSVN      Hex    `json:"teeTCBSVN"`
	MRSEAM         Hex    `json:"mrSEAM"`
	MRSignerSEAM   Hex    `json:"mrSignerSEAM"`
	SEAMAttributes Hex    `json:"seamAttributes"`
	TDAttributes   Hex    `json:"tdAttributes"`
	XFAM           Hex    `json:"xfam"`
	MRTD           Hex    `json:"mrtd"`
	MRConfigID     Hex    `json:"mrConfigID"`
	MROwner        Hex    `json:"mrOwner"`
	MROwnerConfig  Hex    `json:"mrOwnerConfig"`
	RTMR           [4]Hex `json:"rtmr"`
	ReportData     Hex    `json:"reportData"`
	TEETCBSVN2     Hex    `json:"teeTCBSVN2,omitempty"`  // 1.5
	MRServiceTD    Hex    `json:"mrServiceTD,omitempty"` // 1.5
	// Debug: a bit of the TUD group of TDATTRIBUTES is set, DEBUG or one that is reserved: the TD is not to be trusted.
	Debug bool `json:"debug"`
}

// parseTDReport reads a body of 584 (1.0) or 648 bytes (1.5).
func parseTDReport(b []byte) *TDReport {
	r := &TDReport{
		TEETCBSVN: b[0:16], MRSEAM: b[16:64], MRSignerSEAM: b[64:112], SEAMAttributes: b[112:120], TDAttributes: b[120:128],
		XFAM: b[128:136], MRTD: b[136:184], MRConfigID: b[184:232], MROwner: b[232:280], MROwnerConfig: b[280:328],
		RTMR:       [4]Hex{b[328:376], b[376:424], b[424:472], b[472:520]},
		ReportData: b[520:584],
		Debug:      b[120] != 0,
	}
	if len(b) == tdx15BodySize {
		r.TEETCBSVN2, r.MRServiceTD = b[584:600], b[600:648]
	}
	return r
}
