// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package wire

// RotateSecretsRequest is the body of the additive POST /api/v2/secrets/rotate.
type RotateSecretsRequest struct {
	Secrets []string `json:"secrets"`
}

// RotateSecretsReply is the data of POST /api/v2/secrets/rotate: what was rotated, sorted, each name once.
type RotateSecretsReply struct {
	Secrets []string `json:"secrets"`
}

// BanTarget is what a ban is about: a Marble type, and either a UUID or evidence.
type BanTarget struct {
	MarbleType string `json:"marbleType"`
	// UUID is in its canonical form in replies, in any common one in requests.
	UUID string `json:"uuid,omitempty"`
	// EvidenceSHA256 is 64 hex digits over the evidence as the Marble sends it, as the list of activations has it.
	EvidenceSHA256 string `json:"evidenceSHA256,omitempty"`
}

// BanRequest is the body of the additive POST /api/v2/bans.
type BanRequest struct {
	BanTarget
	// Lift ends the ban.
	Lift bool `json:"lift,omitempty"`
}

// Ban is the data of POST /api/v2/bans, the ban in force or the one that was lifted, and an entry of the list.
type Ban struct {
	BanTarget
	// BannedBy is the user who banned, Time when: RFC 3339, UTC.
	BannedBy string `json:"bannedBy"`
	Time     string `json:"time"`
}

// BansReply is the data of the additive GET /api/v2/bans, in order of type, kind and value.
type BansReply struct {
	Bans []Ban `json:"bans"`
}
