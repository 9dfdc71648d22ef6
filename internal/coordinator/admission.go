// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/marblerun/marblerun/attest"
)

// event is the record of the admission.
func (a *activation) event(s *State) event {
	e := &marbleActivated{
		Number: s.activationCount + 1, Type: a.req.MarbleType, UUID: a.uuid,
		Package: s.manifest.manifest.Marbles[a.req.MarbleType].Package,
	}
	if a.claims != nil {
		hash := sha256.Sum256(a.req.Evidence)
		e.EvidenceSHA256 = hex.EncodeToString(hash[:])
		e.Claims, e.Collateral = recordedClaims(a.claims), a.claims.Collateral
	}
	return e
}

// maxRecordedClaims bounds the claims in an activation record, in bytes.
const maxRecordedClaims = 700

// recordedClaims is what an activation record keeps of the claims: all if that is short, else what identifies the TEE.
func recordedClaims(c *attest.Claims) json.RawMessage {
	if data, err := json.Marshal(c); err == nil && len(data) <= maxRecordedClaims {
		return data
	}
	short := map[string]any{"tee": c.TEE, "debug": c.Debug, "tcbStatus": c.TCBStatus, "machine": c.Machine}
	switch {
	case c.SGX != nil:
		short["mrenclave"], short["mrsigner"] = c.SGX.MRENCLAVE, c.SGX.MRSIGNER
		short["isvprodid"], short["isvsvn"] = c.SGX.ISVPRODID, c.SGX.ISVSVN
	case c.TDX != nil:
		short["mrtd"], short["rtmrSHA256"] = c.TDX.MRTD, fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, c.TDX.RTMR)))
	case c.SNP != nil:
		short["measurement"], short["reportedTCB"] = c.SNP.Measurement, c.SNP.Reported
	}
	data, err := json.Marshal(short)
	if err != nil {
		return nil
	}
	return data
}
