// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"encoding/binary"
	"fmt"
)

// Certification data types (FORMATS §1.5).
const (
	certPPIDPlain        = 1
	certPPIDRSA2048      = 2
	certPPIDRSA3072      = 3
	certPCKLeaf          = 4
	certPCKChain         = 5
	certQEReport         = 6
	certPlatformManifest = 7
)

// PlatformID names the PCK certificate of a quote that carries none (types 1 to 3).
type PlatformID struct {
	PPID      Hex    `json:"ppid,omitempty"` // 16 bytes; empty if encrypted to Intel
	Encrypted Hex    `json:"encryptedPPID,omitempty"`
	CPUSVN    Hex    `json:"cpuSVN"`
	PCESVN    uint16 `json:"pceSVN"`
	PCEID     Hex    `json:"pceID"` // 2 bytes
}

// Platform reads certification data of the types 1 to 3: PPID ‖ CPUSVN[16] ‖ PCESVN[2] ‖ PCEID[2].
func (q *Quote) Platform() (PlatformID, error) {
	size, ok := map[uint16]int{certPPIDPlain: 16, certPPIDRSA2048: 256, certPPIDRSA3072: 384}[q.CertificationType]
	if !ok {
		return PlatformID{}, fmt.Errorf("certification data of type %d holds no platform id", q.CertificationType)
	}
	d := q.CertificationData
	if len(d) != size+20 {
		return PlatformID{}, fmt.Errorf("certification data of type %d has %d bytes, %d expected", q.CertificationType,
			len(d),
			size+20)
	}
	id := PlatformID{CPUSVN: d[size : size+16], PCESVN: binary.LittleEndian.Uint16(d[size+16:]), PCEID: d[size+18:]}
	if q.CertificationType == certPPIDPlain {
		id.PPID = d[:size]
	} else {
		id.Encrypted = d[:size]
	}
	return id, nil
}

// pckChain returns the PEM chain of type 5, or says what a quote of another type would need.
func (q *Quote) pckChain() ([]byte, error) {
	switch q.CertificationType {
	case certPCKChain:
		return q.CertificationData, nil
	case certPPIDPlain, certPPIDRSA2048, certPPIDRSA3072:
		id, err := q.Platform()
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("quote carries no PCK certificate but only its name (certification data type %d): it needs "+
			"the PCK certificate of PCE-ID %s, CPUSVN %s, PCESVN %d; configure the platform's quote provider to embed the "+
			"chain (type %d)", q.CertificationType, id.PCEID, id.CPUSVN, id.PCESVN, certPCKChain)
	case certPCKLeaf:
		return nil,
			fmt.Errorf("quote carries the PCK certificate alone (certification data type %d): it needs the chain up to "+
				"Intel's root (type %d)", certPCKLeaf, certPCKChain)
	case certPlatformManifest:
		return nil,
			fmt.Errorf("quote carries a platform manifest (certification data type %d): the platform must be registered "+
				"with Intel, then quotes carry a PCK certificate chain (type %d)", certPlatformManifest, certPCKChain)
	case certQEReport:
		return nil, fmt.Errorf("certification data type %d inside itself", certQEReport)
	}
	return nil, fmt.Errorf("certification data type %d is not known; a PCK certificate chain (type %d) is needed",
		q.CertificationType, certPCKChain)
}
