// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// maxEvidence bounds evidence, in bytes. Real quotes are below 16 KiB.
const maxEvidence = 64 << 10

// Activate admits a Marble (marble-api.md §4): cheap checks first, then evidence, then keys, then the writer, which checks
// the activation budget again. The answer leaves only after the activation is durable.
func (c *Coordinator) Activate(ctx context.Context, req ActivateRequest) (*marblepb.Parameters, error) {
	c.log.Info("Received activation request", "MarbleType", req.MarbleType)
	params, err := c.activate(ctx, req)
	switch CodeOf(err) {
	case RefusedMarble:
		c.log.Error("Marble verification failed", "error", err, "marbleType", req.MarbleType, "uuid", req.UUID)
	case Internal, Unavailable:
		if err != nil {
			c.log.Error("Marble Activation failed", "error", err, "marbleType", req.MarbleType, "uuid", req.UUID)
		}
	}
	return params, err
}

func (c *Coordinator) activate(ctx context.Context, req ActivateRequest) (*marblepb.Parameters, error) {
	k := c.phase.Load().kernel
	if k == nil {
		return nil, refuse(WrongState, "cannot accept marbles in current state")
	}
	if len(req.PeerCertificate) == 0 {
		return nil, refuse(NoPeerCertificate, "couldn't get marble TLS certificate")
	}
	a := &activation{c: c, req: req}
	_, err := k.propose(ctx, "", func(s *State) (decision, error) {
		if err := a.prepare(ctx, s); err != nil {
			return nil, err
		}
		return a.decide, nil
	})
	if err != nil {
		return nil, err
	}
	c.log.Info("Successfully activated new Marble", "MarbleType", req.MarbleType, "UUID", a.uuid)
	return a.params, nil
}

// activation is one Marble's way in. prepare may run several times; verified evidence is kept between them.
type activation struct {
	c   *Coordinator
	req ActivateRequest

	uuid   string // canonical
	csr    *pki.CSR
	claims *attest.Claims // nil in simulation
	// banKeys are the bans that would keep this Marble out.
	banKeys []string

	// read is what the preparation relied on.
	read   generations
	reads  map[string]uint64 // versions of the stored secrets used
	params *marblepb.Parameters
}

// prepare does everything slow, on the snapshot s.
func (a *activation) prepare(ctx context.Context, s *State) error {
	m := s.manifest.manifest
	marble, ok := m.Marbles[a.req.MarbleType]
	if !ok {
		return a.refused("unknown marble type requested").hint("the manifest's Marbles section names the types")
	}
	policy, ok := m.Policy(marble.Package)
	if !ok {
		return a.refused("undefined package %q", marble.Package)
	}
	a.banKeys = banKeys(a.req)
	if err := a.checkBan(s); err != nil {
		return err
	}
	if err := a.checkBudget(s); err != nil {
		return err
	}
	if err := a.checkEvidence(ctx, policy); err != nil {
		return err
	}
	if err := a.checkRequest(); err != nil {
		return err
	}
	release, err := a.c.acquireKeyWork(ctx, s.manifest.slow[a.req.MarbleType])
	if err != nil {
		return err
	}
	defer release()
	return a.makeParameters(ctx, s, marble)
}

// refused is a refusal under the prefix that operators look for.
func (a *activation) refused(format string, args ...any) *Error {
	return refuse(RefusedMarble, "marble verification failed: "+format, args...)
}

func (a *activation) checkBudget(s *State) error {
	limit := uint64(s.manifest.manifest.Marbles[a.req.MarbleType].MaxActivations)
	if limit > 0 && s.activations.Value(a.req.MarbleType) >= limit {
		return a.refused("reached max activations count (%d) for marble type %q", limit, a.req.MarbleType).
			hint("every successful activation counts, also of the same UUID; raise MaxActivations by a manifest update")
	}
	return nil
}

// checkEvidence verifies the evidence and checks it against the package. Simulation does not look at it.
func (a *activation) checkEvidence(ctx context.Context, policy attest.Policy) error {
	if a.c.cfg.Simulation {
		return nil
	}
	if len(a.req.Evidence) == 0 {
		return a.refused("invalid quote: empty report").hint("the Marble runs in simulation, this Coordinator does not")
	}
	if len(a.req.Evidence) > maxEvidence {
		return a.refused("invalid quote: %d bytes, at most %d are allowed", len(a.req.Evidence), maxEvidence)
	}
	if a.claims == nil {
		claims, err := a.c.cfg.Verifier.Verify(ctx, a.req.Evidence)
		if err != nil {
			return a.unverified(err)
		}
		if reason := attest.CheckReportHash(claims, sha256.Sum256(a.req.PeerCertificate)); reason != nil {
			return a.refused("invalid quote: %s", reason.Text)
		}
		a.claims = claims
	}
	if verdict := policy.Check(a.claims); !verdict.Accepted {
		return a.refused("invalid quote: %w", &attest.Refusal{Reasons: verdict.Reasons}).hint(acceptingChange(verdict.Reasons))
	}
	return nil
}

// acceptingChange names the manifest change that would accept the evidence; "" if no change may.
func acceptingChange(reasons []attest.Reason) string {
	var changes []string
	for _, r := range reasons {
		if r.Change == "" {
			return ""
		}
		changes = append(changes, r.Change)
	}
	return "if this program is wanted, a manifest update of its package would accept it: " + strings.Join(changes, "; ")
}

// unverified tells evidence that is not to be believed from evidence that cannot be judged now, for lack of collateral.
func (a *activation) unverified(err error) error {
	var refusal *attest.Refusal
	if errors.As(err, &refusal) {
		return a.refused("invalid quote: %w", err)
	}
	return refuse(Unavailable, "marble verification is not possible now: %w", err).hint("the Marble may try again later")
}

// checkRequest parses what the Marble's host chose.
func (a *activation) checkRequest() error {
	if a.csr != nil {
		return nil
	}
	id, err := uuid.Parse(a.req.UUID)
	if err != nil {
		return refuse(BadUUID, "invalid UUID: %w", err)
	}
	csr, err := pki.ParseCSR(a.req.CSR)
	if err != nil {
		return refuse(Internal, "generating marble authentication secrets: %w", err)
	}
	a.uuid, a.csr = id.String(), csr
	return nil
}

// makeParameters issues the certificate and expands the manifest's parameters for this Marble.
func (a *activation) makeParameters(ctx context.Context, s *State, marble manifest.Marble) error {
	leaf, err := s.ca.IssueMarble(a.csr, a.uuid, a.req.MarbleType, marble.AllowedNames, a.c.cfg.Now(), a.c.cfg.Rand)
	if err != nil {
		return refuse(Internal, "generating marble authentication secrets: %w", err)
	}
	stored, previous, reads := s.readSecrets(a.req.MarbleType)
	a.params, err = secrets.Parameters(ctx, secrets.ActivationInputs{
		Manifest: s.manifest.manifest, Templates: s.manifest.compiled,
		MarbleType: a.req.MarbleType, UUID: a.uuid, CA: s.ca, Leaf: leaf,
		RootSecret: s.rootSecret, PreviousRootSecret: s.previousRoot,
		Stored: stored, Previous: previous, Now: a.c.cfg.Now(), Rand: a.c.cfg.Rand,
	})
	if err != nil {
		return refuse(Internal, "%s%w", parameterStage(err), err)
	}
	a.read, a.reads = s.generations, reads
	return nil
}

// parameterStage is the prefix of marble-api.md §4, steps 8 to 10.
func parameterStage(err error) string {
	switch {
	case errors.Is(err, secrets.ErrTTLS):
		return "creating TTLS config: "
	case errors.Is(err, secrets.ErrTemplates):
		return "customizing marble parameters: "
	}
	return "generating marble secrets: "
}

// readSecrets returns the stored secrets that a Marble type uses, their values for .Previous, and the versions of both:
// a rotation replaces a secret's value and its previous one together.
func (s *State) readSecrets(marbleType string) (stored, previous map[string]secrets.Value, versions map[string]uint64) {
	current, prev := s.manifest.compiled.References(marbleType)
	stored, previous = map[string]secrets.Value{}, map[string]secrets.Value{}
	versions = map[string]uint64{}
	for _, name := range current {
		if v, ok := s.stored.Load(name); ok {
			stored[name], versions[name] = v.Value, v.Version
		}
	}
	for _, name := range prev {
		if v, ok := s.previous.Load(name); ok {
			previous[name] = v
			versions[name] = s.stored.Value(name).Version
		}
	}
	return stored, previous, versions
}

// decide runs in the writer.
func (a *activation) decide(s *State) (outcome, error) {
	if a.read != s.generations {
		return outcome{}, errStale
	}
	for name, version := range a.reads {
		if v, _ := s.stored.Load(name); v.Version != version {
			return outcome{}, errStale
		}
	}
	if err := a.checkBan(s); err != nil {
		return outcome{}, err
	}
	if err := a.checkBudget(s); err != nil {
		return outcome{}, err
	}
	return outcome{events: []event{a.event(s)}}, nil
}

// acquireKeyWork bounds slow key generation, so that one Marble's RSA key delays nobody else.
func (c *Coordinator) acquireKeyWork(ctx context.Context, slow bool) (release func(), err error) {
	if !slow {
		return func() {}, nil
	}
	select {
	case c.keyWork <- struct{}{}:
		return func() { <-c.keyWork }, nil
	case <-ctx.Done():
		return nil, refuse(Unavailable, "waiting to generate keys: %w", ctx.Err())
	}
}
