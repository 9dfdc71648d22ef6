// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire holds the JSON bodies of the client API, versions 1 and 2, exactly as they travel.
//
// Byte fields are standard padded base64, null when nil. Field-name case is part of the contract: version 1 capitalises,
// version 2 uses lower camel case except RecoverySecrets (POST manifest) and the Secret objects.
// Types without a version in their name are shared by both. Both the server and the client (package api) use these types, so
// that they cannot drift apart.
package wire

import "encoding/json"

// Status values of a Response.
const (
	StatusSuccess = "success"
	StatusError   = "error"
	StatusFail    = "fail"
)

// Response is the envelope around every reply body.
type Response struct {
	Status  string          `json:"status"`
	Data    json.RawMessage `json:"data"`
	Message string          `json:"message,omitempty"`
	// Hint says what to do about a refusal. Additive.
	Hint string `json:"hint,omitempty"`
}

// StatusV1 is the data of GET /status.
type StatusV1 struct {
	StatusCode    int    `json:"StatusCode"`
	StatusMessage string `json:"StatusMessage"`
}

// StatusV2 is the data of GET /api/v2/status. Detail and Notes are additive.
type StatusV2 struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Detail says why the Coordinator is in recovery mode; empty otherwise.
	Detail string `json:"detail,omitempty"`
	// Notes are things a person should know before trusting this Coordinator, e.g. that it simulates its TEE.
	Notes []string `json:"notes,omitempty"`
}

// QuoteV1 is the data of GET /quote. Cert is PEM: intermediate first, then root.
type QuoteV1 struct {
	Cert  string `json:"Cert"`
	Quote []byte `json:"Quote"`
}

// QuoteV2 is the data of GET /api/v2/quote.
type QuoteV2 struct {
	Cert  string `json:"cert"`
	Quote []byte `json:"quote"`
}

// ManifestRequest is the body of the version 2 manifest, update and update-manifest requests.
type ManifestRequest struct {
	Manifest []byte `json:"manifest"`
}

// ManifestSetReply is the data of POST manifest: recovery key name to encrypted recovery secret.
type ManifestSetReply struct {
	RecoverySecrets map[string][]byte `json:"RecoverySecrets"`
}

// RecoverySecretsReply is the data of the additive GET /api/v2/recovery-secrets.
type RecoverySecretsReply struct {
	RecoverySecrets map[string][]byte `json:"recoverySecrets"`
}

// ManifestV1 is the data of GET /manifest. ManifestSignature is the fingerprint.
type ManifestV1 struct {
	ManifestSignatureRootECDSA []byte `json:"ManifestSignatureRootECDSA"`
	ManifestSignature          string `json:"ManifestSignature"`
	Manifest                   []byte `json:"Manifest"`
}

// ManifestV2 is the data of GET /api/v2/manifest.
type ManifestV2 struct {
	ManifestSignatureRootECDSA []byte `json:"manifestSignatureRootECDSA"`
	ManifestFingerprint        string `json:"manifestFingerprint"`
	Manifest                   []byte `json:"manifest"`
}

// UpdateLog is the data of GET /api/v2/update. Version 1 sends the lines as one string, each ended by a newline.
type UpdateLog struct {
	UpdateLog []string `json:"updateLog"`
}

// UpdateApplyReply is the data of POST /api/v2/update.
type UpdateApplyReply struct {
	MissingAcknowledgments int               `json:"missingAcknowledgments"`
	MissingUsers           []string          `json:"missingUsers"`
	RecoverySecrets        map[string][]byte `json:"recoverySecrets,omitempty"`
}

// PendingUpdate is the data of GET update-manifest, both versions.
type PendingUpdate struct {
	Manifest     []byte   `json:"manifest"`
	Message      string   `json:"message"`
	MissingUsers []string `json:"missingUsers"`
}

// AcknowledgeReply is the data of POST /api/v2/update-manifest.
type AcknowledgeReply struct {
	Message                string            `json:"message"`
	MissingUsers           []string          `json:"missingUsers"`
	MissingAcknowledgments int               `json:"missingAcknowledgments"`
	RecoverySecrets        map[string][]byte `json:"recoverySecrets,omitempty"`
}

// MessageReply is data that is one message, e.g. of POST /api/v2/update-cancel.
type MessageReply struct {
	Message string `json:"message"`
}

// Secret is a secret's value as GET secrets returns it. Cert is DER.
type Secret struct {
	Type        string `json:"Type"`
	Size        uint   `json:"Size"`
	Shared      bool   `json:"Shared"`
	UserDefined bool   `json:"UserDefined"`
	Cert        []byte `json:"Cert"`
	ValidFor    uint   `json:"ValidFor"`
	Private     []byte `json:"Private"`
	Public      []byte `json:"Public"`
}

// UserSecret is a user-defined secret's value as POST secrets takes it. Cert is DER, Private PKCS #8 DER.
type UserSecret struct {
	Cert    []byte `json:"Cert,omitempty"`
	Private []byte `json:"Private,omitempty"`
	Key     []byte `json:"Key,omitzero"` // of no bytes is not the same as none
}

// SecretsReply is the data of GET /api/v2/secrets.
type SecretsReply struct {
	Secrets map[string]Secret `json:"secrets"`
}

// SecretsRequest is the body of POST /api/v2/secrets.
type SecretsRequest struct {
	Secrets map[string]UserSecret `json:"secrets"`
}

// RecoverRequest is the body of POST /api/v2/recover.
type RecoverRequest struct {
	RecoverySecret          []byte `json:"recoverySecret"`
	RecoverySecretSignature []byte `json:"recoverySecretSignature"`
}

// RecoverReply is the data of POST /api/v2/recover.
type RecoverReply struct {
	Remaining int    `json:"remaining"`
	Message   string `json:"message"`
}

// RecoveryPublicKey is the data of GET /api/v2/recover/public-key. EphemeralPublicKey is PKIX DER.
type RecoveryPublicKey struct {
	Algorithm          string `json:"algorithm"`
	EphemeralPublicKey []byte `json:"ephemeralPublicKey"`
}

// SignQuoteRequest is the body of POST /api/v2/sign-quote.
type SignQuoteRequest struct {
	SGXQuote []byte `json:"sgxQuote"`
}

// SignQuoteReply is the data of POST /api/v2/sign-quote.
type SignQuoteReply struct {
	TCBStatus             string `json:"tcbStatus"`
	VerificationSignature []byte `json:"verificationSignature"`
}

// MonotonicCounterRequest is the body of POST /api/v2/monotonic-counter.
type MonotonicCounterRequest struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// MonotonicCounterReply is the data of POST /api/v2/monotonic-counter: the value before.
type MonotonicCounterReply struct {
	Value uint64 `json:"value"`
}

// Activation is one entry of the additive GET /api/v2/activations: which Marble, when, by which claims.
type Activation struct {
	// Position is the entry's place in the journal.
	Position uint64 `json:"position"`
	// Time is RFC 3339, UTC.
	Time       string `json:"time"`
	MarbleType string `json:"marbleType"`
	UUID       string `json:"uuid"`
	Package    string `json:"package"`
	// EvidenceSHA256 is lower-case hex over the evidence as sent; empty in simulation.
	EvidenceSHA256 string `json:"evidenceSHA256,omitempty"`
	// Claims is what the verifier read out of the evidence; null in simulation.
	Claims json.RawMessage `json:"claims"`
	// Collateral names the collateral that decided.
	Collateral []string `json:"collateral,omitempty"`
}

// ActivationsReply is the data of GET /api/v2/activations?after=POSITION&limit=N, oldest first.
type ActivationsReply struct {
	Activations []Activation `json:"activations"`
	// Next is the value of after for the next page; 0 when there is none.
	Next uint64 `json:"next"`
	// Collapsed counts older activations whose records were pruned.
	Collapsed uint64 `json:"collapsed"`
}
