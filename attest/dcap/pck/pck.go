// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package pck reads what a PCK certificate, Intel's certificate of a platform, states about it (FORMATS §1.7). Nothing
// is verified here.
package pck

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/attest/dcap/internal/der"
	"github.com/marblerun/marblerun/attest/dcap/tcb"
)

// CA is a CA that issues PCK certificates, as the provisioning service names its CRL.
type CA string

// The CAs.
const (
	PlatformCA  CA = "platform"
	ProcessorCA CA = "processor"
)

// Platform is what a PCK certificate states.
type Platform struct {
	PPID    [16]byte
	SVN     tcb.SVNs
	PCESVN  uint16
	CPUSVN  [16]byte
	PCEID   [2]byte
	FMSPC   [6]byte
	SGXType int // 0 standard, 1 scalable, 2 scalable with integrity
	// PlatformInstanceID is of multi-package platforms (platform CA), else nil.
	PlatformInstanceID []byte // 16 bytes
	// CA issued the certificate.
	CA CA
}

// sgxExtension is OID 1.2.840.113741.1.13.1 in DER; the items within append to it.
const sgxExtension = "\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01"

// Parse reads the facts of a PCK certificate.
func Parse(cert *x509.Certificate) (*Platform, error) {
	ca, err := issuingCA(cert.Issuer.CommonName)
	if err != nil {
		return nil, err
	}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}) {
			continue
		}
		platform, err := ParseExtension(e.Value)
		if err != nil {
			return nil, fmt.Errorf("SGX extension of the PCK certificate: %w", err)
		}
		platform.CA = ca
		return platform, nil
	}
	return nil, errors.New("certificate has no SGX extension: it is not a PCK certificate")
}

// issuingCA recognizes the CA by its common name: "Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA".
func issuingCA(commonName string) (CA, error) {
	switch {
	case strings.Contains(commonName, "PCK Platform CA"):
		return PlatformCA, nil
	case strings.Contains(commonName, "PCK Processor CA"):
		return ProcessorCA, nil
	}
	return "", fmt.Errorf("issuer %.64q of the PCK certificate is neither the Platform CA nor the Processor CA", commonName)
}

// parser reads items; each may come once.
type parser struct {
	platform Platform
	seen     uint32
}

// ParseExtension reads the value of the extension: SEQUENCE OF SEQUENCE{OID, value}. CA stays empty.
func ParseExtension(value []byte) (*Platform, error) {
	outer := der.New(value)
	items := outer.Into(der.Sequence)
	if err := outer.End(); err != nil {
		return nil, err
	}
	var p parser
	if err := eachItem(items, p.item); err != nil {
		return nil, err
	}
	const mandatory = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5
	if p.seen&mandatory != mandatory {
		return nil, errors.New("PPID, TCB, PCE-ID, FMSPC or type is missing")
	}
	return &p.platform, nil
}

// eachItem calls item with the last part of each OID and a reader of its value.
func eachItem(items *der.Reader, item func(id []byte, value *der.Reader) error) error {
	for items.More() {
		one := items.Into(der.Sequence)
		oid := one.Content(der.OID)
		if one.Err() != nil {
			return one.Err()
		}
		id, ok := bytes.CutPrefix(oid, []byte(sgxExtension))
		if !ok || len(id) == 0 {
			return fmt.Errorf("unexpected OID %x", oid)
		}
		if err := item(id, one); err != nil {
			return err
		}
		if err := one.End(); err != nil {
			return err
		}
	}
	return items.End()
}

func (p *parser) item(id []byte, value *der.Reader) error {
	if len(id) != 1 {
		return fmt.Errorf("unexpected item %x", id)
	}
	if id[0] < 32 {
		if p.seen&(1<<id[0]) != 0 {
			return fmt.Errorf("item %d appears twice", id[0])
		}
		p.seen |= 1 << id[0]
	}
	switch id[0] {
	case 1:
		value.Octets(p.platform.PPID[:])
	case 2:
		return p.tcb(value)
	case 3:
		value.Octets(p.platform.PCEID[:])
	case 4:
		value.Octets(p.platform.FMSPC[:])
	case 5:
		p.platform.SGXType = value.Uint(der.Enumerated, 127)
	case 6:
		p.platform.PlatformInstanceID = make([]byte, 16)
		value.Octets(p.platform.PlatformInstanceID)
	default: // 7: configuration, and what may come
		value.Element()
	}
	return value.Err()
}

// tcb reads SEQUENCE OF SEQUENCE{OID, value}: components 1 to 16, PCESVN 17, CPUSVN 18, each exactly once.
func (p *parser) tcb(value *der.Reader) error {
	seen := uint32(0)
	err := eachItem(value.Into(der.Sequence), func(id []byte, value *der.Reader) error {
		if len(id) != 2 || id[0] != 2 || id[1] < 1 || id[1] > 18 || seen&(1<<id[1]) != 0 {
			return fmt.Errorf("unexpected or repeated TCB item %x", id)
		}
		seen |= 1 << id[1]
		switch n := id[1]; n {
		case 17:
			p.platform.PCESVN = uint16(value.Uint(der.Integer, 1<<16-1))
		case 18:
			value.Octets(p.platform.CPUSVN[:])
		default:
			p.platform.SVN[n-1] = uint8(value.Uint(der.Integer, 255))
		}
		return value.Err()
	})
	if err == nil && seen != 1<<19-2 {
		err = errors.New("TCB item is missing")
	}
	return err
}
