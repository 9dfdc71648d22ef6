// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxEvidence is the largest evidence that Parse reads, in bytes. Real evidence stays below 10 KiB.
const MaxEvidence = 64 << 10

// SNPReportSize is the size of an SEV-SNP report in bytes (FORMATS §5.1).
const SNPReportSize = 1184

// Sizes of the Open Enclave headers in bytes (FORMATS §2).
const (
	oeReportHeader      = 16 // u32 version 1, u32 type, u64 size
	oeAttestationHeader = 28 // u32 version 3, format UUID[16], u64 size
	oeTypeSGXLocal      = 1
	oeTypeSGXRemote     = 2
)

// intelVendorID is the QE vendor id at offset 12 of every DCAP quote.
const intelVendorID = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"

// SNPFormatUUID is the format UUID of SEV-SNP evidence behind an Open Enclave attestation header:
// bd6661e9-e457-42ed-810f-03b5b71d106a, drawn at random for this project, in the byte order of RFC 9562.
const SNPFormatUUID = "\xbd\x66\x61\xe9\xe4\x57\x42\xed\x81\x0f\x03\xb5\xb7\x1d\x10\x6a"

// Format names how evidence is wrapped.
type Format string

// The formats that Parse reads.
const (
	FormatOEReport  Format = "oe-report"  // Open Enclave report header ‖ DCAP quote, as SGX Marbles send it
	FormatDCAPQuote Format = "dcap-quote" // bare DCAP quote (SGX or TDX)
	FormatSNPTable  Format = "snp-table"  // Open Enclave attestation header ‖ SNP report ‖ certificate table
	FormatSNPReport Format = "snp-report" // bare SNP report, with or without the certificate table of an extended one
)

// Evidence is evidence as it came, with its wrapping understood and nothing verified.
type Evidence struct {
	Format Format
	TEE    TEE
	// Raw is the evidence as sent.
	Raw []byte
	// Quote is the DCAP quote, with whatever padding follows it, or the SNP report (1184 bytes). It aliases Raw.
	Quote []byte
	// CertTable is the certificate table of an SNP extended report; may be empty. It aliases Raw.
	CertTable []byte
}

// Parse recognizes evidence in the forms of FORMATS §2: a DCAP quote bare or behind an Open Enclave report header of
// type 2, an SNP report bare or behind an attestation header with SNPFormatUUID, in both cases with or without a
// certificate table after it. Sizes in headers must not exceed what is there; bytes after the size are tolerated. At most
// MaxEvidence bytes.
func Parse(raw []byte) (Evidence, error) {
	switch {
	case len(raw) == 0:
		return Evidence{}, errors.New("evidence is empty: a TEE in simulation mode sends none")
	case len(raw) > MaxEvidence:
		return Evidence{}, fmt.Errorf("evidence has %d bytes, more than the limit of %d", len(raw), MaxEvidence)
	}
	if tee, ok := dcapTEE(raw); ok {
		return Evidence{Format: FormatDCAPQuote, TEE: tee, Raw: raw, Quote: raw}, nil
	}
	if len(raw) >= SNPReportSize && isSNPReport(raw) && string(raw[4:20]) != SNPFormatUUID {
		return Evidence{Format: FormatSNPReport, TEE: SNP, Raw: raw, Quote: raw[:SNPReportSize:SNPReportSize],
			CertTable: raw[SNPReportSize:]}, nil
	}
	switch first := leadingU32(raw); first {
	case 1:
		return parseOEReport(raw)
	case 3:
		return parseOEAttestation(raw)
	}
	return Evidence{},
		fmt.Errorf("evidence of %d bytes is neither a DCAP quote, an Open Enclave report nor an SEV-SNP report",
			len(raw))
}

// parseOEReport reads u32 version = 1, u32 type, u64 size ‖ quote.
func parseOEReport(raw []byte) (Evidence, error) {
	if len(raw) < oeReportHeader {
		return Evidence{}, fmt.Errorf("Open Enclave report header needs %d bytes, evidence has %d", oeReportHeader, len(raw))
	}
	switch kind := binary.LittleEndian.Uint32(raw[4:]); kind {
	case oeTypeSGXRemote:
	case oeTypeSGXLocal:
		return Evidence{}, errors.New("evidence is a local SGX report; a remote one (type 2, a quote) is needed")
	default:
		return Evidence{}, fmt.Errorf("Open Enclave report type %d is unknown; 2 (SGX remote) is needed", kind)
	}
	quote, err := sized(raw, 8)
	if err != nil {
		return Evidence{}, fmt.Errorf("Open Enclave report header: %w", err)
	}
	tee, ok := dcapTEE(quote)
	if !ok {
		return Evidence{}, errors.New("Open Enclave report holds no ECDSA quote of an Intel quoting enclave")
	}
	return Evidence{Format: FormatOEReport, TEE: tee, Raw: raw, Quote: quote}, nil
}

// parseOEAttestation reads u32 version = 3, UUID[16], u64 size ‖ report[1184] ‖ certificate table.
func parseOEAttestation(raw []byte) (Evidence, error) {
	if len(raw) < oeAttestationHeader {
		return Evidence{}, fmt.Errorf("Open Enclave attestation header needs %d bytes, evidence has %d",
			oeAttestationHeader, len(raw))
	}
	if format := raw[4:20]; string(format) != SNPFormatUUID {
		return Evidence{}, fmt.Errorf("Open Enclave attestation format %x is not supported; send the quote bare or behind "+
			"a report header (version 1, type 2)", format)
	}
	body, err := sized(raw, 20)
	if err != nil {
		return Evidence{}, fmt.Errorf("Open Enclave attestation header: %w", err)
	}
	if len(body) < SNPReportSize || !isSNPReport(body) {
		return Evidence{}, fmt.Errorf("attestation header of SEV-SNP holds no report of %d bytes", SNPReportSize)
	}
	return Evidence{Format: FormatSNPTable, TEE: SNP, Raw: raw, Quote: body[:SNPReportSize:SNPReportSize],
		CertTable: body[SNPReportSize:]}, nil
}

// sized returns the bytes after the u64 at offset, as many as it says.
func sized(raw []byte, offset int) ([]byte, error) {
	size, rest := binary.LittleEndian.Uint64(raw[offset:]), raw[offset+8:]
	if size > uint64(len(rest)) {
		return nil, fmt.Errorf("size says %d bytes, %d follow", size, len(rest))
	}
	return rest[:size:size], nil
}

// dcapTEE recognizes a DCAP quote by version, attestation key type and Intel's vendor id (an SNP report may begin with
// the same version) and tells whose it is. A quote of a TEE type not known counts as SGX; the parser refuses it.
func dcapTEE(quote []byte) (TEE, bool) {
	if len(quote) < 48 || !bytes.Equal(quote[12:28], []byte(intelVendorID)) {
		return "", false
	}
	version, keyType := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint16(quote[2:])
	if version < 3 || version > 5 || keyType < 2 || keyType > 3 {
		return "", false
	}
	if binary.LittleEndian.Uint32(quote[4:]) == 0x81 {
		return TDX, true
	}
	return SGX, true
}

// isSNPReport checks version and signature algorithm (1 = ECDSA P-384 with SHA-384). The size is the caller's matter.
func isSNPReport(report []byte) bool {
	version := leadingU32(report)
	return version >= 2 && version < 16 && binary.LittleEndian.Uint32(report[0x34:]) == 1
}

func leadingU32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// WrapQuote puts the Open Enclave report header before a DCAP quote, the form that Coordinators and Marbles of the
// reference send and expect: u32 1, u32 2, u64 size ‖ quote.
func WrapQuote(quote []byte) []byte {
	out := make([]byte, oeReportHeader, oeReportHeader+len(quote))
	binary.LittleEndian.PutUint32(out, 1)
	binary.LittleEndian.PutUint32(out[4:], oeTypeSGXRemote)
	binary.LittleEndian.PutUint64(out[8:], uint64(len(quote)))
	return append(out, quote...)
}

// WrapSNP puts the Open Enclave attestation header with SNPFormatUUID before an SNP report (1184 bytes) and its
// certificate table, which may be empty.
func WrapSNP(report, certTable []byte) []byte {
	size := len(report) + len(certTable)
	out := make([]byte, oeAttestationHeader, oeAttestationHeader+size)
	binary.LittleEndian.PutUint32(out, 3)
	copy(out[4:], SNPFormatUUID)
	binary.LittleEndian.PutUint64(out[20:], uint64(size))
	return append(append(out, report...), certTable...)
}
