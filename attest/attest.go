// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package attest decides, from evidence, whether a program in a TEE may join, and says exactly why not.
//
// The way of the data is a pipeline of values: Evidence (the bytes as they came) is parsed, its signatures are verified
// against given roots and collateral at a given time, which yields Claims; a Policy then turns Claims into a Verdict.
// Everything here is pure: no network, no clock, no package-level state. The packages dcap and snp verify one kind of
// evidence each; package collateral fetches what they need.
//
// Invariants:
//   - A refusal carries every reason found, never only the first, each with the wanted and the measured value and,
//     where one exists, the policy change that would accept. The order of the reasons is stable.
//   - Claims come from signed bytes only. Claims inside a Refusal explain it; they are never a basis for acceptance.
//   - NotSupported is never accepted, listed or not. A grace never covers Revoked.
//   - Parsing trusts no length and never panics.
package attest

import "time"

// TEE names a kind of trusted execution environment.
type TEE string

// The kinds of TEE.
const (
	SGX TEE = "sgx"
	TDX TEE = "tdx"
	SNP TEE = "snp"
)

// TCBStatus is the state of a platform's trusted computing base, in Intel's words. The strings are part of the manifest
// language and of the client API.
type TCBStatus string

// The statuses of FORMATS §1.11. SNP evidence has only UpToDate and OutOfDate, derived from the policy's minimum.
const (
	UpToDate                           TCBStatus = "UpToDate"
	SWHardeningNeeded                  TCBStatus = "SWHardeningNeeded"
	ConfigurationNeeded                TCBStatus = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded  TCBStatus = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                          TCBStatus = "OutOfDate"
	OutOfDateConfigurationNeeded       TCBStatus = "OutOfDateConfigurationNeeded"
	Revoked                            TCBStatus = "Revoked"
	TDRelaunchAdvised                  TCBStatus = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeed TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"

	// NotSupported: genuine evidence below the lowest level that Intel publishes. It appears only in the claims of a
	// Refusal, and no policy accepts it.
	NotSupported TCBStatus = "NotSupported"
)

// Claims is what verified evidence says. Every field comes from signed bytes.
type Claims struct {
	TEE TEE `json:"tee"`
	// Debug: the TEE's memory can be read by its host.
	Debug bool `json:"debug"`
	// ReportData is the 64 bytes that the program chose.
	ReportData [64]byte `json:"-"`

	// TCBStatus merges the halves: the platform's, the TDX module's and the quoting enclave's.
	TCBStatus      TCBStatus `json:"tcbStatus"`
	PlatformStatus TCBStatus `json:"platformStatus,omitempty"`
	ModuleStatus   TCBStatus `json:"moduleStatus,omitempty"`
	QEStatus       TCBStatus `json:"qeStatus,omitempty"`
	// TCBDate is the date of the matched platform TCB level.
	TCBDate time.Time `json:"tcbDate,omitzero"`
	// ModuleDate and QEDate are the dates of the matched levels of the TDX module and of the quoting enclave.
	ModuleDate time.Time `json:"moduleDate,omitzero"`
	QEDate     time.Time `json:"qeDate,omitzero"`
	// TCBEvaluationDataNumber is that of the TCB info that decided, QEEvaluationDataNumber that of the QE identity.
	TCBEvaluationDataNumber int `json:"tcbEvaluationDataNumber,omitempty"`
	QEEvaluationDataNumber  int `json:"qeEvaluationDataNumber,omitempty"`
	// PlatformAdvisories are those of the matched platform level; AcceptedAdvisories is decided by them (FORMATS §1.9).
	PlatformAdvisories []string `json:"platformAdvisories,omitempty"`
	// Advisories is the union over the matched platform, module and QE levels, sorted.
	Advisories []string `json:"advisories,omitempty"`
	// Short lists the TCB components that keep the platform from the newest level.
	Short []ShortComponent `json:"short,omitempty"`

	SGX *SGXClaims `json:"sgx,omitempty"`
	TDX *TDXClaims `json:"tdx,omitempty"`
	SNP *SNPClaims `json:"snp,omitempty"`

	Machine Machine `json:"machine"`
	// Collateral identifies what the verification relied on, e.g. "tcbinfo:sgx:00606a000000:eval17:sha256:…".
	Collateral []string `json:"collateral,omitempty"`
}

// ShortComponent is a part of the TCB whose version is below the newest level's.
type ShortComponent struct {
	// Name, e.g. "sgx[3]", "pcesvn", "tdx[0]", "module", "qe", "microcode".
	Name string `json:"name"`
	Got  int    `json:"got"`
	Want int    `json:"want"`
}

// SGXClaims are the fields of an SGX report body (FORMATS §1.3). Hex strings are lower case.
type SGXClaims struct {
	MRENCLAVE string `json:"mrenclave"` // 32 bytes, hex
	MRSIGNER  string `json:"mrsigner"`  // 32 bytes, hex
	ISVPRODID uint16 `json:"isvprodid"`
	ISVSVN    uint16 `json:"isvsvn"`

	Attributes string `json:"attributes"` // 16 bytes, hex
	MISCSELECT string `json:"miscselect"` // 4 bytes, hex
	ConfigID   string `json:"configID,omitempty"`
	ConfigSVN  uint16 `json:"configSVN,omitempty"`
}

// TDXClaims are the fields of a TD report body (FORMATS §1.4), hex, lower case.
type TDXClaims struct {
	MRTD          string    `json:"mrtd"` // 48 bytes
	RTMR          [4]string `json:"rtmr"` // 48 bytes each
	MRConfigID    string    `json:"mrConfigID"`
	MROwner       string    `json:"mrOwner"`
	MROwnerConfig string    `json:"mrOwnerConfig"`
	MRSEAM        string    `json:"mrSEAM"`
	MRServiceTD   string    `json:"mrServiceTD,omitempty"` // TD report 1.5
	TDAttributes  string    `json:"tdAttributes"`          // 8 bytes, as in the report
	XFAM          string    `json:"xfam"`                  // 8 bytes, as in the report
	TEETCBSVN     string    `json:"teeTCBSVN"`             // 16 bytes
	TEETCBSVN2    string    `json:"teeTCBSVN2,omitempty"`  // 16 bytes; TD report 1.5
}

// SNPClaims are the fields of an SEV-SNP report (FORMATS §5.1), hex, lower case.
type SNPClaims struct {
	Measurement     string `json:"measurement"` // 48 bytes
	HostData        string `json:"hostData"`    // 32 bytes
	IDKeyDigest     string `json:"idKeyDigest"` // 48 bytes
	AuthorKeyDigest string `json:"authorKeyDigest"`
	FamilyID        string `json:"familyID"`
	ImageID         string `json:"imageID"`
	GuestSVN        uint32 `json:"guestSVN"`
	Policy          uint64 `json:"policy"`
	VMPL            uint32 `json:"vmpl"`
	Product         string `json:"product"` // Milan, Genoa, Turin
	Reported        SNPTCB `json:"reportedTCB"`
	Committed       SNPTCB `json:"committedTCB"`
	Launch          SNPTCB `json:"launchTCB"`
	SigningKey      string `json:"signingKey"` // VCEK or VLEK
	PlatformInfo    uint64 `json:"platformInfo"`
}

// SNPTCB is an SNP TCB version by component. FMC exists on Turin only.
type SNPTCB struct {
	FMC        uint8 `json:"fmc,omitempty"`
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// Machine identifies the hardware the evidence comes from. Hex, lower case; empty where the TEE does not tell.
type Machine struct {
	PPID               string `json:"ppid,omitempty"`               // Intel, 16 bytes
	PlatformInstanceID string `json:"platformInstanceID,omitempty"` // Intel multi-package, 16 bytes
	ChipID             string `json:"chipID,omitempty"`             // AMD, 64 bytes (Turin: 8)
	FMSPC              string `json:"fmspc,omitempty"`              // Intel, 6 bytes
}
