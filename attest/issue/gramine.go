// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/marblerun/marblerun/attest"
)

// Gramine's pseudo files (FORMATS §4). They are local to the process.
const (
	gramineType       = "/dev/attestation/attestation_type" // "none", "dcap"; missing in old versions
	gramineReportData = "/dev/attestation/user_report_data" // 64 bytes
	gramineQuote      = "/dev/attestation/quote"
)

// maxGramineQuote is the largest quote that Gramine returns, in bytes.
const maxGramineQuote = 8191

type gramine struct {
	mu    sync.Mutex // report data and quote are two files: one request at a time
	files files
}

func probeGramine(_ context.Context, config Config) (Issuer, error) {
	kind, err := config.seams.files.Read(gramineType, 64)
	if errors.Is(err, os.ErrNotExist) {
		// Before attestation_type existed there was only DCAP, or no quote file at all.
		_, err = config.seams.files.Read(gramineReportData, 4096)
		kind = []byte("dcap")
	}
	if err != nil {
		return nil, absent("/dev/attestation", err)
	}
	if t := strings.TrimRight(string(kind), "\x00\n "); t != "dcap" {
		return nil, fmt.Errorf("attestation type is %q; set sgx.remote_attestation = \"dcap\" in the Gramine manifest", t)
	}
	return &gramine{files: config.seams.files}, nil
}

func (g *gramine) Name() string    { return "gramine" }
func (g *gramine) TEE() attest.TEE { return attest.SGX }

func (g *gramine) Issue(ctx context.Context, reportData [64]byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := g.files.Write(gramineReportData, reportData[:]); err != nil {
		return nil, fmt.Errorf("writing Gramine's report data: %w", err)
	}
	quote, err := g.files.Read(gramineQuote, maxGramineQuote)
	if err != nil {
		return nil, fmt.Errorf("reading Gramine's quote: %w", err)
	}
	return wrapQuote(quote, reportData)
}
