// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"github.com/marblerun/marblerun/attest/dcap/internal/der"
)

// CRL is a certificate revocation list in one of the forms that the services hand out: DER, its hex digits, or PEM. In
// JSON it is the hex digits of the DER.
type CRL []byte

// MarshalText renders the hex digits of the DER.
func (c CRL) MarshalText() ([]byte, error) {
	if len(c) == 0 {
		return nil, nil
	}
	raw, err := c.DER()
	return hex.AppendEncode(nil, raw), err
}

// UnmarshalText reads hex digits or PEM and keeps the DER.
func (c *CRL) UnmarshalText(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		*c = nil
		return nil
	}
	raw, err := CRL(bytes.Clone(text)).DER()
	*c = raw
	return err
}

// DER returns the DER of a CRL that is not empty.
func (c CRL) DER() ([]byte, error) {
	if isSequence(c) { // hex digits begin with '3', PEM with '-'
		return c, nil
	}
	text := bytes.TrimSpace(c)
	if bytes.HasPrefix(text, []byte("-----BEGIN")) {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 || !isSequence(block.Bytes) {
			return nil, errors.New("PEM is not one X509 CRL")
		}
		return block.Bytes, nil
	}
	raw, err := hex.AppendDecode(nil, text)
	if err != nil || !isSequence(raw) {
		return nil, errors.New("CRL is neither DER, hex digits nor PEM")
	}
	return raw, nil
}

func isSequence(raw []byte) bool { return len(raw) > 0 && raw[0] == der.Sequence }
