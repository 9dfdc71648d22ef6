// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/attest"
)

// Sizes in bytes (FORMATS §1, §2, §5).
const (
	quoteHeaderSize  = 48
	bodyHeaderSize   = 6 // quote version 5: u16 type, u32 size
	sgxReportDataOff = 320
	tdxReportDataOff = 520
	snpReportDataOff = 0x50
)

// wrapQuote checks that an SGX or TDX quote carries reportData and puts the Open Enclave report header before it:
// version 1, type 2 (remote), length.
func wrapQuote(quote []byte, reportData [64]byte) ([]byte, error) {
	if len(quote) == 0 {
		return nil, errors.New("the quote is empty")
	}
	if len(quote)+16 > attest.MaxEvidence {
		return nil, fmt.Errorf("the quote has %d bytes, more than a Coordinator takes", len(quote))
	}
	carried, err := quoteReportData(quote)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(carried, reportData[:]) {
		return nil, errReportData
	}
	return attest.WrapQuote(quote), nil
}

var errReportData = errors.New("the evidence carries other report data than asked for; is the interface shared?")

// quoteReportData returns the report data of a quote, version 3, 4 or 5, without verifying anything.
func quoteReportData(quote []byte) ([]byte, error) {
	if len(quote) < quoteHeaderSize+bodyHeaderSize {
		return nil, fmt.Errorf("the quote has only %d bytes", len(quote))
	}
	var offset int
	version, tee := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint32(quote[4:])
	body := binary.LittleEndian.Uint16(quote[quoteHeaderSize:]) // version 5 only
	switch {
	case version == 3, version == 4 && tee == 0:
		offset = quoteHeaderSize + sgxReportDataOff
	case version == 4 && tee == 0x81:
		offset = quoteHeaderSize + tdxReportDataOff
	case version == 5 && body == 1:
		offset = quoteHeaderSize + bodyHeaderSize + sgxReportDataOff
	case version == 5 && (body == 2 || body == 3):
		offset = quoteHeaderSize + bodyHeaderSize + tdxReportDataOff
	default:
		return nil, fmt.Errorf("the quote has an unknown form (version %d, TEE type %#x)", version, tee)
	}
	if len(quote) < offset+64 {
		return nil, fmt.Errorf("the quote has only %d bytes", len(quote))
	}
	return quote[offset:][:64], nil
}

// wrapReport checks that an SNP report carries reportData and puts the Open Enclave attestation header before it and
// its certificate table.
func wrapReport(report, table []byte, reportData [64]byte) ([]byte, error) {
	if len(report) != attest.SNPReportSize {
		return nil, fmt.Errorf("the SNP report has %d bytes instead of %d", len(report), attest.SNPReportSize)
	}
	if !bytes.Equal(report[snpReportDataOff:][:64], reportData[:]) {
		return nil, errReportData
	}
	evidence := attest.WrapSNP(report, table)
	if len(evidence) > attest.MaxEvidence {
		return nil, fmt.Errorf("the SNP evidence has %d bytes, more than a Coordinator takes", len(evidence))
	}
	return evidence, nil
}
