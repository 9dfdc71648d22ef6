// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/seal"
)

// Version of the program, as it appears in logs and metrics.
type Version struct {
	Version string
	Commit  string
}

// Config is everything a Coordinator depends on. Nothing else is read from the environment.
type Config struct {
	// SealDir is the state directory. It stays empty until a manifest is set.
	SealDir string
	// DNSNames and IPs become SANs of a newly created root certificate, besides 127.0.0.1 and ::1.
	DNSNames []string
	IPs      []net.IP

	// Simulation: no TEE; evidence of Marbles is not looked at.
	Simulation bool
	// RecoveryOnly refuses a new manifest while a sealed state waits for recovery.
	RecoveryOnly bool

	// TEE is the kind of this process's TEE, "simulation" in simulation. It marks the state it writes.
	TEE string
	// Sealers are this TEE's sealing keys. A nil member means that the TEE has none.
	Sealers seal.Sealers
	// Issuer obtains this process's own evidence. nil in simulation.
	Issuer Issuer
	// Verifier verifies evidence of Marbles. nil in simulation.
	Verifier Verifier
	// Notes are shown in status and logs, e.g. that a software TEE's root is trusted.
	Notes []string

	// FeatureEnvironment looks up EDG_* variables that manifest features require.
	FeatureEnvironment func(string) string

	// HistoryLimit bounds retained activation and secret records, in bytes; 0 means 64 MiB.
	HistoryLimit int64
	// KeyWorkers bounds how many slow key generations run at once; 0 means half the processors, at least one.
	KeyWorkers int

	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
}

// Issuer obtains evidence about this process.
type Issuer interface {
	// Issue returns evidence whose report data is the given 64 bytes, in the form that travels on the wire.
	Issue(ctx context.Context, reportData [64]byte) ([]byte, error)
}

// Verifier verifies evidence up to its claims: signatures, chains, collateral. Policy is the manifest's.
type Verifier interface {
	Verify(ctx context.Context, evidence []byte) (*attest.Claims, error)
}

// Code classifies a refusal, so that a transport can map it to its own status codes.
type Code int

// The codes.
const (
	// Internal is our fault, or the disk's.
	Internal Code = iota
	// WrongState: the Coordinator is not in the state that the verb needs.
	WrongState
	// NoManifest: nothing is set yet.
	NoManifest
	// NoUpdate: no update is pending.
	NoUpdate
	// Unauthorized: the caller is nobody we know.
	Unauthorized
	// Forbidden: the caller lacks a permission.
	Forbidden
	// Invalid: the content is refused (manifest, secret, acknowledgement, share …).
	Invalid
	// BadRequest: the client's fault, found before the core logic.
	BadRequest
	// FeatureDisabled: the manifest does not enable the feature.
	FeatureDisabled
	// RefusedMarble: type, package, evidence or budget refuse the Marble.
	RefusedMarble
	// NoPeerCertificate: a Marble without TLS client certificate.
	NoPeerCertificate
	// BadUUID: the Marble's UUID does not parse.
	BadUUID
	// Unavailable: try again later (disk full, overload, shutting down).
	Unavailable
	// QuoteRefused: sign-quote was given a quote that does not verify.
	QuoteRefused
)

// Error is a refusal. Message is for the caller and is the contract's text where it has one; Hint says what to do.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Err     error
}

// Error returns the message, its cause and the hint.
func (e *Error) Error() string {
	s := e.Message
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, Internal if there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

func refuse(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) hint(text string) *Error {
	e.Hint = text
	return e
}

// The state codes of the client API.
const (
	StateRecovery          = 1
	StateAcceptingManifest = 2
	StateAcceptingMarbles  = 3
)

// Status is the answer to "how are you".
type Status struct {
	Code    int
	Message string
	// Detail says why the Coordinator is in recovery mode.
	Detail string
	Notes  []string
}

// Manifest is the current manifest as it was uploaded.
type Manifest struct {
	Bytes       []byte
	Fingerprint string // hex SHA-256 of Bytes
	Signature   []byte // ASN.1 ECDSA by the root key over SHA-256 of Bytes
}

// ActivateRequest is a Marble's request to join.
type ActivateRequest struct {
	// PeerCertificate is the DER of the TLS client certificate; nil if there was none.
	PeerCertificate []byte
	Evidence        []byte
	CSR             []byte
	MarbleType      string
	UUID            string
}

// UpdateResult is the outcome of submitting or acknowledging an update.
type UpdateResult struct {
	MissingAcknowledgments int
	// MissingUsers are all eligible users who have not acknowledged, sorted; nil when the update was applied.
	MissingUsers []string
	// RecoverySecrets is non-nil if the recovery keys changed and the update was applied.
	RecoverySecrets map[string][]byte
}

// PendingUpdate is a full update that waits for acknowledgements.
type PendingUpdate struct {
	Manifest               []byte
	MissingAcknowledgments int
	MissingUsers           []string
}

// Marble is an authenticated Marble.
type Marble struct {
	Type string
	UUID string
}
