// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
)

// ReportSize is the size of an attestation report in bytes, of every version.
const ReportSize = 0x4A0

const (
	signedSize   = 0x2A0 // the signature covers what is before it
	sigPartSize  = 72    // R and S, little endian, zero padded
	sigEnd       = signedSize + 2*sigPartSize
	algoECDSA384 = 1
)

// Key is the kind of key that signs reports.
type Key string

// The kinds of key.
const (
	VCEK Key = "VCEK"
	VLEK Key = "VLEK"
)

// Report is an attestation report, FORMATS §5.1. Its content is as claimed until Verify has checked the signature.
type Report struct {
	// Version is 2, 3 or 5.
	Version         uint32
	GuestSVN        uint32
	Policy          uint64
	FamilyID        [16]byte
	ImageID         [16]byte
	VMPL            uint32
	CurrentTCB      TCB
	PlatformInfo    uint64
	AuthorKeyEn     bool
	MaskChipKey     bool
	SigningKey      Key // "" if the report is not signed
	ReportData      [64]byte
	Measurement     [48]byte
	HostData        [32]byte
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
	ReportID        [32]byte
	ReportIDMA      [32]byte
	ReportedTCB     TCB
	// CPUID is family, model and stepping; zero in version 2.
	CPUID        [3]byte
	ChipID       [64]byte
	CommittedTCB TCB
	// CurrentVersion and CommittedVersion are the firmware's build, minor and major number.
	CurrentVersion   [3]byte
	CommittedVersion [3]byte
	LaunchTCB        TCB
	// LaunchMitVector and CurrentMitVector are zero before version 5.
	LaunchMitVector  uint64
	CurrentMitVector uint64

	sigR, sigS *big.Int
}

// Debug says whether the host may read the guest's memory (guest policy bit 19).
func (r *Report) Debug() bool { return r.Policy&policyDebug != 0 }

// ParseReport reads a report of exactly ReportSize bytes and checks its form: version, algorithm, reserved bits and
// bytes. It does not check the signature. A refusal is an *attest.Refusal.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, refuse(CodeFormat, fmt.Sprintf("%d bytes", ReportSize), fmt.Sprintf("%d bytes", len(b)),
			"the report has the wrong size")
	}
	r := &Report{Version: binary.LittleEndian.Uint32(b)}
	if r.Version != 2 && r.Version != 3 && r.Version != 5 {
		return nil, refuse(CodeFormat, "2, 3 or 5", fmt.Sprint(r.Version), "the report's version is not supported")
	}
	if algo := binary.LittleEndian.Uint32(b[0x34:]); algo != algoECDSA384 {
		return nil, refuse(CodeFormat, "1 (ECDSA P-384 with SHA-384)", fmt.Sprint(algo), "unknown signature algorithm")
	}
	if err := checkReserved(b, r.Version); err != nil {
		return nil, err
	}
	r.fill(b)
	if err := checkPolicy(r.Policy); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Report) fill(b []byte) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	r.GuestSVN, r.Policy, r.VMPL = u32(b[0x04:]), u64(b[0x08:]), u32(b[0x30:])
	r.FamilyID, r.ImageID = [16]byte(b[0x10:]), [16]byte(b[0x20:])
	r.CurrentTCB, r.PlatformInfo = TCB(b[0x38:0x40]), u64(b[0x40:])
	r.fillKeyInfo(u32(b[0x48:]))
	r.ReportData, r.Measurement, r.HostData = [64]byte(b[0x50:]), [48]byte(b[0x90:]), [32]byte(b[0xC0:])
	r.IDKeyDigest, r.AuthorKeyDigest = [48]byte(b[0xE0:]), [48]byte(b[0x110:])
	r.ReportID, r.ReportIDMA = [32]byte(b[0x140:]), [32]byte(b[0x160:])
	r.ReportedTCB, r.CPUID, r.ChipID = TCB(b[0x180:0x188]), [3]byte(b[0x188:]), [64]byte(b[0x1A0:])
	r.CommittedTCB, r.LaunchTCB = TCB(b[0x1E0:0x1E8]), TCB(b[0x1F0:0x1F8])
	r.CurrentVersion, r.CommittedVersion = [3]byte(b[0x1E8:]), [3]byte(b[0x1EC:])
	r.LaunchMitVector, r.CurrentMitVector = u64(b[0x1F8:]), u64(b[0x200:])
	r.sigR = littleEndian(b[signedSize : signedSize+sigPartSize])
	r.sigS = littleEndian(b[signedSize+sigPartSize : sigEnd])
}

func (r *Report) fillKeyInfo(info uint32) {
	r.AuthorKeyEn, r.MaskChipKey = info&1 != 0, info&2 != 0
	switch info >> 2 & 7 {
	case 0:
		r.SigningKey = VCEK
	case 1:
		r.SigningKey = VLEK
	}
}

// checkReserved refuses bytes and bits that must be zero. KEY INFO's values 2 to 6 of SIGNING_KEY are reserved too.
func checkReserved(b []byte, version uint32) error {
	cpuid, mit := 0x18B, 0x208
	if version < 3 {
		cpuid = 0x188
	}
	if version < 5 {
		mit = 0x1F8
	}
	ranges := [][2]int{{0x4C, 0x50}, {cpuid, 0x1A0}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {mit, signedSize},
		{sigEnd, ReportSize}}
	for _, g := range ranges {
		if got := b[g[0]:g[1]]; !zero(got) {
			return refuse(CodeReserved, "zero", abbreviate(got), "reserved bytes 0x%x to 0x%x", g[0], g[1]-1)
		}
	}
	info := binary.LittleEndian.Uint32(b[0x48:])
	if key := info >> 2 & 7; info>>5 != 0 || key > 1 && key < 7 {
		return refuse(CodeReserved, "zero", fmt.Sprintf("%#x", info), "reserved bits or values of the key information")
	}
	return nil
}

// checkSigner refuses a report that is not signed, or whose flags contradict each other.
func (r *Report) checkSigner() error {
	switch {
	case r.SigningKey == "":
		return refuse(CodeSigningKey, "VCEK or VLEK", "none", "the report is not signed")
	case r.SigningKey == VCEK && r.MaskChipKey:
		return refuse(CodeSigningKey, "an unmasked chip key", "MASK_CHIP_KEY", "the host has masked the chip's key")
	case !r.AuthorKeyEn && !zero(r.AuthorKeyDigest[:]):
		return refuse(CodeSigningKey, "AUTHOR_KEY_EN", "0", "there is an author key digest, but the report denies it")
	}
	return nil
}

// masked says whether the host hides the chip's identity: CHIP_ID is then zero.
func (r *Report) masked() bool { return zero(r.ChipID[:]) }

func littleEndian(b []byte) *big.Int {
	c := slices.Clone(b)
	slices.Reverse(c)
	return new(big.Int).SetBytes(c)
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// abbreviate renders at most 16 bytes in hex.
func abbreviate(b []byte) string {
	if len(b) <= 16 {
		return hex.EncodeToString(b)
	}
	return hex.EncodeToString(b[:16]) + "…"
}
