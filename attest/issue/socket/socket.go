// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package socket is the source of evidence that is never detected: the Unix socket of a software TEE (package
// softtee).
//
// Its evidence has real formats under a simulated root, which no verifier trusts by default. It stands apart from
// package issue so that nobody links it who does not want it.
package socket

import (
	"context"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
)

type issuer struct {
	path, kind string
	tee        attest.TEE
}

// Open asks the socket at path once, and returns it as an issuer. Kind, e.g. "sgx-v3" or "snp-v5", chooses the
// evidence; "" takes what the socket issues by default.
func Open(ctx context.Context, path, kind string) (issue.Issuer, error) {
	evidence, err := issuersock.Issue(ctx, path, kind, [64]byte{})
	if err != nil {
		return nil, err
	}
	family, _, _ := strings.Cut(evidence.Kind, "-")
	switch tee := attest.TEE(family); tee {
	case attest.SGX, attest.TDX, attest.SNP:
		return &issuer{path: path, kind: evidence.Kind, tee: tee}, nil
	}
	return nil, fmt.Errorf("software TEE at %s issues evidence of the unknown kind %q", path, evidence.Kind)
}

func (i *issuer) Name() string    { return "software TEE (" + i.kind + ", SIMULATED)" }
func (i *issuer) TEE() attest.TEE { return i.tee }

func (i *issuer) Issue(ctx context.Context, reportData [64]byte) ([]byte, error) {
	evidence, err := issuersock.Issue(ctx, i.path, i.kind, reportData)
	return evidence.Data, err
}
