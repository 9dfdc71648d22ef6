// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/marblerun/marblerun/internal/immutable"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/secrets"
)

// snapshot is a State as it is stored: everything that replaying the journal from genesis would yield.
type snapshot struct {
	Version  int       `json:"v"`
	Position uint64    `json:"position"`
	Time     time.Time `json:"time"`

	Manifest  []byte          `json:"manifest"`
	Signature []byte          `json:"signature"`
	Versions  map[string]uint `json:"versions,omitempty"`

	CA           []byte `json:"ca"`
	RootSecret   []byte `json:"rootSecret"`
	PreviousRoot []byte `json:"previousRoot,omitempty"`

	Stored      map[string]storedSecret  `json:"stored"`
	Previous    map[string]secrets.Value `json:"previous"`
	Activations map[string]uint64        `json:"activations"`
	Counters    map[string]uint64        `json:"counters,omitempty"`
	Bans        map[string]ban           `json:"bans,omitempty"`
	Pending     *pendingUpdate           `json:"pending,omitempty"`
	Recovery    recovery                 `json:"recovery"`

	Lines           []logLine   `json:"lines"`
	ActivationCount uint64      `json:"activationCount"`
	SecretLineCount uint64      `json:"secretLineCount"`
	Generations     generations `json:"generations"`
	Rotations       uint64      `json:"rotations,omitempty"`
}

// encode returns the snapshot of s. It contains keys and secrets: it is for sealing only.
func (s *State) encode() ([]byte, error) {
	ca, err := s.ca.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encoding snapshot: %w", err)
	}
	return json.Marshal(snapshot{
		Version: recordVersion, Position: s.position, Time: s.time,
		Manifest: s.manifest.raw, Signature: s.manifest.signature, Versions: s.versions,
		CA: ca, RootSecret: s.rootSecret, PreviousRoot: s.previousRoot,
		Stored: s.stored.Plain(), Previous: s.previous.Plain(),
		Activations: s.activations.Plain(), Counters: s.counters.Plain(), Bans: s.bans.Plain(),
		Pending: s.pending, Recovery: s.recovery,
		Lines: s.lines, ActivationCount: s.activationCount, SecretLineCount: s.secretLineCount,
		Generations: s.generations, Rotations: s.rotations,
	})
}

// decodeSnapshot is the inverse of encode.
func decodeSnapshot(data []byte) (*State, error) {
	var p snapshot
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("decoding snapshot: %w", err)
	}
	if p.Version > recordVersion {
		return nil, fmt.Errorf("snapshot has format version %d, this program knows up to %d: use a newer program",
			p.Version, recordVersion)
	}
	d, err := newDeployment(p.Manifest, p.Signature)
	if err != nil {
		return nil, fmt.Errorf("decoding snapshot: %w", err)
	}
	ca, err := pki.Unmarshal(p.CA)
	if err != nil {
		return nil, fmt.Errorf("decoding snapshot: %w", err)
	}
	if len(p.Versions) > 0 {
		d = d.withVersions(p.Versions)
	}
	return &State{
		position: p.Position, time: p.Time, manifest: d, versions: p.Versions,
		ca: ca, rootSecret: p.RootSecret, previousRoot: p.PreviousRoot,
		stored: immutable.From(p.Stored), previous: immutable.From(p.Previous),
		activations: immutable.From(p.Activations), counters: immutable.From(p.Counters),
		bans:    immutable.From(p.Bans),
		pending: p.Pending, recovery: p.Recovery,
		lines: p.Lines, activationCount: p.ActivationCount, secretLineCount: p.SecretLineCount,
		generations: p.Generations, rotations: p.Rotations,
	}, nil
}
