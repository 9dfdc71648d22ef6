// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package peers asks two other open verifiers, google/go-tdx-guest and google/go-sev-guest, for a second opinion on the
// evidence that attest/dcap and attest/snp decide on, and measures all of them beside the bare signature verifications
// that the evidence needs.
//
// It is a Go module of its own, so that the product does not depend on the peers. Run it from this folder with
// `go test ./...`; `make bench` sets MARBLERUN_BENCH=full for the measurements.
//
// Invariants: both see the same bytes, roots and time. Where a peer answers otherwise, the difference is in a table
// with its reason, and the table must stay true: a difference that goes away fails the test as well as a new one. The
// peers know Intel's and AMD's names only, so evidence of the software TEE is brought to them under such names, by CAs that
// the test makes (intelWorld, amdWorld).
package peers
