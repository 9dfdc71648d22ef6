// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/internal/vault"
	"github.com/marblerun/marblerun/manifest"
)

// rootSecretSize is the length of the secret from which per-Marble keys are derived, in bytes.
const rootSecretSize = 32

// Manifest returns the current manifest.
func (c *Coordinator) Manifest() (Manifest, error) {
	k := c.phase.Load().kernel
	if k == nil {
		return Manifest{}, refuse(NoManifest, "requested value not set")
	}
	d := k.state.Load().manifest
	return Manifest{Bytes: d.raw, Fingerprint: d.fingerprint, Signature: d.signature}, nil
}

// RecoverySecrets returns the recovery secrets, encrypted to their holders. They stay readable until the recovery keys
// change, so that a lost connection loses nothing.
func (c *Coordinator) RecoverySecrets() (map[string][]byte, error) {
	k, err := c.running()
	if err != nil {
		return nil, err
	}
	return k.state.Load().recovery.Secrets, nil
}

// SetManifest sets the first manifest, in state 2, or in state 1, where it sets the old state aside.
func (c *Coordinator) SetManifest(ctx context.Context, data []byte) (map[string][]byte, error) {
	c.log.Info("SetManifest called")
	release, err := c.settle(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p := c.phase.Load()
	if p.kernel != nil {
		return nil, errWrongState()
	}
	if p.code == StateRecovery && c.cfg.RecoveryOnly {
		return nil, refuse(WrongState, "server is not in expected state").
			hint("EDG_COORDINATOR_RECOVERY_ONLY=1 refuses a new manifest while a sealed state waits for recovery")
	}
	g, err := c.prepareGenesis(ctx, data, p.ca)
	if err != nil {
		c.log.Error("SetManifest failed", "error", err)
		return nil, err
	}
	if err := c.commitGenesis(ctx, g); err != nil {
		c.log.Error("SetManifest failed", "error", err)
		return nil, refuse(Internal, "sealing state: %w", err)
	}
	c.run(g.state, p.quote)
	c.log.Info("SetManifest successful", "manifestFingerprint", g.state.manifest.fingerprint)
	return g.event.Recovery.Secrets, nil
}

// genesis is a prepared first manifest.
type genesis struct {
	event  *manifestSet
	record *record
	state  *State
	keys   recoveryKeys
}

// prepareGenesis takes the steps of manifest.md §12 up to persisting.
func (c *Coordinator) prepareGenesis(ctx context.Context, data []byte, ca *pki.CA) (*genesis, error) {
	d, err := c.acceptManifest(ctx, data, ca)
	if err != nil {
		return nil, err
	}
	now := c.cfg.Now()
	shared, err := secrets.GenerateShared(ctx, d.base, ca, nil, now, c.cfg.Rand)
	if err != nil {
		return nil, refuse(Invalid, "generating secrets from manifest: %w", err)
	}
	keys, err := newRecoveryKeys(d.base, c.cfg.Rand)
	if err != nil {
		return nil, refuse(Invalid, "generating recovery encryption key: %w", err)
	}
	if err := c.dryRun(ctx, d, ca, shared); err != nil {
		return nil, err
	}
	rootSecret := make([]byte, rootSecretSize)
	if _, err := io.ReadFull(c.cfg.Rand, rootSecret); err != nil {
		return nil, fmt.Errorf("making root secret: %w", err)
	}
	i, err := install(d, ca)
	if err != nil {
		return nil, err
	}
	e := &manifestSet{
		installed: i, RootSecret: rootSecret, Secrets: withUserDefined(d.base, shared),
		Recovery: recovery{Secrets: keys.encrypted},
	}
	rec := &record{Version: recordVersion, Time: now.UTC().Round(0), Request: requestID(ctx), Events: []event{e}}
	return &genesis{event: e, record: rec, state: (&State{}).apply(rec, 1), keys: keys}, nil
}

// acceptManifest parses, checks and signs a manifest (manifest.md §12, steps 2 and 3).
func (c *Coordinator) acceptManifest(_ context.Context, data []byte, ca *pki.CA) (*deployment, error) {
	m, err := manifest.Parse(data)
	if err != nil {
		return nil, refuse(Invalid, "unmarshaling manifest: %w", err)
	}
	problems := manifest.Check(data, m, c.cfg.FeatureEnvironment)
	if errs := problems.Errors(); len(errs) > 0 {
		return nil, refuse(Invalid, "%s: %w", failedStep(m, errs), errs).hint("run 'marblerun manifest check FILE'")
	}
	for _, p := range problems {
		c.log.Warn("Manifest: "+p.Text, "path", p.Path, "line", p.Line)
	}
	signature, err := pki.SignManifest(ca, data)
	if err != nil {
		return nil, fmt.Errorf("signing manifest: %w", err)
	}
	d, err := newDeployment(data, signature)
	if err != nil {
		return nil, refuse(Invalid, "checking manifest: %w", err)
	}
	return d, nil
}

// dryRun generates placeholders for per-Marble secrets and executes all templates (steps 5 and 8).
func (c *Coordinator) dryRun(ctx context.Context, d *deployment, ca *pki.CA, real map[string]secrets.Value) error {
	placeholders, err := secrets.Placeholders(ctx, d.base, ca, c.cfg.Now(), c.cfg.Rand)
	if err != nil {
		return refuse(Invalid, "generating placeholder secrets from manifest: %w", err)
	}
	all := maps.Clone(placeholders)
	maps.Copy(all, real)
	view, err := secrets.TemplateSecrets(all)
	if err != nil {
		return refuse(Invalid, "running manifest template dry run: %w", err)
	}
	if problems := d.base.DryRun(ctx, view).Errors(); len(problems) > 0 {
		return refuse(Invalid, "running manifest template dry run: %w", manifest.Locate(d.raw, problems)).
			hint("run 'marblerun manifest check FILE'")
	}
	return ctx.Err()
}

// withUserDefined adds an empty value for each user-defined secret.
func withUserDefined(m *manifest.Manifest, values map[string]secrets.Value) map[string]secrets.Value {
	all := maps.Clone(values)
	for name, s := range m.Secrets {
		if s.UserDefined {
			all[name] = secrets.Empty(s)
		}
	}
	return all
}

// commitGenesis makes the genesis durable. Whatever was there before is set aside, never destroyed.
func (c *Coordinator) commitGenesis(ctx context.Context, g *genesis) error {
	payload, err := g.record.encode()
	if err != nil {
		return err
	}
	meta, err := json.Marshal(g.keys.meta)
	if err != nil {
		return err
	}
	return c.vault.Create(context.WithoutCancel(ctx), vault.Genesis{
		SealMode: g.state.manifest.base.SealMode(), RecoverySecret: g.keys.secret, RecoveryMeta: meta, Record: payload,
	})
}

// SetStartupManifest sets the manifest in state 2. In state 3 it is skipped, with a warning if the manifests differ, and
// in state 1 it is skipped with an error log: a start never drops state.
func (c *Coordinator) SetStartupManifest(ctx context.Context, data []byte) error {
	switch p := c.phase.Load(); p.code {
	case StateAcceptingMarbles:
		current, given := p.kernel.state.Load().manifest.fingerprint, manifest.Fingerprint(data)
		if current == given {
			c.log.Info("Startup manifest is already set, skipping it", "manifestFingerprint", current)
			return nil
		}
		c.log.Warn("A different manifest is set, skipping the startup manifest. Use 'marblerun manifest update apply' to change it.",
			"currentFingerprint", current, "startupFingerprint", given)
		return nil
	case StateRecovery:
		c.log.Error("Coordinator is in recovery mode, skipping the startup manifest. Recover the state, or set a manifest " +
			"through the client API, which sets the old state aside.")
		return nil
	}
	c.log.Info("Setting startup manifest")
	_, err := c.SetManifest(ctx, data)
	return err
}
