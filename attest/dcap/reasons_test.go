// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// TestEveryReason: what CRLs have against a chain hides nothing else, and what they refused is not remembered.
func TestEveryReason(t *testing.T) {
	flip := func(quote []byte) { quote[60] ^= 1 } // in CPUSVN, which the attestation key signed
	for name, test := range map[string]struct {
		forge func(*forge)
		want  []string
	}{
		"no CRLs": {col(func(c *dcap.Collateral) { c.PCKCRL, c.RootCACRL = nil, nil }),
			[]string{attest.CodeCRLMissing, attest.CodeCRLMissing, attest.CodeQuoteSignature}},
		"no root CRL, TCB info of another": {col(func(c *dcap.Collateral) {
			c.RootCACRL, c.TCBInfoSignature = nil, c.QEIdentitySignature
		}), []string{attest.CodeCRLMissing, attest.CodeTCBInfoSignature, attest.CodeQuoteSignature}},
		"PCK and TCB signing revoked": {func(f *forge) {
			f.revokedPCK, f.revokedRoot = []*big.Int{big.NewInt(serialPCK)}, []*big.Int{big.NewInt(serialSigning)}
		}, []string{attest.CodeRevoked, attest.CodeRevoked, attest.CodeQuoteSignature}},
		"PCK revoked, other platform": {func(f *forge) {
			f.revokedPCK = []*big.Int{big.NewInt(serialPCK)}
			f.info["fmspc"] = "00906ED50000"
		}, []string{attest.CodeRevoked, attest.CodeQuoteSignature, attest.CodeTCBInfoMismatch}},
	} {
		f := newForge(t, attest.SGX)
		test.forge(f)
		quote, collateral, opts := f.make(t)
		opts.Cache = dcap.NewChainCache(10)
		flip(quote)
		for range 2 { // with nothing remembered, and with what may be
			_, err := dcap.Verify(quote, collateral, opts)
			var refusal *attest.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("%s: %v", name, err)
			}
			var got []string
			for _, reason := range refusal.Reasons {
				got = append(got, reason.Code)
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s\n%v", name, diff, err)
			}
		}
	}
}

// TestReasonsAreShort: names that a stranger chose do not fill logs.
func TestReasonsAreShort(t *testing.T) {
	f := newForge(t, attest.SGX)
	f.rootName = strings.Repeat("long name ", 1000)
	quote, collateral, opts := f.make(t)
	opts.Roots = dcap.Roots{dcap.IntelRoot()}
	if _, err := dcap.Verify(quote, collateral, opts); err == nil || len(err.Error()) > 500 {
		t.Errorf("got %.600v", err)
	}
}
