// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package manifest is the manifest language: what may run in a mesh, with which secrets, and who may change it.
//
// A manifest is one JSON object. Its identity is the SHA-256 of its exact bytes ([Fingerprint]), so bytes are never
// serialized again here: [Parse] reads them, [Check] reports everything wrong with them, [Diff] says in words what
// differs, and the methods of [Manifest] answer what the Coordinator asks. Everything is pure: no I/O, no clock, no
// environment.
//
// # Stages
//
//	Parse    syntax, types, decoding of Files and Env        → *Manifest or Problems
//	Check    consistency, templates without executing them   → Problems, warnings included
//	DryRun   executes all templates on given values          → Problems
//
// Each stage reports all problems at once, in the order of the text, each with a JSON path, a line and column if the
// bytes are at hand, and a hint where one helps. Problems with Warning set do not refuse a manifest; unknown fields
// are among them.
//
// # Bounds
//
// Anyone may send a manifest, so all work is bounded:
//
//   - a document has at most [MaxSize] bytes and [MaxValues] values, its names at most [MaxName] bytes; at most
//     [MaxProblems] problems are reported;
//   - a manifest has at most [MaxSecrets] secrets, [MaxTemplates] templates and [MaxRecoveryKeys] recovery keys;
//   - a generated RSA key has [MinRSABits] to [MaxRSABits] bits (recovery keys: to [MaxRecoveryKeyBits]), and all
//     generated keys and certificates together cost at most [MaxKeyWork], see [Secret.KeyWork];
//   - a generated shared symmetric key has at most [MaxSharedKeyBits] bits, all together [MaxKeyBytes] bytes;
//   - templates: see package template; the {{actions}} of all templates of a manifest have at most [MaxActionBytes],
//     and executing them all in a dry run does at most [MaxTemplateWork] of work.
//
// # Additions to MarbleRun's language
//
// Packages may pin TDX or SEV-SNP guests instead of SGX enclaves; Infrastructures with a list of Machines are an
// allow-list of hardware; Marbles may limit the names in their certificates (AllowedNames). Roles know two more
// actions: RotateSecret on Secrets, each of which must be shared and generated, and BanMarble on the resource type
// Marbles, whose names are Marble types. Documents without these mean what they meant.
//
// # Certificate authorities
//
// A certificate secret with IsCA is a real CA below the Marble Root, and all certificate secrets get the key usage
// certSign unless their template says otherwise (MarbleRun's defaults, which peers may pin). Whoever accepts Marble
// certificates must therefore require that the Marble Root itself signed them. Check refuses templates that carry the
// extension 1.3.9903.2.1, which names a Marble's type.
package manifest

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/marblerun/marblerun/manifest/problem"
)

// The bounds of a manifest.
const (
	MaxSize            = 16 << 20    // bytes
	MaxProblems        = problem.Max // errors, and as many warnings
	MaxName            = 1024        // bytes of a key in a map
	MaxValues          = 65_536      // fields, map entries and list elements
	MaxActionBytes     = 1 << 20
	MaxSecrets         = 10_000
	MaxTemplates       = 10_000 // Files and Env entries with actions
	MaxRecoveryKeys    = 255    // one byte numbers a share
	MinRSABits         = 2048
	MaxRSABits         = 8192
	MaxRecoveryKeyBits = 16_384
	MaxKeyWork         = 8192      // 512 RSA keys of 2048 bits, or 32 of 4096, or 2 of 8192
	MaxDerivedKeyBits  = 255 * 256 // HKDF-SHA-256
	MaxSharedKeyBits   = 8 << 20   // 1 MiB
	MaxKeyBytes        = 4 << 20
	MaxValidForDays    = 2_000_000 // the year 9999 is X.509's last
	MaxTemplateWork    = 128 << 20 // units of package template
)

// Manifest is a parsed manifest. It is not changed after Parse; methods are safe for concurrent use.
type Manifest struct {
	Packages        map[string]Package
	Infrastructures map[string]Infrastructure
	Marbles         map[string]Marble
	Secrets         map[string]Secret
	Users           map[string]User
	Roles           map[string]Role
	RecoveryKeys    map[string]string // PEM of RSA public keys
	TLS             map[string]TLSTag
	Config          Config
}

// Marble is a kind of service; its key in the manifest is the Marble type.
type Marble struct {
	Package              string
	MaxActivations       uint // successful activations ever; 0 = unlimited
	Parameters           Parameters
	TLS                  []string // tags
	DisableSecretBinding bool     // derive secrets without the Marble type
	// AllowedNames limits the DNS names and IP addresses in the Marble's certificate; nil does not. "*." stands for
	// exactly one label. Our addition.
	AllowedNames []string
}

// Parameters are what a Marble is started with.
type Parameters struct {
	Files map[string]Value // by path
	Env   map[string]Value // by name
	Argv  []string         // never templates
}

// User is somebody who authenticates with a client certificate.
type User struct {
	Certificate string // PEM; the first block counts, whatever its label
	Roles       []string
}

// Role is a set of permissions.
type Role struct {
	ResourceType  string
	ResourceNames []string
	Actions       []string // case-insensitive
}

// TLSTag is a set of transparent-TLS connections.
type TLSTag struct {
	Incoming, Outgoing []TLSEntry
}

// TLSEntry is one transparent-TLS connection.
type TLSEntry struct {
	Port              string
	Addr              string // Outgoing only
	Cert              string // Incoming only: a secret to serve instead of the Marble's certificate
	DisableClientAuth bool   // Incoming only
}

// Config are settings of the Coordinator.
type Config struct {
	SealMode          string // see the Seal constants; "" = ProductKey
	FeatureGates      []string
	UpdateThreshold   uint // acknowledgments for a full update, 0 = all
	RecoveryThreshold uint // 0 = all keys
	RotateRootSecret  bool // with a full update
}

// The seal modes.
const (
	SealProductKey = "ProductKey"
	SealUniqueKey  = "UniqueKey"
	SealDisabled   = "Disabled"
)

// The feature gates.
const (
	GateSignQuoteEndpoint = "SignQuoteEndpoint"
	GateMonotonicCounter  = "MonotonicCounter"
	GateAzureHSMSealing   = "AzureHSMSealing"
)

// The resource types and actions of roles.
const (
	ResourcePackages = "Packages"
	ResourceSecrets  = "Secrets"
	ResourceManifest = "Manifest"
	ResourceMarbles  = "Marbles" // our addition; names are Marble types

	ActionUpdateSecurityVersion = "UpdateSecurityVersion"
	ActionReadSecret            = "ReadSecret"
	ActionWriteSecret           = "WriteSecret"
	ActionUpdateManifest        = "UpdateManifest"
	ActionRotateSecret          = "RotateSecret" // our addition: a generated shared secret
	ActionBanMarble             = "BanMarble"    // our addition
)

// Fingerprint is the identity of a manifest: the SHA-256 of its exact bytes, in lower-case hex. MarbleRun also calls
// it the manifest signature.
func Fingerprint(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
