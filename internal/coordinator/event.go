// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/internal/immutable"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/secrets"
)

// installed is what the events that install a manifest have in common.
type installed struct {
	Manifest  []byte `json:"manifest"`
	Signature []byte `json:"signature"`
	CA        []byte `json:"ca"`

	deployment *deployment
	ca         *pki.CA
}

func (i *installed) resolve() (err error) {
	if i.deployment == nil {
		if i.deployment, err = newDeployment(i.Manifest, i.Signature); err != nil {
			return err
		}
	}
	if i.ca == nil {
		i.ca, err = pki.Unmarshal(i.CA)
	}
	return err
}

// install returns the part of an event that installs d under ca.
func install(d *deployment, ca *pki.CA) (installed, error) {
	marshaled, err := ca.Marshal()
	if err != nil {
		return installed{}, fmt.Errorf("encoding the CA: %w", err)
	}
	return installed{Manifest: d.raw, Signature: d.signature, CA: marshaled, deployment: d, ca: ca}, nil
}

// manifestSet is the genesis: the first manifest, the CA and all generated secrets.
type manifestSet struct {
	installed
	RootSecret []byte                   `json:"rootSecret"`
	Secrets    map[string]secrets.Value `json:"secrets"`
	Recovery   recovery                 `json:"recovery"`
}

func (*manifestSet) kind() string { return "manifest-set" }

func (e *manifestSet) apply(d *State, at moment) {
	d.manifest, d.ca, d.rootSecret, d.recovery = e.deployment, e.ca, e.RootSecret, e.Recovery
	d.stored = storeAll(immutable.Map[storedSecret]{}, e.Secrets, at.position)
	d.previous = immutable.From(e.Secrets)
	d.addLine(at, line(at.time, "Initial manifest set"))
}

// marbleActivated admits a Marble. It is at most about 1 KiB: the evidence itself is not kept.
type marbleActivated struct {
	// Number counts activations from genesis on, so that pruned ones can be counted.
	Number         uint64          `json:"n"`
	Type           string          `json:"type"`
	UUID           string          `json:"uuid"`
	Package        string          `json:"package"`
	EvidenceSHA256 string          `json:"evidence,omitempty"` // hex
	Claims         json.RawMessage `json:"claims,omitempty"`
	Collateral     []string        `json:"collateral,omitempty"`
}

func (*marbleActivated) kind() string   { return "marble-activated" }
func (*marbleActivated) resolve() error { return nil }

func (e *marbleActivated) apply(d *State, _ moment) {
	d.activationCount = e.Number
	d.activations = d.activations.With(e.Type, d.activations.Value(e.Type)+1)
}

// secretsWritten stores values that a user uploaded.
type secretsWritten struct {
	// Number counts "Secret set" lines up to and including this event's.
	Number  uint64                   `json:"n"`
	Secrets map[string]secrets.Value `json:"secrets"`
}

func (*secretsWritten) kind() string   { return "secrets-written" }
func (*secretsWritten) resolve() error { return nil }

func (e *secretsWritten) apply(d *State, at moment) {
	d.secretLineCount = e.Number
	d.stored = storeAll(d.stored, e.Secrets, at.position)
}

// packagesUpdated raises security versions; it comes with a new intermediate CA and re-issued shared certificates.
type packagesUpdated struct {
	Versions map[string]uint          `json:"versions"`
	CA       []byte                   `json:"ca"`
	Reissued map[string]secrets.Value `json:"reissued"`

	ca *pki.CA
}

func (*packagesUpdated) kind() string { return "packages-updated" }

func (e *packagesUpdated) resolve() (err error) {
	if e.ca == nil {
		e.ca, err = pki.Unmarshal(e.CA)
	}
	return err
}

func (e *packagesUpdated) apply(d *State, at moment) {
	versions := maps.Clone(d.versions)
	if versions == nil {
		versions = map[string]uint{}
	}
	maps.Copy(versions, e.Versions)
	d.versions, d.manifest = versions, d.manifest.withVersions(versions)
	d.setCA(e.ca)
	d.generations.Manifest++
	d.stored = storeAll(d.stored, e.Reissued, at.position)
	for _, name := range slices.Sorted(maps.Keys(e.Versions)) {
		d.addLine(at, line(at.time, "SecurityVersion increased",
			field{"user", at.actor}, field{"package", name}, field{"new version", e.Versions[name]}))
	}
}

// counterRaised sets a Marble's monotonic counter.
type counterRaised struct {
	Key   string `json:"key"` // counterKey
	Value uint64 `json:"value"`
}

func (*counterRaised) kind() string   { return "counter-raised" }
func (*counterRaised) resolve() error { return nil }

func (e *counterRaised) apply(d *State, _ moment) { d.counters = d.counters.With(e.Key, e.Value) }

// recovered notes that holders of recovery keys opened the state.
type recovered struct {
	Holders []string `json:"holders"`
}

func (*recovered) kind() string         { return "recovered" }
func (*recovered) resolve() error       { return nil }
func (*recovered) apply(*State, moment) {}

func storeAll(m immutable.Map[storedSecret], values map[string]secrets.Value, version uint64) immutable.Map[storedSecret] {
	for name, v := range values {
		m = m.With(name, storedSecret{Value: v, Version: version})
	}
	return m
}

func (s *State) setCA(ca *pki.CA) {
	s.ca = ca
	s.generations.CA++
}
