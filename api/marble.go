// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
)

// NewMarbleClient returns a client with the credentials that a Marble finds in its environment: the
// MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN and MARBLE_PREDEFINED_PRIVATE_KEY to authenticate, the
// MARBLE_PREDEFINED_COORDINATOR_ROOT_CA to pin. Root and ClientCertificate of o are ignored; pass os.Getenv.
func NewMarbleClient(endpoint string, getenv func(string) string, o Options) (*Client, error) {
	const chainName, keyName = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN", "MARBLE_PREDEFINED_PRIVATE_KEY"
	const rootName = "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"
	for _, name := range []string{chainName, keyName, rootName} {
		if getenv(name) == "" {
			return nil, WithHint(fmt.Errorf("environment variable not set: %s", name), "This works only inside a Marble.")
		}
	}
	certificate, err := tls.X509KeyPair([]byte(getenv(chainName)), []byte(getenv(keyName)))
	if err != nil {
		return nil, fmt.Errorf("loading the Marble's credentials: %w", err)
	}
	root, _, err := nextCertificate([]byte(getenv(rootName)))
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", rootName, err)
	}
	o.Root, o.ClientCertificate = root, &certificate
	return NewClient(endpoint, o)
}

// SetMonotonicCounter raises the Marble's counter to value, unless it is higher already, and returns the value before.
func (c *Client) SetMonotonicCounter(ctx context.Context, name string, value uint64) (previous uint64, err error) {
	body := wire.MonotonicCounterRequest{Name: name, Value: value}
	r, err := post[wire.MonotonicCounterReply](ctx, c, v2+"/monotonic-counter", body)
	return r.Value, err
}

// SignQuote has the Coordinator verify an SGX quote, of any TCB status, and sign the result with its root key.
func (c *Client) SignQuote(ctx context.Context, quote []byte) (signature []byte, status attest.TCBStatus, err error) {
	r, err := post[wire.SignQuoteReply](ctx, c, v2+"/sign-quote", wire.SignQuoteRequest{SGXQuote: quote})
	if err != nil {
		return nil, "", err
	}
	status = attest.TCBStatus(r.TCBStatus)
	if !known(status) {
		return nil, "", fmt.Errorf("unknown TCB status %q", r.TCBStatus)
	}
	return r.VerificationSignature, status, nil
}

func known(status attest.TCBStatus) bool {
	switch status {
	case attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded, attest.ConfigurationAndSWHardeningNeeded,
		attest.OutOfDate, attest.OutOfDateConfigurationNeeded, attest.Revoked,
		attest.TDRelaunchAdvised, attest.TDRelaunchAdvisedConfigurationNeed:
		return true
	}
	return false
}

// VerifySignedQuote tells whether the owner of root signed this quote, exactly as it was sent, with this status:
// ECDSA, ASN.1, over SHA-256(base64(quote) ‖ status).
func VerifySignedQuote(root *x509.Certificate, quote, signature []byte, status attest.TCBStatus) bool {
	key, ok := root.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return false
	}
	digest := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString(quote) + string(status)))
	return ecdsa.VerifyASN1(key, digest[:], signature)
}
