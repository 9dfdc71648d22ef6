// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// SignQuote verifies a quote and signs it together with its TCB status (client-api.md §11). Any status is accepted and
// reported; the signature is ASN.1 ECDSA by the root key over SHA-256(base64(quote as sent) ‖ status).
func (c *Coordinator) SignQuote(ctx context.Context, quote []byte) (string, []byte, error) {
	k, err := c.running()
	if err != nil {
		return "", nil, err
	}
	switch {
	case len(quote) == 0:
		return "", nil, quoteRefused(fmt.Errorf("empty report"))
	case c.cfg.Verifier == nil:
		return "", nil, quoteRefused(fmt.Errorf("OE_UNSUPPORTED"))
	case len(quote) > maxEvidence:
		return "", nil, quoteRefused(fmt.Errorf("%d bytes, at most %d are allowed", len(quote), maxEvidence))
	}
	claims, err := c.cfg.Verifier.Verify(ctx, quote)
	if err != nil {
		return "", nil, quoteRefused(err)
	}
	status := string(claims.TCBStatus)
	digest := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString(quote) + status))
	signature, err := ecdsa.SignASN1(c.cfg.Rand, k.state.Load().ca.RootKey, digest[:])
	if err != nil {
		return "", nil, refuse(Internal, "signing quote: %w", err)
	}
	return status, signature, nil
}

func quoteRefused(err error) error { return refuse(QuoteRefused, "quote verification failed: %w", err) }
