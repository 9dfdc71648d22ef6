// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/marblerun/marblerun/attest"
)

// quoteLike begins like a DCAP quote.
func quoteLike(version uint16, tee uint32, size int) []byte {
	q := make([]byte, size)
	binary.LittleEndian.PutUint16(q, version)
	binary.LittleEndian.PutUint16(q[2:], 2)
	binary.LittleEndian.PutUint32(q[4:], tee)
	vendor, _ := hex.DecodeString("939a7233f79c4ca9940a0db3957f0607")
	copy(q[12:], vendor)
	return q
}

func reportLike(version uint32) []byte {
	r := make([]byte, attest.SNPReportSize)
	binary.LittleEndian.PutUint32(r, version)
	r[0x34] = 1
	return r
}

func TestParse(t *testing.T) {
	sgx, tdx, snp := quoteLike(3, 0, 500), quoteLike(4, 0x81, 700), reportLike(3)
	table := []byte("certificate table")
	oe := attest.WrapQuote(sgx)
	for name, test := range map[string]struct {
		raw    []byte
		format attest.Format
		tee    attest.TEE
		quote  []byte
		table  []byte
	}{
		"raw SGX quote v3":           {sgx, attest.FormatDCAPQuote, attest.SGX, sgx, nil},
		"raw TDX quote v4":           {tdx, attest.FormatDCAPQuote, attest.TDX, tdx, nil},
		"raw quote of 1184 bytes":    {quoteLike(5, 0, 1184), attest.FormatDCAPQuote, attest.SGX, quoteLike(5, 0, 1184), nil},
		"OE report with SGX quote":   {oe, attest.FormatOEReport, attest.SGX, sgx, nil},
		"OE report with TDX quote":   {attest.WrapQuote(tdx), attest.FormatOEReport, attest.TDX, tdx, nil},
		"OE report, bytes after":     {append(bytes.Clone(oe), 0, 0, 0), attest.FormatOEReport, attest.SGX, sgx, nil},
		"raw SNP report v3":          {snp, attest.FormatSNPReport, attest.SNP, snp, nil},
		"raw SNP report v2":          {reportLike(2), attest.FormatSNPReport, attest.SNP, reportLike(2), nil},
		"raw SNP report v5":          {reportLike(5), attest.FormatSNPReport, attest.SNP, reportLike(5), nil},
		"extended SNP report v3":     {append(reportLike(3), table...), attest.FormatSNPReport, attest.SNP, snp, table},
		"SNP report with table":      {attest.WrapSNP(snp, table), attest.FormatSNPTable, attest.SNP, snp, table},
		"SNP report without a table": {attest.WrapSNP(snp, nil), attest.FormatSNPTable, attest.SNP, snp, nil},
	} {
		got, err := attest.Parse(test.raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Format != test.format || got.TEE != test.tee || !bytes.Equal(got.Quote, test.quote) ||
			!bytes.Equal(got.CertTable, test.table) || !bytes.Equal(got.Raw, test.raw) {
			t.Errorf("%s: got %s %s, quote of %d bytes, table %q", name, got.Format, got.TEE, len(got.Quote), got.CertTable)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	edit := func(raw []byte, offset int, value byte) []byte {
		raw = bytes.Clone(raw)
		raw[offset] = value
		return raw
	}
	oe, snp := attest.WrapQuote(quoteLike(3, 0, 500)), attest.WrapSNP(reportLike(3), nil)
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":                           {nil, "empty"},
		"too much":                          {make([]byte, attest.MaxEvidence+1), "limit"},
		"one byte":                          {[]byte{1}, "neither"},
		"zeros":                             {make([]byte, 2000), "neither"},
		"other vendor":                      {edit(quoteLike(3, 0, 500), 12, 0), "neither"},
		"version 6":                         {quoteLike(6, 0, 500), "neither"},
		"OE header alone":                   {oe[:12], "needs 16 bytes"},
		"OE size beyond the end":            {edit(oe, 10, 1), "follow"},
		"OE size beyond 64 bits":            {edit(oe, 15, 0xff), "follow"},
		"OE local report":                   {edit(oe, 4, 1), "local"},
		"OE type 3":                         {edit(oe, 4, 3), "unknown"},
		"OE report of another vendor":       {edit(oe, 16+12, 0), "no ECDSA quote"},
		"OE report of an SNP report":        {attest.WrapQuote(reportLike(3)), "no ECDSA quote"},
		"attestation header alone":          {snp[:20], "needs 28 bytes"},
		"attestation of another format":     {edit(snp, 5, 0), "not supported"},
		"attestation size too large":        {edit(snp, 22, 1), "follow"},
		"attestation size too small":        {edit(snp, 20, 0), "no report"},
		"SNP report of 1183 bytes":          {reportLike(3)[:1183], "not supported"},
		"SNP report of 1182 bytes, v5":      {reportLike(5)[:1182], "neither"},
		"SNP report with another algorithm": {edit(reportLike(2), 0x34, 2), "neither"},
	} {
		_, err := attest.Parse(test.raw)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSNPFormatUUID(t *testing.T) {
	id, err := uuid.FromBytes([]byte(attest.SNPFormatUUID))
	if err != nil || id.String() != "bd6661e9-e457-42ed-810f-03b5b71d106a" || id.Version() != 4 {
		t.Error(id, err)
	}
}

// FuzzParse: what is taken out lies within what came in.
func FuzzParse(f *testing.F) {
	f.Add(quoteLike(4, 0x81, 100))
	f.Add(attest.WrapQuote(quoteLike(3, 0, 100)))
	f.Add(attest.WrapSNP(reportLike(3), []byte("table")))
	f.Add(reportLike(2))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := attest.Parse(raw)
		if err != nil {
			return
		}
		if len(e.Quote)+len(e.CertTable) > len(raw) || !bytes.Contains(raw, e.Quote) || len(e.Quote) < 48 {
			t.Errorf("quote of %d and table of %d bytes out of %d", len(e.Quote), len(e.CertTable), len(raw))
		}
		if e.TEE == attest.SNP && len(e.Quote) != attest.SNPReportSize {
			t.Errorf("SNP report of %d bytes", len(e.Quote))
		}
	})
}
