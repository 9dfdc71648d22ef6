// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/attest"
)

// Verifier turns evidence into claims, or says why it is not genuine. A TCB status below UpToDate is no error: it is a
// claim, and the policy decides.
type Verifier interface {
	Verify(ctx context.Context, evidence []byte) (*attest.Claims, error)
}

// Coordinator is what a verification found.
type Coordinator struct {
	// Root is the certificate to pin, Intermediate is signed by it.
	Root, Intermediate *x509.Certificate
	// Quote is the evidence as it came. Nil if the Coordinator has none, which only InsecureSkipVerify tolerates.
	Quote []byte
	// Claims is what the quote says; nil with InsecureSkipVerify.
	Claims *attest.Claims
	// Notes are things a person should know, e.g. that the TCB is out of date but accepted.
	Notes []string
}

// Connect verifies the Coordinator at endpoint and returns a client that is pinned to its root certificate.
// The Root of client is ignored.
func Connect(
	ctx context.Context, endpoint string, verify VerifyOptions, client Options,
) (*Client, *Coordinator, error) {
	coordinator, err := verifyCoordinator(ctx, endpoint, verify, client)
	if err != nil {
		return nil, nil, err
	}
	client.Root = coordinator.Root
	c, err := NewClient(endpoint, client)
	return c, coordinator, err
}

// VerifyCoordinator fetches the certificates and the quote of the Coordinator at endpoint ("host:port") and verifies
// them: the quote is genuine (Verifier) and fits the policy, its report data is SHA-256(root DER ‖ nonce), the
// intermediate is signed by the root, and the server of this very connection owns the root.
func VerifyCoordinator(ctx context.Context, endpoint string, o VerifyOptions) (*Coordinator, error) {
	return verifyCoordinator(ctx, endpoint, o, Options{})
}

func verifyCoordinator(ctx context.Context, endpoint string, o VerifyOptions, client Options) (*Coordinator, error) {
	if err := o.usable(); err != nil {
		return nil, err
	}
	// Who serves the quote is not known yet, so this connection carries no client certificate and is used for nothing
	// else.
	c, err := NewClient(endpoint, Options{InsecureAnyServer: true, Timeout: client.Timeout, Dial: client.Dial})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	coordinator, err := c.coordinator(ctx, o.Nonce)
	if err != nil {
		return nil, err
	}
	if !o.InsecureSkipVerify {
		err = coordinator.verify(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return coordinator, nil
}

// usable tells whether a verification could succeed at all, before anything is sent.
func (o VerifyOptions) usable() error {
	if o.Verifier == nil && !o.InsecureSkipVerify {
		return WithHint(errors.New("no verifier for the Coordinator's quote"),
			"Set VerifyOptions.Verifier. For tests, InsecureSkipVerify (--insecure) skips the quote.")
	}
	return o.Validate()
}

// coordinator fetches the quote and checks all that needs no verifier.
func (c *Client) coordinator(ctx context.Context, nonce []byte) (*Coordinator, error) {
	quote, peer, err := c.quote(ctx, nonce)
	if err != nil {
		return nil, err
	}
	root, intermediate, err := parseChain([]byte(quote.Cert))
	if err != nil {
		return nil, err
	}
	if err := checkPin(peer.tls, root.Raw); err != nil {
		return nil, err
	}
	return &Coordinator{Root: root, Intermediate: intermediate, Quote: quote.Quote}, nil
}

func (c *Client) quote(ctx context.Context, nonce []byte) (wire.QuoteV2, reply, error) {
	var query url.Values
	if len(nonce) > 0 {
		query = url.Values{"nonce": {base64.URLEncoding.EncodeToString(nonce)}}
	}
	var quote wire.QuoteV2
	r, err := c.do(ctx, call{path: v2 + "/quote", query: query})
	if err == nil {
		err = decode("/quote", r.data, &quote)
		return quote, r, err
	}
	if !isNotAllowed(err) {
		return quote, r, err
	}
	if len(nonce) > 0 {
		return quote, r, errors.New("using custom nonce requires /api/v2, but the Coordinator does not support /api/v2")
	}
	var old wire.QuoteV1
	if r, err = c.do(ctx, call{path: "/quote"}); err == nil {
		err = decode("/quote", r.data, &old)
	}
	return wire.QuoteV2(old), r, err
}

// parseChain reads the two certificates of a quote reply, intermediate first, and checks that the root signed the
// intermediate.
func parseChain(chain []byte) (root, intermediate *x509.Certificate, err error) {
	intermediate, rest, err := nextCertificate(chain)
	if err != nil {
		return nil, nil, fmt.Errorf("could not parse Coordinator intermediate certificate from PEM data: %w", err)
	}
	root, _, err = nextCertificate(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("could not parse Coordinator root certificate from PEM data: %w", err)
	}
	if err := intermediate.CheckSignatureFrom(root); err != nil {
		return nil, nil, fmt.Errorf("the Coordinator's intermediate certificate is not signed by its root: %w", err)
	}
	return root, intermediate, nil
}

func nextCertificate(data []byte) (*x509.Certificate, []byte, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, nil, errors.New("no PEM block")
	}
	if block.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("unexpected PEM block %q", block.Type)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	return certificate, rest, err
}

// verify checks the quote and leaves claims and notes in k.
func (k *Coordinator) verify(ctx context.Context, o VerifyOptions) error {
	if len(k.Quote) == 0 {
		return WithHint(ErrNoQuote, "It may run in simulation, which only VerifyOptions.InsecureSkipVerify accepts, in code.")
	}
	claims, err := o.Verifier.Verify(ctx, k.Quote)
	if err == nil && claims == nil {
		err = errors.New("the verifier made no claims")
	}
	if err != nil {
		return fmt.Errorf("verifying the Coordinator's quote: %w", err)
	}
	if reason := attest.CheckReportHash(claims, reportHash(k.Root, o.Nonce)); reason != nil {
		return WithHint(ErrReportData, "The quote speaks for another certificate, or the nonce is not in it.")
	}
	verdict := o.Policy(claims.TEE).Check(claims)
	if !verdict.Accepted {
		return &PolicyError{Verdict: verdict, Claims: claims}
	}
	k.Claims = claims
	k.Notes = append(notes(claims, verdict.TCBStatus), verdict.Notes...)
	return nil
}

// reportHash is SHA-256(root DER ‖ nonce), which the report data must be, followed by zeros.
func reportHash(root *x509.Certificate, nonce []byte) [sha256.Size]byte {
	return sha256.Sum256(slices.Concat(root.Raw, nonce))
}

// notes tells of an accepted status that is not simply good. The words are those of MarbleRun 1.x.
func notes(claims *attest.Claims, status attest.TCBStatus) []string {
	var lines []string
	switch status {
	case attest.UpToDate:
	case attest.SWHardeningNeeded:
		lines = append(lines, "TCB level accepted by configuration: "+string(status))
	default:
		lines = append(lines, "Warning: TCB level invalid, but accepted by configuration: "+string(status))
	}
	if status != attest.UpToDate && len(claims.Advisories) > 0 {
		lines = append(lines, fmt.Sprintf("TCB Advisories: %v", claims.Advisories))
	}
	if slices.ContainsFunc(claims.Collateral, isSoftwareRoot) {
		lines = append(lines, "Warning: the Coordinator runs in a software TEE: no hardware protects it")
	}
	if claims.Debug {
		lines = append(lines, "Warning: the Coordinator runs in a debug TEE, its memory is not secret")
	}
	return lines
}

// isSoftwareRoot recognizes how claims name the root of a software TEE (package attest/verifier).
func isSoftwareRoot(id string) bool { return strings.HasPrefix(id, "root:software:") }

// VerifyDeployment verifies the Coordinator and that it runs the given manifest: its exact bytes or, if it has 32
// bytes, its SHA-256. (No manifest has 32 bytes.)
func VerifyDeployment(ctx context.Context, endpoint string, o VerifyOptions, manifest []byte) (*Coordinator, error) {
	c, coordinator, err := Connect(ctx, endpoint, o, Options{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	want := manifest
	if len(manifest) != sha256.Size {
		sum := sha256.Sum256(manifest)
		want = sum[:]
	}
	if err := c.CheckManifest(ctx, hex.EncodeToString(want)); err != nil {
		return nil, err
	}
	return coordinator, nil
}
