// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"maps"
	"slices"
	"time"

	"github.com/marblerun/marblerun/internal/immutable"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// State is a deployment at one position of the journal. It is immutable: apply returns a new one.
type State struct {
	position uint64
	// time is that of the last event; event time never goes backwards.
	time time.Time

	manifest *deployment
	// versions are the package versions raised since the manifest was set or replaced.
	versions map[string]uint

	ca           *pki.CA
	rootSecret   []byte
	previousRoot []byte // root secret before the last rotation; nil without one

	// stored holds shared and user-defined secrets, previous their values for .Previous.
	stored   immutable.Map[storedSecret]
	previous immutable.Map[secrets.Value]

	activations immutable.Map[uint64] // successful activations by Marble type
	counters    immutable.Map[uint64] // by counterKey
	bans        immutable.Map[ban]    // by banTarget.key
	pending     *pendingUpdate
	recovery    recovery

	// lines are the update-log lines of manifest and package events: never pruned.
	lines []logLine
	// activationCount and secretLineCount number the records that may be pruned, from genesis on.
	activationCount uint64
	secretLineCount uint64

	generations generations
	// rotations counts rotations of stored secrets. Updates were prepared from the values before.
	rotations uint64
}

// generations count replacements of what preparations read. A preparation is stale once one of those it used changed.
type generations struct {
	Manifest   uint64 `json:"manifest"`
	CA         uint64 `json:"ca"`
	RootSecret uint64 `json:"rootSecret"`
}

// storedSecret is a secret's value and the position that wrote it.
type storedSecret struct {
	secrets.Value
	Version uint64 `json:"version"`
}

// recovery is what the holders of recovery keys got, and how many of them are needed.
type recovery struct {
	// Secrets maps recovery key name to the secret encrypted to that key.
	Secrets map[string][]byte `json:"secrets"`
}

// pendingUpdate is a full update that waits for acknowledgements.
type pendingUpdate struct {
	Manifest     []byte   `json:"manifest"`
	Eligible     []string `json:"eligible"` // sorted
	Required     int      `json:"required"`
	Acknowledged []string `json:"acknowledged"`
}

func (p *pendingUpdate) missing() []string {
	return slices.DeleteFunc(slices.Clone(p.Eligible), func(u string) bool {
		return slices.Contains(p.Acknowledged, u)
	})
}

func (p *pendingUpdate) missingCount() int { return max(0, p.Required-len(p.Acknowledged)) }

// deployment is a manifest with all that is derived from it once. It is immutable and shared by successive states.
type deployment struct {
	raw         []byte
	signature   []byte
	fingerprint string
	// base is the manifest as uploaded; manifest has the raised package versions folded in.
	base     *manifest.Manifest
	manifest *manifest.Manifest
	compiled *secrets.Compiled
	// users maps certificate DER to user name.
	users map[string]string
	// slow tells which Marble types need key generation that takes long.
	slow map[string]bool
}

// newDeployment derives everything from a manifest that was accepted once. It does not check again, so that a stricter
// program still reads older journals.
func newDeployment(raw, signature []byte) (*deployment, error) {
	m, err := manifest.Parse(raw)
	if err != nil {
		return nil, err
	}
	// The check of a new manifest refuses templates that do not compile. In a manifest that an older program accepted they
	// fail the activations of their Marble type only.
	compiled, _ := secrets.Compile(m)
	d := &deployment{
		raw: raw, signature: signature, fingerprint: manifest.Fingerprint(raw),
		base: m, manifest: m, compiled: compiled,
		users: make(map[string]string, len(m.Users)), slow: map[string]bool{},
	}
	// In reverse order, so that of two names for one certificate the first one wins.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(m.Users))) {
		if der, err := m.Users[name].DER(); err == nil {
			d.users[string(der)] = name
		}
	}
	for marble := range m.Marbles {
		names, _ := compiled.References(marble)
		d.slow[marble] = needsSlowKeys(m, names)
	}
	return d, nil
}

// needsSlowKeys tells whether an activation that uses the named secrets generates RSA keys.
func needsSlowKeys(m *manifest.Manifest, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		s := m.Secrets[n]
		return s.Type == manifest.TypeCertRSA && !s.Shared && !s.UserDefined
	})
}

// withVersions returns the deployment with raised package versions.
func (d *deployment) withVersions(versions map[string]uint) *deployment {
	c := *d
	c.manifest = d.base.WithSecurityVersions(versions)
	return &c
}

// plainStored returns the stored secrets without their versions, by name.
func (s *State) plainStored() map[string]secrets.Value {
	plain := make(map[string]secrets.Value, s.stored.Len())
	for name, v := range s.stored.All() {
		plain[name] = v.Value
	}
	return plain
}
