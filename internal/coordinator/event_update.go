// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"slices"

	"github.com/marblerun/marblerun/internal/immutable"
	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// updateProposed submits a full update. The proposer counts as the first acknowledgement.
type updateProposed struct {
	Update pendingUpdate `json:"update"`
}

func (*updateProposed) kind() string   { return "update-proposed" }
func (*updateProposed) resolve() error { return nil }

func (e *updateProposed) apply(d *State, at moment) {
	d.pending = &e.Update
	fingerprint := field{"manifestFingerprint", manifest.Fingerprint(e.Update.Manifest)}
	if e.Update.missingCount() == 0 {
		d.addLine(at, line(at.time,
			"Complete Manifest update initiated by user. No further acknowledgements required",
			field{"user", at.actor}, fingerprint))
		return
	}
	d.addLine(at, line(at.time,
		"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",
		field{"user", at.actor}, field{"missingAcknowledgments", e.Update.missingCount()},
		field{"missingUsers", e.Update.missing()}, fingerprint))
}

// updateAcknowledged is one user's consent.
type updateAcknowledged struct {
	User string `json:"user"`
}

func (*updateAcknowledged) kind() string   { return "update-acknowledged" }
func (*updateAcknowledged) resolve() error { return nil }

func (e *updateAcknowledged) apply(d *State, at moment) {
	if d.pending == nil {
		return
	}
	p := *d.pending
	p.Acknowledged = append(slices.Clone(p.Acknowledged), e.User)
	d.pending = &p
	d.addLine(at, line(at.time, "Complete Manifest update acknowledged by user",
		field{"user", e.User}, field{"missingAcknowledgments", p.missingCount()},
		field{"missingUsers", p.missing()}, field{"manifestFingerprint", manifest.Fingerprint(p.Manifest)}))
}

// updateApplied replaces the manifest and what depends on it; see manifest.md §13.4 for what is retained.
type updateApplied struct {
	installed
	RootSecret []byte                   `json:"rootSecret,omitempty"` // only if rotated
	Secrets    map[string]secrets.Value `json:"secrets"`              // new and changed values; others are retained
	Previous   map[string]secrets.Value `json:"previous"`
	Recovery   *recovery                `json:"recovery,omitempty"` // only if the recovery keys changed
}

func (*updateApplied) kind() string { return "update-applied" }

func (e *updateApplied) apply(d *State, at moment) {
	d.manifest, d.versions, d.pending = e.deployment, nil, nil
	d.generations.Manifest++
	d.setCA(e.ca)
	if e.RootSecret != nil {
		d.previousRoot, d.rootSecret = d.rootSecret, e.RootSecret
		d.generations.RootSecret++
	}
	if e.Recovery != nil {
		d.recovery = *e.Recovery
	}
	d.retainSecrets(e.deployment.base)
	d.stored = storeAll(d.stored, e.Secrets, at.position)
	d.previous = immutable.From(e.Previous)
	d.addLine(at, line(at.time, "Complete Manifest updated",
		field{"manifestFingerprint", e.deployment.fingerprint}))
}

// retainSecrets drops the values of secrets that the manifest does not define.
func (s *State) retainSecrets(m *manifest.Manifest) {
	for name := range s.stored.All() {
		if _, ok := m.Secrets[name]; !ok {
			s.stored = s.stored.Without(name)
		}
	}
}

// updateCanceled drops the pending update, by a user or because it could not be applied.
type updateCanceled struct {
	User string `json:"user,omitempty"` // empty: it could not be applied
}

func (*updateCanceled) kind() string   { return "update-canceled" }
func (*updateCanceled) resolve() error { return nil }

func (e *updateCanceled) apply(d *State, at moment) {
	if d.pending == nil {
		return
	}
	fingerprint := field{"manifestFingerprint", manifest.Fingerprint(d.pending.Manifest)}
	d.pending = nil
	if e.User == "" {
		d.addLine(at, line(at.time, "Complete Manifest update cancelled due to error during apply", fingerprint))
		return
	}
	d.addLine(at, line(at.time, "Complete Manifest update cancelled by user", field{"user", e.User}, fingerprint))
}
