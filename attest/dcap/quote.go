// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/marblerun/marblerun/attest"
)

// Sizes in bytes (FORMATS §1).
const (
	headerSize    = 48
	sgxBodySize   = 384
	tdx10BodySize = 584
	tdx15BodySize = 648
	pointSize     = 64 // X ‖ Y and r ‖ s, big endian
)

const (
	teeTypeSGX = 0
	teeTypeTDX = 0x81

	keyTypeP256 = 2
)

// intelVendor is the QE vendor id of Intel's quoting enclaves.
const intelVendor = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"

// Hex is bytes that print as hex digits.
type Hex []byte

// MarshalText renders lower-case hex digits.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// String renders lower-case hex digits.
func (h Hex) String() string { return hex.EncodeToString(h) }

// Quote is a parsed quote; nothing in it is verified. Its byte fields alias the bytes it was parsed from.
type Quote struct {
	Version     uint16     `json:"version"`         // 3, 4, 5
	KeyType     uint16     `json:"keyType"`         // attestation key type: 2, ECDSA P-256
	TEE         attest.TEE `json:"tee"`             // SGX or TDX
	QESVN       uint16     `json:"qeSVN,omitempty"` // version 3 only, as PCESVN
	PCESVN      uint16     `json:"pceSVN,omitempty"`
	QEVendorID  Hex        `json:"qeVendorID"`         // 16 bytes
	UserData    Hex        `json:"userData"`           // 20 bytes
	BodyType    uint16     `json:"bodyType,omitempty"` // version 5: 1 SGX, 2 TD 1.0, 3 TD 1.5
	SGX         *SGXReport `json:"sgx,omitempty"`
	TDX         *TDReport  `json:"tdx,omitempty"`
	Signature   Hex        `json:"signature"`      // 64 bytes, r ‖ s
	Key         Hex        `json:"attestationKey"` // 64 bytes, X ‖ Y
	QEReport    *SGXReport `json:"qeReport"`
	QESignature Hex        `json:"qeReportSignature"` // 64 bytes
	QEAuthData  Hex        `json:"qeAuthData"`
	// CertificationType says what vouches for the QE report: 5 is a PCK certificate chain.
	CertificationType uint16 `json:"certificationType"`
	CertificationData []byte `json:"-"`
	// Trailing counts the bytes after the quote: QGS and clouds pad with zeros.
	Trailing int `json:"trailing,omitempty"`

	signed []byte // header ‖ (type ‖ size) ‖ body: what the attestation key signs
}

// ParseQuote reads an SGX quote of version 3, 4 or 5 or a TDX quote of version 4 or 5 (TD report 1.0 or 1.5). Bytes
// after the quote are tolerated; within it every size must be exact.
func ParseQuote(data []byte) (*Quote, error) {
	c := &cursor{rest: data}
	q := &Quote{}
	if err := q.header(c); err != nil {
		return nil, err
	}
	if err := q.body(c); err != nil {
		return nil, err
	}
	q.signed = data[:len(data)-len(c.rest)]
	signature := &cursor{rest: c.take(int64(c.u32()), "signature data")}
	if c.err != nil {
		return nil, c.err
	}
	q.Trailing = len(c.rest)
	if err := q.signatureData(signature); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *Quote) header(c *cursor) error {
	h := c.take(headerSize, "header")
	if c.err != nil {
		return c.err
	}
	q.Version = binary.LittleEndian.Uint16(h)
	q.KeyType = binary.LittleEndian.Uint16(h[2:])
	q.QEVendorID, q.UserData = h[12:28], h[28:48]
	if q.Version < 3 || q.Version > 5 {
		return fmt.Errorf("quote version %d is not supported, only 3 to 5", q.Version)
	}
	if q.KeyType != keyTypeP256 {
		return fmt.Errorf("attestation key type %d is not supported, only %d (ECDSA P-256)", q.KeyType, keyTypeP256)
	}
	if !bytes.Equal(q.QEVendorID, []byte(intelVendor)) {
		return fmt.Errorf("quote is not by a quoting enclave of Intel: vendor id %s", q.QEVendorID)
	}
	switch tee := binary.LittleEndian.Uint32(h[4:]); {
	case tee == teeTypeSGX:
		q.TEE = attest.SGX
	case tee == teeTypeTDX && q.Version > 3:
		q.TEE = attest.TDX
	default:
		return fmt.Errorf("TEE type %#x is not known to quote version %d", tee, q.Version)
	}
	if q.Version == 3 {
		q.QESVN, q.PCESVN = binary.LittleEndian.Uint16(h[8:]), binary.LittleEndian.Uint16(h[10:])
	}
	return nil
}

// body reads the report body; before it version 5 says which kind and size.
func (q *Quote) body(c *cursor) error {
	size := int64(sgxBodySize)
	if q.TEE == attest.TDX {
		size = tdx10BodySize
	}
	if q.Version == 5 {
		q.BodyType = c.u16()
		said := int64(c.u32())
		if c.err == nil && (said != bodySize(q.BodyType) || (q.BodyType == 1) != (q.TEE == attest.SGX)) {
			return fmt.Errorf("body of type %d and %d bytes does not belong in a quote of %s", q.BodyType, said, q.TEE)
		}
		size = said
	}
	body := c.take(size, "report body")
	if c.err != nil {
		return c.err
	}
	if q.TEE == attest.SGX {
		q.SGX = parseSGXReport(body)
	} else {
		q.TDX = parseTDReport(body)
	}
	return nil
}

// bodySize is the size of a body type of version 5; -1 if there is no such type.
func bodySize(bodyType uint16) int64 {
	switch bodyType {
	case 1:
		return sgxBodySize
	case 2:
		return tdx10BodySize
	case 3:
		return tdx15BodySize
	}
	return -1
}

// signatureData reads all of c: FORMATS §1.5.
func (q *Quote) signatureData(c *cursor) error {
	q.Signature = c.take(pointSize, "quote signature")
	q.Key = c.take(pointSize, "attestation key")
	if q.Version > 3 {
		kind := c.u16()
		inner := &cursor{rest: c.take(int64(c.u32()), "QE report certification data"), err: c.err}
		if c.err == nil && kind != 6 {
			return fmt.Errorf("certification data type 6 expected in quote version %d, got %d", q.Version, kind)
		}
		if err := c.end("certification data"); err != nil {
			return err
		}
		c = inner
	}
	report := c.take(sgxBodySize, "QE report")
	q.QESignature = c.take(pointSize, "QE report signature")
	q.QEAuthData = c.take(int64(c.u16()), "QE authentication data")
	q.CertificationType = c.u16()
	q.CertificationData = c.take(int64(c.u32()), "certification data")
	if err := c.end("certification data"); err != nil {
		return err
	}
	q.QEReport = parseSGXReport(report)
	return nil
}

// cursor takes bytes from the front. The first error sticks; then everything is empty or 0.
type cursor struct {
	rest []byte
	err  error
}

// take returns the next n bytes, which hold what the name says.
func (c *cursor) take(n int64, name string) []byte {
	if c.err == nil && n > int64(len(c.rest)) {
		c.err = fmt.Errorf("quote is cut short: %s needs %d bytes, %d are left", name, n, len(c.rest))
	}
	if c.err != nil {
		return nil
	}
	out := c.rest[:n:n]
	c.rest = c.rest[n:]
	return out
}

func (c *cursor) u16() uint16 {
	if b := c.take(2, "a size"); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4, "a size"); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// end wants nothing to be left after what the name says.
func (c *cursor) end(name string) error {
	if c.err == nil && len(c.rest) > 0 {
		return fmt.Errorf("%d bytes follow the %s inside the quote", len(c.rest), name)
	}
	return c.err
}
