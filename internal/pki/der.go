// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"errors"
	"math/bits"
	"time"
)

// DER tags used here.
const (
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagExtensions      = 0xa3 // [3] EXPLICIT, constructed
	tagDNSName         = 0x82 // GeneralName [2] IMPLICIT IA5String
	tagIPAddress       = 0x87 // GeneralName [7] IMPLICIT OCTET STRING
)

// Constant parts of the profile, DER. The property test compares the whole with x509's.
const (
	derVersion3 = "\xa0\x03\x02\x01\x02"
	// derECDSAWithSHA384 is AlgorithmIdentifier 1.2.840.10045.4.3.3 without parameters.
	derECDSAWithSHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	// derSubjectPrefix comes before a common name of 36 characters, a PrintableString.
	derSubjectPrefix = "\x30\x2f\x31\x2d\x30\x2b\x06\x03\x55\x04\x03\x13\x24"
	// derSPKIPrefix comes before an uncompressed P-384 point of 97 bytes.
	derSPKIPrefix = "\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00"
	// derPKCS8Prefix comes before a P-384 scalar of 48 bytes, derPKCS8Middle between it and the point.
	derPKCS8Prefix = "\x30\x81\xb6\x02\x01\x00\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22" +
		"\x04\x81\x9e\x30\x81\x9b\x02\x01\x01\x04\x30"
	derPKCS8Middle = "\xa1\x64\x03\x62\x00"
	// derLeafUsages are the extensions key usage (critical; digitalSignature, keyAgreement), extended key usage
	// (serverAuth, clientAuth) and basic constraints (critical; not a CA).
	derLeafUsages = "\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x03\x88" +
		"\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14" +
		"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02" +
		"\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00"
	// derAKIPrefix comes before a key identifier of 20 bytes.
	derAKIPrefix = "\x30\x1f\x06\x03\x55\x1d\x23\x04\x18\x30\x16\x80\x14"
	// derSubjectAltNameOID is 2.5.29.17, derMarbleTypeOID is 1.3.9903.2.1.
	derSubjectAltNameOID = "\x06\x03\x55\x1d\x11"
	derMarbleTypeOID     = "\x06\x05\x2b\xcd\x2f\x02\x01"
)

// appendTLV appends a DER element whose content is the concatenation of parts.
func appendTLV(dst []byte, tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	dst = appendLength(append(dst, tag), n)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// appendLength appends a definite length in its shortest form.
func appendLength(dst []byte, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	octets := (bits.Len(uint(n)) + 7) / 8
	dst = append(dst, 0x80|byte(octets))
	for i := octets - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// appendUnsigned appends the INTEGER of a big-endian number, in its shortest form.
func appendUnsigned(dst, number []byte) []byte {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	if len(number) > 0 && number[0]&0x80 != 0 {
		return appendTLV(dst, tagInteger, []byte{0}, number)
	}
	return appendTLV(dst, tagInteger, number)
}

// appendTime appends a Time as RFC 5280 §4.1.2.5 wants it: UTCTime through 2049, GeneralizedTime from 2050 on.
func appendTime(dst []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	switch year := t.Year(); {
	case year >= 1950 && year < 2050:
		return appendTLV(dst, tagUTCTime, []byte(t.Format("060102150405Z"))), nil
	case year >= 0 && year <= 9999:
		return appendTLV(dst, tagGeneralizedTime, []byte(t.Format("20060102150405Z"))), nil
	default:
		return nil, errors.New("a certificate cannot express this time: check the clock")
	}
}
